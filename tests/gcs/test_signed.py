"""The fake's signed URLs and forms, made by Google's own client: each thing that was signed is really checked."""

from __future__ import annotations

import datetime as dt
import hashlib
import time
from base64 import b64encode
from typing import Any

import httpx
import pytest
from google.cloud import storage
from google.cloud.storage import _signing

from tests.gcs.running import RunningGcs

HOUR = dt.timedelta(hours=1)
DATA = b"some bytes"
MD5 = b64encode(hashlib.md5(DATA, usedforsecurity=False).digest()).decode()


def sign(bucket: storage.Bucket, gcs: RunningGcs, name: str, method: str, **options: Any) -> str:
    """Sign a URL of the fake."""
    given = {"version": "v4", "expiration": HOUR, "api_access_endpoint": gcs.address, **options}
    url: str = bucket.blob(name).generate_signed_url(method=method, **given)
    return url


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """Return the status and the Code of the XML error."""
    return answer.status_code, answer.text.partition("<Code>")[2].partition("</Code>")[0]


def test_put_and_get(bucket: storage.Bucket, gcs: RunningGcs, name: str) -> None:
    """A signed PUT stores, a signed GET reads, with ranges, and the response headers that were signed."""
    url = sign(bucket, gcs, name, "PUT", content_type="text/x-test")
    answer = httpx.put(url, content=DATA, headers={"content-type": "text/x-test"})
    assert answer.status_code == 200
    generation = int(answer.headers["x-goog-generation"])
    disposition = "attachment; filename*=UTF-8''%C3%A4.txt"
    url = sign(bucket, gcs, name, "GET", generation=generation, response_disposition=disposition, response_type="a/b")
    got = httpx.get(url)
    assert (got.content, got.headers["content-disposition"], got.headers["content-type"]) == (DATA, disposition, "a/b")
    assert httpx.get(url, headers={"range": "bytes=5-"}).content == DATA[5:]
    stale = sign(bucket, gcs, name, "GET", generation=generation - 1)
    assert code_of(httpx.get(stale)) == (404, "NoSuchKey")


def test_without_signature(gcs: RunningGcs, name: str) -> None:
    """Nobody writes or reads without one, and the answer is XML."""
    url = f"{gcs.address}/{gcs.bucket}/{name}"
    for answer in (httpx.put(url, content=DATA), httpx.get(url), httpx.delete(url)):
        assert code_of(answer) == (403, "AccessDenied")
    assert name not in gcs.objects()


def test_every_character_counts(bucket: storage.Bucket, gcs: RunningGcs, name: str) -> None:
    """Whichever character of the path, a parameter or the signature changes, nothing is stored."""
    url = sign(bucket, gcs, name, "PUT")
    start = url.index(name)
    places = [place for place in range(start, len(url), 7) if url[place].isalnum() and url[place - 1] != "%"]
    assert len(places) > 60
    with httpx.Client() as client:
        for place in places:
            other = "1" if url[place] != "1" else "2"
            answer = client.put(url[:place] + other + url[place + 1 :], content=DATA)
            assert answer.status_code in {400, 403}, url[place - 5 : place + 5]
        assert gcs.objects(name) == {}
        assert client.put(url, content=DATA).status_code == 200


def test_the_method_is_signed(bucket: storage.Bucket, gcs: RunningGcs, name: str) -> None:
    """A URL for reading does not write, nor the other way round."""
    assert code_of(httpx.put(sign(bucket, gcs, name, "GET"), content=DATA)) == (403, "SignatureDoesNotMatch")
    assert code_of(httpx.get(sign(bucket, gcs, name, "PUT"))) == (403, "SignatureDoesNotMatch")


def test_the_host_is_signed(bucket: storage.Bucket, gcs: RunningGcs, name: str) -> None:
    """A URL that was signed for another host is refused."""
    url = sign(bucket, gcs, name, "PUT", api_access_endpoint="https://storage.googleapis.com")
    answer = httpx.put(url.replace("https://storage.googleapis.com", gcs.address), content=DATA)
    assert code_of(answer) == (403, "SignatureDoesNotMatch")


def test_another_key(client: storage.Client, bucket: storage.Bucket, gcs: RunningGcs, name: str) -> None:
    """A signature of another account, or of another key of ours, is worth nothing."""
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 - only this test forges.
    from google.auth import crypt  # noqa: PLC0415 - as above.
    from google.oauth2 import service_account  # noqa: PLC0415 - as above.

    forger = crypt.RSASigner(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    ours = client._credentials.signer_email
    for email, code in ((ours, "SignatureDoesNotMatch"), ("else@fake-project.iam.gserviceaccount.com", "AccessDenied")):
        forged = service_account.Credentials(forger, email, gcs.address)
        assert code_of(httpx.put(sign(bucket, gcs, name, "PUT", credentials=forged), content=DATA)) == (403, code)


def test_time(bucket: storage.Bucket, gcs: RunningGcs, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL is refused after its time and before it, and more than seven days are not accepted."""
    url = sign(bucket, gcs, name, "PUT", expiration=dt.timedelta(seconds=1))
    deadline = time.monotonic() + 10
    while (answer := httpx.put(url, content=DATA)).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert code_of(answer) == (400, "ExpiredToken")
    later = dt.datetime.now(dt.UTC) + HOUR
    stamps = (later.strftime("%Y%m%dT%H%M%SZ"), later.strftime("%Y%m%d"))
    monkeypatch.setattr(_signing, "get_v4_now_dtstamps", lambda: stamps)
    assert code_of(httpx.put(sign(bucket, gcs, name, "PUT"), content=DATA)) == (403, "AccessDenied")
    monkeypatch.undo()
    monkeypatch.setattr(_signing, "SEVEN_DAYS", 10**9)
    url = sign(bucket, gcs, name, "PUT", expiration=dt.timedelta(days=7, seconds=1))
    assert code_of(httpx.put(url, content=DATA)) == (400, "MalformedSecurityHeader")


SIGNED = {
    "x-goog-if-generation-match": "0",
    "x-goog-content-length-range": "10,10",
    "content-type": "a/b",
    "content-md5": MD5,
}


@pytest.mark.parametrize("changed", [*SIGNED, ""])
def test_signed_headers(bucket: storage.Bucket, gcs: RunningGcs, name: str, changed: str) -> None:
    """Every signed header must come, and as it was signed; a further x-goog header must not."""
    url = sign(bucket, gcs, name, "PUT", headers=dict(SIGNED))
    without = {key: value for key, value in SIGNED.items() if key != changed}
    if changed:
        assert code_of(httpx.put(url, content=DATA, headers=without)) == (400, "MalformedSecurityHeader")
        other = {**SIGNED, changed: "1" if changed.startswith("x-") else "c/d"}
        assert code_of(httpx.put(url, content=DATA, headers=other)) == (403, "SignatureDoesNotMatch")
    else:
        more = {**SIGNED, "x-goog-meta-a": "b"}
        assert code_of(httpx.put(url, content=DATA, headers=more)) == (400, "MalformedSecurityHeader")
    assert name not in gcs.objects()
    assert httpx.put(url, content=DATA, headers=SIGNED).status_code == 200
    assert code_of(httpx.put(url, content=DATA, headers=SIGNED)) == (412, "PreconditionFailed")


@pytest.mark.parametrize(
    ("data", "code"), [(DATA + b"x", "EntityTooLarge"), (DATA[:-1], "EntityTooSmall"), (DATA[::-1], "BadDigest")]
)
@pytest.mark.parametrize("chunked", [False, True])
def test_signed_bytes(
    bucket: storage.Bucket, gcs: RunningGcs, name: str, data: bytes, code: str, *, chunked: bool
) -> None:
    """One byte more, one less, or other bytes than were signed are refused, with and without Content-Length."""
    headers = SIGNED if code == "BadDigest" else {key: value for key, value in SIGNED.items() if key != "content-md5"}
    url = sign(bucket, gcs, name, "PUT", headers=dict(headers))
    assert code_of(httpx.put(url, content=iter([data]) if chunked else data, headers=headers)) == (400, code)
    assert name not in gcs.objects()


def test_signed_session(bucket: storage.Bucket, gcs: RunningGcs, name: str) -> None:
    """A signed POST with x-goog-resumable starts a session, whose address needs no further signature."""
    headers = {"x-goog-content-length-range": "0,10", "x-goog-if-generation-match": "0"}
    url = sign(bucket, gcs, name, "RESUMABLE", headers=dict(headers))
    assert code_of(httpx.post(url, headers=headers)) == (400, "MalformedSecurityHeader")
    for data, status in ((DATA + b"x", 400), (DATA, 200)):
        answer = httpx.post(url, headers={**headers, "x-goog-resumable": "start"})
        assert answer.status_code == 201
        assert httpx.put(answer.headers["location"], content=data).status_code == status
    assert gcs.objects(name) == {name: len(DATA)}


def form(
    client: storage.Client, gcs: RunningGcs, name: str, fields: dict[str, str], expires_in: float = 3600
) -> tuple[str, dict[str, str]]:
    """Make a form whose policy allows ten bytes."""
    made = client.generate_signed_post_policy_v4(
        gcs.bucket,
        name,
        dt.datetime.now(dt.UTC) + dt.timedelta(seconds=expires_in),
        conditions=[["content-length-range", 10, 10]],
        fields=fields,
    )
    return f"{gcs.address}/{gcs.bucket}", made["fields"]


def post(url: str, fields: dict[str, str], data: bytes = DATA) -> httpx.Response:
    """Send a form."""
    return httpx.post(url, data=fields, files={"file": ("any.txt", data)})


def test_forms(client: storage.Client, gcs: RunningGcs, name: str) -> None:
    """A form that keeps to its policy stores, and answers with the status that it asks for."""
    url, fields = form(client, gcs, name, {"content-type": "text/x-test", "success_action_status": "201"})
    answer = post(url, fields)
    assert (answer.status_code, f"<Key>{name}</Key>" in answer.text) == (201, True)
    assert client.bucket(gcs.bucket).get_blob(name).content_type == "text/x-test"
    url, fields = form(client, gcs, name, {})
    assert post(url, fields).status_code == 204
    assert post(url, fields | {"x-ignore-this": "1"}).status_code == 204


@pytest.mark.parametrize(
    ("change", "data", "code"),
    [
        ({"key": "else"}, DATA, (400, "InvalidPolicyDocument")),
        ({"content-type": "text/html"}, DATA, (400, "InvalidPolicyDocument")),
        ({"acl": "public-read"}, DATA, (400, "InvalidPolicyDocument")),
        ({"x-goog-date": "20200101T000000Z"}, DATA, (400, "MalformedSecurityHeader")),
        ({}, DATA + b"x", (400, "EntityTooLarge")),
        ({}, DATA[:-1], (400, "EntityTooSmall")),
        ({"policy": "e30="}, DATA, (403, "SignatureDoesNotMatch")),
        ({"x-goog-signature": "00"}, DATA, (403, "SignatureDoesNotMatch")),
        ({"content-md5": MD5[::-1]}, DATA, (400, "InvalidPolicyDocument")),
    ],
)
def test_forms_against_their_policy(
    client: storage.Client, gcs: RunningGcs, name: str, change: dict[str, str], data: bytes, code: tuple[int, str]
) -> None:
    """What the policy does not say, or says otherwise, is refused; so are a forged policy and a forged signature."""
    url, fields = form(client, gcs, name, {"content-type": "text/x-test", "content-md5": MD5})
    assert code_of(post(url, fields | change, data)) == code
    assert gcs.objects(name) == {}
    assert "else" not in gcs.objects()


def test_forms_with_another_md5(client: storage.Client, gcs: RunningGcs, name: str) -> None:
    """The MD5 of a form is compared with the bytes."""
    url, fields = form(client, gcs, name, {"content-md5": MD5})
    assert code_of(post(url, fields, DATA[::-1])) == (400, "BadDigest")


def test_forms_expire(client: storage.Client, gcs: RunningGcs, name: str) -> None:
    """A policy ends."""
    url, fields = form(client, gcs, name, {}, expires_in=1)
    deadline = time.monotonic() + 10
    while (answer := post(url, fields)).status_code == 204:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert code_of(answer) == (400, "ExpiredToken")


def test_preflight(gcs: RunningGcs, name: str) -> None:
    """A browser may ask first, and sees the headers that it needs."""
    headers = {"origin": "https://tracker.example", "access-control-request-method": "PUT"}
    answer = httpx.options(f"{gcs.address}/{gcs.bucket}/{name}", headers=headers)
    assert answer.headers["access-control-allow-origin"] == "https://tracker.example"
    assert httpx.options(f"{gcs.address}/{gcs.bucket}/{name}").status_code == 400

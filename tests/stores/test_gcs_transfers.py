"""Bytes straight to and from the fake, signed without a key file: by IAM, as on Google's own machines."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest
from google.auth import credentials as auth_credentials
from google.auth.transport.requests import Request
from google.oauth2 import service_account

from remora_server.core.errors import StorageUnavailableError
from remora_server.core.model import Actor, Caller, Checksums, FileSpec, HttpUpload, Ticket
from remora_server.core.ports import Changes
from remora_server.stores.blobs_gcs import GcsBlobs
from remora_server.stores.database import Database
from remora_server.stores.gcs_bucket import Bucket
from remora_server.stores.gcs_transfers import GcsTransfers, IamSigner, find_signer
from remora_server.stores.metadata import SqlMetadata
from tests.gcs.running import RunningGcs
from tests.stores.samples import Tenant

SECOND = 1_000_000
IAM = "https://iamcredentials.googleapis.com"
CALLER = Caller("wks_1", "", Actor("usr_1", "USER", ""), frozenset({"files:read"}))
DATA = os.urandom(300 * 1024)
MD5 = hashlib.md5(DATA, usedforsecurity=False).digest()


class Machine(auth_credentials.Credentials):
    """The credentials of a machine: a token, the name of an account once there was one, and no key."""

    def __init__(self, gcs: RunningGcs, email: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._gcs = gcs
        self._email = email
        self.service_account_email = "default"

    def refresh(self, request: Callable[..., Any]) -> None:
        """Get a token."""
        self.token = json.loads(request(url=f"{self._gcs.address}/token", method="POST").data)["access_token"]
        self.service_account_email = self._email


class Clock:
    """The time that it is."""

    def now(self) -> int:
        """Return microseconds since the epoch."""
        return time.time_ns() // 1000


@pytest.fixture
def email(gcs: RunningGcs) -> str:
    """Return whom the fake lets sign."""
    account = service_account.Credentials.from_service_account_file(gcs.credentials)
    return str(account.service_account_email)


@pytest.fixture
def sign(gcs: RunningGcs, bucket: Bucket, blobs: GcsBlobs) -> Callable[[str], GcsTransfers]:
    """Make what signs as an account."""
    send = Request()

    def request(url: str, **how: Any) -> Any:
        return send(url=url.replace(IAM, gcs.address), timeout=1, **how)

    def make(email: str) -> GcsTransfers:
        signer = IamSigner(Machine(gcs, email), request)
        return GcsTransfers(bucket, blobs, signer, Clock(), max_file_bytes=1024 * 1024)

    return make


@pytest.fixture
def transfers(sign: Callable[[str], GcsTransfers], email: str) -> GcsTransfers:
    """Make what signs as the fake's account."""
    return sign(email)


@pytest.fixture
def tenant(database: Database, changes: Changes) -> Tenant:
    """Make a workspace."""
    return changes.run(lambda: Tenant(SqlMetadata(database)))


def ticket(tenant: Tenant, transport: str, *, lifetime: int = 3600 * SECOND) -> Ticket:
    """Make a ticket that declares everything."""
    spec = FileSpec("a.png", len(DATA), "image/png", Checksums(md5=MD5))
    end = Clock().now() + lifetime
    return tenant.ticket(transport=transport, spec=spec, expire_time=end)


def send(offer: HttpUpload, data: bytes, **other: str) -> httpx.Response:
    """Send bytes as an offer says, but for some headers or fields."""
    if offer.method == "POST":
        fields = dict(offer.form_data) | other
        del fields["file"]
        return httpx.post(offer.url, data=fields, files={"file": ("any", data)})
    return httpx.put(offer.url, content=data, headers=dict(offer.headers) | other)


@pytest.mark.parametrize("transport", GcsTransfers.transports)
def test_there_and_back(
    gcs: RunningGcs, transfers: GcsTransfers, tenant: Tenant, blobs: GcsBlobs, transport: str
) -> None:
    """What IAM signs is good for uploads by each transport, and for a download of what arrived and nothing else."""
    one = ticket(tenant, transport)
    assert send(transfers.offer_upload(one), DATA).is_success
    found = blobs.arrived(one.id)
    assert found is not None
    assert found.size_bytes == len(DATA)
    blob = tenant.blob(DATA, location=found.location)
    file = tenant.file(blob, name="ä.html", content_type="text/html")
    url = transfers.offer_download(CALLER, file, blob, "attachment", 60 * SECOND).url
    got = httpx.get(url)
    assert (got.content, got.headers["content-type"]) == (DATA, "application/octet-stream")
    assert got.headers["content-disposition"].startswith("attachment;")
    for part in ("generation=", "response-content-disposition=", "response-content-type=", "X-Goog-Signature="):
        at = url.index(part) + len(part)
        assert httpx.get(url[:at] + ("1" if url[at] != "1" else "2") + url[at + 1 :]).status_code == 403
    name = blobs.key(one.id)
    address = f"{gcs.address}/upload/storage/v1/b/{gcs.bucket}/o?uploadType=media&name={name}"
    assert httpx.post(address, content=DATA[::-1]).is_success
    assert httpx.get(url).status_code == 404


@pytest.mark.parametrize(
    "other",
    [
        {"Content-Type": "text/html"},
        {"Content-MD5": base64.b64encode(bytes(16)).decode()},
        {"x-goog-if-generation-match": "1"},
        {"x-goog-content-length-range": "0,99999999"},
    ],
)
def test_what_a_put_is_bound_to(
    gcs: RunningGcs, transfers: GcsTransfers, tenant: Tenant, other: Mapping[str, str]
) -> None:
    """Type, digest, length and that nothing is replaced were signed, and can't be changed or left out (P32)."""
    one = ticket(tenant, "HTTP_PUT")
    offer = transfers.offer_upload(one)
    assert send(offer, DATA, **other).status_code == 403
    rest = {name: value for name, value in offer.headers if name not in other}
    assert httpx.put(offer.url, content=DATA, headers=rest).status_code in {400, 403}
    assert send(offer, DATA[:-1]).status_code == send(offer, DATA + b"x").status_code == 400
    assert send(offer, DATA[::-1]).status_code == 400
    assert not [name for name in gcs.objects() if name.endswith(one.id)]
    assert send(offer, DATA).status_code == 200
    assert send(offer, DATA).status_code == 412


@pytest.mark.parametrize("transport", ["HTTP_PUT", "HTTP_POST_FORM"])
def test_an_offer_ends(gcs: RunningGcs, transfers: GcsTransfers, tenant: Tenant, transport: str) -> None:
    """A ticket that is over takes nothing (P32)."""
    one = ticket(tenant, transport, lifetime=-2 * SECOND)
    offer = transfers.offer_upload(one)
    assert send(offer, DATA).status_code in {400, 403}
    assert not [name for name in gcs.objects() if name.endswith(one.id)]


def test_an_account_that_may_not_sign(
    sign: Callable[[str], GcsTransfers], tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    """P19: there is no offer then, and the log says which role is missing."""
    with caplog.at_level(logging.ERROR), pytest.raises(StorageUnavailableError):
        sign("stranger@fake-project.iam.gserviceaccount.com").offer_upload(ticket(tenant, "HTTP_PUT"))
    assert "roles/iam.serviceAccountTokenCreator" in caplog.text


@pytest.mark.parametrize("kind", ["reset", "stall", "lost"])
def test_iam_is_away(gcs: RunningGcs, transfers: GcsTransfers, tenant: Tenant, kind: str) -> None:
    """P20: whoever wants a URL is told to retry, and gets one when IAM is back."""
    gcs.plan(kind, "signBlob", times=-1, seconds=5)
    with pytest.raises(StorageUnavailableError):
        transfers.offer_upload(ticket(tenant, "HTTP_PUT"))
    gcs.clear()
    assert send(transfers.offer_upload(ticket(tenant, "HTTP_PUT")), DATA).is_success


def test_who_signs(gcs: RunningGcs, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, email: str) -> None:
    """The key that there is; IAM for an account without one; nobody for a person."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", gcs.credentials)
    assert isinstance(find_signer(bucket), service_account.Credentials)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    for credentials, kind in (
        (service_account.Credentials.from_service_account_file(gcs.credentials), service_account.Credentials),
        (Machine(gcs, email), IamSigner),
        (auth_credentials.AnonymousCredentials(), type(None)),
    ):
        bucket.transport.credentials = credentials
        assert isinstance(find_signer(bucket), kind)
    nameless = Machine(gcs, email)
    nameless.service_account_email = ""
    bucket.transport.credentials = nameless
    assert find_signer(bucket) is None

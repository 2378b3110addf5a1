"""The fake against Google's own client: objects, generations, preconditions, digests, ranges, lists."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor

import google_crc32c
import httpx
import pytest
from google.api_core import exceptions
from google.cloud import storage

from tests.gcs.running import RunningGcs

MIB = 1024 * 1024
DATA = bytes(range(256)) * 4096 * 9  # 9 MiB: Google's client sends more than 8 MiB through a session.


@pytest.mark.parametrize("size", [0, 1, 5000, 8 * MIB, 9 * MIB])
def test_bytes_come_back(bucket: storage.Bucket, name: str, size: int) -> None:
    """Whatever is stored comes back, with its size and digests, whichever way the client took."""
    data = DATA[:size]
    blob = bucket.blob(name)
    blob.upload_from_string(data, content_type="text/x-test", if_generation_match=0)
    assert blob.download_as_bytes() == data
    again = bucket.get_blob(name)
    assert (again.size, again.content_type, again.generation) == (size, "text/x-test", blob.generation)
    assert again.md5_hash == b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
    assert again.crc32c == b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def test_a_bucket_that_is_not_there(client: storage.Client) -> None:
    """Another bucket's name is not found, to look at or to write to."""
    with pytest.raises(exceptions.NotFound):
        client.get_bucket("another")
    with pytest.raises(exceptions.NotFound):
        client.bucket("another").blob("x").upload_from_string(b"x")


@pytest.mark.parametrize("size", [100, 9 * MIB])
def test_create_only(bucket: storage.Bucket, name: str, size: int) -> None:
    """`if_generation_match=0` never replaces an object; the same with a past generation; without, it is replaced."""
    bucket.blob(name).upload_from_string(b"first", if_generation_match=0)
    first = bucket.get_blob(name).generation
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob(name).upload_from_string(DATA[:size], if_generation_match=0)
    assert bucket.blob(name).download_as_bytes() == b"first"
    bucket.blob(name).upload_from_string(DATA[:size], if_generation_match=first)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob(name).upload_from_string(b"third", if_generation_match=first)
    assert bucket.get_blob(name).size == size


@pytest.mark.parametrize("size", [100, 9 * MIB])
def test_one_of_eight_wins(bucket: storage.Bucket, name: str, size: int) -> None:
    """Of eight writers that create the same object at once exactly one succeeds."""

    def create(_: int) -> bool:
        try:
            bucket.blob(name).upload_from_string(DATA[:size], if_generation_match=0)
        except exceptions.PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(8))) == 1


def test_generations(bucket: storage.Bucket, name: str) -> None:
    """A read or removal that names a generation never meets another one."""
    bucket.blob(name).upload_from_string(b"old")
    old = bucket.get_blob(name).generation
    bucket.blob(name).upload_from_string(b"new")
    new = bucket.get_blob(name).generation
    assert new > old
    with pytest.raises(exceptions.NotFound):
        bucket.blob(name, generation=old).download_as_bytes()
    with pytest.raises(exceptions.NotFound):
        bucket.blob(name, generation=old).delete()
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob(name).delete(if_generation_match=old)
    assert bucket.blob(name, generation=new).download_as_bytes() == b"new"
    bucket.blob(name).delete(if_generation_match=new)
    with pytest.raises(exceptions.NotFound):
        bucket.blob(name).delete()


def test_metadata_changes_under_preconditions(bucket: storage.Bucket, name: str) -> None:
    """A change of metadata makes a new metageneration, not a new generation."""
    bucket.blob(name).upload_from_string(b"x", content_type="text/html")
    blob = bucket.get_blob(name)
    before = (blob.generation, blob.metageneration)
    blob.content_type = "text/plain"
    blob.patch(if_metageneration_match=before[1])
    assert (blob.generation, blob.metageneration) == (before[0], before[1] + 1)
    assert bucket.get_blob(name).content_type == "text/plain"
    with pytest.raises(exceptions.PreconditionFailed):
        blob.patch(if_metageneration_match=before[1])


def test_ranges(bucket: storage.Bucket, name: str) -> None:
    """Ranges are exact; one behind the end is refused."""
    bucket.blob(name).upload_from_string(DATA[:1000])
    blob = bucket.blob(name)
    assert blob.download_as_bytes(start=10, end=19) == DATA[10:20]
    assert blob.download_as_bytes(start=990, end=5000) == DATA[990:1000]
    with pytest.raises(exceptions.RequestRangeNotSatisfiable):
        blob.download_as_bytes(start=1000)


def test_rewrite(bucket: storage.Bucket, name: str) -> None:
    """An object is copied within the bucket, from one generation and create-only."""
    bucket.blob(name).upload_from_string(DATA[:1000])
    source = bucket.get_blob(name)
    copy = bucket.blob(f"{name}-copy")
    copy.rewrite(source, if_generation_match=0, if_source_generation_match=source.generation)
    assert copy.download_as_bytes() == DATA[:1000]
    with pytest.raises(exceptions.PreconditionFailed):
        copy.rewrite(source, if_generation_match=0)
    with pytest.raises(exceptions.NotFound):
        bucket.blob(f"{name}-2").rewrite(bucket.blob(name, generation=source.generation - 1))


def test_lists(bucket: storage.Bucket, client: storage.Client, name: str) -> None:
    """Lists know prefixes, delimiters and pages, and show no unfinished session."""
    for number in range(7):
        bucket.blob(f"{name}/{number % 2}/{number}").upload_from_string(b"x")
    bucket.blob(f"{name}/0/never").create_resumable_upload_session()
    pages = client.list_blobs(bucket, prefix=f"{name}/", page_size=3)
    assert [len(list(page)) for page in pages.pages] == [3, 3, 1]
    assert [blob.name[-1] for blob in client.list_blobs(bucket, prefix=f"{name}/0/")] == list("0246")
    grouped = client.list_blobs(bucket, prefix=f"{name}/", delimiter="/")
    assert (list(grouped), sorted(grouped.prefixes)) == ([], [f"{name}/0/", f"{name}/1/"])


@pytest.mark.parametrize("kind", ["media", "multipart", "header"])
@pytest.mark.parametrize("wrong", ["md5", "crc32c"])
def test_wrong_digests_are_refused(gcs: RunningGcs, name: str, kind: str, wrong: str) -> None:
    """A digest that is not that of the bytes is refused however it comes, and nothing is stored."""
    right = {
        "md5": b64encode(hashlib.md5(b"abc", usedforsecurity=False).digest()).decode(),
        "crc32c": b64encode(google_crc32c.value(b"abc").to_bytes(4, "big")).decode(),
    }
    for data, status in ((b"abd", 400), (b"abc", 200)):
        url = (
            f"{gcs.address}/upload/storage/v1/b/{gcs.bucket}/o?uploadType={'multipart' * (kind != 'media') or 'media'}"
        )
        if kind == "media":
            answer = httpx.post(f"{url}&name={name}", content=data, headers={"x-goog-hash": f"{wrong}={right[wrong]}"})
        else:
            told = "" if kind == "header" else f', "{"md5Hash" if wrong == "md5" else wrong}": "{right[wrong]}"'
            head = f'--B\r\nContent-Type: application/json\r\n\r\n{{"name": "{name}"{told}}}\r\n--B\r\n'
            body = f"{head}Content-Type: a/b\r\n\r\n".encode() + data + b"\r\n--B--"
            headers = {"content-type": "multipart/related; boundary=B"}
            if kind == "header":
                headers["x-goog-hash"] = f"{wrong}={right[wrong]}"
            answer = httpx.post(url, content=body, headers=headers)
        assert answer.status_code == status, answer.text
        assert (name in gcs.objects()) == (status == 200)
    assert answer.json()["md5Hash"] == right["md5"]


def test_no_digest_at_all(gcs: RunningGcs, name: str) -> None:
    """A digest that can't be one, or of an unknown kind, is refused."""
    url = f"{gcs.address}/upload/storage/v1/b/{gcs.bucket}/o?uploadType=media&name={name}"
    for text in ("md5=abc", "crc32c=AAAAAAAA", "sha256=AAAA"):
        assert httpx.post(url, content=b"x", headers={"x-goog-hash": text}).status_code == 400
    assert name not in gcs.objects()


def test_a_bad_token(gcs: RunningGcs) -> None:
    """A token that nobody issued is refused, in JSON."""
    url = f"{gcs.address}/storage/v1/b/{gcs.bucket}"
    answer = httpx.get(url, headers={"authorization": "Bearer nonsense"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, 401)

"""The fake's planned faults do what they say."""

from __future__ import annotations

import time

import httpx
import pytest
from google.cloud import storage

from tests.gcs.running import RunningGcs

BLOCK = 256 * 1024
DATA = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture(autouse=True)
def _tidy(gcs: RunningGcs) -> None:
    gcs.clear()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 410, 412, 429, 500, 502, 503, 504])
def test_status(gcs: RunningGcs, name: str, status: int) -> None:
    """A planned status comes as often as planned, in the words of the API."""
    gcs.plan("status", name, status=status, times=2)
    for path in (f"storage/v1/b/{gcs.bucket}/o/{name.replace('/', '%2F')}", f"{gcs.bucket}/{name}"):
        answer = httpx.get(f"{gcs.address}/{path}")
        assert answer.status_code == status
        assert answer.text.startswith("<?xml") or answer.json()["error"]["code"] == status
    assert httpx.get(f"{gcs.address}/storage/v1/b/{gcs.bucket}/o/{name.replace('/', '%2F')}").status_code == 404


@pytest.mark.parametrize("kind", ["status", "reset", "stall"])
def test_after_some_bytes(gcs: RunningGcs, bucket: storage.Bucket, name: str, kind: str) -> None:
    """A break in the middle leaves whole blocks in the session, from where it goes on."""
    url = bucket.blob(name).create_resumable_upload_session()
    gcs.plan(kind, "upload_id", after_bytes=2 * BLOCK + 5, seconds=0.1)
    try:
        assert httpx.put(url, content=DATA).status_code == 503
    except httpx.TransportError:
        assert kind != "status"
    at = int(httpx.put(url, headers={"content-range": "bytes */*"}).headers["range"].partition("-")[2]) + 1
    assert at == 2 * BLOCK
    rest = httpx.put(url, content=DATA[at:], headers={"content-range": f"bytes {at}-{len(DATA) - 1}/{len(DATA)}"})
    assert rest.status_code == 200
    assert bucket.blob(name).download_as_bytes() == DATA


def test_a_lost_answer(gcs: RunningGcs, name: str) -> None:
    """The object is stored, its sender hears nothing."""
    gcs.plan("lost", name)
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{gcs.address}/upload/storage/v1/b/{gcs.bucket}/o?uploadType=media&name={name}", content=DATA)
    assert gcs.objects(name) == {name: len(DATA)}


def test_a_dropped_chunk(gcs: RunningGcs, bucket: storage.Bucket, name: str) -> None:
    """Less is confirmed than was sent."""
    url = bucket.blob(name).create_resumable_upload_session()
    gcs.plan("drop", "upload_id")
    answer = httpx.put(url, content=DATA, headers={"content-range": f"bytes 0-{len(DATA) - 1}/*"})
    assert answer.status_code == 308
    assert 0 < int(answer.headers["range"].partition("-")[2]) < len(DATA) - 1


def test_downloads_break(gcs: RunningGcs, bucket: storage.Bucket, name: str) -> None:
    """An answer can end in the middle, or take its time."""
    bucket.blob(name).upload_from_string(DATA)
    gcs.plan("reset", "alt=media", after_bytes=1000)
    url = f"{gcs.address}/storage/v1/b/{gcs.bucket}/o/{name.replace('/', '%2F')}?alt=media"
    with pytest.raises(httpx.TransportError):
        httpx.get(url)
    gcs.plan("stall", "alt=media", seconds=5)
    began = time.monotonic()
    with pytest.raises(httpx.TimeoutException):
        httpx.get(url, timeout=0.2)
    assert time.monotonic() - began < 5
    assert httpx.get(url).content == DATA

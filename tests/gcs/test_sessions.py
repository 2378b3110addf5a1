"""The fake's resumable uploads: offsets, block sizes, totals, ends, and sessions that are gone."""

from __future__ import annotations

import hashlib
from base64 import b64encode

import google_crc32c
import httpx
import pytest
from google.cloud import storage

from tests.gcs.running import RunningGcs

BLOCK = 256 * 1024
DATA = bytes(range(256)) * 4096  # 1 MiB


def send(url: str, data: bytes, content_range: str, **headers: str) -> httpx.Response:
    """Send one request of a session; underscores of header names become dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.put(url, content=data, headers={"content-range": content_range, **named})


@pytest.fixture
def url(bucket: storage.Bucket, name: str) -> str:
    """Start a create-only session as our server does."""
    started: str = bucket.blob(name).create_resumable_upload_session("a/b", if_generation_match=0)
    return started


def test_in_pieces(gcs: RunningGcs, url: str, name: str) -> None:
    """Blocks are confirmed by 308 with Range; the last one, with the total, makes the object."""
    assert send(url, b"", "bytes */*").headers.get("range") is None
    answer = send(url, DATA[:BLOCK], f"bytes 0-{BLOCK - 1}/*")
    assert (answer.status_code, answer.headers["range"]) == (308, f"bytes=0-{BLOCK - 1}")
    assert name not in gcs.objects()
    assert send(url, b"", "bytes */*").headers["range"] == f"bytes=0-{BLOCK - 1}"
    answer = send(url, DATA[BLOCK:], f"bytes {BLOCK}-{len(DATA) - 1}/{len(DATA)}")
    assert (answer.status_code, answer.json()["size"]) == (200, str(len(DATA)))
    assert answer.json()["md5Hash"] == b64encode(hashlib.md5(DATA, usedforsecurity=False).digest()).decode()
    assert send(url, b"", "bytes */*").json()["generation"] == answer.json()["generation"]


def test_an_end_without_bytes(url: str) -> None:
    """When everything is there, the total alone ends the upload; a wrong total does not."""
    send(url, DATA[:BLOCK], f"bytes 0-{BLOCK - 1}/*")
    assert send(url, b"", f"bytes */{BLOCK + 1}").status_code == 308
    assert send(url, b"", f"bytes */{BLOCK}").status_code == 200


def test_whole_at_once(url: str) -> None:
    """A PUT without Content-Range brings everything."""
    assert httpx.put(url, content=DATA[:777]).json()["size"] == "777"


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK + 1, 2 * BLOCK - 5])
def test_only_whole_blocks(url: str, size: int) -> None:
    """A piece that is not the last and not a multiple of 256 KiB is refused."""
    answer = send(url, DATA[:size], f"bytes 0-{size - 1}/*")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, 400)
    assert send(url, b"", "bytes */*").headers.get("range") is None


def test_offsets(url: str) -> None:
    """A gap is refused; what overlaps is skipped unseen."""
    assert send(url, DATA[:BLOCK], f"bytes {BLOCK}-{2 * BLOCK - 1}/*").status_code == 400
    send(url, DATA[:BLOCK], f"bytes 0-{BLOCK - 1}/*")
    other = b"x" * BLOCK + DATA[BLOCK : 2 * BLOCK]
    assert send(url, other, f"bytes 0-{2 * BLOCK - 1}/*").headers["range"] == f"bytes=0-{2 * BLOCK - 1}"
    crc32c = b64encode(google_crc32c.value(DATA[: 2 * BLOCK]).to_bytes(4, "big")).decode()
    assert send(url, b"", f"bytes */{2 * BLOCK}").json()["crc32c"] == crc32c


@pytest.mark.parametrize(
    ("size", "text"),
    [(BLOCK, f"bytes 0-{BLOCK}/*"), (5, "bytes 0-4/4"), (5, "bytes 4-0/*"), (5, "5"), (5, "bytes */*")],
)
def test_ranges_that_lie(url: str, size: int, text: str) -> None:
    """A Content-Range that can't be true is refused."""
    assert send(url, DATA[:size], text).status_code == 400


def test_digests_at_the_end(gcs: RunningGcs, url: str, name: str) -> None:
    """A digest that comes with the last piece is that of all bytes; a wrong one ends the session."""
    send(url, DATA[:BLOCK], f"bytes 0-{BLOCK - 1}/*")
    wrong = b64encode(google_crc32c.value(b"").to_bytes(4, "big")).decode()
    answer = send(url, b"end", f"bytes {BLOCK}-{BLOCK + 2}/{BLOCK + 3}", x_goog_hash=f"crc32c={wrong}")
    assert answer.status_code == 400
    assert name not in gcs.objects()
    assert send(url, b"", "bytes */*").status_code == 410


def test_an_announced_size(gcs: RunningGcs, bucket: storage.Bucket, name: str) -> None:
    """A session that was started for N bytes takes N, not one more or less."""
    for size in (999, 1001):
        url = bucket.blob(name).create_resumable_upload_session(size=1000)
        assert send(url, DATA[:size], f"bytes 0-{size - 1}/{size}").status_code == 400
    assert name not in gcs.objects()
    url = bucket.blob(name).create_resumable_upload_session(size=1000)
    assert send(url, DATA[:1000], "bytes 0-999/1000").status_code == 200


def test_a_permitted_size(gcs: RunningGcs, name: str) -> None:
    """x-goog-content-length-range holds for a session as well."""
    for size, status in ((11, 400), (10, 200)):
        start = f"{gcs.address}/upload/storage/v1/b/{gcs.bucket}/o?uploadType=resumable&name={name}"
        url = httpx.post(start, headers={"x-goog-content-length-range": "0,10"}).headers["location"]
        assert httpx.put(url, content=DATA[:size]).status_code == status


def test_a_precondition_lost_on_the_way(bucket: storage.Bucket, url: str, name: str) -> None:
    """Create-only holds at the end too, when the object came into being meanwhile."""
    bucket.blob(name).upload_from_string(b"first", if_generation_match=0)
    assert httpx.put(url, content=DATA).status_code == 412
    assert bucket.blob(name).download_as_bytes() == b"first"


def test_sessions_that_are_gone(gcs: RunningGcs, bucket: storage.Bucket, url: str, name: str) -> None:
    """An unknown session is not found, a cancelled or expired one is gone."""
    assert send(f"{url}x", b"", "bytes */*").status_code == 404
    assert httpx.delete(url).status_code == 499
    assert send(url, b"", "bytes */*").status_code == 410
    assert httpx.delete(url).status_code == 410
    again = bucket.blob(name).create_resumable_upload_session()
    gcs.forget(name, expire=True)
    assert httpx.put(again, content=DATA).status_code == 410
    assert name not in gcs.objects()

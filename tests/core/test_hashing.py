"""Digests."""

from __future__ import annotations

import hashlib

import google_crc32c
import pytest

from remora_server.core.hashing import GLANCE_BYTES, measure, new_hashes
from remora_server.core.sniffing import HEAD_BYTES


@pytest.mark.parametrize("data", [b"", b"abc", bytes(range(256)) * 17])
def test_in_one_piece(data: bytes) -> None:
    """Every digest that there is, and the size."""
    content = measure(data)
    assert content.size_bytes == len(data)
    assert content.checksums.crc32c == google_crc32c.value(data)
    assert content.checksums.md5 == hashlib.md5(data, usedforsecurity=False).digest()
    assert content.checksums.sha256 == hashlib.sha256(data).digest()


@pytest.mark.parametrize("with_md5", [True, False])
def test_of_nothing(*, with_md5: bool) -> None:
    """They begin with nothing, with an MD5 only for whoever wants one."""
    hashes = new_hashes(with_md5=with_md5)
    assert (hashes.crc32c, hashes.size) == (0, 0)
    assert hashes.sha256.digest() == hashlib.sha256().digest()
    assert (hashes.md5 is not None) is with_md5


@pytest.mark.parametrize(("begins", "kept"), [(b"\x89PNG\r\n\x1a\n", GLANCE_BYTES), (b"\0\1", HEAD_BYTES)])
@pytest.mark.parametrize("piece_bytes", [1000, HEAD_BYTES, 1024 * 1024])
def test_the_beginning_is_kept(begins: bytes, kept: int, piece_bytes: int) -> None:
    """Of a picture as much as tells how large it is, of all else what tells the type, however the bytes come."""
    data = begins + bytes(2 * GLANCE_BYTES)
    hashes = new_hashes(with_md5=False)
    for start in range(0, len(data), piece_bytes):
        hashes.keep_head(data[start : start + piece_bytes])
    assert hashes.head == data[:kept]

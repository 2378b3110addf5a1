"""Digests."""

from __future__ import annotations

import hashlib

import google_crc32c
import pytest

from remora_server.core.hashing import measure, new_hashes


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

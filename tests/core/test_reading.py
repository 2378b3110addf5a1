"""Reading a file's bytes in order."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from remora_server.core.errors import StoredContentCorruptError
from remora_server.core.reading import PIECE_BYTES, Reading
from tests.core.world import World

SIZES = (0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES)


def read(reading: Reading) -> bytes:
    """Read everything."""
    pieces = list(iter(lambda: reading.next()[1], b""))
    assert all(len(piece) <= PIECE_BYTES for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("size", SIZES)
def test_whole(world: World, size: int) -> None:
    """All bytes come, in pieces, and nothing after them."""
    data = os.urandom(size)
    reading = Reading(world.upload(world.jo, data), data, 0, size)
    assert read(reading) == data
    assert reading.next()[1] == b""


def test_a_range(world: World) -> None:
    """Exactly the range comes; it can't be proved, and isn't."""
    data = os.urandom(PIECE_BYTES + 100)
    file = replace(world.upload(world.jo, data), checksums=world.upload(world.jo, b"other").checksums)
    assert read(Reading(file, data, 7, PIECE_BYTES + 10)) == data[7 : PIECE_BYTES + 17]


@pytest.mark.parametrize("size", SIZES[1:])
def test_a_flipped_byte(world: World, size: int) -> None:
    """The last piece of a file that is not what it was is held back (P07)."""
    data = bytearray(os.urandom(size))
    file = world.upload(world.jo, bytes(data))
    data[0] ^= 1
    reading = Reading(file, bytes(data), 0, size)
    with pytest.raises(StoredContentCorruptError):
        read(reading)


def test_missing_bytes(world: World) -> None:
    """Fewer bytes than the row says are no end of file."""
    file = world.upload(world.jo, b"12345")
    with pytest.raises(StoredContentCorruptError):
        Reading(file, b"1234", 0, 5).next()


def test_closing(world: World) -> None:
    """After it nothing is read, and the store's reader is let go of, once all are done with it."""
    location = world.blobs.put("blb_01jz0000000000000000000000", b"12345")
    reader = world.blobs.open(location)
    reading = Reading(world.upload(world.jo, b"12345"), reader, 0, 5)
    assert reading.needs_closing
    reading.close()
    assert reading.next()[1] == b""
    assert not Reading(world.upload(world.jo, b"12345"), b"12345", 0, 5).needs_closing

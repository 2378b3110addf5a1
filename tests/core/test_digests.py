"""Digests that no upload needed."""

from __future__ import annotations

import hashlib

import pytest

from remora_server.core import errors, ids
from remora_server.core.digests import Digests
from remora_server.core.hashing import measure
from remora_server.core.model import Checksums, File, FileSpec
from remora_server.core.values import replace
from tests.core.stored import store
from tests.core.world import World


@pytest.fixture
def digests(world: World) -> Digests:
    """Return what finds them out."""
    return Digests(world.store, world.files, world.changes)


def streamed(world: World, data: bytes, name: str = "a.bin") -> File:
    """Keep a file without an MD5, as a stream does."""
    content = measure(data)
    content = replace(content, checksums=replace(content.checksums, md5=b""))
    location = store(world, ids.new_id(ids.BLOB), data)
    return world.do(world.intake.take, world.jo, FileSpec(name), content, location=location).file


@pytest.mark.parametrize("size", [0, 50, 2_500_000])
def test_found_out_and_kept(world: World, digests: Digests, size: int) -> None:
    """The MD5 is that of the bytes, and from then on that of every file on them, and finds them."""
    data = b"x" * size
    file, other = streamed(world, data), streamed(world, data, "b.bin")
    assert not file.checksums.md5
    md5 = digests.md5_of(file)
    assert md5 == hashlib.md5(data, usedforsecurity=False).digest()
    for file_id in (file.id, other.id):
        assert world.files.get(world.jo, file_id).checksums.md5 == md5
    found = world.intake.find_existing(world.jo, FileSpec("x", size, checksums=Checksums(md5=md5)))
    assert found is not None
    assert found.id == file.id


def test_known_already(world: World, digests: Digests) -> None:
    """One that is known is not looked for."""
    file = world.upload(world.jo, b"data")
    assert digests.md5_of(replace(file, blob_id="none")) == file.checksums.md5


def test_damaged_bytes(world: World, digests: Digests) -> None:
    """Bytes that are not what they were have no MD5 that anybody is told."""
    file = streamed(world, b"good")
    damaged = replace(file, checksums=replace(file.checksums, crc32c=1))
    with pytest.raises(errors.StoredContentCorruptError):
        digests.md5_of(damaged)
    assert not world.files.get(world.jo, file.id).checksums.md5

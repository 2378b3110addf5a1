"""The dedup rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from remora_server.core import dedup
from remora_server.core.dedup import DedupMode
from remora_server.core.hashing import measure
from remora_server.core.model import Caller, Checksums, File, FileSpec, FileState
from tests.core.world import World, issue

DATA = b"content"
CONTENT = measure(DATA)
SHA = Checksums(sha256=CONTENT.checksums.sha256)
MD5 = Checksums(md5=CONTENT.checksums.md5)


def found(
    world: World, caller: Caller, claim: Checksums = SHA, mode: DedupMode = DedupMode.READABLE, size: int = 7
) -> File | None:
    """Ask the rule."""
    return dedup.find_existing(world.store, mode, caller, claim, size)


def test_the_key() -> None:
    """Identity is workspace, SHA-256 and size; nothing else is part of it."""
    base = dedup.key("wks_1", CONTENT.checksums, 7)
    assert base == dedup.key("wks_1", replace(CONTENT.checksums, md5=b"x" * 16, crc32c=0), 7)
    others = [
        dedup.key("wks_2", CONTENT.checksums, 7),
        dedup.key("wks_1", CONTENT.checksums, 8),
        dedup.key("wks_1", replace(CONTENT.checksums, sha256=bytes(32)), 7),
    ]
    assert len({base, *others}) == 4


def test_ones_own_content(world: World) -> None:
    """A claim finds the caller's own file by SHA-256 and size, or by MD5 and size."""
    file = world.upload(world.jo, DATA)
    for claim in (SHA, MD5, CONTENT.checksums):
        hit = found(world, world.jo, claim)
        assert hit is not None
        assert hit.id == file.id
    for claim, size in ((SHA, 8), (MD5, 8), (Checksums(), 7), (Checksums(crc32c=CONTENT.checksums.crc32c), 7)):
        assert found(world, world.jo, claim, size=size) is None


def test_knowing_a_hash_gives_nothing(world: World) -> None:
    """Content that the caller can't read counts as absent, in the same workspace and beyond (P21)."""
    world.upload(world.jo, DATA)
    for caller in (world.kim, world.stranger, world.boss):
        assert found(world, caller) is None
        assert found(world, caller, MD5) is None


def test_content_that_hangs_on_a_card(world: World) -> None:
    """What all can read, all are spared; by MD5 still only who made it, since MD5 can be forged (P22)."""
    world.upload(world.jo, DATA, attach_to=world.do(world.subjects.resolve, world.jo, issue(), register=True))
    assert found(world, world.kim) is not None
    assert found(world, world.kim, MD5) is None
    assert found(world, world.stranger) is None


def test_modes(world: World) -> None:
    """OWN narrows it to one's own files, OFF turns it off."""
    world.upload(world.jo, DATA, attach_to=world.do(world.subjects.resolve, world.jo, issue(), register=True))
    assert found(world, world.kim, mode=DedupMode.OWN) is None
    assert found(world, world.jo, mode=DedupMode.OWN) is not None
    assert found(world, world.jo, mode=DedupMode.OFF) is None


@pytest.mark.parametrize("state", [FileState.DELETED, FileState.QUARANTINED])
def test_what_can_not_be_read_never_matches(world: World, state: FileState) -> None:
    """A deleted or quarantined file spares nobody anything."""
    file = world.upload(world.jo, DATA)
    world.do(world.store.update_file, replace(file, state=state))
    assert found(world, world.jo) is found(world, world.jo, MD5) is None


def test_the_same_file(world: World) -> None:
    """A hit hands out the caller's own file only if name and type match, too."""
    file = world.upload(world.jo, DATA, "a.txt")
    same = dedup.same_file(world.store, world.jo, file, FileSpec("a.txt", content_type="text/plain"))
    assert same is not None
    assert same.id == file.id
    for spec in (FileSpec("b.txt", content_type="text/plain"), FileSpec("a.txt", content_type="text/html")):
        assert dedup.same_file(world.store, world.jo, file, spec) is None
    assert dedup.same_file(world.store, world.kim, file, FileSpec("a.txt", content_type="text/plain")) is None


def test_modes_of_a_server(make_world: Callable[..., World]) -> None:
    """With OFF equal content is taken twice as files, and kept once."""
    world = make_world(mode=DedupMode.OFF)
    first, second = world.upload(world.jo, DATA), world.upload(world.jo, DATA)
    assert first.id != second.id
    assert first.blob_id == second.blob_id

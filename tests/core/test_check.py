"""Checking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from remora_server.core import errors, ids
from remora_server.core.check import FINDINGS, Check, Checked
from remora_server.core.model import Blob
from remora_server.core.ports import BlobReader
from remora_server.stores.blobs_memory import MemoryBlobs
from remora_server.stores.metadata import SqlMetadata
from tests.core.previewing import PNG
from tests.core.stored import blob_of, store, take
from tests.core.world import World


def test_clean(world: World) -> None:
    """What is in order is counted, and progress is told."""
    told: list[tuple[int, int]] = []
    world.upload(world.jo, b"inline")
    take(world, b"x" * 100)
    found = world.check.run(lambda done, total: told.append((done, total)))
    assert found.clean
    assert (found.files, found.blobs, found.checked_bytes) == (2, 2, 106)
    assert told == [(1, 2), (2, 2)]
    assert found.report()["clean"] is True


def test_damage(world: World) -> None:
    """A flipped byte, a missing blob and a short one are told apart, by name (P07)."""
    flipped, missing, short, fine = (blob_of(world, take(world, bytes([n]) * 100)) for n in range(4))
    world.blobs._blobs[flipped.location].data[50] ^= 1
    world.blobs.delete(missing.location)
    del world.blobs._blobs[short.location].data[10:]
    found = world.check.run()
    assert not found.clean
    assert [one["blob_id"] for one in found.corrupt] == [flipped.id]
    assert [one["blob_id"] for one in found.missing] == [missing.id]
    assert [(one["blob_id"], one["actual"]) for one in found.wrong_size] == [(short.id, 10)]
    problems = [one["problem"] for one in (*found.corrupt, *found.missing, *found.wrong_size)]
    assert problems == [
        "its bytes differ from those that were stored",
        "its bytes are missing",
        "10 bytes are there, not 100",
    ]
    assert found.blobs == 4
    assert fine.id not in str(found.report())


def test_damage_to_what_shows_a_file(world: World) -> None:
    """Bytes of a rendition are no file's own: the files that they show are named, and as what (P07)."""
    file, other = world.upload(world.jo, PNG, "cat.png"), world.upload(world.kim, PNG, "same.png")
    assert world.jobs.work()
    preview = world.store.rendition(file.blob_id, "PREVIEW")
    assert preview is not None
    blob = world.store.blob(preview.shown_blob_id)
    assert blob is not None
    assert world.check.run().clean
    world.blobs.delete(blob.location)
    world.database.command("UPDATE blob_bytes SET data = x'00' WHERE data <> x'89504e470d0a1a0a'")
    found = world.check.run()
    shows = [{"file_id": one.id, "name": one.name, "rendition": "PREVIEW"} for one in (file, other)]
    assert [(one["files"], one["shows"]) for one in found.missing] == [([], shows)]
    missing, wrong_size = found.lines()
    assert missing.startswith(
        f"missing: cat.png (files/{file.id}), its preview, same.png (files/{other.id}), its preview: its bytes are miss"
    )
    assert wrong_size.startswith(f"wrong_size: cat.png (files/{file.id}), its thumbnail, same.png")
    # What helps against damaged files helps here: remove what is named, sweep, upload again.
    for caller, one in ((world.jo, file), (world.kim, other)):
        world.do(world.deletion.delete_file, caller, one.id, detach=True)
    world.sweep.sweep(0)
    world.upload(world.jo, PNG, "cat.png")
    assert world.jobs.work()
    assert world.check.run().clean


def test_litter(world: World) -> None:
    """Bytes that nothing names are told, too."""
    orphan, stale = ids.new_id(ids.BLOB), ids.new_id(ids.TICKET)
    store(world, orphan, b"orphan")
    world.blobs.stage(stale, 0).write(b"stale")
    found = world.check.run()
    assert found.orphans == [{"name": orphan, "size_bytes": 6}]
    assert found.stale_staged == [{"name": stale, "size_bytes": 5}]
    assert not found.clean


def test_inline_bytes_that_are_gone(world: World) -> None:
    """A small blob whose bytes have left the database is missing."""
    file = world.upload(world.jo, b"inline")
    world.database.command("DELETE FROM blob_bytes")
    assert [one["blob_id"] for one in world.check.run().missing] == [file.blob_id]


def test_a_blob_that_goes_meanwhile(world: World) -> None:
    """What a sweep removes while the check runs is none of its findings."""
    blob = blob_of(world, take(world, b"x" * 100))
    world.blobs.delete(blob.location)
    ghost = replace(blob, id=ids.new_id(ids.BLOB))

    class Early(SqlMetadata):
        """Looked before the blob went."""

        def blobs_after(self, blob_id: str, limit: int) -> Sequence[Blob]:  # noqa: ARG002 - as the store
            """Return what was there a moment ago."""
            return [] if blob_id else [ghost]

    assert Check(Early(world.database), world.blobs).run().missing == []


def test_the_files_on_a_bad_blob(world: World) -> None:
    """They are named, of whomever they are, since it is they that can't be read (P07)."""
    first = take(world, b"x" * 100)
    second = take(world, b"x" * 100, world.kim)
    blob = blob_of(world, first)
    world.blobs._blobs[blob.location].data[50] ^= 1
    (found,) = world.check.run().corrupt
    assert found["files"] == [{"file_id": one.file.id, "name": "a.bin"} for one in (first, second)]
    assert found["workspace_id"] == world.jo.workspace_id
    line = world.check.run().lines()[0]
    assert line == (
        f"corrupt: a.bin (files/{first.file.id}), a.bin (files/{second.file.id}): its bytes differ from those that "
        f"were stored; {blob.id} at {blob.location}, sha256 {blob.checksums.sha256.hex()}"
    )


def test_a_blob_that_can_not_be_read(world: World) -> None:
    """It is neither missing nor proved, and the check goes on to the others."""
    unreadable, corrupt = (blob_of(world, take(world, bytes([n]) * 100)) for n in range(2))
    world.blobs._blobs[corrupt.location].data[50] ^= 1

    class Failing(MemoryBlobs):
        """Has a bad sector."""

        def open(self, location: str) -> BlobReader:
            """Open a blob, but one."""
            if location == unreadable.location:
                raise errors.StorageUnavailableError
            return super().open(location)

    failing = Failing()
    failing._blobs, failing._owner = world.blobs._blobs, world.blobs._owner
    found = Check(world.store, failing).run()
    assert [one["blob_id"] for one in found.unreadable] == [unreadable.id]
    assert [one["blob_id"] for one in found.corrupt] == [corrupt.id]
    assert not found.missing


def test_counters_that_are_wrong(world: World) -> None:
    """A quota's counters are compared with the rows that they stand for."""
    world.upload(world.jo, b"inline")
    assert world.check.run().clean
    world.do(world.store.charge, world.jo.workspace_id, 1, 0)
    found = world.check.run()
    assert found.quotas == [
        {
            "workspace_id": world.jo.workspace_id,
            "used_bytes": 7,
            "file_bytes": 6,
            "reserved_bytes": 0,
            "ticket_bytes": 0,
        }
    ]
    assert not found.clean


def test_every_finding_counts() -> None:
    """Whatever there is a list for is printed, and is not clean."""
    lists = {name for name, value in Checked().report().items() if isinstance(value, list)}
    assert lists == set(FINDINGS)
    for name in FINDINGS:
        found = Checked()
        getattr(found, name).append("x")
        assert not found.clean
        assert len(found.lines()) == 1


def test_lines_of_the_other_findings(world: World) -> None:
    """Each names first what it is about."""
    orphan = ids.new_id(ids.BLOB)
    store(world, orphan, b"orphan")
    world.upload(world.jo, b"inline")
    world.do(world.store.charge, world.jo.workspace_id, 1, 0)
    assert world.check.run().lines() == [
        f"orphans: {orphan}: 6 bytes that nothing refers to",
        f"quotas: {world.jo.workspace_id}: counted are 7 bytes used and 0 reserved, there are 6 and 0",
    ]

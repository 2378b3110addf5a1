"""Sweeping and checking."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from remora_server.core import ids, sweep
from remora_server.core.intake import Taken
from remora_server.core.model import Blob, FileSpec, TicketState
from remora_server.core.repeats import LIFETIME
from remora_server.core.sweep import Swept
from remora_server.core.tickets import Request
from remora_server.core.uploads import measure
from remora_server.stores.metadata import SqlMetadata
from tests.core.world import DAY, HOUR, World, issue

COUNTS = [name for name in Swept.__dataclass_fields__ if name not in {"dry_run", "grace_seconds"}]


@pytest.fixture
def world(world: World) -> World:
    """Make a world that begins now, as blobs in memory are dated by the machine's clock."""
    world.clock.time = time.time_ns() // 1000
    return world


def store(world: World, name: str, data: bytes) -> str:
    """Commit bytes to the blob store, without a row."""
    return world.blobs.put(name, data)


def take(world: World, data: bytes) -> Taken:
    """Make a file whose bytes lie in the blob store."""
    location = store(world, ids.new_id(ids.BLOB), data)
    return world.do(world.intake.take, world.jo, FileSpec("a.bin"), measure(data), location=location)


def blob_of(world: World, taken: Taken) -> Blob:
    """Return a file's blob."""
    blob = world.store.blob(taken.file.blob_id)
    assert blob is not None
    return blob


def counted(swept: Swept) -> dict[str, int]:
    """Return what a sweep did, without what it did not."""
    return {name: getattr(swept, name) for name in COUNTS if getattr(swept, name)}


def names(world: World) -> set[str]:
    """Return all that lies in the blob store."""
    return {one.name for one in (*world.blobs.list_blobs(), *world.blobs.list_staged())}


def test_nothing_to_do(world: World) -> None:
    """What is in use stays, however old."""
    world.upload(world.jo, b"inline")
    take(world, b"x" * 100)
    world.clock.pass_by(1000 * DAY)
    before = names(world)
    assert counted(world.sweep.sweep(DAY)) == {}
    assert names(world) == before


def test_a_deleted_file(world: World) -> None:
    """After the grace its row goes, then its blob's, then the bytes; before that nothing (P08, P24)."""
    taken = take(world, b"x" * 100)
    world.do(world.deletion.delete_file, world.jo, taken.file.id)
    assert counted(world.sweep.sweep(DAY)) == {}
    world.clock.pass_by(DAY + HOUR)
    dry = world.sweep.sweep(DAY, dry_run=True)
    assert counted(dry) == {"purged_files": 1, "deleted_blobs": 1, "deleted_bytes": 100}
    assert counted(world.sweep.sweep(DAY)) == counted(dry)
    assert names(world) == set()
    assert counted(world.sweep.sweep(DAY)) == {}


def test_a_shared_blob(world: World) -> None:
    """The bytes stay until the last file goes (P24)."""
    first = take(world, b"x" * 100).file
    second = world.do(world.intake.take, world.kim, FileSpec("b.bin"), measure(b"x" * 100), location="unused").file
    assert first.blob_id == second.blob_id
    world.do(world.deletion.delete_file, world.jo, first.id)
    world.clock.pass_by(2 * DAY)
    assert counted(world.sweep.sweep(DAY)) == {"purged_files": 1}
    assert world.files.read_whole(second) == b"x" * 100
    world.do(world.deletion.delete_file, world.kim, second.id)
    world.clock.pass_by(2 * DAY)
    assert world.sweep.sweep(DAY).deleted_blobs == 1


def test_cards(world: World) -> None:
    """A deleted card is purged, and with the last one the file that it showed."""
    subject = world.do(world.subjects.resolve, world.jo, issue(), register=True)
    file = world.upload(world.jo, b"inline", attach_to=subject)
    (card,) = world.store.live_attachments_of_file(file.id)
    world.do(world.attachments.delete, world.jo, card.id)
    world.clock.pass_by(2 * DAY)
    dry = counted(world.sweep.sweep(DAY, dry_run=True))
    swept = counted(world.sweep.sweep(DAY))
    assert swept == {"purged_attachments": 1, "purged_files": 1, "deleted_blobs": 1, "deleted_bytes": 6}
    assert dry == swept
    assert world.store.attachment(world.jo.workspace_id, card.id) is None


def test_litter(world: World) -> None:
    """Bytes that no row and no open ticket names go after the grace, committed or staged (P02)."""
    store(world, ids.new_id(ids.BLOB), b"orphan")
    world.blobs.stage(ids.new_id(ids.TICKET), 0).write(b"stale")
    assert counted(world.sweep.sweep(DAY)) == {}
    world.clock.pass_by(2 * DAY)
    dry = counted(world.sweep.sweep(DAY, dry_run=True))
    assert counted(world.sweep.sweep(DAY)) == {"orphan_blobs": 1, "deleted_bytes": 6, "stale_staged": 1} == dry
    assert names(world) == set()


def test_tickets(world: World) -> None:
    """An upload that was given up expires, its bytes go, and later its ticket (P16)."""
    issued = world.do(world.tickets.issue, world.jo, Request("acme", FileSpec("a")))
    assert issued.ticket is not None
    ticket = issued.ticket
    world.blobs.stage(ticket.id, 0).write(b"half")
    world.clock.pass_by(DAY + HOUR)
    assert counted(world.sweep.sweep(DAY, dry_run=True)) == {"expired_tickets": 1}
    assert world.sweep.sweep(DAY).expired_tickets == 1
    assert names(world) == set()
    expired = world.tickets.get(world.jo, ticket.id)
    assert (expired.state, expired.staged_removed, expired.writer_epoch) == (TicketState.EXPIRED, True, 1)
    world.clock.pass_by(2 * DAY)
    assert counted(world.sweep.sweep(DAY)) == {"purged_tickets": 1}
    assert world.store.ticket(world.jo.workspace_id, ticket.id) is None


def test_the_bytes_of_a_completed_ticket(world: World) -> None:
    """They belong to the file, and stay."""
    issued = world.do(world.tickets.issue, world.jo, Request("acme", FileSpec("a")))
    assert issued.ticket is not None
    opened = world.do(world.tickets.open, world.jo, issued.ticket.id).ticket
    location = store(world, opened.id, b"x" * 50)
    file = world.do(world.tickets.complete, world.jo, opened, measure(b"x" * 50), location).file
    world.sweep.sweep(0)
    assert world.files.read_whole(file) == b"x" * 50


def test_answers(world: World) -> None:
    """Answers to repeated calls are forgotten after a day."""
    world.do(world.repeats.once, world.jo, "M", "0190a0a0-0000-7000-8000-000000000000", b"", lambda: b"x")
    assert counted(world.sweep.sweep(0)) == {}
    world.clock.pass_by(LIFETIME + HOUR)
    assert counted(world.sweep.sweep(0)) == {"forgotten_repeats": 1}


def test_a_blob_that_is_taken_up_meanwhile(world: World) -> None:
    """A file that comes between the look and the deletion keeps its blob (P08)."""
    taken = take(world, b"x" * 100)
    blob = blob_of(world, taken)

    class Late(SqlMetadata):
        """Looked before the file came."""

        def unreferenced_blobs(self, created_before: int, limit: int) -> Sequence[Blob]:  # noqa: ARG002 - as the store
            """Return what nothing referred to a moment ago."""
            return [blob]

    world.clock.pass_by(2 * DAY)
    late = sweep.Sweep(Late(world.database), world.blobs, world.changes, world.clock)
    assert counted(late.sweep(DAY)) == {}
    assert world.files.read_whole(taken.file) == b"x" * 100


def test_a_sweep_that_was_killed(world: World) -> None:
    """What an earlier sweep left half done is seen by a dry run, and finished (P08)."""
    taken = take(world, b"x" * 100)
    world.do(world.deletion.delete_file, world.jo, taken.file.id)
    world.clock.pass_by(2 * DAY)
    world.do(world.store.purge_files, world.clock.now(), 9)
    assert counted(world.sweep.sweep(DAY, dry_run=True)) == {"deleted_blobs": 1, "deleted_bytes": 100}
    assert counted(world.sweep.sweep(DAY)) == {"deleted_blobs": 1, "deleted_bytes": 100}


class TestCheck:
    """Reading everything back."""

    def test_clean(self, world: World) -> None:
        """What is in order is counted, and progress is told."""
        told: list[tuple[int, int]] = []
        world.upload(world.jo, b"inline")
        take(world, b"x" * 100)
        found = world.sweep.check(lambda done, total: told.append((done, total)))
        assert found.clean
        assert (found.files, found.blobs, found.checked_bytes) == (2, 2, 106)
        assert told == [(1, 2), (2, 2)]
        assert found.report()["clean"] is True

    def test_damage(self, world: World) -> None:
        """A flipped byte, a missing blob and a short one are told apart, by name (P07)."""
        flipped, missing, short, fine = (blob_of(world, take(world, bytes([n]) * 100)) for n in range(4))
        world.blobs._blobs[flipped.location].data[50] ^= 1
        world.blobs.delete(missing.location)
        del world.blobs._blobs[short.location].data[10:]
        found = world.sweep.check()
        assert not found.clean
        assert [one["blob_id"] for one in found.corrupt] == [flipped.id]
        assert [one["blob_id"] for one in found.missing] == [missing.id]
        assert [(one["blob_id"], one["actual"]) for one in found.wrong_size] == [(short.id, 10)]
        assert found.blobs == 4
        assert fine.id not in str(found.report())

    def test_litter(self, world: World) -> None:
        """Bytes that nothing names are told, too."""
        orphan, stale = ids.new_id(ids.BLOB), ids.new_id(ids.TICKET)
        store(world, orphan, b"orphan")
        world.blobs.stage(stale, 0).write(b"stale")
        found = world.sweep.check()
        assert found.orphans == [{"name": orphan, "size_bytes": 6}]
        assert found.stale_staged == [{"name": stale, "size_bytes": 5}]
        assert not found.clean

    def test_inline_bytes_that_are_gone(self, world: World) -> None:
        """A small blob whose bytes have left the database is missing."""
        file = world.upload(world.jo, b"inline")
        world.database.command("DELETE FROM blob_bytes")
        assert [one["blob_id"] for one in world.sweep.check().missing] == [file.blob_id]

    def test_a_blob_that_goes_meanwhile(self, world: World) -> None:
        """What a sweep removes while the check runs is none of its findings."""
        blob = blob_of(world, take(world, b"x" * 100))
        world.blobs.delete(blob.location)
        ghost = replace(blob, id=ids.new_id(ids.BLOB))

        class Early(SqlMetadata):
            """Looked before the blob went."""

            def blobs_after(self, blob_id: str, limit: int) -> Sequence[Blob]:  # noqa: ARG002 - as the store
                """Return what was there a moment ago."""
                return [] if blob_id else [ghost]

        early = sweep.Sweep(Early(world.database), world.blobs, world.changes, world.clock)
        assert early.check().missing == []


def test_more_than_one_batch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep goes on until nothing is left."""
    monkeypatch.setattr(sweep, "BATCH", 2)
    for number in range(5):
        world.do(world.deletion.delete_file, world.jo, world.upload(world.jo, b"%d" % number).id)
        store(world, ids.new_id(ids.BLOB), b"x")
    world.clock.pass_by(2 * DAY)
    swept = world.sweep.sweep(DAY)
    assert (swept.purged_files, swept.deleted_blobs, swept.orphan_blobs) == (5, 5, 5)
    assert names(world) == set()

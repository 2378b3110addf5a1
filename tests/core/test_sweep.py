"""Sweeping."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NoReturn

import pytest

from remora_server.core import errors, ids, litter, sweep
from remora_server.core.check import Check
from remora_server.core.hashing import measure
from remora_server.core.leases import LIFE, LeaseHeldError, Leases
from remora_server.core.model import Blob, File, FileSpec, Sent, Ticket, TicketState
from remora_server.core.ownership import ForeignBlobsError
from remora_server.core.repeats import LIFETIME
from remora_server.core.sweep import Swept
from remora_server.core.tickets import Request
from remora_server.core.webhook_deliveries import Attempt
from remora_server.core.webhook_endpoints import EndpointDraft
from remora_server.stores.blobs_memory import MemoryBlobs
from remora_server.stores.metadata import SqlMetadata
from tests.core.stored import blob_of, names, store, take
from tests.core.world import DAY, HOUR, World, issue

COUNTS = [name for name in Swept.__dataclass_fields__ if name not in {"dry_run", "grace_seconds"}]


@pytest.fixture
def world(world: World) -> World:
    """Make a world that begins now, as blobs in memory are dated by the machine's clock."""
    world.clock.time = time.time_ns() // 1000
    return world


def counted(swept: Swept) -> dict[str, int]:
    """Return what a sweep did, without what it did not."""
    return {name: getattr(swept, name) for name in COUNTS if getattr(swept, name)}


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
    late = sweep.Sweep(Late(world.database), world.blobs, world.changes, world.clock, world.leases)
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


def test_a_dry_run_changes_nothing(world: World) -> None:
    """It only reads: it asks for no change, so that nobody waits for it, and rows and bytes stay."""

    class ReadOnly:
        """Where nothing may be written."""

        def run(self, call: Callable[[], object]) -> NoReturn:
            """Refuse."""
            raise AssertionError(call)

    taken = take(world, b"x" * 100)
    world.do(world.deletion.delete_file, world.jo, taken.file.id)
    store(world, ids.new_id(ids.BLOB), b"orphan")
    world.clock.pass_by(2 * DAY)
    before = world.store.counts(), names(world)
    dry = sweep.Sweep(world.store, world.blobs, ReadOnly(), world.clock, world.leases).sweep(DAY, dry_run=True)
    assert (dry.purged_files, dry.deleted_blobs, dry.orphan_blobs) == (1, 1, 1)
    assert (world.store.counts(), names(world)) == before


def test_a_dry_run_counts_what_a_sweep_removes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, over several batches, and what falls free only by what goes before it."""
    monkeypatch.setattr(sweep, "BATCH", 2)
    monkeypatch.setattr(litter, "BATCH", 2)

    def ticket(transport: str = "GRPC") -> Ticket:
        issued = world.do(world.tickets.issue, world.jo, Request("acme", FileSpec("a"), transport=transport)).ticket
        assert issued is not None
        return issued

    def again(data: bytes) -> File:
        return world.do(world.intake.take, world.kim, FileSpec("b.bin"), measure(data), location="unused").file

    subject = world.do(world.subjects.resolve, world.jo, issue(), register=True)
    for number in range(5):
        data = b"%d" % number * 100
        gone, kept = take(world, data).file, take(world, b"kept" + data).file
        for file in (gone, again(data), kept):  # The kept one has a second file on its blob.
            world.do(world.deletion.delete_file, world.boss, file.id)
        again(b"kept" + data)
        world.upload(world.jo, b"in use %d" % number, attach_to=subject)
        card = world.store.live_attachments_of_file(world.upload(world.jo, b"card %d" % number, attach_to=subject).id)
        world.do(world.attachments.delete, world.jo, card[0].id)
        cancelled, direct = ticket(), ticket("HTTP_PUT")
        world.blobs.stage(cancelled.id, 0).write(b"cancelled")
        store(world, direct.id, b"arrived")
        for one in (cancelled, direct):
            world.do(world.tickets.cancel, world.jo, one.id)
        world.blobs.stage(ticket().id, 0).write(b"expires")
        store(world, ids.new_id(ids.BLOB), b"orphan")
        world.blobs.stage(ids.new_id(ids.TICKET), 0).write(b"stale")
        world.do(world.repeats.once, world.jo, "M", f"0190a0a0-0000-7000-8000-00000000000{number}", b"", lambda: b"x")
    for times in range(3):
        world.clock.pass_by(DAY + HOUR)
        dry = counted(world.sweep.sweep(DAY, dry_run=True))
        assert counted(world.sweep.sweep(DAY)) == dry
        assert bool(dry) == (times < 2)
        if times == 0:
            assert dry == {
                "expired_tickets": 5,
                "purged_attachments": 5,
                "purged_files": 20,
                "deleted_blobs": 10,
                "deleted_bytes": 5 * (100 + 6 + 6),
                "orphan_blobs": 5,
                "stale_staged": 5,
                "forgotten_repeats": 5,
            }
    assert world.store.counts()["tickets"] == 0


def test_more_than_one_batch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep goes on until nothing is left."""
    monkeypatch.setattr(sweep, "BATCH", 2)
    monkeypatch.setattr(litter, "BATCH", 2)
    for number in range(5):
        world.do(world.deletion.delete_file, world.jo, world.upload(world.jo, b"%d" % number).id)
        store(world, ids.new_id(ids.BLOB), b"x")
    world.clock.pass_by(2 * DAY)
    swept = world.sweep.sweep(DAY)
    assert (swept.purged_files, swept.deleted_blobs, swept.orphan_blobs) == (5, 5, 5)
    assert names(world) == set()


def test_one_sweep_at_a_time(world: World) -> None:
    """While another process sweeps, this one does not begin, and says who it is; a dry run may (P08)."""
    other = Leases(world.store, world.changes, world.clock, "other")
    with other.held(sweep.LEASE):
        with pytest.raises(LeaseHeldError, match="other holds"):
            world.sweep.sweep(0)
        world.sweep.sweep(0, dry_run=True)
    world.sweep.sweep(0)


def test_a_sweep_that_lost_its_lease(world: World) -> None:
    """A process that stood still for too long goes no further once another has begun (P08)."""
    orphans = [store(world, ids.new_id(ids.BLOB), b"x") for _ in range(5)]
    other = Leases(world.store, world.changes, world.clock, "other")

    def told(done: Swept) -> None:
        if done.orphan_blobs == 2:
            world.clock.pass_by(HOUR)
            other.take(sweep.LEASE)

    world.clock.pass_by(DAY)
    with pytest.raises(LeaseHeldError):
        world.sweep.sweep(0, told=told)
    assert len(names(world)) == len(orphans) - 2
    with pytest.raises(LeaseHeldError):
        world.sweep.sweep(0)


def test_a_long_sweep_keeps_its_lease(world: World) -> None:
    """It is renewed between the steps, however long they take together, and given back in the end."""
    other = Leases(world.store, world.changes, world.clock, "other")
    for _ in range(5):
        store(world, ids.new_id(ids.BLOB), b"x")

    def told(_done: Swept) -> None:
        world.clock.pass_by(LIFE // 2)
        with pytest.raises(LeaseHeldError):
            other.take(sweep.LEASE)

    world.clock.pass_by(DAY)
    assert world.sweep.sweep(0, told=told).orphan_blobs == 5
    other.take(sweep.LEASE)


def test_a_sweep_can_be_ended(world: World) -> None:
    """What is told may end it; it gives its lease back, and the next sweep does the rest."""

    class EndedError(Exception):
        """Enough."""

    def told(done: Swept) -> None:
        if done.orphan_blobs == 1:
            raise EndedError

    for _ in range(3):
        store(world, ids.new_id(ids.BLOB), b"x")
    world.clock.pass_by(DAY)
    with pytest.raises(EndedError):
        world.sweep.sweep(0, told=told)
    assert counted(world.sweep.sweep(0)) == {"orphan_blobs": 2, "deleted_bytes": 2}


class Refusing(MemoryBlobs):
    """Refuses to remove some of what it has, with an error of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[str] = set()
        self.is_away = False

    def discard(self, name: str, *, arrived: bool = False) -> None:
        """Remove staged bytes, unless they are refused."""
        self._refuse(name)
        super().discard(name, arrived=arrived)

    def delete(self, location: str) -> None:
        """Remove a blob, unless it is refused."""
        self._refuse(location)
        super().delete(location)

    def probe(self) -> None:
        """Answer, unless it is away."""
        if self.is_away:
            raise errors.StorageUnavailableError

    def _refuse(self, name: str) -> None:
        if self.is_away or name in self.refused:
            raise OSError("held by somebody")


@pytest.fixture
def refusing(world: World, monkeypatch: pytest.MonkeyPatch) -> Refusing:
    """Make a world's blob store one that refuses, and its batches small."""
    monkeypatch.setattr(sweep, "BATCH", 2)
    monkeypatch.setattr(litter, "BATCH", 2)
    made = Refusing()
    made.claim(world.store.store_id())
    world.blobs = made
    return made


def test_what_is_refused_stops_nothing_else(world: World, refusing: Refusing) -> None:
    """Bytes that can't be removed are counted and told once, all else goes, and later sweeps try again.

    A blob's row goes first, so its bytes are litter from then on.
    """
    told: list[tuple[str, str]] = []
    sweeping = sweep.Sweep(
        world.store,
        refusing,
        world.changes,
        world.clock,
        world.leases,
        lambda name, problem: told.append((name, str(problem))),
    )
    for number in range(6):
        location = store(world, ids.new_id(ids.BLOB), b"deleted")
        digests = measure(b"%d" % number * 100)
        file = world.do(world.intake.take, world.jo, FileSpec("a"), digests, location=location).file
        world.do(world.deletion.delete_file, world.jo, file.id)
        orphan, stale = ids.new_id(ids.BLOB), ids.new_id(ids.TICKET)
        store(world, orphan, b"orphan")
        refusing.stage(stale, 0).write(b"stale")
        issued = world.do(world.tickets.issue, world.jo, Request("acme", FileSpec("a"))).ticket
        assert issued is not None
        refusing.stage(issued.id, 0).write(b"expires")
        if number < 3:
            refusing.refused |= {location, orphan, stale, issued.id}
    world.clock.pass_by(DAY + HOUR)
    swept = sweeping.sweep(HOUR)
    assert (swept.purged_files, swept.deleted_blobs, swept.orphan_blobs, swept.stale_staged) == (6, 3, 3, 3)
    assert (swept.expired_tickets, swept.deleted_bytes) == (6, 3 * 100 + 3 * 6)
    assert swept.failed == len(told) == 4 * 3
    assert set(told) == {(name, "held by somebody") for name in refusing.refused}
    assert names(world) == refusing.refused
    assert len(world.store.tickets_to_clear(99)) == 3
    assert sweeping.sweep(HOUR).failed == 4 * 3
    refusing.refused = set()
    swept = sweeping.sweep(HOUR)
    assert (swept.orphan_blobs, swept.stale_staged, swept.failed) == (6, 3, 0)
    assert names(world) == set()
    assert not world.store.tickets_to_clear(99)


def test_a_store_that_is_away(world: World, refusing: Refusing) -> None:
    """Where nothing answers any more a sweep is given up, instead of failing at everything one by one."""
    for _ in range(5):
        store(world, ids.new_id(ids.BLOB), b"x")
    world.clock.pass_by(DAY)

    def told(done: Swept) -> None:
        refusing.is_away = done.orphan_blobs == 2

    sweeping = sweep.Sweep(world.store, refusing, world.changes, world.clock, world.leases)
    with pytest.raises(errors.StorageUnavailableError):
        sweeping.sweep(0, told=told)
    assert len(names(world)) == 3
    refusing.is_away = False
    assert sweeping.sweep(0).orphan_blobs == 3


def test_bytes_that_wait_for_their_row(world: World) -> None:
    """Bytes that a sweep without grace has met are gone for good: an upload that comes to name them is refused."""
    data = b"x" * 100
    location = store(world, ids.new_id(ids.BLOB), data)
    world.clock.pass_by(HOUR)
    assert world.sweep.sweep(0).orphan_blobs == 1
    with pytest.raises(errors.StorageUnavailableError):
        world.do(world.intake.take, world.jo, FileSpec("a.bin"), measure(data), location=location)
    assert world.store.counts()["blobs"] == 0
    world.clock.pass_by(sweep.CONDEMNED_FOR)
    world.sweep.sweep(0)
    assert not world.store.is_condemned(location)


def test_bytes_whose_row_comes_while_a_sweep_looks(world: World) -> None:
    """A row that is written between the look and the decision saves its bytes (P08)."""
    data = b"x" * 100
    location = store(world, ids.new_id(ids.BLOB), data)

    class Early(SqlMetadata):
        """Looks before the row is written."""

        looks = 0

        def known_locations(self, locations: Sequence[str]) -> set[str]:
            """Find nothing at the first look, and let the row be written behind it."""
            self.looks += 1
            known = super().known_locations(locations)
            if self.looks == 1:
                world.do(world.intake.take, world.jo, FileSpec("a.bin"), measure(data), location=location)
            return known

    world.clock.pass_by(HOUR)
    early = sweep.Sweep(Early(world.database), world.blobs, world.changes, world.clock, world.leases)
    assert counted(early.sweep(0)) == {}
    assert names(world) == {location}


def test_a_foreign_blob_store(world: World, make_world: Callable[..., World]) -> None:
    """What belongs to another database is no litter, with or without a dry run."""
    other = make_world()
    store(other, ids.new_id(ids.BLOB), b"theirs")
    foreign = sweep.Sweep(world.store, other.blobs, world.changes, world.clock, world.leases)
    world.clock.pass_by(DAY)
    for dry_run in (False, True):
        with pytest.raises(ForeignBlobsError):
            foreign.sweep(0, dry_run=dry_run)
    with pytest.raises(ForeignBlobsError):
        Check(world.store, other.blobs).run()
    assert len(names(other)) == 1


def test_old_deliveries_of_webhooks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came of sending is forgotten after a week, a few at a time."""
    monkeypatch.setattr(sweep, "BATCH", 1)
    made, _ = world.do(world.endpoints.create, world.jo, EndpointDraft("acme", "https://e.org/"))
    for age in range(2):
        world.upload(world.jo, b"x", f"{age}.txt", attach_to=issue())
        claim = world.deliveries.claim(made)
        assert claim is not None
        sent = [Attempt(activity, Sent(204), world.clock.now()) for activity in claim.activities]
        world.deliveries.record(claim, sent, going_on=False)
        world.clock.pass_by(4 * DAY)
    before = world.deliveries.list(world.jo, "acme", made.id).items
    world.sweep.sweep(0)
    after = world.deliveries.list(world.jo, "acme", made.id).items
    assert 0 < len(after) < len(before) - 1
    assert min(one.attempt_time for one in after) > world.clock.time - 7 * DAY

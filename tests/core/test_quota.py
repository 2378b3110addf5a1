"""What a workspace may keep."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from remora_server.core import errors
from remora_server.core.hashing import measure
from remora_server.core.model import OPEN_STATES, Checksums, File, FileSpec, Ticket, TicketState
from remora_server.core.quota import Quota
from remora_server.core.tickets import Request
from tests.core.world import DAY, World

MakeWorld = Callable[..., World]
LIMIT = 100


def held(world: World) -> tuple[int, int]:
    """Return what Jo's workspace is charged, and what its tickets hold."""
    workspace_id = world.jo.workspace_id
    return world.store.used_bytes(workspace_id), world.store.reserved_bytes(workspace_id)


def issue(world: World, size_bytes: int | None, data: bytes = b"") -> Ticket:
    """Issue a ticket to Jo, perhaps for content that is claimed."""
    claim = Checksums(sha256=measure(data).checksums.sha256) if data else Checksums()
    spec = FileSpec("a.bin", size_bytes, checksums=claim)
    issued = world.do(world.tickets.issue, world.jo, Request("acme", spec))
    assert issued.ticket is not None
    return issued.ticket


def opened(world: World, ticket: Ticket) -> Ticket:
    """Open a ticket."""
    return world.do(world.tickets.open, world.jo, ticket.id).ticket


def complete(world: World, ticket: Ticket, data: bytes) -> File:
    """Bring a ticket's bytes, and make its file."""
    location = world.blobs.put(ticket.id, data)
    return world.do(world.tickets.complete, world.jo, ticket, measure(data), location).file


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """Make a world with a limit."""
    return make_world(quota_bytes=LIMIT)


def test_a_declared_size_is_held_from_the_beginning(world: World) -> None:
    """Nobody else gets that room; the file is charged instead, for what it really has."""
    ticket = issue(world, 70)
    assert held(world) == (0, 70)
    with pytest.raises(errors.QuotaExceededError):
        issue(world, 31)
    with pytest.raises(errors.QuotaExceededError):
        world.upload(world.jo, bytes(31))
    world.upload(world.jo, bytes(30))
    assert held(world) == (30, 70)
    ticket = opened(world, ticket)
    ticket = world.do(world.tickets.record_progress, ticket, 70, 0)
    assert held(world) == (30, 70)
    file = complete(world, ticket, b"x" * 70)
    assert held(world) == (100, 0)
    world.do(world.deletion.delete_file, world.jo, file.id)
    assert held(world) == (30, 0)


def test_bytes_that_were_not_declared_are_held_as_they_come(world: World) -> None:
    """Where there is no more room the ticket stays as it was, and goes on once there is."""
    ticket = opened(world, issue(world, None))
    assert held(world) == (0, 0)
    ticket = world.do(world.tickets.record_progress, ticket, 60, 7)
    assert held(world) == (0, 60)
    other = world.upload(world.jo, bytes(30))
    with pytest.raises(errors.QuotaExceededError):
        world.do(world.tickets.record_progress, ticket, 71, 8)
    assert world.tickets.get(world.jo, ticket.id) == ticket
    assert held(world) == (30, 60)
    with pytest.raises(errors.QuotaExceededError):
        complete(world, ticket, b"x" * 71)
    assert world.tickets.get(world.jo, ticket.id) == ticket
    assert held(world) == (30, 60)
    world.do(world.deletion.delete_file, world.jo, other.id)
    complete(world, world.do(world.tickets.record_progress, ticket, 71, 8), b"x" * 71)
    assert held(world) == (71, 0)


def test_a_full_workspace(world: World) -> None:
    """Nothing more is begun, nor gone on with where nothing has come; what has come whole may still be finished."""
    silent = opened(world, issue(world, None))
    ready = opened(world, issue(world, None))
    ready = world.do(world.tickets.record_progress, ready, 40, 0)
    world.upload(world.jo, bytes(60))
    assert held(world) == (60, 40)
    for size_bytes in (None, 1):
        with pytest.raises(errors.QuotaExceededError):
            issue(world, size_bytes)
    with pytest.raises(errors.QuotaExceededError):
        opened(world, silent)
    world.upload(world.jo, b"")
    assert issue(world, 0).state is TicketState.PENDING
    complete(world, opened(world, ready), b"x" * 40)
    assert held(world) == (100, 0)


def test_every_end_gives_back_once(world: World) -> None:
    """Failed, cancelled and expired tickets hold nothing, however often they are ended."""
    refusal = errors.SizeMismatchError(1, 2)
    failed, cancelled, expired = (opened(world, issue(world, 20)) for _ in range(3))
    late = world.do(world.tickets.record_progress, failed, 10, 0)
    assert held(world) == (0, 60)
    for _ in range(2):
        world.do(world.tickets.fail, world.jo, failed, refusal)
        world.do(world.tickets.cancel, world.jo, cancelled.id)
        assert held(world) == (0, 20)
    with pytest.raises(errors.WriterFencedError):
        world.do(world.tickets.record_progress, late, 15, 0)
    world.clock.pass_by(2 * DAY)
    for _ in range(2):
        world.sweep.sweep(0)
        assert held(world) == (0, 0)
    assert world.store.ticket(world.jo.workspace_id, expired.id) is None


def test_a_writer_that_knows_an_older_ticket(world: World) -> None:
    """What a ticket holds by now is given back, not what a writer remembers."""
    early = opened(world, issue(world, None))
    world.do(world.tickets.record_progress, early, 50, 0)
    assert world.do(world.tickets.fail, world.jo, early, errors.SizeMismatchError(1, 2))
    assert held(world) == (0, 0)


def test_content_that_is_there_already(world: World) -> None:
    """A hit at opening gives back what the ticket held, and charges the file that it makes, if it makes one."""
    data = b"y" * 40
    ticket = issue(world, 40, data)
    world.upload(world.jo, data, "a.bin")
    assert held(world) == (40, 40)
    assert world.do(world.tickets.open, world.jo, ticket.id).done is not None
    assert held(world) == (40, 0)
    other = world.do(world.tickets.issue, world.jo, Request("acme", FileSpec("b.bin", 40), skip_existing_check=True))
    assert other.ticket is not None
    complete(world, opened(world, other.ticket), data)
    assert held(world) == (80, 0)


def test_tickets_whose_time_is_up_are_no_obstacle(world: World) -> None:
    """Where room is short they are ended at once, without waiting for a sweep; others' are left alone."""
    for size_bytes in (60, 40):
        issue(world, size_bytes)
    theirs = world.do(world.tickets.issue, world.stranger, Request("elsewhere", FileSpec("a", 100))).ticket
    assert theirs is not None
    with pytest.raises(errors.QuotaExceededError):
        world.upload(world.jo, b"x")
    world.clock.pass_by(2 * DAY)
    world.upload(world.jo, b"x" * 100)
    assert held(world) == (100, 0)
    assert world.store.reserved_bytes(world.stranger.workspace_id) == 100
    with pytest.raises(errors.QuotaExceededError):
        world.do(world.quota.require_room, world.jo.workspace_id, 1)
    world.do(world.quota.require_room, world.stranger.workspace_id, 1)


def test_a_limit_that_comes_or_goes(make_world: MakeWorld) -> None:
    """Tickets from before there was a limit hold nothing until they are opened; those from before it went give back."""
    world = make_world()
    limited = Quota(world.store, world.clock, LIMIT)
    ticket = issue(world, 70)
    assert held(world) == (0, 0)
    assert world.do(limited.reserve, ticket).reserved_bytes == 70
    assert held(world) == (0, 70)
    complete(world, opened(world, ticket), b"z" * 70)
    assert held(world) == (70, 0)
    world.do(world.quota.require_room, world.jo.workspace_id, 10**12)


class Quotas(RuleBasedStateMachine):
    """Uploads of every kind, in any order, under a limit."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self.folder.name), quota_bytes=LIMIT)
        self.tickets: list[Ticket] = []  # As their last writer knows them.
        self.files: list[File] = []

    def teardown(self) -> None:
        """End everything: then nothing is held."""
        world = self.world
        try:
            for file in self.files:
                with suppress(errors.NotFoundError):
                    world.do(world.deletion.delete_file, world.jo, file.id)
            world.clock.pass_by(30 * DAY)
            world.sweep.sweep(0)
            assert held(world) == (0, 0)
        finally:
            world.close()
            self.folder.cleanup()

    @rule(size=st.none() | st.integers(0, 60))
    def issue(self, size: int | None) -> None:
        """Ask for a ticket."""
        with suppress(errors.QuotaExceededError):
            self.tickets.append(issue(self.world, size))

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def open(self, data: st.DataObject) -> None:
        """Take a ticket over."""
        place = data.draw(st.integers(0, len(self.tickets) - 1))
        with suppress(errors.RemoraError):
            self.tickets.append(opened(self.world, self.tickets[place]))

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), more=st.integers(0, 40))
    def progress(self, data: st.DataObject, more: int) -> None:
        """Commit bytes, perhaps as a writer that was overtaken."""
        place = data.draw(st.integers(0, len(self.tickets) - 1))
        ticket = self.tickets[place]
        size = min(ticket.committed_size + more, ticket.spec.size_bytes or 1000)
        with suppress(errors.RemoraError):
            self.tickets[place] = self.world.do(self.world.tickets.record_progress, ticket, size, 0)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), letter=st.sampled_from(b"abc"), more=st.integers(0, 20))
    def complete(self, data: st.DataObject, letter: int, more: int) -> None:
        """Finish, perhaps with content that is there already."""
        ticket = data.draw(st.sampled_from(self.tickets))
        size = ticket.committed_size + more if ticket.spec.size_bytes is None else ticket.spec.size_bytes
        with suppress(errors.RemoraError):
            self.files.append(complete(self.world, ticket, bytes([letter]) * size))

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), how=st.sampled_from(["fail", "cancel"]))
    def end(self, data: st.DataObject, how: str) -> None:
        """Fail or cancel."""
        ticket, world = data.draw(st.sampled_from(self.tickets)), self.world
        with suppress(errors.RemoraError):
            if how == "cancel":
                world.do(world.tickets.cancel, world.jo, ticket.id)
            else:
                world.do(world.tickets.fail, world.jo, ticket, errors.SizeMismatchError(1, 2))

    @rule(letter=st.sampled_from(b"abc"), size=st.integers(0, 60))
    def upload(self, letter: int, size: int) -> None:
        """Upload in one piece."""
        with suppress(errors.QuotaExceededError):
            self.files.append(self.world.upload(self.world.jo, bytes([letter]) * size, f"{len(self.files)}"))

    @precondition(lambda self: self.files)
    @rule(data=st.data(), restore=st.booleans())
    def delete(self, data: st.DataObject, *, restore: bool) -> None:
        """Delete a file, or bring it back."""
        file, world = data.draw(st.sampled_from(self.files)), self.world
        change = world.files.undelete if restore else world.deletion.delete_file
        with suppress(errors.RemoraError):
            world.do(change, world.jo, file.id)

    @rule(hours=st.integers(1, 30), grace_days=st.integers(0, 3))
    def sweep(self, hours: int, grace_days: int) -> None:
        """Let time pass, and sweep."""
        self.world.clock.pass_by(hours * DAY // 24)
        self.world.sweep.sweep(grace_days * DAY)

    @invariant()
    def counters_are_true(self) -> None:
        """They say what the rows say, and together never pass the limit; no closed ticket holds anything."""
        world = self.world
        used, reserved = held(world)
        assert used >= 0
        assert reserved >= 0
        assert used + reserved <= LIMIT
        for tally in world.store.tallies():
            assert (tally.used_bytes, tally.reserved_bytes) == (tally.file_bytes, tally.ticket_bytes)
        for ticket in self.tickets:
            now = world.store.ticket(world.jo.workspace_id, ticket.id)
            assert now is None or now.state in OPEN_STATES or not now.reserved_bytes


TestQuotas = Quotas.TestCase
TestQuotas.settings = settings(
    max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)

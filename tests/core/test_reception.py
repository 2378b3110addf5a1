"""Receiving uploads over HTTP into a store of ours, in parts; all at once is tested with the files made of it."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from remora_server.core.errors import (
    OffsetMismatchError,
    QuotaExceededError,
    RemoraError,
    SizeMismatchError,
    UploadTicketClosedError,
    WriterFencedError,
)
from remora_server.core.model import Checksums, FileSpec, Ticket, TicketState
from remora_server.core.receiving import Limits
from remora_server.core.tickets import Request
from tests.core.world import World
from tests.running import until

DATA = os.urandom(300_000)


def new_ticket(world: World, spec: FileSpec | None = None) -> Ticket:
    """Ask for a ticket of Jo's."""
    request = Request("acme", spec or FileSpec("a.txt"), "HTTP_PUT", skip_existing_check=True)
    ticket = world.do(world.tickets.issue, world.jo, request).ticket
    assert ticket is not None
    return ticket


def part(world: World, ticket: Ticket, first: int, end: int, *, is_last: bool = False) -> Ticket:
    """Send one part."""
    receiving = world.reception.begin(ticket, whole=False)
    receiving.append(first, DATA[first:end], None)
    return world.reception.leave(receiving, is_last=is_last)


def stored(world: World, ticket: Ticket) -> Ticket:
    """Read a ticket back."""
    return world.tickets.get(world.jo, ticket.id)


def proved(world: World, ticket: Ticket) -> bool:
    """Make the file, and compare it with what was sent."""
    file = world.arrivals.create_file(world.jo, ticket.id, Checksums(), len(DATA), None).file
    return world.files.read_whole(file) == DATA and file.checksums.sha256 == hashlib.sha256(DATA).digest()


def test_parts(world: World) -> None:
    """Each part is kept for good; with the last one all bytes are there, and they are those that were sent."""
    ticket = new_ticket(world)
    assert world.reception.progress(ticket.workspace_id, ticket.id) == (ticket, False)
    for first, end in ((0, 100_000), (100_000, 200_000)):
        assert part(world, ticket, first, end).committed_size == end
        found, is_there = world.reception.progress(ticket.workspace_id, ticket.id)
        assert (found.committed_size, is_there) == (end, False)
    part(world, ticket, 200_000, 300_000, is_last=True)
    assert world.reception.progress(ticket.workspace_id, ticket.id)[1]
    with pytest.raises(UploadTicketClosedError):
        part(world, ticket, 0, 1)
    assert proved(world, ticket)
    assert world.reception.progress(ticket.workspace_id, ticket.id)[1]


def test_parts_through_several_servers(world: World) -> None:
    """A server that received only some of the parts reads the whole before it makes the file."""
    ticket = new_ticket(world)
    for first in range(0, 300_000, 100_000):
        part(world, ticket, first, first + 100_000, is_last=first == 200_000)
        world.uploads._parked.clear()
    assert proved(world, ticket)


def test_a_part_for_another_place(world: World) -> None:
    """It changes nothing."""
    ticket = new_ticket(world)
    part(world, ticket, 0, 100_000)
    receiving = world.reception.begin(ticket, whole=False)
    with pytest.raises(OffsetMismatchError) as seen:
        receiving.append(50_000, DATA[50_000:60_000], None)
    assert seen.value.metadata == {"expected_offset": "100000"}
    assert receiving.leave() == 100_000


def test_killed_after_the_last_part(world: World) -> None:
    """What is all there but was not put in place is put there when somebody asks; repeating it is harmless."""
    ticket = new_ticket(world)
    kept = part(world, ticket, 0, 300_000)
    for _ in range(2):
        world.reception.complete_parts(kept)
    assert proved(world, ticket)


def test_completed_while_a_part_comes(world: World) -> None:
    """Whoever sends on is fenced first: nothing grows that has arrived, or is about to."""
    ticket = new_ticket(world)
    sending = world.reception.begin(ticket, whole=False)
    sending.append(0, DATA[:100_000], None)
    sending.flush()
    until(lambda: stored(world, ticket).committed_size == 100_000)
    with ThreadPoolExecutor(1) as pool:
        completing = pool.submit(world.reception.complete_parts, stored(world, ticket))
        until(lambda: stored(world, ticket).writer_epoch > sending.ticket.writer_epoch)
        with pytest.raises(WriterFencedError):
            until(sending.raise_if_broken)
        sending.leave()
        completing.result(10)
    arrived = world.blobs.arrived(ticket.id)
    assert arrived is not None
    assert arrived.size_bytes == 100_000


def test_more_has_come_meanwhile(world: World) -> None:
    """What was all there when somebody looked is not any more: nothing is completed, nothing is lost."""
    ticket = new_ticket(world)
    seen = part(world, ticket, 0, 100_000)
    part(world, ticket, 100_000, 200_000)
    assert world.reception.complete_parts(seen).committed_size == 200_000
    assert not world.reception.has_arrived(ticket)
    part(world, ticket, 200_000, 300_000, is_last=True)
    assert proved(world, ticket)


def test_no_parts_at_all(world: World) -> None:
    """An upload of no bytes is one too."""
    ticket = new_ticket(world)
    world.reception.complete_parts(ticket)
    file = world.arrivals.create_file(world.jo, ticket.id, Checksums(), 0, None).file
    assert file.size_bytes == 0
    with pytest.raises(SizeMismatchError):
        world.reception.complete_parts(new_ticket(world, FileSpec("a", 1)))


def test_a_part_that_is_overtaken(world: World) -> None:
    """An older request neither keeps its bytes nor puts anything in place."""
    ticket = new_ticket(world)
    older = world.reception.begin(ticket, whole=False)
    older.append(0, DATA, None)
    opened = world.do(world.tickets.open_direct, world.jo, ticket.id)
    assert opened.writer_epoch == older.ticket.writer_epoch + 1
    with pytest.raises(WriterFencedError):
        world.reception.leave(older, is_last=True)
    assert world.blobs.arrived(ticket.id) is None


def test_overtaken_while_it_lands(world: World) -> None:
    """Bytes that arrived just as somebody else began are there, though nobody is told that they are his."""
    ticket = new_ticket(world)
    older = world.reception.begin(ticket, whole=True)
    older.append(0, DATA, None)
    land = world.blobs.land

    def begin_meanwhile(name: str, epoch: int) -> bool:
        world.do(world.tickets.open_direct, world.jo, ticket.id)
        return land(name, epoch)

    vars(world.blobs)["land"] = begin_meanwhile
    with pytest.raises(WriterFencedError):
        world.reception.land(older)
    assert proved(world, ticket)


def test_nothing_is_left_of_a_whole_that_is_given_up(world: World) -> None:
    """Neither bytes nor progress, and the ticket can be used again."""
    ticket = new_ticket(world)
    receiving = world.reception.begin(ticket, whole=True)
    receiving.append(0, DATA, None)
    receiving.flush()
    receiving.abandon()
    receiving.abandon()
    assert not list(world.blobs.list_staged())
    found = world.tickets.get(world.jo, ticket.id)
    assert (found.committed_size, found.state) == (0, TicketState.UPLOADING)
    again = world.reception.begin(ticket, whole=True)
    again.append(0, DATA, None)
    world.reception.land(again)
    assert proved(world, ticket)


def test_giving_up_what_another_has(world: World) -> None:
    """The bytes of a later request stay."""
    ticket = new_ticket(world)
    older = world.reception.begin(ticket, whole=True)
    later = world.do(world.tickets.open_direct, world.jo, ticket.id)
    world.blobs.stage(ticket.id, 0, later.writer_epoch)
    older.abandon()
    assert list(world.blobs.list_staged())


def test_cancelled(world: World) -> None:
    """The holder of the URL may give the upload up."""
    ticket = new_ticket(world)
    part(world, ticket, 0, 100_000)
    world.reception.cancel(ticket)
    assert world.tickets.get(world.jo, ticket.id).state is TicketState.CANCELLED
    assert not list(world.blobs.list_staged())
    for ask in (world.reception.awaited, world.reception.progress):
        with pytest.raises(UploadTicketClosedError):
            ask(ticket.workspace_id, ticket.id)


def test_no_room(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Bytes that nobody declared, and that the workspace has no room for, do not stay (P44)."""
    world = World(tmp_path_factory.mktemp("small"), quota_bytes=1000)
    try:
        ticket = new_ticket(world)
        receiving = world.reception.begin(ticket, whole=True)
        receiving.append(0, DATA, None)
        with pytest.raises(QuotaExceededError):
            world.reception.land(receiving)
        assert not list(world.blobs.list_blobs())
        assert not list(world.blobs.list_staged())
    finally:
        world.close()


def test_a_disk_that_fails(world: World) -> None:
    """What could not be kept is not said to be."""
    ticket = new_ticket(world)
    receiving = world.reception.begin(ticket, whole=False)
    receiving.staged.close()
    receiving.append(0, DATA, None)
    with pytest.raises(RemoraError):
        world.reception.leave(receiving, is_last=True)
    assert world.blobs.arrived(ticket.id) is None


def test_more_than_may_wait(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A whole that is larger than what may be on its way goes on as soon as what came is safe."""
    limits = Limits(max_file_bytes=1_000_000, ack_interval_bytes=50_000, max_unacked_bytes=100_000)
    world = World(tmp_path_factory.mktemp("narrow"), limits=limits)
    try:
        ticket = new_ticket(world)
        receiving = world.reception.begin(ticket, whole=True)
        for first in range(0, len(DATA), 50_000):
            until(receiving.has_room)
            receiving.append(first, DATA[first : first + 50_000], None)
        world.reception.land(receiving)
        assert proved(world, ticket)
    finally:
        world.close()

"""Uploads over HTTP: objects that arrive under a ticket's id, and the files made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from remora_server.core import ids
from remora_server.core.check import Check
from remora_server.core.errors import (
    ContentChecksumMismatchError,
    FileTooLargeError,
    NotFoundError,
    RemoraError,
    SizeMismatchError,
    TransportUnavailableError,
    UploadIncompleteError,
    UploadTicketClosedError,
    UploadTicketExpiredError,
)
from remora_server.core.intake import Taken
from remora_server.core.model import Caller, Checksums, ExternalRef, File, FileSpec, Ticket, TicketState, UploadOutcome
from remora_server.core.tickets import Request
from tests.core.world import DAY, World, issue

DATA = b"some content that comes over HTTP"
NOTHING = Checksums()


def new_ticket(world: World, spec: FileSpec | None = None, *, transport: str = "HTTP_PUT") -> Ticket:
    """Ask for a ticket of Jo's."""
    request = Request("acme", spec or FileSpec("a.txt"), transport, skip_existing_check=True)
    ticket = world.do(world.tickets.issue, world.jo, request).ticket
    assert ticket is not None
    return ticket


def arrive(world: World, ticket: Ticket, data: bytes = DATA) -> None:
    """Have bytes arrive without us, as at a store elsewhere."""
    epoch = 10**6  # Above that of every writer of ours.
    world.blobs.stage(ticket.id, 0, epoch).write(data)
    assert world.blobs.land(ticket.id, epoch)


def send(world: World, ticket: Ticket, data: bytes = DATA) -> None:
    """Send bytes through us."""
    receiving = world.reception.begin(ticket, whole=True)
    try:
        receiving.append(0, data, None)
    except RemoraError:
        receiving.abandon()
        raise
    world.reception.land(receiving)


def create(world: World, ticket: Ticket, claimed: Checksums = NOTHING, *, by: Caller | None = None) -> Taken:
    """Make the file."""
    return world.arrivals.create_file(by or world.jo, ticket.id, claimed, None, None)


def state(world: World, ticket: Ticket) -> TicketState:
    """Return where an upload stands."""
    return world.tickets.get(world.jo, ticket.id).state


def content_of(world: World, file: File) -> bytes:
    """Return a file's bytes, proved."""
    return world.files.read_whole(file)


@pytest.mark.parametrize("come", [arrive, send])
def test_the_order_of_steps(world: World, come: Callable[[World, Ticket], None]) -> None:
    """Before the bytes there is no file, afterwards one and always the same, and for its creator alone (P15, P33)."""
    ticket = new_ticket(world)
    with pytest.raises(UploadIncompleteError):
        create(world, ticket)
    come(world, ticket)
    with pytest.raises(NotFoundError):
        create(world, ticket, by=world.kim)
    with pytest.raises(NotFoundError):
        create(world, ticket, by=world.stranger)
    taken = create(world, ticket)
    assert create(world, ticket).file == taken.file == create(world, ticket, by=world.boss).file
    assert taken.outcome is UploadOutcome.STORED
    assert content_of(world, taken.file) == DATA
    assert taken.file.checksums.sha256 == hashlib.sha256(DATA).digest()
    assert world.store.blob(taken.file.blob_id)
    assert state(world, ticket) is TicketState.COMPLETED


def test_a_thing_of_its_own(world: World) -> None:
    """If wanted, the same bytes make a second file and attachment, kept once; each has its own outside name."""

    def attached(number: str, *, as_new_file: bool) -> Taken:
        spec = FileSpec("a.txt", external_ref=ExternalRef("jira", number))
        request = Request("acme", spec, "HTTP_PUT", issue("ENG-1"), skip_existing_check=True)
        ticket = world.do(world.tickets.issue, world.jo, request).ticket
        assert ticket is not None
        send(world, ticket)
        taken = world.arrivals.create_file(world.jo, ticket.id, NOTHING, None, None, as_new_file=as_new_file)
        if as_new_file:
            assert taken.attachment_id == ids.respelled(ids.ATTACHMENT, ticket.id)
        return taken

    first, second = attached("1", as_new_file=True), attached("2", as_new_file=True)
    assert first.file.id != second.file.id
    assert first.file.blob_id == second.file.blob_id
    refs = [world.attachments.get(world.jo, one.attachment_id).external_ref.id for one in (first, second)]
    assert refs == ["1", "2"]
    assert attached("3", as_new_file=False).attachment_id in {first.attachment_id, second.attachment_id}


def test_single_use(world: World) -> None:
    """What has arrived stays as it is, before the file is made and after (P31)."""
    ticket = new_ticket(world)
    send(world, ticket)
    with pytest.raises(UploadTicketClosedError, match="CreateFile"):
        send(world, ticket, b"other")
    file = create(world, ticket).file
    with pytest.raises(UploadTicketClosedError):
        send(world, ticket, b"other")
    assert content_of(world, file) == DATA


def test_a_late_writer(world: World) -> None:
    """One that began before the bytes arrived through another changes nothing of them any more."""
    ticket = new_ticket(world)
    late = world.reception.begin(ticket, whole=True)
    late.append(0, b"other", None)
    arrive(world, ticket)
    with pytest.raises(UploadTicketClosedError):
        send(world, ticket, b"third")
    with pytest.raises(RemoraError):
        world.reception.land(late)
    assert content_of(world, create(world, ticket).file) == DATA


@pytest.mark.parametrize("come", [arrive, send])
@pytest.mark.parametrize(
    "spec",
    [
        FileSpec("a", checksums=Checksums(sha256=bytes(32))),
        FileSpec("a", checksums=Checksums(md5=bytes(16))),
        FileSpec("a", checksums=Checksums(crc32c=1)),
        FileSpec("a", size_bytes=len(DATA) + 1),
        FileSpec("a", size_bytes=len(DATA) - 1),
    ],
)
def test_a_wrong_claim(world: World, come: Callable[[World, Ticket], None], spec: FileSpec) -> None:
    """Bytes that are not what the ticket says are refused, and removed (P09, P11)."""
    ticket = new_ticket(world, spec)

    def upload() -> None:
        come(world, ticket)
        create(world, ticket)

    with pytest.raises((ContentChecksumMismatchError, SizeMismatchError)) as seen:
        upload()
    assert not list(world.blobs.list_blobs())
    assert not list(world.blobs.list_staged())
    if come is arrive:
        found = world.tickets.get(world.jo, ticket.id)
        assert (found.state, found.error_reason) == (TicketState.FAILED, seen.value.reason)
        with pytest.raises(UploadTicketClosedError):
            create(world, ticket)
    else:
        # Nothing has arrived, as at a store elsewhere that compares digests itself; the ticket can be used again.
        assert state(world, ticket) is TicketState.UPLOADING


def test_a_late_claim(world: World) -> None:
    """Digests that come with CreateFile are compared too, MD5 among them, though nobody declared one (P09)."""
    md5 = hashlib.md5(DATA, usedforsecurity=False).digest()
    good, bad = new_ticket(world), new_ticket(world)
    for ticket in (good, bad):
        send(world, ticket)
    assert create(world, good, Checksums(md5=md5)).file.checksums.md5 == md5
    with pytest.raises(ContentChecksumMismatchError):
        create(world, bad, Checksums(md5=bytes(16)))
    assert state(world, bad) is TicketState.FAILED


def test_too_large(world: World) -> None:
    """A store elsewhere may take more than we do: what it took is removed."""
    ticket = new_ticket(world)
    arrive(world, ticket, bytes(1_000_001))
    with pytest.raises(FileTooLargeError):
        create(world, ticket)
    assert state(world, ticket) is TicketState.FAILED
    assert not list(world.blobs.list_blobs())


def test_known_content(world: World) -> None:
    """Content that is stored already is not stored twice; the new object goes, and the answer stays the same."""
    first, second = new_ticket(world), new_ticket(world, FileSpec("b.txt"))
    send(world, first)
    send(world, second)
    one, other = create(world, first), create(world, second)
    assert one.file.blob_id == other.file.blob_id
    assert [stored.name for stored in world.blobs.list_blobs()] == [first.id]
    assert create(world, second).file == other.file


def test_digests_known_from_receiving(world: World) -> None:
    """Bytes that came through this process are not read again; those of another one are."""
    ticket = new_ticket(world)
    send(world, ticket)
    world.blobs.delete(ticket.id)
    arrive(world, ticket, b"x" * len(DATA))
    assert create(world, ticket).file.checksums.sha256 == hashlib.sha256(DATA).digest()
    other = new_ticket(world)
    arrive(world, other)
    assert world.uploads.parked(world.tickets.get(world.jo, other.id)) is None


def test_attached(world: World) -> None:
    """CreateFile names what to attach to, if the ticket did not."""
    ticket = new_ticket(world)
    send(world, ticket)
    taken = world.arrivals.create_file(world.jo, ticket.id, NOTHING, len(DATA), issue("ENG-1"))
    assert taken.attachment_id
    assert world.store.live_attachments_of_file(taken.file.id)


def test_transports_are_kept_apart(world: World) -> None:
    """A stream can't write into a ticket for HTTP; the URL of such a ticket is the only way in."""
    ticket = new_ticket(world)
    with pytest.raises(TransportUnavailableError, match="HTTP_PUT"):
        world.do(world.tickets.open, world.jo, ticket.id)
    with pytest.raises(TransportUnavailableError):
        world.uploads.append(world.jo, ticket.id, 0, b"abc", None, None)
    grpc = new_ticket(world, transport="GRPC")
    world.uploads.append(world.jo, grpc.id, 0, DATA, None, None)
    assert content_of(world, create(world, grpc).file) == DATA


@pytest.mark.parametrize("arrived", [True, False])
def test_cancelled(world: World, *, arrived: bool) -> None:
    """What came goes with its ticket, half or whole."""
    ticket = new_ticket(world)
    if arrived:
        send(world, ticket)
    else:
        world.reception.begin(ticket, whole=True).append(0, DATA, None)
    world.uploads.cancel(world.jo, ticket.id)
    assert not list(world.blobs.list_blobs())
    assert not list(world.blobs.list_staged())
    for step in (create, send):
        with pytest.raises(UploadTicketClosedError):
            step(world, ticket)


def test_expired(world: World) -> None:
    """What nobody made a file of is removed with its ticket, by the first sweep that meets it (P16)."""
    ticket = new_ticket(world)
    send(world, ticket)
    world.clock.pass_by(DAY + 1)
    for step in (create, send):
        with pytest.raises(UploadTicketExpiredError):
            step(world, ticket)
    assert list(world.blobs.list_blobs())
    world.sweep.sweep(DAY)
    assert not list(world.blobs.list_blobs())


def test_a_sweep_leaves_what_it_must(world: World) -> None:
    """What is awaited, and what became a file, is no litter."""
    awaited, done = new_ticket(world), new_ticket(world)
    send(world, awaited)
    send(world, done, b"other")
    file = create(world, done).file
    world.sweep.sweep(0)
    assert Check(world.store, world.blobs).run().clean
    assert content_of(world, file) == b"other"
    assert content_of(world, create(world, awaited).file) == DATA


def test_ended_while_it_lands(world: World) -> None:
    """Bytes that are put in place just after their ticket ended are taken away again."""
    ticket = new_ticket(world)
    receiving = world.reception.begin(ticket, whole=True)
    receiving.append(0, DATA, None)
    land = world.blobs.land

    def end_meanwhile(name: str, epoch: int) -> bool:
        landed = land(name, epoch)
        world.do(world.tickets.cancel, world.jo, ticket.id)
        return landed

    vars(world.blobs)["land"] = end_meanwhile
    with pytest.raises(RemoraError):
        world.reception.land(receiving)
    assert not list(world.blobs.list_blobs())


def test_overtaken_by_another_server(world: World) -> None:
    """Two servers may read the same object; the slower one finds the file, also if its bytes are gone by then."""
    first, second = new_ticket(world), new_ticket(world)
    send(world, first)
    create(world, first)
    arrive(world, second)
    open_blob = world.blobs.open

    def late(location: str) -> object:
        assert arrived is not None
        vars(world.blobs).pop("open")
        world.arrivals._take(world.jo, world.tickets.get(world.jo, second.id), arrived, NOTHING, None)
        return open_blob(location)

    arrived = world.blobs.arrived(second.id)
    assert arrived is not None
    vars(world.blobs)["open"] = late
    taken = create(world, second)
    assert taken.file.id == create(world, second).file.id
    assert world.types(world.jo).count("file.created") == 1


def test_an_open_ticket_is_needed(world: World) -> None:
    """Bytes can't come for a ticket whose bytes are being read."""
    ticket = new_ticket(world)
    arrive(world, ticket)
    world.do(world.tickets.verify_direct, world.jo, ticket.id, None)
    world.blobs.delete(ticket.id)
    with pytest.raises(UploadTicketClosedError):
        world.reception.begin(ticket, whole=True)

"""Upload tickets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from remora_server.core import errors, ids
from remora_server.core.attachments import Draft
from remora_server.core.hashing import measure
from remora_server.core.model import Caller, Checksums, FileSpec, Subject, Ticket, TicketState, UploadOutcome
from remora_server.core.ports import TicketQuery
from remora_server.core.tickets import MAX_AGE, Request, Tickets
from remora_server.stores.metadata import SqlMetadata
from tests.core.world import DAY, HOUR, World, issue

DATA = b"content"
CONTENT = measure(DATA)
MD5 = Checksums(md5=CONTENT.checksums.md5)


def wanted(**fields: Any) -> Request:
    """Return what a caller wants to upload."""
    return Request(**{"workspace_id": "acme", "spec": FileSpec("a.txt"), **fields})


def ticket_of(world: World, **fields: Any) -> Ticket:
    """Get a ticket."""
    issued = world.do(world.tickets.issue, world.jo, wanted(**fields))
    assert issued.ticket is not None
    return issued.ticket


def opened(world: World, ticket: Ticket) -> Ticket:
    """Become the only writer."""
    return world.do(world.tickets.open, world.jo, ticket.id).ticket


def done(world: World, ticket: Ticket) -> Any:
    """Complete a ticket with the content."""
    return world.do(world.tickets.complete, world.jo, ticket, CONTENT, world.blobs.put(ticket.id, DATA))


def test_issuing(world: World) -> None:
    """A ticket is pending, lives a day, and is told to its creator."""
    ticket = ticket_of(world)
    assert (ticket.state, ticket.committed_size, ticket.writer_epoch) == (TicketState.PENDING, 0, 0)
    assert ticket.expire_time == ticket.create_time + DAY
    assert world.tickets.get(world.jo, ticket.id) == world.tickets.get(world.boss, ticket.id) == ticket
    for caller in (world.kim, world.stranger):
        with pytest.raises(errors.NotFoundError):
            world.tickets.get(caller, ticket.id)
    assert (world.types(world.jo), world.types(world.kim)) == (["upload_ticket.created"], [])


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"workspace_id": "elsewhere"}, errors.NotFoundError),
        ({"spec": FileSpec("a/b")}, errors.ValidationFailedError),
        ({"spec": FileSpec("a", 1_000_001)}, errors.FileTooLargeError),
        ({"transport": "HTTP_RESUMABLE"}, errors.TransportUnavailableError),
    ],
)
def test_requests_that_are_refused(world: World, fields: dict[str, Any], refusal: type[Exception]) -> None:
    """Everything that can be checked is checked before a byte is taken."""
    with pytest.raises(refusal):
        ticket_of(world, **fields)
    assert world.told() == []


def test_no_ticket_for_what_is_here(world: World) -> None:
    """Where the dedup rule finds a file, that is the answer, attached if need be (P22)."""
    spec = FileSpec("a.txt", 7, checksums=Checksums(sha256=CONTENT.checksums.sha256))
    file = world.upload(world.jo, DATA)
    hit = world.do(world.tickets.issue, world.jo, wanted(spec=spec, attach_to=issue()))
    assert hit.ticket is None
    assert hit.existing is not None
    assert hit.existing.file.id == file.id
    assert hit.existing.attachment_id
    assert ticket_of(world, spec=spec, skip_existing_check=True).state is TicketState.PENDING
    assert world.do(world.tickets.issue, world.stranger, wanted(spec=spec, workspace_id="elsewhere")).ticket


def test_quota(make_world: Callable[..., World]) -> None:
    """What could not be kept is not announced."""
    world = make_world(quota_bytes=5)
    with pytest.raises(errors.QuotaExceededError):
        ticket_of(world, spec=FileSpec("a", 6))
    assert ticket_of(world, spec=FileSpec("a", 5)).spec.size_bytes == 5


def test_fencing(world: World) -> None:
    """Each opening counts the writers; what an older one does comes to nothing (D20)."""
    first = opened(world, ticket_of(world))
    moved = world.do(world.tickets.record_progress, first, 3, 7)
    second = opened(world, first)
    assert (first.writer_epoch, second.writer_epoch, second.committed_size) == (1, 2, 3)
    for call in (
        lambda: world.tickets.record_progress(moved, 5, 7),
        lambda: world.tickets.keep_verifying(moved),
        lambda: world.tickets.complete(world.jo, moved, CONTENT, "x"),
    ):
        with pytest.raises(errors.WriterFencedError):
            world.do(call)
    assert not world.do(world.tickets.fail, world.jo, moved, errors.SizeMismatchError(1, 2))
    assert world.tickets.get(world.jo, first.id) == second


def test_a_writer_that_comes_after_the_end(world: World) -> None:
    """It is told that it was overtaken: the file that the ticket came to is not of its bytes."""
    first = opened(world, ticket_of(world))
    second = opened(world, first)
    world.do(world.tickets.complete, world.jo, second, CONTENT, "x")
    with pytest.raises(errors.WriterFencedError):
        world.do(world.tickets.complete, world.jo, first, CONTENT, "y")


def test_two_that_open_at_once(world: World) -> None:
    """Of two openers with the same knowledge one is refused."""
    ticket = ticket_of(world)
    stale = world.tickets.get(world.jo, ticket.id)
    opened(world, ticket)
    lost = replace(stale, state=TicketState.UPLOADING, writer_epoch=1)
    assert not world.do(world.store.update_ticket, lost, if_state=(TicketState.PENDING,), if_epoch=0)


def test_lifetimes(world: World) -> None:
    """A ticket lives as long as its transport says, and never longer than a week."""
    lifetimes = {"GRPC": DAY, "HTTP_PUT": 30 * DAY}
    tickets = Tickets(
        world.store, world.quota, world.intake, world.subjects, world.log, world.pages, world.clock,
        lifetimes=lifetimes, max_file_bytes=100,
    )  # fmt: skip
    for transport, days in (("GRPC", 1), ("HTTP_PUT", 7)):
        request = Request("acme", FileSpec(f"{transport}.txt"), transport)
        ticket = world.do(tickets.issue, world.jo, request).ticket
        assert ticket is not None
        assert ticket.expire_time - ticket.create_time == days * DAY


def test_another_server_that_is_faster(world: World) -> None:
    """Whoever finds that the ticket has moved on meanwhile is fenced, whatever it wanted to do (D20)."""

    class Overtaken(SqlMetadata):
        """Somebody else has just written the ticket."""

        def update_ticket(self, changed: Ticket, *, if_state: Any, if_epoch: int | None) -> bool:  # noqa: ARG002 - as the store
            """Find the ticket changed."""
            return False

    ticket = ticket_of(world)
    late = Tickets(
        Overtaken(world.database), world.quota, world.intake, world.subjects, world.log, world.pages, world.clock,
        lifetimes={"GRPC": DAY}, max_file_bytes=100,
    )  # fmt: skip
    location = world.blobs.put(ticket.id, DATA)
    for call in (
        lambda: late.open(world.jo, ticket.id),
        lambda: late.cancel(world.jo, ticket.id),
        lambda: late.complete(world.jo, ticket, CONTENT, location),
    ):
        with pytest.raises(errors.WriterFencedError):
            world.do(call)
    assert world.tickets.get(world.jo, ticket.id) == ticket
    assert world.types(world.jo) == ["upload_ticket.created"]


def test_completing(world: World) -> None:
    """A ticket becomes one file, and says so again whenever it is asked (P15)."""
    ticket = opened(world, ticket_of(world, attach_to=issue()))
    taken = done(world, ticket)
    assert (taken.outcome, taken.attachment_id) == (UploadOutcome.STORED, ids.respelled(ids.ATTACHMENT, ticket.id))
    again = world.do(world.tickets.open, world.jo, ticket.id)
    assert again.done is not None
    assert (again.done.file.id, again.done.attachment_id) == (taken.file.id, taken.attachment_id)
    assert world.do(world.tickets.complete, world.jo, ticket, CONTENT, "x").file.id == taken.file.id
    closed = world.tickets.get(world.jo, ticket.id)
    assert (closed.state, closed.committed_size, closed.file_id) == (TicketState.COMPLETED, 7, taken.file.id)
    with pytest.raises(errors.UploadTicketClosedError) as refused:
        world.do(world.tickets.cancel, world.jo, ticket.id)
    assert refused.value.metadata == {"state": "COMPLETED"}


def test_an_issue_that_is_registered_at_the_end(make_world: Callable[..., World]) -> None:
    """An upload leaves no issue before there is a file on it; where it could not be attached it is refused at once."""
    world = make_world()
    ticket = ticket_of(world, attach_to=issue(), registers_at_end=True)
    writer = opened(world, ticket)
    assert world.store.issue_by_key(world.jo.workspace_id, "ENG-1") is None
    with pytest.raises(errors.WriterFencedError):
        done(world, ticket)  # After it had been opened anew.
    assert world.store.issue_by_key(world.jo.workspace_id, "ENG-1") is None
    taken = done(world, writer)
    made = world.store.issue_by_key(world.jo.workspace_id, "ENG-1")
    assert made is not None
    assert taken.attachment == world.attachments.get(world.jo, taken.attachment_id)
    assert (
        taken.attachment.subject
        == world.tickets.get(world.jo, ticket.id).attach_to
        == Subject("issue", made.id, "ENG-1")
    )
    assert done(world, writer).attachment == taken.attachment
    strict = make_world(strict=True)
    with pytest.raises(errors.NotFoundError):
        ticket_of(strict, attach_to=issue(), registers_at_end=True)


def test_such_an_issue_and_content_that_is_here(world: World) -> None:
    """What needs no bytes is attached at once, when its ticket is issued or when that is opened."""
    spec = FileSpec("a.txt", 7, checksums=Checksums(sha256=CONTENT.checksums.sha256))
    ticket = ticket_of(world, spec=spec, attach_to=issue(), registers_at_end=True)
    world.upload(world.jo, DATA)
    again = wanted(spec=spec, attach_to=issue("ENG-2"), registers_at_end=True)
    found = world.do(world.tickets.open, world.jo, ticket.id).done
    for taken, key in ((found, "ENG-1"), (world.do(world.tickets.issue, world.jo, again).existing, "ENG-2")):
        assert taken is not None
        assert taken.attachment is not None
        assert taken.attachment.subject == world.subjects.resolve(world.jo, issue(key), register=False)


def test_holders(world: World) -> None:
    """Whoever holds a URL of a ticket acts for its creator; a ticket of another workspace is not there."""
    ticket = ticket_of(world)
    holder, found = world.tickets.of_holder(world.jo.workspace_id, ticket.id)
    assert (holder.actor, found) == (world.jo.actor, ticket)
    with pytest.raises(errors.NotFoundError):
        world.tickets.of_holder(world.stranger.workspace_id, ticket.id)


def test_a_completed_ticket_whose_file_is_gone(world: World) -> None:
    """What was purged is not there."""
    ticket = opened(world, ticket_of(world))
    done(world, ticket)
    closed = world.tickets.get(world.jo, ticket.id)
    with pytest.raises(errors.NotFoundError):
        world.tickets.result(world.jo, replace(closed, file_id=ids.new_id(ids.FILE)))


def test_opening_finds_what_came_meanwhile(world: World) -> None:
    """Content that became readable after the ticket was issued need not be sent either."""
    spec = FileSpec("a.txt", 7, checksums=Checksums(sha256=CONTENT.checksums.sha256))
    ticket = ticket_of(world, spec=spec)
    file = world.upload(world.jo, DATA)
    found = world.do(world.tickets.open, world.jo, ticket.id)
    assert found.done is not None
    assert (found.done.file.id, found.ticket.state) == (file.id, TicketState.COMPLETED)


def test_subjects(world: World) -> None:
    """A ticket keeps to what it was issued for."""
    ticket = ticket_of(world, attach_to=issue())
    world.do(world.tickets.open, world.jo, ticket.id, issue())
    world.do(world.subjects.resolve, world.jo, issue("ENG-2"), register=True)
    for one, subject in ((ticket, issue("ENG-2")), (ticket_of(world), issue())):
        with pytest.raises(errors.ValidationFailedError):
            world.do(world.tickets.open, world.jo, one.id, subject)


def test_expiry(world: World) -> None:
    """Bytes that are committed give another day, but no ticket lives longer than seven (P16)."""
    ticket = opened(world, ticket_of(world))
    for _ in range(10):
        world.clock.pass_by(DAY - HOUR)
        if world.clock.time > ticket.create_time + MAX_AGE:
            break
        ticket = world.do(world.tickets.record_progress, ticket, ticket.committed_size + 1, 0)
        assert ticket.expire_time <= ticket.create_time + MAX_AGE
    assert ticket.expire_time == ticket.create_time + MAX_AGE
    assert world.tickets.get(world.jo, ticket.id).state is TicketState.EXPIRED
    for call in (
        lambda: world.tickets.open(world.jo, ticket.id),
        lambda: world.tickets.cancel(world.jo, ticket.id),
        lambda: world.tickets.complete(world.jo, ticket, CONTENT, "x"),
    ):
        with pytest.raises(errors.UploadTicketExpiredError):
            world.do(call)


def test_cancelling(world: World) -> None:
    """A cancelled ticket stays so, and its writer is fenced; repeating it tells nobody again."""
    ticket = opened(world, ticket_of(world))
    cancelled = world.do(world.tickets.cancel, world.jo, ticket.id)
    assert (cancelled.state, cancelled.writer_epoch) == (TicketState.CANCELLED, 2)
    assert world.do(world.tickets.cancel, world.jo, ticket.id) == cancelled
    with pytest.raises(errors.UploadTicketClosedError):
        opened(world, ticket)
    with pytest.raises(errors.WriterFencedError):
        world.do(world.tickets.record_progress, ticket, 1, 0)
    world.do(world.tickets.mark_cleared, cancelled)
    assert world.tickets.get(world.jo, ticket.id).staged_removed
    assert world.types(world.jo) == ["upload_ticket.created", "upload_ticket.cancelled"]


def test_failing(world: World) -> None:
    """A failed ticket says why."""
    ticket = world.do(world.tickets.keep_verifying, opened(world, ticket_of(world)))
    assert world.do(world.tickets.fail, world.jo, ticket, errors.SizeMismatchError(1, 2))
    failed = world.tickets.get(world.jo, ticket.id)
    assert (failed.state, failed.error_reason) == (TicketState.FAILED, "SIZE_MISMATCH")
    assert world.types(world.jo)[-1] == "upload_ticket.failed"


def test_lists(world: World) -> None:
    """Ones own, newest first; an admin's list has all; states can be chosen, up to a limit."""
    mine = [ticket_of(world).id for _ in range(3)]
    theirs = world.do(world.tickets.issue, world.kim, wanted()).ticket
    assert theirs is not None
    world.do(world.tickets.cancel, world.jo, mine[0])

    def listed(caller: Any, **options: Any) -> list[str]:
        return [one.id for one in world.tickets.list(caller, TicketQuery("acme", **options)).items]

    assert listed(world.jo) == mine[::-1]
    assert listed(world.boss) == [theirs.id, *mine[::-1]]
    assert listed(world.boss, created_by=world.kim.principal_id) == [theirs.id]
    assert listed(world.jo, created_by=world.kim.principal_id) == []
    assert listed(world.jo, created_by=world.jo.principal_id, states=(TicketState.CANCELLED,)) == [mine[0]]
    first = world.tickets.list(world.jo, TicketQuery("acme"), page_size=2)
    rest = world.tickets.list(world.jo, TicketQuery("acme"), page_size=2, page_token=first.next_page_token)
    assert [one.id for one in (*first.items, *rest.items)] == mine[::-1]
    with pytest.raises(errors.ValidationFailedError):
        listed(world.jo, states=(TicketState.PENDING,) * 101)


def test_a_file_that_will_do_as_it_is(world: World) -> None:
    """Who asks for no other gets the file that is there, whatever its name, unless it is on its way out."""
    file = world.upload(world.jo, DATA, "there.txt")

    def hit(
        caller: Caller = world.jo, *, takes_existing: bool = True, checksums: Checksums = MD5, name: str = "new.txt"
    ) -> str:
        spec = FileSpec(name, 7, checksums=checksums)
        issued = world.do(world.tickets.issue, caller, wanted(spec=spec, takes_existing=takes_existing))
        return issued.existing.file.id if issued.existing else ""

    assert hit() == hit() == file.id
    assert hit(world.kim) == ""
    # What others may read they get as a file of their own.
    world.do(world.attachments.create, world.jo, Draft("acme", issue(), file_id=file.id))
    copy = hit(world.kim, checksums=Checksums(sha256=CONTENT.checksums.sha256))
    assert world.files.get(world.kim, copy).creator == world.kim.actor
    # Nobody is handed a file that lost its last attachment: it is swept when the grace is over.
    (attachment,) = world.store.live_attachments_of_file(file.id)
    world.do(world.attachments.delete, world.jo, attachment.id)
    fresh = hit()
    assert fresh not in {file.id, copy}
    assert hit() == hit(name="other.txt") == fresh
    assert hit(takes_existing=False) == fresh

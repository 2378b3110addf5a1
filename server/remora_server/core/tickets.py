"""Upload tickets: the state machine of an upload. Issue, open (which fences), record progress, complete, fail, cancel.

PENDING -> UPLOADING -> (VERIFYING ->) COMPLETED, or FAILED, CANCELLED, EXPIRED. Every step is one conditional update on
(state, writer epoch), so a writer that was overtaken, here or on another server, changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from remora_server.core import access, errors, fields, ids
from remora_server.core.activity import ActivityLog
from remora_server.core.intake import ANY, Content, Intake, Purpose, Taken
from remora_server.core.model import (
    OPEN_STATES,
    STREAMED,
    Caller,
    FileSpec,
    Micros,
    Page,
    Subject,
    Ticket,
    TicketState,
    UploadOutcome,
)
from remora_server.core.pages import Pages
from remora_server.core.ports import Clock, MetadataStore, TicketQuery
from remora_server.core.quota import Quota
from remora_server.core.subjects import Subjects
from remora_server.core.values import dataclass, replace

MAX_AGE: Micros = 7 * 24 * 3600 * 1_000_000
VERIFY_LEASE: Micros = 10 * 1_000_000
HOLDER_SCOPES = frozenset({"files:write"})


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller wants to upload."""

    workspace_id: str
    spec: FileSpec
    transport: str = STREAMED
    attach_to: Subject | None = None
    skip_existing_check: bool = False
    takes_existing: bool = False  # whether a file of the caller's own with this content will do as it is
    is_asset: bool = False
    registers_at_end: bool = False  # so that an upload that comes to nothing leaves no issue


@dataclass(frozen=True, slots=True)
class Issued:
    """A ticket, or the file that makes one unnecessary."""

    ticket: Ticket | None
    existing: Taken | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A ticket whose only writer is now the caller, unless it is done, or another server verifies it just now."""

    ticket: Ticket
    done: Taken | None = None
    is_verified_elsewhere: bool = False


class Tickets:
    """The rules of upload tickets over a metadata store."""

    def __init__(
        self,
        store: MetadataStore,
        quota: Quota,
        intake: Intake,
        subjects: Subjects,
        log: ActivityLog,
        pages: Pages,
        clock: Clock,
        *,
        lifetimes: Mapping[str, Micros],
        max_file_bytes: int,
    ) -> None:
        """Make the rules; `lifetimes` are those of tickets after the last byte, by the transports that there are."""
        self._store = store
        self._quota = quota
        self._intake = intake
        self._subjects = subjects
        self._log = log
        self._pages = pages
        self._clock = clock
        self._lifetimes = lifetimes
        self._max_file_bytes = max_file_bytes

    def issue(self, caller: Caller, request: Request) -> Issued:
        """Hand out a ticket, or the existing file where the dedup rule finds one."""
        self.admit(caller, request)
        attach_to = request.attach_to and self._subjects.foresee(caller, request.attach_to)
        if not request.registers_at_end:
            attach_to = self._attached_to(caller, attach_to)
        if not request.skip_existing_check:
            existing = self._intake.find_existing(caller, request.spec)
            if existing is not None:
                attach_to = self._attached_to(caller, attach_to)
                return Issued(
                    None,
                    self._intake.reuse(caller, existing, request.spec, attach_to, as_it_is=request.takes_existing),
                )
        now = self._clock.now()
        ticket = Ticket(
            id=ids.new_id(ids.TICKET),
            workspace_id=caller.workspace_id,
            state=TicketState.PENDING,
            spec=request.spec,
            transport=request.transport,
            attach_to=attach_to,
            skip_existing_check=request.skip_existing_check,
            committed_size=0,
            committed_crc32c=0,
            writer_epoch=0,
            append_offset=-1,
            append_crc32c=0,
            file_id="",
            attachment_id="",
            outcome="",
            error_reason="",
            error_message="",
            creator=caller.actor,
            create_time=now,
            expire_time=now + min(self._lifetimes[request.transport], MAX_AGE),
            is_asset=request.is_asset,
        )
        self._store.add_ticket(ticket)
        ticket = self._claim_room(ticket)
        self._record(caller, "created", ticket)
        return Issued(ticket)

    def admit(self, caller: Caller, request: Request) -> None:
        """Check everything that can be checked before a byte is taken."""
        access.enter(caller, request.workspace_id)
        check = fields.Check("spec.")
        check.file_spec(request.spec)
        check.done()
        if request.transport not in self._lifetimes:
            raise errors.TransportUnavailableError(request.transport)
        if request.spec.size_bytes is not None and request.spec.size_bytes > self._max_file_bytes:
            raise errors.FileTooLargeError(self._max_file_bytes)

    def get(self, caller: Caller, ticket_id: str) -> Ticket:
        """Return a ticket of the caller's; one whose time is up is shown as EXPIRED."""
        found = self._store.ticket(caller.workspace_id, ids.parse(ids.TICKET, ticket_id, "upload_ticket_id"))
        if found is None or not access.may_see_ticket(caller, found):
            raise errors.NotFoundError("upload ticket", "uploadTickets/-")
        return self._as_of_now(found)

    def of_holder(self, workspace_id: str, ticket_id: str) -> tuple[Caller, Ticket]:
        """Return a ticket for whoever holds a URL that was signed for it, who acts for its creator."""
        found = self._store.ticket(workspace_id, ticket_id)
        if found is None:
            raise errors.NotFoundError("upload ticket", "uploadTickets/-")
        return Caller(workspace_id, "", found.creator, HOLDER_SCOPES), self._as_of_now(found)

    def list(self, caller: Caller, wanted: TicketQuery, *, page_size: int = 0, page_token: str = "") -> Page[Ticket]:
        """Return a page of the caller's tickets, newest first; an admin key sees everybody's."""
        query = replace(wanted, workspace_id=access.enter(caller, wanted.workspace_id))
        fields.filters(states=wanted.states)
        if not caller.is_admin:
            if query.created_by not in {"", caller.principal_id}:
                return Page(())
            query = replace(query, created_by=caller.principal_id)
        page = self._pages.page(
            ("tickets", query),
            page_size,
            page_token,
            lambda after, limit: self._store.list_tickets(query, after, limit),
            lambda last: (last.create_time, last.id),
        )
        return replace(page, items=[self._as_of_now(ticket) for ticket in page.items])

    def open(
        self, caller: Caller, ticket_id: str, attach_to: Subject | None = None, *, may_take_subject: bool = False
    ) -> Opened:
        """Make the caller the only writer; every older writer of this ticket is fenced from here on."""
        ticket = self._for(caller, ticket_id, attach_to, may_take_subject=may_take_subject)
        if ticket.state is TicketState.COMPLETED:
            return Opened(ticket, self.result(caller, ticket))
        self.require_open(ticket)
        if ticket.is_direct:
            raise errors.TransportUnavailableError(STREAMED, of_ticket=ticket.transport)
        if self.is_being_verified(ticket):
            # To fence that off would only make the reading of all the bytes begin anew.
            return Opened(ticket, is_verified_elsewhere=True)
        if ticket.committed_size == 0 and not ticket.skip_existing_check:
            existing = self._intake.find_existing(caller, ticket.spec)
            if existing is not None:
                ticket = self._quota.release(ticket)
                subject = self._attached_to(caller, ticket.attach_to)
                taken = self._intake.reuse(caller, existing, ticket.spec, subject, self._attachment_id(ticket))
                return Opened(self._completed(replace(ticket, attach_to=subject), taken), taken)
        return Opened(self._taken_over(ticket))

    def open_direct(self, caller: Caller, ticket_id: str) -> Ticket:
        """Make a request over HTTP the only writer of its ticket; every older one is fenced from here on."""
        ticket = self.get(caller, ticket_id)
        self.require_open(ticket)
        if ticket.state is TicketState.VERIFYING:
            raise errors.UploadTicketClosedError(ticket.state.value, has_arrived=True)
        return self._taken_over(ticket)

    def verify_direct(self, caller: Caller, ticket_id: str, attach_to: Subject | None) -> Opened:
        """Note that bytes which arrived over HTTP are being read.

        Nobody is fenced: what has arrived never changes, so any number may read it, on several servers even, and the
        first that is done completes the ticket.
        """
        ticket = self._for(caller, ticket_id, attach_to, may_take_subject=True)
        if ticket.state is TicketState.COMPLETED:
            return Opened(ticket, self.result(caller, ticket))
        self.require_open(ticket)
        verifying = replace(ticket, state=TicketState.VERIFYING)
        if not self._store.update_ticket(verifying, if_state=OPEN_STATES, if_epoch=ticket.writer_epoch):
            raise errors.WriterFencedError(ticket.writer_epoch + 1)
        return Opened(verifying)

    def record_progress(
        self,
        ticket: Ticket,
        committed_size: int,
        committed_crc32c: int,
        append_offset: int = -1,
        append_crc32c: int = 0,
    ) -> Ticket:
        """Note bytes that are durable; raise WriterFencedError if another writer has taken over.

        Raise QuotaExceededError, and note nothing, if the workspace has no room for bytes that were not declared.
        """
        now = self._clock.now()
        moved = replace(
            ticket,
            committed_size=committed_size,
            committed_crc32c=committed_crc32c,
            append_offset=append_offset,
            append_crc32c=append_crc32c,
            expire_time=min(ticket.create_time + MAX_AGE, now + self._lifetimes[ticket.transport]),
        )
        if not self._store.update_ticket(moved, if_state=(TicketState.UPLOADING,), if_epoch=ticket.writer_epoch):
            raise errors.WriterFencedError(ticket.writer_epoch + 1)
        return self._quota.reserve(moved)

    def keep_verifying(self, ticket: Ticket) -> Ticket:
        """Note that the bytes are all there and are being read back; repeat it, well within the lease, while they are.

        Whoever opens the ticket meanwhile, on this server or another, waits for the end of that.
        """
        until = self._clock.now() + VERIFY_LEASE
        verifying = replace(ticket, state=TicketState.VERIFYING, verify_until=until)
        states = (TicketState.UPLOADING, TicketState.VERIFYING)
        if not self._store.update_ticket(verifying, if_state=states, if_epoch=ticket.writer_epoch):
            raise errors.WriterFencedError(ticket.writer_epoch + 1)
        return verifying

    def stop_verifying(self, ticket: Ticket) -> None:
        """Note that nobody reads the bytes back any more, though the ticket may still be good."""
        stopped = replace(ticket, verify_until=0)
        self._store.update_ticket(stopped, if_state=(TicketState.VERIFYING,), if_epoch=ticket.writer_epoch)

    def is_being_verified(self, ticket: Ticket) -> bool:
        """Tell whether somebody reads the bytes back just now."""
        return ticket.state is TicketState.VERIFYING and ticket.verify_until > self._clock.now()

    def overtaken(self, writers: Mapping[str, int]) -> Sequence[str]:
        """Return those tickets, of some with the epochs of their writers, that others have opened or ended since."""
        current = self._store.writer_epochs(tuple(writers))
        return [ticket_id for ticket_id, epoch in writers.items() if current.get(ticket_id, epoch + 1) > epoch]

    def complete(
        self, caller: Caller, ticket: Ticket, content: Content, location: str, purpose: Purpose = ANY
    ) -> Taken:
        """Turn the bytes at `location` into the ticket's file."""
        current = self.get(caller, ticket.id)
        is_own = current.writer_epoch == ticket.writer_epoch or ticket.is_direct
        if current.state is TicketState.COMPLETED and is_own:
            # By an earlier attempt of this very call, so the bytes at `location` may well be the file's own; or by
            # another server that read the same object.
            done = self.result(caller, current)
            blob = self._store.blob(done.file.blob_id)
            return replace(done, blob_is_new=blob is not None and blob.location == location)
        if current.state is not TicketState.COMPLETED:
            self.require_open(current)
        if not is_own:
            raise errors.WriterFencedError(current.writer_epoch)
        current = self._quota.release(current)  # What the bytes come to is charged instead.
        subject = self._attached_to(caller, ticket.attach_to)
        taken = self._intake.take(
            caller,
            ticket.spec,
            content,
            location=location,
            attach_to=subject,
            attachment_id=self._attachment_id(ticket),
            purpose=purpose,
            file_id=ids.respelled(ids.FILE, ticket.id) if ticket.is_asset else "",
        )
        crc32c = content.checksums.crc32c or 0
        whole = replace(current, attach_to=subject, committed_size=content.size_bytes, committed_crc32c=crc32c)
        self._completed(whole, taken)
        return taken

    def result(self, caller: Caller, ticket: Ticket) -> Taken:
        """Return what a completed ticket came to."""
        file = self._store.file(caller.workspace_id, ticket.file_id)
        if file is None:
            raise errors.NotFoundError("file", f"files/{ticket.file_id}")
        attached = ticket.attachment_id and self._store.attachment(caller.workspace_id, ticket.attachment_id)
        return Taken(file, UploadOutcome(ticket.outcome), ticket.attachment_id, attachment=attached or None)

    def fail(self, caller: Caller, ticket: Ticket, error: errors.RemoraError) -> bool:
        """End a ticket whose upload can't succeed any more; False if another writer has it."""
        failed = replace(ticket, state=TicketState.FAILED, error_reason=error.reason, error_message=error.message)
        current = self._store.ticket(ticket.workspace_id, ticket.id)
        ended = self._store.update_ticket(failed, if_state=OPEN_STATES, if_epoch=ticket.writer_epoch)
        if current is None or not ended:
            return False
        self._quota.release(current)
        self._record(caller, "failed", failed)
        return True

    def cancel(self, caller: Caller, ticket_id: str) -> Ticket:
        """End a ticket on request; repeating it changes nothing. The raised epoch stops a running writer."""
        ticket = self.get(caller, ticket_id)
        if ticket.state is TicketState.CANCELLED:
            return ticket
        self.require_open(ticket)
        cancelled = replace(ticket, state=TicketState.CANCELLED, writer_epoch=ticket.writer_epoch + 1)
        if not self._store.update_ticket(cancelled, if_state=OPEN_STATES, if_epoch=ticket.writer_epoch):
            raise errors.WriterFencedError(ticket.writer_epoch + 1)
        cancelled = self._quota.release(cancelled)
        self._record(caller, "cancelled", cancelled)
        return cancelled

    def mark_cleared(self, ticket: Ticket) -> None:
        """Note that a closed ticket's staged bytes are gone."""
        self._store.update_ticket(replace(ticket, staged_removed=True), if_state=(ticket.state,), if_epoch=None)

    def require_same_subject(self, caller: Caller, ticket: Ticket, attach_to: Subject) -> None:
        """Refuse to attach to something else than the ticket was issued for."""
        resolved = self._subjects.resolve(caller, attach_to, register=False)
        if ticket.attach_to is None or (ticket.attach_to.type, ticket.attach_to.id) != (resolved.type, resolved.id):
            raise errors.invalid("attach_to", "differs from the subject that the ticket was issued for; leave it out")

    def _claim_room(self, ticket: Ticket) -> Ticket:
        """Reserve what a ticket declares; one that does not say how much will come needs room for a first byte."""
        ticket = self._quota.reserve(ticket)
        says_nothing = ticket.spec.size_bytes is None and not ticket.committed_size
        self._quota.require_room(ticket.workspace_id, 1 if says_nothing else 0)
        return ticket

    def _for(self, caller: Caller, ticket_id: str, attach_to: Subject | None, *, may_take_subject: bool) -> Ticket:
        """Return a ticket with the subject that a caller names, who may name one only where the ticket has none."""
        ticket = self.get(caller, ticket_id)
        if attach_to is not None and may_take_subject and ticket.attach_to is None and ticket.state in OPEN_STATES:
            return replace(ticket, attach_to=self._subjects.resolve(caller, attach_to, register=True))
        if attach_to is not None:
            self.require_same_subject(caller, ticket, attach_to)
        return ticket

    def _taken_over(self, ticket: Ticket) -> Ticket:
        opened = replace(ticket, state=TicketState.UPLOADING, writer_epoch=ticket.writer_epoch + 1)
        if not self._store.update_ticket(opened, if_state=OPEN_STATES, if_epoch=ticket.writer_epoch):
            raise errors.WriterFencedError(opened.writer_epoch)
        return self._claim_room(opened)

    def _as_of_now(self, ticket: Ticket) -> Ticket:
        """Show a ticket whose time is up as EXPIRED, also before a sweep has noted it.

        Of an asset the bytes may be there, which only the sweep looks at.
        """
        if ticket.state in OPEN_STATES and ticket.expire_time <= self._clock.now() and not ticket.is_asset:
            return replace(ticket, state=TicketState.EXPIRED)
        return ticket

    def _completed(self, ticket: Ticket, taken: Taken) -> Ticket:
        done = replace(
            ticket,
            state=TicketState.COMPLETED,
            file_id=taken.file.id,
            attachment_id=taken.attachment_id,
            outcome=taken.outcome.value,
            append_offset=-1,
        )
        if not self._store.update_ticket(done, if_state=OPEN_STATES, if_epoch=ticket.writer_epoch):
            raise errors.WriterFencedError(ticket.writer_epoch + 1)
        return done

    def require_open(self, ticket: Ticket) -> None:
        """Raise unless bytes may still come for a ticket, or a file may still be made of them."""
        if ticket.state is TicketState.EXPIRED:
            raise errors.UploadTicketExpiredError
        if ticket.state not in OPEN_STATES:
            raise errors.UploadTicketClosedError(ticket.state.value)

    def _attached_to(self, caller: Caller, subject: Subject | None) -> Subject | None:
        """Return what a file is attached to now; an issue that nobody knew when its upload began is registered."""
        if subject is None or subject.id:
            return subject
        return self._subjects.resolve(caller, subject, register=True)

    def _attachment_id(self, ticket: Ticket) -> str:
        return ids.respelled(ids.ATTACHMENT, ticket.id) if ticket.attach_to else ""

    def _record(self, caller: Caller, verb: str, ticket: Ticket) -> None:
        summary = {
            "id": ticket.id,
            "name": ticket.spec.name,
            "state": ticket.state.value,
            "reason": ticket.error_reason,
        }
        self._log.record(
            caller, f"upload_ticket.{verb}.v1", ticket.id, {"upload_ticket": summary}, visible_to=ticket.creator.id
        )

"""Receiving uploads over HTTP into a store of ours: all bytes at once or in parts, for whoever holds a ticket's URL.

Either everything that was declared is there, and becomes the object that `arrivals.py` makes a file of, or nothing is.
"""

from __future__ import annotations

from remora_server.core import errors
from remora_server.core.model import Caller, Checksums, Ticket, TicketState
from remora_server.core.ports import Changes, LandingStore
from remora_server.core.receiving import Limits, Receiving
from remora_server.core.tickets import Tickets
from remora_server.core.uploads import Uploads


class Reception:
    """Takes bytes in; the holder of a URL acts for the creator of its ticket."""

    def __init__(self, tickets: Tickets, uploads: Uploads, blobs: LandingStore, changes: Changes) -> None:
        self._tickets = tickets
        self._uploads = uploads
        self._blobs = blobs
        self._changes = changes

    @property
    def limits(self) -> Limits:
        """How uploads are cut."""
        return self._uploads.limits

    def awaited(self, workspace_id: str, ticket_id: str) -> Ticket:
        """Return a ticket, if bytes may still come for it."""
        _, ticket = self._tickets.of_holder(workspace_id, ticket_id)
        self._require_awaited(ticket)
        return ticket

    def progress(self, workspace_id: str, ticket_id: str) -> tuple[Ticket, bool]:
        """Return a ticket, and whether all its bytes are there; raise unless they are, or may still come."""
        _, ticket = self._tickets.of_holder(workspace_id, ticket_id)
        if ticket.state is TicketState.COMPLETED:
            return ticket, True
        self._tickets.require_open(ticket)
        return ticket, self._blobs.arrived(ticket_id) is not None

    def begin(self, ticket: Ticket, *, whole: bool) -> Receiving:
        """Start to receive, `whole` in one go or the next part; an older request for the same ticket is fenced."""
        caller, current = self._tickets.of_holder(ticket.workspace_id, ticket.id)
        self._require_awaited(current)
        opened = self._changes.run(lambda: self._tickets.open_direct(caller, ticket.id))
        return self._uploads.begin(caller, opened, whole=whole)

    def land(self, receiving: Receiving) -> None:
        """Turn what was received whole into the object that CreateFile looks for, durably; else leave nothing."""
        spec = receiving.ticket.spec
        try:
            content = receiving.settle_whole(spec.checksums, spec.size_bytes)
            self._arrive(receiving.ticket, content.checksums, content.size_bytes)
            receiving.park()
        except BaseException:
            receiving.abandon()
            raise
        finally:
            receiving.release()

    def leave(self, receiving: Receiving, *, is_last: bool) -> Ticket:
        """Keep the bytes received so far, durably, for the next part; with the last one the object has arrived."""
        committed = receiving.leave()
        if committed != receiving.next_offset:
            receiving.raise_if_broken()
            raise errors.StorageUnavailableError
        if is_last and not self.has_arrived(receiving.ticket):
            self._arrive(receiving.ticket, Checksums(receiving.ticket.committed_crc32c), committed)
        return receiving.ticket

    def complete_parts(self, ticket: Ticket) -> Ticket:
        """Turn parts that are all there into the object, unless more have come by now; repeating it is harmless."""
        if self.has_arrived(ticket):
            return ticket
        if ticket.state is not TicketState.UPLOADING:
            # No part has come, since there are no bytes at all.
            receiving = self.begin(ticket, whole=True)
            self.land(receiving)
            return receiving.ticket
        # Opened anew: whoever still sends, here or elsewhere, would otherwise write on into what has arrived.
        receiving = self.begin(ticket, whole=False)
        return self.leave(receiving, is_last=receiving.next_offset == ticket.committed_size)

    def has_arrived(self, ticket: Ticket) -> bool:
        """Tell whether the object of a ticket is there."""
        return self._blobs.arrived(ticket.id) is not None

    def cancel(self, ticket: Ticket) -> None:
        """End an upload."""
        caller, _ = self._tickets.of_holder(ticket.workspace_id, ticket.id)
        self._uploads.cancel(caller, ticket.id)

    def _require_awaited(self, ticket: Ticket) -> None:
        self._tickets.require_open(ticket)
        if self.has_arrived(ticket):
            raise errors.UploadTicketClosedError(ticket.state.value, has_arrived=True)

    def _arrive(self, ticket: Ticket, checksums: Checksums, size_bytes: int) -> None:
        """Have durable bytes arrive, if their ticket is still open, and this their last writer."""
        caller, current = self._tickets.of_holder(ticket.workspace_id, ticket.id)
        if current.writer_epoch != ticket.writer_epoch:
            raise errors.WriterFencedError(current.writer_epoch)
        self._tickets.require_open(current)
        if not self._blobs.land(ticket.id, ticket.writer_epoch):
            raise errors.UploadTicketClosedError(current.state.value, has_arrived=True)
        try:
            # A later writer takes over what is staged, not what has arrived; but it began before, and may have taken
            # this back. Only what is noted under our own epoch is ours to acknowledge.
            self._changes.run(lambda: self._tickets.record_progress(ticket, size_bytes, checksums.crc32c or 0))
        except errors.WriterFencedError:
            self._clear_if_ended(caller, ticket.id)
            raise
        except errors.QuotaExceededError:
            # Room may have been freed meanwhile, and a file made of it.
            if self._tickets.get(caller, ticket.id).state is not TicketState.COMPLETED:
                self._blobs.discard(ticket.id, arrived=True)
            raise

    def _clear_if_ended(self, caller: Caller, ticket_id: str) -> None:
        """Remove bytes that were put in place after their ticket had ended without them."""
        ticket = self._tickets.get(caller, ticket_id)
        if not ticket.state.is_open and ticket.state is not TicketState.COMPLETED:
            self._blobs.discard(ticket_id, arrived=True)

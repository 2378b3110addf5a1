"""Uploads by ticket, stream or in one piece: who receives, who waits, and how bytes become a file at the end.

What one writer does with its bytes is in `receiving.py`.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

import google_crc32c

from remora_server.core import errors, fields, ids
from remora_server.core.hashing import Hashes, measure, new_hashes
from remora_server.core.inspection import Inspections
from remora_server.core.intake import ANY, Content, Intake, Purpose, Taken, require_match
from remora_server.core.model import Caller, Checksums, FileSpec, Subject, Ticket, TicketState
from remora_server.core.ports import BlobStore, Changes, Staged
from remora_server.core.receiving import Limits, Pools, Receiving
from remora_server.core.subjects import Subjects
from remora_server.core.tickets import Request, Tickets
from remora_server.core.values import replace

PARKED_MAX = 512
VERIFY_POLL_SECONDS = 0.5


class Uploads:
    """Takes bytes in, by stream, by unary append or in one piece."""

    def __init__(
        self,
        tickets: Tickets,
        intake: Intake,
        subjects: Subjects,
        blobs: BlobStore,
        changes: Changes,
        pools: Pools,
        limits: Limits,
        inspections: Inspections,
    ) -> None:
        self._inspections = inspections
        self.tickets = tickets
        self.changes = changes
        self.pools = pools
        self.limits = limits
        self._intake = intake
        self._subjects = subjects
        self._blobs = blobs
        self._lock = threading.Lock()
        self._active: dict[str, Receiving] = {}
        self._parked: OrderedDict[str, Hashes] = OrderedDict()
        self._finishing: dict[str, Future[Taken]] = {}

    def finish(self, ticket_id: str, finish: Callable[[], Taken]) -> Taken:
        """Finish an upload; whoever asks for the same ticket meanwhile waits for this, however long it takes."""
        result: Future[Taken] = Future()
        with self._lock:
            self._finishing[ticket_id] = result
        return self._finish(ticket_id, result, finish)

    def _finish(self, ticket_id: str, result: Future[Taken], finish: Callable[[], Taken]) -> Taken:
        try:
            taken = finish()
        except BaseException as problem:
            result.set_exception(problem)
            raise
        else:
            result.set_result(taken)
            return taken
        finally:
            with self._lock:
                if self._finishing.get(ticket_id) is result:
                    del self._finishing[ticket_id]

    def finish_once(self, ticket_id: str, finish: Callable[[], Taken]) -> Taken:
        """Finish an upload, or wait for whoever is doing so already."""
        with self._lock:
            finishing = self._finishing.get(ticket_id)
            if finishing is None:
                self._finishing[ticket_id] = result = Future[Taken]()
        if finishing is not None:
            return finishing.result()
        return self._finish(ticket_id, result, finish)

    def is_finishing(self, ticket_id: str) -> bool:
        """Tell whether there is something to `join`."""
        return ticket_id in self._finishing

    def join(self, caller: Caller, ticket_id: str) -> Taken | None:
        """Wait for the end of a ticket that is being finished, and return it; None if it isn't.

        To open it anew would fence off the verification, which reads every byte, only to begin it again.
        """
        with self._lock:
            finishing = self._finishing.get(ticket_id)
        if finishing is None:
            return None
        self.tickets.get(caller, ticket_id)
        return finishing.result()

    def begin(self, caller: Caller, ticket: Ticket, *, whole: bool = False) -> Receiving:
        """Start receiving for a ticket that was just opened; an older writer in this process is stopped first."""
        receiving = Receiving(self, caller, ticket, self._hashes_for(ticket), whole=whole)
        while True:
            with self._lock:
                older = self._active.setdefault(ticket.id, receiving)
            if older is receiving:
                break
            if older.ticket.writer_epoch > ticket.writer_epoch:
                raise errors.WriterFencedError(older.ticket.writer_epoch)
            older.fence()
            if not older.wait_closed():
                raise errors.StorageUnavailableError
        try:
            receiving.start(self._stage(ticket))
        except errors.StoredContentCorruptError as loss:
            # Fewer bytes are left than were confirmed. The confirmed size never shrinks; the upload begins anew.
            receiving.release()
            if not self.fail(caller, ticket, loss):
                raise errors.WriterFencedError(ticket.writer_epoch + 1) from loss
            raise errors.UploadTicketClosedError(TicketState.FAILED.value) from loss
        except BaseException:
            receiving.release()
            raise
        return receiving

    def append(
        self, caller: Caller, ticket_id: str, offset: int, data: bytes, crc32c: int | None, writer_epoch: int | None
    ) -> Ticket:
        """Add one piece to a ticket and make it durable. Repeating the last accepted piece answers alike."""
        ticket = self.tickets.get(caller, ticket_id)
        actual = google_crc32c.value(data)
        if crc32c is not None and crc32c != actual:
            raise errors.ChunkChecksumMismatchError(ticket.committed_size)
        if ticket.state is TicketState.UPLOADING and _is_repeat(ticket, offset, data, actual):
            return ticket
        if writer_epoch is not None and writer_epoch != ticket.writer_epoch:
            raise errors.WriterFencedError(ticket.writer_epoch)
        opened = self.changes.run(lambda: self.tickets.open(caller, ticket_id))
        if opened.done is not None:
            raise errors.UploadTicketClosedError(TicketState.COMPLETED.value)
        if opened.is_verified_elsewhere:
            raise errors.WriterFencedError(opened.ticket.writer_epoch)
        receiving = self.begin(caller, opened.ticket)
        try:
            receiving.append(offset, data, actual)
        except (errors.SizeMismatchError, errors.FileTooLargeError) as refusal:
            receiving.fail(refusal)
            raise
        except errors.RemoraError:
            receiving.leave()
            raise
        if receiving.leave() != offset + len(data):
            receiving.raise_if_broken()
            raise errors.StorageUnavailableError
        last = receiving.ticket
        return self.changes.run(
            lambda: self.tickets.record_progress(last, last.committed_size, last.committed_crc32c, offset, actual)
        )

    def create_file(
        self, caller: Caller, ticket_id: str, claimed: Checksums, size_bytes: int | None, attach_to: Subject | None
    ) -> Taken:
        """Finish a ticket whose bytes were appended; repeating it returns the same file.

        Repeated while it runs, it waits for the same end. Two of them that wait for another server's verification
        would otherwise each open the ticket after that, and the later one fence off the earlier one.
        """
        fields.checksums(claimed, "checksums")
        self.tickets.get(caller, ticket_id)
        return self.finish_once(ticket_id, lambda: self._create_file(caller, ticket_id, claimed, size_bytes, attach_to))

    def _create_file(
        self, caller: Caller, ticket_id: str, claimed: Checksums, size_bytes: int | None, attach_to: Subject | None
    ) -> Taken:
        ticket = self.once_verified(caller, ticket_id)
        wanted = size_bytes if size_bytes is not None else ticket.spec.size_bytes
        nothing_came = ticket.state is TicketState.PENDING and wanted != 0
        too_few = (
            ticket.state in {TicketState.UPLOADING, TicketState.VERIFYING}
            and wanted is not None
            and ticket.committed_size < wanted
        )
        if nothing_came or too_few:
            raise errors.UploadIncompleteError(ticket.committed_size)
        opened = self.changes.run(lambda: self.tickets.open(caller, ticket_id, attach_to, may_take_subject=True))
        if opened.done is not None:
            return opened.done
        if opened.is_verified_elsewhere:
            return self._create_file(caller, ticket_id, claimed, size_bytes, attach_to)
        return self.begin(caller, opened.ticket).finish(claimed, size_bytes, caller)

    def admit_whole(self, caller: Caller, request: Request, data: bytes) -> FileSpec:
        """Check a file that comes in one piece, before anything is stored; return what to store it as."""
        if len(data) > self.limits.max_unary_bytes:
            raise errors.FileTooLargeError(self.limits.max_unary_bytes)
        self.tickets.admit(caller, request)
        if len(data) > self.limits.max_file_bytes:
            raise errors.FileTooLargeError(self.limits.max_file_bytes)
        return request.spec

    def is_inline(self, data: bytes) -> bool:
        """Tell whether bytes are few enough to lie in the database, where one group commit makes them durable."""
        return len(data) <= self.limits.max_inline_bytes

    def keep_whole(self, spec: FileSpec, data: bytes) -> tuple[Content, str]:
        """Compare bytes that came in one piece with what was declared, and make them durable.

        Return their digests, and where they lie: nowhere, if they are few enough to go into the database.
        """
        content = measure(data)
        require_match(spec.checksums, spec.size_bytes, content)
        return content, "" if self.is_inline(data) else self._blobs.put(ids.new_id(ids.BLOB), data)

    def is_glanced(self, content: Content) -> bool:
        """Tell whether `glance` has anything to find."""
        return self._inspections.is_measured(content.detected)

    def glance(self, content: Content, beginning: bytes) -> Content:
        """Look at the beginning of content before it is recorded; return it with what was found."""
        if not self.is_glanced(content):
            return content
        return replace(content, media=self._inspections.glance(content.detected, beginning))

    def record_whole(
        self, caller: Caller, request: Request, content: Content, location: str, inline: bytes | None
    ) -> Taken:
        """Record bytes that came in one piece; call it inside a change."""
        attach_to = request.attach_to and self._subjects.resolve(caller, request.attach_to, register=True)
        return self._intake.take(caller, request.spec, content, location=location, inline=inline, attach_to=attach_to)

    def drop_unused(self, location: str) -> None:
        """Remove committed bytes that no row names: an earlier blob made them superfluous, or they were refused."""
        self._blobs.delete(location)

    def cancel(self, caller: Caller, ticket_id: str) -> Ticket:
        """Cancel a ticket, stop its writer in this process and remove its bytes."""
        ticket = self.changes.run(lambda: self.tickets.cancel(caller, ticket_id))
        if not ticket.staged_removed:
            self._clear(ticket)
        return ticket

    def commit(self, caller: Caller, ticket: Ticket, content: Content, purpose: Purpose = ANY) -> Taken:
        """Turn staged, synced bytes into the ticket's file."""
        location = self._blobs.commit(ticket.id, content.checksums, content.size_bytes, ticket.writer_epoch)
        seen = self.glance(content, content.beginning)
        try:
            taken = self.changes.run(lambda: self.tickets.complete(caller, ticket, seen, location, purpose))
        except errors.StorageFullError:
            self.drop_unused(location)  # Where the rows are full too, every byte counts.
            raise
        if not taken.blob_is_new:
            self.drop_unused(location)
        return taken

    def fail(self, caller: Caller, ticket: Ticket, refusal: errors.RemoraError) -> bool:
        """End a ticket and remove its bytes at once; False, and nothing is done, if another writer has it."""
        try:
            is_failed = self.changes.run(lambda: self.tickets.fail(caller, ticket, refusal))
        except errors.StorageFullError:
            # Rows lie on the same full disk: the bytes, of no use any more, make room for the row that says so.
            self.discard(ticket)
            is_failed = self.changes.run(lambda: self.tickets.fail(caller, ticket, refusal))
        if not is_failed:
            return False
        self._blobs.discard(ticket.id, arrived=ticket.is_direct)
        failed = replace(ticket, state=TicketState.FAILED, error_reason=refusal.reason, error_message=refusal.message)
        self.changes.run(lambda: self.tickets.mark_cleared(failed))
        return True

    def discard(self, ticket: Ticket) -> None:
        """Remove the staged bytes of an upload that has to begin anew, unless another writer began meanwhile."""
        _, current = self.tickets.of_holder(ticket.workspace_id, ticket.id)
        if current.writer_epoch == ticket.writer_epoch:
            self._blobs.discard(ticket.id)

    def parked(self, ticket: Ticket) -> Hashes | None:
        """Return the digests of all bytes of a ticket, if this process received them."""
        return self._hashes_for(ticket) if ticket.committed_size else None

    def park(self, ticket_id: str, hashes: Hashes) -> None:
        """Keep the digests of a broken-off upload, so that its continuation need not read the bytes back."""
        with self._lock:
            self._parked[ticket_id] = hashes
            while len(self._parked) > PARKED_MAX:
                self._parked.popitem(last=False)

    def forget(self, receiving: Receiving) -> None:
        """Take a writer that has ended off the list."""
        with self._lock:
            if self._active.get(receiving.ticket.id) is receiving:
                del self._active[receiving.ticket.id]

    @property
    def is_receiving(self) -> bool:
        """Whether there is any writer in this process; any thread may ask."""
        return bool(self._active)

    def stop_overtaken(self) -> None:
        """Stop writers whose tickets other servers have opened or ended since; call it about every second."""
        with self._lock:
            writers = dict(self._active)
        for ticket_id in self.tickets.overtaken({one: held.ticket.writer_epoch for one, held in writers.items()}):
            writers[ticket_id].fence()

    def once_verified(self, caller: Caller, ticket_id: str, patience_seconds: float = math.inf) -> Ticket:
        """Return a ticket when nobody verifies it any more, or patience is over."""
        until = time.monotonic() + patience_seconds
        while self.tickets.is_being_verified(ticket := self.tickets.get(caller, ticket_id)):
            if time.monotonic() > until:
                break
            time.sleep(VERIFY_POLL_SECONDS)
        return ticket

    def _clear(self, ticket: Ticket) -> None:
        with self._lock:
            writer = self._active.get(ticket.id)
            self._parked.pop(ticket.id, None)
        if writer is not None:
            writer.fence()
            writer.wait_closed()
        self._blobs.discard(ticket.id, arrived=ticket.is_direct)
        self.changes.run(lambda: self.tickets.mark_cleared(ticket))

    def _stage(self, ticket: Ticket) -> Staged:
        if ticket.is_direct and self._blobs.arrived(ticket.id) is not None:
            # The older writer came to its end. Staging would take back what its client was told has arrived.
            raise errors.UploadTicketClosedError(ticket.state.value, has_arrived=True)
        return self._blobs.stage(ticket.id, ticket.committed_size, ticket.writer_epoch)

    def _hashes_for(self, ticket: Ticket) -> Hashes | None:
        with self._lock:
            parked = self._parked.pop(ticket.id, None)
        if ticket.committed_size == 0:
            return new_hashes(with_md5=bool(ticket.spec.checksums.md5))
        return (
            parked
            if parked and (parked.size, parked.crc32c) == (ticket.committed_size, ticket.committed_crc32c)
            else None
        )


def _is_repeat(ticket: Ticket, offset: int, data: bytes, crc32c: int) -> bool:
    return (
        offset == ticket.append_offset
        and offset + len(data) == ticket.committed_size
        and crc32c == ticket.append_crc32c
    )

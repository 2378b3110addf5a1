"""Receiving bytes: check, hash, stage, make durable, record, and at the end turn them into a file.

The event loop only checks offsets and CRC32C and puts pieces into lanes. One lane stores and computes SHA-256, one
computes MD5 where it was declared, one makes bytes durable and records how far they reach; the three overlap.
`committed_size` is what is both durable in the blob store and recorded, in that order, and never shrinks.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress

import google_crc32c

from remora_server.core import errors, fields, ids
from remora_server.core.intake import Content, Intake, Taken, require_match, require_size
from remora_server.core.lanes import Lane
from remora_server.core.model import Caller, Checksums, FileSpec, Subject, Ticket, TicketState
from remora_server.core.ports import BlobStore, Changes, Staged
from remora_server.core.subjects import Subjects
from remora_server.core.tickets import Request, Tickets
from remora_server.core.values import dataclass, replace

MIB = 1024 * 1024
ACK_SECONDS = 2.0
VERIFY_BLOCK = 4 * MIB
PARKED_MAX = 512
FENCE_WAIT_SECONDS = 60.0
LEASE_SECONDS = 2.5  # A quarter of what it lasts.
VERIFY_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Limits:
    """How uploads are cut; announced to clients, in bytes."""

    max_file_bytes: int
    max_chunk_bytes: int = 2 * MIB
    ack_interval_bytes: int = 8 * MIB
    max_unacked_bytes: int = 32 * MIB
    max_unary_bytes: int = 3 * MIB
    max_inline_bytes: int = 32 * 1024
    max_queued_bytes: int = 8 * MIB


@dataclass(frozen=True, slots=True)
class Pools:
    """The threads that uploads share: for hashing and writing, for making durable, and for what waits on those."""

    work: Executor
    sync: Executor
    wait: Executor


@dataclass(slots=True)
class Hashes:
    """Running digests of the first `size` bytes of an upload."""

    sha256: hashlib._Hash
    md5: hashlib._Hash | None
    crc32c: int = 0
    size: int = 0


def new_hashes(*, with_md5: bool) -> Hashes:
    """Start digests of nothing.

    MD5 takes more than twice as long as SHA-256, and no thread count helps one stream. SHA-256 and CRC32C prove an
    upload; so a stream computes MD5 only where its caller declares one.
    """
    return Hashes(hashlib.sha256(), hashlib.md5(usedforsecurity=False) if with_md5 else None)


def measure(data: bytes) -> Content:
    """Compute the digests of bytes that came in one piece."""
    digests = Checksums(
        google_crc32c.value(data), hashlib.md5(data, usedforsecurity=False).digest(), hashlib.sha256(data).digest()
    )
    return Content(digests, len(data))


class Receiving:
    """One writer's stream of bytes into one ticket. `append`, `flush` and `tick` never block; the rest does."""

    _staged: Staged | None = None

    def __init__(
        self, uploads: Uploads, caller: Caller, ticket: Ticket, hashes: Hashes | None, *, whole: bool = False
    ) -> None:
        self._uploads = uploads
        self._caller = caller
        self._whole = whole  # Either all bytes count or none: nothing is recorded before they are committed.
        self._hashes = hashes or new_hashes(with_md5=bool(ticket.spec.checksums.md5))
        self._hashes_complete = hashes is not None
        self._crc32c = ticket.committed_crc32c
        self.ticket = ticket
        self.next_offset = ticket.committed_size
        self.verified_size = 0
        self._stored = self._hashed = self._sync_asked = self._acknowledged = ticket.committed_size
        self._asked_at = time.monotonic()
        self._room_wanted = False
        self._fenced = threading.Event()
        self._closed = threading.Event()
        self._listener: Callable[[], None] = _nobody
        self._store = Lane(uploads.pools.work, self._store_piece, self._tell)
        self._md5 = Lane(uploads.pools.work, self._hash_piece, self._tell)
        self._sync = Lane(uploads.pools.sync, self._sync_to, self._tell)

    @property
    def limits(self) -> Limits:
        """How uploads are cut."""
        return self._uploads.limits

    @property
    def staged(self) -> Staged:
        """Where the bytes go; set by `start`."""
        if self._staged is None:
            raise errors.StorageUnavailableError
        return self._staged

    def start(self, staged: Staged) -> None:
        """Begin to write into `staged`."""
        self._staged = staged

    def listen(self, listener: Callable[[], None]) -> None:
        """Have `listener` called, on any thread, on progress, a failure, a fence, or room after there was none."""
        self._listener = listener

    def has_room(self) -> bool:
        """Tell whether another piece may be queued; after a no the listener hears when it may."""
        if self._has_room():
            return True
        self._room_wanted = True
        # The lanes may have caught up between the look and the wish.
        return self._has_room()

    def _has_room(self) -> bool:
        limits = self._uploads.limits
        # A store that can't keep up, or is away, would otherwise have all that was not sent to it yet in memory here.
        unacked_bytes = self.next_offset - self._acknowledged
        return self._queued_bytes() < limits.max_queued_bytes and unacked_bytes < limits.max_unacked_bytes

    def append(self, offset: int, data: bytes, crc32c: int | None) -> None:
        """Accept the next piece, or raise and leave everything as it was."""
        self.raise_if_broken()
        limits = self._uploads.limits
        if len(data) > limits.max_chunk_bytes:
            raise errors.invalid(
                "chunk.data.content", f"has {len(data)} bytes, at most {limits.max_chunk_bytes} are allowed"
            )
        if offset != self.next_offset:
            raise errors.OffsetMismatchError(self.next_offset)
        if crc32c is not None and google_crc32c.value(data) != crc32c:
            raise errors.ChunkChecksumMismatchError(self.next_offset)
        end = offset + len(data)
        if end > limits.max_file_bytes:
            raise errors.FileTooLargeError(limits.max_file_bytes)
        declared = self.ticket.spec.size_bytes
        if declared is not None and end > declared:
            raise errors.SizeMismatchError(declared, end)
        self.next_offset = end
        if self._hashes.md5 is not None:
            self._md5.put(data)
        self._store.put(data)

    def flush(self) -> None:
        """Ask for everything accepted so far to be made durable and recorded."""
        self._store.put(None)

    def tick(self) -> None:
        """Make bytes durable that have waited for two seconds; call it about every second."""
        if time.monotonic() - self._asked_at >= ACK_SECONDS and self._sync_asked < self.next_offset:
            self.flush()

    def raise_if_broken(self) -> None:
        """Raise what stopped this writer, if anything did."""
        if self._fenced.is_set():
            raise errors.WriterFencedError(self.ticket.writer_epoch + 1)
        for lane in (self._store, self._md5, self._sync):
            if lane.failure is not None:
                raise lane.failure

    def finish(self, claimed: Checksums, size_bytes: int | None, caller: Caller) -> Taken:
        """Compare, commit and record; the answer is durable when this returns."""
        return self._uploads.finish(self.ticket.id, lambda: self._finish(claimed, size_bytes, caller))

    def _finish(self, claimed: Checksums, size_bytes: int | None, caller: Caller) -> Taken:
        try:
            self._settle()
            spec = self.ticket.spec
            wanted_size = size_bytes if size_bytes is not None else spec.size_bytes
            require_size(wanted_size, self.next_offset)
            content = self._content(with_md5=bool(claimed.md5))
            require_match(spec.checksums, spec.size_bytes, content)
            require_match(claimed, size_bytes, content)
            self.staged.sync()
            self.staged.close()
            return self._uploads.commit(caller, self.ticket, content)
        except (errors.SizeMismatchError, errors.ContentChecksumMismatchError, errors.StorageFullError) as refusal:
            self.fail(refusal)
            raise
        except errors.StoredContentCorruptError as loss:
            if not self.fail(loss):
                # The bytes went to a later writer.
                raise errors.WriterFencedError(self.ticket.writer_epoch + 1) from loss
            raise errors.UploadTicketClosedError(TicketState.FAILED.value) from loss
        finally:
            self._stop_verifying()
            self.release()

    def fail(self, refusal: errors.RemoraError) -> bool:
        """End the ticket and remove its bytes: this upload can't succeed any more; False if another writer has it."""
        self._wait_idle()
        try:
            self.staged.close()
            return self._uploads.fail(self._caller, self.ticket, refusal)
        finally:
            self.release()

    def leave(self) -> int:
        """Commit every byte received, keep the ticket for a later writer, and return the committed size."""
        if self._closed.is_set():
            return self.ticket.committed_size
        try:
            self.flush()
            self._settle()
            if self.ticket.committed_size == self.next_offset and self._hashes_complete:
                self._hashes.size, self._hashes.crc32c = self.next_offset, self._crc32c
                self._uploads.park(self.ticket.id, self._hashes)
        except errors.StorageFullError as refusal:
            self._uploads.fail(self._caller, self.ticket, refusal)
            raise
        except errors.RemoraError:
            # Fenced, or storage is away: what is recorded stands, and the next Open begins there.
            pass
        finally:
            self.release()
        return self.ticket.committed_size

    def settle_whole(self, claimed: Checksums, size_bytes: int | None) -> Content:
        """Make all bytes durable, compare them, and let go of them where they are staged; return their digests."""
        self._settle()
        require_size(size_bytes, self.next_offset)
        content = self._content(with_md5=False)
        require_match(claimed, size_bytes, content)
        self.staged.sync()
        self.staged.close()
        self._hashes.size, self._hashes.crc32c = self.next_offset, self._crc32c
        return content

    def park(self) -> None:
        """Keep the digests for whoever makes the file, who then need not read the bytes back."""
        if self._hashes_complete:
            self._uploads.park(self.ticket.id, self._hashes)

    def abandon(self) -> None:
        """Stop, and remove the bytes that came, as far as nobody else has the ticket by now."""
        if self._closed.is_set():
            return
        try:
            self._wait_idle()
            self.staged.close()
            if not self._fenced.is_set():
                self._uploads.discard(self.ticket)
        finally:
            self.release()

    def fence(self) -> None:
        """Stop this writer: another one has the ticket."""
        self._fenced.set()
        self._tell()

    def wait_closed(self) -> bool:
        """Block until this writer has let go of the staged bytes; False if it does not within a minute."""
        return self._closed.wait(FENCE_WAIT_SECONDS)

    def release(self) -> None:
        """Let go of the staged bytes and of the place among the active writers."""
        if self._staged is not None:
            self._staged.close()
        self._closed.set()
        self._uploads.forget(self)

    def _wait_idle(self) -> None:
        for lane in (self._store, self._md5, self._sync):
            lane.wait_idle()

    def _settle(self) -> None:
        self._wait_idle()
        self.raise_if_broken()

    def _store_piece(self, data: bytes | None) -> None:
        if self._fenced.is_set():
            return
        if data is not None:
            self.staged.write(data)
            self._hashes.sha256.update(data)
            self._crc32c = google_crc32c.extend(self._crc32c, data)
            self._stored += len(data)
        if data is None or self._stored - self._sync_asked >= self._uploads.limits.ack_interval_bytes:
            self._sync_asked = self._stored
            self._asked_at = time.monotonic()
            self._sync.put((self._stored, self._crc32c))
        self._tell_of_room()

    def _hash_piece(self, data: bytes) -> None:
        if self._hashes.md5 is not None:
            self._hashes.md5.update(data)
        self._hashed += len(data)
        self._tell_of_room()

    def _sync_to(self, mark: tuple[int, int]) -> None:
        size, crc32c = mark
        if self._sync.waiting:
            # A later mark is already waiting, and syncing for it covers this one.
            return
        if size == self.ticket.committed_size:
            self._tell()
            return
        self.staged.sync()
        if not self._whole:
            ticket = self.ticket
            self.ticket = self._uploads.changes.run(lambda: self._uploads.tickets.record_progress(ticket, size, crc32c))
        self._acknowledged = size
        self._tell()

    def _content(self, *, with_md5: bool) -> Content:
        hashes = self._hashes
        if not self._hashes_complete or (with_md5 and hashes.md5 is None):
            hashes = self._read_back(with_md5=with_md5 or hashes.md5 is not None)
        md5 = hashes.md5.digest() if hashes.md5 is not None else b""
        return Content(Checksums(self._crc32c, md5, hashes.sha256.digest()), self.next_offset)

    def _read_back(self, *, with_md5: bool) -> Hashes:
        """Hash the staged bytes: some came through another process, or an MD5 is claimed that nobody declared."""
        self._keep_verifying()
        until = time.monotonic() + LEASE_SECONDS
        hashes = new_hashes(with_md5=with_md5)
        while hashes.size < self.next_offset:
            if time.monotonic() > until:
                self._keep_verifying()
                until = time.monotonic() + LEASE_SECONDS
            block = self.staged.read(hashes.size, VERIFY_BLOCK)
            if not block:
                raise errors.StoredContentCorruptError
            beside = self._uploads.pools.work.submit(hashes.md5.update, block) if hashes.md5 is not None else None
            hashes.sha256.update(block)
            hashes.crc32c = google_crc32c.extend(hashes.crc32c, block)
            if beside is not None:
                beside.result()
            hashes.size += len(block)
            self.verified_size = hashes.size
        if hashes.crc32c != self._crc32c:
            raise errors.StoredContentCorruptError
        return hashes

    def _keep_verifying(self) -> None:
        self.raise_if_broken()
        ticket = self.ticket
        self.ticket = self._uploads.changes.run(lambda: self._uploads.tickets.keep_verifying(ticket))

    def _stop_verifying(self) -> None:
        """Let the next writer in at once; after a success, or with another writer, this changes nothing."""
        ticket = self.ticket
        if ticket.state is TicketState.VERIFYING:
            with suppress(errors.RemoraError):
                self._uploads.changes.run(lambda: self._uploads.tickets.stop_verifying(ticket))

    def _queued_bytes(self) -> int:
        done = self._stored if self._hashes.md5 is None else min(self._stored, self._hashed)
        return self.next_offset - done

    def _tell(self) -> None:
        self._listener()

    def _tell_of_room(self) -> None:
        if self._room_wanted and self._queued_bytes() <= self._uploads.limits.max_queued_bytes // 2:
            self._room_wanted = False
            self._listener()


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
    ) -> None:
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

    def commit(self, caller: Caller, ticket: Ticket, content: Content) -> Taken:
        """Turn staged, synced bytes into the ticket's file."""
        location = self._blobs.commit(ticket.id, content.checksums, content.size_bytes, ticket.writer_epoch)
        taken = self.changes.run(lambda: self.tickets.complete(caller, ticket, content, location))
        if not taken.blob_is_new:
            self.drop_unused(location)
        return taken

    def fail(self, caller: Caller, ticket: Ticket, refusal: errors.RemoraError) -> bool:
        """End a ticket and remove its bytes at once; False, and nothing is done, if another writer has it."""
        if not self.changes.run(lambda: self.tickets.fail(caller, ticket, refusal)):
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


def _nobody() -> None:
    """Listen to nothing."""

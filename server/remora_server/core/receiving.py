"""One writer's bytes on their way: check, hash, stage, make durable and record.

The event loop only checks offsets and CRC32C and puts pieces into lanes. One lane stores and computes SHA-256, one
computes MD5 where it was declared, one makes bytes durable and records how far they reach; the three overlap.
`committed_size` is what is both durable in the blob store and recorded, in that order, and never shrinks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import google_crc32c

from remora_server.core import errors
from remora_server.core.hashing import Hashes, new_hashes
from remora_server.core.intake import ANY, Content, Purpose, Taken, require_match, require_size
from remora_server.core.lanes import Lane
from remora_server.core.model import Caller, Checksums, Ticket, TicketState
from remora_server.core.ports import Staged
from remora_server.core.values import dataclass

if TYPE_CHECKING:
    from remora_server.core.uploads import Uploads

MIB = 1024 * 1024
ACK_SECONDS = 2.0
VERIFY_BLOCK = 4 * MIB
FENCE_WAIT_SECONDS = 60.0
LEASE_SECONDS = 2.5  # A quarter of what it lasts.


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

    def finish(self, claimed: Checksums, size_bytes: int | None, caller: Caller, purpose: Purpose = ANY) -> Taken:
        """Compare, commit and record; the answer is durable when this returns."""
        finish = partial(self._finish, claimed, size_bytes, caller, purpose)
        return self._uploads.finish(self.ticket.id, finish)

    def _finish(self, claimed: Checksums, size_bytes: int | None, caller: Caller, purpose: Purpose) -> Taken:
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
            return self._uploads.commit(caller, self.ticket, content, purpose)
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
            self._hashes.keep_head(data)
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
        return Content(
            Checksums(self._crc32c, md5, hashes.sha256.digest()),
            self.next_offset,
            hashes.detected,
            beginning=hashes.head,
        )

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
            hashes.keep_head(block)
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


def _nobody() -> None:
    """Listen to nothing."""

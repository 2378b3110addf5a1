"""Uploads over HTTP: bytes that arrive as one object under their ticket's id, and the file that is made of them.

On a store of ours the gateway receives them (`reception.py`), elsewhere they arrive without us. Either way CreateFile
finds the object, reads it once, compares it with what was declared and completes the ticket with it. What has arrived
never changes: no second upload is taken, and stores create without overwriting.
"""

from __future__ import annotations

import google_crc32c

from remora_server.core import errors, fields
from remora_server.core.hashing import Hashes, new_hashes
from remora_server.core.intake import Content, Purpose, Taken, require_match, require_size
from remora_server.core.model import Caller, Checksums, Subject, Ticket, TicketState
from remora_server.core.ports import BlobReader, BlobStore, Changes, Stored
from remora_server.core.tickets import Tickets
from remora_server.core.uploads import Uploads

READ_BLOCK = 4 * 1024 * 1024


class Arrivals:
    """Takes objects in that come over HTTP."""

    def __init__(self, tickets: Tickets, uploads: Uploads, blobs: BlobStore, changes: Changes) -> None:
        self._tickets = tickets
        self._uploads = uploads
        self._blobs = blobs
        self._changes = changes

    def create_file(
        self,
        caller: Caller,
        ticket_id: str,
        claimed: Checksums,
        size_bytes: int | None,
        attach_to: Subject | None,
        *,
        as_new_file: bool = False,
    ) -> Taken:
        """Finish a ticket whose bytes are all there; repeating it returns the same file.

        `as_new_file` makes a file of its own of bytes that came over HTTP, also where the caller has the same already.
        """
        fields.checksums(claimed, "checksums")
        joined = self._uploads.join(caller, ticket_id)
        if joined is not None:
            return joined
        ticket = self._tickets.get(caller, ticket_id)
        if not ticket.is_direct:
            return self._uploads.create_file(caller, ticket_id, claimed, size_bytes, attach_to)
        # In this order: superfluous bytes are dropped only after their ticket was completed.
        arrived = self._blobs.arrived(ticket_id)
        ticket = self._tickets.get(caller, ticket_id)
        if arrived is None and ticket.state is not TicketState.COMPLETED:
            self._tickets.require_open(ticket)
            raise errors.UploadIncompleteError(ticket.committed_size)
        opened = self._changes.run(lambda: self._tickets.verify_direct(caller, ticket_id, attach_to))
        if opened.done is not None or arrived is None:
            return opened.done or self._tickets.result(caller, opened.ticket)
        found = arrived
        return self._uploads.finish_once(
            ticket_id, lambda: self._take(caller, opened.ticket, found, claimed, size_bytes, as_new_file=as_new_file)
        )

    def _take(
        self,
        caller: Caller,
        ticket: Ticket,
        arrived: Stored,
        claimed: Checksums,
        size_bytes: int | None,
        *,
        as_new_file: bool = False,
    ) -> Taken:
        try:
            content = self._proved(ticket, arrived, claimed, size_bytes)
        except (errors.FileTooLargeError, errors.SizeMismatchError, errors.ContentChecksumMismatchError) as refusal:
            self._uploads.fail(caller, self._tickets.get(caller, ticket.id), refusal)
            raise
        except errors.StoredContentCorruptError:
            # Another server may have been quicker, and dropped bytes that were stored already.
            done = self._tickets.get(caller, ticket.id)
            if done.state is not TicketState.COMPLETED:
                raise
            return self._tickets.result(caller, done)
        seen = self._uploads.glance(content, content.beginning)
        taken = self._changes.run(
            lambda: self._tickets.complete(caller, ticket, seen, arrived.location, Purpose(as_new_file))
        )
        if not taken.blob_is_new:
            self._uploads.drop_unused(arrived.location)
        return taken

    def _proved(self, ticket: Ticket, arrived: Stored, claimed: Checksums, size_bytes: int | None) -> Content:
        """Compare what has arrived with everything that was declared; return its digests."""
        if arrived.size_bytes > self._uploads.limits.max_file_bytes:
            raise errors.FileTooLargeError(self._uploads.limits.max_file_bytes)
        require_size(ticket.spec.size_bytes, arrived.size_bytes)
        require_size(size_bytes, arrived.size_bytes)
        content = self._content(ticket, arrived, claimed)
        require_match(ticket.spec.checksums, ticket.spec.size_bytes, content)
        require_match(claimed, size_bytes, content)
        return content

    def _content(self, ticket: Ticket, arrived: Stored, claimed: Checksums) -> Content:
        with_md5 = bool(ticket.spec.checksums.md5 or claimed.md5)
        hashes = self._uploads.parked(ticket)
        if hashes is None or hashes.size != arrived.size_bytes or (with_md5 and hashes.md5 is None):
            hashes = self._read(arrived, with_md5=with_md5)
        md5 = hashes.md5.digest() if hashes.md5 is not None else b""
        return Content(
            Checksums(hashes.crc32c, md5, hashes.sha256.digest()), hashes.size, hashes.detected, beginning=hashes.head
        )

    def _read(self, arrived: Stored, *, with_md5: bool) -> Hashes:
        reader = self._blobs.open(arrived.location)
        try:
            return self._hash(reader, arrived.size_bytes, new_hashes(with_md5=with_md5))
        finally:
            reader.close()

    def _hash(self, reader: BlobReader, size_bytes: int, hashes: Hashes) -> Hashes:
        while hashes.size < size_bytes:
            block = reader.read(hashes.size, min(READ_BLOCK, size_bytes - hashes.size))
            if not block:
                raise errors.StoredContentCorruptError
            beside = self._uploads.pools.work.submit(hashes.md5.update, block) if hashes.md5 is not None else None
            hashes.keep_head(block)
            hashes.sha256.update(block)
            hashes.crc32c = google_crc32c.extend(hashes.crc32c, block)
            if beside is not None:
                beside.result()
            hashes.size += len(block)
        return hashes

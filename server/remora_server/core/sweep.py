"""Sweeping and checking: what nothing refers to any more goes after a grace period, and stored bytes are proved.

Every step can be killed and repeated. Rows go first, then bytes: a blob without a row is litter that the next sweep
finds, a row without a blob would be a lie.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, field
from functools import partial
from itertools import islice
from typing import TypeVar

from remora_server.core import errors
from remora_server.core.model import Blob, Micros, Ticket, TicketState
from remora_server.core.ports import BlobStore, Changes, Clock, MetadataStore, Stored
from remora_server.core.quota import end_due_tickets
from remora_server.core.repeats import LIFETIME
from remora_server.core.tickets import STREAMED
from remora_server.core.values import dataclass, replace

BATCH = 500
EVERYTHING = 2**31 - 1
READ_BLOCK = 4 * 1024 * 1024
Item = TypeVar("Item")


@dataclass(slots=True)
class Swept:
    """What one sweep removed, or with a dry run would remove."""

    dry_run: bool
    grace_seconds: float
    expired_tickets: int = 0
    purged_tickets: int = 0
    purged_attachments: int = 0
    purged_files: int = 0
    deleted_blobs: int = 0
    deleted_bytes: int = 0
    orphan_blobs: int = 0
    stale_staged: int = 0
    forgotten_repeats: int = 0


@dataclass(slots=True)
class Checked:
    """What a check found; every list names blobs or files that an operator should look at."""

    files: int = 0
    blobs: int = 0
    checked_bytes: int = 0
    missing: list[dict[str, object]] = field(default_factory=list)
    corrupt: list[dict[str, object]] = field(default_factory=list)
    wrong_size: list[dict[str, object]] = field(default_factory=list)
    orphans: list[dict[str, object]] = field(default_factory=list)
    stale_staged: list[dict[str, object]] = field(default_factory=list)
    dangling_files: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether there is nothing to look at."""
        return not (
            self.missing or self.corrupt or self.wrong_size or self.orphans or self.stale_staged or self.dangling_files
        )

    def report(self) -> dict[str, object]:
        """Return everything as plain values."""
        return {"clean": self.clean, **asdict(self)}


class _UndoneError(Exception):
    """Ends a change that was only tried out."""


class Sweep:
    """Removes what nothing refers to, and proves what is there."""

    def __init__(self, store: MetadataStore, blobs: BlobStore, changes: Changes, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._changes = changes
        self._clock = clock

    def sweep(self, grace: Micros, *, dry_run: bool = False) -> Swept:
        """Run one sweep; what is younger than `grace` stays, whatever refers to it."""
        done = Swept(dry_run, grace / 1_000_000)
        before = self._clock.now() - grace
        if dry_run:
            return self._pretend(before, done)
        # Rows of tickets go before new ones expire: a late client first hears "expired", only later "not found".
        done.purged_tickets = self._repeat(lambda: self._purge_tickets(before))
        done.expired_tickets = self._repeat(self._expire_tickets)
        self._clear_staged()
        done.purged_attachments = self._repeat(
            lambda: self._changes.run(lambda: self._store.purge_attachments(before, BATCH))
        )
        done.purged_files = self._repeat(lambda: self._changes.run(lambda: self._store.purge_files(before, BATCH)))
        self._delete_blobs(before, done)
        for stored in self._orphans(before):
            self._blobs.delete(stored.location)
            done.orphan_blobs += 1
            done.deleted_bytes += stored.size_bytes
        for stored in self._stale(before):
            self._blobs.discard(stored.name)
            done.stale_staged += 1
        done.forgotten_repeats = self._changes.run(lambda: self._store.delete_repeats(self._clock.now() - LIFETIME))
        return done

    def _pretend(self, before: Micros, done: Swept) -> Swept:
        """Do to the rows what a sweep would, count, and undo it: a blob falls free only by what goes before it."""

        def purge() -> None:
            done.purged_tickets = self._purge_ticket_rows(before)
            done.expired_tickets = len(self._store.tickets_to_expire(self._clock.now(), EVERYTHING))
            done.purged_attachments = self._store.purge_attachments(before, EVERYTHING)
            done.purged_files = self._store.purge_files(before, EVERYTHING)
            blobs = self._store.unreferenced_blobs(before, EVERYTHING)
            done.deleted_blobs = len(blobs)
            done.deleted_bytes = sum(blob.size_bytes for blob in blobs)
            done.forgotten_repeats = self._store.delete_repeats(self._clock.now() - LIFETIME)
            raise _UndoneError

        with suppress(_UndoneError):
            self._changes.run(purge)
        for stored in self._orphans(before):
            done.orphan_blobs += 1
            done.deleted_bytes += stored.size_bytes
        done.stale_staged = sum(1 for _ in self._stale(before))
        return done

    def check(self, progress: Callable[[int, int], None] | None = None) -> Checked:
        """Read and hash every blob, and compare both directions; `progress` hears of blobs done and of all."""
        found = Checked()
        counts = self._store.counts()
        found.files = counts.get("files", 0)
        total = counts.get("blobs", 0)
        orphans = list(self._orphans(None))
        stale = list(self._stale(None))
        last = ""
        while batch := self._store.blobs_after(last, BATCH):
            for blob in batch:
                self._check_blob(blob, found)
                found.blobs += 1
                if progress is not None:
                    progress(found.blobs, max(total, found.blobs))
            last = batch[-1].id
        found.dangling_files = list(self._store.dangling_files())
        # Uploads go on while this runs: what got its row, or was removed, since it was seen is none of our findings.
        still = {stored.name for stored in self._orphans(None)}
        found.orphans = [_named(stored) for stored in orphans if stored.name in still]
        still = {stored.name for stored in self._stale(None)}
        found.stale_staged = [_named(stored) for stored in stale if stored.name in still]
        return found

    def _check_blob(self, blob: Blob, found: Checked) -> None:
        about: dict[str, object] = {
            "blob_id": blob.id,
            "location": blob.location,
            "sha256": blob.checksums.sha256.hex(),
        }
        digest = hashlib.sha256()
        size = 0
        try:
            for block in self._blocks(blob):
                digest.update(block)
                size += len(block)
        except errors.RemoraError as problem:
            if self._store.blob(blob.id) is not None:
                found.missing.append({**about, "problem": problem.message})
            return
        found.checked_bytes += size
        if size != blob.size_bytes:
            found.wrong_size.append({**about, "expected": blob.size_bytes, "actual": size})
        elif digest.digest() != blob.checksums.sha256:
            found.corrupt.append({**about, "actual": digest.hexdigest()})

    def _blocks(self, blob: Blob) -> Iterator[bytes]:
        if blob.is_inline:
            data = self._store.inline_bytes(blob.id)
            if data is None:
                raise errors.StoredContentCorruptError
            yield data
            return
        reader = self._blobs.open(blob.location)
        try:
            offset = 0
            while block := reader.read(offset, READ_BLOCK):
                yield block
                offset += len(block)
        finally:
            reader.close()

    def _purge_tickets(self, before: Micros) -> int:
        return self._changes.run(lambda: self._purge_ticket_rows(before))

    def _purge_ticket_rows(self, before: Micros) -> int:
        ticket_ids = self._store.tickets_closed_before(before, BATCH)
        self._store.delete_tickets(ticket_ids)
        return len(ticket_ids)

    def _expire_tickets(self) -> int:
        return self._changes.run(lambda: end_due_tickets(self._store, self._clock.now()))

    def _clear_staged(self) -> None:
        while tickets := self._store.tickets_to_clear(BATCH):
            for ticket in tickets:
                if ticket.state is not TicketState.COMPLETED:
                    self._blobs.discard(ticket.id, arrived=ticket.transport != STREAMED)

            def clear(cleared: Sequence[Ticket] = tickets) -> None:
                for ticket in cleared:
                    self._store.update_ticket(
                        replace(ticket, staged_removed=True), if_state=(ticket.state,), if_epoch=None
                    )

            self._changes.run(clear)

    def _delete_blobs(self, before: Micros, done: Swept) -> None:
        while blobs := self._store.unreferenced_blobs(before, BATCH):
            removed = 0
            for blob in blobs:
                if self._changes.run(partial(self._store.delete_blob_if_unreferenced, blob.id)):
                    removed += 1
                    done.deleted_blobs += 1
                    done.deleted_bytes += blob.size_bytes
                    if not blob.is_inline:
                        self._blobs.delete(blob.location)
            if not removed:
                return

    def _orphans(self, before: Micros | None) -> Iterator[Stored]:
        """Find committed bytes that neither a blob row nor an open ticket names."""
        for batch in _batched(self._blobs.list_blobs()):
            # In this order: an upload that is finished in between is no longer open, but then it has its row.
            awaited = self._store.open_tickets_among([stored.name for stored in batch])
            known = self._store.known_locations([stored.location for stored in batch])
            for stored in batch:
                is_litter = stored.name not in awaited and stored.location not in known
                if is_litter and (before is None or stored.modify_time < before):
                    yield stored

    def _stale(self, before: Micros | None) -> Iterator[Stored]:
        """Find staged bytes that no open ticket names."""
        for batch in _batched(self._blobs.list_staged()):
            known = self._store.open_tickets_among([stored.name for stored in batch])
            yield from (one for one in batch if one.name not in known and (before is None or one.modify_time < before))

    def _repeat(self, step: Callable[[], int]) -> int:
        total = 0
        while count := step():
            total += count
        return total


def _batched(items: Iterator[Item]) -> Iterator[list[Item]]:
    while batch := list(islice(items, BATCH)):
        yield batch


def _named(stored: Stored) -> dict[str, object]:
    return {"name": stored.name, "size_bytes": stored.size_bytes}

"""Sweeping: what nothing refers to any more goes after a grace period.

Every step can be killed and repeated, and only one sweep runs at a time. Rows go first, then bytes: a blob without a
row is litter that the next sweep finds, a row without a blob would be a lie. Bytes that never had a row are condemned
before they go, so that an upload which has stored them, and only now comes to write its rows, is refused instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from remora_server.core import litter, ownership
from remora_server.core.errors import RemoraError, StorageUnavailableError
from remora_server.core.leases import Leases
from remora_server.core.litter import BATCH, Beat
from remora_server.core.model import Blob, Micros, Ticket, TicketState
from remora_server.core.ports import BlobStore, Changes, Clock, MetadataStore, Stored
from remora_server.core.quota import end_due_tickets
from remora_server.core.repeats import LIFETIME
from remora_server.core.values import dataclass, replace
from remora_server.core.webhook_deliveries import KEPT as DELIVERIES_KEPT

LEASE = "sweep"
EVERYTHING = 2**31 - 1
# Far longer than an upload in one piece may take from its last byte to its rows.
CONDEMNED_FOR: Micros = 7 * 24 * 3600 * 1_000_000


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
    failed: int = 0  # What the blob store refused to remove.


Refused = Callable[[str, Exception], None]
Redeem = Callable[[str, str], object]  # of the asset of a workspace's ticket


def _nobody(_name: str, _problem: Exception) -> None:
    """Hear of no refusal."""


class _Removals:
    """Removes bytes, one by one: what the blob store refuses is counted, and stops nothing else."""

    def __init__(self, blobs: BlobStore, done: Swept, refused: Refused) -> None:
        self._blobs = blobs
        self._done = done
        self._refused = refused
        self._failed: set[str] = set()

    def deleted(self, location: str) -> bool:
        """Remove a blob; tell whether that went well."""
        return self._went_well(location, lambda: self._blobs.delete(location))

    def discarded(self, name: str, *, arrived: bool = False) -> bool:
        """Remove staged bytes; tell whether that went well."""
        return self._went_well(name, lambda: self._blobs.discard(name, arrived=arrived))

    def _went_well(self, name: str, remove: Callable[[], None]) -> bool:
        if name in self._failed:  # What one step could not remove is met by a later one.
            return False
        try:
            remove()
        except Exception as problem:  # noqa: BLE001 - what a store refuses for good has names that core does not know.
            self._blobs.probe()  # Of a store that does not answer at all nothing more is asked.
            self._failed.add(name)
            self._done.failed += 1
            self._refused(name, problem)
            return False
        return True


class Sweep:
    """Removes what nothing refers to; `refused` hears of what the blob store does not remove, and why."""

    def __init__(
        self,
        store: MetadataStore,
        blobs: BlobStore,
        changes: Changes,
        clock: Clock,
        leases: Leases,
        refused: Refused = _nobody,
        redeem: Redeem | None = None,
    ) -> None:
        """Sweep; without `redeem`, assets whose bytes are all there wait for a sweep that can make files of them."""
        self._redeem = redeem
        self._store = store
        self._blobs = blobs
        self._changes = changes
        self._clock = clock
        self._leases = leases
        self._refused = refused

    def sweep(self, grace: Micros, *, dry_run: bool = False, told: Callable[[Swept], None] | None = None) -> Swept:
        """Run one sweep; what is younger than `grace` stays, whatever refers to it.

        `told` hears often what was done so far; it may raise, which ends the sweep in order. Raise LeaseHeldError while
        another sweep runs, and ForeignBlobsError if the blob store belongs to another database.
        """
        ownership.require_own(self._store, self._blobs, claiming=not dry_run)
        done = Swept(dry_run, grace / 1_000_000)
        before = self._clock.now() - grace

        def tell() -> None:
            if told is not None:
                told(done)

        if dry_run:
            self._pretend(before, done, tell)
            return done
        with self._leases.held(LEASE) as keep:

            def beat() -> None:
                tell()
                keep()

            self._sweep(before, done, beat)
        return done

    def _sweep(self, before: Micros, done: Swept, beat: Beat) -> None:
        removals = _Removals(self._blobs, done, self._refused)
        # Rows of tickets go before new ones expire: a late client first hears "expired", only later "not found".
        while count := self._purge_tickets(before):
            done.purged_tickets += count
            beat()
        self._redeem_assets(beat)
        while count := self._changes.run(lambda: end_due_tickets(self._store, self._clock.now())):
            done.expired_tickets += count
            beat()
        self._clear_staged(removals, beat)
        while count := self._changes.run(lambda: self._store.purge_attachments(before, BATCH)):
            done.purged_attachments += count
            beat()
        while count := self._changes.run(lambda: self._store.purge_files(before, BATCH)):
            done.purged_files += count
            beat()
        self._delete_blobs(before, done, removals, beat)
        for batch in litter.batched(litter.orphans(self._store, self._blobs, before, beat)):
            for stored in self._condemn(batch):
                if removals.deleted(stored.location):
                    done.orphan_blobs += 1
                    done.deleted_bytes += stored.size_bytes
                beat()
        for stored in litter.stale(self._store, self._blobs, before, beat):
            if removals.discarded(stored.name):
                done.stale_staged += 1
            beat()
        now = self._clock.now()
        done.forgotten_repeats = self._changes.run(lambda: self._store.delete_repeats(now - LIFETIME))
        self._changes.run(lambda: self._store.forget_condemned(now - CONDEMNED_FOR))
        self._forget_deliveries(now - DELIVERIES_KEPT, beat)

    def _forget_deliveries(self, before: Micros, beat: Beat) -> None:
        # There may be very many, and everybody's changes wait for each removal.
        while self._changes.run(lambda: self._store.delete_webhook_deliveries(before, BATCH)):
            beat()

    def _redeem_assets(self, beat: Beat) -> None:
        """Make files of assets that nobody has read in time; those whose bytes never came expire as other tickets."""
        waiting = 0
        while tickets := self._store.assets_to_redeem(self._clock.now(), BATCH + waiting)[waiting:]:
            for ticket in tickets:
                beat()
                if self._blobs.arrived(ticket.id) is None:
                    self._forgo(ticket)
                elif self._redeem is None or not self._redeemed(self._redeem, ticket):
                    waiting += 1

    def _redeemed(self, redeem: Redeem, ticket: Ticket) -> bool:
        """Redeem an asset; tell whether it is out of the way, one way or the other."""
        try:
            redeem(ticket.workspace_id, ticket.id)
        except StorageUnavailableError:
            return False
        except RemoraError:
            self._forgo(ticket)  # Its bytes are no good, or there is no room for them.
        return True

    def _forgo(self, ticket: Ticket) -> None:
        """Have an asset expire as any other ticket."""
        given_up = replace(ticket, is_asset=False)
        self._changes.run(
            lambda: self._store.update_ticket(given_up, if_state=(ticket.state,), if_epoch=ticket.writer_epoch)
        )

    def _pretend(self, before: Micros, done: Swept, beat: Beat) -> None:
        """Count what a sweep would remove; it only reads, so nobody waits for it."""
        now = self._clock.now()
        rows = self._store.count_sweepable(before, now, now - LIFETIME)
        done.purged_tickets, done.expired_tickets = rows.closed_tickets, rows.due_tickets
        done.purged_attachments, done.purged_files = rows.attachments, rows.files
        done.deleted_blobs, done.deleted_bytes = rows.blobs, rows.blob_bytes
        done.forgotten_repeats = rows.repeats
        # What is cleared with its ticket is no litter.
        given_up = [one for one in self._store.tickets_to_clear(EVERYTHING) if one.state is not TicketState.COMPLETED]
        staged = {ticket.id for ticket in given_up}
        arrived = {ticket.id for ticket in given_up if ticket.is_direct}
        for stored in litter.orphans(self._store, self._blobs, before, beat):
            if stored.name not in arrived:
                done.orphan_blobs += 1
                done.deleted_bytes += stored.size_bytes
        stale = litter.stale(self._store, self._blobs, before, beat)
        done.stale_staged = sum(1 for one in stale if one.name not in staged)

    def _purge_tickets(self, before: Micros) -> int:
        return self._changes.run(lambda: self._purge_ticket_rows(before))

    def _purge_ticket_rows(self, before: Micros) -> int:
        ticket_ids = self._store.tickets_closed_before(before, BATCH)
        self._store.delete_tickets(ticket_ids)
        return len(ticket_ids)

    def _clear_staged(self, removals: _Removals, beat: Beat) -> None:
        failed: set[str] = set()
        while tickets := [one for one in self._store.tickets_to_clear(BATCH + len(failed)) if one.id not in failed]:
            for ticket in tickets:
                if ticket.state is not TicketState.COMPLETED:
                    if not removals.discarded(ticket.id, arrived=ticket.is_direct):
                        failed.add(ticket.id)
                    beat()
            cleared = [ticket for ticket in tickets if ticket.id not in failed]

            def clear(cleared: Sequence[Ticket] = cleared) -> None:
                for ticket in cleared:
                    self._store.update_ticket(
                        replace(ticket, staged_removed=True), if_state=(ticket.state,), if_epoch=None
                    )

            self._changes.run(clear)

    def _delete_blobs(self, before: Micros, done: Swept, removals: _Removals, beat: Beat) -> None:
        while blobs := self._store.unreferenced_blobs(before, BATCH):

            def delete(free: Sequence[Blob] = blobs) -> Sequence[Blob]:
                return [blob for blob in free if self._store.delete_blob_if_unreferenced(blob.id)]

            removed = self._changes.run(delete)
            if not removed:
                return
            for blob in removed:
                # Its row has gone: if its bytes stay, they are litter, which a later sweep tries to remove.
                if blob.is_inline or removals.deleted(blob.location):
                    done.deleted_blobs += 1
                    done.deleted_bytes += blob.size_bytes
                beat()

    def _condemn(self, found: Sequence[Stored]) -> Sequence[Stored]:
        """Decide, together with every other change, which bytes get no row any more; return them."""

        def decide() -> Sequence[Stored]:
            condemned = litter.unnamed(self._store, found)
            self._store.condemn([stored.location for stored in condemned], self._clock.now())
            return condemned

        return self._changes.run(decide)

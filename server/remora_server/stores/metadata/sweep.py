"""What is swept away in the end, and what a check of the whole store asks."""

from __future__ import annotations

from collections.abc import Sequence

import peewee

from remora_server.core.model import OPEN_STATES, Blob, Micros, Ticket, TicketState
from remora_server.core.ports import Sweepable
from remora_server.stores import tables
from remora_server.stores.kept import Query, Slot, kept, kept_insert
from remora_server.stores.metadata.blobs import BLOB, blob_from
from remora_server.stores.metadata.rows import portions
from remora_server.stores.metadata.tickets import TICKET, TicketRows
from remora_server.stores.tables import Attachments, Blobs, Condemned, Files, Renditions, StoreInfo, Tickets

OPEN = [state.value for state in OPEN_STATES]
CLOSED = [state.value for state in TicketState if state not in OPEN_STATES]
COUNTED = {
    "workspaces": tables.Workspaces,
    "users": tables.Users,
    "keys": tables.Keys,
    "projects": tables.Projects,
    "issues": tables.Issues,
    "attachments": tables.Attachments,
    "files": tables.Files,
    "blobs": tables.Blobs,
    "renditions": tables.Renditions,
    "tickets": tables.Tickets,
    "links": tables.Links,
    "activities": tables.Activities,
    "repeats": tables.Repeats,
}


ADD_CONDEMNED = kept_insert(Condemned, (Condemned.location, Condemned.condemn_time), or_nothing=True)


@kept
def _condemned(location: Slot) -> Query:
    return Condemned.select(Condemned.condemn_time).where(Condemned.location == location)


@kept
def _delete_if_unreferenced(blob_id: Slot) -> Query:
    return Blobs.delete().where(Blobs.id == blob_id, _is_unreferenced())


def _is_unreferenced() -> peewee.ColumnBase:
    held = Files.select(peewee.SQL("1")).where(Files.blob_id == Blobs.id)
    test: peewee.ColumnBase = ~peewee.fn.EXISTS(held) & ~peewee.fn.EXISTS(_shows())
    return test


def _shows() -> peewee.ModelSelect[Renditions]:
    """Select what a blob shows; one that shows itself, as a picture made of one that was made here may, shows none."""
    return Renditions.select(peewee.SQL("1")).where(
        Renditions.shown_blob_id == Blobs.id, Renditions.blob_id != Blobs.id
    )


def _is_unreferenced_after_purge(gone_before: Micros) -> peewee.ColumnBase:
    """Select blobs that no file names but such as would be purged."""
    # Where a time is not set the test is neither true nor false, and NOT would leave it so.
    stays = ~peewee.fn.COALESCE(_purgeable_files(gone_before), False)  # noqa: FBT003 - a value in SQL.
    kept = Files.select(peewee.SQL("1")).where(Files.blob_id == Blobs.id, stays)
    shown = _shows().join(Files, on=Files.blob_id == Renditions.blob_id).where(stays)
    test: peewee.ColumnBase = ~peewee.fn.EXISTS(kept) & ~peewee.fn.EXISTS(shown)
    return test


def _purgeable_files(gone_before: Micros) -> peewee.Expression:
    """Select files whose time is over, unless an attachment holds them that is live or may still be undeleted."""
    holds = Attachments.select(peewee.SQL("1")).where(
        Attachments.file_id == Files.id,
        Attachments.file_id != tables.EMPTY,
        Attachments.delete_time.is_null() | (Attachments.delete_time >= gone_before),
    )
    test: peewee.Expression = (Files.delete_time < gone_before) | (
        (Files.detach_time < gone_before) & ~peewee.fn.EXISTS(holds)
    )
    return test


def _due_tickets(now: Micros) -> Sequence[peewee.ColumnBase]:
    return Tickets.state.in_(OPEN), Tickets.expire_time <= now, ~Tickets.is_asset


def _old_tickets(time: Micros) -> Sequence[peewee.ColumnBase]:
    return Tickets.state.in_(CLOSED), Tickets.expire_time < time, Tickets.staged_removed


class Sweep(TicketRows):
    """The broom."""

    def tickets_to_expire(self, now: Micros, limit: int, workspace_id: str = "") -> Sequence[Ticket]:
        """Return open tickets whose time is up, of one workspace or of all."""
        query = Tickets.select(*TICKET).where(*_due_tickets(now))
        if workspace_id:
            query = query.where(Tickets.workspace_id == workspace_id)
        return self._tickets(query.limit(limit))

    def assets_to_redeem(self, now: Micros, limit: int) -> Sequence[Ticket]:
        """Return open tickets of assets whose time is up."""
        tests = (Tickets.state.in_(OPEN), Tickets.expire_time <= now, Tickets.is_asset)
        return self._tickets(Tickets.select(*TICKET).where(*tests).order_by(Tickets.expire_time).limit(limit))

    def tickets_to_clear(self, limit: int) -> Sequence[Ticket]:
        """Return closed tickets whose staged bytes were not removed yet."""
        return self._tickets(
            Tickets.select(*TICKET).where(Tickets.state.in_(CLOSED), ~Tickets.staged_removed).limit(limit)
        )

    def tickets_closed_before(self, time: Micros, limit: int) -> Sequence[str]:
        """Return ids of cleared tickets that expired before `time`."""
        query = Tickets.select(Tickets.id).where(*_old_tickets(time))
        return [row[0] for row in self._db.select(query.limit(limit))]

    def delete_tickets(self, ticket_ids: Sequence[str]) -> None:
        """Remove tickets for good."""
        for some in portions(ticket_ids):
            self._db.execute(Tickets.delete().where(Tickets.id.in_(some)))

    def purge_attachments(self, deleted_before: Micros, limit: int) -> int:
        """Remove attachments that were deleted before a time; return how many."""
        gone = Attachments.select(Attachments.id).where(Attachments.delete_time < deleted_before).limit(limit)
        return self._db.execute(Attachments.delete().where(Attachments.id.in_(gone)))

    def purge_files(self, gone_before: Micros, limit: int) -> int:
        """Remove files deleted, or without any attachment again, before a time; return how many."""
        gone = Files.select(Files.id).where(_purgeable_files(gone_before)).limit(limit)
        return self._db.execute(Files.delete().where(Files.id.in_(gone)))

    def unreferenced_blobs(self, created_before: Micros, limit: int) -> Sequence[Blob]:
        """Return blobs that no file row names."""
        query = Blobs.select(*BLOB).where(Blobs.create_time < created_before, _is_unreferenced())
        return [blob_from(row) for row in self._db.select(query.limit(limit))]

    def delete_blob_if_unreferenced(self, blob_id: str) -> bool:
        """Remove a blob's row unless a file names it by now."""
        return self._db.change(_delete_if_unreferenced, blob_id) > 0

    def count_sweepable(self, before: Micros, now: Micros, repeats_before: Micros) -> Sweepable:
        """Count, without a lock, what the removals above would find one after the other."""

        def count(table: type[peewee.Model], *tests: peewee.ColumnBase) -> int:
            return self._count(table.select(peewee.fn.COUNT(peewee.SQL("*"))).where(*tests))

        free = Blobs.select(peewee.fn.COUNT(Blobs.id), peewee.fn.COALESCE(peewee.fn.SUM(Blobs.size_bytes), 0)).where(
            Blobs.create_time < before, _is_unreferenced_after_purge(before)
        )
        # PostgreSQL sums whole numbers up to a decimal.
        blobs, blob_bytes = map(int, self._db.select(free)[0])
        return Sweepable(
            closed_tickets=count(Tickets, *_old_tickets(before)),
            due_tickets=count(Tickets, *_due_tickets(now)),
            attachments=count(Attachments, Attachments.delete_time < before),
            files=count(Files, _purgeable_files(before)),
            blobs=blobs,
            blob_bytes=blob_bytes,
            repeats=count(tables.Repeats, tables.Repeats.create_time < repeats_before),
        )

    def condemn(self, locations: Sequence[str], time: Micros) -> None:
        """Note that bytes which no row names are being removed, so that none names them later."""
        for location in locations:
            self._db.write(ADD_CONDEMNED, location, time)

    def is_condemned(self, location: str) -> bool:
        """Tell whether bytes are being removed, or were."""
        return self._db.row(_condemned, location) is not None

    def forget_condemned(self, before: Micros) -> int:
        """Forget what was condemned before a time; return how many."""
        return self._db.execute(Condemned.delete().where(Condemned.condemn_time < before))

    def blobs_after(self, blob_id: str, limit: int) -> Sequence[Blob]:
        """Return blobs by id upwards, for a walk over all of them."""
        query = Blobs.select(*BLOB).where(Blobs.id > blob_id).order_by(Blobs.id).limit(limit)
        return [blob_from(row) for row in self._db.select(query)]

    def known_locations(self, locations: Sequence[str]) -> set[str]:
        """Return those locations that a blob row names."""
        known: set[str] = set()
        for some in portions(locations):
            known.update(
                row[0] for row in self._db.select(Blobs.select(Blobs.location).where(Blobs.location.in_(some)))
            )
        return known

    def has_stored_blobs(self) -> bool:
        """Tell whether any blob lies in the blob store."""
        return bool(self._db.select(Blobs.select(Blobs.location).where(Blobs.location > tables.EMPTY).limit(1)))

    def open_tickets_among(self, ticket_ids: Sequence[str]) -> set[str]:
        """Return those tickets that are open."""
        found: set[str] = set()
        for some in portions(ticket_ids):
            query = Tickets.select(Tickets.id).where(Tickets.id.in_(some), Tickets.state.in_(OPEN))
            found.update(row[0] for row in self._db.select(query))
        return found

    def counts(self) -> dict[str, int]:
        """Return the numbers of rows by noun."""
        return {noun: self._count(table.select(peewee.fn.COUNT(peewee.SQL("*")))) for noun, table in COUNTED.items()}

    def dangling_files(self) -> Sequence[str]:
        """Return ids of files whose blob has no row."""
        blob = Blobs.select(peewee.SQL("1")).where(Blobs.id == Files.blob_id)
        query = Files.select(Files.id).where(~peewee.fn.EXISTS(blob)).order_by(Files.id)
        return [row[0] for row in self._db.select(query)]

    def store_id(self) -> str:
        """Return the identity that the database got when it was made."""
        return self._fact("store_id")

    def signing_key(self) -> bytes:
        """Return the secret that was made with the database, for all servers that share it."""
        return bytes.fromhex(self._fact("signing_key"))

    def _fact(self, name: str) -> str:
        rows = self._db.select(StoreInfo.select(StoreInfo.value).where(StoreInfo.name == name))
        return str(rows[0][0])

"""What workspaces are charged, and what their tickets hold."""

from __future__ import annotations

from collections.abc import Sequence

import peewee

from remora_server.core.model import FileState
from remora_server.core.ports import Tally
from remora_server.stores.kept import Query, Slot, kept
from remora_server.stores.metadata.rows import Rows
from remora_server.stores.tables import Files, Tickets, Workspaces

HELD = Workspaces.used_bytes + Workspaces.reserved_bytes


@kept
def _charge(delta_bytes: Slot, workspace_id: Slot) -> Query:
    return Workspaces.update({Workspaces.used_bytes: Workspaces.used_bytes + delta_bytes}).where(
        Workspaces.id == workspace_id
    )


@kept
def _charge_within(delta_bytes: Slot, workspace_id: Slot, limit_bytes: Slot) -> Query:
    return Workspaces.update({Workspaces.used_bytes: Workspaces.used_bytes + delta_bytes}).where(
        Workspaces.id == workspace_id, HELD + delta_bytes <= limit_bytes
    )


@kept
def _reserve(delta_bytes: Slot, workspace_id: Slot) -> Query:
    return Workspaces.update({Workspaces.reserved_bytes: Workspaces.reserved_bytes + delta_bytes}).where(
        Workspaces.id == workspace_id
    )


@kept
def _reserve_within(delta_bytes: Slot, workspace_id: Slot, limit_bytes: Slot) -> Query:
    return Workspaces.update({Workspaces.reserved_bytes: Workspaces.reserved_bytes + delta_bytes}).where(
        Workspaces.id == workspace_id, HELD + delta_bytes <= limit_bytes
    )


@kept
def _counters(workspace_id: Slot) -> Query:
    return Workspaces.select(Workspaces.used_bytes, Workspaces.reserved_bytes).where(Workspaces.id == workspace_id)


@kept
def _held_by_ticket(ticket_id: Slot) -> Query:
    return Tickets.select(Tickets.workspace_id, Tickets.reserved_bytes).where(Tickets.id == ticket_id)


@kept
def _note_held(reserved_bytes: Slot, ticket_id: Slot) -> Query:
    return Tickets.update({Tickets.reserved_bytes: reserved_bytes}).where(Tickets.id == ticket_id)


class QuotaRows(Rows):
    """Two counters of each workspace."""

    def charge(self, workspace_id: str, delta_bytes: int, limit_bytes: int) -> bool:
        """Add to the bytes that a workspace uses; False, and nothing is added, if that would pass a limit above 0.

        Giving back is never refused, even where a limit was lowered below what is used.
        """
        if limit_bytes > 0 and delta_bytes > 0:
            return self._db.change(_charge_within, delta_bytes, workspace_id, limit_bytes) > 0
        return self._db.change(_charge, delta_bytes, workspace_id) > 0

    def reserve(self, ticket_id: str, reserved_bytes: int, limit_bytes: int) -> bool:
        """Have a ticket hold so many bytes of its workspace instead of those that it holds.

        False, and nothing changes, if more than before would pass a limit above 0.
        """
        row = self._db.row(_held_by_ticket, ticket_id)
        if row is None:
            return False
        workspace_id, held = row
        more = reserved_bytes - held
        if limit_bytes > 0 and more > 0:
            if not self._db.change(_reserve_within, more, workspace_id, limit_bytes):
                return False
        else:
            self._db.write(_reserve, more, workspace_id)
        return self._db.change(_note_held, reserved_bytes, ticket_id) > 0

    def used_bytes(self, workspace_id: str) -> int:
        """Return the bytes charged to a workspace."""
        row = self._db.row(_counters, workspace_id)
        return row[0] if row else 0

    def reserved_bytes(self, workspace_id: str) -> int:
        """Return the bytes that a workspace's tickets hold."""
        row = self._db.row(_counters, workspace_id)
        return row[1] if row else 0

    def tallies(self) -> Sequence[Tally]:
        """Count each workspace's quota anew, all as of one moment."""
        paid = (
            Files.workspace_id == Workspaces.id,
            Files.state != FileState.DELETED.value,
            Files.detach_time.is_null(),
        )
        query = Workspaces.select(
            Workspaces.id,
            Workspaces.used_bytes,
            _sum(Files.size_bytes).where(*paid),
            Workspaces.reserved_bytes,
            _sum(Tickets.reserved_bytes).where(Tickets.workspace_id == Workspaces.id),
        )
        # PostgreSQL sums whole numbers up to a decimal.
        return [Tally(row[0], *map(int, row[1:])) for row in self._db.select(query.order_by(Workspaces.id))]


def _sum(column: peewee.Field) -> peewee.ModelSelect[peewee.Model]:
    made: peewee.ModelSelect[peewee.Model] = column.model.select(peewee.fn.COALESCE(peewee.fn.SUM(column), 0))
    return made

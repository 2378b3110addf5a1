"""Leases."""

from __future__ import annotations

from remora_server.core.model import Lease, Micros
from remora_server.stores.kept import Query, Slot, kept
from remora_server.stores.metadata.rows import Rows
from remora_server.stores.tables import Leases


@kept
def _take(name: Slot, holder: Slot, expire_time: Slot, now: Slot) -> Query:
    added = Leases.insert({Leases.name: name, Leases.holder: holder, Leases.expire_time: expire_time})
    return added.on_conflict(
        conflict_target=[Leases.name],
        preserve=(Leases.holder, Leases.expire_time),
        where=(Leases.holder == holder) | (Leases.expire_time <= now),
    )


@kept
def _lease(name: Slot) -> Query:
    return Leases.select(Leases.name, Leases.holder, Leases.expire_time).where(Leases.name == name)


@kept
def _drop(name: Slot, holder: Slot) -> Query:
    return Leases.delete().where(Leases.name == name, Leases.holder == holder)


class LeaseRows(Rows):
    """Who alone may do something."""

    def take_lease(self, wanted: Lease, now: Micros) -> Lease:
        """Take or renew a lease, unless another's has not run out; return the one that holds now."""
        self._db.change(_take, wanted.name, wanted.holder, wanted.expire_time, now)
        row = self._db.row(_lease, wanted.name)
        return wanted if row is None else Lease(*row)

    def drop_lease(self, name: str, holder: str) -> None:
        """Give back a lease, if it is this holder's."""
        self._db.change(_drop, name, holder)

"""Sessions of uploads into a blob store elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import peewee

from remora_server.core.model import OPEN_STATES
from remora_server.core.ports import Session, Stored
from remora_server.stores.kept import Kept, Query, Slot, kept
from remora_server.stores.metadata.rows import Rows, portions
from remora_server.stores.tables import EMPTY, Tickets, UploadSessions

MUTABLE = (
    UploadSessions.url,
    UploadSessions.epoch,
    UploadSessions.is_direct,
    UploadSessions.sent_bytes,
    UploadSessions.tail,
    UploadSessions.location,
    UploadSessions.update_time,
)
SESSION = (UploadSessions.name, UploadSessions.create_time, *MUTABLE)


@kept
def _session_by_name(name: Slot) -> Query:
    return UploadSessions.select(*SESSION).where(UploadSessions.name == name)


def _keep(*values: Slot) -> Query:
    return UploadSessions.insert(dict(zip(SESSION, values, strict=True))).on_conflict(
        conflict_target=[UploadSessions.name],
        preserve=MUTABLE,
        where=UploadSessions.epoch <= peewee.EXCLUDED.epoch,
    )


KEEP = Kept(_keep, len(SESSION))


@kept
def _overtaken(name: Slot, epoch: Slot) -> Query:
    """Return what shows that a writer comes too late: its session may be gone, with what it had told of itself."""
    has_ended = Tickets.state.not_in([state.value for state in OPEN_STATES])
    return Tickets.select(Tickets.id).where(Tickets.id == name, has_ended | (Tickets.writer_epoch > epoch))


@kept
def _delete(name: Slot) -> Query:
    return UploadSessions.delete().where(UploadSessions.name == name)


class SessionRows(Rows):
    """Sessions."""

    def session(self, name: str) -> Session | None:
        """Find a session."""
        row = self._db.row(_session_by_name, name)
        if row is None:
            return None
        _, create_time, url, epoch, is_direct, sent_bytes, tail, location, update_time = row
        tail = bytes(tail)
        return Session(name, url, epoch, bool(is_direct), sent_bytes, tail, location, create_time, update_time)

    def keep_session(self, changed: Session) -> bool:
        """Keep a session, unless its ticket has ended or a higher epoch, or one of a higher epoch is kept; tell so."""
        if self._db.row(_overtaken, changed.name, changed.epoch) is not None:
            return False
        return self._db.change(KEEP, *_values(changed)) > 0

    def delete_session(self, name: str) -> None:
        """Forget a session."""
        self._db.write(_delete, name)

    def list_sessions(self, after: str, limit: int) -> Sequence[Stored]:
        """Return what is staged in sessions, by name upwards."""
        size = UploadSessions.sent_bytes + peewee.fn.LENGTH(UploadSessions.tail)
        query = UploadSessions.select(UploadSessions.name, size, UploadSessions.update_time)
        query = query.where(UploadSessions.name > after).order_by(UploadSessions.name).limit(limit)
        return [Stored(name, "", size_bytes, time) for name, size_bytes, time in self._db.select(query)]

    def sealed_among(self, names: Sequence[str]) -> set[str]:
        """Return those names whose sessions have come to a location: what lies there is staged yet, no blob."""
        found: set[str] = set()
        for some in portions(names):
            query = UploadSessions.select(UploadSessions.name)
            query = query.where(UploadSessions.name.in_(some), UploadSessions.location != EMPTY)
            found.update(name for (name,) in self._db.select(query))
        return found


def _values(one: Session) -> tuple[object, ...]:
    return (
        one.name,
        one.create_time,
        one.url,
        one.epoch,
        one.is_direct,
        one.sent_bytes,
        one.tail,
        one.location,
        one.update_time,
    )

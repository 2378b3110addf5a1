"""The log of changes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import peewee

from remora_server.core.model import Activity
from remora_server.core.ports import ActivityQuery, Position
from remora_server.stores.database import Row
from remora_server.stores.kept import Query, Slot, kept, kept_insert
from remora_server.stores.metadata.rows import (
    Rows,
    any_of,
    columns_of,
    decode_json,
    encode_json,
    place,
    subject_of,
    within,
)
from remora_server.stores.tables import EMPTY, Activities, StoreInfo

ADDED = (
    Activities.id,
    Activities.type,
    Activities.workspace_id,
    Activities.subject_type,
    Activities.subject_id,
    Activities.subject_key,
    Activities.actor_id,
    Activities.occur_time,
    Activities.resource_id,
    Activities.changed_fields,
    Activities.payload,
    Activities.request_id,
    Activities.visible_to,
)
ACTIVITY = (Activities.seq, *ADDED)
ACTOR = place(ACTIVITY, Activities.actor_id)
ADD_ACTIVITY = kept_insert(Activities, ADDED)


@kept
def _activity_by_id(workspace_id: Slot, activity_id: Slot) -> Query:
    return Activities.select(*ACTIVITY).where(Activities.id == activity_id, Activities.workspace_id == workspace_id)


@kept
def _watch_all(workspace_id: Slot, after: Slot, limit: Slot) -> Query:
    return _watched(workspace_id, after).limit(limit)


@kept
def _watch_as(workspace_id: Slot, after: Slot, reader: Slot, limit: Slot) -> Query:
    return _watched(workspace_id, after).where(_for_reader(reader)).limit(limit)


@kept
def _active(after: Slot) -> Query:
    return Activities.select(Activities.workspace_id).where(Activities.seq > after).distinct()


@kept
def _bounds() -> Query:
    floor = StoreInfo.select(StoreInfo.value).where(StoreInfo.name == peewee.SQL("'activity_floor'"))
    return Activities.select(floor, peewee.fn.MAX(Activities.seq))


def _watched(workspace_id: Slot, after: Slot) -> peewee.ModelSelect[Activities]:
    wanted = Activities.select(*ACTIVITY).where(Activities.workspace_id == workspace_id, Activities.seq > after)
    return wanted.order_by(Activities.seq)


def _for_reader(reader: object) -> peewee.Expression:
    return (Activities.visible_to == EMPTY) | (Activities.visible_to == reader)


class ActivityRows(Rows):
    """The log. Whoever writes holds the database's one write lock, so entries become visible in their order."""

    def add_activity(self, new: Activity) -> None:
        """Append to the log; the store gives the sequence number."""
        self._db.write(
            ADD_ACTIVITY,
            new.id,
            new.type,
            new.workspace_id,
            *columns_of(new.subject),
            new.actor.id,
            new.occur_time,
            new.resource_id,
            ",".join(new.changed_fields),
            encode_json(new.payload) if new.payload else "",
            new.request_id,
            new.visible_to,
        )

    def activity(self, workspace_id: str, activity_id: str) -> Activity | None:
        """Find one entry."""
        row = self._db.row(_activity_by_id, workspace_id, activity_id)
        return None if row is None else self._activity(row)

    def list_activities(self, query: ActivityQuery, after: Position | None, limit: int) -> Sequence[Activity]:
        """Return entries by sequence number, in the query's direction."""
        if query == ActivityQuery(query.workspace_id, reader=query.reader, newest_first=False):
            start = 0 if after is None else after[0]
            if query.reader:
                rows = self._db.rows(_watch_as, query.workspace_id, start, query.reader, limit)
            else:
                rows = self._db.rows(_watch_all, query.workspace_id, start, limit)
        else:
            tests = _tests(query)
            if after is not None:
                tests.append(Activities.seq < after[0] if query.newest_first else Activities.seq > after[0])
            order = Activities.seq.desc() if query.newest_first else Activities.seq
            rows = self._db.select(Activities.select(*ACTIVITY).where(*tests).order_by(order).limit(limit))
        self._actors.prepare(row[ACTOR] for row in rows)
        return [self._activity(row) for row in rows]

    def count_activities(self, query: ActivityQuery) -> int:
        """Count what list_activities would return in all."""
        return self._count(Activities.select(peewee.fn.COUNT(Activities.seq)).where(*_tests(query)))

    def count_activities_behind(self, query: ActivityQuery, seq: int, limit: int) -> int:
        """Count entries after a sequence number, up to a limit."""
        behind = Activities.select(Activities.seq).where(*_tests(query), Activities.seq > seq).limit(limit)
        return self._count(peewee.Select([behind.alias("behind")], [peewee.fn.COUNT(peewee.SQL("*"))]))

    def workspaces_active_after(self, seq: int) -> Collection[str]:
        """Return the workspaces that have entries after a sequence number."""
        return {row[0] for row in self._db.rows(_active, seq)}

    def activity_bounds(self) -> tuple[int, int]:
        """Return the sequence numbers of the last entry that was removed (0 if none) and of the newest one."""
        row = self._db.row(_bounds)
        floor = int(row[0] or 0) if row else 0
        return floor, max(floor, row[1] or 0) if row else floor

    def _activity(self, row: Row) -> Activity:
        # fmt: off
        (
            seq, id_, type_, workspace_id, subject_type, subject_id, subject_key, actor_id, occur_time,
            resource_id, changed_fields, payload, request_id, visible_to,
        ) = row
        # fmt: on
        return Activity(
            seq=seq,
            id=id_,
            type=type_,
            workspace_id=workspace_id,
            subject=subject_of(subject_type, subject_id, subject_key),
            actor=self._actors[actor_id],
            occur_time=occur_time,
            resource_id=resource_id,
            changed_fields=tuple(changed_fields.split(",")) if changed_fields else (),
            payload=decode_json(payload) if payload else {},
            request_id=request_id,
            visible_to=visible_to,
        )


def _tests(query: ActivityQuery) -> list[peewee.Expression]:
    tests = [Activities.workspace_id == query.workspace_id]
    if query.reader:
        tests.append(_for_reader(query.reader))
    if query.subjects:
        tests.append(
            any_of(
                [(Activities.subject_type == type_) & (Activities.subject_id == id_) for type_, id_ in query.subjects]
            )
        )
    if query.actor_ids:
        tests.append(Activities.actor_id.in_(list(query.actor_ids)))
    if query.types:
        tests.append(Activities.type.in_(list(query.types)))
    return tests + within(Activities.occur_time, query.occurred_from, query.occurred_to)

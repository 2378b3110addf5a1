"""The log of changes: written in the transaction of the change itself, read by list, by watch and by webhooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from remora_server.core import access, errors, fields, ids
from remora_server.core.model import Activity, Caller, Page, Subject
from remora_server.core.pages import Pages
from remora_server.core.ports import ActivityQuery, Clock, MetadataStore
from remora_server.core.subjects import Subjects
from remora_server.core.values import dataclass, replace

WATCH_BATCH = 100


@dataclass(frozen=True, slots=True)
class Cursors:
    """How far the log reaches back and how far it has come."""

    earliest: str
    head: str


class ActivityLog:
    """Records and reads activities."""

    def __init__(self, store: MetadataStore, pages: Pages, clock: Clock, subjects: Subjects) -> None:
        self._store = store
        self._pages = pages
        self._clock = clock
        self._subjects = subjects

    def record(
        self,
        caller: Caller,
        type_: str,
        resource_id: str,
        payload: Mapping[str, object],
        *,
        subject: Subject | None = None,
        changed_fields: Sequence[str] = (),
        visible_to: str = "",
    ) -> None:
        """Append one entry; call it inside the transaction of the change that it tells of."""
        self._store.add_activity(
            Activity(
                seq=0,
                id=ids.new_id(ids.ACTIVITY),
                type=type_,
                workspace_id=caller.workspace_id,
                subject=subject,
                actor=caller.actor,
                occur_time=self._clock.now(),
                resource_id=resource_id,
                changed_fields=changed_fields,
                payload=payload,
                request_id=caller.request_id,
                visible_to=visible_to,
            )
        )

    def get(self, caller: Caller, activity_id: str) -> Activity:
        """Return one entry."""
        found = self._store.activity(caller.workspace_id, ids.parse(ids.ACTIVITY, activity_id, "activity_id"))
        if found is None or not access.may_see_activity(caller, found):
            raise errors.NotFoundError("activity", f"activities/{activity_id}")
        return found

    def list(
        self,
        caller: Caller,
        wanted: ActivityQuery,
        subject: Subject | None,
        *,
        page_size: int = 0,
        page_token: str = "",
        include_total_size: bool = False,
        behind: str = "",
    ) -> Page[Activity]:
        """Return a page of the log, newest first unless the query says otherwise; `behind` names where to begin."""
        workspace_id = access.enter(caller, wanted.workspace_id)
        fields.filters(actor_ids=wanted.actor_ids, types=wanted.types)
        query = self._for_reader(caller, replace(wanted, workspace_id=workspace_id))
        if subject is not None:
            query = replace(query, subjects=(self._resolved(caller, subject),))
        start = (self.get(caller, behind).seq,) if behind else None
        page = self._pages.page(
            ("activities", caller.principal_id, query),
            page_size,
            page_token,
            lambda after, limit: self._store.list_activities(query, after or start, limit),
            lambda last: (last.seq,),
        )
        return replace(page, total_size=self._store.count_activities(query)) if include_total_size else page

    def cursors(self, caller: Caller, workspace: str) -> Cursors:
        """Return the cursors before the earliest and after the newest entry."""
        workspace_id = access.enter(caller, workspace)
        floor, head = self._store.activity_bounds()
        return Cursors(self.cursor(workspace_id, floor), self.cursor(workspace_id, head))

    def cursor(self, workspace_id: str, seq: int) -> str:
        """Seal a place in the log."""
        return self._pages.token(f"log/{workspace_id}", (seq,), lifetime=None)

    def watch_from(self, caller: Caller, workspace: str, start_cursor: str) -> int:
        """Return the number that a watch begins after; raise CursorCompactedError if the log lost that place."""
        workspace_id = access.enter(caller, workspace)
        floor, head = self._store.activity_bounds()
        if not start_cursor:
            return head
        seq = int(self._pages.position(f"log/{workspace_id}", start_cursor, "start_cursor")[0])
        if seq < floor:
            raise errors.CursorCompactedError(self.cursor(workspace_id, floor))
        return seq

    def watch_query(self, caller: Caller, subjects: Sequence[Subject], types: Sequence[str]) -> ActivityQuery:
        """Turn a watch request into the query that each of its batches runs."""
        fields.filters(subjects=subjects, types=types)
        query = ActivityQuery(
            caller.workspace_id,
            subjects=tuple(self._resolved(caller, subject) for subject in subjects),
            types=tuple(types),
            newest_first=False,
        )
        return self._for_reader(caller, query)

    def after(self, query: ActivityQuery, seq: int) -> tuple[Sequence[Activity], int]:
        """Return the next entries behind `seq`, and the place up to which nothing else can match.

        Entries are numbered by the one writer while it holds the database's write lock, so whatever is visible has
        no gap below it that could fill up later.
        """
        _, head = self._store.activity_bounds()
        found = self._store.list_activities(query, (seq,), WATCH_BATCH)
        if len(found) == WATCH_BATCH:
            return found, found[-1].seq
        return found, max([seq, head, *(one.seq for one in found)])

    def _for_reader(self, caller: Caller, query: ActivityQuery) -> ActivityQuery:
        return replace(query, reader="" if caller.is_admin else caller.principal_id)

    def _resolved(self, caller: Caller, subject: Subject) -> tuple[str, str]:
        resolved = self._subjects.resolve(caller, subject, register=False)
        return resolved.type, resolved.id

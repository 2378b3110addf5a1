"""Issues of foreign trackers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import peewee

from remora_server.core.model import Assignee, ExternalRef, Issue, IssueStatus
from remora_server.core.ports import IssueQuery, Position
from remora_server.core.values import replace
from remora_server.stores.database import Row
from remora_server.stores.kept import Query, Slot, kept, kept_insert, kept_update
from remora_server.stores.metadata.conditions import expression
from remora_server.stores.metadata.rows import Rows, before, behind, decode_json, encode_metadata, portions
from remora_server.stores.tables import IssueAssignees, Issues

MUTABLE = (
    Issues.key,
    Issues.external_refs,
    Issues.project_id,
    Issues.title,
    Issues.parent_issue_id,
    Issues.status_id,
    Issues.status_name,
    Issues.status_color,
    Issues.status_category,
    Issues.assignees,
    Issues.completed,
    Issues.metadata,
    Issues.update_time,
    Issues.delete_time,
    Issues.version,
)
ISSUE = (Issues.id, Issues.workspace_id, Issues.create_time, *MUTABLE)
CONDITIONS = {
    "id": Issues.id,
    "key": Issues.key,
    "title": Issues.title,
    "create_time": Issues.create_time,
    "update_time": Issues.update_time,
}
ADD_ISSUE = kept_insert(Issues, ISSUE, or_nothing=True)
UPDATE_ISSUE = kept_update(Issues, MUTABLE, Issues.id)


@kept
def _issue_by_id(workspace_id: Slot, issue_id: Slot) -> Query:
    return Issues.select(*ISSUE).where(
        Issues.workspace_id == workspace_id, Issues.id == issue_id, Issues.delete_time.is_null()
    )


@kept
def _issue_by_key(workspace_id: Slot, key: Slot) -> Query:
    return Issues.select(*ISSUE).where(
        Issues.workspace_id == workspace_id, Issues.key == key, Issues.delete_time.is_null()
    )


@kept
def _issue_id_by_key(workspace_id: Slot, key: Slot) -> Query:
    return Issues.select(Issues.id).where(
        Issues.workspace_id == workspace_id, Issues.key == key, Issues.delete_time.is_null()
    )


@kept
def _any_by_key(workspace_id: Slot, key: Slot) -> Query:
    return Issues.select(*ISSUE).where(Issues.workspace_id == workspace_id, Issues.key == key)


class IssueRows(Rows):
    """Issues, which have distinct keys. A deleted one keeps its row, since what hung on it still does."""

    def issue(self, workspace_id: str, issue_id: str) -> Issue | None:
        """Find a live issue by id."""
        row = self._db.row(_issue_by_id, workspace_id, issue_id)
        return None if row is None else _issue(row)

    def issues(self, workspace_id: str, issue_ids: Collection[str]) -> Sequence[Issue]:
        """Return those of some live issues that are there."""
        found = []
        for some in portions(sorted(issue_ids)):
            tests = (Issues.workspace_id == workspace_id, Issues.id.in_(some), Issues.delete_time.is_null())
            found += [_issue(row) for row in self._db.select(Issues.select(*ISSUE).where(*tests))]
        return found

    def issue_by_key(self, workspace_id: str, key: str) -> Issue | None:
        """Find a live issue by key."""
        row = self._db.row(_issue_by_key, workspace_id, key)
        return None if row is None else _issue(row)

    def issue_id_by_key(self, workspace_id: str, key: str) -> str | None:
        """Find the id of a live issue by key; most calls need no more of it."""
        row = self._db.row(_issue_id_by_key, workspace_id, key)
        return None if row is None else str(row[0])

    def find_or_add_issue(self, new: Issue) -> tuple[Issue, bool]:
        """Return the live issue with this key and whether it is `new`; a deleted one becomes it, under its old id."""
        values = (new.id, new.workspace_id, new.create_time, *_mutable(new))
        row, added = self._find_or_add(_any_by_key, (new.workspace_id, new.key), ADD_ISSUE, values)
        if added:
            self._assign(new)
            return new, True
        found = _issue(row)
        if found.delete_time is None:
            return found, False
        revived = replace(new, id=found.id, create_time=found.create_time, version=found.version + 1)
        self.update_issue(revived)
        return revived, True

    def update_issue(self, changed: Issue) -> None:
        """Write all fields of an issue."""
        self._db.write(UPDATE_ISSUE, *_mutable(changed), changed.id)
        self._db.execute(IssueAssignees.delete().where(IssueAssignees.issue_id == changed.id))
        self._assign(changed)

    def list_issues(self, query: IssueQuery, after: Position | None, limit: int) -> Sequence[Issue]:
        """Return live issues by (create_time, id) upwards."""
        tests = [*_tests(query), *_after(query.order, after)]
        wanted = Issues.select(*ISSUE).where(*tests).order_by(*_order(query.order)).limit(limit)
        return [_issue(row) for row in self._db.select(wanted)]

    def list_issues_by_parent(
        self, query: IssueQuery, parent_ids: Collection[str], after: Position | None, limit: int
    ) -> Mapping[str, Sequence[Issue]]:
        """Return what list_issues would for each of some parents."""
        order, place = _order(query.order), peewee.fn.ROW_NUMBER()
        found: dict[str, list[Issue]] = {}
        for some in portions(sorted(parent_ids)):
            tests = [*_tests(query), Issues.parent_issue_id.in_(some), *_after(query.order, after)]
            numbered = Issues.select(
                Issues.id, place.over(partition_by=[Issues.parent_issue_id], order_by=order).alias("place")
            ).where(*tests)
            first = peewee.Select((numbered,), (numbered.c.id,)).where(numbered.c.place <= limit)
            for row in self._db.select(Issues.select(*ISSUE).where(Issues.id.in_(first)).order_by(*order)):
                one = _issue(row)
                found.setdefault(one.parent_issue_id, []).append(one)
        return found

    def count_issues(self, query: IssueQuery) -> int:
        """Count what list_issues would return in all."""
        return self._count(Issues.select(peewee.fn.COUNT(Issues.id)).where(*_tests(query)))

    def _assign(self, issue: Issue) -> None:
        rows = [(issue.id, assignee_id) for assignee_id in dict.fromkeys(one.id for one in issue.assignees)]
        if rows:
            self._db.execute(IssueAssignees.insert_many(rows, [IssueAssignees.issue_id, IssueAssignees.assignee_id]))


def _time(order: str) -> peewee.Field:
    return Issues.update_time if order.startswith("UPDATE") else Issues.create_time


def _order(order: str) -> list[peewee.Node]:
    columns = (_time(order), Issues.id)
    return [one if order.endswith("ASC") else one.desc() for one in columns]


def _after(order: str, after: Position | None) -> list[peewee.Expression]:
    if after is None:
        return []
    follows = behind if order.endswith("ASC") else before
    return [follows(_time(order), Issues.id, after)]


def _tests(query: IssueQuery) -> list[peewee.Expression]:
    tests = [Issues.workspace_id == query.workspace_id, Issues.delete_time.is_null()]
    if query.parent_issue_id:
        tests.append(Issues.parent_issue_id == query.parent_issue_id)
    if query.status_ids:
        tests.append(Issues.status_id.in_(list(query.status_ids)))
    if query.assignee_ids:
        theirs = IssueAssignees.select(IssueAssignees.issue_id).where(
            IssueAssignees.assignee_id.in_(list(query.assignee_ids))
        )
        tests.append(Issues.id.in_(theirs))
    if query.where is not None:
        tests.append(expression(query.where, CONDITIONS))
    if not query.include_completed:
        tests.append(~Issues.completed)
    return tests


def _mutable(issue: Issue) -> tuple[object, ...]:
    status = issue.status
    return (
        issue.key,
        encode_metadata([[ref.source, ref.id] for ref in issue.external_refs]),
        issue.project_id,
        issue.title,
        issue.parent_issue_id,
        status.id,
        status.name,
        status.color,
        status.category,
        encode_metadata([[one.id, one.display_name, one.avatar_url, one.kind] for one in issue.assignees]),
        issue.completed,
        encode_metadata(issue.metadata),
        issue.update_time,
        issue.delete_time,
        issue.version,
    )


def _issue(row: Row) -> Issue:
    # fmt: off
    (
        id_, workspace_id, create_time, key, refs, project_id, title, parent_issue_id,
        status_id, status_name, status_color, status_category, assignees, completed, metadata,
        update_time, delete_time, version,
    ) = row
    # fmt: on
    return Issue(
        id=id_,
        workspace_id=workspace_id,
        key=key,
        external_refs=tuple(ExternalRef(*one) for one in decode_json(refs)) if refs else (),
        project_id=project_id,
        title=title,
        parent_issue_id=parent_issue_id,
        status=IssueStatus(status_id, status_name, status_color, status_category),
        assignees=tuple(Assignee(*one) for one in decode_json(assignees)) if assignees else (),
        completed=bool(completed),
        metadata=decode_json(metadata) if metadata else {},
        create_time=create_time,
        update_time=update_time,
        delete_time=delete_time,
        version=version,
    )

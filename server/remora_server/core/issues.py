"""The registry of issues: what attachments need to know about an issue of a foreign tracker."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from remora_server.core import access, batches, conditions, errors, etags, fields, ids
from remora_server.core.activity import ActivityLog
from remora_server.core.model import Caller, Issue, IssueStatus, Outcome, Page, Subject
from remora_server.core.pages import REVERSED, Pages, Span, Window
from remora_server.core.ports import Changes, Clock, IssueQuery, MetadataStore, Position
from remora_server.core.values import dataclass, replace

MUTABLE = ("external_refs", "project_id", "title", "parent_issue_id", "status", "assignees", "completed", "metadata")
MAX_ABOVE = 100
OUTPUT_ONLY = ("id", "workspace_id", "key", "create_time", "update_time", "delete_time", "etag")


@dataclass(frozen=True, slots=True)
class UpsertedIssue:
    """An issue and what the upsert did to it."""

    issue: Issue
    outcome: Outcome


class Issues:
    """Keeps the issues that a host system pushes."""

    def __init__(self, store: MetadataStore, log: ActivityLog, pages: Pages, clock: Clock) -> None:
        self._store = store
        self._log = log
        self._pages = pages
        self._clock = clock

    def get(self, caller: Caller, workspace: str, *, issue_id: str = "", key: str = "") -> Issue:
        """Return an issue by id, or by key within the workspace."""
        if issue_id:
            return self._by_id(caller, issue_id, "issue_id")
        workspace_id = access.enter(caller, workspace)
        if not key:
            raise errors.invalid("key", "is required unless issue_id is given")
        found = self._store.issue_by_key(workspace_id, key)
        if found is None:
            raise errors.NotFoundError("issue", f"issues/{key}")
        return found

    def get_many(self, caller: Caller, issue_ids: Collection[str]) -> dict[str, Issue]:
        """Return those of some issues that are there, by id."""
        return {one.id: one for one in self._store.issues(caller.workspace_id, issue_ids)}

    def upsert(self, caller: Caller, wanted: Issue, mask: Collection[str], etag: str = "") -> UpsertedIssue:
        """Create the issue with this key, or change the fields that the mask names (none: those that are set)."""
        access.enter(caller, wanted.workspace_id, "issue.workspace_id")
        self._check(wanted)
        populated = [name for name in MUTABLE if getattr(wanted, name) != _EMPTY[name]]
        paths = fields.mask(mask, MUTABLE, OUTPUT_ONLY, populated)
        if wanted.parent_issue_id:
            parent = self._by_id(caller, wanted.parent_issue_id, "issue.parent_issue_id")
            if parent.key == wanted.key:
                raise errors.invalid("issue.parent_issue_id", "is the issue itself")
            wanted = replace(wanted, parent_issue_id=parent.id)
        now = self._clock.now()
        new = replace(
            wanted,
            id=ids.new_id(ids.ISSUE),
            workspace_id=caller.workspace_id,
            create_time=now,
            update_time=now,
            delete_time=None,
            version=1,
        )
        stored, added = self._store.find_or_add_issue(new)
        if added:
            if stored.id != new.id:  # One that was deleted, and may have others below it.
                self._require_above(caller, stored, stored.parent_issue_id)
            self._record(caller, "created", stored)
            return UpsertedIssue(stored, Outcome.CREATED)
        etags.require(etag, stored.version)
        changed = replace(
            stored,
            **{
                **{name: getattr(wanted, name) for name in paths if name in MUTABLE},
                "metadata": fields.merged_metadata(stored.metadata, wanted.metadata, paths, "issue.metadata"),
            },
        )
        differing = [name for name in MUTABLE if getattr(changed, name) != getattr(stored, name)]
        if "metadata" not in differing and not fields.same_metadata(changed.metadata, stored.metadata):
            differing.append("metadata")
        if not differing:
            return UpsertedIssue(stored, Outcome.UNCHANGED)
        if "parent_issue_id" in differing:
            self._require_above(caller, stored, changed.parent_issue_id)
        changed = replace(changed, update_time=now, version=stored.version + 1)
        self._store.update_issue(changed)
        self._record(caller, "updated", changed, differing)
        return UpsertedIssue(changed, Outcome.UPDATED)

    def upsert_many(
        self, caller: Caller, workspace: str, items: Sequence[tuple[Issue, Collection[str], str]], changes: Changes
    ) -> list[UpsertedIssue | errors.RemoraError]:
        """Upsert each item by itself; a second one for the same key is refused."""
        access.enter(caller, workspace)
        seen: set[str] = set()

        def one(item: tuple[Issue, Collection[str], str]) -> UpsertedIssue:
            issue, mask, etag = item
            if issue.key in seen:
                raise errors.DuplicateInBatchError
            seen.add(issue.key)
            return self.upsert(caller, issue, mask, etag)

        return batches.each(changes, items, one)

    def list(
        self,
        caller: Caller,
        wanted: IssueQuery,
        *,
        page_size: int = 0,
        page_token: str = "",
        include_total_size: bool = False,
    ) -> Page[Issue]:
        """Return a page of issues, oldest first; with a parent, its sub-issues."""
        workspace_id = access.enter(caller, wanted.workspace_id)
        fields.filters(status_ids=wanted.status_ids, assignee_ids=wanted.assignee_ids)
        query = replace(wanted, workspace_id=workspace_id)
        if query.parent_issue_id:
            query = replace(query, parent_issue_id=self._by_id(caller, query.parent_issue_id, "parent_issue_id").id)
        page = self._pages.page(
            ("issues", query),
            page_size,
            page_token,
            lambda after, limit: self._store.list_issues(query, after, limit),
            lambda last: (last.create_time, last.id),
        )
        return replace(page, total_size=self._store.count_issues(query)) if include_total_size else page

    def children(
        self, caller: Caller, wanted: IssueQuery, parent_ids: Collection[str], span: Span
    ) -> dict[str, Window[Issue]]:
        """Return for each of some issues a part of its sub-issues, read from either end."""
        if wanted.where is not None:
            conditions.require_bounded(wanted.where)
        query = replace(wanted, workspace_id=access.enter(caller, wanted.workspace_id))
        sealed = ("children", query)
        position = self._pages.start(sealed, span)
        asked = replace(query, order=REVERSED[query.order]) if span.from_end else query
        fetched = self._store.list_issues_by_parent(asked, parent_ids, position, span.size + 1)
        by_update = query.order.startswith("UPDATE")

        def position_of(one: Issue) -> Position:
            return (one.update_time if by_update else one.create_time, one.id)

        return {
            parent_id: self._pages.window(sealed, span, fetched.get(parent_id, ()), position_of)
            for parent_id in parent_ids
        }

    def delete(self, caller: Caller, issue_id: str, etag: str = "", *, allow_missing: bool = False) -> Issue | None:
        """Take an issue out of the registry; what is attached to it stays."""
        stored = self._store.issue(caller.workspace_id, ids.parse(ids.ISSUE, issue_id, "issue_id"))
        if stored is None:
            if allow_missing:
                return None
            raise errors.NotFoundError("issue", f"issues/{issue_id}")
        etags.require(etag, stored.version)
        now = self._clock.now()
        deleted = replace(stored, delete_time=now, update_time=now, version=stored.version + 1)
        self._store.update_issue(deleted)
        self._record(caller, "deleted", deleted)
        return deleted

    def _by_id(self, caller: Caller, issue_id: str, field: str) -> Issue:
        found = self._store.issue(caller.workspace_id, ids.parse(ids.ISSUE, issue_id, field))
        if found is None:
            raise errors.NotFoundError("issue", f"issues/{issue_id}")
        return found

    def _require_above(self, caller: Caller, issue: Issue, parent_issue_id: str) -> None:
        """Refuse a parent that stands below the issue itself."""
        above, field = parent_issue_id, "issue.parent_issue_id"
        for _ in range(MAX_ABOVE):
            if above == issue.id:
                raise errors.invalid(field, "is below the issue itself; take that out of its parent first")
            found = self._store.issue(caller.workspace_id, above) if above else None
            if found is None:
                return
            above = found.parent_issue_id
        raise errors.invalid(field, f"has more than {MAX_ABOVE} issues above it")

    def _record(self, caller: Caller, verb: str, issue: Issue, changed_fields: Sequence[str] = ()) -> None:
        self._log.record(
            caller,
            f"issue.{verb}.v1",
            issue.id,
            {"issue": {"id": issue.id, "key": issue.key, "title": issue.title, "status": issue.status.name}},
            subject=Subject("issue", issue.id, issue.key),
            changed_fields=changed_fields,
        )

    def _check(self, wanted: Issue) -> None:
        check = fields.Check("issue.")
        check.that(wanted.key, "key", "is required")
        check.that(len(wanted.key) <= fields.MAX_KEY_CHARS, "key", f"has more than {fields.MAX_KEY_CHARS} characters")
        check.that(
            wanted.key.isprintable() and wanted.key.strip() == wanted.key,
            "key",
            "holds control characters, or spaces around it",
        )
        check.that(not _is_uuid(wanted.key), "key", "is a UUID, which would be taken for an id")
        for name in ("title", "project_id"):
            check.text(name, getattr(wanted, name))
        for name in ("id", "name", "color", "category"):
            check.text(f"status.{name}", getattr(wanted.status, name))
        check.that(
            len(wanted.assignees) <= fields.MAX_REFERENCES, "assignees", f"has more than {fields.MAX_REFERENCES}"
        )
        for assignee in wanted.assignees:
            check.that(assignee.id, "assignees.id", "is required")
            for text in (assignee.id, assignee.display_name, assignee.avatar_url):
                check.text("assignees", text, "assignee")
        check.that(
            len(wanted.external_refs) <= fields.MAX_REFERENCES,
            "external_refs",
            f"has more than {fields.MAX_REFERENCES}",
        )
        for ref in wanted.external_refs:
            check.external_ref(ref, "external_refs")
        check.metadata(wanted.metadata)
        check.done()


_EMPTY = {
    "external_refs": (),
    "project_id": "",
    "title": "",
    "parent_issue_id": "",
    "status": IssueStatus(),
    "assignees": (),
    "completed": False,
    "metadata": {},
}


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True

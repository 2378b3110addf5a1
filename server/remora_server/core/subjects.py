"""What a subject is: which row, if any, stands behind the type and the id or key that a caller names."""

from __future__ import annotations

from remora_server.core import errors, fields, ids
from remora_server.core.model import Caller, Issue, IssueStatus, Subject
from remora_server.core.ports import Clock, MetadataStore
from remora_server.core.values import replace


class Subjects:
    """Resolves subjects to the id that is the scope of everything attached to them."""

    def __init__(self, store: MetadataStore, clock: Clock, *, strict: bool) -> None:
        self._store = store
        self._clock = clock
        self._strict = strict

    def resolve(self, caller: Caller, subject: Subject, *, register: bool) -> Subject:
        """Return the subject with its id.

        An issue is found by id, UUID or key; an unknown key is registered by a write unless issues are strict, an
        unknown id never. Subjects of other types are known only to the caller and stand for themselves.
        """
        fields.subject(subject)
        if subject.type != "issue":
            return replace(subject, id=subject.id or subject.key)
        if subject.id:
            issue = self._issue(caller, subject.id)
            if subject.key and subject.key != issue.key:
                raise errors.invalid("subject.key", "names another issue than subject.id; give one of them")
            return Subject("issue", issue.id, issue.key)
        known = self._store.issue_id_by_key(caller.workspace_id, subject.key)
        if known is None:
            if not register or self._strict:
                raise errors.NotFoundError("issue", f"issues/{subject.key}")
            known = self._store.find_or_add_issue(self._blank(caller, subject.key))[0].id
        return Subject("issue", known, subject.key)

    def foresee(self, caller: Caller, subject: Subject) -> Subject:
        """Return what a later write will find, and refuse what it would; a key to be registered then has no id yet."""
        try:
            return self.resolve(caller, subject, register=False)
        except errors.NotFoundError:
            if subject.id or self._strict:
                raise
            return subject

    def _issue(self, caller: Caller, issue_id: str) -> Issue:
        found = self._store.issue(caller.workspace_id, ids.parse(ids.ISSUE, issue_id, "subject.id"))
        if found is None:
            raise errors.NotFoundError("issue", f"issues/{issue_id}")
        return found

    def _blank(self, caller: Caller, key: str) -> Issue:
        now = self._clock.now()
        return Issue(
            id=ids.new_id(ids.ISSUE),
            workspace_id=caller.workspace_id,
            key=key,
            external_refs=(),
            project_id="",
            title="",
            parent_issue_id="",
            status=IssueStatus(),
            assignees=(),
            completed=False,
            metadata={},
            create_time=now,
            update_time=now,
            delete_time=None,
            version=1,
        )

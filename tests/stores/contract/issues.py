"""What every metadata store does with issues."""

from __future__ import annotations

from dataclasses import replace

import pytest

from remora_server.core.conditions import Comparison, Operator
from remora_server.core.model import (
    Assignee,
    ExternalRef,
    IssueStatus,
)
from remora_server.core.ports import (
    Changes,
    IssueQuery,
    MetadataStore,
)
from tests.stores.samples import METADATA, NOW, Tenant, at_once, walk


class IssueContract:
    """Issues."""

    def test_issues_everything_comes_back(self, store: MetadataStore, acme: Tenant) -> None:
        """An issue is found by id and key with every field as it was given."""
        issue = acme.issue(
            external_refs=(ExternalRef("jira", "10001"), ExternalRef("x", "y")),
            project_id="prj_1",
            title="A title",
            parent_issue_id="iss_0",
            status=IssueStatus("s1", "Doing", "#fff", "started"),
            assignees=(Assignee("u1", "Jo", "https://e.org", "USER"), Assignee("u2", kind="APP")),
            completed=True,
            metadata=METADATA,
            update_time=NOW + 1,
            version=7,
        )
        assert store.find_or_add_issue(issue) == (issue, True)
        assert store.issue(acme.id, issue.id) == store.issue_by_key(acme.id, "ENG-1") == issue
        assert store.issue("wks_other", issue.id) is store.issue_by_key("wks_other", "ENG-1") is None

    def test_one_live_issue_per_key(self, store: MetadataStore, acme: Tenant) -> None:
        """A key has one issue in its workspace; a deleted one comes back with new facts under its old id."""
        first, second = acme.issue(), acme.issue()
        store.find_or_add_issue(first)
        assert store.find_or_add_issue(second) == (first, False)
        assert store.find_or_add_issue(Tenant(store, "beta").issue())[1]
        gone = replace(first, delete_time=NOW + 1, version=2)
        store.update_issue(gone)
        assert store.issue(acme.id, first.id) is store.issue_by_key(acme.id, "ENG-1") is None
        back = replace(second, id=first.id, version=3)
        assert store.find_or_add_issue(second) == (back, True)
        assert store.issue_by_key(acme.id, "ENG-1") == back
        assert store.find_or_add_issue(second) == (back, False)

    def test_issues_update(self, store: MetadataStore, acme: Tenant) -> None:
        """All fields can change, the assignees with them."""
        issue = acme.issue(assignees=(Assignee("u1"), Assignee("u2")))
        store.find_or_add_issue(issue)
        changed = replace(issue, key="ENG-2", title="New", assignees=(Assignee("u2"), Assignee("u3")), version=2)
        store.update_issue(changed)
        assert store.issue(acme.id, issue.id) == changed
        assert store.list_issues(IssueQuery(acme.id, assignee_ids=["u1"]), None, 9) == []
        assert store.list_issues(IssueQuery(acme.id, assignee_ids=["u3"]), None, 9) == [changed]

    def test_issues_list(self, store: MetadataStore, acme: Tenant) -> None:
        """Listings are filtered, oldest first, and walk over equal times."""
        issues = [acme.issue(f"ENG-{n}", create_time=NOW + n // 3) for n in range(10)]
        issues[2] = replace(issues[2], status=IssueStatus("s2"), parent_issue_id=issues[0].id)
        issues[3] = replace(issues[3], assignees=(Assignee("u1"), Assignee("u1"), Assignee("u2")))
        issues[4] = replace(issues[4], completed=True)
        for issue in issues:
            store.find_or_add_issue(issue)
        store.find_or_add_issue(Tenant(store, "beta").issue())
        store.update_issue(replace(issues[5], delete_time=NOW))
        alive = [issue for issue in issues if issue is not issues[5]]
        open_ = [issue for issue in alive if not issue.completed]

        def listed(query: IssueQuery) -> list[str]:
            found = walk(lambda after, limit: store.list_issues(query, after, limit), lambda x: (x.create_time, x.id))
            assert store.count_issues(query) == len(found)
            return [one.key for one in found]

        assert listed(IssueQuery(acme.id)) == [issue.key for issue in open_]
        assert listed(IssueQuery(acme.id, include_completed=True)) == [issue.key for issue in alive]
        assert listed(IssueQuery(acme.id, status_ids=["s2", "s3"])) == ["ENG-2"]
        assert listed(IssueQuery(acme.id, assignee_ids=["u1", "u2"])) == ["ENG-3"]
        assert listed(IssueQuery(acme.id, parent_issue_id=issues[0].id)) == ["ENG-2"]

    @pytest.mark.parametrize("order", ["CREATE_TIME_DESC", "CREATE_TIME_ASC", "UPDATE_TIME_DESC", "UPDATE_TIME_ASC"])
    def test_issues_of_many_parents(self, store: MetadataStore, acme: Tenant, order: str) -> None:
        """What is listed for many parents at once is what is listed for each, at any place; many are found by id."""
        parents = [acme.issue(f"TOP-{number}") for number in range(3)]
        parts = [
            acme.issue(
                f"ENG-{number}",
                title="odd" if number % 2 else "even",
                parent_issue_id=parents[number % 2].id,
                create_time=NOW + number // 3,
                update_time=NOW - number,
            )
            for number in range(9)
        ]
        for issue in (*parents, *parts):
            store.find_or_add_issue(issue)
        wanted = [one.id for one in parents]
        for after in (None, (NOW + 1, parts[4].id), (NOW - 4, parts[4].id)):
            for limit in (1, 2, 99):
                together = store.list_issues_by_parent(IssueQuery(acme.id, order=order), wanted, after, limit)
                for parent_id in wanted:
                    alone = IssueQuery(acme.id, parent_id, order=order)
                    assert list(together.get(parent_id, ())) == store.list_issues(alone, after, limit)
        odd = IssueQuery(acme.id, where=Comparison("title", Operator.EQUAL, "odd"))
        assert {one.title for one in store.list_issues(odd, None, 9)} == {"odd"}
        assert sorted(one.key for one in store.issues(acme.id, [*wanted, "iss_0"])) == ["TOP-0", "TOP-1", "TOP-2"]
        assert store.issues(acme.id, []) == []

    def test_issues_at_once(self, store: MetadataStore, changes: Changes, acme: Tenant) -> None:
        """64 callers that register one key get one issue."""
        found = at_once(64, lambda _: changes.run(lambda: store.find_or_add_issue(acme.issue())))
        assert len({issue.id for issue, _ in found}) == 1
        assert sum(added for _, added in found) == 1

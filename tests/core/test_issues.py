"""The registry of issues."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from remora_server.core import ids
from remora_server.core.conditions import Comparison, Operator
from remora_server.core.errors import (
    DuplicateInBatchError,
    EtagMismatchError,
    NotFoundError,
    ValidationFailedError,
)
from remora_server.core.issues import MAX_ABOVE, UpsertedIssue
from remora_server.core.model import Assignee, ExternalRef, Issue, IssueStatus, Outcome
from remora_server.core.pages import Span
from remora_server.core.ports import IssueQuery
from tests.core.world import World, issue
from tests.stores.samples import Tenant


def wanted(key: str = "ENG-1", workspace: str = "acme", **fields: Any) -> Issue:
    """Return an issue as a host system writes it."""
    made = Issue("", workspace, key, (), "", "", "", IssueStatus(), (), completed=False, metadata={}, create_time=0,
                 update_time=0, delete_time=None, version=0)  # fmt: skip
    return replace(made, **fields)


def push(world: World, one: Issue, *mask: str, etag: str = "") -> UpsertedIssue:
    """Push an issue."""
    return world.do(world.issues.upsert, world.jo, one, mask, etag)


def test_upserts(world: World) -> None:
    """An issue is created, changed where it differs, and left alone where it does not."""
    full = wanted(
        title="t", external_refs=(ExternalRef("jira", "1"),), assignees=(Assignee("u1"),), status=IssueStatus("s"),
        metadata={"a": 1}, completed=True, project_id="prj_1",
    )  # fmt: skip
    first = push(world, full)
    assert (first.outcome, first.issue.version) == (Outcome.CREATED, 1)
    assert push(world, full) == UpsertedIssue(first.issue, Outcome.UNCHANGED)
    second = push(world, wanted(metadata={"a": 1.0}))
    assert (second.outcome, second.issue.metadata, second.issue.title) == (Outcome.UPDATED, {"a": 1.0}, "t")
    assert push(world, wanted(metadata={"b": 2}), "metadata.b").issue.metadata == {"a": 1.0, "b": 2}
    bare = push(world, wanted(), "*").issue
    assert (bare.title, bare.metadata, bare.assignees, bare.completed) == ("", {}, (), False)
    assert world.issues.get(world.jo, "acme", key="ENG-1") == bare
    assert [one.changed_fields for one in world.told()] == [
        (), ("metadata",), ("metadata",),
        ("external_refs", "project_id", "title", "status", "assignees", "completed", "metadata"),
    ]  # fmt: skip


def test_etags(world: World) -> None:
    """An etag counts if the issue is there."""
    made = push(world, wanted(), etag='"9"').issue
    with pytest.raises(EtagMismatchError):
        push(world, wanted(title="t"), etag='"9"')
    assert push(world, wanted(title="t"), etag='"1"').issue.id == made.id


def test_parents(world: World) -> None:
    """A parent must be there, be of the same workspace, and be another."""
    parent = push(world, wanted("ENG-0")).issue
    assert push(world, wanted(parent_issue_id=str(ids.to_uuid(parent.id)))).issue.parent_issue_id == parent.id
    with pytest.raises(ValidationFailedError):
        push(world, wanted("ENG-0", parent_issue_id=parent.id))
    with pytest.raises(NotFoundError):
        world.do(world.issues.upsert, world.stranger, wanted("X-1", "elsewhere", parent_issue_id=parent.id), ())
    listed = world.issues.list(world.jo, IssueQuery("acme", parent.id), include_total_size=True)
    assert ([one.key for one in listed.items], listed.total_size) == (["ENG-1"], 1)
    with pytest.raises(NotFoundError):
        world.issues.list(world.jo, IssueQuery("acme", ids.new_id(ids.ISSUE)))


def test_a_parent_that_is_below(world: World) -> None:
    """No issue may come to stand below itself, by however many others."""
    first, second, third = (push(world, wanted(f"A-{number}")).issue for number in range(3))
    for child, parent in ((second, first), (third, second)):
        push(world, replace(child, parent_issue_id=parent.id))
    for parent in (second, third):
        with pytest.raises(ValidationFailedError, match="below"):
            push(world, replace(first, parent_issue_id=parent.id))
    assert world.issues.get(world.jo, "", issue_id=first.id).parent_issue_id == ""
    # One that was deleted comes back under its id, above those that it was above before.
    world.do(world.issues.delete, world.jo, first.id)
    with pytest.raises(ValidationFailedError, match="below"):
        push(world, replace(first, parent_issue_id=third.id))
    push(world, wanted("A-0"))
    moved = push(world, replace(third, parent_issue_id=first.id)).issue
    assert (moved.parent_issue_id, push(world, moved).outcome) == (first.id, Outcome.UNCHANGED)


def test_too_many_above(world: World) -> None:
    """The way up has an end, which does not keep a new issue from being put below."""
    above = ""
    for number in range(MAX_ABOVE + 1):
        above = push(world, wanted(f"A-{number}", parent_issue_id=above)).issue.id
    other = push(world, wanted("B-0")).issue
    with pytest.raises(ValidationFailedError, match="more than"):
        push(world, replace(other, parent_issue_id=above))


def test_batches(world: World) -> None:
    """A key occurs once in a batch."""
    items = [(wanted("A-1"), (), ""), (wanted("A-1"), (), ""), (wanted("A-2", "elsewhere"), (), "")]
    results = world.do(world.issues.upsert_many, world.jo, "acme", items, world.changes)
    assert [type(one) for one in results] == [UpsertedIssue, DuplicateInBatchError, NotFoundError]


def test_reading(world: World) -> None:
    """By id, by UUID, or by key within a workspace."""
    made = push(world, wanted()).issue
    assert world.issues.get(world.kim, "", issue_id=made.id) == made
    assert world.issues.get(world.kim, "", issue_id=str(ids.to_uuid(made.id))) == made
    for key, message in (("", ValidationFailedError), ("ENG-9", NotFoundError)):
        with pytest.raises(message):
            world.issues.get(world.jo, "acme", key=key)
    with pytest.raises(NotFoundError):
        world.issues.get(world.stranger, "", issue_id=made.id)


def test_deleting_and_coming_back(world: World) -> None:
    """A deleted issue is unknown; a push or a write to it brings it back under its old id, with new facts only."""
    made = push(world, wanted(title="t", assignees=(Assignee("u1"),))).issue
    with pytest.raises(EtagMismatchError):
        world.do(world.issues.delete, world.jo, made.id, '"9"')
    gone = world.do(world.issues.delete, world.kim, made.id)
    assert gone is not None
    assert gone.delete_time is not None
    assert world.do(world.issues.delete, world.jo, made.id, allow_missing=True) is None
    with pytest.raises(NotFoundError):
        world.do(world.issues.delete, world.jo, made.id)
    with pytest.raises(NotFoundError):
        world.subjects.resolve(world.jo, issue(), register=False)
    again = world.do(world.subjects.resolve, world.jo, issue(), register=True)
    assert again.id == made.id
    back = world.issues.get(world.jo, "acme", key="ENG-1")
    assert (back.title, back.assignees, back.delete_time) == ("", (), None)
    assert back.version > gone.version
    world.do(world.issues.delete, world.jo, made.id)
    pushed = push(world, wanted(title="t2"))
    assert (pushed.outcome, pushed.issue.id, pushed.issue.create_time) == (Outcome.CREATED, made.id, made.create_time)


@pytest.mark.parametrize(
    "fields",
    [
        {"key": ""}, {"key": "x" * 256}, {"key": " a"}, {"key": "a\0"}, {"key": "0190a0a0-0000-7000-8000-000000000000"},
        {"title": "x" * 1025}, {"project_id": "\0"}, {"status": IssueStatus(color="x" * 256)},
        {"assignees": (Assignee(""),)}, {"assignees": (Assignee("x", "y" * 2049),)},
        {"assignees": (Assignee("x"),) * 51},
        {"external_refs": (ExternalRef("x" * 256),)}, {"external_refs": (ExternalRef(),) * 51}, {"metadata": {"": 1}},
    ],
)  # fmt: skip
def test_limits(world: World, fields: dict[str, Any]) -> None:
    """What can't be accepted leaves nothing."""
    with pytest.raises(ValidationFailedError):
        push(world, replace(wanted(), **fields))
    assert world.store.list_issues(IssueQuery(world.jo.workspace_id), None, 9) == []


def test_metadata_does_not_grow(world: World) -> None:
    """The limits hold for the result of an update."""
    push(world, wanted(metadata={f"{n}": n for n in range(50)}))
    with pytest.raises(ValidationFailedError):
        push(world, wanted(metadata={"more": 1}), "metadata.more")


def test_lists(world: World) -> None:
    """Pages of what is not completed, or of all; filters have limits."""
    for number in range(5):
        push(world, wanted(f"A-{number}", completed=number == 2))
    world.do(world.store.find_or_add_issue, Tenant(world.store, "elsewhere").issue())
    first = world.issues.list(world.jo, IssueQuery("acme"), page_size=3)
    rest = world.issues.list(world.jo, IssueQuery("acme"), page_size=3, page_token=first.next_page_token)
    assert {one.key for one in (*first.items, *rest.items)} == {"A-0", "A-1", "A-3", "A-4"}
    assert len(world.issues.list(world.jo, IssueQuery("acme", include_completed=True)).items) == 5
    for query in (IssueQuery("acme", status_ids=("x",) * 101), IssueQuery("acme", assignee_ids=("x",) * 101)):
        with pytest.raises(ValidationFailedError):
            world.issues.list(world.jo, query)


def test_children_of_many(world: World) -> None:
    """Sub-issues of several issues are listed together, each with a window of its own, from either end."""
    parents = [push(world, wanted(f"ENG-{number}")).issue for number in (1, 2)]
    for number in range(3):
        push(world, wanted(f"ENG-1{number}", parent_issue_id=parents[0].id, completed=number == 1))
    push(world, wanted("ENG-20", parent_issue_id=parents[1].id))
    push(world, wanted("ENG-10", title="changed last"), "title")

    def keys(span: Span, **fields: Any) -> list[tuple[list[str], bool, bool]]:
        query = IssueQuery("acme", **{"include_completed": True, "order": "CREATE_TIME_DESC", **fields})
        found = world.issues.children(world.jo, query, [one.id for one in parents], span)
        return [([one.key for one in each.items], each.has_previous, each.has_next) for each in found.values()]

    assert keys(Span(2)) == [(["ENG-12", "ENG-11"], False, True), (["ENG-20"], False, False)]
    assert keys(Span(1, from_end=True)) == [(["ENG-10"], True, False), (["ENG-20"], False, False)]
    assert keys(Span(9), order="UPDATE_TIME_DESC")[0][0] == ["ENG-10", "ENG-12", "ENG-11"]
    assert keys(Span(9), include_completed=False)[0][0] == ["ENG-12", "ENG-10"]
    assert keys(Span(9), where=Comparison("title", Operator.STARTS, "changed"))[0][0] == ["ENG-10"]
    with pytest.raises(ValidationFailedError):
        keys(Span(9), where=Comparison("title", Operator.EQUAL, "\0"))


def test_many_by_id(world: World) -> None:
    """Issues are found together by id; those that are gone, or another workspace's, are not among them."""
    made, gone = push(world, wanted("ENG-1")).issue, push(world, wanted("ENG-2")).issue
    world.do(world.issues.delete, world.jo, gone.id)
    assert world.issues.get_many(world.jo, [made.id, gone.id, ids.new_id(ids.ISSUE)]) == {made.id: made}
    assert world.issues.get_many(world.stranger, [made.id]) == {}

"""IssueService over a real server, and how subjects find their issues."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from remora.v1 import common_pb2, issue_pb2
from remora.v1 import issue_service_pb2 as pb
from tests.rpc.asking import WORKSPACE, at_once, events, known, listed, reason_of, second_user, types, upsert, values
from tests.running import Api, RunningServer, issue, refused

CREATED, UPDATED, UNCHANGED = common_pb2.OUTCOME_CREATED, common_pb2.OUTCOME_UPDATED, common_pb2.OUTCOME_UNCHANGED
CODE = grpc.StatusCode
URL = "https://example.com/1"


def push_request(key: str, *mask: str, **fields: Any) -> pb.UpsertIssueRequest:
    """Return the request that makes an issue known."""
    own = {name: fields.pop(name) for name in ("request_id",) if name in fields}
    wanted = issue_pb2.Issue(**{"workspace_id": WORKSPACE, "key": key, **fields})
    return pb.UpsertIssueRequest(issue=wanted, update_mask=FieldMask(paths=mask) if mask else None, **own)


def push(api: Api, key: str, *mask: str, **fields: Any) -> pb.UpsertIssueResponse:
    """Make an issue known."""
    return api.issues.UpsertIssue(push_request(key, *mask, **fields))


def whole(title: str = "t") -> dict[str, Any]:
    """Return a value for every field that a host system may push."""
    return {
        "external_refs": [common_pb2.ExternalRef(source="jira", id="10001")],
        "project_id": "prj_1",
        "title": title,
        "status": issue_pb2.IssueStatus(id="s1", name="In progress", color="#f2c94c", category="open"),
        "assignees": [
            issue_pb2.IssueAssignee(
                id="u1", display_name="Jo", avatar_url="https://e.example/jo", kind=common_pb2.ACTOR_KIND_USER
            ),
            issue_pb2.IssueAssignee(id="b1", display_name="Bot", kind=common_pb2.ACTOR_KIND_APP),
        ],
        "completed": True,
        "metadata": values(priority=2, team="core"),
    }


def test_push_and_read(api: Api, new_issue: str) -> None:
    """Everything that is pushed comes back, by key, by id and by UUID."""
    made = push(api, new_issue, **whole())
    assert made.outcome == CREATED
    for name, value in whole().items():
        stored = getattr(made.issue, name)
        assert (dict(stored) if name == "metadata" else list(stored) if isinstance(value, list) else stored) == value
    assert made.issue.id.startswith("iss_")
    assert known(api, new_issue).issue == made.issue
    assert api.issues.GetIssue(pb.GetIssueRequest(issue_id=made.issue.id)).issue == made.issue


def test_created_updated_unchanged(api: Api, new_issue: str) -> None:
    """An upsert goes by key; one that changes nothing writes nothing (P28)."""
    first = push(api, new_issue, **whole())
    assert push(api, new_issue, **whole()).outcome == UNCHANGED
    second = push(api, new_issue, title="t2", metadata=values(priority=3))
    assert second.outcome == UPDATED
    assert (second.issue.id, second.issue.title, second.issue.project_id) == (first.issue.id, "t2", "prj_1")
    assert dict(second.issue.metadata) == values(priority=3)
    assert second.issue.etag != first.issue.etag
    found = events(api, new_issue)
    assert types(found) == ["issue.created", "issue.updated"]
    assert found[1].changed_fields == ["title", "metadata"]
    assert found[1].issue.title == "t2"


def test_masks(api: Api, new_issue: str) -> None:
    """A mask names what changes, one key of the metadata too; `*` replaces all; unknown paths are refused."""
    push(api, new_issue, **whole())
    named = push(api, new_issue, "title", "completed", "metadata.team", metadata=values(team="web")).issue
    assert (named.title, named.completed, named.project_id) == ("", False, "prj_1")
    assert dict(named.metadata) == values(priority=2, team="web")
    assert push(api, new_issue, "id", "etag", title="ignored").outcome == UNCHANGED
    bare = push(api, new_issue, "*", title="only").issue
    assert (bare.title, bare.project_id, len(bare.assignees), len(bare.metadata)) == ("only", "", 0, 0)
    assert not bare.HasField("status")
    with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
        push(api, new_issue, "nonsense")
    assert seen[0].fields == ["update_mask"]


def test_metadata_can_not_grow_beyond_its_limits(api: Api, new_issue: str) -> None:
    """The limits hold for what would be stored."""
    push(api, new_issue, metadata=values(**{f"a{n}": n for n in range(50)}))
    with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
        push(api, new_issue, "metadata.more", metadata=values(more=1))
    assert seen[0].fields == ["issue.metadata"]


def test_etag(api: Api, new_issue: str) -> None:
    """An etag is compared if the issue exists, and not needed for a new one."""
    old = push(api, new_issue, etag='"9"').issue
    new = push(api, new_issue, etag=old.etag, title="t").issue
    with refused(CODE.ABORTED, "ETAG_MISMATCH") as seen:
        push(api, new_issue, etag=old.etag, title="t2")
    assert seen[0].info.metadata["current_etag"] == new.etag
    assert known(api, new_issue).issue == new


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"key": ""}, "issue.key"),
        ({"key": "x" * 256}, "issue.key"),
        ({"key": " A-1"}, "issue.key"),
        ({"key": "A\n1"}, "issue.key"),
        ({"key": "0190a0a0-0000-7000-8000-000000000000"}, "issue.key"),
        ({"title": "x" * 1025}, "issue.title"),
        ({"project_id": "x" * 256}, "issue.project_id"),
        ({"status": issue_pb2.IssueStatus(name="x" * 256)}, "issue.status.name"),
        ({"assignees": [issue_pb2.IssueAssignee()]}, "issue.assignees.id"),
        ({"assignees": [issue_pb2.IssueAssignee(id="x")] * 51}, "issue.assignees"),
        ({"external_refs": [common_pb2.ExternalRef(source="x")] * 51}, "issue.external_refs"),
        ({"metadata": values(a=float("inf"))}, "issue.metadata.a"),
        ({"parent_issue_id": "nonsense"}, "issue.parent_issue_id"),
        ({"workspace_id": ""}, "issue.workspace_id"),
    ],
)
def test_limits(api: Api, new_issue: str, fields: dict[str, Any], named: str) -> None:
    """A field beyond its limits is refused by name."""
    with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
        push(api, **{"key": new_issue, **fields})
    assert named in seen[0].fields


def test_32_at_once(api: Api, new_issue: str) -> None:
    """Racing pushes of one key make one issue, with the fields of one of them (P25)."""
    answers = at_once(32, lambda number: push(api, new_issue, title=f"n{number}", project_id=f"n{number}"))
    assert sorted(one.outcome for one in answers) == [CREATED] + [UPDATED] * 31
    stored = known(api, new_issue).issue
    assert {one.issue.id for one in answers} == {stored.id}
    assert stored.title == stored.project_id


def test_parents(api: Api, new_issue: str) -> None:
    """A parent is named by id or UUID, must be there, and can't be the issue itself."""
    parent = push(api, f"{new_issue}-p").issue
    child = push(api, new_issue, parent_issue_id=parent.id).issue
    assert child.parent_issue_id == parent.id
    with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED"):
        push(api, new_issue, parent_issue_id=child.id)
    with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
        push(api, new_issue, parent_issue_id="iss_01m7yggyheeq5rqe7req2vftaj")
    assert push(api, new_issue, "parent_issue_id").issue.parent_issue_id == ""


def test_a_repeated_push(api: Api, new_issue: str) -> None:
    """A repeated request_id brings the first answer, another body is refused (P26)."""
    request_id = str(uuid.uuid4())
    first = push(api, new_issue, title="t", request_id=request_id)
    push(api, new_issue, title="t2")
    assert push(api, new_issue, title="t", request_id=request_id) == first
    with refused(CODE.INVALID_ARGUMENT, "REQUEST_ID_REUSED"):
        push(api, new_issue, title="t3", request_id=request_id)
    assert [one.request_id for one in events(api, new_issue)] == [request_id, ""]


def test_a_batch(api: Api, new_issue: str) -> None:
    """Each item by itself, in order; a second one for the same key is refused."""
    request = pb.BatchUpsertIssuesRequest(
        workspace_id=WORKSPACE,
        requests=[
            push_request(new_issue, title="one", workspace_id=""),
            push_request(new_issue, title="two"),
            push_request(f"{new_issue}-b", title="x" * 2000),
            push_request(f"{new_issue}-c", workspace_id="elsewhere"),
            push_request(f"{new_issue}-d"),
        ],
        request_id=str(uuid.uuid4()),
    )
    answer = api.issues.BatchUpsertIssues(request)
    shown = [reason_of(one.error) if one.HasField("error") else one.outcome for one in answer.results]
    assert shown == [CREATED, "DUPLICATE_IN_BATCH", "VALIDATION_FAILED", "RESOURCE_NOT_FOUND", CREATED]
    assert api.issues.BatchUpsertIssues(request) == answer
    assert known(api, new_issue).issue.title == "one"
    for requests in ([], [push_request("A-1")] * 101, [push_request("A-1", request_id=str(uuid.uuid4()))]):
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            api.issues.BatchUpsertIssues(pb.BatchUpsertIssuesRequest(workspace_id=WORKSPACE, requests=requests))


def test_reading_what_is_not_there(api: Api, new_issue: str) -> None:
    """An unknown key or id is NOT_FOUND; neither is refused by name."""
    for request in (
        pb.GetIssueRequest(workspace_id=WORKSPACE, key=new_issue),
        pb.GetIssueRequest(issue_id="iss_01m7yggyheeq5rqe7req2vftaj"),
    ):
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            api.issues.GetIssue(request)
    with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED"):
        api.issues.GetIssue(pb.GetIssueRequest(workspace_id=WORKSPACE))


def test_deleting(api: Api, new_issue: str) -> None:
    """A deleted issue is no longer known; a missing one may be allowed; etags hold."""
    made = push(api, new_issue).issue
    with refused(CODE.ABORTED, "ETAG_MISMATCH"):
        api.issues.DeleteIssue(pb.DeleteIssueRequest(issue_id=made.id, etag='"9"'))
    request = pb.DeleteIssueRequest(issue_id=made.id, etag=made.etag)
    assert api.issues.DeleteIssue(request).issue.HasField("delete_time")
    for call in (lambda: known(api, new_issue), lambda: api.issues.DeleteIssue(request)):
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            call()
    request.allow_missing = True
    assert not api.issues.DeleteIssue(request).HasField("issue")


def test_an_issue_that_comes_back(api: Api, new_issue: str) -> None:
    """What hangs on a deleted issue stays, and is there when a push makes the key known again, under the same id."""
    made = push(api, new_issue, title="t", metadata=values(a=1)).issue
    card = upsert(api, new_issue, URL).attachment
    api.issues.DeleteIssue(pb.DeleteIssueRequest(issue_id=made.id))
    again = push(api, new_issue, title="t2")
    assert (again.outcome, again.issue.id, again.issue.title) == (CREATED, made.id, "t2")
    assert len(again.issue.metadata) == 0
    assert again.issue.etag not in {made.etag, ""}
    assert not again.issue.HasField("delete_time")
    assert [one.id for one in listed(api, new_issue)] == [card.id]
    assert types(events(api, new_issue)) == ["issue.created", "attachment.created", "issue.deleted", "issue.created"]


class TestList:
    """Listing issues."""

    @pytest.fixture
    def space(self, server: RunningServer, new_issue: str) -> tuple[Api, str]:
        """Make a workspace with a parent and four parts, of which one is completed."""
        workspace = f"issues-{new_issue.lower()}"
        api = second_user(server, workspace=workspace)
        parent = push(api, "P-0", workspace_id=workspace).issue
        for number, (status, who) in enumerate(
            [("open", "jo"), ("done", "jo"), ("open", "kim"), ("open", "")], start=1
        ):
            push(
                api,
                f"P-{number}",
                workspace_id=workspace,
                parent_issue_id=parent.id,
                status=issue_pb2.IssueStatus(id=status),
                assignees=[issue_pb2.IssueAssignee(id=who)] if who else [],
                completed=status == "done",
            )
        return api, workspace

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({}, {"P-0", "P-1", "P-3", "P-4"}),
            ({"include_completed": True}, {"P-0", "P-1", "P-2", "P-3", "P-4"}),
            ({"parent": True}, {"P-1", "P-3", "P-4"}),
            ({"parent": True, "status_ids": ["done", "nonsense"], "include_completed": True}, {"P-2"}),
            ({"assignee_ids": ["jo", "kim"]}, {"P-1", "P-3"}),
            ({"assignee_ids": ["jo"], "include_completed": True}, {"P-1", "P-2"}),
            ({"assignee_ids": ["nobody"]}, set()),
        ],
    )
    def test_filters(self, space: tuple[Api, str], options: dict[str, Any], expected: set[str]) -> None:
        """Filters that are given must all match; pages and the count agree."""
        api, workspace = space
        request = pb.ListIssuesRequest(workspace_id=workspace, include_total_size=True, page_size=2)
        if options.pop("parent", False):
            request.parent_issue_id = api.issues.GetIssue(
                pb.GetIssueRequest(workspace_id=workspace, key="P-0")
            ).issue.id
        request.MergeFrom(pb.ListIssuesRequest(**options))
        found: list[str] = []
        while True:
            page = api.issues.ListIssues(request)
            assert page.total_size == len(expected)
            found += [one.key for one in page.issues]
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
        assert sorted(found) == sorted(expected)

    def test_refusals(self, api: Api) -> None:
        """A negative page size, too many values of a filter and a parent that is not there are refused."""
        for options in ({"page_size": -1}, {"status_ids": ["x"] * 101}, {"assignee_ids": ["x"] * 101}):
            with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
                api.issues.ListIssues(pb.ListIssuesRequest(workspace_id=WORKSPACE, **options))
            assert seen[0].fields == list(options)
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            request = pb.ListIssuesRequest(workspace_id=WORKSPACE, parent_issue_id="iss_01m7yggyheeq5rqe7req2vftaj")
            api.issues.ListIssues(request)


class TestSubjects:
    """How a subject finds its issue."""

    def test_by_id_key_and_uuid(self, api: Api, new_issue: str) -> None:
        """All three mean one issue, so one URL is one attachment; answers carry id and key."""
        made = push(api, new_issue).issue
        subjects = [
            issue(new_issue),
            common_pb2.Subject(type="issue", id=made.id),
            common_pb2.Subject(type="issue", id=made.id, key=new_issue),
        ]
        cards = [upsert(api, new_issue, URL, subject=one).attachment for one in subjects]
        assert len({one.id for one in cards}) == 1
        assert {(one.subject.id, one.subject.key) for one in cards} == {(made.id, new_issue)}

    def test_id_and_key_must_agree(self, api: Api, new_issue: str) -> None:
        """Two names of two issues are a mistake."""
        made = push(api, new_issue).issue
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
            upsert(api, new_issue, URL, subject=common_pb2.Subject(type="issue", id=made.id, key=f"{new_issue}-b"))
        assert seen[0].fields == ["subject.key"]

    def test_an_unknown_id_is_never_registered(self, api: Api, new_issue: str) -> None:
        """Only keys are registered by a write."""
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            unknown = common_pb2.Subject(type="issue", id="iss_01m7yggyheeq5rqe7req2vftaj", key=new_issue)
            upsert(api, new_issue, URL, subject=unknown)
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            known(api, new_issue)

    def test_a_registered_issue_can_be_pushed_later(self, api: Api, new_issue: str) -> None:
        """A push fills in what the first write left blank, under the same id."""
        card = upsert(api, new_issue, URL).attachment
        pushed = push(api, new_issue, title="t")
        assert (pushed.outcome, pushed.issue.id) == (UPDATED, card.subject.id)

    def test_strict_issues(self, start_server: Callable[..., RunningServer], new_issue: str) -> None:
        """Where only known issues are accepted, the first write to an unknown key is NOT_FOUND."""
        api = start_server("--strict-issues").api()
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            upsert(api, new_issue, URL)
        push(api, new_issue)
        assert upsert(api, new_issue, URL).outcome == CREATED

"""Plane's door: the exchanges of its document, its real client, both spellings, and what is refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from plane import PlaneClient
from plane.errors.errors import HttpError
from plane.errors.errors import PlaneError as PlaneSdkError
from plane.models.query_params import RetrieveQueryParams
from plane.models.work_items import (
    CreateWorkItem,
    CreateWorkItemComment,
    CreateWorkItemLink,
    UpdateWorkItem,
    UpdateWorkItemAttachment,
    UpdateWorkItemLink,
    WorkItemAttachmentUploadRequest,
)

from remora.v1 import issue_pb2, issue_service_pb2
from remora_server import dev
from remora_server.core import ids
from remora_server.core.files import SERVICE
from remora_server.gateway.dialects.plane import routes
from remora_server.gateway.plane_bodies import Uploads
from remora_server.gateway.plane_objects import uuid
from tests.gateway.exchanging import Replay, exchanges_of
from tests.running import Api, RunningServer

Wanted: Any = RetrieveQueryParams  # Its parameters may be left out, which type checkers are not told.
SPELLINGS = [("work-items", "attachments"), ("issues", "issue-attachments")]

NOT_THERE = {"error": "The requested resource does not exist."}
NOT_UPLOADED = {"error": "The asset is not uploaded.", "status": False}


@dataclass
class Desk:
    """One work item of a user's own, and ways to call the server about it."""

    server: RunningServer
    key: str
    api: Api
    project: str
    issue: str
    issue_key: str
    spelling: tuple[str, str] = SPELLINGS[0]

    @property
    def base(self) -> str:
        """The path of the work item, without a slash."""
        return f"/api/v1/workspaces/demo/projects/{self.project}/{self.spelling[0]}/{self.issue}"

    @property
    def files(self) -> str:
        """The path of its attachments."""
        return f"{self.base}/{self.spelling[1]}/"

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask at the door."""
        headers = {"X-Api-Key": self.key, **options.pop("headers", {})}
        return httpx.request(method, self.server.ready["http"] + path, headers=headers, **options)

    def begin(self, data: bytes, name: str = "plane-logo.png", **more: Any) -> dict[str, Any]:
        """Take the first of the three steps."""
        reply = self.call("POST", self.files, json={"name": name, "type": "image/png", "size": len(data), **more})
        assert reply.status_code == 200, reply.text
        made: dict[str, Any] = reply.json()
        return made

    def send(self, made: dict[str, Any], data: bytes) -> httpx.Response:
        """Take the second step."""
        form = made["upload_data"]
        return httpx.post(form["url"], data=form["fields"], files={"file": ("x", data, "image/png")})

    def confirm(self, id_: str) -> httpx.Response:
        """Take the third step."""
        return self.call("PATCH", f"{self.files}{id_}/", json={"is_uploaded": True})

    def upload(self, data: bytes, name: str = "plane-logo.png", **more: Any) -> str:
        """Take all three steps; return the attachment's id."""
        made = self.begin(data, name, **more)
        assert self.send(made, data).status_code in {200, 201, 204}
        assert self.confirm(made["asset_id"]).status_code == 204
        return str(made["asset_id"])


def desk_at(server: RunningServer, number: str, spelling: tuple[str, str] = SPELLINGS[0], scopes: str = "") -> Desk:
    """Make a user and a work item of the development project."""
    key = server.new_key(f"plane-{uuid4()}", scopes=scopes)
    issue = issue_pb2.Issue(workspace_id="demo", key=f"DEMO-{number}", title="Ship it")
    pushed = server.api().issues.UpsertIssue(issue_service_pb2.UpsertIssueRequest(issue=issue)).issue
    seeded: Any = dev.read(server.data)
    project = str(seeded["project"]["uuid"])
    return Desk(server, key, server.api(key), project, str(ids.to_uuid(pushed.id)), pushed.key, spelling)


@pytest.fixture(params=SPELLINGS, ids=lambda spelling: spelling[0])
def desk(server: RunningServer, new_issue: str, request: pytest.FixtureRequest) -> Desk:
    """Return a desk with each of the two spellings of paths."""
    return desk_at(server, str(1000 + int(new_issue.rpartition("-")[2])), request.param)


def test_a_path_without_its_slash(desk: Desk) -> None:
    """A path may end without the slash that Plane's own have, but not with two."""
    id_ = desk.upload(b"logo")
    listed = desk.call("GET", desk.files.removesuffix("/"))
    assert [one["id"] for one in listed.json()] == [id_]
    assert desk.call("GET", f"{desk.files}{id_}").status_code == 302
    assert desk.call("DELETE", f"{desk.files}{id_}").status_code == 204
    assert desk.call("GET", f"{desk.files}/").status_code == 404


@pytest.fixture
def one(server: RunningServer, new_issue: str) -> Desk:
    """Return a desk with the new spelling."""
    return desk_at(server, str(1000 + int(new_issue.rpartition("-")[2])))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    """Start a server as Plane's is set up: some types, 5 MiB, so many requests a minute."""
    settings = {"REMORA_PLANE_TYPES": "image/png,text/plain", "REMORA_PLANE_RATE": "60"}
    server = RunningServer(tmp_path_factory.mktemp("plane") / "data", environment=settings).start()
    desk = desk_at(server, "42")
    known = {
        "project": desk.project,
        "issue": desk.issue,
        "reader": server.new_key("reader", scopes="attachments:read"),
    }
    files = {"logo": uuid4().bytes + bytes(135_686 - 16)}
    yield Replay(server.ready["http"], {"X-Api-Key": desk.key}, files, **known)
    server.kill()


def test_the_document(told: Replay) -> None:
    """The attachment of the document goes its whole way, and every answer is as documented, field by field."""
    *exchanges, last = exchanges_of("plane")
    left = ""
    for exchange in exchanges:
        left = told.play(exchange).headers.get("X-RateLimit-Remaining", left)
    assert last.name.endswith("-too-many-requests")
    while int(left):
        left = told.ask({"method": "GET", "path": "/api/v1/"}).headers["X-RateLimit-Remaining"]
    told.play(last)


def test_the_three_steps(desk: Desk) -> None:
    """What was declared, sent and confirmed is listed, newest first, and read without a key."""
    data = uuid4().bytes * 10_000  # Too large for the database.
    made = desk.begin(data)
    assert list(made) == ["upload_data", "asset_id", "asset_url", "attachment"]
    pending = made["attachment"]
    assert (pending["id"], pending["is_uploaded"], pending["storage_metadata"]) == (made["asset_id"], False, {})
    path = f"{desk.files}{made['asset_id']}/"
    assert (desk.call("GET", path).status_code, desk.call("GET", path).json()) == (400, NOT_UPLOADED)
    assert (desk.confirm(pending["id"]).status_code, desk.confirm(pending["id"]).json()) == (400, NOT_UPLOADED)
    assert desk.call("GET", desk.files).json() == []
    assert desk.send(made, data).status_code in {200, 201, 204}
    for _ in range(2):
        reply = desk.confirm(pending["id"])
        assert (reply.status_code, reply.content) == (204, b"")
    later = desk.upload(data)
    listed = desk.call("GET", desk.files).json()
    assert [found["id"] for found in listed] == [later, pending["id"]]
    for name, value in pending.items():
        if name not in {"is_uploaded", "storage_metadata", "created_at", "updated_at"}:
            assert listed[1][name] == value, name
    reply = desk.call("GET", path)
    assert reply.status_code == 302
    # Whatever store it lies in: a client that follows sends its key along.
    assert reply.headers["location"].startswith(f"{desk.server.ready['http']}/downloads/")
    assert httpx.get(reply.headers["location"]).content == data
    for status in (204, 404):
        assert desk.call("DELETE", path).status_code == status
    for method in ("GET", "PATCH"):
        assert (desk.call(method, path).status_code, desk.call(method, path).json()) == (404, NOT_THERE)
    assert [found["id"] for found in desk.call("GET", desk.files).json()] == [later]


def test_the_real_client(one: Desk) -> None:
    """`plane-sdk`, as it comes, uploads, lists, downloads and deletes; and reads links, activities and work items."""
    at: dict[str, Any] = {"workspace_slug": "demo", "project_id": one.project, "work_item_id": one.issue}
    client: Any = PlaneClient(base_url=one.server.ready["http"], api_key=one.key)
    items = client.work_items
    data = uuid4().bytes * 64
    made = items.attachments.upload_from_bytes(**at, file_bytes=data, name="a.png", content_type="image/png")
    (listed,) = items.attachments.list(**at)
    assert (listed.id, listed.asset, listed.size, listed.is_uploaded) == (made.id, made.asset, len(data), True)
    assert httpx.get(items.attachments.get_download_url(**at, attachment_id=made.id)).content == data
    items.attachments.delete(**at, attachment_id=made.id)
    assert items.attachments.list(**at) == []
    with pytest.raises(HttpError) as refusal:
        items.attachments.get_download_url(**at, attachment_id=made.id)
    assert refusal.value.status_code == 404
    link = items.links.create(**at, data=CreateWorkItemLink(url="https://example.com/a", title="A"))
    assert items.links.retrieve(**at, link_id=link.id) == link
    changed = items.links.update(**at, link_id=link.id, data=UpdateWorkItemLink(url="https://example.com/b", title="B"))
    assert (changed.url, changed.title) == ("https://example.com/b", "B")
    assert items.links.list(**at).results == [changed]
    with pytest.raises(HttpError) as refusal:
        items.links.create(**at, data=CreateWorkItemLink(url="https://example.com/b"))
    assert refusal.value.status_code == 400
    items.links.delete(**at, link_id=link.id)
    assert items.links.list(**at).total_count == 0
    told = items.activities.list(**at)
    assert [(row.verb, row.field) for row in told.results][1:] == [
        ("created", "attachment"), ("deleted", "attachment"),
        ("created", "link"), ("updated", "link"), ("deleted", "link"),
    ]  # fmt: skip
    assert items.activities.retrieve(**at, activity_id=told.results[-1].id) == told.results[-1]
    for found in (
        items.retrieve(**at),
        items.retrieve_by_identifier("demo", "DEMO", int(one.issue_key.rpartition("-")[2])),
    ):
        assert (found.id, found.name, found.project) == (one.issue, "Ship it", one.project)
        assert f"DEMO-{found.sequence_id}" == one.issue_key
    with_token: Any = PlaneClient(base_url=one.server.ready["http"], access_token=one.key)
    assert with_token.work_items.attachments.list(**at) == []


# Work items are kept elsewhere, and so are comments; of Plane's second API nothing is served.
REFUSED: dict[str, Callable[[Any, tuple[str, str, str]], object]] = {
    "listing work items": lambda client, at: client.work_items.list(*at[:2]),
    "creating a work item": lambda client, at: client.work_items.create(*at[:2], CreateWorkItem(name="x")),
    "changing a work item": lambda client, at: client.work_items.update(*at, UpdateWorkItem(name="x")),
    "deleting a work item": lambda client, at: client.work_items.delete(*at),
    "searching": lambda client, at: client.work_items.search(at[0], "x"),
    "counting": lambda client, at: client.work_items.count_workspace(at[0]),
    "comments": lambda client, at: client.work_items.comments.list(*at),
    "a comment": lambda client, at: client.work_items.comments.create(*at, CreateWorkItemComment(comment_html="x")),
    "relations": lambda client, at: client.work_items.relations.list(*at),
    "pages of a work item": lambda client, at: client.work_items.pages.list(*at),
    "files by the second API": lambda client, at: client.v2.workspaces.projects.work_items.attachments.list(*at),
}


def test_what_the_client_is_refused(one: Desk) -> None:
    """What else `plane-sdk` offers for work items is not there, and leaves everything as it was."""
    client: Any = PlaneClient(base_url=one.server.ready["http"], api_key=one.key)
    for what, call in REFUSED.items():
        with pytest.raises(PlaneSdkError) as refusal:
            call(client, ("demo", one.project, one.issue))
        assert refusal.value.status_code in {404, 405}, what
    assert one.call("GET", f"{one.base}/").json()["name"] == "Ship it"


def test_what_the_client_can_not_do(one: Desk) -> None:
    """Three calls of `plane-sdk` fail as they do at Plane: they read bodies that no answer has."""
    at: dict[str, Any] = {"workspace_slug": "demo", "project_id": one.project, "work_item_id": one.issue}
    attachments = PlaneClient(base_url=one.server.ready["http"], api_key=one.key).work_items.attachments
    id_ = one.upload(b"x" * 20)
    nothing: dict[str, Any] = {"external_id": None, "external_source": None}
    wanted = WorkItemAttachmentUploadRequest(name="a.png", type="image/png", size=1, **nothing)
    with pytest.raises(ValueError, match="validation error"):
        attachments.create(**at, data=wanted)
    with pytest.raises(ValueError, match="validation error"):
        attachments.retrieve(**at, attachment_id=id_)
    with pytest.raises(ValueError, match="validation error"):
        attachments.update(**at, attachment_id=id_, data=UpdateWorkItemAttachment(is_uploaded=True))


def test_its_description(server: RunningServer) -> None:
    """Each path is described, in both spellings alike."""
    paths = httpx.get(f"{server.ready['http']}/openapi.json").json()["paths"]
    item = "/api/v1/workspaces/{workspace}/projects/{project}"
    new, old = (paths[f"{item}/{one}/{{issue}}/{files}/"] for one, files in SPELLINGS)
    assert new["post"]["summary"] == "Begin an upload: the form to send the bytes by, and the attachment that will be."
    for told in (new, old):
        for operation in told.values():
            del operation["operationId"]
    assert new == old
    assert "/api/v1/workspaces/{workspace}/issues/{key}/" in paths


def test_what_the_service_did_by_itself() -> None:
    """The service is no user of Plane's, and has no id there."""
    assert uuid(SERVICE.id) is None


def test_names_and_numbers(one: Desk) -> None:
    """A name loses what is dangerous in it; what is no name, size or type is refused, and nothing begins."""
    given = {"C:\\a\\..secret.png": "secret.png", "../../etc/x.png": "x.png", "a\0b.png": "ab.png"}
    for name, kept in given.items():
        assert one.begin(b"x", name)["attachment"]["attributes"]["name"] == kept
    good = {"name": "a.png", "type": "image/png", "size": 3}
    bad_request = {"error": "Invalid request.", "status": False}
    bad_type = {"error": "Invalid file type.", "status": False}
    for bad, words in (
        ({"name": ""}, bad_request), ({"name": "../"}, bad_request), ({"name": 1}, bad_request),
        ({"size": 0}, bad_request), ({"size": -1}, bad_request), ({"size": "3"}, bad_request),
        ({"size": True}, bad_request), ({"size": 1e30}, bad_request), ({"size": None}, bad_request),
        ({"type": ""}, bad_type), ({"type": 1}, bad_type), ({"type": None}, bad_type),
    ):  # fmt: skip
        reply = one.call("POST", one.files, json={**good, **bad})
        assert (reply.status_code, reply.json()) == (400, words), bad
    for bad in ({"external_id": 1}, {"type": "no type"}, {"name": "a" * 300}):
        assert one.call("POST", one.files, json={**good, **bad}).status_code == 400, bad
    for bad, field in (({"type": "no type"}, "type"), ({"external_id": "x" * 300}, "external_id")):
        assert list(one.call("POST", one.files, json={**good, **bad}).json()) == [field]
    half = b'{"name": "\\ud800", "type": "image/png", "size": 3}'
    for body in (b"", b"[]", b"{", b"[" * 100_000, half, b'{"a": "' + b"a" * 2**20 + b'"}'):
        reply = one.call("POST", one.files, content=body)
        assert (reply.status_code, list(reply.json())) == (400, ["detail"])
    assert one.begin(b"xyz", size=3.0)["attachment"]["size"] == 3.0


def test_external_ids(one: Desk) -> None:
    """An external id of one source is there once on a work item: a second upload is told of the first."""
    reference = {"external_id": "7", "external_source": "jira"}
    late = one.begin(b"late", **reference)
    first = one.upload(b"first", **reference)
    (listed,) = one.call("GET", one.files).json()
    assert {name: listed[name] for name in reference} == reference
    conflict = {"error": "Issue with the same external id and external source already exists", "id": first}
    asked = {"name": "a", "type": "image/png", "size": 1, **reference}
    reply = one.call("POST", one.files, json=asked)
    assert (reply.status_code, reply.json()) == (409, conflict)
    one.send(late, b"late")
    assert (one.confirm(late["asset_id"]).status_code, one.confirm(first).status_code) == (409, 204)
    assert one.confirm(late["asset_id"]).json() == conflict
    one.upload(b"other", external_id="8", external_source="jira")
    one.upload(b"half", external_id="7")
    one.call("DELETE", f"{one.files}{first}/")
    assert one.call("POST", one.files, json=asked).status_code == 200


def test_an_external_id_for_many_at_once(one: Desk) -> None:
    """Of 64 who attach one external id at the same moment, one does, and all others are told which attachment it is."""
    data = uuid4().bytes
    begun = [one.begin(data, external_id="9", external_source="jira") for _ in range(64)]
    with ThreadPoolExecutor(16) as pool:
        sent = list(pool.map(lambda made: one.send(made, data).status_code, begun))
        replies = list(pool.map(lambda made: one.confirm(made["asset_id"]), begun))
    assert set(sent) <= {200, 201, 204}
    (listed,) = one.call("GET", one.files).json()
    conflict = {"error": "Issue with the same external id and external source already exists", "id": listed["id"]}
    assert sorted(reply.status_code for reply in replies) == [204] + [409] * 63
    assert all(reply.json() == conflict for reply in replies if reply.status_code == 409)
    told = one.call("GET", f"{one.base}/activities/").json()["results"]
    assert [row["new_identifier"] for row in told if row["field"] == "attachment"] == [listed["id"]]


def test_confirmed_by_several_at_once(one: Desk) -> None:
    """However many confirm one upload at once, all are told that it is there, once, with its external id."""
    made = one.begin(b"x" * 1000, external_id="1", external_source="jira")
    assert one.send(made, b"x" * 1000).status_code in {200, 201, 204}
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(one.confirm, [made["asset_id"]] * 8))
    assert [reply.status_code for reply in replies] == [204] * 8
    assert [found["id"] for found in one.call("GET", one.files).json()] == [made["asset_id"]]
    told = one.call("GET", f"{one.base}/activities/").json()["results"]
    assert [row["verb"] for row in told if row["field"] == "attachment"] == ["created"]


def test_deleting_what_was_not_uploaded(one: Desk) -> None:
    """An upload that is given up takes no bytes any more, and is gone."""
    made = one.begin(b"x")
    path = f"{one.files}{made['asset_id']}/"
    assert one.call("DELETE", path).status_code == 204
    for method in ("DELETE", "GET", "PATCH"):
        assert one.call(method, path).status_code == 404, method


def test_settings(start_server: Callable[..., RunningServer]) -> None:
    """Declared sizes are clamped, other types refused, and requests counted for each key, once that is set."""
    types = "image/png,text/plain"
    server = start_server(REMORA_PLANE_MAX_BYTES="100", REMORA_PLANE_TYPES=types, REMORA_PLANE_RATE="6")
    desk = desk_at(server, "50")
    made = desk.begin(b"x" * 101)
    assert (made["attachment"]["size"], made["attachment"]["attributes"]["size"]) == (100.0, 100)
    assert 400 <= desk.send(made, b"x" * 101).status_code < 500
    assert (desk.confirm(made["asset_id"]).status_code, desk.confirm(made["asset_id"]).json()) == (400, NOT_UPLOADED)
    reply = desk.call("POST", desk.files, json={"name": "a.gif", "type": "image/gif", "size": 1})
    assert (reply.status_code, reply.json()) == (400, {"error": "Invalid file type.", "status": False})
    assert reply.headers["X-RateLimit-Remaining"] == "2"
    reply = desk.call("GET", "/api/v1/nothing/")
    assert (reply.status_code, reply.headers["X-RateLimit-Remaining"]) == (404, "1")
    assert desk.call("GET", desk.files).status_code == 200
    reply = desk.call("GET", desk.files)
    assert (reply.status_code, reply.json()) == (429, {"error_code": 5900, "error_message": "RATE_LIMIT_EXCEEDED"})
    assert reply.headers["X-RateLimit-Remaining"] == "0"
    assert 0 <= int(reply.headers["X-RateLimit-Reset"]) - time.time() <= 61
    assert 1 <= int(reply.headers["Retry-After"]) <= 60
    other = replace(desk, key=server.new_key("other"))
    assert other.call("GET", desk.files).status_code == 200


def test_a_token_counts_as_its_key(start_server: Callable[..., RunningServer]) -> None:
    """What is asked with tokens of /oauth/token is counted for the key that they stand for."""
    server = start_server(REMORA_PLANE_RATE="3")
    made = server.report("keys", "create", "--workspace", "demo", "--user", "counted")
    form = {"grant_type": "client_credentials", "client_id": made["principal_id"], "client_secret": made["key"]}
    tokens = [httpx.post(f"{server.ready['http']}/oauth/token", data=form).json()["access_token"] for _ in range(2)]
    left = [
        httpx.get(f"{server.ready['http']}/api/v1/", headers={"X-Api-Key": key}).headers["X-RateLimit-Remaining"]
        for key in (*tokens, made["key"], tokens[0])
    ]
    assert left == ["2", "1", "0", "0"]


def test_fields_and_expand(one: Desk) -> None:
    """`fields` leaves the others out; `expand` shows things in place of their ids, as plane-sdk asks for them."""
    issue = issue_pb2.Issue(workspace_id="demo", key=one.issue_key, title="Ship it")
    issue.status.CopyFrom(issue_pb2.IssueStatus(id="s-1", name="Doing", color="#fff", category="STARTED"))
    issue.assignees.add(id="u-1", display_name="Sam", avatar_url="https://example.com/sam.png")
    one.server.api().issues.UpsertIssue(issue_service_pb2.UpsertIssueRequest(issue=issue))
    items: Any = PlaneClient(base_url=one.server.ready["http"], api_key=one.key).work_items
    at = ("demo", one.project, one.issue)
    whole = items.retrieve(*at, params=Wanted(expand="assignees,labels,state,project,nothing,name"))
    assert (whole.state.name, whole.state.group) == ("Doing", "started")
    assert [(found.id, found.display_name, found.avatar_url) for found in whole.assignees] == [
        ("u-1", "Sam", "https://example.com/sam.png")
    ]
    assert (whole.labels, whole.project["identifier"], whole.name) == ([], "DEMO", "Ship it")
    few = items.retrieve(*at, params=Wanted(fields="id,name,priority,state,nothing"))
    assert few.model_dump(exclude_unset=True) == {
        "id": one.issue,
        "name": "Ship it",
        "priority": "none",
        "state": "s-1",
    }
    number = int(one.issue_key.rpartition("-")[2])
    few = items.retrieve_by_identifier("demo", "DEMO", number, params=Wanted(fields="id"))
    assert few.model_dump(exclude_unset=True) == {"id": one.issue}
    link = items.links.create(*at, CreateWorkItemLink(url="https://example.com/f", title="F"))
    (found,) = items.links.list(*at, params={"fields": "id,url"}).results
    assert found.model_dump(exclude_unset=True) == {"id": link.id, "url": link.url}
    path = f"{one.base}/links/{link.id}/"
    told = one.call("GET", path, params={"fields": "created_by,issue,workspace", "expand": "created_by,issue"}).json()
    assert list(told) == ["created_by", "workspace", "issue"]
    assert told["created_by"]["id"] == link.created_by
    assert told["created_by"]["display_name"].startswith("plane-")
    assert (told["issue"]["id"], told["workspace"]) == (one.issue, link.workspace)
    params = {"expand": "actor,project,workspace", "fields": "actor,project,workspace,field", "order_by": "-created_at"}
    (newest, *_) = one.call("GET", f"{one.base}/activities/", params=params).json()["results"]
    assert (newest["field"], newest["actor"]["id"], newest["project"]["id"]) == ("link", link.created_by, one.project)
    assert newest["workspace"]["slug"] == "demo"


def test_pages(one: Desk) -> None:
    """Pages follow their cursors to the end and back, in either order."""
    for number in range(5):
        one.call("POST", f"{one.base}/links/", json={"url": f"https://example.com/{number}"})
    for order, expected in (("-created_at", "43210"), ("created_at", "01234")):
        seen, cursor = "", "2:0:0"
        for page in range(3):
            asked = {"per_page": "2", "cursor": cursor, "order_by": order}
            told = one.call("GET", f"{one.base}/links/", params=asked).json()
            assert (told["total_count"], told["total_pages"], told["count"]) == (5, 3, 1 if page == 2 else 2)
            assert (told["next_page_results"], told["prev_page_results"]) == (page < 2, page > 0)
            assert told["prev_cursor"] == f"2:{page - 1}:1"
            seen += "".join(link["url"][-1] for link in told["results"])
            cursor = told["next_cursor"]
        assert seen == expected
        assert one.call("GET", f"{one.base}/links/", params={**asked, "cursor": cursor}).json()["results"] == []
        back = one.call("GET", f"{one.base}/links/", params={"cursor": told["prev_cursor"], "order_by": order}).json()
        assert "".join(link["url"][-1] for link in back["results"]) == expected[2:4]
    told = one.call("GET", f"{one.base}/activities/", params={"order_by": "-created_at", "per_page": 1}).json()
    assert (told["results"][0]["new_value"], told["total_count"]) == ("https://example.com/4", 6)
    for bad in ("per_page=0", "per_page=x", "per_page=1001", "per_page=", "cursor=2:-1:1", "cursor=2:0", "cursor="):
        for what in ("links", "activities"):
            reply = one.call("GET", f"{one.base}/{what}/?{bad}")
            assert (reply.status_code, list(reply.json())) == (400, ["detail"]), bad


def test_links(desk: Desk) -> None:
    """A link has another's URL neither at first nor later; a title may be emptied."""
    base = f"{desk.base}/links/"
    first = desk.call("POST", base, json={"url": "https://example.com/1", "title": "one"}).json()
    second = desk.call("POST", base, json={"url": "https://example.com/2"}).json()
    reply = desk.call("PATCH", f"{base}{second['id']}/", json={"url": "https://example.com/1"})
    assert (reply.status_code, reply.json()) == (400, {"error": "URL already exists for this Issue"})
    assert desk.call("PATCH", f"{base}{first['id']}/", json={"title": None}).json()["title"] == ""
    assert desk.call("PATCH", f"{base}{first['id']}/", json={}).json()["url"] == "https://example.com/1"
    for bad in ({}, {"url": ""}, {"url": 1}, {"url": "x"}, {"url": "ftp://a/b"}, {"url": "javascript:alert(1)"}):
        reply = desk.call("POST", base, json=bad)
        assert (reply.status_code, list(reply.json())) == (400, ["url"]), bad
    assert desk.call("PATCH", f"{base}{first['id']}/", json={"url": ""}).status_code == 400
    long = {"title": "t" * 256}
    for reply in (
        desk.call("POST", base, json={"url": "https://example.com/3", **long}),
        desk.call("PATCH", f"{base}{first['id']}/", json=long),
    ):
        assert (reply.status_code, list(reply.json())) == (400, ["title"])
    assert desk.call("PATCH", f"{base}{first['id']}/", json={"title": "t" * 255}).status_code == 200
    assert len(desk.call("GET", base).json()["results"]) == 2


def test_what_is_not_there(desk: Desk) -> None:
    """404 for what is elsewhere, in another workspace, or nowhere; and for ids that are no UUIDs."""
    id_ = desk.upload(b"x" * 30)
    link = desk.call("POST", f"{desk.base}/links/", json={"url": "https://example.com"}).json()["id"]
    (act, *_) = desk.call("GET", f"{desk.base}/activities/").json()["results"]
    other = desk_at(desk.server, str(int(desk.issue_key.rpartition("-")[2]) + 5000), desk.spelling)
    own = desk.begin(b"x")["asset_id"]
    paths = [
        f"{other.files}{id_}/", f"{other.files}{own}/", f"{other.base}/links/{link}/", f"{desk.files}{link}/",
        f"{desk.base}/links/{id_}/", f"{desk.files}att_01m7zk00000000000000000000/", f"{desk.files}x/",
        desk.files.replace(desk.issue, str(uuid4())), desk.files.replace(desk.project, str(uuid4())),
        desk.files.replace("/demo/", "/elsewhere/"), f"{desk.base}/nothing/", "/api/v1/",
        f"{desk.base.replace(desk.issue, desk.issue_key)}/", "/api/v1/workspaces/demo/work-items/DEMO-99999999/",
    ]  # fmt: skip
    for path in paths:
        reply = desk.call("GET", path)
        assert (reply.status_code, reply.json()) == (404, NOT_THERE), path
    for path in paths[:4]:
        assert desk.call("DELETE", path).status_code == 404, path
    assert desk.call("GET", f"{other.base}/activities/{act['id']}/").status_code == 404
    assert other.call("GET", f"{desk.files}{own}/").status_code == 404  # Nobody else's to finish.
    assert other.call("GET", f"{desk.files}{id_}/").status_code == 302
    stranger = replace(desk, key=desk.server.new_key("stranger", workspace="elsewhere"))
    for path in (desk.files, f"{desk.files}{id_}/", f"{desk.base}/links/", f"{desk.base}/"):
        for there in (path, path.replace("/demo/", "/elsewhere/")):
            assert (stranger.call("GET", there).status_code, stranger.call("GET", there).json()) == (404, NOT_THERE)
    reply = desk.call("PUT", desk.files)
    assert (reply.status_code, list(reply.json())) == (405, ["detail"])


def test_who_may(one: Desk) -> None:
    """401 without a key, 403 with a bad one, before all else; 403 without the scope; both headers carry keys."""
    url = one.server.ready["http"]
    for path in (one.files, "/api/v1/nothing"):
        reply = httpx.get(url + path)
        assert (reply.status_code, reply.json()) == (401, {"detail": "Authentication credentials were not provided."})
        for headers in ({"X-Api-Key": "no"}, {"Authorization": "Bearer no"}):
            reply = httpx.get(url + path, headers=headers)
            assert (reply.status_code, reply.json()) == (403, {"detail": "Given API token is not valid"})
    assert httpx.get(url + one.files, headers={"Authorization": f"Bearer {one.key}"}).json() == []
    assert httpx.get(url + one.files, headers={"Authorization": f"Basic {one.key}"}).status_code == 401
    narrow = replace(one, key=one.server.new_key("narrow", scopes="links:read"))
    for route in routes(Uploads(1, frozenset())):
        if "<" in route.path.partition("<issue>/")[2] or "<key>" in route.path:
            continue
        path = route.path.replace("<workspace>", "demo").replace("<project>", one.project)
        may = route.rpc == "LinkService.ListLinks"
        reply = narrow.call(route.method, path.replace("<issue>", one.issue))
        assert (reply.status_code, list(reply.json())[:1] == ["error"]) == ((200, False) if may else (403, True)), path
    assert "X-RateLimit-Remaining" not in one.call("GET", one.files).headers

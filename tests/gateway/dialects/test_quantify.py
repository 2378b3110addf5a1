"""Quantify's door: every exchange of its document, paging, filters, scopes, and what is refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from remora.v1 import issue_pb2, issue_service_pb2
from remora_server.gateway.dialects.quantify import ROUTES
from tests.gateway.exchanging import EXCHANGES as EXCHANGES_FOLDER
from tests.gateway.exchanging import Replay, exchanges_of
from tests.media.making import pages
from tests.previewing import keep, settled
from tests.running import Api, RunningServer
from tests.uploading import upload

EXCHANGES = exchanges_of("quantify")
Get = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    """Start a server with what the document tells of, and replay the whole document against it, in its order."""
    server = RunningServer(tmp_path_factory.mktemp("quantify") / "data").start()
    key = server.new_key("Alex Morgan")
    alex, sam = server.api(key), server.api(server.new_key("Sam Patel"))
    data = pages(["0 0 300 400"])
    data += b"\n%" + bytes(248_133 - len(data) - 2)
    file = upload(alex, data, name="public-api-overview.pdf", attach_to="PLAT-142").file
    settled(alex, file.id)
    parent = push(sam, "PLAT-142", title="Public API").issue
    child = issue_pb2.Issue(
        workspace_id="demo",
        key="PLAT-143",
        title="Add project endpoint docs",
        parent_issue_id=parent.id,
        status=issue_pb2.IssueStatus(id="iss-status_open", name="Open", color="#2563eb"),
    )
    child.assignees.add(id="usr_01SAM", display_name="Sam Patel", avatar_url="https://cdn.example.com/avatars/sam.png")
    sam.issues.UpsertIssue(issue_service_pb2.UpsertIssueRequest(issue=child))
    plain = upload(alex, b"\0\1\2", name="raw.bin", attach_to="PLAT-200").attachment_id
    reader = server.new_key("Reader", scopes="issues:read")
    yield Replay(server.ready["http"], {"Authorization": f"Bearer {key}"}, plain=plain, reader=reader)
    server.kill()


def push(api: Api, key: str, **fields: Any) -> issue_service_pb2.UpsertIssueResponse:
    """Push an issue as a tracker does."""
    issue = issue_pb2.Issue(workspace_id="demo", key=key, **fields)
    return api.issues.UpsertIssue(issue_service_pb2.UpsertIssueRequest(issue=issue))


def test_the_document(told: Replay) -> None:
    """Every request of the document gets the answer of the document, field by field."""
    for exchange in EXCHANGES:
        told.play(exchange)


@pytest.fixture
def alex(server: RunningServer) -> tuple[Api, Get]:
    """Return a new user's ways to call the shared server: gRPC, and this door."""
    key = server.new_key(f"alex-{uuid4()}")
    return server.api(key), at_door(server, key)


def at_door(server: RunningServer, key: str) -> Get:
    """Return what asks at this door with a key."""

    def get(path: str, method: str = "GET", **options: Any) -> httpx.Response:
        return httpx.request(method, server.ready["http"] + path, headers={"Authorization": f"Bearer {key}"}, **options)

    return get


def code(reply: httpx.Response) -> tuple[int, str]:
    """Return status and code of a refusal, whose form is always the same."""
    (error,) = reply.json().values()
    assert list(error) == ["code", "message"]
    return reply.status_code, error["code"]


def test_redirects_lead_to_the_bytes(server: RunningServer, alex: tuple[Api, Get], new_issue: str) -> None:
    """GET and HEAD of content and preview lead to a URL of the server's own that needs no key."""
    api, get = alex
    data = pages(["0 0 30 40"]) + uuid4().bytes + bytes(100_000)  # Not in the database.
    file = keep(api, data, "a.pdf", new_issue)
    settled(api, file.id)
    (listed,) = get(f"/v1/issues/{new_issue}/attachments").json()["results"]
    for method in ("GET", "HEAD"):
        for place, is_original in (("downloadUrl", True), ("previewUrl", False)):
            reply = get(listed[place], method)
            assert (reply.status_code, reply.content) == (302, b"")
            assert reply.headers["location"].startswith(f"{server.ready['http']}/downloads/")
            fetched = httpx.get(reply.headers["location"])
            assert fetched.status_code == 200
            assert (fetched.content == data) is is_original


def test_pages(alex: tuple[Api, Get], new_issue: str) -> None:
    """Pages follow each other to the end, each with what came before it, and all with the same total."""
    api, get = alex
    for number in range(5):
        get(f"/v1/issues/{new_issue}/links", "POST", json={"url": f"https://example.com/{number}", "title": "t"})
    seen, cursor = [], ""
    while True:
        reply = get(f"/v1/issues/{new_issue}/links", params={"page_size": 2, "cursor": cursor}).json()
        pagination = reply["pagination"]
        assert (pagination["pageSize"], pagination["cursor"], pagination["totalCount"]) == (2, cursor, 5)
        assert pagination["returnedCount"] == len(reply["results"])
        seen += [one["url"][-1] for one in reply["results"]]
        cursor = pagination["nextCursor"]
        assert pagination["hasMore"] is bool(cursor)
        if not cursor:
            break
    assert seen == ["4", "3", "2", "1", "0"]
    del api


def test_pages_of_activity(alex: tuple[Api, Get], new_issue: str) -> None:
    """What happened is numbered from page to page, newest first; a cursor is good as it was given only."""
    _, get = alex
    for number in range(4):
        get(f"/v1/issues/{new_issue}/links", "POST", json={"url": f"https://example.com/{number}", "title": "t"})
    path = f"/v1/issues/{new_issue}/activity"
    whole = get(path).json()["results"]
    seen: list[dict[str, Any]] = []
    cursors: list[str] = []
    cursor = ""
    while not cursors or cursor:
        told = get(path, params={"page_size": 2, "cursor": cursor}).json()
        assert told["pagination"]["cursor"] == cursor
        seen += told["results"]
        cursor = told["pagination"]["nextCursor"]
        cursors.append(cursor)
    assert [one["sortOrder"] for one in seen] == [1, 2, 3, 4]
    assert seen == whole
    count, _, token = cursors[0].partition(".")
    for bad in (token, f".{token}", f"x.{token}", f"{'9' * 5000}.{token}", count, f"{count}.", f"{count}.x"):
        assert code(get(path, params={"cursor": bad})) == (400, "validation_failed"), bad


def test_names_of_fields(alex: tuple[Api, Get]) -> None:
    """A refusal names what was sent as the document does."""
    _, get = alex
    reply = get(f"/v1/issues/{'x' * 300}/links")
    assert code(reply) == (400, "validation_failed")
    assert reply.json()["error"]["message"] == "issue: has more than 255 characters"


@pytest.mark.parametrize(
    "query",
    [
        "page_size=0", "page_size=101", "page_size=x", "page_size=-1", "page_size=", "cursor=x", "page_size=1e1",
        "page_size=000000001" + "9" * 5000, "page_size=0000000019999999",
    ],
    ids=lambda query: query[:30],
)  # fmt: skip
def test_bad_pages(alex: tuple[Api, Get], new_issue: str, query: str) -> None:
    """A page that can't be is refused."""
    api, get = alex
    push(api, new_issue)
    for what in ("activity", "attachments", "links", "subissues"):
        assert code(get(f"/v1/issues/{new_issue}/{what}?{query}")) == (400, "validation_failed")


def test_filters(alex: tuple[Api, Get], new_issue: str) -> None:
    """Attachments by type and uploader; activity by actor, type and time; sub-issues by state and assignee."""
    api, get = alex
    keep(api, b"text", "a.txt", new_issue)
    keep(api, b"{}", "a.json", new_issue)
    attachments = f"/v1/issues/{new_issue}/attachments"
    assert len(get(attachments).json()["results"]) == 2
    (found,) = get(attachments, params={"content_type": "application/json"}).json()["results"]
    assert found["fileName"] == "a.json"
    mine = {"created_by_user_account_id": found["uploadedByUserAccountId"]}
    assert len(get(attachments, params=mine).json()["results"]) == 2
    assert get(attachments, params={"created_by_user_account_id": "usr_other"}).json()["results"] == []
    activity = f"/v1/issues/{new_issue}/activity"
    told = get(activity).json()["results"]
    assert [one["sortOrder"] for one in told] == [1, 2]
    when = told[0]["occurredUtc"]
    assert len(get(activity, params={"from_utc": when}).json()["results"]) >= 1
    assert get(activity, params={"to_utc": "2001-01-01T00:00:00"}).json()["results"] == []
    assert get(activity, params={"event_type": "link.created.v1"}).json()["results"] == []
    assert get(activity, params={"actor_user_account_id": "usr_other"}).json()["results"] == []
    assert code(get(activity, params={"from_utc": "yesterday"})) == (400, "validation_failed")
    parent = push(api, new_issue).issue
    for number, completed in ((1, False), (2, True)):
        push(api, f"{new_issue}{number}", parent_issue_id=parent.id, completed=completed)
    subissues = f"/v1/issues/{new_issue}/subissues"
    assert len(get(subissues).json()["results"]) == 2
    assert len(get(subissues, params={"include_completed": "false"}).json()["results"]) == 1
    assert get(subissues, params=[("status_id", "a"), ("status_id", "b")]).json()["results"] == []
    assert code(get(subissues, params={"include_completed": "maybe"})) == (400, "validation_failed")


def test_what_is_not_there(alex: tuple[Api, Get], new_issue: str) -> None:
    """404 for an unknown issue, attachment, link or path, for what is on another issue, and for what was deleted."""
    api, get = alex
    mine = upload(api, b"x", attach_to=new_issue).attachment_id
    link = get(f"/v1/issues/{new_issue}/links", "POST", json={"url": "https://example.com", "title": "t"}).json()["id"]
    push(api, f"{new_issue}00009")
    for path in (
        "/v1/issues/NONE-1/attachments",
        "/v1/issues/NONE-1/activity",
        "/v1/issues/NONE-1/subissues",
        "/v1/issues/NONE-1/links",
        f"/v1/issues/{new_issue}00009/attachments/{mine}",
        f"/v1/issues/{new_issue}00009/attachments/{mine}/content",
        f"/v1/issues/{new_issue}/attachments/att_01m7zk00000000000000000000",
        f"/v1/issues/{new_issue}/attachments/../../etc/passwd",
        f"/v1/issues/{new_issue}/nothing",
        "/v1/",
    ):
        assert code(get(path)) == (404, "not_found"), path
    assert code(get(f"/v1/issues/{new_issue}00009/links/{link}", "DELETE")) == (404, "not_found")
    assert get(f"/v1/issues/{new_issue}/links/{link}", "DELETE").status_code == 204
    assert code(get(f"/v1/issues/{new_issue}/links/{link}", "DELETE")) == (404, "not_found")
    assert code(get(f"/v1/issues/{new_issue}/attachments/{mine}", "PUT")) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"{}", b'{"url": 1, "title": "t"}', b'{"url": "x", "title": "t"}', b"[" * 100_000]
)
def test_bad_links(alex: tuple[Api, Get], new_issue: str, body: bytes) -> None:
    """What is no link is refused, and nothing is stored."""
    api, get = alex
    push(api, new_issue)
    assert code(get(f"/v1/issues/{new_issue}/links", "POST", content=body)) == (400, "validation_failed")
    assert get(f"/v1/issues/{new_issue}/links").json()["results"] == []


def test_who_may(server: RunningServer, new_issue: str) -> None:
    """401 without a good key, before all else; 403 without the scope; `issues:*` covers what it says."""
    for headers in ({}, {"Authorization": "Bearer no"}, {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer"}):
        for path in (f"/v1/issues/{new_issue}/links", "/v1/nothing"):
            assert code(httpx.get(server.ready["http"] + path, headers=headers)) == (401, "unauthorized")
    paths = [route.path.replace("<issue>", new_issue) for route in ROUTES if "<" not in route.path[13:]]
    push(server.api(), new_issue)
    reading = at_door(server, server.new_key("reading", scopes="issues:read"))
    narrow = at_door(server, server.new_key("narrow", scopes="links:read"))
    writing = at_door(server, server.new_key("writing", scopes="issues:write"))
    new = {"url": "https://example.com/scopes", "title": "t"}
    for path in paths:
        assert reading(path).status_code == 200
        assert narrow(path).status_code == (200 if path.endswith("/links") else 403)
    assert code(reading(f"/v1/issues/{new_issue}/links", "POST", json=new)) == (403, "forbidden")
    assert writing(f"/v1/issues/{new_issue}/links", "POST", json=new).status_code == 201
    stranger = at_door(server, server.new_key("stranger", workspace="elsewhere"))
    assert code(stranger(f"/v1/issues/{new_issue}/links")) == (404, "not_found")


def test_the_commands_of_the_document(server: RunningServer, new_issue: str) -> None:
    """The document's curl lines do what they say, verbatim but for host, token and ids."""
    key = server.new_key(f"curl-{uuid4()}")
    api = server.api(key)
    file = keep(api, pages(["0 0 30 40"]) + uuid4().bytes, "a.pdf", new_issue)
    settled(api, file.id)
    push(api, f"{new_issue}00001", parent_issue_id=push(api, new_issue, title="Public API").issue.id)
    (attached,) = at_door(server, key)(f"/v1/issues/{new_issue}/attachments").json()["results"]
    environment = {"API_BASE_URL": server.ready["http"], "ACCESS_TOKEN": key, "PATH": "/usr/bin:/bin"}
    ids = {"PLAT-142": new_issue, "att_overview_pdf": attached["id"]}
    answers = []
    for line in (EXCHANGES_FOLDER / "quantify" / "commands.sh").read_text(encoding="utf-8").split("\n\n"):
        for name, id_ in ids.items():
            line = line.replace(name, id_)  # noqa: PLW2901 - what is run is the line with these ids
        answer = subprocess.run(  # noqa: S602 - the document's own shell lines
            line, shell=True, check=True, env=environment, capture_output=True, text=True, timeout=60
        ).stdout
        answers.append(answer)
        if "-X POST" in line:
            ids["link_docs_pr"] = json.loads(answer)["id"]
    activity, listed, one, content, preview, links, link, deleted, subissues = answers
    assert [told["sortOrder"] for told in json.loads(activity)["results"]] == [1, 2]
    assert (json.loads(listed)["results"], json.loads(one)) == ([attached], attached)
    for redirect in (content, preview):
        assert redirect.startswith("HTTP/1.1 302 ")
        assert "\nlocation: http" in redirect
    assert json.loads(links)["results"] == []
    assert list(json.loads(link)) == ["linkId", "id", "url", "title", "createdUtc"]
    assert deleted == ""
    assert [told["issueKey"] for told in json.loads(subissues)["results"]] == [f"{new_issue}00001"]
    assert at_door(server, key)(f"/v1/issues/{new_issue}/links").json()["results"] == []

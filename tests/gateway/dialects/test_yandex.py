"""Yandex Tracker's door: the exchange of its document, what its real client does, and what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
import pytest
from PIL import Image
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from remora.v1 import attachment_service_pb2, issue_pb2, issue_service_pb2
from remora_server.core.model import PreviewState
from remora_server.gateway.dialects.yandex import get_thumbnail, reconsidered
from tests.gateway.exchanging import Replay, exchanges_of
from tests.media.making import pages
from tests.previewing import settled
from tests.running import Api, RunningServer

EXCHANGES = exchanges_of("yandex")
Ask = Callable[..., httpx.Response]
VERSIONS = pytest.mark.parametrize("version", ["v2", "v3"])


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    """Start a server for the document, with an issue and its sub-issue."""
    settings = {"REMORA_YANDEX_MAX_BYTES": "64KiB"}
    server = RunningServer(tmp_path_factory.mktemp("yandex") / "data", environment=settings).start()
    api = server.api()
    parent = push(api, "JUNE-2", title="Pictures of June", status=issue_pb2.IssueStatus(id="open", name="Open")).issue
    assignee = issue_pb2.IssueAssignee(id="u.name", display_name="User Name")
    push(api, "JUNE-21", title="Find a frame", parent_issue_id=parent.id, assignees=[assignee])
    host = server.ready["http"]
    headers = {"Authorization": f"OAuth {server.new_key('User Name')}", "X-Org-Id": "not provided"}
    push(api, "JUNE-22", title="Another frame")
    files = {"pic.png": image(550, 440, 20_000), "notes.txt": b"notes", "empty": b"", "large": bytes(65_537)}
    reader = server.new_key("Reading", scopes="attachments:read")
    yield Replay(host, headers, files, host=host, reader=reader)
    server.kill()


def image(width: int, height: int, size_bytes: int = 0) -> bytes:
    """Make a PNG that no other test makes, of at least this many bytes."""
    written = io.BytesIO()
    Image.new("RGB", (width, height), tuple(uuid4().bytes[:3])).save(written, "PNG")
    return written.getvalue().ljust(size_bytes, b"\0")


@pytest.fixture
def ask(server: RunningServer) -> Ask:
    """Return what asks at this door of the shared server with the key of a new user."""
    return at_door(server, server.new_key(f"user-{uuid4()}"))


def at_door(server: RunningServer, key: str) -> Ask:
    """Return what asks at this door with a key; a path may be a whole URL."""

    def ask(path: str, method: str = "GET", **options: Any) -> httpx.Response:
        url = path if path.startswith("http") else server.ready["http"] + path
        return httpx.request(method, url, headers={"Authorization": f"OAuth {key}"}, timeout=60, **options)

    return ask


def push(api: Api, key: str, **fields: Any) -> issue_service_pb2.UpsertIssueResponse:
    """Push an issue as a tracker does."""
    issue = issue_pb2.Issue(workspace_id="demo", key=key, **fields)
    return api.issues.UpsertIssue(issue_service_pb2.UpsertIssueRequest(issue=issue))


def attach(ask: Ask, issue: str, data: bytes, name: str = "a.bin", version: str = "v2") -> dict[str, Any]:
    """Attach a file as the real client does."""
    path = f"/{version}/issues/{issue}/attachments/"
    reply = ask(path, "POST", params={"filename": name}, files={"file": ("file", data)})
    assert reply.status_code == 201, reply.text
    made: dict[str, Any] = reply.json()
    return made


def code(reply: httpx.Response) -> int:
    """Return the status of a refusal, whose form is always the same."""
    told = reply.json()
    assert list(told) == ["errors", "errorMessages", "statusCode"]
    assert (told["errors"], told["statusCode"]) == ({}, reply.status_code)
    assert len(told["errorMessages"]) == 1
    return reply.status_code


def test_the_document(told: Replay) -> None:
    """Every request of the document gets the answer of the document, field by field."""
    for exchange in EXCHANGES:
        told.play(exchange)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", told.known["created"])


@VERSIONS
def test_in_and_out(ask: Ask, new_issue: str, version: str) -> None:
    """A file that was attached is listed, got and downloaded, with a slash at the end or without, and is deleted."""
    data = uuid4().bytes * 10_000
    made = attach(ask, new_issue, data, "über 1.pdf", version)
    assert made["self"].endswith(f"/{version}/issues/{new_issue}/attachments/{made['id']}")
    assert (made["mimetype"], made["size"]) == ("application/pdf", len(data))
    assert "thumbnail" not in made
    for ending in ("", "/"):
        assert ask(f"/{version}/issues/{new_issue}/attachments{ending}").json() == [made]
        assert ask(made["self"] + ending).json() == made
        assert hashlib.sha256(ask(made["content"] + ending).content).digest() == hashlib.sha256(data).digest()
    head = ask(made["content"], "HEAD")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(data)), b"")
    assert "filename*=UTF-8''%C3%BCber%201.pdf" in head.headers["content-disposition"]
    assert ask(made["self"], "DELETE").status_code == 204
    assert code(ask(made["self"])) == code(ask(made["content"])) == code(ask(made["self"], "DELETE")) == 404
    assert ask(f"/{version}/issues/{new_issue}/attachments").json() == []


def test_each_upload_is_an_attachment(ask: Ask, new_issue: str) -> None:
    """The same file attached twice is two attachments, oldest first, and goes one by one."""
    first, second = (attach(ask, new_issue, b"the same", "same.txt") for _ in range(2))
    listed = ask(f"/v2/issues/{new_issue}/attachments").json()
    assert [one["id"] for one in listed] == [first["id"], second["id"]]
    ask(first["self"], "DELETE")
    assert ask(second["content"]).content == b"the same"


def test_no_file(ask: Ask, new_issue: str) -> None:
    """An empty file is 422, since the real client sends one after it has lost its own; what is no form is 400."""
    path = f"/v2/issues/{new_issue}/attachments/"
    assert code(ask(path, "POST", files={"file": ("file", b"")})) == 422
    assert code(ask(path, "POST", content=b"x")) == 400
    assert code(ask(path, "POST", data={"file": "x"}, files={"other": (None, b"x")})) == 400
    assert code(ask(f"/v2/issues/{new_issue}/attachments")) == 404


def test_sub_issues(ask: Ask, api: Api, new_issue: str) -> None:
    """No issue becomes its own sub-issue, by however many others; one with a parent gets another."""
    keys = [f"{new_issue}-{number}" for number in range(3)]
    for key in keys:
        push(api, key)
    links = [f"/v2/issues/{key}/links" for key in keys]
    for above, below in ((0, 1), (1, 2), (0, 2)):
        made = {"relationship": "is parent task for", "issue": keys[below]}
        assert ask(links[above], "POST", json=made).status_code == 201
    assert [one["object"]["key"] for one in ask(links[0]).json()] == keys[1:]
    assert [one["object"]["key"] for one in ask(links[1]).json()] == keys[:1]
    assert code(ask(links[2], "POST", json={"relationship": "is parent task for", "issue": keys[0]})) == 400
    assert ask(ask(links[2]).json()[0]["self"], "DELETE").status_code == 204
    assert ask(links[2]).json() == []


def test_external_links(ask: Ask, server: RunningServer, new_issue: str) -> None:
    """Links of an issue are its links to other applications: made once, listed, deleted."""
    push(server.api(), new_issue)
    path = f"/v3/issues/{new_issue}/remotelinks"
    new = {"relationship": "RELATES", "key": "https://CI.example.com/1", "origin": "ru.yandex.lunapark"}
    made = ask(f"{path}?backlink=true", "POST", json=new)
    assert made.status_code == 201
    link = made.json()
    assert link["self"].endswith(f"{path}/{link['id']}")
    assert (link["object"]["key"], link["object"]["application"]["id"]) == (new["key"], "ci.example.com")
    assert ask(path, "POST", json=new).json()["id"] == link["id"]
    assert ask(path).json() == [link]
    assert ask(f"{path}/{link['id']}", "DELETE").status_code == 204
    assert code(ask(f"{path}/{link['id']}", "DELETE")) == 404
    assert ask(path).json() == []
    for bad in ({}, {"key": 1}, {"key": "x"}, {**new, "relationship": "DUPLICATES"}):
        assert code(ask(path, "POST", json=bad)) == 400


def test_what_is_not_there(ask: Ask, server: RunningServer, new_issue: str) -> None:
    """404 for an unknown issue, attachment, change, link or path, for what is on another issue, and for other users."""
    mine = attach(ask, new_issue, b"x")["id"]
    push(server.api(), f"{new_issue}00009")
    here, there = f"/v2/issues/{new_issue}", f"/v2/issues/{new_issue}00009"
    for path in (
        "/v2/issues/NONE-1",
        "/v2/issues/NONE-1/attachments",
        "/v2/issues/NONE-1/changelog",
        "/v2/issues/NONE-1/links",
        "/v2/issues/NONE-1/remotelinks",
        f"/v2/issues/{2**127}",
        f"/v2/issues/{'9' * 50}",
        f"{there}/attachments/{mine}",
        f"{there}/attachments/{mine}/a.bin",
        f"{there}/thumbnails/{mine}",
        f"{here}/thumbnails/{mine}",
        f"{here}/attachments/1",
        f"{here}/attachments/x",
        f"{here}/attachments/{2**128}",
        f"{here}/attachments/../../etc/passwd",
        f"{here}/changelog/1",
        f"{here}/nothing",
        f"/v2/attachments/{mine}",
        "/v2/attachments/1/a.bin",
        "/v2/users/1",
        "/v2/",
        "/v3/nothing",
    ):
        assert code(ask(path)) == 404, path
    (change,) = ask(f"{here}/changelog").json()
    assert code(ask(f"{there}/changelog/{change['id']}")) == 404
    for path in (f"{there}/attachments/{mine}", f"{here}/links/1", f"{here}/links/{2**127}", f"{here}/remotelinks/1"):
        assert code(ask(path, "DELETE")) == 404, path
    assert code(ask(f"{here}/attachments", "PUT")) == 405
    stranger = at_door(server, server.new_key("stranger", workspace=f"other-{uuid4().hex[:8]}"))
    for path in (here, f"{here}/attachments", f"{here}/attachments/{mine}", f"{here}/attachments/{mine}/a.bin"):
        assert code(stranger(path)) == 404


def test_thumbnails_are_of_images(ask: Ask, server: RunningServer, new_issue: str) -> None:
    """A PDF has a preview elsewhere, and none here."""
    made = attach(ask, new_issue, pages(["0 0 30 40"]) + uuid4().bytes, "a.pdf")
    api = server.api()
    query = attachment_service_pb2.GetAttachmentRequest(attachment_id=str(UUID(int=int(made["id"]))))
    settled(api, api.attachments.GetAttachment(query).attachment.file_id)
    assert "thumbnail" not in ask(made["self"]).json()
    assert code(ask(made["content"].replace("/attachments/", "/thumbnails/").rpartition("/")[0])) == 404


def test_by_id(ask: Ask, server: RunningServer, new_issue: str) -> None:
    """An issue is found by its id too, which never makes one."""
    push(server.api(), new_issue)
    number = ask(f"/v2/issues/{new_issue}").json()["id"]
    assert attach(ask, number, b"x")["self"].startswith(f"{server.ready['http']}/v2/issues/{new_issue}/attachments/")
    assert len(ask(f"/v2/issues/{number}/attachments").json()) == 1
    assert code(ask(f"/v2/issues/{2**127}/attachments", "POST", files={"file": ("file", b"x")})) == 404


@pytest.mark.parametrize(
    "size",
    ["0", "1001", "-1", "x", "1e1", "\u0661", "000000001" + "9" * 5000, "0000000019999999"],
    ids=lambda size: size[:30],
)
def test_bad_pages(ask: Ask, server: RunningServer, new_issue: str, size: str) -> None:
    """A page that can't be is refused."""
    push(server.api(), new_issue)
    assert code(ask(f"/v2/issues/{new_issue}/changelog", params={"perPage": size})) == 400
    assert code(ask(f"/v2/issues/{new_issue}/changelog", params={"id": "x"})) == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"[" * 100_000,
        b'{"attachmentIds": 1}',
        b'{"attachmentIds": [{}]}',
        b'{"attachmentIds": [true]}',
        b'{"attachmentIds": [1.5]}',
        b'{"relationship": "is subtask for"}',
        b'{"relationship": [], "issue": "X"}',
        b'{"relationship": "is subtask for", "issue": {"key": 1}}',
        b'{"relationship": "is subtask for", "issue": "\\u0000"}',
        b'{"relationship": "is subtask for", "issue": "\\ud800"}',
        b'{"key": "\\ud800"}',
        b'{"key": "http://x/\\u0000"}',
    ],
)
def test_bad_bodies(ask: Ask, server: RunningServer, new_issue: str, body: bytes) -> None:
    """What makes no sense is refused, and changes nothing."""
    push(server.api(), new_issue)
    path = f"/v2/issues/{new_issue}"
    for method, where in (("PATCH", path), ("POST", f"{path}/links"), ("POST", f"{path}/remotelinks")):
        assert code(ask(where, method, content=body)) == 400, where
    assert ask(f"{path}/attachments").json() == ask(f"{path}/links").json() == ask(f"{path}/remotelinks").json() == []
    assert code(ask(f"{path}/links", "POST", json={"relationship": "is subtask for", "issue": new_issue})) == 400


def test_names_of_fields(ask: Ask, server: RunningServer, new_issue: str) -> None:
    """A refusal names what was sent as the documents do, not as anybody else does."""
    push(server.api(), new_issue)
    path = f"/v2/issues/{new_issue}"
    itself = {"relationship": "is subtask for", "issue": new_issue}
    for name, reply in {
        "filename": ask(f"{path}/attachments", "POST", params={"filename": "a/b"}, files={"file": ("file", b"x")}),
        "issue": ask(f"/v2/issues/{'x' * 300}/attachments", "POST", files={"file": ("file", b"x")}),
        "issue:": ask(f"{path}/links", "POST", json=itself),
        "key": ask(f"{path}/remotelinks", "POST", json={"key": "x"}),
    }.items():
        assert code(reply) == 400
        (message,) = reply.json()["errorMessages"]
        assert message.partition(":")[0] == name.rstrip(":"), message


class Waiting:
    """A client that goes away after some pauses, before a picture that is never ready."""

    def __init__(self, pauses: int) -> None:
        self._pauses = pauses
        self.paused: list[float] = []
        self.asked: list[str] = []
        issue = SimpleNamespace(id="iss_1")
        found = SimpleNamespace(delete_time=None, file=object(), file_id="file_1", subject=issue)
        file = SimpleNamespace(preview=SimpleNamespace(kind="IMAGE", state=PreviewState.PENDING))
        self.core = SimpleNamespace(
            issues=SimpleNamespace(get=("issue", issue)),
            attachments=SimpleNamespace(get=("attachment", found)),
            files=SimpleNamespace(readable=("file", file)),
        )
        self.calls = self.body = self
        self.caller = SimpleNamespace(workspace_id="wks_1")
        self.path = {"issue": "A-1", "attachment": "1"}

    async def read(self, call: tuple[str, object], *_: object, **__: object) -> object:
        """Note what is asked for."""
        self.asked.append(call[0])
        return call[1]

    async def pause(self, seconds: float) -> None:
        """Let no time pass."""
        self.paused.append(seconds)
        if len(self.paused) == self._pauses:
            raise ClientDisconnect


def test_waiting_for_a_thumbnail() -> None:
    """What can change is asked for now and then, ever less often, until the client is gone."""
    waiting = Waiting(6)
    with pytest.raises(ClientDisconnect):
        asyncio.run(get_thumbnail(cast("Any", waiting)))
    assert waiting.paused == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert waiting.asked == ["issue", "attachment", *["file"] * 6]


def test_who_may(server: RunningServer, new_issue: str) -> None:
    """401 without a good key, before all else; 403 without the scope; the key alone counts."""
    push(server.api(), new_issue)
    path = f"{server.ready['http']}/v2/issues/{new_issue}"
    for headers in ({}, {"Authorization": "OAuth no"}, {"Authorization": "Basic eDp5"}, {"Authorization": "OAuth"}):
        for place in ("", "/attachments", "/nothing"):
            assert code(httpx.get(path + place, headers=headers)) == 401
        assert code(httpx.post(f"{path}/attachments/", headers=headers, files={"file": ("file", b"x")})) == 401
    reading = server.new_key("reading", scopes="attachments:read")
    for scheme in ("OAuth", "Bearer", "oauth"):
        headers = {"Authorization": f"{scheme} {reading}", "X-Org-ID": "not provided", "X-Cloud-Org-ID": "x"}
        assert httpx.get(f"{path}/attachments", headers=headers).status_code == 200
        assert code(httpx.get(f"{path}/changelog", headers=headers)) == 403
        for place in (f"{path}/attachments", f"{server.ready['http']}/v2/attachments"):
            assert code(httpx.post(place, headers=headers, files={"file": ("file", b"x")})) == 403


def test_public_url(start_server: Callable[..., RunningServer], new_issue: str) -> None:
    """Every URL begins with the address that the server is known by."""
    server = start_server(REMORA_PUBLIC_URL="https://remora.example.com")
    made = attach(at_door(server, server.ready["key"]), new_issue, image(4, 4), "a.png", "v3")
    for url in (made["self"], made["content"], made["thumbnail"], made["createdBy"]["self"]):
        assert url.startswith("https://remora.example.com/v3/")


@pytest.mark.parametrize("status", [409, 429, 500, 503, 507])
def test_no_repeating(status: int) -> None:
    """What the client would repeat with an empty file becomes 424, on uploads alone, and keeps its message."""
    refused = JSONResponse({"errors": {}, "errorMessages": ["why"], "statusCode": status}, status)
    for path in ("/v2/issues/A-1/attachments/", "/v3/attachments"):
        told = reconsidered("POST", path, refused)
        assert told.status_code == 424
        assert json.loads(bytes(told.body)) == {"errors": {}, "errorMessages": ["why"], "statusCode": 424}
    assert reconsidered("GET", "/v2/attachments", refused) is refused
    assert reconsidered("POST", "/v2/issues/A-1/links", refused) is refused

"""Plane's door: the exchanges of its document, its real client, both spellings, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

from remora.v1 import issue_pb2, issue_service_pb2
from remora_server import dev
from remora_server.core import ids
from tests.gateway.exchanging import Replay, exchanges_of
from tests.running import Api, RunningServer

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


@pytest.fixture
def one(server: RunningServer, new_issue: str) -> Desk:
    """Return a desk with the new spelling."""
    return desk_at(server, str(1000 + int(new_issue.rpartition("-")[2])))


def test_the_document(one: Desk) -> None:
    """The attachment of the document goes its whole way, and every answer is as documented, field by field."""
    replay = Replay(one.server.ready["http"], {"X-Api-Key": one.key}, project=one.project, issue=one.issue)
    data = uuid4().bytes + bytes(135_686 - 16)
    made: dict[str, Any] = {}
    for exchange in exchanges_of("plane"):
        if exchange.name.endswith("-complete-attachment"):
            assert one.send(made, data).status_code in {200, 201, 204}
        reply = replay.play(exchange)
        if exchange.name.endswith("-create-attachment"):
            made = reply.json()


def test_the_three_steps(desk: Desk) -> None:
    """What was declared, sent and confirmed is listed, newest first, and read without a key."""
    data = uuid4().bytes * 100
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
    assert httpx.get(reply.headers["location"]).content == data
    for status in (204, 404):
        assert desk.call("DELETE", path).status_code == status
    for method in ("GET", "PATCH"):
        assert (desk.call(method, path).status_code, desk.call(method, path).json()) == (404, NOT_THERE)
    assert [found["id"] for found in desk.call("GET", desk.files).json()] == [later]

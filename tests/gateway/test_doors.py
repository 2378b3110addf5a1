"""Several doors on one store: what comes in by one is there by the others, in each one's own words."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
import pytest

from remora.v1 import activity_service_pb2, attachment_pb2, attachment_service_pb2, issue_pb2, issue_service_pb2
from remora_server import dev
from remora_server.core import ids
from remora_server.core.errors import ShuttingDownError, StorageUnavailableError
from remora_server.core.model import Caller
from remora_server.gateway.bodies import Pace
from remora_server.gateway.doors import Door
from remora_server.gateway.route import Dialect
from tests.gateway.every_route import ROWS, ask
from tests.gateway.routes import DIALECTS
from tests.gateway.things import prepare
from tests.media.making import encoded, half_and_half, opened
from tests.previewing import settled
from tests.running import RunningServer, issue
from tests.uploading import attached, read

PLAIN = ("GET", "POST", "PUT", "PATCH", "DELETE")


def test_one_file_at_every_door(server: RunningServer, new_issue: str) -> None:
    """A picture that is attached as Tracker's clients do is one blob and one log entry wherever one looks."""
    key = server.new_key(f"doors-{uuid4()}")
    new_issue = f"DEMO-{5000 + int(new_issue.rpartition('-')[2])}"  # Plane's paths name a project.
    api, base = server.api(key), server.ready["http"]
    pushed = api.issues.UpsertIssue(
        issue_service_pb2.UpsertIssueRequest(issue=issue_pb2.Issue(workspace_id="demo", key=new_issue, title="Doors"))
    ).issue
    data = encoded(half_and_half(640, 480), "PNG") + uuid4().bytes

    tracker = {"Authorization": f"OAuth {key}", "X-Org-Id": "not provided"}
    made = httpx.post(
        f"{base}/v2/issues/{new_issue}/attachments/",
        params={"filename": "door.png"},
        files={"file": ("file", data)},
        headers=tracker,
        timeout=60,
    ).json()
    assert (made["name"], made["mimetype"], made["metadata"]) == ("door.png", "image/png", {"size": "640x480"})
    (file,) = attached(api, new_issue)
    assert (file.name, read(api, file.id)) == ("door.png", data)
    settled(api, file.id)

    quantify = {"Authorization": f"Bearer {key}"}
    (listed,) = httpx.get(f"{base}/v1/issues/{new_issue}/attachments", headers=quantify).json()["results"]
    assert (listed["fileName"], listed["sizeBytes"], listed["previewKind"]) == ("door.png", len(data), 1)

    plane = {"X-Api-Key": key}
    seeded = dev.read(server.data)
    assert seeded is not None
    project = seeded["project"]["uuid"]  # type: ignore[index]
    path = f"/api/v1/workspaces/demo/projects/{project}/work-items/{ids.to_uuid(pushed.id)}/attachments/"
    (at_plane,) = httpx.get(base + path, headers=plane).json()
    assert (at_plane["attributes"]["name"], at_plane["size"]) == ("door.png", float(len(data)))

    wanted = attachment_service_pb2.ListAttachmentsRequest(workspace_id="demo", subject=issue(new_issue))
    (attachment,) = api.attachments.ListAttachments(wanted).attachments
    assert listed["id"] == attachment.id
    assert at_plane["id"] == str(ids.to_uuid(attachment.id))
    assert made["id"].isdecimal()

    ways = [
        (made["content"], tracker),
        (base + listed["downloadUrl"], quantify),
        (f"{base}{path}{at_plane['id']}/", plane),
    ]
    for url, headers in ways:
        got = httpx.get(url, headers=headers, follow_redirects=True)
        assert hashlib.sha256(got.content).digest() == file.checksums.sha256
    seen = httpx.get(made["thumbnail"], headers=tracker)
    assert seen.status_code == 200
    assert seen.headers["content-type"] in {"image/png", "image/jpeg"}

    blob = "SELECT COUNT(*) FROM files JOIN blobs ON blobs.id = files.blob_id WHERE files.id = ?"
    assert server.sql(blob, file.id) == [(1,)]
    assert len([1 for one in server.sql("SELECT type FROM activities WHERE resource_id = ?", attachment.id)]) == 1
    activity = httpx.get(f"{base}/v1/issues/{new_issue}/activity", headers=quantify).json()["results"]
    assert [one["eventType"] for one in activity if one["eventType"].startswith("attachment.")] == [
        "attachment.created.v1"
    ]


def asked(url: str, key: str, query: str, given: Mapping[str, str]) -> Any:
    """Send a GraphQL document with one input; return the data."""
    headers = {"Authorization": f"Bearer {key}"}
    reply = httpx.post(url, json={"query": query, "variables": {"input": given}}, headers=headers, timeout=60)
    assert "errors" not in reply.json(), reply.text
    return reply.json()["data"]


def begun(base: str, key: str, data: bytes) -> Any:
    """Begin an upload as Glue's clients do; return the ticket, or the file that is there already."""
    query = """mutation($input: UploadTicketInput!) { uploadTicket(input: $input) {
        ... on File { id } ... on UploadTicket { ticket: id url headers { name value } } } }"""
    said = {
        "name": "upside-down.png",
        "contentLength": str(len(data)),
        "contentMD5": base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode(),
        "contentType": "image/png",
    }
    return asked(f"{base}/public/graphql", key, query, said)["uploadTicket"]


def test_the_story_of_one_file(server: RunningServer) -> None:
    """A picture goes round all doors of the house, and everybody sees the same one: one blob, one log."""
    base, key, other = server.ready["http"], server.new_key(f"chat-{uuid4()}"), server.new_key("reader")
    api, number = server.api(key), 100_000 + int(uuid4().hex[:6], 16)
    seeded = dev.read(server.data)
    assert seeded is not None
    project = seeded["project"]["uuid"]  # type: ignore[index]
    wanted = issue_pb2.Issue(workspace_id="demo", key=f"DEMO-{number}", title="The picture is upside down")
    told = api.issues.UpsertIssue(issue_service_pb2.UpsertIssueRequest(issue=wanted)).issue

    # Somebody watches the issue, before anything happens to it.
    watched = activity_service_pb2.WatchActivitiesRequest(workspace_id="demo", subjects=[issue(told.key)])
    watching = server.api(other).activity.WatchActivities(watched, timeout=100)
    assert next(watching).WhichOneof("message") == "started"

    # A chat program uploads the picture, as Glue's do.
    data = encoded(half_and_half(640, 480), "PNG") + uuid4().bytes
    ticket = begun(base, key, data)
    sent = {one["name"]: one["value"] for one in ticket["headers"]}
    assert httpx.put(ticket["url"], content=data, headers=sent, timeout=60).is_success
    end = "mutation($input: CreateFileInput!) { createFile(input: $input) { id url } }"
    file = asked(base + "/public/graphql", key, end, {"uploadTicketID": ticket["ticket"]})["createFile"]

    # A bot attaches it to the issue by the URL that it was told, as Linear's do.
    attach = """mutation($input: AttachmentCreateInput!) { attachmentCreate(input: $input) {
        success attachment { id issue { identifier } } } }"""
    given = {"issueId": told.key, "title": "upside-down.png", "url": file["url"]}
    made = asked(base + "/graphql", key, attach, given)["attachmentCreate"]["attachment"]
    assert made["issue"]["identifier"] == told.key
    attachment_id = ids.from_uuid(ids.ATTACHMENT, UUID(made["id"]))

    # A dashboard lists what hangs on the work item, as Plane's do.
    path = f"/api/v1/workspaces/demo/projects/{project}/work-items/{ids.to_uuid(told.id)}/attachments/"
    (listed,) = httpx.get(base + path, headers={"X-Api-Key": other}).json()
    assert (listed["id"], listed["attributes"]["name"], listed["size"]) == (made["id"], "upside-down.png", len(data))

    # A phone shows a small one, as Yandex Tracker's do; it can wait until there is one.
    tracker = {"Authorization": f"OAuth {other}", "X-Org-Id": "1"}
    (shown,) = httpx.get(f"{base}/v2/issues/{told.key}/attachments/", headers=tracker).json()
    small = httpx.get(shown["thumbnail"], headers=tracker, timeout=60)
    assert small.status_code == 200
    assert opened(small.content).width <= 550

    # A script asks what happened, as Quantify's do; and whoever watched has seen it happen.
    quantify = {"Authorization": f"Bearer {other}"}
    activity = httpx.get(f"{base}/v1/issues/{told.key}/activity", headers=quantify).json()["results"]
    happened = [one for one in activity if one["eventType"].startswith("attachment.")]
    assert [one["eventType"] for one in happened] == ["attachment.created.v1"]
    seen: list[str] = []
    while attachment_id not in seen:
        message = next(watching)
        seen += [one.resource_id for one in message.batch.activities if one.type == "attachment.created.v1"]
    watching.cancel()
    assert seen == [attachment_id]

    # Each door hands out the same bytes, under the same number.
    ways: list[tuple[str, dict[str, str]]] = [
        (file["url"], {}),
        (f"{base}{path}{listed['id']}/", {"X-Api-Key": other}),
        (shown["content"], tracker),
        (f"{base}/v1/issues/{told.key}/attachments/{attachment_id}/content", quantify),
    ]
    for url, headers in ways:
        assert httpx.get(url, headers=headers, follow_redirects=True, timeout=60).content == data
    assert read(server.api(other), attachment_id=attachment_id) == data
    assert shown["id"] == ids.to_decimal(attachment_id)

    # And when it is sent to the chat once more, it is there already: one file, one blob, one entry in the log.
    assert begun(base, key, data) == {"id": file["id"]}
    sha256 = hashlib.sha256(data).digest()
    assert server.sql("SELECT COUNT(*) FROM blobs WHERE sha256 = ?", sha256) == [(1,)]
    assert server.sql("SELECT COUNT(*) FROM files WHERE sha256 = ?", sha256) == [(1,)]
    assert server.sql("SELECT type FROM activities WHERE resource_id = ?", attachment_id) == [
        ("attachment.created.v1",)
    ]


@pytest.mark.parametrize("method", PLAIN)
@pytest.mark.parametrize(
    "path", ["/v1/x", "/v2/x", "/v3/x", "/api/v1/x", "/v1/issues/%00/links", "/v2/issues/%2e%2e/x"]
)
def test_paths_that_lead_nowhere(server: RunningServer, path: str, method: str) -> None:
    """Without a key nothing is told but that; with one, that there is nothing: never a mistake of ours."""
    url = server.ready["http"] + path
    assert httpx.request(method, url).status_code == 401
    key = str(server.ready["key"])
    for headers in ({"Authorization": f"Bearer {key}"}, {"X-Api-Key": key}):
        assert httpx.request(method, url, headers=headers).status_code in {401, 404, 405}


NAMES_FILES = [row for row in ROWS if "<attachment>" in row.route.path and row.about != "begun"]


def test_what_no_door_shows(server: RunningServer) -> None:
    """An attachment by URL is no file at the doors that have files only, and is left alone; Plane knows no archive."""
    place = f"url-{uuid4().hex[:8]}"
    key = server.new_key("owner", workspace=place)
    project = str(server.report("projects", "create", "URL", "--workspace", place)["project_id"])
    api, bearer = server.api(key), {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=server.ready["http"], headers=bearer, timeout=60) as client:
        things = prepare(api, client, place, project, "URL")
        wanted = attachment_pb2.Attachment(
            workspace_id=place, subject=issue(things.key), url="https://example.com/1", title="A page"
        )
        request = attachment_service_pb2.UpsertAttachmentRequest(attachment=wanted)
        page = api.attachments.UpsertAttachment(request).attachment
        for row in NAMES_FILES:
            at_page = replace(things, attachment=page.id)
            assert ask(client, row, row.path(at_page), row.given(at_page)).status == 404, row
        left = api.attachments.GetAttachment(attachment_service_pb2.GetAttachmentRequest(attachment_id=page.id))
        assert left.attachment == page

        api.attachments.ArchiveAttachment(attachment_service_pb2.ArchiveAttachmentRequest(attachment_id=page.id))
        about = activity_service_pb2.ListActivitiesRequest(workspace_id=place, subject=issue(things.key), page_size=50)
        log = api.activity.ListActivities(about).activities
        archived = next(one.id for one in log if one.type == "attachment.archived.v1")
        path = f"/api/v1/workspaces/{place}/projects/{ids.to_uuid(project)}/work-items/{ids.to_uuid(things.issue)}"
        assert client.get(f"{path}/activities/{ids.to_uuid(things.activity)}/").status_code == 200
        assert client.get(f"{path}/activities/{ids.to_uuid(archived)}/").status_code == 404


@pytest.mark.parametrize("path", ["/v1/issues/A-1/links", "/v2/issues/A-1", "/api/v1/workspaces/demo/work-items/A-1/"])
def test_too_many_parameters(server: RunningServer, path: str) -> None:
    """A query may have 100 parameters, and with one more is refused."""
    server.api().issues.UpsertIssue(
        issue_service_pb2.UpsertIssueRequest(issue=issue_pb2.Issue(workspace_id="demo", key="A-1", title="A"))
    )
    headers = {"Authorization": f"Bearer {server.ready['key']}"}
    told = [
        httpx.get(server.ready["http"] + path, params=[("a", str(n)) for n in range(count)], headers=headers)
        for count in (100, 101)
    ]
    # At Plane the issue is in no project.
    assert [reply.status_code for reply in told] == [404 if path.startswith("/api/") else 200, 400]


class Fails:
    """Keys of a server that can't look any up."""

    def __init__(self, problem: BaseException) -> None:
        self._problem = problem

    def recent(self, token: str) -> Caller | None:
        """Fail."""
        del token
        raise self._problem

    async def caller(self, token: str) -> Caller:
        """Fail."""
        del token
        raise self._problem


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("problem", [StorageUnavailableError, ShuttingDownError, asyncio.CancelledError])
def test_when_to_try_again(dialect: Dialect, problem: type[BaseException]) -> None:
    """What will pass is told with `Retry-After` at every door, unless it is an upload that must not be sent again."""
    nothing: Any = None
    scopes = {rpc: "" for route in dialect.routes for rpc in (route.rpc, *route.fields.values())}
    door = Door(dialect, nothing, nothing, Fails(problem()), scopes, Pace(10, 1))
    headers = {"X-Api-Key": "x"} if dialect.name == "plane" else {"Authorization": "Bearer x"}

    async def ask(method: str, path: str) -> httpx.Response:
        transport = httpx.ASGITransport(app=cast("Any", door))
        async with httpx.AsyncClient(transport=transport, base_url="http://door", headers=headers) as client:
            return await client.request(method, path)

    told = asyncio.run(ask("GET", f"{dialect.prefixes[0]}x"))
    assert (told.status_code // 100, told.headers.get("Retry-After")) == (5, "1")
    if dialect.name == "yandex":
        told = asyncio.run(ask("POST", "/v2/attachments/"))
        assert (told.status_code, told.headers.get("Retry-After")) == (424, None)

"""Several doors on one store: what comes in by one is there by the others, in each one's own words."""

from __future__ import annotations

import hashlib
from uuid import uuid4

import httpx
import pytest

from remora.v1 import attachment_service_pb2, issue_pb2, issue_service_pb2
from remora_server import dev
from remora_server.core import ids
from tests.media.making import encoded, half_and_half
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

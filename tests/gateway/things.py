"""One of each thing that a route can name, made through gRPC and the doors, and how each dialect spells it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from uuid import UUID

import httpx

from remora.v1 import activity_service_pb2, issue_pb2, issue_service_pb2, link_service_pb2
from remora_server.core import ids
from tests.media.making import encoded, half_and_half
from tests.running import Api, issue
from tests.uploading import upload

SHOWN = {"plane": ids.to_uuid, "yandex": ids.to_decimal}
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Things:
    """The names of one user's things, ids as gRPC has them; `temporary`, `loose` and `pending` are theirs alone."""

    workspace: str  # its slug
    project: str
    key: str  # of the issue
    issue: str
    child: str
    other: str  # an issue that has nothing to do with those two
    attachment: str
    link: str
    activity: str
    temporary: str
    pending: str  # a ticket that Plane's door has begun
    user: str

    @property
    def own(self) -> Sequence[str]:
        """What nobody else of the workspace may know of."""
        return (self.temporary, self.pending)

    def missing(self, *, keep: Sequence[str] = ()) -> Things:
        """Return names of the same form that nobody has."""
        made: dict[str, str] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name in keep:
                continue
            if one.name == "workspace":
                made[one.name] = f"no{next(_numbers)}".ljust(len(value), "x")
            elif one.name == "key":
                made[one.name] = f"{value.partition('-')[0]}-{next(_numbers) + 900_000}"
            else:
                made[one.name] = ids.new_id(value.partition("_")[0])
        return replace(self, **made)

    def hidden_in(self, text: str) -> str:
        """Return a text with names, however they are spelled, replaced by what they name."""
        for one in fields(self):
            value = getattr(self, one.name)
            for spelled in spellings(value):
                text = text.replace(spelled, f"<{one.name}>")
        return text


def spellings(name: str) -> Sequence[str]:
    """Return a name in every spelling that a door has for it."""
    if "_" not in name:
        return (name,)
    return (name, str(ids.to_uuid(name)), ids.to_uuid(name).hex, ids.to_decimal(name))


def spelled(dialect: str, name: str) -> str:
    """Return a name as a dialect spells it, if it is an id."""
    return str(SHOWN.get(dialect, str)(name)) if "_" in name else name


def part(dialect: str, name: str, things: Things) -> str:
    """Return what stands for a part of a path."""
    return spelled(dialect, PARTS[dialect][name](things))


# What stands for each part of a path; `issue` is a key but for Plane.
PARTS: Mapping[str, Mapping[str, Callable[[Things], str]]] = {
    "quantify": {
        "issue": lambda one: one.key,
        "attachment": lambda one: one.attachment,
        "link": lambda one: one.link,
    },
    "plane": {
        "workspace": lambda one: one.workspace,
        "project": lambda one: one.project,
        "issue": lambda one: one.issue,
        "attachment": lambda one: one.attachment,
        "link": lambda one: one.link,
        "activity": lambda one: one.activity,
        "key": lambda one: one.key,
    },
    "yandex": {
        "version": lambda _: "v2",
        "issue": lambda one: one.key,
        "attachment": lambda one: one.attachment,
        "name": lambda _: "a.png",
        "file": lambda one: one.temporary,
        "change": lambda one: one.activity,
        "link": lambda one: one.link,
        "user": lambda one: one.user,
    },
}


def prepare(api: Api, http: httpx.Client, workspace: str, project: str, prefix: str) -> Things:
    """Make one of each thing, with a caller's stubs and a client that brings the same key to each door."""
    number = next(_numbers)
    key = f"{prefix}-{number * 3}"

    def push(key: str, parent: str = "") -> str:
        wanted = issue_pb2.Issue(workspace_id=workspace, key=key, title="An issue", parent_issue_id=parent)
        return api.issues.UpsertIssue(issue_service_pb2.UpsertIssueRequest(issue=wanted)).issue.id

    issue_id = push(key)
    child_id = push(f"{prefix}-{number * 3 + 1}", issue_id)
    picture = encoded(half_and_half(64, 48), "PNG") + os.urandom(8)
    hung = upload(api, picture, name="a.png", attach_to=key, workspace=workspace)
    link = api.links.CreateLink(
        link_service_pb2.CreateLinkRequest(
            workspace_id=workspace, subject=issue(key), url=f"https://example.com/{number}", title="A link"
        )
    ).link
    log = api.activity.ListActivities(
        activity_service_pb2.ListActivitiesRequest(workspace_id=workspace, subject=issue(key), page_size=50)
    ).activities
    kept = http.post("/v2/attachments/", params={"filename": "b.png"}, files={"file": ("file", picture)})
    assert kept.status_code == 201, kept.text
    base = f"/api/v1/workspaces/{workspace}/projects/{ids.to_uuid(project)}/work-items/{ids.to_uuid(issue_id)}"
    begun = http.post(f"{base}/attachments/", json={"name": "c.png", "type": "image/png", "size": 3})
    assert begun.status_code == 200, begun.text
    return Things(
        workspace=workspace,
        project=project,
        key=key,
        issue=issue_id,
        child=child_id,
        other=push(f"{prefix}-{number * 3 + 2}"),
        attachment=hung.attachment_id,
        link=link.id,
        activity=next(one.id for one in log if one.resource_id == hung.attachment_id),
        temporary=ids.from_decimal(ids.FILE, kept.json()["id"], "id"),
        user=hung.file.creator.id,
        pending=ids.from_uuid(ids.TICKET, UUID(begun.json()["asset_id"])),
    )

"""What Yandex Tracker's clients are shown: its JSON, whose every `self` is an absolute URL of the asked version."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import quote, urlsplit

from remora_server.core import errors, ids
from remora_server.core.files import SERVICE
from remora_server.core.model import Activity, Actor, Attachment, File, Issue, Link, Micros, PreviewState

SECOND: Micros = 1_000_000
MILLISECOND: Micros = 1000
# What our activities are called here, and which field of an issue they are about.
CHANGES = {
    "attachment.created.v1": ("IssueAttachmentAdded", "attachments"),
    "attachment.undeleted.v1": ("IssueAttachmentAdded", "attachments"),
    "attachment.deleted.v1": ("IssueAttachmentRemoved", "attachments"),
    "attachment.updated.v1": ("IssueUpdated", "attachments"),
    "attachment.archived.v1": ("IssueUpdated", "attachments"),
    "attachment.unarchived.v1": ("IssueUpdated", "attachments"),
    "link.created.v1": ("IssueLinked", "remotelinks"),
    "link.updated.v1": ("IssueLinkChanged", "remotelinks"),
    "link.deleted.v1": ("IssueUnlinked", "remotelinks"),
    "issue.created.v1": ("IssueCreated", ""),
    "issue.updated.v1": ("IssueUpdated", ""),
    "issue.deleted.v1": ("IssueUpdated", ""),
}
# What fields of an issue are called here; others keep their name.
ISSUE_FIELDS = {"title": "summary", "parent_issue_id": "parent", "assignees": "assignee"}
FIELDS = (
    ("id", "Id", "string"),
    ("self", "Address", "string"),
    ("key", "Key", "string"),
    ("version", "Version", "integer"),
    ("summary", "Summary", "string"),
    ("parent", "Parent", "issue"),
    ("status", "Status", "status"),
    ("assignee", "Assignee", "user"),
    ("queue", "Queue", "queue"),
    ("createdAt", "Created", "datetime"),
    ("updatedAt", "Updated", "datetime"),
)


class Shapes:
    """Writes JSON for one request; `base` is the public URL with the version of its path."""

    def __init__(self, base: str) -> None:
        self._base = base

    def attachment(self, one: Attachment, issue_key: str) -> dict[str, Any]:
        """Return a file on an issue."""
        if one.file is None:
            raise errors.NotFoundError("attachment", f"attachments/{one.id}")
        number = ids.to_decimal(one.id)
        issue = self._issue_url(issue_key)
        return self._file(one.file, number, f"{issue}/attachments/{number}", f"{issue}/thumbnails/{number}")

    def temporary(self, file: File) -> dict[str, Any]:
        """Return a file that is on no issue yet; it has no thumbnail."""
        number = ids.to_decimal(file.id)
        return self._file(file, number, f"{self._base}/attachments/{number}", "")

    def issue(self, one: Issue, parent: Issue | None) -> dict[str, Any]:
        """Return an issue, as far as it is known here."""
        return {
            "self": self._issue_url(one.key),
            "id": ids.to_decimal(one.id),
            "key": one.key,
            "version": one.version,
            "summary": one.title,
            **({"parent": self._issue(parent)} if parent else {}),
            **_state_of(one),
            "createdAt": moment(one.create_time),
            "updatedAt": moment(one.update_time),
        }

    def fields(self) -> list[dict[str, Any]]:
        """Return what fields an issue has."""
        return [
            {
                "self": f"{self._base}/fields/{name}",
                "id": name,
                "key": name,
                "name": label,
                "schema": {"type": type_, "required": False},
                "readonly": True,
            }
            for name, label, type_ in FIELDS
        ]

    def change(self, one: Activity, issue: Issue) -> dict[str, Any]:
        """Return something that happened to an issue."""
        number = ids.to_decimal(one.id)
        type_, field = CHANGES[one.type]
        return {
            "id": number,
            "self": f"{self._issue_url(issue.key)}/changelog/{number}",
            "issue": self._issue(issue),
            "updatedAt": moment(one.occur_time),
            "updatedBy": self.user(one.actor),
            "type": type_,
            "transport": "api",
            **self._changed(one, issue, type_, field),
        }

    def changelog_url(self, issue_key: str, query: str) -> str:
        """Return where what happened to an issue is listed."""
        return f"{self._issue_url(issue_key)}/changelog{'?' if query else ''}{query}"

    def link(self, asked: Issue, child: Issue, other: Issue, direction: str) -> dict[str, Any]:
        """Return that `child` is a sub-issue, as the issue that was asked for sees it; its number is the child's."""
        number = ids.to_decimal(child.id)
        by = self.user(SERVICE)  # Issues come from outside, and who linked them is not known.
        return {
            "self": f"{self._issue_url(asked.key)}/links/{number}",
            "id": int(number),
            "type": {
                "self": f"{self._base}/linktypes/subtask",
                "id": "subtask",
                "inward": "Subtask of",
                "outward": "Parent of",
            },
            "direction": direction,
            "object": self._issue(other),
            "createdBy": by,
            "updatedBy": by,
            "createdAt": moment(child.create_time),
            "updatedAt": moment(child.update_time),
            **_state_of(other),
        }

    def remotelink(self, one: Link, issue_key: str) -> dict[str, Any]:
        """Return a link as one to an object of another application, which is the host of its URL."""
        number, host = ids.to_decimal(one.id), urlsplit(one.normalized_url).hostname or ""
        by, at = self.user(one.creator), moment(one.create_time)
        return {
            "self": f"{self._issue_url(issue_key)}/remotelinks/{number}",
            "id": int(number),
            "type": {
                "self": f"{self._base}/linktypes/relates",
                "id": "relates",
                "inward": "relates",
                "outward": "relates",
            },
            "direction": "outward",
            "object": {
                "self": one.url,
                "id": one.url,
                "key": one.url,
                "display": one.title or one.url,
                "application": {
                    "self": f"{self._base}/applications/{quote(host, safe='')}",
                    "id": host,
                    "type": host,
                    "name": host,
                },
            },
            "createdBy": by,
            "updatedBy": by,
            "createdAt": at,
            "updatedAt": at,
        }

    def whole_user(self, actor: Actor) -> dict[str, Any]:
        """Return a user as such."""
        user = self.user(actor)
        return {"self": user["self"], "uid": user["id"], "login": user["id"], "display": user["display"]}

    def _issue_url(self, key: str) -> str:
        return f"{self._base}/issues/{quote(key, safe='')}"

    def _issue(self, one: Issue) -> dict[str, Any]:
        return {
            "self": self._issue_url(one.key),
            "id": ids.to_decimal(one.id),
            "key": one.key,
            "display": one.title or one.key,
        }

    def _changed(self, one: Activity, issue: Issue, type_: str, field: str) -> dict[str, Any]:
        resource = one.type.partition(".")[0]
        thing = one.payload.get(resource)
        told = thing if isinstance(thing, dict) else {}
        name = str(told.get("name") or told.get("title") or told.get("url") or "")
        if type_ in {"IssueAttachmentAdded", "IssueAttachmentRemoved"}:
            number = ids.to_decimal(one.resource_id)
            what = {"self": f"{self._issue_url(issue.key)}/attachments/{number}", "id": number, "display": name}
            return {"fields": [], "attachments": {"added" if type_.endswith("Added") else "removed": [what]}}
        names = one.changed_fields if resource == "issue" else (field,) if field else ()
        value = {"display": name} if resource == "link" else None
        is_gone = type_ == "IssueUnlinked"
        before = told.get("before") or {}
        old = {"display": str(before.get("title") or before.get("url") or "")} if before else None
        return {
            "fields": [
                {
                    "field": {
                        "self": f"{self._base}/fields/{ISSUE_FIELDS.get(changed, changed)}",
                        "id": ISSUE_FIELDS.get(changed, changed),
                        "display": ISSUE_FIELDS.get(changed, changed),
                    },
                    "from": value if is_gone else old,
                    "to": None if is_gone else value,
                }
                for changed in names
            ]
        }

    def _file(self, file: File, number: str, self_url: str, thumbnail_url: str) -> dict[str, Any]:
        is_image = file.preview.kind == "IMAGE"
        has_thumbnail = (
            bool(thumbnail_url) and is_image and file.preview.state in {PreviewState.PENDING, PreviewState.READY}
        )
        size = {"metadata": {"size": f"{file.media.width}x{file.media.height}"}} if file.media.width else {}
        return {
            "self": self_url,
            "id": number,
            "name": file.name,
            "content": f"{self_url}/{quote(file.name, safe='')}",
            **({"thumbnail": thumbnail_url} if has_thumbnail else {}),
            "createdBy": self.user(file.creator),
            "createdAt": moment(file.create_time),
            "mimetype": file.content_type,
            "size": file.size_bytes,
            **(size if is_image else {}),
        }

    def user(self, actor: Actor) -> dict[str, Any]:
        """Return who did something."""
        # The service itself has a name, and no number.
        number = ids.to_decimal(actor.id) if actor.id.startswith(f"{ids.USER}_") else actor.id
        return {"self": f"{self._base}/users/{number}", "id": number, "display": actor.display_name}


def _state_of(one: Issue) -> dict[str, Any]:
    """Return who works on an issue, and how far it is, where that is known."""
    first = one.assignees[0] if one.assignees else None
    status = {"id": one.status.id, "key": one.status.id, "display": one.status.name}
    return {
        **({"status": status} if one.status.id or one.status.name else {}),
        **({"assignee": {"id": first.id, "display": first.display_name}} if first else {}),
    }


def moment(time: Micros) -> str:
    """Return a time as 2026-01-02T03:04:05.678+0000."""
    whole = dt.datetime.fromtimestamp(time // SECOND, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{time % SECOND // MILLISECOND:03}+0000"

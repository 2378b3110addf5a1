"""The objects that Linear's clients read: attachments, issues and users, with all their fields."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
from collections.abc import Mapping
from typing import Any

from remora_server.core import ids
from remora_server.core.errors import ValidationFailedError
from remora_server.core.model import Actor, Assignee, Attachment, Issue, Metadata, Micros, Subject
from remora_server.gateway.json_values import is_writable

SECOND: Micros = 1_000_000
UTC = dt.UTC
UNKNOWN_TIME = "1970-01-01T00:00:00.000Z"
EXACT = 2**53  # Beyond it JavaScript's numbers are no longer whole ones.
RICH = ("messages", "attributes")  # Of metadata: what Linear shows in its own form, and lists are allowed in.
Object = dict[str, Any]
# Fields of an issue that nothing is known of here, and that may not be null or absent.
NOTHING: Mapping[str, Any] = {
    "priority": 0.0,
    "priorityLabel": "No priority",
    "prioritySortOrder": 0.0,
    "sortOrder": 0.0,
    "boardOrder": 0.0,
    "customerTicketCount": 0,
    "labelIds": [],
    "previousIdentifiers": [],
    "reactions": [],
    "reactionData": {},
    "inheritsSharedAccess": False,
    "sharedAccess": {
        "isShared": False,
        "sharedWithCount": 0,
        "sharedWithUsers": [],
        "viewerHasOnlySharedAccess": False,
        "disallowedIssueFields": [],
    },
}


def moment(time: Micros | None) -> str | None:
    """Return a time as Linear writes it, to the millisecond."""
    if time is None:
        return None
    seconds, micros = divmod(time, SECOND)
    return f"{dt.datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{micros // 1000:03d}Z"


def uuid(id_: str) -> str:
    """Return an id as Linear spells it; what is none, such as the name of the service itself, stays as it is."""
    with contextlib.suppress(ValidationFailedError):
        return str(ids.to_uuid(ids.parse(id_.rpartition("_")[0], id_, "id")))
    return id_


def attachment(one: Attachment) -> Object:
    """Return a URL or a file on an issue."""
    shown = {"userDisplayName": one.shown_creator.name, "displayIconUrl": one.shown_creator.icon_url}
    source = {"type": one.external_ref.source, **shown}
    return {
        "id": uuid(one.id),
        "createdAt": moment(one.create_time),
        "updatedAt": moment(one.update_time),
        "archivedAt": moment(one.archive_time),
        "title": one.title,
        "subtitle": one.subtitle or None,
        "metadata": metadata(one.metadata),
        "sourceType": one.external_ref.source or None,
        "source": {name: value for name, value in source.items() if value} or None,
        "groupBySource": bool(one.group_key),
        "one": one,
    }


def metadata(kept: Metadata) -> Object:
    """Return metadata as JSON: whole numbers that JavaScript would round as texts, lists of good JSON as lists."""
    shown: Object = {}
    for name, value in kept.items():
        shown[name] = value
        if isinstance(value, int) and abs(value) > EXACT:
            shown[name] = str(value)
        elif name in RICH and isinstance(value, str) and value[:1] in {"[", "{"}:
            with contextlib.suppress(ValueError, RecursionError):
                read = json.loads(value)
                if is_writable(read):
                    shown[name] = read
    return shown


def user(actor: Actor, principal_id: str) -> Object:
    """Return somebody."""
    return {
        **_person(actor.id, actor.display_name, actor.icon_url),
        "app": actor.kind != "USER",
        "isMe": actor.id == principal_id,
        "isAssignable": actor.kind == "USER",
    }


def assignee(one: Assignee) -> Object:
    """Return somebody of the tracker, who need not be known here."""
    return {**_person(one.id, one.display_name, one.avatar_url), "app": one.kind != "USER"}


def _person(id_: str, name: str, picture: str) -> Object:
    return {
        "id": uuid(id_),
        "name": name,
        "displayName": name,
        "email": "",
        "initials": "".join(word[0] for word in name.split()[:2]).upper(),
        "url": "",
        "avatarUrl": picture or None,
        "avatarBackgroundColor": "#5e6ad2",
        "createdAt": UNKNOWN_TIME,
        "updatedAt": UNKNOWN_TIME,
        "active": True,
        "admin": False,
        "app": False,
        "guest": False,
        "owner": False,
        "isMe": False,
        "isAssignable": True,
        "isMentionable": True,
        "canAccessAnyPublicTeam": True,
        "supportsAgentSessions": False,
        "createdIssueCount": 0,
        "inviteHash": "",
    }


def issue_of(subject: Subject, public_url: str) -> Object:
    """Return what an attachment knows of its issue, for one that the registry has no more."""
    key = subject.key
    return {
        **NOTHING,
        **_named(subject.id, key, "", public_url),
        "createdAt": UNKNOWN_TIME,
        "updatedAt": UNKNOWN_TIME,
        "trashed": True,
        "state": {"id": "", "name": "", "color": "", "type": ""},
        "team": _team("", key),
        "parent_id": "",
    }


def issue(one: Issue, public_url: str) -> Object:
    """Return an issue."""
    status = one.status
    return {
        **NOTHING,
        **_named(one.id, one.key, one.title, public_url),
        "createdAt": moment(one.create_time),
        "updatedAt": moment(one.update_time),
        "completedAt": moment(one.update_time) if one.completed else None,
        "state": {
            "id": status.id or status.name,
            "name": status.name,
            "color": status.color,
            "type": status.category or ("completed" if one.completed else "unstarted"),
        },
        "team": _team(one.project_id, one.key),
        "project": {"id": uuid(one.project_id)} if one.project_id else None,
        "assignee": assignee(one.assignees[0]) if one.assignees else None,
        "parent_id": one.parent_issue_id,
    }


def _named(id_: str, key: str, title: str, public_url: str) -> Object:
    number = key.rpartition("-")[2]
    words = re.sub(r"[^a-z0-9]+", "-", f"{key} {title}".lower()).strip("-")
    return {
        "issue_id": id_,
        "id": uuid(id_),
        "identifier": key,
        "number": float(number[:15]) if number.isascii() and number.isdigit() else 0.0,
        "title": title,
        "url": f"{public_url}/issues/{key}",
        "branchName": words[:100],
    }


def _team(project_id: str, key: str) -> Object:
    prefix = key.rpartition("-")[0] or key
    return {"id": uuid(project_id) if project_id else prefix, "key": prefix}

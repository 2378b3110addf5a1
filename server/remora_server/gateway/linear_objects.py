"""The objects that Linear's clients read: attachments, issues and users, with all their fields."""

from __future__ import annotations

import datetime as dt
from typing import Any

from remora_server.core import ids
from remora_server.core.model import Actor, Attachment, Issue, Micros, Subject

SECOND: Micros = 1_000_000
UTC = dt.UTC
Object = dict[str, Any]


def moment(time: Micros | None) -> str | None:
    """Return a time as Linear writes it, to the millisecond."""
    if time is None:
        return None
    seconds, micros = divmod(time, SECOND)
    return f"{dt.datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{micros // 1000:03d}Z"


def uuid(id_: str) -> str:
    """Return an id as Linear spells it; what is none, such as the name of the service itself, stays as it is."""
    return str(ids.to_uuid(id_)) if "_" in id_ else id_


def attachment(one: Attachment) -> Object:
    """Return a URL on an issue."""
    return {
        "id": uuid(one.id),
        "createdAt": moment(one.create_time),
        "updatedAt": moment(one.update_time),
        "archivedAt": moment(one.archive_time),
        "title": one.title,
        "subtitle": one.subtitle or None,
        "url": one.url,
        "metadata": dict(one.metadata),
        "sourceType": one.external_ref.source or None,
        "source": {"type": one.external_ref.source} if one.external_ref.source else None,
        "groupBySource": bool(one.group_key),
        "creator": user(one.creator),
        "subject": one.subject,
    }


def user(actor: Actor) -> Object:
    """Return somebody."""
    return {"id": uuid(actor.id), "name": actor.display_name, "displayName": actor.display_name}


def issue_of(subject: Subject) -> Object:
    """Return what is known of an issue without looking it up."""
    return {"id": uuid(subject.id), "identifier": subject.key, "title": ""}


def issue(one: Issue) -> Object:
    """Return an issue."""
    return {"id": uuid(one.id), "identifier": one.key, "title": one.title}

"""The objects that Plane's clients read: attachments, links, activities and work items, with all their fields."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from remora_server.core import errors, ids
from remora_server.core.model import Activity, Attachment, ExternalRef, File, Issue, Link, Micros, Project, Ticket

SECOND: Micros = 1_000_000
# What an event is called: its verb, its field, and the sentence.
EVENTS = {
    "attachment.created.v1": ("created", "attachment", "created an attachment"),
    "attachment.updated.v1": ("updated", "attachment", "updated the attachment"),
    "attachment.deleted.v1": ("deleted", "attachment", "deleted the attachment"),
    "attachment.undeleted.v1": ("created", "attachment", "created an attachment"),
    "link.created.v1": ("created", "link", "created a link"),
    "link.updated.v1": ("updated", "link", "updated a link"),
    "link.deleted.v1": ("deleted", "link", "deleted the link"),
    "issue.created.v1": ("created", None, "created the issue"),
    "issue.updated.v1": ("updated", None, "updated the issue"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """A work item, and the project that it is in."""

    project: Project
    issue: Issue


def uuid(id_: str) -> str | None:
    """Return an id as Plane spells it; what is none, such as the name of the service itself, has no spelling."""
    return str(ids.to_uuid(id_)) if "_" in id_ else None


def pending(place: Place, ticket: Ticket) -> dict[str, Any]:
    """Return the attachment that an upload will make."""
    spec = ticket.spec
    who = ticket.creator.id
    return _asset(
        place,
        ids.respelled(ids.ATTACHMENT, ticket.id),
        (spec.name, spec.size_bytes or 0, spec.content_type),
        (ticket.create_time, ticket.create_time),
        (who, who),
        spec.external_ref,
    )


def attachment(place: Place, one: Attachment) -> dict[str, Any]:
    """Return a file on a work item."""
    file = one.file
    if file is None:
        raise errors.NotFoundError("attachment", f"attachments/{one.id}")
    return _asset(
        place,
        one.id,
        (file.name, file.size_bytes, file.content_type),
        (one.create_time, one.update_time),
        (one.creator.id, one.updater.id),
        one.external_ref,
        file,
        is_archived=one.archive_time is not None,
    )


def _asset(
    place: Place,
    id_: str,
    content: tuple[str, int, str],
    times: tuple[Micros, Micros],
    people: tuple[str, str],
    reference: ExternalRef,
    file: File | None = None,
    *,
    is_archived: bool = False,
) -> dict[str, Any]:
    name, size_bytes, content_type = content
    return {
        "id": uuid(id_),
        "created_at": _time(times[0]),
        "updated_at": _time(times[1]),
        "deleted_at": None,
        "attributes": {"name": name, "size": size_bytes, "type": content_type},
        "asset": _asset_key(place, id_, name),
        "entity_type": "ISSUE_ATTACHMENT",
        "is_deleted": False,
        "is_archived": is_archived,
        "external_id": reference.id or None,
        "external_source": reference.source or None,
        "size": float(size_bytes),
        "is_uploaded": file is not None,
        "storage_metadata": {} if file is None else _stored(file),
        "created_by": uuid(people[0]),
        "updated_by": uuid(people[1]),
        **_whereabouts(place),
        "deleted_by": None,
        "entity_identifier": None,
        "user": None,
        "draft_issue": None,
        "comment": None,
        "page": None,
    }


def link(place: Place, one: Link) -> dict[str, Any]:
    """Return a link."""
    # Nobody keeps when, and by whom, a link was changed.
    return {
        "id": uuid(one.id),
        "created_at": _time(one.create_time),
        "updated_at": _time(one.create_time),
        "deleted_at": None,
        "title": one.title,
        "url": one.url,
        "metadata": {},
        "created_by": uuid(one.creator.id),
        "updated_by": uuid(one.creator.id),
        **_whereabouts(place),
    }


def activity(place: Place, one: Activity) -> dict[str, Any]:
    """Return something that happened."""
    verb, field, comment = EVENTS[one.type]
    thing = one.payload.get(field or "")
    told = thing if isinstance(thing, dict) else {}
    is_gone = verb == "deleted"
    old, new, was, is_ = None, None, None, None
    if field == "link":
        before = told.get("before") or {}
        old = told.get("url") if is_gone else before.get("url")
        new = "" if is_gone else told.get("url")
        was = uuid(one.resource_id) if "url" in before else None
    elif field and not is_gone:
        new = told.get("url") or _asset_key(place, one.resource_id, str(told.get("name", "")))
    if field and not is_gone:
        is_ = uuid(one.resource_id)
    return {
        "id": uuid(one.id),
        "created_at": _time(one.occur_time),
        "updated_at": _time(one.occur_time),
        "deleted_at": None,
        "verb": verb,
        "field": field,
        "old_value": old,
        "new_value": new,
        "comment": comment,
        "attachments": [],
        "old_identifier": was,
        "new_identifier": is_,
        "epoch": one.occur_time // SECOND,
        "actor": uuid(one.actor.id),
        "issue_comment": None,
        **_whereabouts(place),
    }


def work_item(place: Place) -> dict[str, Any]:
    """Return a work item, as far as it is known here."""
    issue = place.issue
    number = issue.key.rpartition("-")[2]
    reference = issue.external_refs[0] if issue.external_refs else ExternalRef()
    return {
        "id": uuid(issue.id),
        "type_id": None,
        "created_at": _time(issue.create_time),
        "updated_at": _time(issue.update_time),
        "deleted_at": None,
        "name": issue.title,
        "description_html": "",
        "priority": "none",
        "start_date": None,
        "target_date": None,
        "sequence_id": int(number) if number.isascii() and number.isdigit() else None,
        "sort_order": None,
        "completed_at": _time(issue.update_time) if issue.completed else None,
        "archived_at": None,
        "is_draft": False,
        "external_source": reference.source or None,
        "external_id": reference.id or None,
        "created_by": None,
        "updated_by": None,
        "project": uuid(place.project.id),
        "workspace": uuid(issue.workspace_id),
        "parent": uuid(issue.parent_issue_id),
        "state": issue.status.id or None,
        "assignees": [one.id for one in issue.assignees],
        "labels": [],
    }


def _whereabouts(place: Place) -> dict[str, Any]:
    return {
        "workspace": uuid(place.issue.workspace_id),
        "project": uuid(place.project.id),
        "issue": uuid(place.issue.id),
    }


def _asset_key(place: Place, id_: str, name: str) -> str:
    return f"{uuid(place.issue.workspace_id)}/{ids.to_uuid(id_).hex}-{name}"


def _stored(file: File) -> dict[str, Any]:
    digests = file.checksums
    made = dt.datetime.fromtimestamp(file.create_time // SECOND, dt.UTC)
    return {
        # An MD5 is only kept where somebody declared one.
        "ETag": f'"{(digests.md5 or digests.sha256).hex()}"',
        "Metadata": {},
        "ContentType": file.content_type,
        "LastModified": made.isoformat(),
        "ContentLength": file.size_bytes,
    }


def _time(time: Micros) -> str:
    moment = dt.datetime.fromtimestamp(time // SECOND, dt.UTC).replace(microsecond=time % SECOND)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

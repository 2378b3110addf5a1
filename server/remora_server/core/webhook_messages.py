"""What a webhook says: the body, headers and signature of each format."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from remora_server.core import ids
from remora_server.core.model import (
    Activity,
    Actor,
    Attachment,
    Micros,
    Outgoing,
    Subject,
    WebhookEndpoint,
    WebhookFormat,
)

SECRET_PREFIX = "whsec_"  # noqa: S105 - the form of a secret, not one.
SECRET_BYTES = 32
SECOND: Micros = 1_000_000
USER_AGENT = ("user-agent", "Remora-Webhooks/1")
JSON_TYPE = ("content-type", "application/json")
TESTED = "webhook_endpoint.tested.v1"
# What the verbs of attachments are called in Linear's format.
LINEAR_ACTIONS: Mapping[str, str] = {
    "attachment.created.v1": "create",
    "attachment.updated.v1": "update",
    "attachment.archived.v1": "update",
    "attachment.unarchived.v1": "update",
    "attachment.deleted.v1": "remove",
    "attachment.undeleted.v1": "create",
}


def new_secret() -> str:
    """Make what the messages to an endpoint are signed with."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def types_sent(endpoint: WebhookEndpoint) -> Sequence[str] | None:
    """Return the types of activities that an endpoint gets: empty is all, None is not a single one."""
    if endpoint.format is WebhookFormat.STANDARD:
        return endpoint.types
    return tuple(one for one in LINEAR_ACTIONS if not endpoint.types or one in endpoint.types) or None


def can_tell(endpoint: WebhookEndpoint, activity: Activity) -> bool:
    """Tell whether an endpoint's format has a message for an activity."""
    return endpoint.format is WebhookFormat.STANDARD or activity.type in LINEAR_ACTIONS


def message(
    endpoint: WebhookEndpoint, activity: Activity, attachment: Attachment | None, keys: Sequence[str], now: Micros
) -> Outgoing:
    """Write what tells an endpoint of an activity, signed with each of the secrets, the newest first.

    `attachment` is the one that the activity is about, as it is now; None if it is about none, or that was purged.
    """
    if endpoint.format is WebhookFormat.LINEAR:
        return _linear(endpoint, activity, attachment, keys[0], now)
    return _standard(endpoint, activity, keys, now)


def _standard(endpoint: WebhookEndpoint, activity: Activity, keys: Sequence[str], now: Micros) -> Outgoing:
    body = _json({"type": activity.type, "timestamp": _iso(activity.occur_time), "data": _data(activity)})
    seconds = str(now // SECOND)
    signed = f"{activity.id}.{seconds}.".encode() + body
    signatures = " ".join(f"v1,{_standard_signature(key, signed)}" for key in keys)
    return Outgoing(
        endpoint.url,
        (
            JSON_TYPE,
            USER_AGENT,
            ("webhook-id", activity.id),
            ("webhook-timestamp", seconds),
            ("webhook-signature", signatures),
        ),
        body,
        endpoint.workspace_id,
    )


def _standard_signature(key: str, signed: bytes) -> str:
    secret = base64.b64decode(key.removeprefix(SECRET_PREFIX))
    return base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()


def _data(activity: Activity) -> dict[str, object]:
    """Return an activity with the names of its proto."""
    data: dict[str, object] = {
        "id": activity.id,
        "type": activity.type,
        "workspace_id": activity.workspace_id,
        "subject": _subject(activity.subject),
        "actor": _actor(activity.actor),
        "occur_time": _iso(activity.occur_time),
        "resource_id": activity.resource_id,
        "changed_fields": list(activity.changed_fields),
        "request_id": activity.request_id,
    }
    return {name: value for name, value in {**data, **activity.payload}.items() if value}


def _subject(subject: Subject | None) -> dict[str, str]:
    return {"type": subject.type, "id": subject.id, "key": subject.key} if subject else {}


def _actor(actor: Actor) -> dict[str, str]:
    return {"id": actor.id, "kind": actor.kind, "display_name": actor.display_name, "icon_url": actor.icon_url}


def _linear(
    endpoint: WebhookEndpoint, activity: Activity, attachment: Attachment | None, key: str, now: Micros
) -> Outgoing:
    data = _linear_data(activity, attachment)
    body = _json(
        {
            "action": LINEAR_ACTIONS.get(activity.type, "create"),
            "type": "Attachment",
            "createdAt": _iso_ms(activity.occur_time),
            "data": data,
            "url": data["url"],
            "actor": _linear_actor(activity.actor),
            "organizationId": _uuid(endpoint.workspace_id),
            "webhookId": _uuid(endpoint.id),
            "webhookTimestamp": now // 1000,
        }
    )
    return Outgoing(
        endpoint.url,
        (
            JSON_TYPE,
            USER_AGENT,
            ("Linear-Delivery", _uuid(activity.id)),
            ("Linear-Event", "Attachment"),
            ("Linear-Signature", hmac.new(key.encode(), body, hashlib.sha256).hexdigest()),
        ),
        body,
        endpoint.workspace_id,
    )


def _linear_actor(actor: Actor) -> dict[str, str]:
    # The service itself has a name instead of an id.
    id_ = _uuid(actor.id) if "_" in actor.id else actor.id
    return {"id": id_, "type": actor.kind.lower(), "name": actor.display_name}


def _linear_data(activity: Activity, attachment: Attachment | None) -> dict[str, object]:
    """Return an attachment as it is, or as much as the log remembers of it."""
    if attachment is None:
        kept = activity.payload.get("attachment")
        summary: Mapping[str, object] = kept if isinstance(kept, dict) else {}
        return {
            "id": _uuid(activity.resource_id),
            "title": summary.get("title", ""),
            "subtitle": summary.get("subtitle") or None,
            "url": summary.get("url", ""),
            "issueId": _issue_id(activity.subject),
        }
    return {
        "id": _uuid(attachment.id),
        "createdAt": _iso_ms(attachment.create_time),
        "updatedAt": _iso_ms(attachment.update_time),
        "archivedAt": None if attachment.archive_time is None else _iso_ms(attachment.archive_time),
        "title": attachment.title or (attachment.file.name if attachment.file else ""),
        "subtitle": attachment.subtitle or None,
        "url": attachment.url,
        "metadata": dict(attachment.metadata),
        "groupBySource": bool(attachment.group_key),
        "creatorId": _uuid(attachment.creator.id),
        "issueId": _issue_id(attachment.subject),
    }


def _issue_id(subject: Subject | None) -> str | None:
    return _uuid(subject.id) if subject is not None and subject.type == "issue" else None


def _uuid(id_: str) -> str:
    return str(ids.to_uuid(id_))


def _iso(time: Micros) -> str:
    return _utc(time).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _iso_ms(time: Micros) -> str:
    return _utc(time).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _utc(time: Micros) -> datetime:
    # Seconds and the rest apart, so that no float stands in between.
    return datetime.fromtimestamp(time // SECOND, UTC).replace(microsecond=time % SECOND)


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

"""What a webhook says."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any
from uuid import UUID

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from remora_server.core import ids, webhook_messages
from remora_server.core.attachments import Draft
from remora_server.core.model import Activity, Attachment, Outgoing, WebhookEndpoint, WebhookFormat
from remora_server.core.values import replace
from remora_server.core.webhook_endpoints import EndpointDraft
from tests.core.world import World, issue

URL = "https://e.org/hook"
SECRETS = (webhook_messages.new_secret(), webhook_messages.new_secret())


def endpoint(world: World, format_: WebhookFormat = WebhookFormat.STANDARD) -> WebhookEndpoint:
    """Make an endpoint."""
    return world.do(world.endpoints.create, world.jo, EndpointDraft("acme", URL, format=format_))[0]


def happened(world: World, **fields: Any) -> tuple[Activity, Attachment]:
    """Make an attachment; return what the log tells of it."""
    draft = Draft(workspace_id="acme", subject=issue(), url="https://e.org/ünder", title="Grüße", **fields)
    made = world.do(world.attachments.upsert, world.jo, draft).attachment
    return world.told()[-1], made


def now() -> int:
    """Return the time, which the library compares with its own."""
    import time  # noqa: PLC0415 - for this alone.

    return time.time_ns() // 1000


def verify(secret: str, outgoing: Outgoing) -> Any:
    """Check a message as receivers do."""
    return Webhook(secret).verify(outgoing.body, dict(outgoing.headers))


def test_a_standard_message(world: World) -> None:
    """Everybody's library takes its signature, by each of the secrets, and the body is the activity."""
    hook = endpoint(world)
    told, made = happened(world)
    outgoing = webhook_messages.message(hook, told, made, SECRETS, now())
    for secret in SECRETS:
        body = verify(secret, outgoing)
    with pytest.raises(WebhookVerificationError):
        verify(webhook_messages.new_secret(), outgoing)
    headers = dict(outgoing.headers)
    assert (outgoing.url, headers["webhook-id"], headers["content-type"]) == (URL, told.id, "application/json")
    assert body["type"] == "attachment.created.v1"
    assert body["timestamp"] == body["data"]["occur_time"]
    assert body["data"]["resource_id"] == made.id
    assert body["data"]["subject"]["key"] == "ENG-1"
    assert body["data"]["actor"]["display_name"] == "Jo"
    assert body["data"]["attachment"]["title"] == "Grüße"
    assert "changed_fields" not in body["data"]
    later = webhook_messages.message(hook, told, made, SECRETS, now() + 60_000_000)
    assert dict(later.headers)["webhook-id"] == headers["webhook-id"]
    assert later.body == outgoing.body
    assert dict(later.headers)["webhook-signature"] != headers["webhook-signature"]


def test_a_linear_message(world: World) -> None:
    """Linear's headers, signature and body, with ids as UUIDs."""
    hook = endpoint(world, WebhookFormat.LINEAR)
    told, made = happened(world, subtitle="s", metadata={"build": 7})
    outgoing = webhook_messages.message(hook, told, made, SECRETS, 1_700_000_000_123_456)
    headers, body = dict(outgoing.headers), json.loads(outgoing.body)
    assert headers["Linear-Event"] == "Attachment"
    assert UUID(headers["Linear-Delivery"]) == ids.to_uuid(told.id)
    expected = hmac.new(SECRETS[0].encode(), outgoing.body, hashlib.sha256).hexdigest()
    assert headers["Linear-Signature"] == expected
    assert (body["action"], body["type"], body["webhookTimestamp"]) == ("create", "Attachment", 1_700_000_000_123)
    assert (UUID(body["webhookId"]), UUID(body["organizationId"])) == (
        ids.to_uuid(hook.id), ids.to_uuid(hook.workspace_id),
    )  # fmt: skip
    assert body["url"] == body["data"]["url"] == "https://e.org/ünder"
    assert body["data"]["title"] == "Grüße"
    assert body["data"]["metadata"] == {"build": 7}
    assert UUID(body["data"]["issueId"]) == ids.to_uuid(made.subject.id)
    assert body["data"]["archivedAt"] is None
    assert body["actor"] == {"id": str(ids.to_uuid(world.jo.principal_id)), "type": "user", "name": "Jo"}


def test_each_verb_is_one_of_linears(world: World) -> None:
    """Created, changed and removed; what is archived is changed, and says so."""
    hook = endpoint(world, WebhookFormat.LINEAR)
    _, made = happened(world)
    for verb in (world.attachments.archive, world.attachments.unarchive, world.attachments.delete):
        world.do(verb, world.jo, made.id)
    world.do(world.attachments.undelete, world.jo, made.id)
    actions = []
    for told in world.told():
        if told.type in webhook_messages.LINEAR_ACTIONS:
            body = json.loads(webhook_messages.message(hook, told, made, SECRETS, 0).body)
            actions.append(body["action"])
    assert actions == ["create", "update", "update", "remove", "create"]
    archived = json.loads(
        webhook_messages.message(hook, world.told()[-1], replace(made, archive_time=1), SECRETS, 0).body
    )
    assert archived["data"]["archivedAt"] == "1970-01-01T00:00:00.000Z"


def test_an_attachment_that_was_purged(world: World) -> None:
    """Linear's format says what the log remembers; the service itself has a name for an id."""
    hook = endpoint(world, WebhookFormat.LINEAR)
    told, _ = happened(world)
    service = replace(told, actor=replace(told.actor, id="remora", kind="SYSTEM"))
    body = json.loads(webhook_messages.message(hook, service, None, SECRETS, 0).body)
    assert (body["data"]["title"], body["url"]) == ("Grüße", "https://e.org/ünder")
    assert body["actor"]["id"] == "remora"
    bare = json.loads(webhook_messages.message(hook, replace(told, subject=None, payload={}), None, SECRETS, 0).body)
    assert (bare["data"]["title"], bare["data"]["issueId"]) == ("", None)


def test_a_file_without_a_title(world: World) -> None:
    """Its name stands for the title."""
    hook = endpoint(world, WebhookFormat.LINEAR)
    file = world.upload(world.jo, b"hello", "a.txt", issue())
    (made,) = world.store.live_attachments_of_file(file.id)
    shown = world.attachments.get(world.jo, made.id)
    body = json.loads(webhook_messages.message(hook, world.told()[-1], shown, SECRETS, 0).body)
    assert body["data"]["title"] == "a.txt"


def test_which_types_are_sent(world: World) -> None:
    """Linear's format knows attachments only; none of the wanted ones may be left."""
    standard, linear = endpoint(world), endpoint(world, WebhookFormat.LINEAR)
    assert webhook_messages.types_sent(standard) == ()
    assert webhook_messages.types_sent(replace(standard, types=("link.created.v1",))) == ("link.created.v1",)
    assert webhook_messages.types_sent(linear) == tuple(webhook_messages.LINEAR_ACTIONS)
    two = replace(linear, types=("link.created.v1", "attachment.deleted.v1"))
    assert webhook_messages.types_sent(two) == ("attachment.deleted.v1",)
    assert webhook_messages.types_sent(replace(linear, types=("link.created.v1",))) is None

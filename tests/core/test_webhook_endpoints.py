"""Endpoints of webhooks."""

from __future__ import annotations

from typing import Any

import pytest

from remora_server.core.errors import (
    EtagMismatchError,
    NotFoundError,
    UrlNotAllowedError,
    ValidationFailedError,
)
from remora_server.core.model import DisabledReason, Subject, WebhookEndpoint, WebhookFormat
from remora_server.core.values import replace
from remora_server.core.webhook_endpoints import MAX_ENDPOINTS, PREVIOUS_LIFETIME, EndpointDraft
from tests.core.world import World, issue

URL = "https://e.org/hook"


def create(world: World, url: str = URL, **fields: Any) -> WebhookEndpoint:
    """Create an endpoint."""
    return world.do(world.endpoints.create, world.jo, EndpointDraft("acme", url, **fields))[0]


def update(world: World, endpoint_id: str, *mask: str, etag: str = "", skip: bool = False, **fields: Any) -> Any:
    """Change an endpoint."""
    draft = EndpointDraft(**fields)
    return world.do(world.endpoints.update, world.jo, endpoint_id, draft, mask, etag, skip_backlog=skip)


def test_create(world: World) -> None:
    """It begins with what happens after it; its secret is told once and lies sealed."""
    made, secret = world.do(world.endpoints.create, world.jo, EndpointDraft("acme", URL))
    assert secret.startswith("whsec_")
    assert world.seal.open(made.secret, made.id) == secret
    assert made.enabled
    assert (made.format, made.cursor) == (WebhookFormat.STANDARD, world.store.activity_bounds()[1])
    assert world.endpoints.get(world.kim, made.id) == made
    assert world.types() == ["webhook_endpoint.created"]
    assert not world.told()[0].payload
    for who, workspace in ((world.stranger, "elsewhere"), (world.stranger, "acme")):
        with pytest.raises(NotFoundError):
            world.endpoints.get(who, made.id)
        if workspace == "acme":
            with pytest.raises(NotFoundError):
                world.endpoints.list(who, workspace)


def test_what_is_refused(world: World) -> None:
    """A URL that can't be reached, types that are none, subjects that nobody knows, texts that are too long."""
    with pytest.raises(UrlNotAllowedError):
        create(world, "http://e.org")
    with pytest.raises(ValidationFailedError) as refusal:
        create(world, types=["attachment.*"], description="x" * 1025)
    assert {one.field for one in refusal.value.violations} == {
        "webhook_endpoint.types", "webhook_endpoint.description",
    }  # fmt: skip
    with pytest.raises(ValidationFailedError):
        create(world, types=["link.created.v1"] * 101)
    with pytest.raises(NotFoundError):
        create(world, subjects=[issue("NONE-1")])
    assert world.endpoints.list(world.jo, "acme").items == []
    assert world.types() == []


def test_there_is_an_end_to_them(world: World) -> None:
    """Each costs whenever something happens."""
    for _ in range(MAX_ENDPOINTS):
        create(world)
    with pytest.raises(ValidationFailedError):
        create(world)


def test_list(world: World) -> None:
    """Newest first, in pages."""
    made = [create(world, f"{URL}/{number}").id for number in range(5)]
    first = world.endpoints.list(world.jo, "acme", page_size=3)
    rest = world.endpoints.list(world.jo, "acme", page_size=3, page_token=first.next_page_token)
    assert [one.id for one in (*first.items, *rest.items)] == made[::-1]
    assert not rest.next_page_token


def test_update(world: World) -> None:
    """What is named changes, and begins anew; nothing changes for nothing."""
    world.upload(world.jo, b"x", attach_to=issue())
    made = create(world)
    world.do(world.store.update_webhook_endpoint, replace(made, attempts=3, failing_since=1, due_time=2**60))
    changed = update(
        world, made.id, url=f"{URL}/2", types=["link.created.v1"], subjects=[issue()], format=WebhookFormat.LINEAR,
        description="d",
    )  # fmt: skip
    assert (changed.url, changed.types, changed.description) == (f"{URL}/2", ("link.created.v1",), "d")
    assert changed.format is WebhookFormat.LINEAR
    assert changed.subjects[0].id.startswith("iss_")
    assert (changed.attempts, changed.failing_since, changed.due_time) == (0, None, 0)
    assert changed.version == 2
    assert update(world, made.id, description="d") == changed
    assert world.told()[-1].changed_fields == ("url", "types", "subjects", "format", "description")
    whole = update(world, made.id, "*", url=URL)
    assert (whole.types, whole.subjects, whole.description, whole.enabled) == ((), (), "", True)
    assert whole.format is WebhookFormat.STANDARD
    with pytest.raises(UrlNotAllowedError):
        update(world, made.id, url="https://10.0.0.1/")
    with pytest.raises(EtagMismatchError):
        update(world, made.id, etag='"1"', description="x")
    with pytest.raises(ValidationFailedError):
        update(world, made.id, "secret")
    with pytest.raises(ValidationFailedError):
        update(world, made.id, types=["link.*"])


def test_disable_and_enable(world: World) -> None:
    """One that is disabled keeps its place, unless the backlog is to be skipped."""
    made = create(world)
    disabled = update(world, made.id, enabled=False)
    assert disabled.disabled_reason is DisabledReason.REQUESTED
    assert update(world, made.id, enabled=False) == disabled
    again = update(world, made.id, enabled=True)
    assert (again.enabled, again.cursor) == (True, made.cursor)
    skipped = update(world, made.id, skip=True)
    assert skipped.cursor == world.store.activity_bounds()[1] > made.cursor
    assert skipped.epoch == made.epoch + 1
    assert not create(world, enabled=False).enabled


def test_rotate(world: World) -> None:
    """The secret before signs on for a day, and no other."""
    made, first = world.do(world.endpoints.create, world.jo, EndpointDraft("acme", URL))
    rotated, second = world.do(world.endpoints.rotate, world.jo, made.id, '"1"')
    assert first != second
    assert world.seal.open(rotated.secret, made.id) == second
    assert world.seal.open(rotated.previous_secret, made.id) == first
    assert rotated.previous_secret_expire_time == rotated.update_time + PREVIOUS_LIFETIME
    assert world.told()[-1].changed_fields == ("secret",)
    with pytest.raises(EtagMismatchError):
        world.do(world.endpoints.rotate, world.jo, made.id, '"1"')
    third, _ = world.do(world.endpoints.rotate, world.jo, made.id)
    assert world.seal.open(third.previous_secret, made.id) == second


def test_delete(world: World) -> None:
    """It is gone for good, with what is kept of its deliveries."""
    made = create(world)
    with pytest.raises(EtagMismatchError):
        world.do(world.endpoints.delete, world.jo, made.id, '"9"')
    assert world.do(world.endpoints.delete, world.jo, made.id) == made
    with pytest.raises(NotFoundError):
        world.do(world.endpoints.delete, world.jo, made.id)
    assert world.do(world.endpoints.delete, world.jo, made.id, allow_missing=True) is None
    assert world.types()[-1] == "webhook_endpoint.deleted"
    with pytest.raises(ValidationFailedError):
        world.endpoints.get(world.jo, "att_nonsense")


def test_a_subject_that_is_no_issue(world: World) -> None:
    """It stands for itself."""
    assert create(world, subjects=[Subject("comment", "c1")]).subjects == (Subject("comment", "c1"),)

"""Who may do what."""

from __future__ import annotations

from dataclasses import replace

import pytest

from remora_server.core import access
from remora_server.core.errors import NotFoundError, ScopeMissingError, ValidationFailedError
from tests.core.world import World, issue
from tests.stores.samples import Tenant


def test_entering_a_workspace(world: World) -> None:
    """Only the key's own exists, by id or slug; the refusal is the same for one that is there and one that is not."""
    jo, stranger = world.jo, world.stranger
    assert access.enter(jo, jo.workspace_id) == access.enter(jo, "acme") == jo.workspace_id
    messages = set()
    for name in ("nowhere", stranger.workspace_id, "elsewhere", "ACME", " acme"):
        with pytest.raises(NotFoundError) as refused:
            access.enter(jo, name)
        assert refused.value.resource == ("workspace", f"workspaces/{name}")
        messages.add(refused.value.message)
    assert len(messages) == 1
    with pytest.raises(ValidationFailedError) as missing:
        access.enter(jo, "", "attachment.workspace_id")
    assert [one.field for one in missing.value.violations] == ["attachment.workspace_id"]


def test_scopes(world: World) -> None:
    """A scope is needed as it is named; admin stands for all, and none is needed for nothing."""
    reader = replace(world.jo, scopes=frozenset({"files:read"}))
    access.require_scope(reader, "files:read")
    access.require_scope(reader, "")
    access.require_scope(world.boss, "files:write")
    for scope in ("files:write", "links:read", "admin", "files:"):
        with pytest.raises(ScopeMissingError) as refused:
            access.require_scope(reader, scope)
        assert refused.value.metadata == {"scope": scope}


def test_files(world: World) -> None:
    """A file is its creator's, until it hangs on a live card; admin keys see all of their workspace."""
    file = world.upload(world.jo, b"1")
    subject = world.do(world.subjects.resolve, world.jo, issue(), register=True)

    def readers() -> list[bool]:
        return [access.may_read_file(world.store, one, file) for one in (world.jo, world.boss, world.kim)]

    assert readers() == [True, True, False]
    card, _ = world.do(world.attachments.attach_file, world.jo, subject, file)
    assert readers() == [True, True, True]
    world.do(world.attachments.delete, world.jo, card.id)
    assert readers() == [True, True, False]


def test_tickets_and_activities(world: World) -> None:
    """What has a creator or a reader is for that one and admins; the rest is for all."""
    tenant = Tenant(world.store, "acme")
    ticket = tenant.ticket(creator=world.jo.actor)
    hidden, shown = tenant.activity(visible_to=world.jo.principal_id), tenant.activity()
    for caller, may in ((world.jo, True), (world.boss, True), (world.kim, False)):
        assert access.owns(caller, world.jo.principal_id) == may
        assert access.may_see_ticket(caller, ticket) == may
        assert access.may_see_activity(caller, hidden) == may
        assert access.may_see_activity(caller, shown)


def test_two_keys_of_one_user(world: World) -> None:
    """Who one is does not depend on the key."""
    again = world.caller("acme", "Jo", "files:read")
    assert again.principal_id == world.jo.principal_id
    assert access.owns(again, world.jo.principal_id)
    assert world.stranger.principal_id != world.jo.principal_id

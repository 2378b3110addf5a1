"""Workspaces, keys and projects."""

from __future__ import annotations

import pytest

from remora_server.core.errors import NotFoundError, TokenExpiredError, TokenMissingError, ValidationFailedError
from remora_server.core.tenants import DEFAULT_SCOPES, IMPLIED, READ_SCOPES, SCOPES, WRITE_SCOPES, hash_of
from tests.core.world import HOUR, World


def test_workspaces(world: World) -> None:
    """A name makes a slug, and a slug one workspace, which is found by either name."""
    made, created = world.do(world.tenants.create_workspace, "  My Team & Co. ")
    again, created_again = world.do(world.tenants.create_workspace, "my team co")
    assert (made.slug, created, created_again) == ("my-team-co", True, False)
    assert again == made == world.tenants.workspace("my-team-co") == world.tenants.workspace(made.id)
    for name in ("", "!!!", "x" * 49, "ü"):
        with pytest.raises(ValidationFailedError):
            world.do(world.tenants.create_workspace, name)
    with pytest.raises(NotFoundError):
        world.tenants.workspace("nowhere")


def test_keys(world: World) -> None:
    """The text of a key is told once and only its hash kept; two keys of one user are one principal."""
    workspace = world.tenants.workspace("acme")
    text, key = world.do(world.tenants.create_key, workspace, "Jo")
    other, second = world.do(world.tenants.create_key, workspace, "Jo", ["files:read"])
    assert text != other
    assert text.startswith("rk_")
    assert text not in repr(key)
    assert world.store.key_by_hash(hash_of(text)) == key
    caller = world.tenants.caller(key)
    assert caller.principal_id == world.tenants.caller(second).principal_id == world.jo.principal_id
    assert caller.scopes == frozenset(DEFAULT_SCOPES)
    assert "admin" not in caller.scopes
    assert world.tenants.caller(second).scopes == {"files:read"}
    assert world.do(world.tenants.create_key, workspace, "Jo", text="chosen")[0] == "chosen"


def test_scopes_that_stand_for_others(world: World) -> None:
    """The two scopes of the Quantify door open everything of their kind, and no more."""
    workspace = world.tenants.workspace("acme")
    for scope, wanted in (("issues:read", {*READ_SCOPES}), ("issues:write", {*READ_SCOPES, *WRITE_SCOPES})):
        _, key = world.do(world.tenants.create_key, workspace, "Jo", [scope])
        assert world.tenants.caller(key).scopes == wanted == {scope, *IMPLIED[scope]}
    assert not {"admin", "webhooks:manage"} & {*READ_SCOPES, *WRITE_SCOPES}


@pytest.mark.parametrize(
    ("user", "scopes"), [("", SCOPES), (" ", SCOPES), ("a\n", SCOPES), ("Jo", ["nonsense"]), ("Jo", [])]
)
def test_keys_that_are_refused(world: World, user: str, scopes: list[str]) -> None:
    """A key has a user with a name that can be shown, and scopes that exist."""
    with pytest.raises(ValidationFailedError):
        world.do(world.tenants.create_key, world.tenants.workspace("acme"), user, scopes)


def test_dead_keys(world: World) -> None:
    """An unknown key is missing; an expired or revoked one has expired."""
    workspace = world.tenants.workspace("acme")
    with pytest.raises(TokenMissingError):
        world.tenants.caller(None)
    text, key = world.do(world.tenants.create_key, workspace, "Jo", expires_in=HOUR)
    assert 0 < world.tenants.seconds_left(world.tenants.caller(key)) <= 3600
    world.clock.pass_by(HOUR)
    with pytest.raises(TokenExpiredError):
        world.tenants.caller(key)
    text, key = world.do(world.tenants.create_key, workspace, "Jo")
    assert world.tenants.seconds_left(world.tenants.caller(key)) == float("inf")
    world.do(world.tenants.revoke_key, key.id)
    with pytest.raises(TokenExpiredError):
        world.tenants.caller(world.store.key_by_hash(hash_of(text)))
    with pytest.raises(NotFoundError):
        world.do(world.tenants.revoke_key, "key_nonsense")


def test_projects(world: World) -> None:
    """A key makes one project of a workspace."""
    workspace = world.tenants.workspace("acme")
    made, created = world.do(world.tenants.create_project, workspace, "PLAT")
    assert created
    assert world.do(world.tenants.create_project, workspace, "PLAT") == (made, False)
    assert world.do(world.tenants.create_project, world.tenants.workspace("elsewhere"), "PLAT")[1]
    for key in ("", "plat", "1A", "A" * 21, "A-B", "Ä"):
        with pytest.raises(ValidationFailedError):
            world.do(world.tenants.create_project, workspace, key)

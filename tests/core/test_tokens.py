"""Tokens that stand for a key for an hour."""

from __future__ import annotations

import base64

import pytest

from remora_server.core import errors
from remora_server.core.tenants import Tenants
from remora_server.core.tokens import LIFETIME, Opened, Tokens, narrowed
from tests.core.world import SECOND, World


def test_what_a_token_says(world: World) -> None:
    """It names its key, its scopes and its end, which is that of the key if the key ends first."""
    tokens = Tokens(b"secret", world.clock)
    workspace = world.tenants.workspace("acme")
    for lives, most in ((None, LIFETIME), (60 * SECOND, 60 * SECOND)):
        _, key = world.do(world.tenants.create_key, workspace, "Jo", expires_in=lives)
        opened = tokens.open(tokens.issue(key, {"files:read"}))
        assert opened is not None
        assert (opened.key_id, opened.scopes) == (key.id, frozenset({"files:read"}))
        assert most - SECOND < opened.expire_time - world.clock.now() <= most


def test_its_time_is_up(world: World) -> None:
    """After an hour it is told to be expired, as a key is."""
    tokens = Tokens(b"secret", world.clock)
    _, key = world.do(world.tenants.create_key, world.tenants.workspace("acme"), "Jo")
    token = tokens.issue(key, {"files:read"})
    world.clock.pass_by(LIFETIME)
    with pytest.raises(errors.TokenExpiredError):
        tokens.open(token)


def test_what_is_no_token_of_ours(world: World) -> None:
    """Another server's, an altered one, and what is none at all open nothing."""
    tokens = Tokens(b"secret", world.clock)
    _, key = world.do(world.tenants.create_key, world.tenants.workspace("acme"), "Jo")
    token = tokens.issue(key, {"files:read"})
    assert Tokens(b"another", world.clock).open(token) is None
    body = token.removeprefix("rt_")
    for place in range(0, len(body), 7):
        other = "A" if body[place] != "A" else "B"
        assert tokens.open(f"rt_{body[:place]}{other}{body[place + 1 :]}") is None
    for text in ("rt_", "rt_x", "rt_é", "rt_" + base64.urlsafe_b64encode(b"{}").decode(), "rt_" + "A" * 100):
        assert tokens.open(text) is None


def test_no_more_than_its_key(world: World) -> None:
    """What a key has lost since, its token has lost too; the end is the earlier one."""
    assert isinstance(world.tenants, Tenants)
    opened = Opened("key_1", frozenset({"files:read", "admin"}), 5)
    caller = narrowed(world.jo, opened)
    assert caller.scopes == {"files:read"}
    assert caller.expire_time == 5

"""Tokens that stand for a key for an hour, as OAuth clients want them: sealed, so that nothing has to be kept of them.

A token opens what its key opens at that moment, or less: a key that is revoked takes its tokens with it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Collection

from remora_server.core import errors
from remora_server.core.model import Caller, Micros
from remora_server.core.ports import Clock, Key
from remora_server.core.values import dataclass, replace

PREFIX = "rt_"
LIFETIME: Micros = 3600 * 1_000_000
MAC_BYTES = 16


@dataclass(frozen=True, slots=True)
class Opened:
    """What a token says."""

    key_id: str
    scopes: frozenset[str]
    expire_time: Micros


@dataclass(frozen=True, slots=True)
class Granted:
    """A token that was made, what it is good for, and for how long."""

    token: str
    scopes: frozenset[str]
    seconds: int


class Tokens:
    """Makes tokens, and opens those that were made here."""

    def __init__(self, signing_key: bytes, clock: Clock) -> None:
        # A key of its own: what seals tokens seals nothing else.
        self._key = hmac.digest(signing_key, b"remora access tokens, version 1", hashlib.sha256)
        self._clock = clock

    def issue(self, key: Key, scopes: Collection[str]) -> str:
        """Return a token for an hour, or until the key ends."""
        ends = self._clock.now() + LIFETIME
        ends = ends if key.expire_time is None else min(ends, key.expire_time)
        body = json.dumps([key.id, sorted(scopes), ends], separators=(",", ":")).encode()
        return PREFIX + base64.urlsafe_b64encode(self._mac(body) + body).decode().rstrip("=")

    def open(self, token: str) -> Opened | None:
        """Return what a token says; None if it is none of ours, TokenExpiredError if its time is up."""
        text = token.removeprefix(PREFIX)
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        mac, body = sealed[:MAC_BYTES], sealed[MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(body)):
            return None
        key_id, scopes, ends = json.loads(body)
        if ends <= self._clock.now():
            raise errors.TokenExpiredError
        return Opened(key_id, frozenset(scopes), ends)

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, hashlib.sha256)[:MAC_BYTES]


def narrowed(caller: Caller, opened: Opened) -> Caller:
    """Return whom a token stands for: its key's caller, with no more than it was made for."""
    ends = opened.expire_time if caller.expire_time is None else min(caller.expire_time, opened.expire_time)
    return replace(caller, scopes=caller.scopes & opened.scopes, expire_time=ends)

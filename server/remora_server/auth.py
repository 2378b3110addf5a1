"""Keys to callers, with a memory short enough that a revoked key ends at once for a person's sense of time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from remora_server.core.errors import TokenMissingError
from remora_server.core.model import Caller
from remora_server.core.ports import Key
from remora_server.core.tenants import Tenants, hash_of
from remora_server.core.tokens import LIFETIME, PREFIX, Granted, Tokens, narrowed

MEMORY_SECONDS = 0.25
MEMORY_KEYS = 4096
MAX_KEY_CHARS = 512
MAX_TOKEN_CHARS = 2048

FindKey = Callable[[bytes], Awaitable[Key | None]]


class Authenticator:
    """Looks keys up by their hash; for use on the event loop only."""

    def __init__(
        self,
        tenants: Tenants,
        tokens: Tokens,
        find_key: FindKey,
        find_key_by_id: Callable[[str], Awaitable[Key | None]],
    ) -> None:
        self._tenants = tenants
        self._tokens = tokens
        self._find_key = find_key
        self._find_key_by_id = find_key_by_id
        self._recent: OrderedDict[str, tuple[float, Caller]] = OrderedDict()

    def recent(self, token: str) -> Caller | None:
        """Return whom a key stands for, if it was looked up a moment ago."""
        seen = self._recent.get(token)
        return seen[1] if seen is not None and time.monotonic() < seen[0] else None

    async def caller(self, token: str) -> Caller:
        """Return whom a key stands for at this moment."""
        caller = (
            await self._of_token(token) if token.startswith(PREFIX) else self._tenants.caller(await self._key(token))
        )
        until = time.monotonic() + min(MEMORY_SECONDS, self._tenants.seconds_left(caller))
        self._recent[token] = (until, caller)
        self._recent.move_to_end(token)
        if len(self._recent) > MEMORY_KEYS:
            self._recent.popitem(last=False)
        return caller

    async def grant(self, principal_id: str, key: str, scopes: frozenset[str] | None) -> Granted | None:
        """Return a token for a key, with those of the scopes that the key has; None if it has none of them."""
        found = await self._key(key)
        caller = self._tenants.caller(found)
        if found is None or caller.principal_id != principal_id:
            raise TokenMissingError
        granted = caller.scopes if scopes is None else scopes & caller.scopes
        if not granted:
            return None
        seconds = min(LIFETIME / 1_000_000, self._tenants.seconds_left(caller))
        return Granted(self._tokens.issue(found, granted), granted, int(seconds))

    async def _key(self, text: str) -> Key | None:
        return await self._find_key(hash_of(text)) if len(text) <= MAX_KEY_CHARS else None

    async def _of_token(self, token: str) -> Caller:
        opened = self._tokens.open(token) if len(token) <= MAX_TOKEN_CHARS else None
        if opened is None:
            raise TokenMissingError
        return narrowed(self._tenants.caller(await self._find_key_by_id(opened.key_id)), opened)

"""Keys to callers, with a memory short enough that a revoked key ends at once for a person's sense of time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from remora_server.core.model import Caller
from remora_server.core.ports import Key
from remora_server.core.tenants import Tenants, hash_of

MEMORY_SECONDS = 0.25
MEMORY_KEYS = 4096
MAX_KEY_CHARS = 512

FindKey = Callable[[bytes], Awaitable[Key | None]]


class Authenticator:
    """Looks keys up by their hash; for use on the event loop only."""

    def __init__(self, tenants: Tenants, find_key: FindKey) -> None:
        self._tenants = tenants
        self._find_key = find_key
        self._recent: OrderedDict[str, tuple[float, Caller]] = OrderedDict()

    def recent(self, token: str) -> Caller | None:
        """Return whom a key stands for, if it was looked up a moment ago."""
        seen = self._recent.get(token)
        return seen[1] if seen is not None and time.monotonic() < seen[0] else None

    async def caller(self, token: str) -> Caller:
        """Return whom a key stands for at this moment."""
        key = await self._find_key(hash_of(token)) if len(token) <= MAX_KEY_CHARS else None
        caller = self._tenants.caller(key)
        until = time.monotonic() + min(MEMORY_SECONDS, self._tenants.seconds_left(caller))
        self._recent[token] = (until, caller)
        self._recent.move_to_end(token)
        if len(self._recent) > MEMORY_KEYS:
            self._recent.popitem(last=False)
        return caller

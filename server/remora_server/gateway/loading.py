"""What many ask for at once is fetched in one go: a resolver never makes a query for each row."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Loader(Generic[Key, Value]):
    """Gathers the keys that are asked for in one turn of the event loop; lives as long as one request."""

    def __init__(self, fetch: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Value]]]) -> None:
        self._fetch = fetch
        self._loaded: dict[Key, asyncio.Future[Value | None]] = {}
        self._waiting: list[Key] = []
        self._fetching: set[asyncio.Task[None]] = set()

    def load(self, key: Key) -> asyncio.Future[Value | None]:
        """Return what belongs to a key, None if nothing does; each is fetched once."""
        if key not in self._loaded:
            loop = asyncio.get_running_loop()
            self._loaded[key] = loop.create_future()
            if not self._waiting:
                loop.call_soon(self._start)
            self._waiting.append(key)
        return self._loaded[key]

    def _start(self) -> None:
        keys, self._waiting = self._waiting, []
        task = asyncio.ensure_future(self._fill(keys))
        self._fetching.add(task)
        task.add_done_callback(self._fetching.discard)

    async def _fill(self, keys: Sequence[Key]) -> None:
        try:
            found = await self._fetch(keys)
        except BaseException as problem:
            for key in keys:
                if not self._loaded[key].done():
                    self._loaded[key].set_exception(problem)
            if not isinstance(
                problem, Exception
            ):  # Those are raised where values are waited for, what ends us here too.
                raise
        else:
            for key in keys:
                if not self._loaded[key].done():
                    self._loaded[key].set_result(found.get(key))

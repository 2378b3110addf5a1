"""Whether the server is well: what it stands on is asked now and then, and many who want to know share one answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Generic, TypeVar

FRESH_SECONDS = 2.0
FRESH_FACTS_SECONDS = 5.0  # Counting costs more than asking for a sign of life.
ANSWER_SECONDS = 5.0

log = logging.getLogger(__name__)
Ask = Callable[[], Awaitable[object]]
Answer = TypeVar("Answer")
_NONE = object()  # In place of an answer.


class _Shared(Generic[Answer]):
    """An answer that many share, and that is asked for anew once it is older than some seconds."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, Answer]], fresh_seconds: float) -> None:
        self._ask = ask
        self._fresh_seconds = fresh_seconds
        self._asking: asyncio.Task[Answer] | None = None
        self._asked_at = 0.0

    async def get(self) -> Answer:
        """Return the answer."""
        if self._asking is None or (self._asking.done() and time.monotonic() - self._asked_at > self._fresh_seconds):
            self._asked_at = time.monotonic()
            self._asking = asyncio.create_task(self._ask())
        # Whoever goes away takes nothing from the others.
        return await asyncio.shield(self._asking)


class Health:
    """Asks each of some things whether it answers, and facts besides; for use on one event loop."""

    def __init__(
        self,
        checks: Mapping[str, Ask],
        facts: Mapping[str, Ask],
        *,
        fresh_seconds: float = FRESH_SECONDS,
        fresh_facts_seconds: float = FRESH_FACTS_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._checks = checks
        self._facts = facts
        self._answer_seconds = answer_seconds
        self._failing = _Shared(self._ask, fresh_seconds)
        self._told = _Shared(self._tell, fresh_facts_seconds)

    async def failing(self) -> Sequence[str]:
        """Return the names of what does not answer."""
        return await self._failing.get()

    async def facts(self) -> Mapping[str, object]:
        """Return the facts, but for those that could not be found out."""
        return await self._told.get()

    async def _ask(self) -> Sequence[str]:
        answers = await asyncio.gather(*(self._answer(name, check) for name, check in self._checks.items()))
        return [name for name, answer in zip(self._checks, answers, strict=True) if answer is _NONE]

    async def _tell(self) -> Mapping[str, object]:
        answers = await asyncio.gather(*(self._answer(name, fact) for name, fact in self._facts.items()))
        return {name: answer for name, answer in zip(self._facts, answers, strict=True) if answer is not _NONE}

    async def _answer(self, name: str, ask: Ask) -> object:
        """Return what something answers, or `_NONE`."""
        try:
            async with asyncio.timeout(self._answer_seconds):
                return await ask()
        except Exception as problem:  # noqa: BLE001 - whatever it is, that is the answer.
            log.warning("%s: no answer (%r)", name, problem)
            return _NONE

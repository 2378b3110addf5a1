"""Whether the server is well: what it stands on is asked now and then, and many who want to know share one answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

FRESH_SECONDS = 2.0
ANSWER_SECONDS = 5.0

log = logging.getLogger(__name__)
Check = Callable[[], Awaitable[object]]


class Health:
    """Asks each of some things whether it answers; for use on one event loop."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self._asking: asyncio.Task[Sequence[str]] | None = None
        self._asked_at = 0.0

    async def failing(self) -> Sequence[str]:
        """Return the names of what does not answer."""
        if self._asking is None or (self._asking.done() and time.monotonic() - self._asked_at > FRESH_SECONDS):
            self._asked_at = time.monotonic()
            self._asking = asyncio.create_task(self._ask())
        # Whoever goes away takes nothing from the others.
        return await asyncio.shield(self._asking)

    async def _ask(self) -> Sequence[str]:
        answers = await asyncio.gather(*(self._answers(name, check) for name, check in self._checks.items()))
        return [name for name, answered in zip(self._checks, answers, strict=True) if not answered]

    async def _answers(self, name: str, check: Check) -> bool:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await check()
        except Exception as problem:  # noqa: BLE001 - whatever it is, that is the answer.
            log.warning("%s: no answer (%r)", name, problem)
            return False
        return True

"""Ends a stream on which the other side has fallen silent: streams have no deadline, so nothing else would."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Protocol, Self

LONGEST_SECONDS = 120.0  # Every stream of this service says something at least once a minute.


class Cancellable(Protocol):
    """A call."""

    def cancel(self) -> object:
        """End it."""
        ...


class Silence:
    """Cancels a call when nothing was `heard` for too long; ends it in any case when left."""

    def __init__(self, call: Cancellable, seconds: float = LONGEST_SECONDS) -> None:
        self._call = call
        self._seconds = seconds
        self._heard_at = time.monotonic()
        self._timer = self._make_timer(seconds)

    def heard(self) -> None:
        """Take note that something arrived."""
        self._heard_at = time.monotonic()

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._call.cancel()

    def _make_timer(self, seconds: float) -> threading.Timer:
        timer = threading.Timer(seconds, self._look)
        timer.daemon = True
        return timer

    def _look(self) -> None:
        left = self._heard_at + self._seconds - time.monotonic()
        if left <= 0:
            self._call.cancel()
            return
        self._timer = self._make_timer(left)
        self._timer.start()

"""How often and how long to try again while nothing comes of it."""

from __future__ import annotations

import random
import time

from remora.errors import RemoraError, worth_retrying

SHORTEST_SECONDS = 0.2
LONGEST_SECONDS = 5.0
FREE_ATTEMPTS = 2


class Patience:
    """Pauses between attempts, growing until something is achieved, and the moment to give up.

    Until the server was heard of for the first time only `connect_seconds` are spent: an address that is wrong should
    not take minutes to say so.
    """

    def __init__(self, seconds: float, connect_seconds: float, *, heard: bool) -> None:
        self._seconds = seconds
        self._connect_seconds = min(connect_seconds, seconds)
        self._heard = heard
        self._attempts = 0
        self._failing_since: float | None = None

    def begin(self) -> None:
        """Let time count from now on, before anything has failed."""
        self._failing_since = time.monotonic()

    def heard(self) -> None:
        """Note that the server answered."""
        self._heard = True

    def progressed(self) -> None:
        """Note that something was achieved: what failed before no longer counts."""
        self._heard = True
        self._attempts = 0
        self._failing_since = None

    def changed(self) -> None:
        """Note that the next attempt differs from those before: it need not wait."""
        self._attempts = 0

    def pause(self, error: RemoraError) -> None:
        """Wait before the next attempt, or raise the error if there should be none."""
        if not worth_retrying(error):
            raise error
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        delay = max(self._delay(), error.retry_after or 0.0)
        limit = self._seconds if self._heard else self._connect_seconds
        if now + delay - self._failing_since > limit:
            raise error
        self._attempts += 1
        time.sleep(delay)

    def _delay(self) -> float:
        # The first attempts come at once: on a line that breaks again and again, pauses would make up most of the time.
        # Two, because what a broken stream achieved is known only when the next one is open.
        if self._attempts < FREE_ATTEMPTS:
            return 0.0
        longest = min(LONGEST_SECONDS, SHORTEST_SECONDS * 2.0 ** min(self._attempts - FREE_ATTEMPTS, 10))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - Spreads callers; hides nothing.

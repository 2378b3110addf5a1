"""How many requests a key may make: so many in each minute, which begins with its first request."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from remora_server.core.model import Micros
from remora_server.core.ports import Clock
from remora_server.gateway.errors import HttpError

SECOND: Micros = 1_000_000
MINUTE: Micros = 60 * SECOND


class RateExceededError(HttpError):
    """More requests than are allowed."""

    status = 429
    code = "RESOURCE_EXHAUSTED"
    reason = "RATE_LIMITED"

    def __init__(self, wait_seconds: float) -> None:
        super().__init__("too many requests; go on at the time that the header X-RateLimit-Reset tells.")
        self.retry_after_seconds = wait_seconds


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a key has left, until when (seconds since the epoch), and whether this request may be served."""

    is_good: bool
    remaining: int
    reset_seconds: int
    wait_seconds: float  # until then


class Rate:
    """Counts the requests of each key; for use on the event loop only, and for each process by itself."""

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._counted: OrderedDict[str, tuple[Micros, int]] = OrderedDict()  # by key: when its minute ends, how many

    def take(self, key: str) -> Allowance:
        """Count a request."""
        now = self._clock.now()
        # They lie in the order in which their minutes end.
        while self._counted and next(iter(self._counted.values()))[0] <= now:
            self._counted.popitem(last=False)
        ends, made = self._counted.get(key, (now + MINUTE, 0))
        is_good = made < self._per_minute
        if is_good:
            made += 1
            self._counted[key] = (ends, made)
        return Allowance(is_good, self._per_minute - made, -(-ends // SECOND), (ends - now) / SECOND)

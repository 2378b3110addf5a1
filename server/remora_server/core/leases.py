"""Leases: what only one process at a time should do, whichever server it belongs to, as a row that runs out.

Who holds one renews it while the work goes on; that of a process that was killed runs out by itself. Times are those of
each process's clock, so the life of a lease is far longer than clocks differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from remora_server.core.model import Lease, Micros
from remora_server.core.ports import Changes, Clock, MetadataStore

LIFE: Micros = 60 * 1_000_000


class LeaseHeldError(Exception):
    """Somebody else is at it."""

    def __init__(self, lease: Lease, now: Micros) -> None:
        seconds = max(0, lease.expire_time - now) // 1_000_000 + 1
        super().__init__(
            f"{lease.holder} holds the lease `{lease.name}`; let it finish. "
            f"If it was killed, its lease runs out within {seconds} seconds."
        )
        self.holder = lease.holder


class Leases:
    """What one process holds, under its own name."""

    def __init__(self, store: MetadataStore, changes: Changes, clock: Clock, holder: str) -> None:
        self._store = store
        self._changes = changes
        self._clock = clock
        self._holder = holder

    def take(self, name: str, life: Micros = LIFE) -> None:
        """Take a lease, or renew it; raise LeaseHeldError if somebody else has it."""
        now = self._clock.now()
        wanted = Lease(name, self._holder, now + life)
        found = self._changes.run(lambda: self._store.take_lease(wanted, now))
        if found.holder != self._holder:
            raise LeaseHeldError(found, now)

    @contextmanager
    def held(self, name: str, life: Micros = LIFE) -> Iterator[Callable[[], None]]:
        """Hold a lease as long as the body runs; yield what the body calls often, which renews it in time.

        That call raises LeaseHeldError if the lease ran out, as it does for a process that stood still, and somebody
        else has it now.
        """
        self.take(name, life)
        renewed = self._clock.now()

        def keep() -> None:
            nonlocal renewed
            if self._clock.now() - renewed > life // 3:
                self.take(name, life)
                renewed = self._clock.now()

        try:
            yield keep
        finally:
            self._changes.run(lambda: self._store.drop_lease(name, self._holder))

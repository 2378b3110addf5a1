"""What the deliverer makes of endpoints, by itself: who has a place, and what is kept of what was sent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from remora_server.core.errors import StorageUnavailableError
from remora_server.core.model import Outgoing, Sent
from remora_server.core.webhook_deliveries import Attempt, Claim
from remora_server.deliver import deliverer
from remora_server.deliver.deliverer import Deliverer
from remora_server.deliver.lookups import LookupsBusyError
from tests.running import until


@dataclass(frozen=True)
class Endpoint:
    """As much of an endpoint as the deliverer looks at."""

    id: str


@dataclass(frozen=True)
class Told:
    """As much of an activity."""

    id: str


@dataclass
class Deliveries:
    """Queues of endpoints, and what was kept of what was sent."""

    queues: dict[str, list[str]]
    kept: list[tuple[str, str]] = field(default_factory=list)
    results: list[Sent] = field(default_factory=list)
    going_on: list[bool] = field(default_factory=list)
    problem: Exception | None = None
    keeping: Callable[[], object] = lambda: None

    def due(self) -> Sequence[Any]:
        """Return whose queue is not empty."""
        return [Endpoint(name) for name, queue in self.queues.items() if queue]

    def claim(self, endpoint: Any) -> Claim | None:
        """Take two at a time."""
        queue = self.queues[endpoint.id]
        return Claim(endpoint, [Told(one) for one in queue[:2]]) if queue else None  # type: ignore[misc]

    def further(self, _claim: Claim, _after: object) -> Sequence[Any]:
        """Have nothing more."""
        return []

    def outgoing(self, claim: Claim, activity: Any) -> Outgoing:
        """Write its name."""
        if self.problem is not None:
            raise self.problem
        return Outgoing(f"{claim.endpoint.id}/{activity.id}", (), b"")

    def record(self, claim: Claim, attempts: Sequence[Attempt], *, going_on: bool = True) -> Claim | None:
        """Keep what was sent, and take it from its queue."""
        made = [(claim.endpoint.id, one.activity.id) for one in attempts]
        self.keeping()
        self.kept += made
        self.results += [one.sent for one in attempts]
        self.going_on.append(going_on)
        queue = self.queues[claim.endpoint.id]
        for _, one in made:
            if one in queue:
                queue.remove(one)
        return self.claim(claim.endpoint) if going_on else None


class Clock:
    """Stands still."""

    def now(self) -> int:
        """Return it."""
        return 0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the deliverer wait less."""
    for name in ("REST_SECONDS", "LINGER_SECONDS", "BUSY_SECONDS", "BATCH_SECONDS"):
        monkeypatch.setattr(deliverer, name, 0.01)
    return iter([None])


def run(deliveries: Deliveries, send: Callable[[Outgoing], Awaitable[Sent]], is_enough: Callable[[], bool]) -> None:
    """Deliver until it is enough."""

    class Sending:
        """Sends as it is told."""

        async def send(self, outgoing: Outgoing) -> Sent:
            """Send."""
            return await send(outgoing)

    async def work() -> None:
        delivering = Deliverer(deliveries, Sending(), Clock())  # type: ignore[arg-type]
        running = asyncio.create_task(delivering.run())
        try:
            await asyncio.to_thread(until, is_enough)
        finally:
            delivering.stop()
            await running

    asyncio.run(work())


async def take(_: Outgoing) -> Sent:
    """Take everything."""
    return Sent(204)


def test_a_long_queue_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are fewer places than endpoints each has its turn after a batch, and goes on later (P40)."""
    monkeypatch.setattr(deliverer, "MOST_AT_ONCE", 1)
    deliveries = Deliveries({"long": [str(number) for number in range(40)], "one": ["a"], "two": ["b"]})
    run(deliveries, take, lambda: not any(deliveries.queues.values()))
    places = [deliveries.kept.index(one) for one in (("one", "a"), ("two", "b"))]
    assert max(places) < 20
    assert len(deliveries.kept) == 42


def test_after_an_error_of_the_database_nothing_is_taken_again() -> None:
    """The task ends, so a claim would lie with nobody until its time is up."""
    deliveries = Deliveries({"one": ["a"]}, problem=StorageUnavailableError())
    run(deliveries, take, lambda: len(deliveries.going_on) >= 2)
    assert set(deliveries.going_on) == {False}
    assert deliveries.kept == []


def test_a_message_that_can_not_be_written_has_failed() -> None:
    """It is kept as an attempt, or it would be tried for ever without a word."""
    deliveries = Deliveries({"one": ["a"]}, problem=KeyError("nobody thought of it"))
    run(deliveries, take, lambda: bool(deliveries.results))
    assert "KeyError" in deliveries.results[0].error


def test_what_there_was_no_room_for_has_not_failed() -> None:
    """It is sent once there is room; the attempt in vain is none (P40)."""
    tried: list[str] = []

    async def send(outgoing: Outgoing) -> Sent:
        tried.append(outgoing.url)
        if len(tried) == 1:
            raise LookupsBusyError
        return Sent(204)

    deliveries = Deliveries({"one": ["a"]})
    run(deliveries, send, lambda: bool(deliveries.kept))
    assert tried == ["one/a"] * 2
    assert deliveries.results == [Sent(204)]


def test_what_is_being_kept_at_a_stop_is_kept_once() -> None:
    """A stop while the first is kept and the second is under way does not count the first twice."""
    is_keeping, go_on = threading.Event(), threading.Event()

    def keeping() -> None:
        is_keeping.set()
        go_on.wait(0.3)

    async def send(outgoing: Outgoing) -> Sent:
        if outgoing.url == "one/b":
            await asyncio.sleep(60)
        return Sent(204)

    deliveries = Deliveries({"one": ["a", "b"]}, keeping=keeping)
    run(deliveries, send, is_keeping.is_set)
    assert deliveries.kept == [("one", "a")]

"""What a server does by itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from remora_server.core import errors, ids
from remora_server.core.leases import LeaseHeldError, Leases
from remora_server.core.sweep import LEASE, Sweep, Swept
from remora_server.upkeep import ROUND, Upkeep
from tests.core.stored import names, store
from tests.core.world import DAY, SECOND, World
from tests.running import until


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Make a world with usual settings."""
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def make(world: World) -> Iterator[Callable[..., Upkeep]]:
    """Make upkeeps of several servers over one world; they are stopped afterwards."""
    made: list[Upkeep] = []

    def make_one(holder: str = "a", *, interval_seconds: float = 3600, sweep: Sweep | None = None) -> Upkeep:
        leases = Leases(world.store, world.changes, world.clock, holder)
        theirs = Sweep(world.store, world.blobs, world.changes, world.clock, leases)
        made.append(Upkeep(sweep or theirs, leases, grace=DAY, interval_seconds=interval_seconds))
        return made[-1]

    yield make_one
    for one in made:
        one.stop()


def litter(world: World) -> None:
    """Leave something to remove."""
    # Blobs in memory are dated by the machine's clock.
    world.clock.time = max(world.clock.time, time.time_ns() // 1000 + 2 * DAY)
    store(world, ids.new_id(ids.BLOB), b"x")


def test_it_sweeps_again_and_again(world: World, make: Callable[..., Upkeep]) -> None:
    """Every interval, as long as the server runs, and no more afterwards."""

    def is_swept() -> bool:
        world.clock.pass_by(SECOND)
        return not names(world)

    upkeep = make(interval_seconds=0.02)
    upkeep.start()
    for _ in range(2):
        litter(world)
        until(is_swept)
    upkeep.stop()
    assert not upkeep._thread.is_alive()


def test_never(make: Callable[..., Upkeep]) -> None:
    """With an interval of 0 nothing begins, and stopping that is harmless."""
    upkeep = make(interval_seconds=0)
    upkeep.start()
    assert not upkeep._thread.is_alive()
    upkeep.stop()


def test_one_of_several_servers_sweeps(world: World, make: Callable[..., Upkeep]) -> None:
    """In each interval it is one of them, also when the others come after it has finished; then the next."""
    one, other = make("one"), make("other")
    litter(world)
    one._round()
    assert not names(world)
    litter(world)
    other._round()
    assert names(world)
    world.clock.pass_by(3600 * SECOND)
    other._round()
    assert not names(world)
    with pytest.raises(LeaseHeldError):
        Leases(world.store, world.changes, world.clock, "third").take(ROUND)


def test_not_beside_a_command(world: World, make: Callable[..., Upkeep]) -> None:
    """While `gc` sweeps, the server does not."""
    litter(world)
    with Leases(world.store, world.changes, world.clock, "gc").held(LEASE):
        make()._round()
    assert names(world)


def test_what_goes_wrong_is_logged(world: World, make: Callable[..., Upkeep], caplog: pytest.LogCaptureFixture) -> None:
    """Neither a store that is away nor a defect ends the upkeep."""

    class Failing(Sweep):
        """Meets a problem."""

        problem: Exception

        def sweep(self, *_: Any, **__: Any) -> Swept:
            """Fail."""
            raise self.problem

    failing = Failing(world.store, world.blobs, world.changes, world.clock, world.leases)
    upkeep = make(sweep=failing)
    for problem, level in ((errors.StorageUnavailableError(), logging.WARNING), (ValueError("x"), logging.ERROR)):
        failing.problem = problem
        caplog.clear()
        upkeep._round()
        assert [record.levelno for record in caplog.records] == [level]


def test_stopping_ends_a_sweep(world: World, make: Callable[..., Upkeep]) -> None:
    """A server that stops does not wait for a long sweep; the lease is given back for the next."""
    litter(world)
    upkeep = make()
    upkeep._stopping.set()
    upkeep._round()
    assert names(world)
    Leases(world.store, world.changes, world.clock, "gc").take(LEASE)

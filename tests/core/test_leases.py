"""Leases."""

from __future__ import annotations

import pytest

from remora_server.core.leases import LIFE, LeaseHeldError, Leases
from tests.core.world import World


@pytest.fixture
def other(world: World) -> Leases:
    """Be another process."""
    return Leases(world.store, world.changes, world.clock, "other")


def test_one_holder_at_a_time(world: World, other: Leases) -> None:
    """Who is refused hears who has it and how long at most; a lease of another name is another lease."""
    world.leases.take("a")
    world.leases.take("a")
    with pytest.raises(LeaseHeldError, match="within 60 seconds") as refused:
        other.take("a")
    assert refused.value.holder == "this"
    other.take("b")


def test_a_holder_that_was_killed(world: World, other: Leases) -> None:
    """Its lease runs out, and not before its time."""
    world.leases.take("a", LIFE)
    world.clock.pass_by(LIFE - 1000)
    with pytest.raises(LeaseHeldError, match="within 1 seconds"):
        other.take("a")
    world.clock.pass_by(1000)
    other.take("a")
    with pytest.raises(LeaseHeldError):
        world.leases.take("a")


def test_holding(world: World, other: Leases) -> None:
    """It is renewed in time, and given back at the end, also at a bad one."""

    def work() -> None:
        with world.leases.held("a") as keep:
            for _ in range(10):
                world.clock.pass_by(LIFE // 2)
                keep()
                with pytest.raises(LeaseHeldError):
                    other.take("a")
            raise KeyError

    with pytest.raises(KeyError):
        work()
    other.take("a")


def test_a_holder_that_stood_still(world: World, other: Leases) -> None:
    """It hears that another has the lease, and does not take it away from that one at its end."""

    def work() -> None:
        with world.leases.held("a") as keep:
            world.clock.pass_by(2 * LIFE)
            other.take("a")
            keep()

    with pytest.raises(LeaseHeldError):
        work()
    with pytest.raises(LeaseHeldError):
        world.leases.take("a")

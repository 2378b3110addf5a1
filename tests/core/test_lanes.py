"""Lanes: work of one kind for one upload, in order."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from remora_server.core.lanes import TURN_PIECES, Lane


def nothing() -> None:
    """Do nothing."""


def test_order() -> None:
    """Pieces are worked off in the order in which they came, by however many threads."""
    done: list[int] = []
    with ThreadPoolExecutor(4) as pool:
        lane: Lane[int] = Lane(pool, done.append, nothing)
        for piece in range(1000):
            lane.put(piece)
        lane.wait_idle()
        assert done == list(range(1000))
        lane.put(1000)
        lane.wait_idle()
    assert done[-1] == 1000
    assert lane.waiting == 0


def test_one_at_a_time() -> None:
    """A lane never works on two pieces at once."""
    busy = threading.Semaphore(1)

    def work(_: int) -> None:
        assert busy.acquire(blocking=False)
        busy.release()

    with ThreadPoolExecutor(8) as pool:
        lane: Lane[int] = Lane(pool, work, nothing)
        for piece in range(500):
            lane.put(piece)
        lane.wait_idle()
    assert lane.failure is None


def test_a_failure() -> None:
    """After a failure the rest is dropped, the listener hears of it once, and later pieces are ignored."""
    done: list[int] = []
    heard: list[str] = []
    hold = threading.Event()

    def work(piece: int) -> None:
        hold.wait()
        if piece == 2:
            raise ValueError(piece)
        done.append(piece)

    with ThreadPoolExecutor(1) as pool:
        lane: Lane[int] = Lane(pool, work, lambda: heard.append("failed"))
        for piece in range(10):
            lane.put(piece)
        hold.set()
        lane.wait_idle()
        lane.put(11)
        lane.wait_idle()
    assert (done, heard, lane.waiting) == ([0, 1], ["failed"], 0)
    assert isinstance(lane.failure, ValueError)


def test_lanes_take_turns() -> None:
    """A lane with much to do lets another one in after a few pieces."""
    order: list[str] = []
    first, second = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(first.wait)
        long: Lane[str] = Lane(pool, order.append, nothing)
        short: Lane[str] = Lane(pool, order.append, second.set)
        for _ in range(3 * TURN_PIECES):
            long.put("long")
        short.put("short")
        first.set()
        long.wait_idle()
        short.wait_idle()
    assert order.index("short") == TURN_PIECES

"""Threads that come with work and go with idleness."""

from __future__ import annotations

import threading
import time

import pytest

from remora_server.core.threads import Threads


def until(condition: object, seconds: float = 10.0) -> None:
    """Wait for something that other threads do."""
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.005)


def test_results_and_failures() -> None:
    """A call's result, or what it raised, comes to whoever waits."""
    threads = Threads(2, "t")
    assert threads.submit(pow, 2, 10).result(5) == 1024
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 1, 0).result(5)
    threads.shutdown()


def test_as_many_as_wait_but_no_more() -> None:
    """Calls that wait have a thread each, up to the limit; the rest comes after them, in order."""
    threads = Threads(3, "t")
    go = threading.Event()
    done: list[int] = []
    waiting = [threads.submit(go.wait, 10) for _ in range(3)]
    rest = [threads.submit(done.append, number) for number in range(5)]
    until(lambda: threads.count == 3)
    assert not any(one.done() for one in rest)
    go.set()
    assert all(one.result(5) for one in waiting)
    for one in rest:
        one.result(5)
    assert sorted(done) == list(range(5))
    threads.shutdown()


def test_idle_threads_end() -> None:
    """When many waited and then few calls come, those few keep one thread, not all of them."""
    threads = Threads(50, "t", idle_seconds=0.2)
    go = threading.Event()
    waiting = [threads.submit(go.wait, 10) for _ in range(40)]
    until(lambda: threads.count == 40)
    go.set()
    for one in waiting:
        one.result(5)

    def keep_busy() -> bool:
        threads.submit(int).result(5)
        return threads.count == 1

    until(keep_busy)
    until(lambda: threads.count == 0)
    assert threads.submit(int, "7").result(5) == 7
    threads.shutdown()


def test_shutdown_waits_for_what_is_queued() -> None:
    """What was taken is done; nothing more is taken."""
    threads = Threads(1, "t")
    done: list[int] = []
    threads.submit(time.sleep, 0.05)
    last = threads.submit(done.append, 1)
    threads.shutdown()
    assert (done, last.done(), threads.count) == ([1], True, 0)
    with pytest.raises(RuntimeError):
        threads.submit(int)


def test_a_cancelled_call_does_not_run() -> None:
    """What is cancelled while it waits for a thread never begins."""
    threads = Threads(1, "t")
    go = threading.Event()
    done: list[int] = []
    threads.submit(go.wait, 10)
    late = threads.submit(done.append, 1)
    assert late.cancel()
    go.set()
    threads.shutdown()
    assert done == []

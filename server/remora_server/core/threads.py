"""Threads that come with work and go with idleness: for calls that wait on something, of which many may wait at once.

The pool of the standard library keeps every thread that it ever started. After an outage, when hundreds of calls waited
at once, that would be hundreds of idle threads for ever.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")
Job = Callable[[], None]

IDLE_SECONDS = 10.0


class Threads(Executor):
    """Runs calls on at most `limit` threads; the one that was busy last gets the next call, so the others can end."""

    def __init__(self, limit: int, name: str, idle_seconds: float = IDLE_SECONDS) -> None:
        self._limit = limit
        self._name = name
        self._idle_seconds = idle_seconds
        self._lock = threading.Condition()
        self._backlog: deque[Job] = deque()
        self._idle: list[SimpleQueue[Job | None]] = []
        self._count = 0
        self._started = 0
        self._is_closed = False

    def submit(self, fn: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Future[Result]:
        """Run a call on one of the threads."""
        future: Future[Result] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as problem:  # noqa: BLE001 - whatever it is, it belongs to whoever waits.
                future.set_exception(problem)
            else:
                future.set_result(result)

        with self._lock:
            if self._is_closed:
                raise RuntimeError("these threads have been told to end")
            if self._idle:
                self._idle.pop().put(job)
            elif self._count < self._limit:
                self._start(job)
            else:
                self._backlog.append(job)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as it is inherited.
        """Take nothing more, and end the threads once everything is done."""
        with self._lock:
            self._is_closed = True
            if cancel_futures:
                self._backlog.clear()
            for inbox in self._idle:
                inbox.put(None)
            self._idle.clear()
            if wait:
                self._lock.wait_for(lambda: not self._count)

    @property
    def count(self) -> int:
        """How many threads there are."""
        return self._count

    def _start(self, job: Job) -> None:
        self._count += 1
        self._started += 1
        name = f"{self._name}_{self._started}"
        threading.Thread(target=self._work, args=(job,), name=name, daemon=True).start()

    def _work(self, first: Job) -> None:
        inbox: SimpleQueue[Job | None] = SimpleQueue()
        job: Job | None = first
        while job is not None:
            job()
            job = self._next(inbox)
        with self._lock:
            self._count -= 1
            self._lock.notify_all()

    def _next(self, inbox: SimpleQueue[Job | None]) -> Job | None:
        with self._lock:
            if self._backlog:
                return self._backlog.popleft()
            if self._is_closed:
                return None
            self._idle.append(inbox)
        try:
            return inbox.get(timeout=self._idle_seconds)
        except Empty:
            with self._lock:
                if inbox in self._idle:
                    self._idle.remove(inbox)
                    return None
            return inbox.get()  # It was chosen in this very moment.

"""Lanes: the threads' side of an upload. A lane does one kind of work on one upload, in order, while there is any.

Lanes of all uploads share a pool with about as many threads as there are cores, so a stream takes a thread only while
it has bytes waiting, and after a few pieces goes to the end of the queue.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Generic, TypeVar

Piece = TypeVar("Piece")

TURN_PIECES = 8


class Lane(Generic[Piece]):
    """Works off pieces one after the other; after a failure the rest is dropped and `failure` tells why."""

    def __init__(self, pool: Executor, work: Callable[[Piece], None], on_failure: Callable[[], None]) -> None:
        self._pool = pool
        self._work = work
        self._on_failure = on_failure
        self._pieces: deque[Piece] = deque()
        self._lock = threading.Condition()
        self._running = False
        self.failure: BaseException | None = None

    def put(self, piece: Piece) -> None:
        """Add a piece; never blocks."""
        with self._lock:
            if self.failure is not None:
                return
            self._pieces.append(piece)
            if self._running:
                return
            self._running = True
        self._pool.submit(self._turn)

    def wait_idle(self) -> None:
        """Block until every piece is done or dropped."""
        with self._lock:
            self._lock.wait_for(lambda: not self._running)

    @property
    def waiting(self) -> int:
        """How many pieces wait."""
        return len(self._pieces)

    def _turn(self) -> None:
        for _ in range(TURN_PIECES):
            with self._lock:
                if not self._pieces:
                    self._running = False
                    self._lock.notify_all()
                    return
                piece = self._pieces.popleft()
            try:
                self._work(piece)
            except BaseException as problem:  # noqa: BLE001 - whatever it is, it is handed to whoever waits for this lane
                with self._lock:
                    self.failure = problem
                    self._pieces.clear()
                    self._running = False
                    self._lock.notify_all()
                self._on_failure()
                return
        self._pool.submit(self._turn)

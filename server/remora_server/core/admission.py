"""Admission: how many streams may be open, in all and for one principal. Beyond that a caller is told, never queued."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from remora_server.core.errors import ShuttingDownError, TooManyStreamsError


class Admission:
    """Counts open streams of one kind; for use on the event loop only."""

    def __init__(self, most: int, most_per_principal: int) -> None:
        self._most = most
        self._most_per_principal = most_per_principal
        self._open: Counter[str] = Counter()
        self._closed = False

    @contextmanager
    def stream(self, principal_id: str) -> Iterator[None]:
        """Hold a place while a stream is open; raise TooManyStreamsError if there is none."""
        if self._closed:
            raise ShuttingDownError
        if self._open.total() >= self._most or self._open[principal_id] >= self._most_per_principal:
            raise TooManyStreamsError
        self._open[principal_id] += 1
        try:
            yield
        finally:
            self._open[principal_id] -= 1
            if not self._open[principal_id]:
                del self._open[principal_id]

    def close(self) -> None:
        """Admit nobody any more."""
        self._closed = True

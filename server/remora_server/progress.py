"""How far a long command has come: on a terminal a line that is rewritten, elsewhere a plain line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

REWRITE_SECONDS = 0.1
LINE_SECONDS = 10.0
CLEAR = "\r\x1b[K"


class Progress:
    """Shows it on a stream while the block runs; a short run shows nothing where nobody watches."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._rewrites = stream.isatty()
        self._next = time.monotonic() + (0.0 if self._rewrites else LINE_SECONDS)
        self._is_dirty = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_dirty:
            self._write(CLEAR)

    def show(self, tell: Callable[[], str]) -> None:
        """Show what `tell` says, if it is time to."""
        now = time.monotonic()
        if now < self._next:
            return
        if self._rewrites:
            self._next = now + REWRITE_SECONDS
            self._is_dirty = True
            self._write(CLEAR + tell())
        else:
            self._next = now + LINE_SECONDS
            self._write(tell() + "\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

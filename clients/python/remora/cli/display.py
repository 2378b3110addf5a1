"""Progress on standard error: a bar on a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from remora.cli.show import plain, size
from remora.progress import OnProgress, Progress

FIRST_LINE_SECONDS = 1.0
LINE_SECONDS = 2.0


class Display(Protocol):
    """Shows how far a transfer is."""

    def show(self, progress: Progress) -> None:
        """Show it, or not, if it was shown a moment ago."""
        ...

    def say(self, text: str) -> None:
        """Print a line of text."""
        ...

    def close(self) -> None:
        """Take down what moves."""
        ...


@contextmanager
def progress_shown() -> Iterator[OnProgress]:
    """Show the progress of one transfer."""
    display: Display = Bar() if sys.stderr.isatty() else Lines()
    noticed = False

    def on_progress(progress: Progress) -> None:
        nonlocal noticed
        if progress.resumed_at and not noticed and progress.phase in {"sending", "receiving"}:
            noticed = True
            share = f"{progress.resumed_at * 100 // progress.total_bytes} %" if progress.total_bytes else "the start"
            display.say(f"{plain(progress.name)}: resuming at {share}")
        display.show(progress)

    try:
        yield on_progress
    finally:
        display.close()


class Speed:
    """How fast a phase is, over the whole of it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._phase = ""
        self._began_at = 0.0
        self._began_with = 0

    def measure(self, progress: Progress) -> tuple[float, float | None]:
        """Return bytes a second, and the seconds left if that can be told."""
        now = self._clock()
        if progress.phase != self._phase:
            self._phase, self._began_at, self._began_with = progress.phase, now, progress.done_bytes
        elapsed = now - self._began_at
        rate = (progress.done_bytes - self._began_with) / elapsed if elapsed > 0 else 0.0
        if progress.total_bytes is None or rate <= 0:
            return rate, None
        return rate, (progress.total_bytes - progress.done_bytes) / rate


class Lines:
    """A line now and then, for logs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._speed = Speed(clock)
        self._next_at = clock() + FIRST_LINE_SECONDS

    def show(self, progress: Progress) -> None:
        """Print a line if it is time."""
        rate, left = self._speed.measure(progress)
        if self._clock() < self._next_at:
            return
        self._next_at = self._clock() + LINE_SECONDS
        share = size(progress.done_bytes) if progress.percent is None else f"{progress.percent} %"
        eta = "" if left is None else f", {left:.0f} s left"
        self.say(f"{plain(progress.name)}: {progress.phase} {share}, {rate / 1e6:.1f} MB/s{eta}")

    def say(self, text: str) -> None:
        """Print a line of text."""
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the lines where they are."""


class Bar:
    """A bar that moves, for people."""

    def __init__(self) -> None:
        from rich import progress as rich_progress  # noqa: PLC0415 - Only a terminal needs it.
        from rich.console import Console  # noqa: PLC0415

        self._rich = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}", markup=False),
            rich_progress.BarColumn(),
            rich_progress.TaskProgressColumn(),
            rich_progress.TransferSpeedColumn(),
            rich_progress.TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: rich_progress.TaskID | None = None
        self._phase = ""

    def show(self, progress: Progress) -> None:
        """Move the bar."""
        if progress.phase != self._phase:
            self._phase = progress.phase
            if self._task is None:
                self._rich.start()
            else:
                self._rich.remove_task(self._task)  # Each phase has a speed of its own.
            label = f"{progress.phase} {plain(progress.name)}"
            self._task = self._rich.add_task(label, total=progress.total_bytes, completed=progress.done_bytes)
        if self._task is not None:
            self._rich.update(self._task, completed=progress.done_bytes, total=progress.total_bytes)

    def say(self, text: str) -> None:
        """Print a line of text above the bar."""
        self._rich.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Take the bar down."""
        self._rich.stop()

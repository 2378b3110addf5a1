"""The process that sends, as its server sees it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from remora_server.core.errors import StorageUnavailableError
from remora_server.deliver.process import Process
from tests.running import until

# Notes its own number, each byte that it is woken by, and its end.
PROGRAM = """
import os, sys
with open(sys.argv[1], "a", buffering=1) as told:
    print("began", os.getpid(), file=told)
    while os.read(0, 1):
        print("woken", file=told)
    print("ended", file=told)
"""


class Watched:
    """A process, and what it has told."""

    def __init__(self, path: Path) -> None:
        self._told = path
        self._told.touch()
        self.wanted = True
        self.asked = 0
        self.problem: Exception | None = None
        self.process = Process([sys.executable, "-c", PROGRAM, str(path)], self._is_wanted)

    def _is_wanted(self) -> bool:
        self.asked += 1
        if self.problem is not None:
            raise self.problem
        return self.wanted

    def told(self, word: str) -> list[str]:
        """Return the lines that begin with a word."""
        return [line for line in self._told.read_text().splitlines() if line.startswith(word)]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """Run one, which is ended after the test."""
    made = Watched(tmp_path / "told")
    yield made
    made.process.stop()


def test_it_is_woken_and_ended_by_its_line(watched: Watched) -> None:
    """It ends in order when its server does, whatever becomes of that."""
    watched.process.wake()
    watched.process.start()
    until(lambda: watched.told("began"))
    watched.process.wake()
    until(lambda: watched.told("woken"))
    pid = int(watched.told("began")[0].split()[1])
    os.kill(pid, signal.SIGSTOP)
    for _ in range(100_000):
        watched.process.wake()  # More than the line holds: whoever wakes never waits.
    os.kill(pid, signal.SIGCONT)
    watched.process.stop()
    assert len(watched.told("began")) == len(watched.told("ended")) == 1
    watched.process.wake()
    watched.process.stop()


def test_one_that_is_killed_is_replaced(watched: Watched) -> None:
    """The next one starts by itself."""
    watched.process.start()
    until(lambda: watched.told("began"))
    os.kill(int(watched.told("began")[0].split()[1]), signal.SIGKILL)
    until(lambda: len(watched.told("began")) == 2)
    watched.process.wake()
    until(lambda: watched.told("woken"))


def test_it_runs_only_when_there_is_work(watched: Watched) -> None:
    """A server without endpoints has no such process."""
    watched.wanted = False
    watched.process.start()
    until(lambda: watched.asked >= 2)
    assert not watched.told("began")
    watched.wanted = True
    until(lambda: watched.told("began"))


def test_a_database_that_is_away(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    """Whether it is wanted can't be told then: it is asked again, and nobody is told what others tell."""
    watched.problem = StorageUnavailableError()
    watched.process.start()
    until(lambda: watched.asked >= 2)
    assert not caplog.records
    watched.problem = None
    until(lambda: watched.told("began"))


def test_a_program_that_does_not_start(watched: Watched, tmp_path: Path) -> None:
    """It is tried again, and the server goes on."""
    watched.process._command = [str(tmp_path / "missing")]
    watched.process.start()
    until(lambda: watched.asked >= 2)

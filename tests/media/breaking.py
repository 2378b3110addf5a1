"""Workers that do what a test says, and what can be done to processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

WAIT_SECONDS = 20.0


def worker_of(body: str) -> Sequence[str]:
    """Return the command of a worker whose children, instead of decoding, run `body` in the sandbox.

    It may use `file` and `report`, as decoders do.
    """
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    program = (
        "import ctypes, errno, os, signal, socket, subprocess, sys, time\n"
        "from remora_server.media import worker\n"
        "from remora_server.media.frames import Kind, HEAD\n"
        f"def decode(content_type, file, report, limits):\n{lines}\n"
        "worker.main(lambda role, limits: dict.fromkeys(('IMAGE', 'PDF', 'VIDEO', 'AUDIO'), decode))\n"
    )
    return (sys.executable, "-I", "-c", program)


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except FileNotFoundError:
        return []


def is_running(pid: int) -> bool:
    """Tell whether there is such a process, and it is not just waiting to be forgotten."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    until = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.01)


def descriptors() -> int:
    """Return how many files and sockets this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())

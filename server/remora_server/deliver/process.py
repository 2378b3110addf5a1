"""The process that sends: started by a server once there is an endpoint, woken by it, and gone with it.

It is another process so that posting takes nothing from the calls that the server answers, and so that it can be killed
by itself: the server starts the next one. Of the processes of several servers each takes what no other has.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

from remora_server.core.errors import RemoraError

POLL_SECONDS = 1.0
FIRST_DELAY_SECONDS, MOST_DELAY_SECONDS = 0.5, 30.0
STEADY_SECONDS = 60.0  # Whoever lived that long is replaced without delay.
STOP_SECONDS = 10.0

log = logging.getLogger(__name__)


class Process:
    """Runs `command` as long as anybody is to be sent anything; its standard input is our line to it."""

    def __init__(self, command: Sequence[str], is_wanted: Callable[[], bool]) -> None:
        self._command = command
        self._is_wanted = is_wanted
        self._stopping = threading.Event()
        self._line: int | None = None
        # Whoever writes may be another thread than the one that closes, after which the number is anybody's.
        self._line_lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="webhooks", daemon=True)

    def start(self) -> None:
        """Begin to look whether it is wanted."""
        self._thread.start()

    def wake(self) -> None:
        """Tell it that the log may have grown; quick, from any thread."""
        if self._line is None:  # Nearly always, and asked at every commit.
            return
        # A line that is full tells enough already, and one that is broken ends with its process.
        with self._line_lock, contextlib.suppress(OSError):
            if self._line is not None:
                os.write(self._line, b".")

    def stop(self) -> None:
        """End it in order."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS + POLL_SECONDS)

    def _work(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while not self._stopping.wait(POLL_SECONDS):
            try:
                if not self._wanted():
                    continue
                began = time.monotonic()
                code = self._run_once()
            except Exception:
                log.exception("no process for webhooks")
                code, began = -1, time.monotonic()
            if self._stopping.is_set():
                return
            if time.monotonic() - began > STEADY_SECONDS:
                delay = FIRST_DELAY_SECONDS
            log.error("the process that sends webhooks ended with code %d; the next starts in %.1f s", code, delay)
            self._stopping.wait(delay)
            delay = min(delay * 2, MOST_DELAY_SECONDS)

    def _wanted(self) -> bool:
        try:
            return self._is_wanted()
        except RemoraError:  # Of a database that is away others tell.
            return False

    def _run_once(self) -> int:
        theirs, ours = os.pipe()
        try:
            child = subprocess.Popen(self._command, stdin=theirs, stdout=subprocess.DEVNULL)  # noqa: S603 - our own.
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        os.set_blocking(ours, False)
        self._line = ours
        log.info("process %d sends webhooks", child.pid)
        try:
            while child.poll() is None and not self._stopping.wait(POLL_SECONDS):
                pass
        finally:
            with self._line_lock:
                self._line = None
                os.close(ours)  # Which it takes for the end.
        try:
            return child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("the process that sends webhooks did not end in time and is killed")
            child.kill()
            return child.wait()

"""The threads that do jobs."""

from __future__ import annotations

import threading
import time
from typing import cast

import pytest

from remora_server.core.media_jobs import MediaJobs
from remora_server.media import jobs as module
from remora_server.media.jobs import JobThreads


class Queue:
    """A job that only the second look after the waking finds, as one of a change that is being committed."""

    def __init__(self) -> None:
        self.looked = threading.Event()
        self.done = threading.Event()
        self.is_woken = False
        self.empty_looks = 0

    def work(self) -> bool:
        """Do the job, if it is there."""
        self.looked.set()
        if not self.is_woken or self.done.is_set():
            return False
        if self.empty_looks == 0:
            self.empty_looks += 1
            return False
        self.done.set()
        return True


def test_a_job_that_is_not_committed_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that is woken from within a change looks again soon after, not only when it would have looked anyway."""
    monkeypatch.setattr(module, "POLL_SECONDS", (600.0, 600.0))
    queue, threads = Queue(), JobThreads(1)
    threads.start(cast("MediaJobs", queue))
    try:
        assert queue.looked.wait(30)
        time.sleep(0.05)  # By now it waits for ten minutes, or to be woken.
        queue.is_woken = True
        threads.wake()
        assert queue.done.wait(30)
    finally:
        threads.stop()
        threads.stop()

"""The threads of a server that find out what content is: each takes one job after the other."""

from __future__ import annotations

import logging
import random
import threading

from remora_server.core.errors import RemoraError
from remora_server.core.media_jobs import MediaJobs

# Jobs of this server wake its threads. This is for those of others, and for those that wait.
POLL_SECONDS = (1.0, 2.0)
AWAY_SECONDS = 5.0
STOP_SECONDS = 10.0

log = logging.getLogger(__name__)


class JobThreads:
    """Does jobs, as many at once as there are threads, until it is stopped."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._woken = threading.Semaphore(0)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def wake(self) -> None:
        """Tell that there may be a job; any thread may."""
        self._woken.release()

    def start(self, jobs: MediaJobs) -> None:
        """Begin."""
        for number in range(self._count):
            thread = threading.Thread(target=self._work, args=(jobs,), name=f"media-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End; whoever decodes should have been ended before, so that nobody waits for it."""
        self._stopping.set()
        for _ in self._threads:
            self._woken.release()
        for thread in self._threads:
            thread.join(STOP_SECONDS)

    def _work(self, jobs: MediaJobs) -> None:
        while not self._stopping.is_set():
            try:
                if jobs.work():
                    continue
                wait_seconds = random.uniform(*POLL_SECONDS)  # noqa: S311 - only spreads servers.
            except RemoraError as problem:
                log.warning("media jobs wait: %s", problem)
                wait_seconds = AWAY_SECONDS
            except Exception:
                log.exception("a media job failed")
                wait_seconds = AWAY_SECONDS
            self._woken.acquire(timeout=wait_seconds)

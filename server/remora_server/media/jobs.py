"""The threads of a server that find out what content is: each takes one job after the other."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator

from remora_server.core.errors import RemoraError
from remora_server.core.media_jobs import MediaJobs
from remora_server.core.ports import ScannerUnavailableError

# For jobs of other servers, and for those that wait. Those of this server wake its threads.
POLL_SECONDS = (1.0, 2.0)
# A thread is woken from within the change that makes a job, so it looks again until that must have been committed.
LOOKS_SECONDS = (0.01, 0.05, 0.25)
AWAY_SECONDS = 5.0
STOP_SECONDS = 10.0

log = logging.getLogger(__name__)


class JobThreads:
    """Does jobs, as many at once as there are threads, until it is stopped."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._away = ""

    def wake(self) -> None:
        """Tell that there may soon be a job; any thread may."""
        self._woken.set()

    def start(self, jobs: MediaJobs) -> None:
        """Begin."""
        for number in range(self._count):
            thread = threading.Thread(target=self._work, args=(jobs,), name=f"media-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End; whoever decodes should have been ended before, so that nobody waits for it. It may be called twice."""
        self._stopping.set()
        self._woken.set()
        threads, self._threads = self._threads, []
        for thread in threads:
            thread.join(STOP_SECONDS)

    def _work(self, jobs: MediaJobs) -> None:
        looks: Iterator[float] = iter(())
        while not self._stopping.is_set():
            try:
                if jobs.work():
                    self._away = ""
                    continue
            except (RemoraError, ScannerUnavailableError) as problem:
                self._tell_away(str(problem))
                self._stopping.wait(AWAY_SECONDS)
                continue
            except Exception:
                log.exception("a media job failed")
                self._stopping.wait(AWAY_SECONDS)
                continue
            if self._woken.is_set():
                self._woken.clear()
                looks = iter(LOOKS_SECONDS)
            wait_seconds = next(looks, None) or random.uniform(*POLL_SECONDS)  # noqa: S311 - only spreads servers.
            self._woken.wait(wait_seconds)

    def _tell_away(self, why: str) -> None:
        """Say once what is missing, not for each job that waits for it."""
        if why != self._away:
            log.warning("content can't be looked at now, and waits: %s", why)
        self._away = why

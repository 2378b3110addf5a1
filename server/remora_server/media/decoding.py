"""What a server has for media: whoever decodes, whoever scans, and the threads that have them do jobs."""

from __future__ import annotations

from remora_server.core.media_jobs import MediaJobs
from remora_server.core.ports import Scanner
from remora_server.media.jobs import JobThreads
from remora_server.media.pool import Pool


class Decoding:
    """Processes and threads, as many of each as jobs may be done at once; they come with the first work."""

    def __init__(self, scanner: Scanner | None, count: int) -> None:
        self.scanner = scanner
        self.pool = Pool(renderers=count)
        self._threads = JobThreads(count)
        self._jobs: MediaJobs | None = None

    def wake(self) -> None:
        """Tell that there may be a job; any thread may."""
        self._threads.wake()

    def start(self, jobs: MediaJobs) -> None:
        """Begin to do jobs."""
        self._jobs = jobs
        self._threads.start(jobs)

    def close(self) -> None:
        """End the processes, so that no thread waits for one, and then the threads; it may be called twice."""
        if self._jobs is not None:
            self._jobs.stop()
        self.pool.close()
        self._threads.stop()

"""What an operator asks of previews: how many there are, why some failed, and that it is tried once more.

What failed is final for a server. It may go well after all where a decoder was installed since, or is a newer one; and
content of before there were previews waits for somebody to look at it. Servers may run meanwhile, and do the jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial

from remora_server.core import errors, ownership
from remora_server.core.files import Files
from remora_server.core.inspection import Inspections, overlaid
from remora_server.core.model import Blob, MediaJob, Preview, PreviewState
from remora_server.core.ports import BlobStore, Changes, Clock, MetadataStore, PreviewerMissingError
from remora_server.core.sniffing import HEAD_BYTES, sniff
from remora_server.core.values import dataclass, replace

BATCH = 100  # In one change, which others wait for.
MOST_REASONS = 20


class Retry(StrEnum):
    """What is to be tried again: what failed, what failed for want of an extra, or also what nobody ever looked at."""

    FAILED = "failed"
    MISSING = "missing"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Counted:
    """How many jobs there are, by what became of them, and why some failed: the most frequent reasons first."""

    waiting: int
    ready: int
    failed: int
    without: int  # Done, and there is nothing to show, as of sound.
    reasons: Sequence[tuple[str, int]]


@dataclass(slots=True)
class Retried:
    """What was put back into the queue so far, and what was looked at for that, of how much."""

    looked_at: int = 0
    total: int = 0
    jobs: int = 0
    unreadable: int = 0  # Blobs whose bytes are missing.


Told = Callable[[Retried], None]


class PreviewUpkeep:
    """Counts jobs, and has them done again."""

    def __init__(
        self,
        store: MetadataStore,
        blobs: BlobStore,
        changes: Changes,
        clock: Clock,
        files: Files,
        inspections: Inspections,
        *,
        batch: int = BATCH,
    ) -> None:
        self._batch = batch
        self._store = store
        self._blobs = blobs
        self._changes = changes
        self._clock = clock
        self._files = files
        self._inspections = inspections

    def count(self) -> Counted:
        """Count the jobs."""
        counts = self._store.count_media_jobs()
        reasons = sorted(self._store.failed_media_jobs().items(), key=lambda one: (-one[1], one[0]))
        return Counted(
            waiting=counts["WAITING"],
            ready=counts.get(PreviewState.READY, 0),
            failed=counts.get(PreviewState.FAILED, 0),
            without=counts.get(PreviewState.NONE, 0),
            reasons=reasons[:MOST_REASONS],
        )

    def retry(self, which: Retry, told: Told) -> Retried:
        """Put jobs back into the queue, some at a time; `told` hears often how far that is. It may be repeated."""
        done = Retried(total=sum(self._store.count_media_jobs().values()))
        last = ""
        while jobs := self._store.media_jobs_after(last, self._batch):
            wanted = [job.blob_id for job in jobs if self._is_wanted(job, which)]
            if wanted:
                done.jobs += self._changes.run(partial(self._put_back, wanted, which))
            done.looked_at += len(jobs)
            told(done)
            last = jobs[-1].blob_id
        if which is Retry.ALL:
            self._look_at_others(done, told)
        return done

    def _put_back(self, blob_ids: Sequence[str], which: Retry) -> int:
        put_back = 0
        for blob_id in blob_ids:
            job = self._store.media_job(blob_id)
            if job is None or not self._is_wanted(job, which):
                continue
            # What only has to be scanned keeps what it has to show.
            preview = Preview(job.preview.kind, PreviewState.PENDING) if _has_failed(job) else job.preview
            # Another epoch, so that what somebody who was thought dead still comes to counts for nothing.
            again = replace(job, is_done=False, preview=preview, attempts=0, epoch=job.epoch + 1)
            self._store.update_media_job(replace(again, due_time=self._clock.now()))
            for file in self._store.files_on_blob(blob_id):
                self._files.note_inspection(file, replace(file, preview=preview))
            put_back += 1
        return put_back

    def _look_at_others(self, done: Retried, told: Told) -> None:
        """Give a job to what can be shown but has none: content of before there were previews."""
        ownership.require_own(self._store, self._blobs, claiming=False)
        done.looked_at, done.total = 0, self._store.counts()["blobs"]
        last = ""
        while blobs := self._store.blobs_after(last, self._batch):
            found = [(blob, detected) for blob in blobs if (detected := self._detected(blob, done)) is not None]
            if found:
                done.jobs += self._changes.run(partial(self._begin, found))
            done.looked_at += len(blobs)
            told(done)
            last = blobs[-1].id

    def _detected(self, blob: Blob, done: Retried) -> str | None:
        """Return what a blob is; None if it has a job, no file, or no bytes. Not inside a change: it takes time."""
        if self._store.media_job(blob.id) is not None:
            return None
        files = self._store.files_on_blob(blob.id)
        if not files:
            return None
        if files[0].detected_content_type:
            return files[0].detected_content_type
        try:
            return sniff(self._head(blob))
        except errors.StoredContentCorruptError:
            done.unreadable += 1
            return None

    def _head(self, blob: Blob) -> bytes:
        if blob.is_inline:
            data = self._store.inline_bytes(blob.id)
            if data is None:
                raise errors.StoredContentCorruptError
            return data[:HEAD_BYTES]
        source = self._blobs.open(blob.location)
        try:
            return source.read(0, HEAD_BYTES)
        finally:
            source.close()

    def _begin(self, found: Sequence[tuple[Blob, str]]) -> int:
        """Note what blobs are, with every file on them; return how many got a job."""
        begun = 0
        for blob, detected in found:
            if self._store.media_job(blob.id) is not None or self._store.blob(blob.id) is None:
                continue
            known = self._inspections.of(blob, detected)
            begun += self._store.media_job(blob.id) is not None
            for file in self._store.files_on_blob(blob.id):
                media = overlaid(file.media, known.media)
                changed = replace(file, detected_content_type=detected, preview=known.preview, media=media)
                self._files.note_inspection(file, changed)
        return begun

    def _is_wanted(self, job: MediaJob, which: Retry) -> bool:
        if which is Retry.ALL and self._inspections.is_scanning and job.is_done and not job.is_scanned:
            return True
        return _has_failed(job) and (which is not Retry.MISSING or PreviewerMissingError.is_reason(job.preview.reason))


def _has_failed(job: MediaJob) -> bool:
    return job.is_done and job.preview.state is PreviewState.FAILED

"""Finding out what content is and how it looks: one job a blob, done by one server at a time.

A job is taken with a lease, so that of a server that was killed runs out. What decoding comes to is final, and so is a
second loss of whoever decoded. A store or a scanner that is away is nobody's fault: the job waits, and counts nothing.
A file is usable throughout, unless a scanner finds something: then all files on the blob are quarantined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from remora_server.core import dedup, errors, ids
from remora_server.core.files import Files
from remora_server.core.hashing import measure
from remora_server.core.inspection import overlaid
from remora_server.core.intake import Content
from remora_server.core.model import (
    Blob,
    FileState,
    MediaJob,
    Micros,
    Preview,
    PreviewState,
    Rendition,
)
from remora_server.core.ports import (
    BlobReader,
    BlobStore,
    Changes,
    Clock,
    Look,
    MetadataStore,
    Picture,
    Previewer,
    PreviewerLostError,
    PreviewRefusedError,
    Scanner,
    ScannerUnavailableError,
)
from remora_server.core.reading import BytesReader
from remora_server.core.values import dataclass, replace

SECOND: Micros = 1_000_000
LEASE: Micros = 45 * SECOND  # Longer than decoding may take, with a worker that has to start first.
# A scanner may think for minutes after it has read everything, and for longer over more.
SCAN_LEASE: Micros = 300 * SECOND
SCAN_RATE = 4  # Bytes a microsecond.
RETRY: Micros = SECOND
WAIT: Micros = 10 * SECOND  # For a store or a scanner that is away.
ATTEMPTS = 2


def _nobody(_said: str) -> None:
    """Hear of nothing."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A picture whose bytes are durable."""

    picture: Picture
    content: Content
    location: str


class _HeldReader:
    """A blob's bytes; whoever reads them for long keeps the job that they are read for."""

    def __init__(
        self, source: BlobReader, clock: Clock, keep: Callable[[], None], is_stopping: Callable[[], bool]
    ) -> None:
        self._is_stopping = is_stopping
        self._source = source
        self._clock = clock
        self._keep = keep
        self._kept = clock.now()

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""
        return self._source.size_bytes

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes, fewer only at the end; none while the server ends."""
        if self._is_stopping():
            raise errors.ShuttingDownError
        now = self._clock.now()
        if now - self._kept > LEASE // 3:
            self._keep()
            self._kept = now
        return self._source.read(offset, size)

    def close(self) -> None:
        """Let go of them."""
        self._source.close()


class MediaJobs:
    """Takes jobs and does them."""

    def __init__(
        self,
        store: MetadataStore,
        blobs: BlobStore,
        changes: Changes,
        clock: Clock,
        files: Files,
        *,
        previewer: Previewer,
        scanner: Scanner | None,
        max_inline_bytes: int,
        told: Callable[[str], None] = _nobody,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._changes = changes
        self._clock = clock
        self._files = files
        self._previewer = previewer
        self._scanner = scanner
        self._max_inline_bytes = max_inline_bytes
        self._told = told
        self._is_stopping = False

    def stop(self) -> None:
        """Say that whoever decodes is being ended, which is nobody's fault."""
        self._is_stopping = True

    def work(self) -> bool:
        """Do the job that has waited longest; False if none is due. Must not be called inside a change.

        Raise ScannerUnavailableError, or what a store raises, if nothing can be done now; the job waits.
        """
        now = self._clock.now()
        if not self._store.has_due_media_job(now):
            return False
        job = self._changes.run(self._take)
        if job is None:
            return False
        try:
            self._do(job)
        except errors.StoredContentCorruptError:
            self._end(job, Preview(job.preview.kind, PreviewState.FAILED, "the stored bytes are missing or damaged"))
        except (errors.RemoraError, ScannerUnavailableError):
            # A store that is away or full, or a scanner that is away: nothing was found out, and nobody is to blame.
            self._changes.run(lambda: self._put_off(job, 0 if self._is_stopping else WAIT))
            raise
        except PreviewRefusedError as refusal:
            preview = Preview(job.preview.kind, PreviewState.FAILED, str(refusal))
            self._end(replace(job, media=overlaid(job.media, refusal.media)), preview)
        except PreviewerLostError as loss:
            self._lose(job, str(loss))
        return True

    def _take(self) -> MediaJob | None:
        now = self._clock.now()
        job = self._store.due_media_job(now)
        if job is None:
            return None
        taken = replace(job, epoch=job.epoch + 1, attempts=job.attempts + 1, due_time=now + LEASE)
        self._store.update_media_job(taken)
        return taken

    def _do(self, job: MediaJob) -> None:
        blob = self._store.blob(job.blob_id)
        if blob is None:
            return
        source = _HeldReader(
            self._open(blob),
            self._clock,
            lambda: self._changes.run(lambda: self._prolong(job)),
            lambda: self._is_stopping,
        )
        try:
            if self._scanner is not None and not job.is_scanned:
                wait = SCAN_LEASE + source.size_bytes // SCAN_RATE
                self._changes.run(lambda: self._prolong(job, wait))
                job = replace(job, is_scanned=True)
                verdict = self._scanner.scan(source)
                if not verdict.is_clean:
                    nothing = Preview(job.preview.kind)
                    self._end(replace(job, finding=verdict.finding or "something"), nothing)
                    return
                self._changes.run(lambda: self._note(job, lambda it: replace(it, is_scanned=True)))
            if job.preview.state is not PreviewState.PENDING:
                self._end(job, job.preview)
            elif job.attempts > ATTEMPTS:  # Servers died over it.
                raise PreviewRefusedError("decoding it did not come to an end")
            else:
                self._show(job, self._previewer.render(job.content_type, source))
        finally:
            source.close()

    def _prolong(self, job: MediaJob, wait: Micros = LEASE) -> None:
        due_time = self._clock.now() + wait
        self._note(job, lambda it: replace(it, due_time=max(it.due_time, due_time)))

    def _open(self, blob: Blob) -> BlobReader:
        if not blob.is_inline:
            return self._blobs.open(blob.location)
        data = self._store.inline_bytes(blob.id)
        if data is None:
            raise errors.StoredContentCorruptError
        return BytesReader(data)

    def _show(self, job: MediaJob, look: Look) -> None:
        """Keep the pictures, durably, and then say that they are there."""
        kept = [self._keep(picture) for picture in look.pictures]
        job = replace(job, media=overlaid(job.media, look.media))
        used: set[str] = set()
        try:
            self._changes.run(lambda: used.update(self._finish_shown(job, kept)))
        finally:
            for one in kept:
                if one.location and one.location not in used:
                    self._blobs.delete(one.location)

    def _keep(self, picture: Picture) -> _Kept:
        is_inline = len(picture.data) <= self._max_inline_bytes
        location = "" if is_inline else self._blobs.put(ids.new_id(ids.BLOB), picture.data)
        return _Kept(picture, measure(picture.data), location)

    def _finish_shown(self, job: MediaJob, kept: Sequence[_Kept]) -> Sequence[str]:
        """Record the pictures and what was found out; return the locations that rows name now."""
        if self._ours(job) is None:
            return []
        used = []
        if any(one.location and self._store.is_condemned(one.location) for one in kept):
            # A sweep without grace met them before their rows, and is removing them. They are made once more.
            raise errors.StorageUnavailableError
        for one in kept:
            shown, is_new = self._store.find_or_add_blob(
                Blob(
                    id=ids.new_id(ids.BLOB),
                    workspace_id=job.workspace_id,
                    key=dedup.key(job.workspace_id, one.content.checksums, one.content.size_bytes),
                    checksums=one.content.checksums,
                    size_bytes=one.content.size_bytes,
                    location=one.location,
                    create_time=self._clock.now(),
                ),
                None if one.location else one.picture.data,
            )
            if is_new and one.location:
                used.append(one.location)
            picture = one.picture
            self._store.add_rendition(
                Rendition(job.blob_id, picture.rendition, shown.id, picture.content_type, picture.width, picture.height)
            )
        state = PreviewState.READY if kept else PreviewState.NONE
        self._finish(job, Preview(job.preview.kind, state))
        return used

    def _end(self, job: MediaJob, preview: Preview) -> None:
        self._changes.run(lambda: self._finish(job, preview))

    def _lose(self, job: MediaJob, reason: str) -> None:
        if self._is_stopping:
            self._changes.run(lambda: self._put_off(job, 0))
        elif job.attempts < ATTEMPTS:
            self._told(f"decoding {job.blob_id} is tried once more: {reason}")
            self._changes.run(lambda: self._note(job, lambda it: replace(it, due_time=self._clock.now() + RETRY)))
        else:
            self._told(
                f"decoding {job.blob_id} was given up: {reason}; `remora-server previews --retry failed` tries again"
            )
            self._end(job, Preview(job.preview.kind, PreviewState.FAILED, reason))

    def _put_off(self, job: MediaJob, wait: Micros = WAIT) -> None:
        due_time = self._clock.now() + wait
        self._note(job, lambda it: replace(it, attempts=job.attempts - 1, due_time=due_time))

    def _note(self, job: MediaJob, changed: Callable[[MediaJob], MediaJob]) -> None:
        current = self._ours(job)
        if current is not None:
            self._store.update_media_job(changed(current))

    def _finish(self, job: MediaJob, preview: Preview) -> None:
        """Note what a job has come to, with every file on its blob, and tell of it."""
        current = self._ours(job)
        if current is None:
            return
        done = replace(current, is_done=True, preview=preview, media=job.media, finding=job.finding)
        self._store.update_media_job(replace(done, is_scanned=job.is_scanned or current.is_scanned))
        files = self._store.files_on_blob(job.blob_id)
        if job.finding:
            named = ", ".join(f"files/{file.id} ({file.name!r})" for file in files)
            self._told(f"quarantined, since the scanner found {job.finding!r}: {named}")
        for file in files:
            changed = replace(file, media=overlaid(file.media, job.media), preview=preview)
            if job.finding and file.state is FileState.ACTIVE:
                changed = replace(changed, state=FileState.QUARANTINED)
            self._files.note_inspection(file, changed)

    def _ours(self, job: MediaJob) -> MediaJob | None:
        """Return a job as it is now; None if somebody else has taken it since, or its blob is gone."""
        current = self._store.media_job(job.blob_id)
        return None if current is None or current.epoch != job.epoch or current.is_done else current

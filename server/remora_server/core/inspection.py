"""What is known of content from looking at it: its facts, its preview, its verdict; and what has to be found out yet.

All that belongs to the blob, so it is found out once and holds for every file on it. Text needs nobody: its preview is
its own beginning. Whatever has to be decoded or scanned gets a job in the change that brings the blob.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from remora_server.core import sniffing
from remora_server.core.model import NO_MEDIA, Blob, Inspection, Media, MediaJob, Preview, PreviewState
from remora_server.core.ports import Clock, MetadataStore, Previewer
from remora_server.core.reading import BytesReader
from remora_server.core.values import replace

TEXT_PREVIEW = Preview("TEXT", PreviewState.READY)
SOUND = "AUDIO"


def _nobody() -> None:
    """Wake nobody."""


class Inspections:
    """Tells what is known of blobs, and has found out what is not.

    `kinds` has the types that can be decoded, with the kind of preview that each gets; `wake` is told of a new job,
    inside its change.
    """

    def __init__(
        self,
        store: MetadataStore,
        clock: Clock,
        *,
        kinds: Mapping[str, str] | None = None,
        is_scanning: bool = False,
        language_of: Callable[[str], str] = lambda _name: "",
        wake: Callable[[], None] = _nobody,
        previewer: Previewer | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._kinds = kinds or {}
        self.is_scanning = is_scanning
        self._language_of = language_of
        self._wake = wake
        self._previewer = previewer

    def is_measured(self, detected: str) -> bool:
        """Tell whether a glance shows the width and height of content, so that its file has them from the first."""
        return self._previewer is not None and self._kinds.get(detected) == "IMAGE"

    def glance(self, detected: str, beginning: bytes) -> Media:
        """Return what the beginning of content shows; takes up to a second, and shows nothing rather than fail."""
        if self._previewer is None or not self.is_measured(detected):
            return NO_MEDIA
        try:
            return self._previewer.measure(detected, BytesReader(beginning)) or NO_MEDIA
        except Exception:  # noqa: BLE001 - whatever it is, it is no reason to refuse bytes that have come.
            return NO_MEDIA

    def of(self, blob: Blob, detected: str, media: Media = NO_MEDIA, *, is_new: bool = False) -> Inspection:
        """Return what is known of a blob; what is not known yet gets a job. Call it inside a change.

        `media` is what was found out on the way.
        """
        # Also without a scanner: what another server's, or one of before, has found stays found.
        job = None if is_new else self._store.media_job(blob.id)
        kind = self._kinds.get(detected, "")
        if job is None:
            if not kind and not self.is_scanning:
                return Inspection(detected, preview=_plain(detected))
            # Also for a blob of before there were jobs.
            job = self._job(blob, detected, kind, media)
            self._store.add_media_job(job)
            self._wake()
        elif self.is_scanning and job.is_done and not job.is_scanned:
            # Whoever did it had no scanner. Decoding is not done again: its end is final.
            job = replace(job, is_done=False, attempts=0, epoch=job.epoch + 1, due_time=self._clock.now())
            self._store.update_media_job(job)
            self._wake()
        return known_by(job)

    def language_of(self, name: str, detected: str) -> str:
        """Return the language of source code that is found under a name; empty for what is not text."""
        return self._language_of(name) if sniffing.is_text(detected) else ""

    def again(self, blob_id: str) -> Inspection | None:
        """Return what a job has found out about a blob, if it has one."""
        job = self._store.media_job(blob_id)
        return None if job is None else known_by(job)

    def _job(self, blob: Blob, detected: str, kind: str, media: Media) -> MediaJob:
        now = self._clock.now()
        preview = Preview("" if kind == SOUND else kind, PreviewState.PENDING) if kind else _plain(detected)
        return MediaJob(
            blob_id=blob.id,
            workspace_id=blob.workspace_id,
            content_type=detected,
            is_done=False,
            is_scanned=False,
            finding="",
            preview=preview,
            media=media,
            attempts=0,
            epoch=0,
            due_time=now,
            create_time=now,
        )


def known_by(job: MediaJob) -> Inspection:
    """Return what a job has found out so far."""
    return Inspection(job.content_type, job.media, job.preview, is_quarantined=bool(job.finding))


def overlaid(said: Media, found: Media) -> Media:
    """Return what a caller says of a file's contents, with whatever was found out in its place."""
    if found == NO_MEDIA:
        return said
    return replace(
        said,
        width=found.width or said.width,
        height=found.height or said.height,
        blur_hash=found.blur_hash or said.blur_hash,
        duration_ms=found.duration_ms or said.duration_ms,
        page_count=found.page_count or said.page_count,
    )


def _plain(detected: str) -> Preview:
    """Return the preview of what nobody decodes: a text shows itself, but a picture in words says little."""
    return TEXT_PREVIEW if sniffing.is_text(detected) and detected != sniffing.SVG else Preview()

"""What is found out about blobs: jobs, and what shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import peewee

from remora_server.core.model import MediaJob, Micros, PreviewState, Rendition
from remora_server.stores.database import Row
from remora_server.stores.kept import Query, Slot, kept, kept_insert, kept_update
from remora_server.stores.metadata.files import decode_media, decode_preview, encode_media, encode_preview
from remora_server.stores.metadata.rows import Rows
from remora_server.stores.tables import MediaJobs, Renditions

MUTABLE = (
    MediaJobs.content_type,
    MediaJobs.is_done,
    MediaJobs.is_scanned,
    MediaJobs.finding,
    MediaJobs.preview,
    MediaJobs.media,
    MediaJobs.attempts,
    MediaJobs.epoch,
    MediaJobs.due_time,
)
JOB = (MediaJobs.blob_id, MediaJobs.workspace_id, MediaJobs.create_time, *MUTABLE)
ADD_JOB = kept_insert(MediaJobs, JOB)
UPDATE_JOB = kept_update(MediaJobs, MUTABLE, MediaJobs.blob_id)
RENDITION = (
    Renditions.blob_id,
    Renditions.name,
    Renditions.shown_blob_id,
    Renditions.content_type,
    Renditions.width,
    Renditions.height,
)


@kept
def _job_of(blob_id: Slot) -> Query:
    return MediaJobs.select(*JOB).where(MediaJobs.blob_id == blob_id)


@kept
def _due(now: Slot) -> Query:
    return (
        MediaJobs.select(*JOB)
        .where(~MediaJobs.is_done, MediaJobs.due_time <= now)
        .order_by(MediaJobs.due_time, MediaJobs.blob_id)
        .limit(1)
    )


@kept
def _waiting() -> Query:
    return MediaJobs.select(peewee.fn.COUNT(peewee.SQL("*"))).where(~MediaJobs.is_done)


@kept
def _rendition(blob_id: Slot, name: Slot) -> Query:
    return Renditions.select(*RENDITION).where(Renditions.blob_id == blob_id, Renditions.name == name)


class MediaRows(Rows):
    """Jobs and renditions."""

    def add_media_job(self, new: MediaJob) -> None:
        """Note that a blob has to be looked at; its row must be there already."""
        self._db.write(ADD_JOB, new.blob_id, new.workspace_id, new.create_time, *_mutable(new))

    def media_job(self, blob_id: str) -> MediaJob | None:
        """Find the job of a blob, done or not."""
        return _job_from(self._db.row(_job_of, blob_id))

    def has_due_media_job(self, now: Micros) -> bool:
        """Tell whether a job can be taken."""
        return self._db.row(_due, now) is not None

    def due_media_job(self, now: Micros) -> MediaJob | None:
        """Return the job that has been due for longest."""
        return _job_from(self._db.row(_due, now))

    def update_media_job(self, changed: MediaJob) -> None:
        """Write all mutable fields of a job."""
        self._db.write(UPDATE_JOB, *_mutable(changed), changed.blob_id)

    def count_media_jobs(self) -> dict[str, int]:
        """Count jobs by the state of their previews; `WAITING` counts those that are not done."""
        count = peewee.fn.COUNT(MediaJobs.blob_id)
        counts = {"WAITING": 0}
        for is_done, preview, found in self._db.select(
            MediaJobs.select(MediaJobs.is_done, MediaJobs.preview, count).group_by(MediaJobs.is_done, MediaJobs.preview)
        ):
            name = decode_preview(preview).state.value if is_done else "WAITING"
            counts[name] = counts.get(name, 0) + int(found)
        return counts

    def count_waiting_media_jobs(self) -> int:
        """Count the jobs that are not done, by an index of just these."""
        row = self._db.row(_waiting)
        return 0 if row is None else int(row[0])

    def failed_media_jobs(self) -> Mapping[str, int]:
        """Count the jobs whose previews failed by reason."""
        counts: dict[str, int] = {}
        query = MediaJobs.select(MediaJobs.preview, peewee.fn.COUNT(MediaJobs.blob_id)).where(MediaJobs.is_done)
        for text, found in self._db.select(query.group_by(MediaJobs.preview)):
            preview = decode_preview(text)
            if preview.state is PreviewState.FAILED:
                counts[preview.reason] = counts.get(preview.reason, 0) + int(found)
        return counts

    def media_jobs_after(self, blob_id: str, limit: int) -> Sequence[MediaJob]:
        """Return jobs by blob id upwards, for a walk over all of them."""
        query = MediaJobs.select(*JOB).where(MediaJobs.blob_id > blob_id).order_by(MediaJobs.blob_id).limit(limit)
        return [_job_of_row(row) for row in self._db.select(query)]

    def add_rendition(self, new: Rendition) -> None:
        """Note what shows a blob; one of that name is replaced. Both blobs must have rows already."""
        row = dict(
            zip(
                RENDITION,
                (new.blob_id, new.name, new.shown_blob_id, new.content_type, new.width, new.height),
                strict=True,
            )
        )
        added = Renditions.insert(row)
        self._db.execute(
            added.on_conflict(
                conflict_target=[Renditions.blob_id, Renditions.name],
                preserve=(Renditions.shown_blob_id, Renditions.content_type, Renditions.width, Renditions.height),
            )
        )

    def rendition(self, blob_id: str, name: str) -> Rendition | None:
        """Find what shows a blob."""
        row = self._db.row(_rendition, blob_id, name)
        return None if row is None else Rendition(*row)

    def renditions_by(self, shown_blob_id: str) -> Sequence[Rendition]:
        """Return what a blob shows."""
        query = Renditions.select(*RENDITION).where(Renditions.shown_blob_id == shown_blob_id)
        return [Rendition(*row) for row in self._db.select(query.order_by(Renditions.blob_id, Renditions.name))]


def _mutable(job: MediaJob) -> tuple[object, ...]:
    return (
        job.content_type,
        job.is_done,
        job.is_scanned,
        job.finding,
        encode_preview(job.preview),
        encode_media(job.media),
        job.attempts,
        job.epoch,
        job.due_time,
    )


def _job_from(row: Row | None) -> MediaJob | None:
    return None if row is None else _job_of_row(row)


def _job_of_row(row: Row) -> MediaJob:
    (
        blob_id,
        workspace_id,
        create_time,
        content_type,
        is_done,
        is_scanned,
        finding,
        preview,
        media,
        attempts,
        epoch,
        due_time,
    ) = row
    return MediaJob(
        blob_id=blob_id,
        workspace_id=workspace_id,
        content_type=content_type,
        is_done=bool(is_done),
        is_scanned=bool(is_scanned),
        finding=finding,
        preview=decode_preview(preview),
        media=decode_media(media),
        attempts=attempts,
        epoch=epoch,
        due_time=due_time,
        create_time=create_time,
    )

"""What every metadata store does with jobs that look at content, and with what shows it."""

from __future__ import annotations

from dataclasses import replace

from remora_server.core.model import Blob, Media, MediaJob, Preview, PreviewState, Rendition
from remora_server.core.ports import MetadataStore
from tests.stores.samples import DAY, NOW, Tenant


def job_of(blob: Blob, **fields: object) -> MediaJob:
    """Make a job that is due."""
    made = MediaJob(
        blob_id=blob.id,
        workspace_id=blob.workspace_id,
        content_type="image/png",
        is_done=False,
        is_scanned=False,
        finding="",
        preview=Preview("IMAGE", PreviewState.PENDING),
        media=Media(),
        attempts=0,
        epoch=0,
        due_time=NOW,
        create_time=NOW,
    )
    changed: MediaJob = replace(made, **fields)  # type: ignore[arg-type]
    return changed


def stored(store: MetadataStore, acme: Tenant, content: bytes) -> Blob:
    """Put a blob into the store."""
    return store.find_or_add_blob(acme.blob(content), None)[0]


class MediaContract:
    """Jobs and renditions."""

    def test_a_job_comes_back(self, store: MetadataStore, acme: Tenant) -> None:
        """A job is found with every field as it was given, and as it was changed."""
        blob = stored(store, acme, b"1")
        assert store.media_job(blob.id) is None
        job = job_of(blob)
        store.add_media_job(job)
        assert store.media_job(blob.id) == job
        changed = replace(
            job,
            content_type="image/jpeg",
            is_done=True,
            is_scanned=True,
            finding="Evil",
            preview=Preview("IMAGE", PreviewState.FAILED, 'a "reason"'),
            media=Media(1, 2, "LEHV6", 3, 4, "go", "ü"),
            attempts=2,
            epoch=3,
            due_time=NOW + 1,
        )
        store.update_media_job(changed)
        assert store.media_job(blob.id) == changed

    def test_which_job_is_due(self, store: MetadataStore, acme: Tenant) -> None:
        """The one that has been due for longest, unless it is done."""
        assert not store.has_due_media_job(NOW + DAY)
        late, early, done = (stored(store, acme, content) for content in (b"late", b"early", b"done"))
        store.add_media_job(job_of(late, due_time=NOW + 2))
        store.add_media_job(job_of(early, due_time=NOW + 1))
        store.add_media_job(job_of(done, is_done=True))
        assert not store.has_due_media_job(NOW)
        assert store.due_media_job(NOW) is None
        assert store.has_due_media_job(NOW + 1)
        for time, first in ((NOW + 1, early), (NOW + DAY, early)):
            found = store.due_media_job(time)
            assert found is not None
            assert found.blob_id == first.id

    def test_counts_of_jobs(self, store: MetadataStore, acme: Tenant) -> None:
        """Those that are not done wait; the others count by what became of them."""
        assert store.count_media_jobs() == {"WAITING": 0}
        for number, (is_done, state) in enumerate(
            [(False, PreviewState.PENDING), (False, PreviewState.NONE), (True, PreviewState.READY)]
            + [(True, PreviewState.FAILED)] * 2
        ):
            preview = Preview("IMAGE", state, str(number))
            store.add_media_job(job_of(stored(store, acme, bytes([number])), is_done=is_done, preview=preview))
        assert store.count_media_jobs() == {"WAITING": 2, "READY": 1, "FAILED": 2}

    def test_why_previews_failed(self, store: MetadataStore, acme: Tenant) -> None:
        """Those that failed for good are counted by reason, whatever they would have shown."""
        assert store.failed_media_jobs() == {}
        failed = [Preview(kind, PreviewState.FAILED, why) for kind, why in (("IMAGE", "a"), ("PDF", "a"), ("PDF", "b"))]
        for number, preview in enumerate([*failed, Preview("PDF", PreviewState.READY)]):
            store.add_media_job(job_of(stored(store, acme, bytes([number])), is_done=True, preview=preview))
        store.add_media_job(job_of(stored(store, acme, b"waits"), preview=failed[0]))
        assert store.failed_media_jobs() == {"a": 2, "b": 1}
        assert store.count_waiting_media_jobs() == 1

    def test_a_walk_over_jobs(self, store: MetadataStore, acme: Tenant) -> None:
        """All are met, by blob id, done or not."""
        jobs = [job_of(stored(store, acme, bytes([number])), is_done=number > 0) for number in range(3)]
        for job in jobs:
            store.add_media_job(job)
        jobs.sort(key=lambda job: job.blob_id)
        assert store.media_jobs_after("", 2) == jobs[:2]
        assert store.media_jobs_after(jobs[1].blob_id, 2) == jobs[2:]
        assert store.media_jobs_after(jobs[2].blob_id, 2) == []

    def test_renditions_come_back(self, store: MetadataStore, acme: Tenant) -> None:
        """What shows a blob is found by its name, and replaced by another of that name."""
        blob, small, large = (stored(store, acme, content) for content in (b"1", b"2", b"3"))
        assert store.rendition(blob.id, "PREVIEW") is None
        first = Rendition(blob.id, "PREVIEW", small.id, "image/png", 1, 2)
        second = Rendition(blob.id, "PREVIEW", large.id, "image/jpeg", 3, 4)
        thumbnail = Rendition(blob.id, "THUMBNAIL", small.id, "image/png", 1, 2)
        for one in (first, thumbnail):
            store.add_rendition(one)
            assert store.rendition(blob.id, one.name) == one
        store.add_rendition(second)
        assert store.rendition(blob.id, "PREVIEW") == second
        assert store.rendition(blob.id, "THUMBNAIL") == thumbnail
        assert store.rendition(small.id, "PREVIEW") is None
        assert (store.renditions_by(small.id), store.renditions_by(large.id)) == ([thumbnail], [second])

    def test_what_shows_a_blob_goes_with_it(self, store: MetadataStore, acme: Tenant) -> None:
        """A rendition is used as long as what it shows; job and renditions go with the blob's row."""
        file = acme.stored_file(store, b"1")
        blob = store.blob(file.blob_id)
        assert blob is not None
        shown, itself = stored(store, acme, b"2"), stored(store, acme, b"3")
        store.add_media_job(job_of(blob))
        store.add_rendition(Rendition(blob.id, "PREVIEW", shown.id, "image/png", 1, 1))
        store.add_rendition(Rendition(itself.id, "PREVIEW", itself.id, "image/png", 1, 1))
        assert [one.id for one in store.unreferenced_blobs(NOW + DAY, 9)] == [itself.id]
        assert not store.delete_blob_if_unreferenced(shown.id)
        assert store.count_sweepable(NOW + DAY, NOW, NOW).blobs == 1
        store.update_file(replace(file, delete_time=NOW))
        assert store.count_sweepable(NOW + DAY, NOW, NOW).blobs == 3
        assert store.purge_files(NOW + DAY, 9) == 1
        assert {one.id for one in store.unreferenced_blobs(NOW + DAY, 9)} == {blob.id, itself.id}
        assert store.delete_blob_if_unreferenced(blob.id)
        assert store.media_job(blob.id) is None
        assert store.rendition(blob.id, "PREVIEW") is None
        assert {one.id for one in store.unreferenced_blobs(NOW + DAY, 9)} == {shown.id, itself.id}
        assert store.delete_blob_if_unreferenced(itself.id)

"""What an operator asks of previews: counts, reasons, and another try."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from remora_server.core.model import NO_PREVIEW, File, FileState, Form, MediaJob, Preview, PreviewState
from remora_server.core.ownership import ForeignBlobsError
from remora_server.core.ports import PreviewerMissingError, PreviewRefusedError
from remora_server.core.preview_upkeep import MOST_REASONS, PreviewUpkeep, Retried, Retry
from remora_server.core.values import replace
from remora_server.stores.writer import Writer
from tests.core.previewing import PNG, Judge
from tests.core.stored import take
from tests.core.test_media_jobs import now, picture, raising
from tests.core.world import World

PENDING = Preview("IMAGE", PreviewState.PENDING)
TEXT = Preview("TEXT", PreviewState.READY)


@pytest.fixture
def upkeep(world: World) -> PreviewUpkeep:
    """Make what the command runs, two blobs at a time."""
    return PreviewUpkeep(
        *(world.store, world.blobs, world.changes, world.clock, world.files, world.inspections), batch=2
    )


def deaf(_done: Retried) -> None:
    """Hear nothing."""


def fail(world: World, problem: Exception, *files: File) -> None:
    """Do as many jobs as there are files, which all come to nothing."""
    world.decoder.renders = raising(problem)
    for _ in files:
        assert world.jobs.work()


def job_of(world: World, file: File) -> MediaJob:
    """Return the job of a file."""
    job = world.store.media_job(file.blob_id)
    assert job is not None
    return job


def forget(world: World, *files: File) -> None:
    """Make files as they were before there were previews."""
    world.database.command("DELETE FROM media_jobs")
    for file in files:
        world.do(world.store.update_file, replace(file, detected_content_type="", preview=NO_PREVIEW))


def test_counts(world: World, upkeep: PreviewUpkeep) -> None:
    """By what became of jobs; of reasons the most frequent come first, and not too many."""
    ready = picture(world)
    world.jobs.work()
    assert now(world, ready).preview.state is PreviewState.READY
    world.upload(world.jo, b"a text")
    fail(world, PreviewRefusedError("it is odd"), picture(world, "b.png", PNG + b"b"))
    fail(world, PreviewRefusedError("it is bad"), *(picture(world, "c.png", PNG + bytes([n])) for n in range(2)))
    picture(world, "d.png", PNG + b"waits")
    counted = upkeep.count()
    assert (counted.waiting, counted.ready, counted.failed, counted.without) == (1, 1, 3, 0)
    assert counted.reasons == [("it is bad", 2), ("it is odd", 1)]
    for number in range(MOST_REASONS):
        fail(world, PreviewRefusedError(f"no. {number}"), picture(world, "e.png", PNG + b"e%d" % number))
    assert len(upkeep.count().reasons) == MOST_REASONS


def test_what_failed_is_tried_again(world: World, upkeep: PreviewUpkeep) -> None:
    """Its files are pending, its attempts are forgotten, and then it may go well; what went well stays as it is."""
    ready = picture(world, "ready.png", PNG + b"ready")
    renders = world.decoder.renders
    world.jobs.work()
    failed = [picture(world, "a.png", PNG + bytes([number])) for number in range(3)]
    fail(world, PreviewRefusedError("it is bad"), *failed)
    before = [job_of(world, file) for file in failed]
    told: list[tuple[int, int, int]] = []
    done = upkeep.retry(Retry.FAILED, lambda done: told.append((done.looked_at, done.total, done.jobs)))
    assert (done.jobs, told[-1]) == (3, (4, 4, 3))
    assert len(told) == 2
    for file, old in zip(failed, before, strict=True):
        job = job_of(world, file)
        assert (job.attempts, job.epoch, job.is_done, job.preview) == (0, old.epoch + 1, False, PENDING)
        assert now(world, file).preview == PENDING
    assert world.types()[-1] == "file.inspected"
    assert now(world, ready).preview.state is PreviewState.READY
    world.decoder.renders = renders
    while world.jobs.work():
        pass
    assert upkeep.count().ready == 4
    assert world.renditions.of(now(world, failed[0]), Form.THUMBNAIL).file.size_bytes > 0
    assert upkeep.retry(Retry.FAILED, deaf).jobs == 0


def test_a_late_end_counts_for_nothing(world: World, upkeep: PreviewUpkeep) -> None:
    """Who still works at a job that others gave up does not end it after it was put back."""
    file = picture(world)
    taken = world.do(world.jobs._take)
    assert taken is not None
    world.do(world.jobs._finish, taken, Preview("IMAGE", PreviewState.FAILED, "it is bad"))
    assert upkeep.retry(Retry.FAILED, deaf).jobs == 1
    world.do(world.jobs._finish, taken, Preview("IMAGE", PreviewState.FAILED, "it is late"))
    assert now(world, file).preview == PENDING


def test_only_what_an_extra_was_missing_for(world: World, upkeep: PreviewUpkeep) -> None:
    """What is broken stays broken, whatever is installed."""
    broken, heic = picture(world), picture(world, "b.heic", PNG + b"b")
    fail(world, PreviewRefusedError("it is bad"), broken)
    fail(world, PreviewerMissingError("image/heic"), heic)
    assert upkeep.retry(Retry.MISSING, deaf).jobs == 1
    assert (now(world, broken).preview.state, now(world, heic).preview) == (PreviewState.FAILED, PENDING)


def test_a_job_that_waits_is_left_alone(world: World, upkeep: PreviewUpkeep) -> None:
    """It comes anyway."""
    file = picture(world)
    before = job_of(world, file)
    assert upkeep.retry(Retry.ALL, deaf).jobs == 0
    assert job_of(world, file) == before


def test_content_of_before_there_were_previews(world: World, upkeep: PreviewUpkeep) -> None:
    """It is looked at only if all is asked for: what it is comes to its files, and what can be shown gets a job."""
    inline, text, unknown = picture(world), world.upload(world.jo, b"hello"), world.upload(world.jo, b"\0\1", "a.bin")
    large = take(world, PNG + b"large" * 1000).file
    forget(world, inline, text, unknown, large)
    assert upkeep.retry(Retry.FAILED, deaf).jobs == 0
    told: list[tuple[int, int]] = []
    done = upkeep.retry(Retry.ALL, lambda done: told.append((done.looked_at, done.total)))
    assert (done.jobs, done.unreadable, told) == (2, 0, [(2, 4), (4, 4)])
    for file in (inline, large):
        assert (now(world, file).preview, now(world, file).detected_content_type) == (PENDING, "image/png")
    assert (now(world, text).preview, now(world, text).detected_content_type) == (TEXT, "text/plain")
    assert now(world, unknown).preview == NO_PREVIEW
    while world.jobs.work():
        pass
    assert now(world, large).preview.state is PreviewState.READY
    # Blobs of renditions are nobody's files, and get no previews of their own.
    assert upkeep.retry(Retry.ALL, deaf).jobs == 0


def test_old_content_is_scanned_before_it_is_shown(make_world: Callable[..., World]) -> None:
    """A server that has a scanner by now decodes nothing without its verdict, however old."""
    world = make_world(scanner=Judge())
    file = picture(world, "a.png", PNG + b"EVIL")
    forget(world, file)
    upkeep = PreviewUpkeep(world.store, world.blobs, world.changes, world.clock, world.files, world.inspections)
    assert upkeep.retry(Retry.ALL, deaf).jobs == 1
    assert world.jobs.work()
    assert world.decoder.seen == []
    assert now(world, file).state is FileState.QUARANTINED
    assert upkeep.retry(Retry.ALL, deaf).jobs == 0


def test_what_no_scanner_has_seen(make_world: Callable[..., World]) -> None:
    """Everything that was stored before there was a scanner is scanned; what was decoded is not decoded again."""
    world = make_world(scanner=Judge())
    files = [world.upload(world.jo, data, "a") for data in (b"EVIL", b"\0EVIL", PNG)]
    while world.jobs.work():
        pass
    world.database.command("UPDATE media_jobs SET finding = '', is_scanned = 0")
    world.database.command("UPDATE files SET state = 'ACTIVE'")
    world.database.inner.execute_sql("DELETE FROM media_jobs WHERE blob_id = ?", (files[1].blob_id,))
    decoded = len(world.decoder.seen)
    upkeep = PreviewUpkeep(world.store, world.blobs, world.changes, world.clock, world.files, world.inspections)
    assert upkeep.retry(Retry.FAILED, deaf).jobs == 0
    assert upkeep.retry(Retry.ALL, deaf).jobs >= 3
    while world.jobs.work():
        pass
    states = [now(world, file).state for file in files]
    assert states == [FileState.QUARANTINED, FileState.QUARANTINED, FileState.ACTIVE]
    assert now(world, files[2]).preview.state is PreviewState.READY
    assert len(world.decoder.seen) == decoded
    assert upkeep.retry(Retry.ALL, deaf).jobs == 0


def test_what_is_known_already_is_not_read(world: World, upkeep: PreviewUpkeep) -> None:
    """A type that was found before is enough; bytes that are gone stop nothing."""
    known, gone = (take(world, PNG + name * 1000).file for name in (b"known", b"gone!"))
    forget(world, known, gone)
    world.do(world.store.update_file, replace(known, preview=NO_PREVIEW))
    for file in (known, gone):
        blob = world.store.blob(file.blob_id)
        assert blob is not None
        world.blobs.delete(blob.location)
    inline = world.upload(world.jo, b"hello")
    forget(world, inline)
    world.database.command("DELETE FROM blob_bytes")
    done = upkeep.retry(Retry.ALL, deaf)
    assert (done.jobs, done.unreadable) == (1, 2)
    assert (now(world, known).preview, now(world, gone).preview) == (PENDING, NO_PREVIEW)


def test_blobs_of_another_database_are_not_read(world: World, upkeep: PreviewUpkeep) -> None:
    """They would be told as missing."""
    world.blobs._owner = "another"
    with pytest.raises(ForeignBlobsError):
        upkeep.retry(Retry.ALL, deaf)


class Slow(Writer):
    """Writes, but something else comes first."""

    def __init__(self, world: World, first: Callable[[], object]) -> None:
        super().__init__(world.database)
        self._first = first

    def run(self, call: Callable[[], Any]) -> Any:
        """Run a call late."""
        self._first()
        return super().run(call)


@pytest.mark.parametrize("which", [Retry.FAILED, Retry.ALL])
def test_two_at_once(world: World, upkeep: PreviewUpkeep, which: Retry) -> None:
    """What another command, or an upload of the same content, has put into the queue meanwhile is left alone."""
    file = picture(world)
    if which is Retry.FAILED:
        fail(world, PreviewRefusedError("it is bad"), file)
    else:
        forget(world, file)
    slow = Slow(world, lambda: upkeep.retry(which, deaf))
    late = PreviewUpkeep(world.store, world.blobs, slow, world.clock, world.files, world.inspections)
    try:
        assert late.retry(which, deaf).jobs == 0
    finally:
        slow.close()
    assert now(world, file).preview == PENDING
    assert world.types().count("file.inspected") == (1 if which is Retry.FAILED else 0)

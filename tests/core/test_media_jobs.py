"""Finding out what content is and how it looks: what comes of each end of a job."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from remora_server.core import errors
from remora_server.core.hashing import measure
from remora_server.core.media_jobs import ATTEMPTS, LEASE, WAIT
from remora_server.core.model import File, FileSpec, FileState, Form, Media, Preview, PreviewState
from remora_server.core.ports import (
    BlobReader,
    Look,
    PreviewerLostError,
    PreviewRefusedError,
    ScannerUnavailableError,
    Verdict,
)
from remora_server.core.tickets import Request
from tests.core.previewing import PNG, PREVIEW, THUMBNAIL, Judge
from tests.core.world import HOUR, SECOND, World, issue

READY = Preview("IMAGE", PreviewState.READY)
PENDING = Preview("IMAGE", PreviewState.PENDING)


def raising(problem: Exception) -> Callable[..., Look]:
    """Decode as whoever can't."""

    def render(_source: object) -> Look:
        raise problem

    return render


def picture(world: World, name: str = "a.png", data: bytes = PNG) -> File:
    """Upload a picture of Jo's."""
    return world.upload(world.jo, data, name)


def now(world: World, file: File) -> File:
    """Return a file as it is now."""
    return world.files.get(world.boss, file.id)


def types(world: World) -> list[str]:
    """Return what the log tells, oldest first."""
    return [one.type for one in world.told()]


def test_a_picture_is_decoded(world: World) -> None:
    """Facts and renditions come to every file on the content, and an activity of the service says so."""
    file = picture(world)
    other = world.upload(world.kim, PNG, "b.png")
    assert world.jobs.work()
    assert world.decoder.seen == [("image/png", PNG)]
    for one in (now(world, file), now(world, other)):
        assert (one.preview, one.media) == (READY, Media(4800, 3200, "LEHV6nWB2yk8"))
    assert (now(world, file).version, now(world, file).update_time) == (file.version, file.update_time)
    told = [one for one in world.told() if one.type == "file.previewed.v1"]
    assert [one.resource_id for one in told] == [file.id, other.id]
    assert told[0].actor.kind == "SYSTEM"
    assert told[0].changed_fields == ("media", "preview")
    assert {one.type for one in world.told(world.stranger)} == set()
    assert not world.jobs.work()


def test_where_renditions_lie(world: World) -> None:
    """A small one lies in the database, a large one in the blob store, each as a blob that nobody pays for."""
    used = world.store.used_bytes(world.jo.workspace_id)
    file = picture(world)
    world.jobs.work()
    assert world.store.used_bytes(world.jo.workspace_id) == used + file.size_bytes
    for made, is_inline in ((THUMBNAIL, True), (PREVIEW, False)):
        found = world.store.rendition(file.blob_id, made.rendition)
        assert found is not None
        assert (found.content_type, found.width, found.height) == (made.content_type, made.width, made.height)
        blob = world.store.blob(found.shown_blob_id)
        assert blob is not None
        assert (blob.is_inline, blob.size_bytes) == (is_inline, len(made.data))


def test_renditions_go_with_the_content(world: World) -> None:
    """Purging the last file of some content removes its renditions too, and a dry run has said so before."""
    file = picture(world)
    world.jobs.work()
    world.do(world.deletion.delete_file, world.jo, file.id)
    world.clock.pass_by(HOUR)
    assert world.sweep.sweep(0, dry_run=True).deleted_blobs == 3
    assert world.sweep.sweep(0).deleted_blobs == 3
    assert list(world.blobs.list_blobs()) == []
    counts = world.store.counts()
    assert (counts["blobs"], counts["renditions"]) == (0, 0)
    assert world.store.media_job(file.blob_id) is None
    assert world.check.run().clean


def test_renditions_stay_with_the_content(world: World) -> None:
    """What shows content that is used is used, whatever its age."""
    file = picture(world)
    world.jobs.work()
    world.clock.pass_by(HOUR)
    assert world.sweep.sweep(0, dry_run=True).deleted_blobs == 0
    assert world.sweep.sweep(0).deleted_blobs == 0
    assert world.renditions.of(now(world, file), Form.PREVIEW).file.size_bytes == len(PREVIEW.data)


def test_a_rendition_that_is_uploaded_too(world: World) -> None:
    """Content that shows other content and is a file itself is kept by both, once."""
    file = picture(world)
    world.jobs.work()
    again = world.upload(world.kim, PREVIEW.data, "p.png")
    found = world.store.rendition(file.blob_id, "PREVIEW")
    assert found is not None
    assert again.blob_id == found.shown_blob_id
    world.do(world.deletion.delete_file, world.kim, again.id)
    world.clock.pass_by(HOUR)
    world.sweep.sweep(0)
    assert world.renditions.of(now(world, file), Form.PREVIEW).file.blob_id == again.blob_id


def test_a_rendition_of_itself(world: World) -> None:
    """A picture whose rendition is the same bytes does not keep itself alive."""
    world.decoder.renders = lambda _: Look(Media(48, 32), (PREVIEW,))
    file = picture(world, data=PREVIEW.data)
    world.jobs.work()
    assert now(world, file).preview == READY
    world.do(world.deletion.delete_file, world.jo, file.id)
    world.clock.pass_by(HOUR)
    assert world.sweep.sweep(0, dry_run=True).deleted_blobs == 1
    assert world.sweep.sweep(0).deleted_blobs == 1


def test_what_can_not_be_shown(world: World) -> None:
    """A refusal is final, says why, keeps what could be found out, and leaves the file as it is."""
    world.decoder.renders = raising(PreviewRefusedError("it has 900 million pixels", Media(30_000, 30_000)))
    file = picture(world)
    assert world.jobs.work()
    found = now(world, file)
    assert found.preview == Preview("IMAGE", PreviewState.FAILED, "it has 900 million pixels")
    assert (found.media, found.state) == (Media(30_000, 30_000), FileState.ACTIVE)
    assert types(world)[-1] == "file.inspected.v1"
    assert world.files.read_whole(found) == PNG
    world.clock.pass_by(HOUR)
    assert not world.jobs.work()
    assert world.store.count_media_jobs() == {"WAITING": 0, "FAILED": 1}


def test_sound(world: World) -> None:
    """Sound has a duration, and nothing to look at."""
    world.decoder.renders = lambda _: Look(Media(duration_ms=1500))
    file = world.upload(world.jo, b"fLaC", "a.flac")
    assert file.preview == Preview("", PreviewState.PENDING)
    world.jobs.work()
    assert now(world, file).preview == Preview()
    assert now(world, file).media == Media(duration_ms=1500)


def test_a_loss_is_tried_again_once(world: World) -> None:
    """Whoever decodes may die of something else; who dies again dies of the content."""
    world.decoder.renders = raising(PreviewerLostError("the decoder crashed"))
    file = picture(world)
    for _ in range(ATTEMPTS):
        assert now(world, file).preview == PENDING
        assert world.jobs.work()
        assert not world.jobs.work()
        world.clock.pass_by(HOUR)
    assert now(world, file).preview == Preview("IMAGE", PreviewState.FAILED, "the decoder crashed")
    assert [("tried once more" in one, "given up" in one) for one in world.complaints] == [(True, False), (False, True)]
    assert not world.jobs.work()


def test_a_loss_that_was_none_of_its_own(world: World) -> None:
    """After one loss the second attempt counts."""
    world.decoder.renders = raising(PreviewerLostError("killed"))
    file = picture(world)
    world.jobs.work()
    world.decoder.renders = lambda _: Look(Media(1, 1), (THUMBNAIL,))
    world.clock.pass_by(2 * SECOND)
    assert world.jobs.work()
    assert now(world, file).preview == READY


def test_a_server_that_stops(world: World) -> None:
    """A job that is broken off because the server ends counts no attempt, and another server may go on at once."""

    def end(_source: BlobReader) -> Look:
        world.jobs.stop()
        raise PreviewerLostError("ended")

    world.decoder.renders = end
    file = picture(world)
    assert world.jobs.work()
    job = world.store.media_job(file.blob_id)
    assert job is not None
    assert (job.attempts, world.store.has_due_media_job(world.clock.now())) == (0, True)
    assert now(world, file).preview == PENDING


def test_a_server_that_stops_while_it_reads(world: World) -> None:
    """Whoever reads content for long is ended at the next piece; the job waits for another server."""

    def long(source: BlobReader) -> Look:
        world.jobs.stop()
        source.read(0, 1)
        raise AssertionError

    world.decoder.renders = long
    file = picture(world)
    with pytest.raises(errors.ShuttingDownError):
        world.jobs.work()
    assert world.store.has_due_media_job(world.clock.now())
    job = world.store.media_job(file.blob_id)
    assert job is not None
    assert job.attempts == 0


def test_servers_that_die(world: World) -> None:
    """A job whose server was killed is taken again when its lease is over, and not for ever."""

    def die(_source: BlobReader) -> Look:
        raise KeyboardInterrupt

    world.decoder.renders = die
    file = picture(world)
    for _ in range(ATTEMPTS):
        with pytest.raises(KeyboardInterrupt):
            world.jobs.work()
        assert not world.jobs.work()
        world.clock.pass_by(LEASE)
    assert world.jobs.work()
    assert now(world, file).preview == Preview("IMAGE", PreviewState.FAILED, "decoding it did not come to an end")


def test_a_late_end(world: World) -> None:
    """What a server comes to whose lease is over counts no more, and leaves no bytes."""

    def overtaken(_source: BlobReader) -> Look:
        world.clock.pass_by(LEASE)
        world.decoder.renders = lambda _: Look(Media(1, 1), (THUMBNAIL,))
        assert world.jobs.work()
        return Look(Media(2, 2), (PREVIEW,))

    world.decoder.renders = overtaken
    file = picture(world)
    world.jobs.work()
    assert now(world, file).media == Media(1, 1)
    assert world.store.rendition(file.blob_id, "PREVIEW") is None
    assert list(world.blobs.list_blobs()) == []


def test_a_late_end_while_another_is_at_it(world: World) -> None:
    """A job that another server has taken is that server's, also before it is done."""

    def overtaken(_source: BlobReader) -> Look:
        world.clock.pass_by(LEASE)
        world.do(world.jobs._take)
        return Look(Media(2, 2), (PREVIEW,))

    world.decoder.renders = overtaken
    file = picture(world)
    world.jobs.work()
    assert now(world, file).preview == PENDING
    assert list(world.blobs.list_blobs()) == []


def test_long_reading(world: World) -> None:
    """A job whose content is read for longer than a lease lasts stays with the one who reads."""
    epochs = []

    def slow(source: BlobReader) -> Look:
        for _ in range(4):
            world.clock.pass_by(LEASE // 2)
            source.read(0, 1)
            epochs.append(world.store.has_due_media_job(world.clock.now()))
        return Look(Media(2, 2), (THUMBNAIL,))

    world.decoder.renders = slow
    file = picture(world)
    world.jobs.work()
    assert not any(epochs)
    assert now(world, file).preview == READY


def test_content_that_goes_meanwhile(world: World) -> None:
    """A picture whose file is purged while it is decoded leaves nothing."""
    file = picture(world)

    def purged(_source: BlobReader) -> Look:
        world.do(world.deletion.delete_file, world.jo, file.id)
        world.clock.pass_by(HOUR)
        world.sweep.sweep(0)
        return Look(Media(2, 2), (PREVIEW, THUMBNAIL))

    world.decoder.renders = purged
    assert world.jobs.work()
    assert list(world.blobs.list_blobs()) == []
    assert world.store.counts()["blobs"] == 0


def test_a_store_that_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job whose content can't be read now waits, counts no attempt, and tells its thread."""
    content, location = world.uploads.keep_whole(FileSpec("a.png"), PNG + b"x" * 200_000)
    request = Request("acme", FileSpec("a.png"))
    file = world.do(world.uploads.record_whole, world.jo, request, content, location, None).file
    with monkeypatch.context() as patch:

        def away(_location: str) -> BlobReader:
            raise errors.StorageUnavailableError

        patch.setattr(world.blobs, "open", away)
        for _ in range(2 * ATTEMPTS):
            with pytest.raises(errors.StorageUnavailableError):
                world.jobs.work()
            assert not world.jobs.work()
            world.clock.pass_by(WAIT)
    assert world.jobs.work()
    assert now(world, file).preview == READY


def test_a_disk_that_is_full(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """P03: a picture that can't be kept now is made again once there is room, and nobody calls its content bad."""
    file = picture(world)
    with monkeypatch.context() as patch:

        def full(_name: str, _data: bytes) -> str:
            raise errors.StorageFullError

        patch.setattr(world.blobs, "put", full)
        for _ in range(2 * ATTEMPTS):
            with pytest.raises(errors.StorageFullError):
                world.jobs.work()
            assert now(world, file).preview == PENDING
            world.clock.pass_by(WAIT)
    assert world.jobs.work()
    assert now(world, file).preview == READY


def test_a_sweep_without_grace(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """P02: a sweep that met a picture before its row, and removes it, leaves no row without bytes."""
    file = picture(world)
    put = world.blobs.put

    def swept(name: str, data: bytes) -> str:
        location = put(name, data)
        world.do(world.store.condemn, [location], world.clock.now())
        world.blobs.delete(location)
        return location

    with monkeypatch.context() as patch:
        patch.setattr(world.blobs, "put", swept)
        with pytest.raises(errors.StorageUnavailableError):
            world.jobs.work()
    assert world.check.run().clean
    world.clock.pass_by(WAIT)
    assert world.jobs.work()
    assert now(world, file).preview == READY
    assert world.check.run().clean


def test_a_file_that_is_deleted(world: World) -> None:
    """Nothing more is told of a deleted file; restored, it has what was found out meanwhile."""
    file = picture(world)
    world.do(world.deletion.delete_file, world.jo, file.id)
    world.jobs.work()
    assert types(world)[-1] == "file.deleted.v1"
    assert world.do(world.files.undelete, world.jo, file.id).preview == READY


def test_content_that_is_damaged(world: World) -> None:
    """Nobody can show what is not there."""
    content, location = world.uploads.keep_whole(FileSpec("a.png"), PNG + b"x" * 200_000)
    request = Request("acme", FileSpec("a.png"))
    file = world.do(world.uploads.record_whole, world.jo, request, content, location, None).file
    world.blobs.delete(location)
    world.jobs.work()
    assert now(world, file).preview.state is PreviewState.FAILED
    inline = picture(world)
    world.database.inner.execute_sql("DELETE FROM blob_bytes")
    world.jobs.work()
    assert now(world, inline).preview == Preview(
        "IMAGE", PreviewState.FAILED, "the stored bytes are missing or damaged"
    )


def test_the_oldest_first(world: World) -> None:
    """Jobs are done in the order in which they came."""
    for number in range(3):
        picture(world, f"{number}.png", PNG + bytes([number]))
    while world.jobs.work():
        pass
    assert [data[-1] for _, data in world.decoder.seen] == [0, 1, 2]


def test_what_is_found_is_quarantined(make_world: Callable[..., World]) -> None:
    """Every file on dangerous content is quarantined, nothing of it is decoded, and an activity says so."""
    world = make_world(scanner=Judge())
    files = [world.upload(who, PNG + b"EVIL", f"{who.actor.id}.png") for who in (world.jo, world.kim)]
    clean = picture(world)
    while world.jobs.work():
        pass
    for file in files:
        assert now(world, file).state is FileState.QUARANTINED
        assert now(world, file).preview.state is PreviewState.NONE
        with pytest.raises(errors.FileQuarantinedError):
            world.files.readable(world.boss, file.id)
    assert now(world, clean).preview == READY
    assert [data for _, data in world.decoder.seen] == [PNG]
    assert types(world).count("file.quarantined.v1") == 2
    (told,) = world.complaints
    assert "'Evil.Test'" in told
    assert all(file.id in told for file in files)


def test_everything_is_scanned(make_world: Callable[..., World]) -> None:
    """With a scanner also what nobody decodes gets a job; clean, it stays as it is, and nothing is told."""
    judge = Judge()
    world = make_world(scanner=judge)
    for data in (b"text", b"\0\1", b""):
        world.upload(world.jo, data, "a")
    before = types(world)
    while world.jobs.work():
        pass
    assert judge.count == 3
    assert types(world) == before
    assert world.store.count_media_jobs() == {"WAITING": 0, "NONE": 2, "READY": 1}


def test_a_scanner_that_is_away(make_world: Callable[..., World]) -> None:
    """Nothing is decoded before a verdict; the file can be read meanwhile; no attempt counts."""
    judge = Judge()
    world = make_world(scanner=judge)

    def away(_data: bytes) -> Verdict:
        raise ScannerUnavailableError("no answer")

    verdicts, judge.scans = judge.scans, away
    file = picture(world)
    for _ in range(2 * ATTEMPTS):
        with pytest.raises(ScannerUnavailableError):
            world.jobs.work()
        assert now(world, file).preview == PENDING
        world.clock.pass_by(WAIT)
    assert world.decoder.seen == []
    assert world.files.read_whole(now(world, file)) == PNG
    judge.scans = verdicts
    assert world.jobs.work()
    assert now(world, file).preview == READY


def test_a_verdict_is_asked_for_once(make_world: Callable[..., World]) -> None:
    """Decoding that is tried again does not scan again; who dies while decoding has been scanned."""
    judge = Judge()
    world = make_world(scanner=judge)
    world.decoder.renders = raising(PreviewerLostError("killed"))
    picture(world)
    for _ in range(ATTEMPTS):
        world.jobs.work()
        world.clock.pass_by(HOUR)
    assert judge.count == 1


def test_a_scanner_that_thinks(make_world: Callable[..., World]) -> None:
    """A scanner that says nothing for minutes keeps its job all the while."""
    judge = Judge()
    world = make_world(scanner=judge)
    file = picture(world)

    def think(_data: bytes) -> Verdict:
        world.clock.pass_by(2 * LEASE)
        assert not world.store.has_due_media_job(world.clock.now())
        return Verdict(is_clean=False, finding="Evil")

    judge.scans = think
    world.jobs.work()
    assert now(world, file).state is FileState.QUARANTINED


def test_a_file_of_ones_own(world: World) -> None:
    """Nobody else hears of what was found out about a file that hangs on nothing."""
    file = picture(world)
    world.jobs.work()
    assert [one.type for one in world.told(world.jo) if one.resource_id == file.id][-1] == "file.previewed.v1"
    assert [one.type for one in world.told(world.kim) if one.resource_id == file.id] == []


def test_a_file_on_an_issue(world: World) -> None:
    """Whoever sees the issue sees the activity."""
    world.upload(world.jo, PNG, "a.png", issue())
    world.jobs.work()
    assert world.told(world.kim)[-1].type == "file.previewed.v1"


def test_measured_content(world: World) -> None:
    """What a glance has found is not lost when decoding fails."""
    world.decoder.renders = raising(PreviewRefusedError("broken"))
    content = world.uploads.glance(measure(PNG), PNG)
    file = world.do(world.intake.take, world.jo, FileSpec("a.png"), content, inline=PNG).file
    world.jobs.work()
    assert now(world, file).media == Media(4800, 3200)

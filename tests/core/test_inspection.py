"""What is known of content from looking at it, and what has to be found out yet."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from remora_server.core import errors
from remora_server.core.hashing import measure
from remora_server.core.inspection import Inspections, overlaid
from remora_server.core.model import NO_MEDIA, NO_PREVIEW, FileSpec, FileState, Media, Preview, PreviewState
from tests.core.previewing import PNG, Judge
from tests.core.world import World

PENDING = Preview("IMAGE", PreviewState.PENDING)
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>"


def test_a_text_is_its_own_preview(world: World) -> None:
    """Nobody has to decode a text: its preview is there at once, and it gets no job."""
    file = world.upload(world.jo, b"hello", "a.txt")
    assert file.preview == Preview("TEXT", PreviewState.READY)
    assert (file.detected_content_type, file.type) == ("text/plain", "DOCUMENT")
    assert world.store.media_job(file.blob_id) is None
    assert world.wakes == []


def test_source_code(world: World) -> None:
    """A text with the name of code is code in that language, unless its owner says otherwise; other content never."""
    code = world.upload(world.jo, b"print(1)", "a.py")
    assert (code.type, code.media.code_language) == ("CODE", "python")
    said = FileSpec("b.py", content_type="text/plain", media=Media(code_language="micropython"))
    taken = world.do(world.intake.take, world.jo, said, measure(b"print(2)"), inline=b"print(2)")
    assert (taken.file.type, taken.file.media.code_language) == ("CODE", "micropython")
    assert world.upload(world.jo, b"\0\1", "c.py").media == NO_MEDIA
    renamed = world.do(world.files.update, world.jo, code.id, FileSpec("a.txt"), ["name", "content_type"])
    assert (renamed.type, renamed.content_type) == ("DOCUMENT", "text/plain")
    media = FileSpec("", media=Media(alt_text="ours"))
    assert world.do(world.files.update, world.jo, code.id, media, ["media"]).media == Media(alt_text="ours")
    back = world.do(world.files.update, world.jo, code.id, FileSpec("a.py", media=media.media), ["name", "media"])
    assert (back.type, back.media) == ("CODE", Media(alt_text="ours", code_language="python"))


@pytest.mark.parametrize("data", [SVG, b"\0\1\2", b""])
def test_what_nobody_shows(world: World, data: bytes) -> None:
    """A drawing that could run, unknown bytes and nothing have no preview, and wait for none."""
    file = world.upload(world.jo, data, "a")
    assert file.preview == NO_PREVIEW
    assert world.store.media_job(file.blob_id) is None


def test_a_picture_gets_a_job(world: World) -> None:
    """Its preview is pending from the first, and somebody is woken; a second file on it gets no second job."""
    first = world.upload(world.jo, PNG, "a.png")
    second = world.upload(world.kim, PNG, "b.png")
    assert (first.detected_content_type, first.type) == ("image/png", "IMAGE")
    assert first.preview == second.preview == PENDING
    assert first.blob_id == second.blob_id
    assert len(world.wakes) == 1
    assert world.jobs.work()
    assert not world.jobs.work()


def test_content_of_before_there_were_jobs(world: World) -> None:
    """A blob that nobody has looked at is looked at when the next file is made on it."""
    first = world.upload(world.jo, PNG, "a.png")
    world.database.inner.execute_sql("DELETE FROM media_jobs")
    second = world.upload(world.kim, PNG, "b.png")
    assert second.preview == PENDING
    assert world.jobs.work()
    assert world.files.get(world.jo, first.id).preview.state is PreviewState.READY


def test_what_is_found_out_stands(world: World) -> None:
    """An owner's word on what was measured changes nothing; the rest is theirs."""
    file = world.upload(world.jo, PNG, "a.png")
    world.jobs.work()
    said = FileSpec("", media=Media(1, 2, "other", alt_text="a cat"))
    updated = world.do(world.files.update, world.jo, file.id, said, ["media"])
    assert updated.media == Media(4800, 3200, "LEHV6nWB2yk8", alt_text="a cat")


def test_overlaying() -> None:
    """What is not known leaves what was said."""
    said = Media(1, 2, "a", 3, 4, "go", "alt")
    assert overlaid(said, NO_MEDIA) == said
    assert overlaid(said, Media(5, 0, "b")) == Media(5, 2, "b", 3, 4, "go", "alt")
    assert overlaid(said, Media(0, 6, "", 7, 8)) == Media(1, 6, "a", 7, 8, "go", "alt")


def test_a_glance(world: World) -> None:
    """Width and height of a picture are known from the first, unless nobody can tell."""
    content = world.uploads.glance(measure(PNG), PNG)
    assert world.uploads.is_glanced(content)
    assert not world.uploads.is_glanced(measure(b"hello"))
    assert world.uploads.glance(measure(b"hello"), b"hello") == measure(b"hello")
    file = world.do(world.intake.take, world.jo, FileSpec("a.png"), content, inline=PNG).file
    assert (file.media.width, file.media.height) == (4800, 3200)
    assert world.inspections.glance("application/pdf", b"") == NO_MEDIA
    world.decoder.measured = None
    assert world.inspections.glance("image/png", PNG) == NO_MEDIA


def test_a_glance_that_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever becomes of a glance, it is no reason to refuse what has come."""

    def measured(_type: str, _source: object) -> Media:
        raise ValueError("35 is not a valid Signals")

    monkeypatch.setattr(world.decoder, "measure", measured)
    assert world.inspections.glance("image/png", PNG) == NO_MEDIA


def test_a_server_without_a_scanner(make_world: Callable[..., World]) -> None:
    """R9: what a scanner has found stays found where there is none, as after it was switched off."""
    world = make_world(scanner=Judge())
    world.upload(world.jo, b"EVIL", "a.txt")
    world.jobs.work()
    other = Inspections(world.store, world.clock)
    blob = world.store.blob(world.upload(world.kim, b"EVIL", "b.txt").blob_id)
    assert blob is not None
    assert world.do(other.of, blob, "text/plain").is_quarantined


@pytest.mark.parametrize("data", [PNG + b"EVIL", b"EVIL"])
def test_content_of_before_there_was_a_scanner(make_world: Callable[..., World], data: bytes) -> None:
    """What nobody has scanned is scanned once it is uploaded again; what was decoded is not decoded again."""
    world = make_world(scanner=Judge())
    first = world.upload(world.jo, data, "a")
    world.jobs.work()
    world.database.inner.execute_sql("UPDATE media_jobs SET finding = '', is_scanned = 0")
    world.database.inner.execute_sql("UPDATE files SET state = 'ACTIVE'")
    decoded = len(world.decoder.seen)
    world.upload(world.kim, data, "b")
    assert world.wakes
    assert world.jobs.work()
    assert world.files.get(world.jo, first.id).state is FileState.QUARANTINED
    assert len(world.decoder.seen) == decoded
    assert not world.jobs.work()


def test_quarantine_outlives_deletion(make_world: Callable[..., World]) -> None:
    """R9: a file that comes back from deletion, or is uploaded anew, is as dangerous as before."""
    world = make_world(scanner=Judge())
    evil = world.upload(world.jo, b"EVIL", "a.txt")
    assert evil.state is FileState.ACTIVE
    world.do(world.deletion.delete_file, world.jo, evil.id)
    world.jobs.work()
    assert world.files.get(world.jo, evil.id).state is FileState.DELETED
    assert world.do(world.files.undelete, world.jo, evil.id).state is FileState.QUARANTINED
    again = world.upload(world.kim, b"EVIL", "b.txt")
    assert again.state is FileState.QUARANTINED
    assert world.intake.find_existing(world.jo, FileSpec("a.txt", 4, checksums=again.checksums)) is None
    with pytest.raises(errors.FileQuarantinedError):
        world.files.readable(world.kim, again.id)


def test_what_is_stored_already_is_scanned(make_world: Callable[..., World]) -> None:
    """An upload that is answered by a file which is there has that content scanned, if nobody has scanned it yet."""
    world = make_world(scanner=Judge())
    first = world.upload(world.jo, b"EVIL", "a")
    world.database.inner.execute_sql("DELETE FROM media_jobs")
    again = world.upload(world.jo, b"EVIL", "a")
    assert again.id == first.id
    assert world.jobs.work()
    assert world.files.get(world.jo, first.id).state is FileState.QUARANTINED
    born = world.upload(world.jo, b"EVIL", "b")
    assert [one.type for one in world.told() if one.resource_id == born.id] == [
        "file.created.v1",
        "file.quarantined.v1",
    ]

"""Other forms of a file."""

from __future__ import annotations

import pytest

from remora_server.core import errors
from remora_server.core.model import NO_MEDIA, File, Form, Shown
from remora_server.core.ports import Look, PreviewRefusedError
from remora_server.core.renditions import TEXT_BYTES, TEXT_TYPE
from tests.core.previewing import PNG, PREVIEW, THUMBNAIL
from tests.core.world import World


def read(world: World, shown: Shown) -> bytes:
    """Read a whole form, proved."""
    reading = world.renditions.reading(shown, 0, shown.file.size_bytes)
    data = b""
    while piece := reading.next()[1]:
        data += piece
    reading.close()
    return data


def decoded(world: World, name: str = "cat.of.jo.png") -> File:
    """Upload a picture and have it decoded."""
    file = world.upload(world.jo, PNG, name)
    world.jobs.work()
    return world.files.get(world.jo, file.id)


def test_the_original(world: World) -> None:
    """It is the file itself."""
    file = decoded(world)
    assert world.renditions.of(file, Form.ORIGINAL) == Shown(file)
    assert read(world, Shown(file)) == PNG
    assert world.renditions.head(Shown(file), 4) == PNG[:4]


@pytest.mark.parametrize(
    ("name", "made", "shown_name"),
    [
        ("cat.of.jo.png", PREVIEW, "cat.of.jo-preview.png"),
        ("cat.of.jo.png", THUMBNAIL, "cat.of.jo-thumbnail.jpg"),
        ("cat", THUMBNAIL, "cat-thumbnail.jpg"),
        (".png", THUMBNAIL, ".png-thumbnail.jpg"),
    ],
)
def test_pictures(world: World, name: str, made: object, shown_name: str) -> None:
    """A form has bytes, size, digests, type and name of its own, and the id of its file."""
    file = decoded(world, name)
    picture = made if made is PREVIEW else THUMBNAIL
    shown = world.renditions.of(file, Form(picture.rendition))
    assert read(world, shown) == picture.data
    assert (shown.file.id, shown.file.name, shown.file.content_type) == (file.id, shown_name, picture.content_type)
    assert world.renditions.head(shown, 3) == picture.data[:3]


def test_a_text(world: World) -> None:
    """A text's preview is its beginning in UTF-8; a thumbnail it has none."""
    file = world.upload(world.jo, "häuser\r\n".encode("utf-16"), "a.txt")
    shown = world.renditions.of(file, Form.PREVIEW)
    assert read(world, shown) == "häuser\r\n".encode()
    assert (shown.file.name, shown.file.content_type) == ("a-preview.txt", TEXT_TYPE)
    assert world.renditions.head(shown, 2) == "hä".encode()[:2]
    with pytest.raises(errors.PreviewUnavailableError):
        world.renditions.of(file, Form.THUMBNAIL)


def test_a_long_text(world: World) -> None:
    """It is cut between characters; what is none later on is marked."""
    file = world.upload(world.jo, b"x" * (TEXT_BYTES - 1) + "é".encode() * 100, "a.txt")
    assert read(world, world.renditions.of(file, Form.PREVIEW)) == b"x" * (TEXT_BYTES - 1)
    odd = world.upload(world.jo, b"x" * 5000 + b"\xff" + b"y" * 10, "b.txt")
    assert read(world, world.renditions.of(odd, Form.PREVIEW)) == b"x" * 5000 + "\ufffd".encode() + b"y" * 10


def test_what_is_not_there(world: World) -> None:
    """Each refusal tells what to do: wait, look at the original, or why not."""
    pending = world.upload(world.jo, PNG, "a.png")
    with pytest.raises(errors.PreviewUnavailableError, match="ask again in a moment"):
        world.renditions.of(pending, Form.THUMBNAIL)
    with pytest.raises(errors.PreviewUnavailableError, match="read the original"):
        world.renditions.of(world.upload(world.jo, b"\0\1", "b"), Form.PREVIEW)

    def refuse(_source: object) -> Look:
        raise PreviewRefusedError("it is broken")

    world.decoder.renders = refuse
    world.jobs.work()
    with pytest.raises(errors.PreviewUnavailableError, match=r"there is no preview \(it is broken\); read"):
        world.renditions.of(world.files.get(world.jo, pending.id), Form.PREVIEW)


def test_one_form_of_two(world: World) -> None:
    """Where only one form was made there is no other."""
    world.decoder.renders = lambda _: Look(NO_MEDIA, (THUMBNAIL,))
    file = decoded(world)
    assert read(world, world.renditions.of(file, Form.THUMBNAIL)) == THUMBNAIL.data
    with pytest.raises(errors.PreviewUnavailableError):
        world.renditions.of(file, Form.PREVIEW)


def test_damage(world: World) -> None:
    """A rendition whose bytes or row are lost is told as damage, not served."""
    file = decoded(world)
    shown = world.renditions.of(file, Form.PREVIEW)
    for stored in list(world.blobs.list_blobs()):
        world.blobs.delete(stored.location)
    with pytest.raises(errors.StoredContentCorruptError):
        read(world, shown)

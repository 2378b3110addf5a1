"""Films and sounds: how long, how large, and a frame that shows something."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from remora_server.core.model import Media
from remora_server.core.ports import Look, PreviewRefusedError
from remora_server.core.values import replace
from remora_server.media.pool import Pool
from tests.media.making import BLUE, RED, film, half_and_half, near, opened, sound
from tests.media.sources import Bytes

if TYPE_CHECKING:
    from av.video.stream import VideoStream

BLACK = Image.new("RGB", (320, 240))
FILMS = [
    ("video/mp4", "mp4", "libx264"),
    ("video/mp4", "mp4", "libx265"),
    ("video/mp4", "mp4", "libsvtav1"),
    ("video/quicktime", "mov", "mpeg4"),
    ("video/webm", "webm", "libvpx-vp9"),
    ("video/webm", "webm", "libvpx"),
    ("video/x-matroska", "matroska", "libx264"),
    ("video/x-msvideo", "avi", "mpeg4"),
    ("video/mpeg", "mpeg", "mpeg2video"),
    ("video/mpeg", "mpegts", "mpeg2video"),
    ("video/mpeg", "mpeg2video", "mpeg2video"),
]
SOUNDS = [
    ("audio/mpeg", "mp3", "libmp3lame"),
    ("audio/wav", "wav", "pcm_s16le"),
    ("audio/x-wav", "wav", "pcm_s16le"),
    ("audio/ogg", "ogg", "libopus"),
    ("audio/flac", "flac", "flac"),
    ("audio/mp4", "ipod", "aac"),
]


def sizes(look: Look) -> set[tuple[int, int]]:
    """Return the sizes of all renditions."""
    return {(one.width, one.height) for one in look.pictures}


@pytest.mark.parametrize(("content_type", "container", "codec"), FILMS)
def test_a_film(pool: Pool, content_type: str, container: str, codec: str) -> None:
    """Size and duration are told, where the container knows it; a film that begins with black is not shown black."""
    source = Bytes(film(container, codec, [BLACK, *[half_and_half(320, 240)] * 49]))
    look = pool.render(content_type, source)
    assert (look.media.width, look.media.height) == (320, 240)
    seconds = 50 / (25 if codec == "mpeg2video" else 10)
    if container != "mpeg2video":
        assert abs(look.media.duration_ms - 1000 * seconds) <= 200
    assert len(look.media.blur_hash) == 28
    assert [one.rendition for one in look.pictures] == ["PREVIEW", "THUMBNAIL"]
    picture = opened(look.pictures[0].data)
    assert picture.size == (320, 240)
    assert near(picture.getpixel((60, 120)), RED)
    assert near(picture.getpixel((260, 120)), BLUE)


@pytest.mark.parametrize(("degrees", "size"), [(0, (320, 240)), (90, (240, 320)), (180, (320, 240)), (270, (240, 320))])
def test_a_film_that_was_held_sideways(pool: Pool, degrees: int, size: tuple[int, int]) -> None:
    """It is shown as a player would show it: turned counter-clockwise by what the file says."""

    def turn(stream: VideoStream) -> None:
        stream.set_display_rotation(degrees)

    look = pool.render("video/mp4", Bytes(film("mp4", "libx264", [half_and_half(320, 240)] * 3, turn)))
    assert (look.media.width, look.media.height) == size
    picture = opened(look.pictures[0].data)
    wanted = half_and_half(320, 240).rotate(degrees, expand=True)
    assert picture.size == wanted.size == size
    for place in ((20, 20), (size[0] - 20, 20), (20, size[1] - 20)):
        colour = wanted.getpixel(place)
        assert isinstance(colour, tuple)
        assert near(picture.getpixel(place), colour)


def test_pixels_that_are_not_square(pool: Pool) -> None:
    """The picture has the shape that a player shows."""

    def squeeze(stream: VideoStream) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(2)

    look = pool.render("video/mp4", Bytes(film("mp4", "libx264", [BLACK] * 3, squeeze)))
    assert (look.media.width, look.media.height) == (640, 240)
    assert sizes(look) == {(640, 240), (512, 192)}


def test_a_large_film_is_shown_smaller(pool: Pool) -> None:
    """Its renditions fit as those of images do."""
    look = pool.render("video/mp4", Bytes(film("mp4", "libx264", [half_and_half(3840, 2160)] * 2)))
    assert (look.media.width, look.media.height) == (3840, 2160)
    assert sizes(look) == {(2048, 1152), (512, 288)}


def test_too_large_a_film_is_refused(pool: Pool) -> None:
    """Its size is known nevertheless, and how long it lasts."""
    data = film("avi", "mjpeg", [Image.new("RGB", (6016, 6000))], lambda one: setattr(one, "pix_fmt", "yuvj420p"))
    with pytest.raises(PreviewRefusedError, match="has 6016 x 6000 pixels, more than 36 million") as refused:
        pool.render("video/x-msvideo", Bytes(data))
    assert refused.value.media == Media(width=6016, height=6000, duration_ms=100)


@pytest.mark.parametrize(("content_type", "container", "codec"), SOUNDS)
def test_a_sound(pool: Pool, content_type: str, container: str, codec: str) -> None:
    """Its duration, and no picture."""
    look = pool.render(content_type, Bytes(sound(container, codec)))
    assert replace(look.media, duration_ms=0) == Media()
    assert abs(look.media.duration_ms - 2000) <= 60
    assert look.pictures == ()


def test_a_film_without_pictures(pool: Pool) -> None:
    """It is refused, and its duration is known."""
    with pytest.raises(PreviewRefusedError, match=r"^has no pictures in it$") as refused:
        pool.render("video/mp4", Bytes(sound("mp4", "aac")))
    assert abs(refused.value.media.duration_ms - 2000) <= 60


def test_only_the_container_that_was_sniffed_is_tried(pool: Pool) -> None:
    """A playlist that calls itself a film is none, nor is one container another."""
    for data in (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", film("avi", "mpeg4", [BLACK] * 3)):
        with pytest.raises(PreviewRefusedError, match="is damaged, or not what it seems"):
            pool.render("video/mp4", Bytes(data))

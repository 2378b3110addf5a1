"""Images of every format: their size, and how they look."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from remora_server.core.model import Media
from remora_server.core.ports import Picture
from remora_server.media.decoders import IMAGE_FORMATS
from remora_server.media.pool import Pool
from tests.media.sources import Bytes

RED, BLUE = (200, 30, 30), (30, 30, 200)


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    """Return a file."""
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def half_and_half(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Return an image, red on the left and blue on the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image.convert(mode)


def opened(picture: Picture) -> Image.Image:
    """Return a rendition as an image that was decoded."""
    image = Image.open(io.BytesIO(picture.data))
    image.load()
    return image


def near(colour: object, wanted: tuple[int, ...]) -> bool:
    """Tell whether a colour looks like another one."""
    assert isinstance(colour, tuple)
    return all(abs(one - other) < 40 for one, other in zip(colour, wanted, strict=True))


@pytest.mark.parametrize("content_type", IMAGE_FORMATS)
def test_every_format_has_its_size_and_renditions(pool: Pool, content_type: str) -> None:
    """Size and blur hash are told; PREVIEW and THUMBNAIL fit their squares, keep the shape, and show the picture."""
    source = Bytes(encoded(half_and_half(2400, 1200), IMAGE_FORMATS[content_type]))
    assert pool.measure(content_type, source) == Media(width=2400, height=1200)
    look = pool.render(content_type, source)
    assert (look.media.width, look.media.height) == (2400, 1200)
    assert len(look.media.blur_hash) == 28
    made = {one.rendition: one for one in look.pictures}
    assert {name: (one.width, one.height) for name, one in made.items()} == {
        "PREVIEW": (2048, 1024),
        "THUMBNAIL": (512, 256),
    }
    for one in made.values():
        image = opened(one)
        assert (image.format, image.size, one.content_type) == ("JPEG", (one.width, one.height), "image/jpeg")
        assert near(image.getpixel((one.width // 4, one.height // 2)), RED)
        assert near(image.getpixel((one.width * 3 // 4, one.height // 2)), BLUE)

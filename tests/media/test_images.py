"""Images of every format: their size, and how they look."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin

from remora_server.core.model import Media
from remora_server.core.ports import Look, Picture, PreviewRefusedError
from remora_server.media.decoders import IMAGE_FORMATS
from remora_server.media.pool import Pool
from tests.media.making import BLUE, RED, encoded, half_and_half, near, opened
from tests.media.sources import Bytes

GREEN, WHITE = (30, 160, 30), (255, 255, 255)
PLACE = "Secret Place 12"
# What each format can say about how it is to be turned.
TURNED = ["image/jpeg", "image/png", "image/webp", "image/tiff", "image/avif", "image/heic"]


def look_of(pool: Pool, content_type: str, data: bytes) -> Look:
    """Return the look of an image, whose size must have been the same when it was measured."""
    look = pool.render(content_type, Bytes(data))
    measured = pool.measure(content_type, Bytes(data))
    assert measured is None or measured == Media(width=look.media.width, height=look.media.height)
    return look


def picture_of(look: Look, rendition: str = "PREVIEW") -> Picture:
    """Return one rendition."""
    return next(one for one in look.pictures if one.rendition == rendition)


def shown(pool: Pool, content_type: str, data: bytes) -> Image.Image:
    """Return the PREVIEW of an image."""
    return opened(picture_of(look_of(pool, content_type, data)).data)


def corners(width: int, height: int) -> Image.Image:
    """Return an image whose four quarters differ."""
    image = half_and_half(width, height)
    image.paste(GREEN, (0, height // 2, width // 2, height))
    image.paste(WHITE, (width // 2, height // 2, width, height))
    return image


def colours(image: Image.Image) -> list[object]:
    """Return the colours in the middle of the quarters."""
    width, height = image.size
    return [image.getpixel((width * x // 4, height * y // 4)) for y in (1, 3) for x in (1, 3)]


def same_colours(one: Image.Image, other: Image.Image) -> bool:
    """Tell whether the quarters look alike."""
    pairs = zip(colours(one.convert("RGB")), colours(other.convert("RGB")), strict=True)
    return all(isinstance(wanted, tuple) and near(colour, wanted, 25) for colour, wanted in pairs)


@pytest.mark.parametrize("content_type", IMAGE_FORMATS)
def test_every_format_has_its_size_and_renditions(pool: Pool, content_type: str) -> None:
    """Size and blur hash are told; PREVIEW and THUMBNAIL fit their squares, keep the shape, and show the picture."""
    look = look_of(pool, content_type, encoded(half_and_half(2400, 1200), IMAGE_FORMATS[content_type]))
    assert (look.media.width, look.media.height) == (2400, 1200)
    assert len(look.media.blur_hash) == 28
    made = {one.rendition: one for one in look.pictures}
    assert {name: (one.width, one.height) for name, one in made.items()} == {
        "PREVIEW": (2048, 1024),
        "THUMBNAIL": (512, 256),
    }
    for one in made.values():
        image = opened(one.data)
        assert (image.format, image.size, one.content_type) == ("JPEG", (one.width, one.height), "image/jpeg")
        assert near(image.getpixel((one.width // 4, one.height // 2)), RED)
        assert near(image.getpixel((one.width * 3 // 4, one.height // 2)), BLUE)


@pytest.mark.parametrize("content_type", TURNED)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_shown_upright(pool: Pool, content_type: str, orientation: int) -> None:
    """Each of the eight orientations, in each format that can have one; the size is that after turning."""
    image = corners(160, 80)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    # As bytes: only then the encoder of HEIC says it in the container, which is what counts there.
    data = encoded(image, IMAGE_FORMATS[content_type], exif=exif.tobytes())
    image.getexif()[ExifTags.Base.Orientation] = orientation
    wanted = ImageOps.exif_transpose(image)
    look = look_of(pool, content_type, data)
    assert (look.media.width, look.media.height) == wanted.size
    assert same_colours(opened(picture_of(look).data), wanted)


@pytest.mark.parametrize("content_type", ["image/jpeg", "image/png", "image/webp", "image/tiff", "image/heic"])
def test_nothing_but_pixels_gets_into_a_rendition(pool: Pool, content_type: str) -> None:
    """No position, no camera, no comment, no profile."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = PLACE
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (47.0, 22.0, 1.0), 3: "E", 4: (8.0, 32.0, 1.0), 27: PLACE})
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", PLACE)
    comments: dict[str, dict[str, Any]] = {
        "image/png": {"pnginfo": text},
        "image/jpeg": {"comment": PLACE.encode()},
    }
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = corners(100, 60)
    image.putalpha(200)
    for one in (image.convert("RGB"), image)[: 1 if content_type == "image/jpeg" else 2]:
        data = encoded(
            one, IMAGE_FORMATS[content_type], exif=exif, icc_profile=profile, **comments.get(content_type, {})
        )
        assert PLACE.encode() in data
        for picture in look_of(pool, content_type, data).pictures:
            assert PLACE.encode() not in picture.data
            left = opened(picture.data)
            assert dict(left.getexif()) == {}
            assert set(left.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
            assert picture.content_type == ("image/png" if one.mode == "RGBA" else "image/jpeg")


def transparent(mode: str) -> tuple[str, bytes]:
    """Return the type and bytes of an image, red on the left and see-through on the right, in some mode."""
    image = Image.new("RGBA", (80, 40), (0, 0, 0, 0))
    image.paste((*RED, 255), (0, 0, 40, 40))
    if mode == "P":
        flat = half_and_half(80, 40).quantize(2)
        return "image/png", encoded(flat, "PNG", transparency=flat.getpixel((60, 20)))
    if mode == "1":
        flat = Image.new("1", (80, 40), 0)
        flat.paste(1, (40, 0, 80, 40))
        return "image/png", encoded(flat, "PNG", transparency=1)
    if mode == "RGB":
        return "image/png", encoded(half_and_half(80, 40), "PNG", transparency=BLUE)
    for content_type, name in IMAGE_FORMATS.items():
        if name == mode:
            return content_type, encoded(image, name)
    return "image/png", encoded(image.convert(mode), "PNG")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "RGB", "GIF", "WEBP", "AVIF", "HEIF", "TIFF"])
def test_transparency_is_kept(pool: Pool, mode: str) -> None:
    """Such an image becomes a PNG; its blur hash is that of what is seen on white."""
    content_type, data = transparent(mode)
    look = look_of(pool, content_type, data)
    assert {one.content_type for one in look.pictures} == {"image/png"}
    image = opened(picture_of(look).data)
    assert image.mode == "RGBA"
    alpha = image.getchannel("A")
    assert (alpha.getpixel((20, 20)), alpha.getpixel((60, 20))) == (255, 0)
    assert look.media.blur_hash


def test_transparency_that_takes_too_much(pool: Pool) -> None:
    """Where a PNG would be far larger than the original, the rendition is a JPEG on white."""
    tile = Image.effect_noise((64, 64), 100)
    noise = Image.merge("RGBA", (tile, tile.rotate(90), tile.rotate(180), tile.rotate(270)))
    image = Image.new("RGBA", (2600, 2600))
    for x in range(0, 2600, 64):
        for y in range(0, 2600, 64):
            image.paste(noise, (x, y))
    data = encoded(image, "WEBP", lossless=True)
    assert len(data) < 200_000
    for one in pool.render("image/webp", Bytes(data)).pictures:
        assert one.content_type == "image/jpeg"
        assert len(one.data) < 6_000_000


def test_transparency_that_is_not_used(pool: Pool) -> None:
    """An image that could be seen through, but nowhere can, becomes a JPEG, which is smaller."""
    data = encoded(corners(80, 40).convert("RGBA"), "PNG")
    assert {one.content_type for one in look_of(pool, "image/png", data).pictures} == {"image/jpeg"}


def test_a_large_image_that_can_be_seen_through(pool: Pool) -> None:
    """It is made smaller by strips, of which the last is shorter; nothing is lost or moved."""
    image = corners(5003, 5001).convert("RGBA")
    image.putpixel((0, 0), (0, 0, 0, 0))
    look = look_of(pool, "image/png", encoded(image, "PNG", compress_level=1))
    preview = opened(picture_of(look).data)
    assert (preview.mode, preview.size) == ("RGBA", (2048, 2047))
    assert same_colours(preview, image)


def brightness(image: Image.Image, x: int) -> float:
    """Return how bright a column of an image is."""
    value = image.getpixel((x, 4))
    assert isinstance(value, int | float)
    return value


def rising(mode: str) -> Image.Image:
    """Return an image in a mode of many bits, dark on the left and bright on the right."""
    most = {"I;16": 65535, "I": 65535, "F": 1000.0}[mode]
    image = Image.new(mode, (64, 8))
    for x in range(64):
        for y in range(8):
            image.putpixel((x, y), most * x // 63 if isinstance(most, int) else most * x / 63)
    return image


@pytest.mark.parametrize(
    ("content_type", "mode"),
    [("image/png", "I;16"), ("image/tiff", "I;16"), ("image/tiff", "I"), ("image/tiff", "F")],
)
def test_many_bits_become_eight(pool: Pool, content_type: str, mode: str) -> None:
    """The brightness is kept; it is not cut off at what eight bits hold."""
    image = shown(pool, content_type, encoded(rising(mode), IMAGE_FORMATS[content_type])).convert("L")
    for x in (4, 20, 40, 60):
        assert abs(brightness(image, x) - 255 * x / 63) < 12


@pytest.mark.parametrize(
    ("content_type", "mode"),
    [
        ("image/jpeg", "CMYK"),
        ("image/tiff", "CMYK"),
        ("image/tiff", "LAB"),
        ("image/jpeg", "L"),
        ("image/png", "P"),
        ("image/bmp", "P"),
        ("image/gif", "P"),
    ],
)
def test_other_colours_become_those_of_a_screen(pool: Pool, content_type: str, mode: str) -> None:
    """Printing inks, lightness and hue, greys and palettes all look as they should."""
    image = corners(160, 80)
    if mode == "LAB":
        other = ImageCms.profileToProfile(
            image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
        assert other is not None
    else:
        other = image.quantize(8) if mode == "P" else image.convert(mode)
    wanted = image if mode == "LAB" else other.convert("RGB")
    assert same_colours(shown(pool, content_type, encoded(other, IMAGE_FORMATS[content_type])), wanted)


def test_one_bit(pool: Pool) -> None:
    """Black and white stay so."""
    image = Image.new("1", (80, 40), 0)
    image.paste(1, (40, 0, 80, 40))
    for content_type in ("image/png", "image/tiff", "image/bmp"):
        seen = shown(pool, content_type, encoded(image, IMAGE_FORMATS[content_type]))
        assert near(seen.getpixel((20, 20)), (0, 0, 0), 10)
        assert near(seen.getpixel((60, 20)), WHITE, 10)


def profile_with_swapped_colours() -> bytes:
    """Return a colour profile in which red means green, and green red."""

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    red, green, blue = xyz(0.4360, 0.2225, 0.0139), xyz(0.3851, 0.7169, 0.0971), xyz(0.1431, 0.0606, 0.7141)
    tags = {
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": green,
        b"gXYZ": red,
        b"bXYZ": blue,
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(78),
        b"cprt": b"text\0\0\0\0x\0",
    }
    table, body = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(">I4sI4s4s4s", 0, b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">iii", 63190, 65536, 54061)
    head = head.ljust(128, b"\0")
    return struct.pack(">I", len(head + table + body)) + head[4:] + table + body


def test_a_colour_profile_is_applied(pool: Pool) -> None:
    """What a file calls red may be green; a rendition has no profile, so its colours are those of sRGB."""
    image = Image.new("RGB", (80, 40), (250, 0, 0))
    for one in (image, image.convert("RGBA")):
        seen = shown(pool, "image/png", encoded(one, "PNG", icc_profile=profile_with_swapped_colours()))
        assert near(seen.getpixel((40, 20)), (0, 250, 0), 20)


def test_a_profile_that_makes_no_sense_is_ignored(pool: Pool) -> None:
    """The image can be shown nevertheless."""
    for profile in (b"nonsense", profile_with_swapped_colours()[:200]):
        seen = shown(pool, "image/png", encoded(Image.new("RGB", (80, 40), RED), "PNG", icc_profile=profile))
        assert near(seen.getpixel((40, 20)), RED, 10)


def test_facts_about_an_image_that_make_no_sense_are_ignored(pool: Pool) -> None:
    """As a browser does."""
    for exif in (b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"):
        assert shown(pool, "image/jpeg", encoded(corners(160, 80), "JPEG", exif=exif)).size == (160, 80)


@pytest.mark.parametrize("content_type", ["image/gif", "image/webp", "image/png", "image/avif", "image/tiff"])
def test_the_first_frame_of_several(pool: Pool, content_type: str) -> None:
    """Nothing moves in a rendition, and pages after the first are not shown."""
    others = [Image.new("RGB", (80, 40), colour) for colour in (BLUE, GREEN)]
    options = {} if content_type == "image/tiff" else {"duration": 100}
    first = Image.new("RGB", (80, 40), RED)
    data = encoded(first, IMAGE_FORMATS[content_type], save_all=True, append_images=others, **options)
    seen = shown(pool, content_type, data)
    assert near(seen.getpixel((40, 20)), RED)
    assert getattr(seen, "n_frames", 1) == 1


@pytest.mark.parametrize(
    ("size", "preview", "thumbnail"),
    [
        ((1, 1), (1, 1), (1, 1)),
        ((1, 5000), (1, 2048), (1, 512)),
        ((5000, 2), (2048, 1), (512, 1)),
        ((513, 20), (513, 20), (512, 20)),
        ((2048, 2048), (2048, 2048), (512, 512)),
        ((2049, 2047), (2048, 2046), (512, 512)),
    ],
)
def test_renditions_are_never_larger_than_the_image(
    pool: Pool, size: tuple[int, int], preview: tuple[int, int], thumbnail: tuple[int, int]
) -> None:
    """They keep its shape, as far as whole pixels allow."""
    look = look_of(pool, "image/png", encoded(Image.new("RGB", size, RED), "PNG"))
    assert [(one.rendition, (one.width, one.height)) for one in look.pictures] == [
        ("PREVIEW", preview),
        ("THUMBNAIL", thumbnail),
    ]


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "jpeg"])
def test_compressed_tiffs(pool: Pool, compression: str) -> None:
    """They are decoded by another library than plain ones, and turned as well."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = encoded(corners(160, 80), "TIFF", compression=compression, exif=exif)
    assert same_colours(shown(pool, "image/tiff", data), corners(160, 80).rotate(-90, expand=True))


def test_a_jpeg_with_further_pictures_in_it(pool: Pool) -> None:
    """Phones and cameras put other views and depths behind the picture, which alone is shown."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = encoded(corners(3000, 2000), "MPO", save_all=True, append_images=[Image.new("RGB", (30, 20))], exif=exif)
    seen = shown(pool, "image/jpeg", data)
    assert seen.size == (1365, 2048)
    assert same_colours(seen, corners(3000, 2000).rotate(-90, expand=True))


def test_a_very_large_jpeg_is_decoded_smaller(pool: Pool) -> None:
    """Its format allows that, so it is shown although other images of that size are not."""
    look = look_of(pool, "image/jpeg", encoded(Image.new("L", (12000, 9000), 100), "JPEG"))
    assert (look.media.width, look.media.height) == (12000, 9000)
    assert (picture_of(look).width, picture_of(look).height) == (2048, 1536)
    ending = pool._rendering._lanes[0].last
    assert ending is not None
    assert ending.peak_kib < 120 * 1024


def test_an_image_of_another_type_than_it_was_said_to_be(pool: Pool) -> None:
    """Only the decoder of the type that was sniffed is tried."""
    with pytest.raises(PreviewRefusedError, match=r"^is damaged, or not what it seems$"):
        pool.render("image/png", Bytes(encoded(corners(80, 40), "GIF")))


@pytest.mark.parametrize("content_type", IMAGE_FORMATS)
def test_an_image_that_is_cut_short_is_refused(pool: Pool, content_type: str) -> None:
    """Half a picture with a grey rest is none."""
    image = Image.effect_noise((300, 200), 60).convert("RGB")
    data = encoded(image, IMAGE_FORMATS[content_type])
    with pytest.raises(PreviewRefusedError, match=r"^is damaged, or not what it seems$"):
        pool.render(content_type, Bytes(data[: len(data) * 2 // 3]))

"""From a picture to its renditions: smaller, in sRGB, and without anything but pixels; and its blur hash."""

from __future__ import annotations

import io

import blurhash
from PIL import Image

from remora_server.media.content import Report
from remora_server.media.frames import RENDITIONS

JPEG_QUALITY = 85
BLURRED_EDGE = 32  # More does not show in a blur hash, and it is computed in Python.
OPAQUE = (255, 255)
# A few kilobytes can hold what takes megabytes as a PNG, and nobody's quota pays for that. Beyond this what could be
# seen through is not any more.
PNG_BYTES = {"PREVIEW": 4 * 1024 * 1024, "THUMBNAIL": 512 * 1024}


def show(picture: Image.Image, report: Report) -> None:
    """Hand over all renditions of a picture in sRGB, RGB or RGBA, and its blur hash."""
    if picture.mode == "RGBA" and picture.getchannel("A").getextrema() == OPAQUE:
        picture = picture.convert("RGB")
    made = []
    for rendition, edge in sorted(RENDITIONS.items(), key=lambda one: -one[1]):
        picture = fitted(picture, edge)  # Each from the larger one before.
        made.append((rendition, picture))
    report.facts(blur_hash=blurred(picture))
    for rendition, one in made:
        content_type, data = encoded(one, PNG_BYTES[rendition])
        report.picture(rendition, content_type, one.size, data)


def fit(size: tuple[int, int], edge: int) -> tuple[int, int]:
    """Return the size that fits a square without changing the shape; never a larger one."""
    width, height = size
    scale = min(1.0, edge / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def fitted(picture: Image.Image, edge: int) -> Image.Image:
    """Return a picture no larger than a square."""
    size = fit(picture.size, edge)
    if size == picture.size:
        return picture
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def encoded(picture: Image.Image, png_bytes: int) -> tuple[str, bytes]:
    """Return the content type and the bytes of a picture: a PNG only as long as it is no larger than that."""
    picture.info = {}  # Pillow would copy comments and profiles from here.
    file = io.BytesIO()
    if picture.mode == "RGBA":
        picture.save(file, "PNG")
        if len(file.getvalue()) <= png_bytes:
            return "image/png", file.getvalue()
        picture, file = on_white(picture), io.BytesIO()
    picture.save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return "image/jpeg", file.getvalue()


def on_white(picture: Image.Image) -> Image.Image:
    """Return what is seen of a picture that lies on white paper."""
    ground = Image.new("RGBA", picture.size, "white")
    ground.alpha_composite(picture)
    return ground.convert("RGB")


def blurred(picture: Image.Image) -> str:
    """Return the blur hash of a picture, as it looks on white."""
    small = fitted(picture, BLURRED_EDGE)
    if small.mode == "RGBA":
        small = on_white(small)
    width, height = small.size
    data = small.tobytes()
    pixels = [[list(data[3 * (y * width + x) :][:3]) for x in range(width)] for y in range(height)]
    across, down = (4, 3) if width >= height else (3, 4)
    return str(blurhash.encode(pixels, components_x=across, components_y=down))

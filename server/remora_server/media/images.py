"""Decoding images: how large they are, and their first frame upright, in sRGB, and not much larger than is shown."""

from __future__ import annotations

import io
import math
import warnings
from typing import BinaryIO

import PIL.AvifImagePlugin  # These before the sandbox closes, not when content asks for them.
import PIL.BmpImagePlugin
import PIL.GifImagePlugin
import PIL.JpegImagePlugin
import PIL.MpoImagePlugin
import PIL.PngImagePlugin
import PIL.TiffImagePlugin
import PIL.WebPImagePlugin
from PIL import ExifTags, Image, ImageCms

from remora_server.media.content import MissingError, RefusedError, Report, Silence
from remora_server.media.decoders import IMAGE_FORMATS
from remora_server.media.frames import RENDITIONS
from remora_server.media.limits import Limits
from remora_server.media.renditions import fit, fitted, show

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = frozenset({5, 6, 7, 8})
LARGEST = max(RENDITIONS.values())
LEFT_OVER = 1.5  # How much larger than it is shown an image stays in the first, coarse step.
STRIP_PIXELS = 4_000_000
PROGRESSIVE_BYTES = 6  # Of a pixel: three coefficients.
LAB = ImageCms.createProfile("LAB")
SRGB = ImageCms.createProfile("sRGB")
SIXTEEN_BIT_BYTES = {"I;16": 1, "I;16L": 1, "I;16B": 0}  # Which of the two bytes of a pixel weighs more.
OF_A_PICTURE = frozenset({"L", "RGB", "RGBA", "CMYK", "LAB"})  # Modes that need no more than a change of colours.

PIL.AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # Each thread would take memory of its own.
warnings.simplefilter("ignore")  # About oddities of content. To show one, Python would open a file.
try:
    import pillow_heif
except ImportError:
    HEIF = False
else:
    HEIF = True
    # The thumbnails inside a file may show something else than the file does.
    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=0)


def measure(content_type: str, file: BinaryIO, report: Report, limits: Limits) -> None:
    """Tell the size of an image from its header."""
    _tell_size(opened(content_type, file, limits), report)


def render(content_type: str, file: BinaryIO, report: Report, limits: Limits) -> None:
    """Tell the size of an image, and hand over its renditions."""
    image = opened(content_type, file, limits)
    turn = _tell_size(image, report)
    _check_pixels(image, limits)
    image.load()
    profile = image.info.get("icc_profile")
    # Turned and coloured last, when there is less of it.
    picture = coloured(fitted(smaller(image), LARGEST), profile)
    show(picture.transpose(turn) if turn is not None else picture, report)


def opened(content_type: str, file: BinaryIO, limits: Limits) -> Image.Image:
    """Return an image of which no more than the header was read."""
    image_format = IMAGE_FORMATS[content_type]
    if image_format == "HEIF" and not HEIF:
        raise MissingError
    # We count ourselves, after the size was told; except that the decoder of WebP takes the memory at once. Pillow
    # raises at twice its limit, and warns before.
    Image.MAX_IMAGE_PIXELS = limits.pixels // 2 if image_format == "WEBP" else None
    try:
        image = Image.open(file, formats=[image_format])
    except Image.DecompressionBombError:
        raise RefusedError(f"has more than {_millions(limits.pixels)} million pixels") from None
    Image.MAX_IMAGE_PIXELS = limits.pixels // 2  # Of frames that are larger than the image says.
    return image


def _tell_size(image: Image.Image, report: Report) -> Image.Transpose | None:
    """Tell the size as it is seen, and return how the pixels have to be turned for that."""
    if isinstance(image, PIL.TiffImagePlugin.TiffImageFile):
        report.facts(width=image.width, height=image.height)
        return None  # Pillow turns these by itself.
    orientation = _orientation(image)
    width, height = image.size[::-1] if orientation in SIDEWAYS else image.size
    report.facts(width=width, height=height)
    return TURNS.get(orientation)


def _orientation(image: Image.Image) -> int:
    try:
        # Not the method of a PNG: that one decodes all pixels, to see whether something comes after them.
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - whatever is wrong with what was written about an image, it can be shown
        return 1
    return orientation if isinstance(orientation, int) else 1


def _check_pixels(image: Image.Image, limits: Limits) -> None:
    """Refuse an image that is too large; have a JPEG decoded no larger than it is needed."""
    told = f"has {image.width} x {image.height} pixels"
    most = limits.pixels
    if isinstance(image, PIL.JpegImagePlugin.JpegImageFile):
        most = limits.scaled_pixels
        if image.info.get("progressive"):
            most = min(most, limits.memory_bytes // PROGRESSIVE_BYTES)  # All its coefficients are kept until the end.
    if image.width * image.height > most:
        raise RefusedError(f"{told}, more than {_millions(most)} million")
    image.draft(None, fit(image.size, LARGEST))
    if image.width * image.height > limits.pixels:
        raise RefusedError(f"{told}, more than can be decoded")


def _millions(pixels: int) -> str:
    return f"{pixels / 1_000_000:.4g}"


def smaller(image: Image.Image) -> Image.Image:
    """Return an image in a mode of pictures, at a fraction of its size if that is still larger than is shown.

    By strips, since each step has its result beside what it began with.
    """
    factor = max(1, int(max(image.size) / LARGEST / LEFT_OVER))
    if factor == 1 and _is_picture(image):
        return image
    extrema = _extrema(image)
    rows = max(1, STRIP_PIXELS // image.width // factor) * factor
    whole: Image.Image | None = None
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        strip = as_picture(strip, extrema).reduce(factor)
        if whole is None:
            whole = Image.new(strip.mode, (strip.width, math.ceil(image.height / factor)))
        whole.paste(strip, (0, top // factor))
    if whole is None:
        raise RefusedError("has no pixels")
    return whole


def _extrema(image: Image.Image) -> tuple[float, float]:
    """Return the darkest and the brightest value of an image of one channel that has more than eight bits."""
    if image.mode not in {"I", "F"}:
        return 0.0, 255.0
    low, high = image.getextrema()
    return (0.0, 255.0) if isinstance(low, tuple) or isinstance(high, tuple) else (low, high)


def _is_picture(image: Image.Image) -> bool:
    return image.mode == "RGBA" or (image.mode in OF_A_PICTURE and not image.has_transparency_data)


def as_picture(image: Image.Image, extrema: tuple[float, float]) -> Image.Image:
    """Return an image in L, RGB, RGBA, CMYK or LAB; `extrema` are the darkest and the brightest of many bits."""
    if image.mode in SIXTEEN_BIT_BYTES:
        return Image.frombytes("L", image.size, image.tobytes()[SIXTEEN_BIT_BYTES[image.mode] :: 2])
    if image.mode in {"I", "F"}:
        low, high = min(0.0, extrema[0]), max(255.0, extrema[1])
        if image.mode == "I" and low == 0 and high > 255:  # noqa: PLR2004 - more than a byte holds
            high = max(65535.0, high)
        scale = 255 / (high - low)
        return image.point(lambda value: value * scale - low * scale).convert("L")
    if _is_picture(image):
        return image
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")


def coloured(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return an image in sRGB: RGB, or RGBA if it has transparency."""
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    colours = image.convert("RGB") if alpha is not None else image
    try:
        if image.mode == "LAB":
            colours = ImageCms.profileToProfile(colours, LAB, SRGB, outputMode="RGB") or colours
        elif profile:
            colours = ImageCms.profileToProfile(colours, io.BytesIO(profile), SRGB, outputMode="RGB") or colours
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        pass  # A profile that is damaged, or of another kind of colours.
    colours = colours.convert("RGB")
    if alpha is not None:
        colours.putalpha(alpha)
    return colours


def warm(limits: Limits) -> None:
    """Have everything loaded that decoding an image and encoding its renditions loads when it is first needed."""
    Image.preinit()
    for image_format in ("JPEG", "PNG"):
        file = io.BytesIO()
        Image.new("P", (1, 1)).convert("RGB").save(file, image_format)
        file.seek(0)
        render(f"image/{image_format.lower()}", file, Silence(), limits)

"""Small files that would be enormous if they were decoded."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping

from PIL import Image

from tests.media.making import encoded, film, pages, pdf, stream_object

EDGE = 30_000
PAGE_WITH_X = (
    b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R /Resources << /XObject << /X 5 0 R >> >> >>"
)


def png_of(width: int, height: int, depth: int, colour: int, row_bytes: int, more: bytes = b"") -> bytes:
    """Return a PNG of zeros, which was never in memory as a whole."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    packer = zlib.compressobj(1)
    rows = bytes(row_bytes + 1) * 50
    body = b"".join(packer.compress(rows) for _ in range(height // 50)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def gif_of(width: int, height: int, frames: int) -> bytes:
    """Return a GIF whose frames are all of one pixel."""
    frame = b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame * frames + b";"


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """Return a JPEG that says that it is of another size."""
    at = next(place for place in (jpeg.find(one) for one in (b"\xff\xc0", b"\xff\xc2")) if place > 0)
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def tiff_of(width: int, height: int) -> bytes:
    """Return a TIFF of that size, by its header."""
    data = encoded(Image.new("RGB", (64, 64)), "TIFF")
    for tag, value in ((256, width), (257, height)):
        entry = struct.pack("<HHI", tag, 4, 1)
        old = data.find(struct.pack("<HH", tag, 3))
        at = old if old >= 0 else data.find(entry)
        data = data[:at] + entry + struct.pack("<I", value) + data[at + 12 :]
    return data


def webp_of(width: int, height: int) -> bytes:
    """Return a WebP with a canvas of that size."""
    data = encoded(Image.new("RGBA", (64, 64), (1, 2, 3, 4)), "WEBP", exif=b"Exif\0\0x")
    sizes = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return data[:24] + sizes + data[30:]


def flate(content: bytes, most: int = 1) -> bytes:
    """Return a PDF's object whose content is compressed several times over."""
    for _ in range(most):
        content = zlib.compress(content, 9)
    filters = b"/FlateDecode " * most
    return b"<< /Length %d /Filter [%s] >>\nstream\n%s\nendstream" % (len(content), filters, content)


def nested_forms(depth: int, copies: int) -> bytes:
    """Return a PDF whose page draws a form many times, which draws another one many times, and so on."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        PAGE_WITH_X,
        stream_object(b"/X Do " * copies),
    ]
    for number in range(depth):
        body = b"/X Do " * copies if number < depth - 1 else b"0 0 600 800 re f "
        objects.append(
            b"<< /Type /XObject /Subtype /Form /BBox [0 0 600 800] /Resources << /XObject << /X %d 0 R >> >> "
            b"/Length %d >>\nstream\n%s\nendstream" % (6 + number, len(body), body)
        )
    return pdf(objects)


def pdf_with_image(width: int, height: int) -> bytes:
    """Return a PDF whose page shows an image of that size."""
    image = zlib.compress(bytes(10**6), 9)
    return pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
            PAGE_WITH_X,
            stream_object(b"600 0 0 800 0 0 cm /X Do"),
            b"<< /Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceRGB /BitsPerComponent 8 "
            b"/Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream" % (width, height, len(image), image),
        ]
    )


def film_of(width: int, height: int) -> bytes:
    """Return a film whose frames say that they are of that size."""
    small = film("avi", "mjpeg", [Image.new("RGB", (64, 64))] * 3, lambda one: setattr(one, "pix_fmt", "yuvj420p"))
    out, old = bytearray(small), struct.pack(">HH", 64, 64)
    at = out.find(b"\xff\xc0")
    while at >= 0:
        assert out[at + 5 : at + 9] == old
        out[at + 5 : at + 9] = struct.pack(">HH", height, width)
        at = out.find(b"\xff\xc0", at + 2)
    return bytes(out)


def compressed_text() -> bytes:
    """Return a PNG chunk that holds a comment of 200 MB."""
    body = b"Comment\0\0" + zlib.compress(bytes(200_000_000), 1)
    return struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))


def vast_png() -> bytes:
    """Return a PNG that says that it has as many pixels as its format can say."""
    small = png_of(50, 50, 8, 2, 150)
    head = b"IHDR" + struct.pack(">II", 2**31 - 1, 2**31 - 1) + small[24:29]
    return small[:12] + head + struct.pack(">I", zlib.crc32(head)) + small[33:]


def jpeg_of(edge: int, **options: bool) -> bytes:
    """Return a JPEG that says that it is that large."""
    return with_size(encoded(Image.new("RGB", (64, 64)), "JPEG", **options), edge, edge)


def bmp_of(width: int, height: int) -> bytes:
    """Return a BMP that says that it is that large."""
    small = encoded(Image.new("RGB", (64, 64)), "BMP")
    return small[:18] + struct.pack("<II", width, height) + small[26:]


def drawing(content: bytes) -> bytes:
    """Return a PDF whose page is drawn by what was compressed twice."""
    return pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R >>",
            flate(content, 2),
        ]
    )


def many_objects() -> bytes:
    """Return a PDF of a page and 100,000 objects that nothing needs."""
    more = (b"%d 0 obj << /A [%d] >> endobj\n" % (number, number) for number in range(100, 100_100))
    return pages(["0 0 600 800"]) + b"".join(more)


DASHES = "[0.001 0.001] 0 d 0 0 m " + "600 800 l 0 0 l " * 1000 + "S"
PNG, GIF, JPEG, TIFF, PDF, AVI = (
    *("image/png", "image/gif", "image/jpeg", "image/tiff"),
    *("application/pdf", "video/x-msvideo"),
)
# By name: the type, and what makes the bytes, which takes a while.
BOMBS: Mapping[str, tuple[str, Callable[[], bytes]]] = {
    "PNG, 30,000 pixels each way": (PNG, lambda: png_of(EDGE, EDGE, 1, 0, EDGE // 8)),
    "PNG, as large as is shown, see-through": (PNG, lambda: png_of(7950, 8000, 8, 6, 4 * 7950)),
    "PNG, 2 billion pixels each way": (PNG, vast_png),
    "PNG, an enormous comment": (PNG, lambda: png_of(50, 50, 8, 2, 150, compressed_text())),
    "GIF, 30,000 pixels each way": (GIF, lambda: gif_of(EDGE, EDGE, 1)),
    "GIF, 10,000 frames": (GIF, lambda: gif_of(7000, 7000, 10_000)),
    "JPEG, 65,500 pixels each way": (JPEG, lambda: jpeg_of(65_500)),
    "JPEG, 19,000 pixels each way": (JPEG, lambda: jpeg_of(19_000)),
    "JPEG, progressive": (JPEG, lambda: jpeg_of(19_000, progressive=True)),
    "BMP, 30,000 pixels each way": ("image/bmp", lambda: bmp_of(EDGE, EDGE)),
    "BMP, 4 billion pixels wide": ("image/bmp", lambda: bmp_of(2**32 - 1, 64)),
    "TIFF, 30,000 pixels each way": (TIFF, lambda: tiff_of(EDGE, EDGE)),
    "TIFF, 30,000 pixels each way, all there": (
        TIFF,
        lambda: encoded(Image.new("1", (EDGE, EDGE)), "TIFF", compression="group4"),
    ),
    "WebP, 16,383 pixels each way": ("image/webp", lambda: webp_of(16_383, 16_383)),
    "PDF, 10,000 pages": (PDF, lambda: pages(["0 0 600 800"] * 10_000)),
    "PDF, a huge page": (PDF, lambda: pages(["0 0 1e9 1e9"], "1 0 0 rg 0 0 1e9 1e9 re f")),
    "PDF, 100,000 objects": (PDF, many_objects),
    "PDF, forms in forms": (PDF, lambda: nested_forms(12, 20)),
    "PDF, a huge image": (PDF, lambda: pdf_with_image(EDGE, EDGE)),
    "PDF, 170 MB of drawing": (PDF, lambda: drawing(b"0 0 600 800 re f\n" * 10_000_000)),
    "PDF, a line of billions of dashes": (PDF, lambda: pages(["0 0 600 800"], DASHES)),
    "PDF, arrays in arrays": (PDF, lambda: pdf([b"<< /Type /Catalog /Pages %s >>" % (b"[" * 500_000)])),
    "film, 65,500 pixels each way": (AVI, lambda: film_of(65_500, 65_500)),
    "film, 16,000 pixels each way": (AVI, lambda: film_of(16_000, 16_000)),
}

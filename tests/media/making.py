"""Files of every kind, made by real encoders."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import av
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from PIL import Image

RED, BLUE = (200, 30, 30), (30, 30, 200)


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    """Return an image file."""
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def half_and_half(width: int, height: int) -> Image.Image:
    """Return an image, red on the left and blue on the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def opened(data: bytes) -> Image.Image:
    """Return an image that was decoded."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def near(colour: object, wanted: tuple[int, ...], most: int = 40) -> bool:
    """Tell whether a colour looks like another one."""
    assert isinstance(colour, tuple)
    return all(abs(one - other) <= most for one, other in zip(colour, wanted, strict=True))


def film(
    container_format: str,
    codec: str,
    frames: Sequence[Image.Image],
    set_up: Callable[[VideoStream], None] | None = None,
) -> bytes:
    """Return a film of ten frames a second."""
    file = io.BytesIO()
    with av.open(file, "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=25 if "mpeg2" in codec else 10)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "yuv420p"
        if set_up is not None:
            set_up(stream)
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_image(frame)):  # type: ignore[no-untyped-call]
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return file.getvalue()


def sound(container_format: str, codec: str, seconds: int = 2) -> bytes:
    """Return silence."""
    file = io.BytesIO()
    with av.open(file, "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=48000)
        assert isinstance(stream, AudioStream)
        stream.layout = "mono"
        for number in range(48000 * seconds // 1000):
            frame = av.AudioFrame(format="s16", layout="mono", samples=1000)
            frame.sample_rate = 48000
            frame.time_base = Fraction(1, 48000)
            frame.pts = number * 1000
            frame.planes[0].update(bytes(frame.planes[0].buffer_size))
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return file.getvalue()


def pdf(objects: Sequence[bytes], trailer: bytes = b"") -> bytes:
    """Return a PDF of these objects, of which the first is the catalogue."""
    out = bytearray(b"%PDF-1.7\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for place in places:
        out += b"%010d 00000 n \n" % place
    out += b"trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, start)
    return bytes(out)


def stream_object(content: bytes) -> bytes:
    """Return an object that holds what is drawn on a page."""
    return b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content)


def pages(boxes: Sequence[str], content: str = "", more: str = "") -> bytes:
    """Return a PDF with a page for each MediaBox, all of which show the same."""
    first = 5
    kids = " ".join(f"{first + number} 0 R" for number in range(len(boxes)))
    return pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            f"<< /Type /Pages /Count {len(boxes)} /Kids [{kids}] >>".encode(),
            stream_object(content.encode()),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            *(
                f"<< /Type /Page /Parent 2 0 R /MediaBox [{box}] /Contents 3 0 R {more} "
                "/Resources << /Font << /F 4 0 R >> >> >>".encode()
                for box in boxes
            ),
        ]
    )

"""What a worker and the server say to each other, and how far the server believes it.

Over the line of a job: frames of a kind, a length and a body. Whoever decodes hostile content may have become hostile,
so that everything it says is bounded, and checked before it is used.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from remora_server.core.model import Media
from remora_server.core.ports import Picture

HEAD = struct.Struct(">BI")  # kind, length of the body
LENGTH = struct.Struct(">I")
ASKED = struct.Struct(">QI")  # offset, size
FACTS = struct.Struct(">IIQI")  # width, height, duration, pages; then the blur hash
PICTURE = struct.Struct(">BBII")  # rendition, content type, width, height; then the encoded picture
ENDED = struct.Struct(">iQQ")  # how a child ended: its status, CPU milliseconds, most memory in KiB

READY: Final = b"+"
OUT_OF_MEMORY: Final = 64  # What a child exits with that needed more than it may have.
MOST_READ_BYTES = 1024 * 1024
MOST_PICTURE_BYTES = 8 * 1024 * 1024  # More than a JPEG of noise has; a PNG is never kept that large.
MOST_TEXT_BYTES = 300
MOST_FACTS = (2**31 - 1, 2**31 - 1, 2**53, 2**31 - 1)  # What the contract's fields hold, also as JSON.
RENDITIONS: Mapping[str, int] = MappingProxyType({"PREVIEW": 2048, "THUMBNAIL": 512})  # The longest edge of each.
RENDITION_NAMES = tuple(RENDITIONS)
MAGIC: Mapping[str, bytes] = MappingProxyType({"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG\r\n\x1a\n"})
PICTURE_TYPES = tuple(MAGIC)


class Kind(IntEnum):
    """What a frame of a worker says."""

    READ = 1  # Give me some of the content.
    FACTS = 2  # This much is known; replaces what was said before.
    PICTURE = 3
    REFUSED = 4  # It can't be shown, and why.
    MISSING = 5  # Its decoder is not installed.
    DONE = 6


MOST_BYTES: Mapping[int, int] = MappingProxyType(
    {
        Kind.READ: ASKED.size,
        Kind.FACTS: FACTS.size + MOST_TEXT_BYTES,
        Kind.PICTURE: PICTURE.size + MOST_PICTURE_BYTES,
        Kind.REFUSED: MOST_TEXT_BYTES,
        Kind.MISSING: 0,
        Kind.DONE: 0,
    }
)


class NonsenseError(Exception):
    """A frame that no worker of ours sends."""


def receive(line: socket.socket, size_bytes: int) -> bytes:
    """Return exactly so many bytes; raise EOFError if the other side is gone before."""
    body = bytearray(size_bytes)
    view = memoryview(body)
    while view:
        count = line.recv_into(view)
        if count == 0:
            raise EOFError
        view = view[count:]
    return bytes(body)


def checked_head(head: bytes) -> tuple[Kind, int]:
    """Return the kind and the length of the frame that begins so."""
    number, length = HEAD.unpack(head)
    if length > MOST_BYTES.get(number, -1):
        raise NonsenseError
    return Kind(number), length


def checked_read(body: bytes, size_bytes: int) -> tuple[int, int]:
    """Return the offset and size that a worker asks for, of content of `size_bytes`."""
    if len(body) != ASKED.size:
        raise NonsenseError
    offset, size = ASKED.unpack(body)
    if offset > size_bytes or size > MOST_READ_BYTES:
        raise NonsenseError
    return offset, size


def checked_facts(body: bytes) -> Media:
    """Return the facts that a worker tells."""
    if len(body) < FACTS.size:
        raise NonsenseError
    numbers = FACTS.unpack_from(body)
    if any(one > most for one, most in zip(numbers, MOST_FACTS, strict=True)):
        raise NonsenseError
    width, height, duration_ms, page_count = numbers
    blur_hash = body[FACTS.size :]
    if not blur_hash.isascii() or not blur_hash.decode().isprintable() or len(blur_hash) > 100:  # noqa: PLR2004 - far more than any has
        raise NonsenseError
    return Media(
        width=width, height=height, duration_ms=duration_ms, page_count=page_count, blur_hash=blur_hash.decode()
    )


def checked_picture(body: bytes) -> Picture:
    """Return the rendition that a worker has made; it is at least no other type of file."""
    if len(body) <= PICTURE.size:
        raise NonsenseError
    rendition, content_type, width, height = PICTURE.unpack_from(body)
    if rendition >= len(RENDITION_NAMES) or content_type >= len(PICTURE_TYPES):
        raise NonsenseError
    name, type_name = RENDITION_NAMES[rendition], PICTURE_TYPES[content_type]
    data = body[PICTURE.size :]
    if not (0 < width <= RENDITIONS[name] and 0 < height <= RENDITIONS[name] and data.startswith(MAGIC[type_name])):
        raise NonsenseError
    return Picture(rendition=name, content_type=type_name, width=width, height=height, data=data)


def checked_text(body: bytes) -> str:
    """Return a short sentence on one line."""
    text = body.decode(errors="replace").strip()
    if not text or not text.isprintable():
        raise NonsenseError
    return text

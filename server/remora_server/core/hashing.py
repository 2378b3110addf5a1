"""Digests of bytes as they come, and of those that come in one piece."""

from __future__ import annotations

import hashlib

import google_crc32c

from remora_server.core.intake import Content
from remora_server.core.model import Checksums
from remora_server.core.sniffing import HEAD_BYTES, sniff
from remora_server.core.values import dataclass

# What a camera writes before the size of its picture, such as a small one, fits into this.
GLANCE_BYTES = 256 * 1024


@dataclass(slots=True)
class Hashes:
    """Running digests of the first `size` bytes of an upload."""

    sha256: hashlib._Hash
    md5: hashlib._Hash | None
    crc32c: int = 0
    size: int = 0
    head: bytes = b""  # the first bytes themselves, which tell what they are
    _wanted: int = HEAD_BYTES

    def keep_head(self, data: bytes) -> None:
        """Look at the next bytes: the first ones are kept, of a picture as many as tell how large it is."""
        if len(self.head) >= self._wanted:
            return
        if len(self.head) < HEAD_BYTES <= len(self.head) + len(data) and is_picture(
            self.head + data[: HEAD_BYTES - len(self.head)]
        ):
            self._wanted = GLANCE_BYTES
        self.head += data[: self._wanted - len(self.head)]

    @property
    def detected(self) -> str:
        """The media type of what has come."""
        return sniff(self.head[:HEAD_BYTES])


def new_hashes(*, with_md5: bool) -> Hashes:
    """Start digests of nothing.

    MD5 takes more than twice as long as SHA-256, and no thread count helps one stream. SHA-256 and CRC32C prove an
    upload; so a stream computes MD5 only where its caller declares one.
    """
    return Hashes(hashlib.sha256(), hashlib.md5(usedforsecurity=False) if with_md5 else None)


def measure(data: bytes) -> Content:
    """Compute the digests of bytes that came in one piece."""
    digests = Checksums(
        google_crc32c.value(data), hashlib.md5(data, usedforsecurity=False).digest(), hashlib.sha256(data).digest()
    )
    return Content(digests, len(data), sniff(data[:HEAD_BYTES]))


def is_picture(head: bytes) -> bool:
    """Tell whether content that begins like this is a picture."""
    return sniff(head).startswith("image/")

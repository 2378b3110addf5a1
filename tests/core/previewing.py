"""Whoever decodes and scans, as core sees them: each answers as a test has told it to."""

from __future__ import annotations

from collections.abc import Callable

from remora_server.core.model import Media
from remora_server.core.ports import BlobReader, Look, Picture, Verdict

KINDS = {"image/png": "IMAGE", "application/pdf": "PDF", "audio/flac": "AUDIO"}
PNG = b"\x89PNG\r\n\x1a\n"
THUMBNAIL = Picture("THUMBNAIL", "image/jpeg", 12, 8, b"\xff\xd8\xffsmall")
PREVIEW = Picture("PREVIEW", "image/png", 48, 32, PNG + b"large" * 100)


class Decoder:
    """A Previewer: sees 4800 x 3200 at a glance, and makes two pictures."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes]] = []
        self.measured: Media | None = Media(4800, 3200)
        self.renders: Callable[[BlobReader], Look] = lambda _: Look(
            Media(4800, 3200, "LEHV6nWB2yk8"), (PREVIEW, THUMBNAIL)
        )

    def measure(self, content_type: str, source: BlobReader) -> Media | None:
        """Tell at once."""
        del content_type, source
        return self.measured

    def render(self, content_type: str, source: BlobReader) -> Look:
        """Decode as told."""
        self.seen.append((content_type, source.read(0, source.size_bytes)))
        return self.renders(source)


class Judge:
    """A Scanner: finds what contains EVIL."""

    def __init__(self) -> None:
        self.scans: Callable[[bytes], Verdict] = lambda data: Verdict(b"EVIL" not in data, "Evil.Test")
        self.count = 0

    def scan(self, source: BlobReader) -> Verdict:
        """Judge as told."""
        self.count += 1
        return self.scans(source.read(0, source.size_bytes))

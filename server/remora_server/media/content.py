"""The worker's side of a job: content as a file that is read through the server, and what is answered about it.

So a worker needs neither files nor a network, and content is read alike wherever it is kept.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from remora_server.core.model import Media
from remora_server.media.frames import (
    ASKED,
    FACTS,
    HEAD,
    LENGTH,
    MOST_FACTS,
    MOST_TEXT_BYTES,
    PICTURE,
    PICTURE_TYPES,
    RENDITION_NAMES,
    Kind,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK_BYTES = 256 * 1024  # Asked for at once, since each question is a round trip.
KEPT_BLOCKS = 128  # Decoders jump about in some formats.
BUFFER_BYTES = 32 * 1024  # Between decoders that read byte by byte and us.


class RefusedError(Exception):
    """The content can't be shown, for a reason that its owner may read."""


class MissingError(Exception):
    """What would decode the content is not installed."""


class TooLongError(RefusedError):
    """More of the content was asked for than a job may read."""


class AloneError(BaseException):
    """The server has gone, or no longer wants an answer; nothing in between should take it for damaged content."""


class Report:
    """What is said to the server, over a connected socket."""

    def __init__(self, line: int) -> None:
        self._line = line
        self._known = Media()

    def tell(self, kind: Kind, *parts: bytes) -> None:
        """Send a frame."""
        self._send(HEAD.pack(kind, sum(map(len, parts))), *parts)

    def facts(
        self,
        *,
        width: int | None = None,
        height: int | None = None,
        duration_ms: int | None = None,
        page_count: int | None = None,
        blur_hash: str | None = None,
    ) -> None:
        """Tell what is known, besides what was told before."""
        media = self._known
        self._known = media = Media(
            width=media.width if width is None else width,
            height=media.height if height is None else height,
            duration_ms=media.duration_ms if duration_ms is None else duration_ms,
            page_count=media.page_count if page_count is None else page_count,
            blur_hash=media.blur_hash if blur_hash is None else blur_hash,
        )
        # What content says of itself may be beyond what the contract's fields hold; then it is not known.
        told = (media.width, media.height, media.duration_ms, media.page_count)
        numbers = FACTS.pack(*(one if 0 <= one <= most else 0 for one, most in zip(told, MOST_FACTS, strict=True)))
        self.tell(Kind.FACTS, numbers, media.blur_hash.encode())

    def picture(self, rendition: str, content_type: str, size: tuple[int, int], data: bytes) -> None:
        """Hand over a rendition."""
        head = PICTURE.pack(RENDITION_NAMES.index(rendition), PICTURE_TYPES.index(content_type), *size)
        self.tell(Kind.PICTURE, head, data)

    def refuse(self, reason: str) -> None:
        """Tell why the content can't be shown."""
        self.tell(Kind.REFUSED, reason.encode()[:MOST_TEXT_BYTES])

    def ask(self, offset: int, size: int) -> bytes:
        """Return some of the content."""
        self.tell(Kind.READ, ASKED.pack(offset, size))
        return self._receive(LENGTH.unpack(self._receive(LENGTH.size))[0])

    def _send(self, *parts: bytes) -> None:
        for part in parts:
            view = memoryview(part)
            while view:
                try:
                    view = view[os.write(self._line, view) :]
                except OSError as problem:
                    raise AloneError from problem

    def _receive(self, size: int) -> bytes:
        pieces = []
        while size:
            try:
                piece = os.read(self._line, size)
            except OSError as problem:
                raise AloneError from problem
            if not piece:
                raise AloneError
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)


class Silence(Report):
    """Says nothing to nobody."""

    def __init__(self) -> None:
        super().__init__(-1)

    def tell(self, kind: Kind, *parts: bytes) -> None:
        """Send nothing."""


class Content(io.RawIOBase):
    """The bytes of a job."""

    def __init__(self, report: Report, size_bytes: int, most_bytes: int) -> None:
        super().__init__()
        self._report = report
        self._size_bytes = size_bytes
        self._left_bytes = most_bytes
        self._position = 0
        self._kept: dict[int, bytes] = {}

    @property
    def exhausted(self) -> bool:
        """Tell whether more was asked for than may be; decoders in C lose the error that said so."""
        return self._left_bytes < 0

    def buffered(self) -> io.BufferedReader:
        """Return a file that asks for more than a decoder's small pieces."""
        return io.BufferedReader(self, BUFFER_BYTES)

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read anywhere."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a position; decoders of damaged content ask for some beyond the end, or before the beginning."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}[whence]
        if start + offset < 0:
            raise ValueError
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill some of `buffer`."""
        if self._position >= self._size_bytes:
            return 0
        number, begin = divmod(self._position, BLOCK_BYTES)
        view = memoryview(buffer).cast("B")
        piece = self._block(number)[begin : begin + len(view)]
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def _block(self, number: int) -> bytes:
        block = self._kept.pop(number, None)
        if block is None:
            offset = number * BLOCK_BYTES
            size = min(BLOCK_BYTES, self._size_bytes - offset)
            self._left_bytes -= size
            if self._left_bytes < 0:
                raise TooLongError
            block = self._report.ask(offset, size)
            while len(self._kept) >= KEPT_BLOCKS:
                del self._kept[next(iter(self._kept))]
        self._kept[number] = block  # The newest stands last.
        return block

    def readall(self) -> bytes:
        """Return the rest, in larger pieces than Python's own."""
        pieces = []
        while piece := self.read(BLOCK_BYTES):
            pieces.append(piece)
        return b"".join(pieces)

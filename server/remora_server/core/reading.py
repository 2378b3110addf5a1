"""Reading a file's bytes in order, piece by piece; a file that is read whole is proved against its CRC32C.

The last piece of a damaged file is never handed out, so whoever reads it knows that something is missing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import google_crc32c

from remora_server.core import errors
from remora_server.core.model import File
from remora_server.core.ports import BlobReader

PIECE_BYTES = 1024 * 1024


class BytesReader:
    """Bytes in memory, as a blob store's reader."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""
        return len(self._data)

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes; fewer only at the end."""
        return self._data[offset : offset + size]

    def close(self) -> None:
        """Let go of nothing."""


class Reading:
    """The bytes of a file from `offset` on, `length` of them. `next` and `close` may be called on any thread.

    `damaged` is called if they are not there, or not what they were.
    """

    def __init__(
        self,
        file: File,
        source: BlobReader | bytes,
        offset: int,
        length: int,
        damaged: Callable[[], None] = lambda: None,
    ) -> None:
        self.file = file
        self.offset = offset
        self.length = length
        self._source = source
        self._damaged = damaged
        self._next = offset
        self._end = offset + length
        self._crc32c = 0
        self._lock = threading.Lock()
        self._is_closed = False
        self._is_whole = length == file.size_bytes

    @property
    def needs_closing(self) -> bool:
        """Whether there is anything to let go of."""
        return not isinstance(self._source, bytes)

    def next(self) -> tuple[int, bytes, int]:
        """Return the offset, the bytes and the CRC32C of the next piece; no bytes at the end, or after `close`."""
        with self._lock:
            if self._is_closed or self._next == self._end:
                return self._next, b"", 0
            try:
                return self._read()
            except errors.StoredContentCorruptError:
                self._damaged()
                raise

    def close(self) -> None:
        """Let go of the bytes, after the piece that is being read just now."""
        with self._lock:
            self._is_closed = True
            if not isinstance(self._source, bytes):
                self._source.close()

    def _read(self) -> tuple[int, bytes, int]:
        offset, wanted = self._next, min(PIECE_BYTES, self._end - self._next)
        source = self._source
        data = source[offset : offset + wanted] if isinstance(source, bytes) else source.read(offset, wanted)
        if len(data) != wanted:
            raise errors.StoredContentCorruptError
        crc32c = google_crc32c.value(data)
        self._next += wanted
        if self._is_whole:
            self._crc32c = google_crc32c.extend(self._crc32c, data) if offset else crc32c
            if self._next == self._end and self._crc32c != self.file.checksums.crc32c:
                raise errors.StoredContentCorruptError
        return offset, data, crc32c

"""Where the bytes of an upload come from: files and other things that can be read twice, and pipes, which cannot."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import google_crc32c

from remora.errors import SourceChangedError

READ_BYTES = 1 << 20
WINDOW_BYTES = (32 << 20) + (2 << 20)  # What may be unacknowledged, and a chunk.
SLOW_SECONDS = 2.0  # A pipe that gives less than was asked for is not waited for any longer.


@dataclass(frozen=True, slots=True)
class Digests:
    """Digests of a whole content."""

    sha256: bytes
    crc32c: int


def never() -> bool:
    """Give no reason to stop."""
    return False


class Source(Protocol):
    """Bytes to upload."""

    rereadable: bool

    @property
    def size_bytes(self) -> int | None:
        """Give the size, as soon as it is known."""
        ...

    @property
    def digests(self) -> Digests | None:
        """Give the digests of the whole, as soon as they are known."""
        ...

    def read_at(self, offset: int, size: int, stopped: Callable[[], bool] = never) -> bytes:
        """Read up to `size` bytes; nothing at the end, or when `stopped` says so and `wake` was called."""
        ...

    def prefix_crc32c(self, size: int) -> int | None:
        """Give the crc32c of the first `size` bytes; None if there are fewer."""
        ...

    def release(self, size: int) -> None:
        """Take note that the first `size` bytes will not be asked for again."""
        ...

    def wake(self) -> None:
        """End a `read_at` that waits."""
        ...

    def check(self) -> None:
        """Raise if the bytes are no longer those that were there at first."""
        ...

    def close(self) -> None:
        """Close what was opened."""
        ...


class SeekableSource:
    """Something that can be read again from any place; it begins where it stands now."""

    rereadable = True

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._start = stream.tell()
        self._size = stream.seek(0, os.SEEK_END) - self._start
        self._lock = threading.Lock()  # Between the seek and the read.
        self._known = (0, 0)  # A size, and the crc32c of that many first bytes.
        self.digests: Digests | None = None  # What `measure` found, or someone else who knew.

    @property
    def size_bytes(self) -> int:
        """Give the size."""
        return self._size

    def measure(self, on_read: Callable[[int], object]) -> None:
        """Read everything once to find its digests."""
        sha256, crc32c, offset = hashlib.sha256(), 0, 0
        while data := self.read_at(offset, READ_BYTES):
            sha256.update(data)
            crc32c = google_crc32c.extend(crc32c, data)
            offset += len(data)
            on_read(offset)
        self.check()
        self.digests = Digests(sha256.digest(), crc32c)

    def read_at(self, offset: int, size: int, stopped: Callable[[], bool] = never) -> bytes:  # noqa: ARG002
        """Read up to `size` bytes."""
        size = min(size, self._size - offset)
        with self._lock:
            self._stream.seek(self._start + offset)
            data = self._stream.read(size)
            while 0 < len(data) < size and (more := self._stream.read(size - len(data))):
                data += more  # Unbuffered reads may be short.
        if len(data) < size:
            raise SourceChangedError("the file became shorter while it was read; upload it again.")
        return data

    def prefix_crc32c(self, size: int) -> int | None:
        """Give the crc32c of the first `size` bytes, by reading those not read for this before."""
        if size > self._size:
            return None
        offset, crc32c = self._known if self._known[0] <= size else (0, 0)
        while offset < size:
            data = self.read_at(offset, min(READ_BYTES, size - offset))
            crc32c = google_crc32c.extend(crc32c, data)
            offset += len(data)
        self._known = (size, crc32c)
        return crc32c

    def release(self, size: int) -> None:
        """Ignore it: everything can be read again."""

    def wake(self) -> None:
        """Ignore it: reads do not wait."""

    def check(self) -> None:
        """Trust the stream."""

    def close(self) -> None:
        """Leave the stream open; it is its giver's."""


class FileSource(SeekableSource):
    """A regular file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb", buffering=0)
        super().__init__(self._file)
        self.stat = os.fstat(self._file.fileno())

    def check(self) -> None:
        """Raise if the file was written to since it was opened."""
        now = os.fstat(self._file.fileno())
        if (now.st_size, now.st_mtime_ns) != (self.stat.st_size, self.stat.st_mtime_ns):
            raise SourceChangedError(
                f"{self.path.name} changed while it was read; upload it again when it is complete."
            )

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class PipeSource:
    """Something that can be read once only: what was read is kept until the server has stored it."""

    rereadable = False

    def __init__(self, stream: BinaryIO) -> None:
        self._read = getattr(stream, "read1", stream.read)
        self._changed = threading.Condition()
        self._kept = bytearray()
        self._start = 0  # The place of the first byte kept.
        self._start_crc32c = 0  # The crc32c of everything before it.
        self._sha256 = hashlib.sha256()
        self._crc32c = 0
        self._ended = self._closed = False
        self._failure: OSError | ValueError | None = None
        # A read of a pipe can't be interrupted: it gets a thread that nobody has to wait for.
        threading.Thread(target=self._pump, name="remora-pipe", daemon=True).start()

    @property
    def size_bytes(self) -> int | None:
        """Give the size, once the end was reached."""
        with self._changed:
            return self._start + len(self._kept) if self._ended else None

    @property
    def digests(self) -> Digests | None:
        """Give the digests, once the end was reached."""
        with self._changed:
            return Digests(self._sha256.digest(), self._crc32c) if self._ended else None

    def read_at(self, offset: int, size: int, stopped: Callable[[], bool] = never) -> bytes:
        """Read up to `size` bytes, fewer only at the end or if no more come for a while."""
        with self._changed:
            begin = offset - self._start
            self._changed.wait_for(lambda: stopped() or self._over() or len(self._kept) >= begin + size, SLOW_SECONDS)
            self._changed.wait_for(lambda: stopped() or self._over() or len(self._kept) > begin)
            if self._failure is not None:
                raise self._failure
            with memoryview(self._kept) as kept:
                return bytes(kept[begin : begin + size])

    def prefix_crc32c(self, size: int) -> int | None:
        """Give the crc32c of the first `size` bytes, which must not all have been released."""
        with self._changed, memoryview(self._kept) as kept:
            if not 0 <= size - self._start <= len(kept):
                return None
            return int(google_crc32c.extend(self._start_crc32c, bytes(kept[: size - self._start])))

    def release(self, size: int) -> None:
        """Forget the first `size` bytes."""
        with self._changed:
            count = min(size - self._start, len(self._kept))
            if count <= 0:
                return
            with memoryview(self._kept) as kept:
                self._start_crc32c = google_crc32c.extend(self._start_crc32c, bytes(kept[:count]))
            del self._kept[:count]
            self._start += count
            self._changed.notify_all()

    def wake(self) -> None:
        """End a `read_at` that waits."""
        with self._changed:
            self._changed.notify_all()

    def check(self) -> None:
        """Trust the pipe."""

    def close(self) -> None:
        """Let the reading thread end; the pipe itself is its giver's."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _over(self) -> bool:
        return self._ended or self._closed or self._failure is not None

    def _pump(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or len(self._kept) < WINDOW_BYTES)
                if self._closed:
                    return
            try:
                data = self._read(READ_BYTES)
            except (OSError, ValueError) as error:  # ValueError: someone closed it.
                with self._changed:
                    self._failure = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._sha256.update(data)
                self._crc32c = google_crc32c.extend(self._crc32c, data)
                self._kept += data
                self._ended = not data
                self._changed.notify_all()
            if not data:
                return

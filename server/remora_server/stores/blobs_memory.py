"""Blobs in memory: for tests and trials. It keeps the same promises as the others, except that nothing survives it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from remora_server.core.errors import StorageUnavailableError, StoredContentCorruptError, WriterFencedError
from remora_server.core.model import Checksums
from remora_server.core.ports import BlobReader, Staged, Stored


class MemoryBlobs:
    """A blob store that forgets."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._staged: dict[str, _Bytes] = {}
        self._blobs: dict[str, _Bytes] = {}
        self._epochs: dict[str, int] = {}
        self._owner = ""

    def stage(self, name: str, keep_bytes: int, epoch: int = 0) -> Staged:
        """Open staged bytes for appending after the first `keep_bytes`; what lies behind them is dropped.

        Raise StoredContentCorruptError if fewer than `keep_bytes` are there, WriterFencedError if a writer of a higher
        epoch was here. Bytes that a crash left committed under this name, without a row, are taken back.
        """
        with self._lock:
            if self._epochs.setdefault(name, epoch) > epoch:
                raise WriterFencedError(self._epochs[name])
            self._epochs[name] = epoch
            if keep_bytes and name not in self._staged and name in self._blobs:
                self._staged[name] = self._blobs.pop(name)
            held = self._staged.get(name) or _Bytes(bytearray())
            if held.size_bytes < keep_bytes:
                raise StoredContentCorruptError
            held.close()  # A writer that was replaced changes nothing any more.
            staged = self._staged[name] = _Bytes(held.data[:keep_bytes])
            return staged

    def commit(self, name: str, content: Checksums, size_bytes: int, epoch: int = 0) -> str:  # noqa: ARG002 - whoever wrote the bytes hashed them.
        """Turn synced staged bytes into a blob, durably; return its location. Repeating it is harmless."""
        with self._lock:
            if self._epochs.get(name) != epoch:
                raise StoredContentCorruptError
            if name in self._staged:
                self._blobs[name] = self._staged.pop(name)
                self._blobs[name].close()
            elif name not in self._blobs:
                raise StoredContentCorruptError
        return name

    def land(self, name: str, epoch: int) -> bool:
        """Turn synced staged bytes into what `arrived` finds; False if something has arrived before."""
        with self._lock:
            if name in self._blobs:
                return False
            if self._epochs.get(name) != epoch or name not in self._staged:
                raise WriterFencedError(epoch + 1)
            self._blobs[name] = self._staged.pop(name)
            self._blobs[name].close()
        return True

    def arrived(self, name: str) -> Stored | None:
        """Return the blob that came whole under a name without us; None if there is none."""
        with self._lock:
            held = self._blobs.get(name)
        return None if held is None else Stored(name, name, held.size_bytes, held.modify_time)

    def put(self, name: str, data: bytes) -> str:
        """Keep bytes that came in one piece as a blob, durably, without staging; return its location."""
        with self._lock:
            self._blobs[name] = _Bytes(bytearray(data))
        return name

    def discard(self, name: str, *, arrived: bool = False) -> None:
        """Remove staged bytes, if there are any; with `arrived` also a blob of this name, which no row may name."""
        with self._lock:
            self._staged.pop(name, None)
            if arrived:
                self._blobs.pop(name, None)
            self._epochs.pop(name, None)

    def open(self, location: str) -> BlobReader:
        """Open a blob; raise StoredContentCorruptError if it is gone."""
        with self._lock:
            found = self._blobs.get(location)
        if found is None:
            raise StoredContentCorruptError
        return found

    def delete(self, location: str) -> None:
        """Remove a blob, if it is there."""
        with self._lock:
            self._blobs.pop(location, None)

    def owner(self) -> str:
        """Return the identity of the database that this store belongs to; empty if it was not claimed."""
        return self._owner

    def claim(self, store_id: str) -> str:
        """Note the database that this store belongs to, unless there is one; return which it is now."""
        with self._lock:
            self._owner = self._owner or store_id
        return self._owner

    def list_blobs(self) -> Iterator[Stored]:
        """Walk over everything committed."""
        with self._lock:
            found = list(self._blobs.items())
        for name, held in found:
            yield Stored(name, name, held.size_bytes, held.modify_time)

    def list_staged(self) -> Iterator[Stored]:
        """Walk over everything staged."""
        with self._lock:
            found = list(self._staged.items())
        for name, held in found:
            yield Stored(name, "", held.size_bytes, held.modify_time)

    def probe(self) -> None:
        """Do nothing: memory always answers."""


class _Bytes:
    """Bytes that can be written and read."""

    def __init__(self, data: bytearray) -> None:
        self.data = data
        self._is_open = True
        self.modify_time = _now()

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""
        return len(self.data)

    def write(self, data: bytes) -> None:
        """Append."""
        if not self._is_open:
            raise StorageUnavailableError
        self.data += data
        self.modify_time = _now()

    def sync(self) -> None:
        """Do nothing: memory is as durable as it gets."""

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes; fewer only at the end."""
        return bytes(self.data[offset : offset + size])

    def close(self) -> None:
        """End writing; reading goes on."""
        self._is_open = False


def _now() -> int:
    return time.time_ns() // 1000

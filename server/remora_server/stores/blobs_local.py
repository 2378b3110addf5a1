"""Blobs as files of a local directory: `staging/<name>` while they grow, `blobs/<last two characters>/<name>` after.

Names are ids that core made; anything else is refused, so no path is ever derived from what a caller sent. A name in a
directory is durable once the directory itself is synced, which is why every rename here ends with that.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakValueDictionary

from remora_server.core.errors import StoredContentCorruptError
from remora_server.core.model import Checksums
from remora_server.core.ports import BlobReader, Staged, Stored
from remora_server.stores.staged_file import StagedFile, os_errors, read_at

NAME = re.compile(r"[a-z]{3}_[0-7][0-9a-hjkmnp-tv-z]{25}")
NANOS_IN_A_MICRO = 1000


class LocalBlobs:
    """A blob store in the directory `root`, which is made if it is missing."""

    def __init__(self, root: Path) -> None:
        self._staging = root / "staging"
        self._blobs = root / "blobs"
        self._lock = threading.Lock()
        self._writers: WeakValueDictionary[str, StagedFile] = WeakValueDictionary()
        with os_errors():
            for folder in (root, self._staging, self._blobs):
                _make_folder(folder)
            _sync_folder(self._blobs)  # Its entries may be from just before a crash.
            self._shelves = {entry.name for entry in os.scandir(self._blobs)}

    def stage(self, name: str, keep_bytes: int) -> Staged:
        """Open staged bytes for appending after the first `keep_bytes`; what lies behind them is dropped.

        Raise StoredContentCorruptError if fewer than `keep_bytes` are there. Bytes that a crash left committed under
        this name, without a row, are taken back.
        """
        path, blob = self._staged_path(name), self._blob_path(name)
        self._end_writer(name)
        with os_errors():
            if not path.exists() and blob.exists():
                blob.rename(path)
                _sync_folder(path.parent)
                _sync_folder(blob.parent)
            size_bytes = path.stat().st_size if path.exists() else 0
            if size_bytes < keep_bytes:
                raise StoredContentCorruptError
            staged = StagedFile(path, keep_bytes)
            try:
                _sync_folder(path.parent)
            except BaseException:
                staged.close()
                raise
        self._writers[name] = staged
        return staged

    def commit(self, name: str, content: Checksums, size_bytes: int) -> str:  # noqa: ARG002 - whoever wrote the bytes hashed them.
        """Turn synced staged bytes into a blob, durably; return its location. Repeating it is harmless."""
        path, blob = self._staged_path(name), self._blob_path(name)
        self._end_writer(name)
        with os_errors():
            self._make_shelf(blob.parent)
            try:
                path.rename(blob)
            except FileNotFoundError:
                if not blob.exists():
                    raise StoredContentCorruptError from None
            # Also when it was renamed before: that may have been just ahead of a crash.
            _sync_folder(blob.parent)
            _sync_folder(path.parent)
        return name

    def arrived(self, name: str) -> Stored | None:
        """Return the blob that came whole under a name without us; None if there is none."""
        with os_errors():
            try:
                status = self._blob_path(name).stat()
            except FileNotFoundError:
                return None
        return Stored(name, name, status.st_size, status.st_mtime_ns // NANOS_IN_A_MICRO)

    def put(self, name: str, data: bytes) -> str:
        """Keep bytes that came in one piece as a blob, durably, without staging; return its location."""
        blob = self._blob_path(name)
        with os_errors():
            self._make_shelf(blob.parent)
            descriptor = os.open(blob, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                os.fdatasync(descriptor)
            except BaseException:
                blob.unlink(missing_ok=True)
                raise
            finally:
                os.close(descriptor)
            _sync_folder(blob.parent)
        return name

    def discard(self, name: str, *, arrived: bool = False) -> None:
        """Remove staged bytes, if there are any; with `arrived` also a blob of this name, which no row may name."""
        with os_errors():
            self._staged_path(name).unlink(missing_ok=True)
            if arrived:
                self._blob_path(name).unlink(missing_ok=True)

    def open(self, location: str) -> BlobReader:
        """Open a blob; raise StoredContentCorruptError if it is gone."""
        with os_errors():
            try:
                descriptor = os.open(self._blob_path(location), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise StoredContentCorruptError from None
        return _FileReader(descriptor)

    def delete(self, location: str) -> None:
        """Remove a blob, if it is there."""
        with os_errors():
            self._blob_path(location).unlink(missing_ok=True)

    def list_blobs(self) -> Iterator[Stored]:
        """Walk over everything committed."""
        with os_errors(), os.scandir(self._blobs) as shelves:
            for shelf in shelves:
                if shelf.is_dir(follow_symlinks=False):
                    yield from _list_folder(shelf.path, committed=True)

    def list_staged(self) -> Iterator[Stored]:
        """Walk over everything staged."""
        with os_errors():
            yield from _list_folder(str(self._staging), committed=False)

    def _end_writer(self, name: str) -> None:
        """Close what is still open under a name: a writer that was replaced must not write into another's bytes."""
        writer = self._writers.pop(name, None)
        if writer is not None:
            writer.close()

    def _staged_path(self, name: str) -> Path:
        return self._staging / _checked(name)

    def _blob_path(self, name: str) -> Path:
        # The last characters of an id are random, the first ones a time: these spread over 1024 directories.
        return self._blobs / _checked(name)[-2:] / name

    def _make_shelf(self, shelf: Path) -> None:
        if shelf.name in self._shelves:
            return
        with self._lock:
            _make_folder(shelf)
            self._shelves.add(shelf.name)


class _FileReader:
    """The bytes of a blob's file; several threads may read at once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size_bytes = os.fstat(descriptor).st_size
        self._is_open = True

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""
        return self._size_bytes

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes; fewer only at the end."""
        with os_errors():
            return read_at(self._descriptor, offset, size)

    def close(self) -> None:
        """Let go of it."""
        if self._is_open:
            self._is_open = False
            os.close(self._descriptor)


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError("not the name of a blob")
    return name


def _make_folder(folder: Path) -> None:
    """Make a directory, and its entry in the one above durable."""
    if folder.is_dir():
        return
    missing = [folder, *(parent for parent in folder.parents if not parent.exists())]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(one.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _list_folder(folder: str, *, committed: bool) -> Iterator[Stored]:
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            if not NAME.fullmatch(entry.name):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # Committed or removed while we walked.
            location = entry.name if committed else ""
            yield Stored(entry.name, location, status.st_size, status.st_mtime_ns // NANOS_IN_A_MICRO)

"""Blobs as files of a local directory: `staging/` while they grow, `blobs/` after.

Names are ids that core made; anything else is refused, so no path is ever derived from what a caller sent. Every rename
here ends with a sync of the directories, which is what makes it durable. Several servers may share the directory;
`store-id` in it says which database they belong to.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from weakref import WeakValueDictionary

from remora_server.core.errors import StoredContentCorruptError, WriterFencedError
from remora_server.core.model import Checksums
from remora_server.core.ports import BlobReader, Staged, Stored
from remora_server.stores.shelves import Shelves, make_folder, sync_folder
from remora_server.stores.staged_file import StagedFile, os_errors, read_at
from remora_server.stores.staging import Staging

LOCATION = re.compile(r"([^.]*)(?:\.([1-9][0-9]*))?")
NANOS_IN_A_MICRO = 1000
ONE_NAME = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
MARKER = "store-id"


class LocalBlobs:
    """A blob store in the directory `root`, which is made if it is missing."""

    def __init__(self, root: Path) -> None:
        self._marker = root / MARKER
        self._writers: WeakValueDictionary[str, StagedFile] = WeakValueDictionary()
        self._root = root
        with os_errors():
            make_folder(root)
            self._blobs = Shelves(root / "blobs")
            self._staging = Staging(root / "staging", self._blobs.path)

    def stage(self, name: str, keep_bytes: int, epoch: int = 0) -> Staged:
        """Open staged bytes for appending after the first `keep_bytes`; what lies behind them is dropped.

        Raise StoredContentCorruptError if fewer than `keep_bytes` are there, WriterFencedError if a writer of a higher
        epoch was here. Bytes that a crash left committed under this name, without a row, are taken back.
        """
        self._end_writer(name)
        with os_errors():
            descriptor = self._staging.take(name, epoch, keep_bytes)
            staged = StagedFile(self._staging.path(name, epoch), descriptor, keep_bytes)
        self._writers[name] = staged
        return staged

    def commit(self, name: str, content: Checksums, size_bytes: int, epoch: int = 0) -> str:  # noqa: ARG002 - whoever wrote the bytes hashed them.
        """Turn synced staged bytes into a blob, durably; return its location. Repeating it is harmless."""
        path, blob = self._staging.path(name, epoch), self._blobs.path(name, epoch)
        self._end_writer(name)
        with os_errors():
            self._blobs.make_shelf(name)
            try:
                path.rename(blob)
            except FileNotFoundError:
                if not blob.exists():
                    raise StoredContentCorruptError from None
            # Also when it was renamed before: that may have been just ahead of a crash.
            sync_folder(blob.parent)
            if path.parent.exists():
                sync_folder(path.parent)
        return blob.name

    def land(self, name: str, epoch: int) -> bool:
        """Turn synced staged bytes into what `arrived` finds, durably; False if something has arrived before."""
        path, blob = self._staging.path(name, epoch), self._blobs.path(name)
        self._end_writer(name)
        with os_errors():
            self._blobs.make_shelf(name)
            try:
                _create(blob, path)
            except FileExistsError:
                return False
            except FileNotFoundError:
                raise WriterFencedError(epoch + 1) from None
            sync_folder(blob.parent)
            path.unlink(missing_ok=True)
        return True

    def arrived(self, name: str) -> Stored | None:
        """Return the blob that came whole under a name without us; None if there is none."""
        with os_errors():
            try:
                status = self._blobs.path(name).stat()
            except FileNotFoundError:
                return None
        return Stored(name, name, status.st_size, status.st_mtime_ns // NANOS_IN_A_MICRO)

    def put(self, name: str, data: bytes) -> str:
        """Keep bytes that came in one piece as a blob, durably, without staging; return its location."""
        blob = self._blobs.path(name)
        with os_errors():
            self._blobs.make_shelf(name)
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
            sync_folder(blob.parent)
        return name

    def discard(self, name: str, *, arrived: bool = False) -> None:
        """Remove staged bytes, if there are any; with `arrived` also a blob of this name, which no row may name."""
        with os_errors():
            self._staging.discard(name)
            if arrived:
                self._blobs.path(name).unlink(missing_ok=True)

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

    def owner(self) -> str:
        """Return the identity of the database that this store belongs to, by its marker; empty if there is none."""
        with os_errors():
            try:
                return self._marker.read_text().strip()
            except FileNotFoundError:
                return ""

    def claim(self, store_id: str) -> str:
        """Leave a marker for this database, unless there is one; return whom the store belongs to now."""
        draft = self._marker.with_name(f".{MARKER}.{secrets.token_hex(4)}")
        with os_errors():
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.write(f"{store_id}\n")
                    file.flush()
                    os.fsync(file.fileno())
                # Linked into place: of several that claim it at once, all read the first one's, and read it whole.
                with suppress(FileExistsError):
                    self._marker.hardlink_to(draft)
            finally:
                draft.unlink()
            sync_folder(self._marker.parent)
        return self.owner()

    def list_blobs(self) -> Iterator[Stored]:
        """Walk over everything committed."""
        with os_errors():
            for entry, found in self._blobs.walk():
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # Removed while we walked.
                yield Stored(found[1], entry.name, status.st_size, status.st_mtime_ns // NANOS_IN_A_MICRO)

    def list_staged(self) -> Iterator[Stored]:
        """Walk over everything staged."""
        with os_errors():
            for name, status in self._staging.walk():
                yield Stored(name, "", status.st_size, status.st_mtime_ns // NANOS_IN_A_MICRO)

    def probe(self) -> None:
        """Raise StorageUnavailableError unless the directory is there."""
        with os_errors():
            self._root.stat()

    def _end_writer(self, name: str) -> None:
        """Close what is still open under a name: a writer that was replaced must not write into another's bytes."""
        writer = self._writers.pop(name, None)
        if writer is not None:
            writer.close()

    def _blob_path(self, location: str) -> Path:
        found = LOCATION.fullmatch(location)
        return self._blobs.path(found[1], int(found[2] or 0)) if found else self._blobs.path(location)


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


def _create(blob: Path, path: Path) -> None:
    """Give a file a second name; raise FileExistsError if that is taken.

    Unlike a rename, this never replaces what another server may have put there this very moment. Where a file system
    knows only one name for a file, a look has to do, which in one process is as good.
    """
    try:
        blob.hardlink_to(path)
    except OSError as error:
        if error.errno not in ONE_NAME:
            raise
        if blob.exists():
            raise FileExistsError from None
        path.rename(blob)

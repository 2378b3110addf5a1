"""Where bytes lie while they grow, and who of several servers may write them: `<last two characters>/<name>.<epoch>`.

The epoch is that of the one writer whom the database lets in. A later writer takes the bytes over by renaming them to
its own epoch, which succeeds once: from then on an earlier one finds nothing under its path, and nobody ever touches
what has a higher epoch. An earlier writer may still hold the file open, on another server even; it keeps a lock while
it does, and lets go when it learns that it was overtaken. If it doesn't, because it is stopped, say, the kept bytes are
copied, and it may write into the old ones as long as it likes.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from remora_server.core.errors import StoredContentCorruptError, WriterFencedError
from remora_server.stores.shelves import Shelves, sync_folder

LET_GO_SECONDS = 5.0  # An earlier writer looks about every second whether it was overtaken.
POLL_SECONDS = 0.02
COPY_BYTES = 8 * 1024 * 1024
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})

log = logging.getLogger(__name__)


class Staging:
    """Bytes that grow under `root`. `committed` tells where those of a name and epoch would lie when finished."""

    def __init__(self, root: Path, committed: Callable[[str, int], Path]) -> None:
        self._shelves = Shelves(root)
        self._committed = committed

    def path(self, name: str, epoch: int) -> Path:
        """Return the file of one writer."""
        return self._shelves.path(name, epoch)

    def take(self, name: str, epoch: int, keep_bytes: int) -> int:
        """Open the file of this writer, with at least the first `keep_bytes` of earlier ones, for it alone.

        Raise WriterFencedError if a later writer was here, StoredContentCorruptError if bytes are missing.
        """
        path = self.path(name, epoch)
        self._shelves.make_shelf(name)
        if keep_bytes:
            self._take_over(name, epoch)
            descriptor = _open_alone(path, epoch, keep_bytes)
        else:
            self._newest(name, epoch)
            descriptor = _open_new(path)
        self._remove(name, lambda other: other < epoch)
        return descriptor

    def discard(self, name: str) -> None:
        """Remove everything under a name; whoever has it open writes into nothing."""
        self._remove(name, lambda _: True)

    def walk(self) -> Iterator[tuple[str, os.stat_result]]:
        """Find every file here, by the name that it belongs to."""
        for entry, found in self._shelves.walk():
            try:
                yield found[1], entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # Committed or removed while we walked.

    def _take_over(self, name: str, epoch: int) -> None:
        """Bring the newest bytes of earlier writers under this one's path, also those that a crash left committed."""
        path = self.path(name, epoch)
        while True:
            newest = self._newest(name, epoch)
            committed = (self._committed(name, one) for one in range(epoch, newest, -1))
            source = next((one for one in committed if one.exists()), self.path(name, newest) if newest >= 0 else None)
            if source is None:
                raise StoredContentCorruptError
            if source == path:
                return
            try:
                source.rename(path)
            except FileNotFoundError:
                continue  # Its own writer has committed it, or another one has taken it over, this very moment.
            if source.parent != path.parent:
                sync_folder(path.parent)
                sync_folder(source.parent)
            return

    def _newest(self, name: str, epoch: int) -> int:
        """Return the epoch of the last writer that was here, -1 for none; raise if it is above this one."""
        newest = max((int(found[2] or 0) for _, found in self._shelves.of(name) if not found[3]), default=-1)
        if newest > epoch:
            raise WriterFencedError(newest)
        return newest

    def _remove(self, name: str, wanted: Callable[[int], bool]) -> None:
        for entry, found in self._shelves.of(name):
            if wanted(int(found[2] or 0)):
                Path(entry.path).unlink(missing_ok=True)


def is_at(descriptor: int, path: Path) -> bool:
    """Tell whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _open_new(path: Path) -> int:
    """Begin anew: with nothing to keep there is nobody to wait for."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with ExitStack() as undo:
        undo.callback(os.close, descriptor)
        _lock(descriptor)
        sync_folder(path.parent)
        undo.pop_all()
    return descriptor


def _open_alone(path: Path, epoch: int, keep_bytes: int) -> int:
    """Open what earlier writers wrote, once they have let go of it, or else a copy of what is kept of it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise WriterFencedError(epoch + 1) from None
    with ExitStack() as undo:
        undo.callback(os.close, descriptor)
        if os.fstat(descriptor).st_size < keep_bytes:
            raise StoredContentCorruptError
        if _lock_patiently(descriptor):
            if not is_at(descriptor, path):
                # While we waited, a later writer took over, and may have added to these very bytes since.
                raise WriterFencedError(epoch + 1)
            undo.pop_all()
            return descriptor
        log.warning("an earlier writer of %s may not have stopped; %d bytes are copied", path.name, keep_bytes)
        return _copy(descriptor, path, epoch, keep_bytes)


def _lock(descriptor: int) -> bool | None:
    """Lock a file against other writers, until it is closed; None where the file system knows no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    return True


def _lock_patiently(descriptor: int) -> bool:
    until = time.monotonic() + LET_GO_SECONDS
    while (locked := _lock(descriptor)) is False and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
    return bool(locked)


def _copy(descriptor: int, path: Path, epoch: int, size_bytes: int) -> int:
    """Copy the first bytes of a file to a new one, locked and durable, in its place; return that, open."""
    part = path.with_name(f"{path.name}.part")
    copy = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with ExitStack() as undo:
        undo.callback(os.close, copy)
        undo.callback(part.unlink, missing_ok=True)
        _lock(copy)
        done = 0
        while done < size_bytes:
            data = os.pread(descriptor, min(COPY_BYTES, size_bytes - done), done)
            if not data:
                raise StoredContentCorruptError
            done += os.pwrite(copy, data, done)
        os.fsync(copy)
        try:
            part.rename(path)
        except FileNotFoundError:
            raise WriterFencedError(epoch + 1) from None
        sync_folder(path.parent)
        undo.pop_all()
    return copy

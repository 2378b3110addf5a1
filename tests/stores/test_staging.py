"""One directory under several servers: two stores here, which share nothing but the directory."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from remora_server.core.errors import StorageFullError, StoredContentCorruptError, WriterFencedError
from remora_server.core.ports import Staged
from remora_server.stores import staging
from remora_server.stores.blobs_local import LocalBlobs
from tests.stores.blob_contract import MIB, commit, content, get, name

DATA = content(4 * MIB + 5)


@pytest.fixture
def here(tmp_path: Path) -> LocalBlobs:
    """Make the store of one server."""
    return LocalBlobs(tmp_path)


@pytest.fixture
def there(tmp_path: Path) -> LocalBlobs:
    """Make the store of another."""
    return LocalBlobs(tmp_path)


def write(staged: Staged, data: bytes) -> None:
    """Write and sync."""
    staged.write(data)
    staged.sync()


def files(root: Path) -> list[str]:
    """Name everything that lies in the store."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_bytes_change_hands(here: LocalBlobs, there: LocalBlobs, tmp_path: Path) -> None:
    """What one server has let go of, the other continues in place, and the first again."""
    one = name()
    inodes = set()
    for epoch, (blobs, start, end) in enumerate([(here, 0, 10), (there, 10, MIB + 9), (here, MIB + 9, len(DATA))], 1):
        staged = blobs.stage(one, start, epoch)
        write(staged, DATA[start:end])
        staged.close()
        assert files(tmp_path) == [f"staging/{one[-2:]}/{one}.{epoch}"]
        inodes.add((tmp_path / files(tmp_path)[0]).stat().st_ino)
    assert len(inodes) == 1
    location = commit(here, one, DATA, epoch=3)
    assert get(there, location) == DATA
    assert files(tmp_path) == [f"blobs/{one[-2:]}/{location}"]


@pytest.mark.parametrize(
    ("kept", "sent"), [(0, 7), (7, 7), (7, MIB), (MIB, MIB), (MIB, 2 * MIB + 1), (2 * MIB + 1, 2 * MIB + 1)]
)
def test_a_writer_that_does_not_let_go(
    here: LocalBlobs, there: LocalBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int, sent: int
) -> None:
    """It may write for ever: not one of its bytes comes into what the next writer makes of the kept ones."""
    monkeypatch.setattr(staging, "LET_GO_SECONDS", 0.05)
    one = name()
    stopped = here.stage(one, 0, 1)
    write(stopped, DATA[:sent])
    staged = there.stage(one, kept, 2)
    write(stopped, b"x" * (2 * MIB + 3))
    write(staged, DATA[kept : 3 * MIB])
    write(stopped, b"y" * (2 * MIB))
    write(staged, DATA[3 * MIB :])
    write(stopped, b"z" * MIB)
    staged.close()
    location = commit(there, one, DATA, epoch=2)
    stopped.close()
    with pytest.raises(StoredContentCorruptError):
        commit(here, one, DATA, epoch=1)
    assert get(here, location) == DATA
    assert files(tmp_path) == [f"blobs/{one[-2:]}/{location}"]


def test_a_writer_that_lets_go_is_waited_for(here: LocalBlobs, there: LocalBlobs, tmp_path: Path) -> None:
    """Nothing is copied then: it may be gigabytes."""
    one = name()
    first = here.stage(one, 0, 1)
    write(first, DATA[:MIB])
    inode = (tmp_path / files(tmp_path)[0]).stat().st_ino
    letting_go = threading.Timer(0.2, first.close)
    letting_go.start()
    staged = there.stage(one, MIB, 2)
    letting_go.join()
    assert (tmp_path / files(tmp_path)[0]).stat().st_ino == inode
    staged.close()


def test_whoever_waited_while_a_later_writer_was_at_it(
    here: LocalBlobs, there: LocalBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves alone what that one has made durable in the same file since, and is told that it was overtaken."""
    one = name()
    first = here.stage(one, 0, 1)
    write(first, DATA[:10])
    first.close()
    third = LocalBlobs(tmp_path)
    locking = staging._lock_patiently

    def wait(descriptor: int) -> bool:
        # The second writer has opened the file; before it has the lock, the third one comes and goes.
        monkeypatch.setattr(staging, "_lock_patiently", locking)
        later = third.stage(one, 10, 3)
        write(later, DATA[10:1000])
        later.close()
        return locking(descriptor)

    monkeypatch.setattr(staging, "_lock_patiently", wait)
    with pytest.raises(WriterFencedError):
        there.stage(one, 10, 2)
    staged = here.stage(one, 1000, 4)
    assert staged.read(0, 2000) == DATA[:1000]
    staged.close()


def test_a_file_system_without_locks(
    here: LocalBlobs, there: LocalBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody can tell whether a writer has let go, the kept bytes are always copied."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    one = name()
    first = here.stage(one, 0, 1)
    write(first, DATA[:MIB])
    staged = there.stage(one, MIB, 2)
    write(first, b"x" * MIB)
    write(staged, DATA[MIB:])
    staged.close()
    assert get(there, commit(there, one, DATA, epoch=2)) == DATA
    first.close()
    assert len(files(tmp_path)) == 1


def test_a_writer_that_wakes_up_late(here: LocalBlobs, there: LocalBlobs, tmp_path: Path) -> None:
    """Whoever was let in before another, but comes to the bytes after it, is told so and takes nothing from it."""
    one = name()
    for kept, epoch in ((0, 5), (3, 6)):
        staged = there.stage(one, kept, epoch)
        write(staged, b"abc")
        before = files(tmp_path)
        for late in (0, 3):
            with pytest.raises(WriterFencedError):
                here.stage(one, late, 4)
        assert files(tmp_path) == before
        staged.close()
    location = commit(there, one, b"abcabc", epoch=6)
    with pytest.raises(StoredContentCorruptError):
        here.stage(one, 3, 5)
    with pytest.raises(StoredContentCorruptError):
        commit(here, one, b"abc", epoch=5)
    assert get(here, location) == b"abcabc"


def test_a_finished_file_is_never_replaced(
    here: LocalBlobs, there: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that stops just before its commit, and goes on when another has finished, changes nothing."""
    monkeypatch.setattr(staging, "LET_GO_SECONDS", 0.0)
    one = name()
    for kept in (0, 3):
        stale = here.stage(one, 0, 1)
        write(stale, b"abcold")
        newer = there.stage(one, kept, 2)
        write(newer, b"abcnew"[kept:])
        newer.close()
        location = commit(there, one, b"abcnew", epoch=2)
        stale.close()
        with pytest.raises(StoredContentCorruptError):
            commit(here, one, b"abcold", epoch=1)
        assert get(here, location) == b"abcnew"
        there.delete(location)


def test_what_a_crash_left_committed_is_taken_back(here: LocalBlobs, there: LocalBlobs, tmp_path: Path) -> None:
    """The next writer finds it, also when opening the upload failed a few times in between, and nothing stays."""
    one = name()
    staged = here.stage(one, 0, 3)
    write(staged, DATA[:100])
    staged.close()
    commit(here, one, DATA, epoch=3)
    again = there.stage(one, 100, 9)
    assert files(tmp_path) == [f"staging/{one[-2:]}/{one}.9"]
    write(again, DATA[100:])
    again.close()
    assert get(here, commit(there, one, DATA, epoch=9)) == DATA


def test_leftovers_of_several_writers(here: LocalBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that a crash left half done goes with the next opening or with the ticket; both are listed until then."""
    one = name()
    write(here.stage(one, 0, 1), b"abc")
    shelf = tmp_path / "staging" / one[-2:]
    for leftover in (f"{one}.2.part", one):
        (shelf / leftover).write_bytes(b"half")
    assert [stored.name for stored in here.list_staged()] == [one] * 3
    monkeypatch.setattr(staging, "LET_GO_SECONDS", 0.0)
    staged = here.stage(one, 3, 3)
    assert [path.name for path in shelf.iterdir()] == [f"{one}.3"]
    (shelf / f"{one}.4.part").write_bytes(b"half")
    here.discard(one)
    assert not list(shelf.iterdir())
    staged.close()


def test_a_copy_that_finds_no_room(here: LocalBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves the bytes as they were, for a later try."""
    monkeypatch.setattr(staging, "LET_GO_SECONDS", 0.0)
    one = name()
    stopped = here.stage(one, 0, 1)
    write(stopped, DATA[:MIB])
    there = LocalBlobs(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _no_room)
        with pytest.raises(StorageFullError):
            there.stage(one, MIB, 2)
    assert [path.rpartition("/")[2] for path in files(tmp_path)] == [f"{one}.2"]
    staged = there.stage(one, MIB, 3)
    assert staged.read(0, 2 * MIB) == DATA[:MIB]
    staged.close()
    stopped.close()


def _no_room(_: int) -> None:
    raise OSError(errno.ENOSPC, "as planned")


def test_many_that_wake_up_in_any_order(tmp_path: Path) -> None:
    """Of writers that come to the bytes all at once the last one let in has them, and every other is told."""
    for _ in range(20):
        one, servers = name(), [LocalBlobs(tmp_path) for _ in range(6)]
        first = servers[0].stage(one, 0, 1)
        write(first, DATA[:1000])
        first.close()

        def go_on(epoch: int, one: str = one, servers: list[LocalBlobs] = servers) -> int:
            try:
                staged = servers[epoch - 1].stage(one, 1000, epoch)
            except WriterFencedError:
                return 0
            write(staged, bytes([epoch]) * 1000)
            staged.close()
            return epoch

        with ThreadPoolExecutor(5) as pool:
            done = list(pool.map(go_on, (4, 2, 6, 3, 5)))
        assert 6 in done
        staged = servers[0].stage(one, 1000, 7)
        assert staged.read(0, 1000) == DATA[:1000]
        staged.close()
        servers[0].discard(one)
    assert files(tmp_path) == []

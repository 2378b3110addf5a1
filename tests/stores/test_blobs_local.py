"""The blob contract on a directory, and what only a directory does."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from remora_server.core.errors import StorageFullError, StorageUnavailableError
from remora_server.core.model import Checksums
from remora_server.core.ports import BlobStore, LandingStore, Staged
from remora_server.stores.blobs_local import LocalBlobs
from tests.stores.blob_contract import MIB, BlobContract, LandingContract, content, get, name, put


class TestLocalBlobs(BlobContract, LandingContract):
    """A directory keeps the contract."""

    @pytest.fixture
    def blobs(self, tmp_path: Path) -> LandingStore:
        """Make an empty store in directories that don't exist yet."""
        return LocalBlobs(tmp_path / "a" / "b")


class TestLocalBlobsWithoutLinks(LandingContract):
    """A file system that knows one name for a file keeps its part too."""

    @pytest.fixture
    def blobs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LandingStore:
        """Make a store that can't link."""

        def refuse(_path: Path, _target: Path) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(Path, "hardlink_to", refuse)
        return LocalBlobs(tmp_path / "blobs")


class TestLocalBlobsBuffered(BlobContract):
    """A file system without O_DIRECT keeps it too."""

    @pytest.fixture
    def blobs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BlobStore:
        """Make a store that is refused every direct write."""
        real = os.open

        def refuse(path: str | Path, flags: int, mode: int = 0o777) -> int:
            if flags & os.O_DIRECT:
                raise OSError(errno.EINVAL, "no direct writes here")
            return real(path, flags, mode)

        monkeypatch.setattr(os, "open", refuse)
        return LocalBlobs(tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        ".",
        "..",
        "../../etc/passwd",
        "upl_01h455vb4pex5vsknk084sn02q/../x",
        "upl_01H455VB4PEX5VSKNK084SN02Q",
        "x\0y",
    ],
)
def test_other_names_are_refused(tmp_path: Path, bad: str) -> None:
    """No path is ever made of anything but an id."""
    blobs = LocalBlobs(tmp_path)
    calls: list[Callable[[str], object]] = [blobs.discard, blobs.open, blobs.delete, blobs.arrived]
    calls += [lambda one: blobs.stage(one, 0), lambda one: blobs.commit(one, Checksums(), 0)]
    for call in calls:
        with pytest.raises(ValueError, match="name of a blob"):
            call(bad)


def test_only_the_owner_may_look(tmp_path: Path) -> None:
    """Neither directories nor files can be read by other users of the machine."""
    blobs = LocalBlobs(tmp_path / "blobs")
    put(blobs, b"secret")
    blobs.stage(name(), 0).close()
    found = list((tmp_path / "blobs").rglob("*"))
    assert len(found) > 5
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_blobs_spread_over_directories(tmp_path: Path) -> None:
    """A blob lies in a directory named for the last two characters of its name."""
    one = name()
    put(LocalBlobs(tmp_path), b"x", as_name=one)
    assert (tmp_path / "blobs" / one[-2:] / one).read_bytes() == b"x"


def test_foreign_files_are_not_listed(tmp_path: Path) -> None:
    """What we did not put there is not ours to sweep."""
    blobs = LocalBlobs(tmp_path)
    put(blobs, b"x")
    (tmp_path / "staging" / "lost+found").mkdir()
    (tmp_path / "blobs" / "README").write_text("hands off")
    assert list(blobs.list_staged()) == []
    assert len(list(blobs.list_blobs())) == 1


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENOSPC, StorageFullError), (errno.EDQUOT, StorageFullError), (errno.EIO, StorageUnavailableError)],
)
def test_errors_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[Exception]
) -> None:
    """A failed write is told as what it is, and nothing that follows makes it look durable."""

    def fail(*_: object) -> int:
        raise OSError(number, "as planned")

    blobs = LocalBlobs(tmp_path)
    one = name()
    for broken, size in (("pwrite", 10), ("pwrite", 2 * MIB), ("fdatasync", 10)):
        staged = blobs.stage(one, 0)
        with monkeypatch.context() as patch:
            patch.setattr(os, broken, fail)
            with pytest.raises(expected):
                _write_and_sync(staged, content(size))
        with pytest.raises(StorageUnavailableError):
            staged.sync()
        with pytest.raises(StorageUnavailableError):
            staged.write(b"more")
        staged.close()
    assert list(blobs.list_blobs()) == []
    assert get(blobs, put(blobs, b"after all", as_name=one)) == b"after all"


def _write_and_sync(staged: Staged, data: bytes) -> None:
    staged.write(data)
    staged.sync()


def test_a_disk_that_fills_up_within_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A direct write that ends short is continued through the page cache."""
    real = os.pwrite
    cut: list[int] = []

    def short(descriptor: int, data: bytes, offset: int) -> int:
        if not cut and len(data) == MIB:
            cut.append(offset)
            return real(descriptor, memoryview(data)[:4096], offset)
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", short)
    data = content(3 * MIB + 1)
    blobs = LocalBlobs(tmp_path)
    assert get(blobs, put(blobs, data)) == data
    assert cut == [0]


def test_a_closed_file_is_not_synced(tmp_path: Path) -> None:
    """A sync that comes too late says so, and touches no other file's descriptor."""
    staged = LocalBlobs(tmp_path).stage(name(), 0)
    staged.close()
    with pytest.raises(StorageUnavailableError):
        staged.sync()


def test_an_abandoned_walk_closes_its_directory(tmp_path: Path) -> None:
    """Whoever stops listing half-way leaves no open directory behind (warnings are errors here)."""
    blobs = LocalBlobs(tmp_path)
    for _ in range(3):
        put(blobs, b"x")
    walk = blobs.list_blobs()
    next(walk)
    del walk

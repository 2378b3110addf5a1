"""What every blob store does."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import google_crc32c
import pytest

from remora_server.core import ids
from remora_server.core.errors import StorageUnavailableError, StoredContentCorruptError, WriterFencedError
from remora_server.core.model import Checksums
from remora_server.core.ports import BlobStore, LandingStore

MIB = 1024 * 1024
# Around and within the blocks that a store may write by.
SIZES = (0, 1, 4095, 4096, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 77)


def name() -> str:
    """Make a name as core does."""
    return ids.new_id(ids.TICKET)


def pattern(size: int, seed: int = 7) -> bytes:
    """Make bytes that differ from block to block."""
    return bytes((index * seed + index // 251) % 256 for index in range(min(size, 251 * 256))) * (
        size // (251 * 256) + 1
    )


def content(size: int) -> bytes:
    """Make `size` bytes."""
    return pattern(size)[:size]


def put(blobs: BlobStore, data: bytes, *, as_name: str = "", chunk: int = MIB) -> str:
    """Stage and commit bytes; return their location."""
    as_name = as_name or name()
    staged = blobs.stage(as_name, 0)
    for start in range(0, len(data), chunk):
        staged.write(data[start : start + chunk])
    staged.sync()
    staged.close()
    return commit(blobs, as_name, data)


def commit(blobs: BlobStore, name: str, data: bytes, epoch: int = 0) -> str:
    """Commit staged bytes that are `data`; return their location."""
    digests = Checksums(google_crc32c.value(data), b"", hashlib.sha256(data).digest())
    return blobs.commit(name, digests, len(data), epoch)


def get(blobs: BlobStore, location: str) -> bytes:
    """Return a whole blob."""
    reader = blobs.open(location)
    try:
        return reader.read(0, reader.size_bytes)
    finally:
        reader.close()


class BlobContract:
    """Subclass it with a fixture `blobs`."""

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("chunk", [MIB, 300_001])
    def test_committed_bytes_come_back(self, blobs: BlobStore, size: int, chunk: int) -> None:
        """What was staged, synced and committed is read back byte for byte, whatever the chunks."""
        data = content(size)
        assert get(blobs, put(blobs, data, chunk=chunk)) == data

    @pytest.mark.parametrize("size", SIZES)
    def test_bytes_in_one_piece_come_back(self, blobs: BlobStore, size: int) -> None:
        """`put` keeps bytes without a trace in the staging area."""
        location = blobs.put(name(), content(size))
        reader = blobs.open(location)
        assert reader.read(0, size + 1) == content(size)
        reader.close()
        assert [stored.location for stored in blobs.list_blobs()] == [location]
        assert not list(blobs.list_staged())

    def test_ranges(self, blobs: BlobStore) -> None:
        """A reader returns exactly the range asked for, and less only at the end."""
        data = content(3 * MIB + 5)
        reader = blobs.open(put(blobs, data))
        assert reader.size_bytes == len(data)
        assert reader.read(0, 1) == data[:1]
        assert reader.read(MIB - 1, 2) == data[MIB - 1 : MIB + 1]
        assert reader.read(3 * MIB, 100) == data[3 * MIB :]
        assert reader.read(len(data), 10) == b""
        assert reader.read(5, 0) == b""
        reader.close()

    def test_staged_bytes_can_be_read_back(self, blobs: BlobStore) -> None:
        """Verification reads what was written, synced or not, and writing goes on after it."""
        data = content(2 * MIB + 9)
        staged = blobs.stage(name(), 0)
        staged.write(data[: MIB + 5])
        assert staged.read(0, 2 * MIB) == data[: MIB + 5]
        staged.write(data[MIB + 5 :])
        assert staged.size_bytes == len(data)
        assert staged.read(MIB, MIB) == data[MIB : 2 * MIB]
        staged.close()

    @pytest.mark.parametrize("kept", [0, 10, MIB, MIB + 100, 2 * MIB + 3])
    def test_resume_drops_what_lies_behind(self, blobs: BlobStore, kept: int) -> None:
        """Opening again keeps the recorded prefix only, and appends to it."""
        data = content(4 * MIB)
        one = name()
        staged = blobs.stage(one, 0)
        staged.write(data[: 2 * MIB + 3])
        staged.sync()
        staged.close()
        again = blobs.stage(one, kept)
        assert again.size_bytes == kept
        again.write(data[kept:])
        again.sync()
        again.close()
        assert get(blobs, commit(blobs, one, data)) == data

    def test_lost_prefix(self, blobs: BlobStore) -> None:
        """A recorded size that is not there is told, not papered over."""
        one = name()
        with pytest.raises(StoredContentCorruptError):
            blobs.stage(one, 1)
        staged = blobs.stage(one, 0)
        staged.write(b"abc")
        staged.sync()
        staged.close()
        with pytest.raises(StoredContentCorruptError):
            blobs.stage(one, 4)

    def test_staged_is_not_committed(self, blobs: BlobStore) -> None:
        """Staged bytes are no blob: not listed as one, not to be opened."""
        one = name()
        staged = blobs.stage(one, 0)
        staged.write(b"abc")
        staged.sync()
        staged.close()
        assert list(blobs.list_blobs()) == []
        assert [stored.name for stored in blobs.list_staged()] == [one]
        with pytest.raises(StoredContentCorruptError):
            blobs.open(one)

    def test_commit_twice(self, blobs: BlobStore) -> None:
        """Repeating a commit whose answer was lost is harmless."""
        one = name()
        location = put(blobs, b"abc", as_name=one)
        assert commit(blobs, one, b"abc") == location
        assert get(blobs, location) == b"abc"
        assert list(blobs.list_staged()) == []

    def test_commit_of_nothing(self, blobs: BlobStore) -> None:
        """Committing what was never staged fails."""
        with pytest.raises(StoredContentCorruptError):
            commit(blobs, name(), b"")

    def test_arrived(self, blobs: BlobStore) -> None:
        """What lies committed under a name is found by that name, what is only staged is not."""
        one, other = name(), name()
        location = put(blobs, b"abc", as_name=one)
        blobs.stage(other, 0).close()
        found = blobs.arrived(one)
        assert found is not None
        assert (found.name, found.location, found.size_bytes) == (one, location, 3)
        assert blobs.arrived(other) is None
        assert blobs.arrived(name()) is None

    def test_stage_takes_back_a_blob_without_row(self, blobs: BlobStore) -> None:
        """A crash between commit and row is healed by opening the upload again."""
        one = name()
        location = put(blobs, b"abcdef", as_name=one)
        staged = blobs.stage(one, 6)
        assert list(blobs.list_blobs()) == []
        assert staged.read(0, 10) == b"abcdef"
        staged.close()
        assert get(blobs, commit(blobs, one, b"abcdef")) == b"abcdef"
        assert location == one or location

    def test_discard_and_delete_twice(self, blobs: BlobStore) -> None:
        """Removing what is not there (any more) is no error."""
        one, other = name(), name()
        blobs.stage(one, 0).close()
        location = put(blobs, b"abc", as_name=other)
        for _ in range(2):
            blobs.discard(one)
            blobs.delete(location)
        assert list(blobs.list_staged()) == []
        assert list(blobs.list_blobs()) == []
        with pytest.raises(StoredContentCorruptError):
            blobs.open(location)

    def test_discard_leaves_the_blob(self, blobs: BlobStore) -> None:
        """Discarding staged bytes never touches what was committed under the same name."""
        one = name()
        location = put(blobs, b"abc", as_name=one)
        blobs.discard(one)
        assert get(blobs, location) == b"abc"

    def test_discard_with_what_arrived(self, blobs: BlobStore) -> None:
        """For a ticket without a file the caller says so, and then everything under its name goes."""
        one = name()
        location = put(blobs, b"abc", as_name=one)
        for _ in range(2):
            blobs.discard(one, arrived=True)
        assert blobs.arrived(one) is None
        assert list(blobs.list_blobs()) == []
        with pytest.raises(StoredContentCorruptError):
            blobs.open(location)

    def test_lists_tell_name_size_and_time(self, blobs: BlobStore) -> None:
        """A check of the store learns the location, the size and the age of everything."""
        locations = {put(blobs, content(size)): size for size in (0, 5, MIB + 1)}
        found = {stored.location: stored for stored in blobs.list_blobs()}
        assert {one: stored.size_bytes for one, stored in found.items()} == locations
        assert all(stored.modify_time > 1_500_000_000_000_000 for stored in found.values())

    def test_lists_bear_removal_while_they_walk(self, blobs: BlobStore) -> None:
        """Sweeping removes what it walks over."""
        for _ in range(50):
            put(blobs, b"x")
        for stored in blobs.list_blobs():
            blobs.delete(stored.location)
        assert list(blobs.list_blobs()) == []

    def test_sync_beside_write(self, blobs: BlobStore) -> None:
        """Syncing in a lane of its own, with odd chunks, loses and repeats nothing."""
        data = content(6 * MIB + 12345)
        one = name()
        staged = blobs.stage(one, 0)
        done = threading.Event()

        def keep_syncing() -> int:
            count = 0
            while not done.is_set():
                staged.sync()
                count += 1
            return count

        with ThreadPoolExecutor(1) as lane:
            syncs = lane.submit(keep_syncing)
            for start in range(0, len(data), 70_001):
                staged.write(data[start : start + 70_001])
            done.set()
            assert syncs.result() > 0
        staged.sync()
        staged.close()
        assert get(blobs, commit(blobs, one, data)) == data

    def test_several_readers_at_once(self, blobs: BlobStore) -> None:
        """One open blob serves ranges to several threads."""
        data = content(2 * MIB)
        reader = blobs.open(put(blobs, data))
        with ThreadPoolExecutor(8) as pool:
            parts = pool.map(lambda start: reader.read(start, 65536), range(0, len(data), 65536))
            assert b"".join(parts) == data
        reader.close()

    def test_a_deleted_blob_is_read_to_its_end(self, blobs: BlobStore) -> None:
        """Whoever has opened a blob reads on after it was deleted."""
        location = put(blobs, b"abcdef")
        reader = blobs.open(location)
        blobs.delete(location)
        assert reader.read(0, 6) == b"abcdef"
        reader.close()

    def test_a_replaced_writer_changes_nothing(self, blobs: BlobStore) -> None:
        """Opening an upload again, or committing it, shuts out whoever had it open before."""
        data = content(2 * MIB)
        one = name()
        old = blobs.stage(one, 0)
        old.write(b"x" * (MIB + 5))
        old.sync()
        new = blobs.stage(one, 0)
        with pytest.raises(StorageUnavailableError):
            old.write(b"y" * MIB)
        new.write(data)
        new.sync()
        location = commit(blobs, one, data)
        for late in (old, new):
            with pytest.raises(StorageUnavailableError):
                late.write(b"z")
            late.close()
        assert get(blobs, location) == data

    def test_closing_twice(self, blobs: BlobStore) -> None:
        """Letting go of something twice is harmless."""
        staged = blobs.stage(name(), 0)
        staged.close()
        staged.close()
        reader = blobs.open(put(blobs, b"a"))
        reader.close()
        reader.close()

    def test_a_store_belongs_to_whoever_claims_it_first(self, blobs: BlobStore) -> None:
        """Before that to nobody; the marker is none of its contents."""
        assert blobs.owner() == ""
        assert blobs.claim("first") == "first"
        assert blobs.claim("second") == "first"
        assert blobs.owner() == "first"
        assert list(blobs.list_blobs()) == list(blobs.list_staged()) == []

    def test_claims_at_once(self, blobs: BlobStore) -> None:
        """Of many that claim a store at once one gets it, and all hear who."""
        with ThreadPoolExecutor(16) as pool:
            owners = set(pool.map(lambda number: blobs.claim(f"{number}"), range(16)))
        assert owners == {blobs.owner()}

    def test_a_store_that_is_there_answers(self, blobs: BlobStore) -> None:
        """A probe of a store that works says nothing."""
        blobs.probe()


class LandingContract:
    """What a store does that takes uploads over HTTP through us. Subclass it with a fixture `blobs`."""

    def test_landing(self, blobs: LandingStore) -> None:
        """Staged bytes become what has arrived, nothing stays staged, and the blob can be read and deleted."""
        one = name()
        stage(blobs, one, b"abc", 3)
        assert blobs.arrived(one) is None
        assert blobs.land(one, 3)
        found = blobs.arrived(one)
        assert found is not None
        assert (found.size_bytes, get(blobs, found.location)) == (3, b"abc")
        assert [stored.location for stored in blobs.list_blobs()] == [found.location]
        assert not list(blobs.list_staged())
        blobs.delete(found.location)
        assert blobs.arrived(one) is None

    def test_landing_twice(self, blobs: LandingStore) -> None:
        """What has arrived stays, whatever comes later."""
        one = name()
        stage(blobs, one, b"abc", 1)
        assert blobs.land(one, 1)
        stage(blobs, one, b"other", 2)
        assert not blobs.land(one, 2)
        assert get(blobs, location_of(blobs, one)) == b"abc"
        blobs.discard(one, arrived=True)
        assert not list(blobs.list_staged())
        assert not list(blobs.list_blobs())

    def test_landing_of_what_is_gone(self, blobs: LandingStore) -> None:
        """A writer that was overtaken, or whose ticket ended, lands nothing."""
        one = name()
        with pytest.raises(WriterFencedError):
            blobs.land(one, 1)
        stage(blobs, one, b"abc", 1)
        stage(blobs, one, b"other", 2)
        with pytest.raises(WriterFencedError):
            blobs.land(one, 1)
        assert blobs.land(one, 2)
        assert get(blobs, location_of(blobs, one)) == b"other"


def stage(blobs: BlobStore, one: str, data: bytes, epoch: int) -> None:
    """Stage bytes as the writer of an epoch, durably."""
    staged = blobs.stage(one, 0, epoch)
    staged.write(data)
    staged.sync()
    staged.close()


def location_of(blobs: BlobStore, one: str) -> str:
    """Say where what has arrived lies."""
    found = blobs.arrived(one)
    assert found is not None
    return found.location

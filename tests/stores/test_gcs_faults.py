"""Uploads into Cloud Storage under planned faults: what is acknowledged is there, what is not can be gone on with."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from remora_server.core import ids
from remora_server.core.errors import StorageUnavailableError, StoredContentCorruptError, WriterFencedError
from remora_server.core.hashing import measure
from remora_server.core.ports import Changes
from remora_server.core.values import replace
from remora_server.stores.blobs_gcs import GcsBlobs
from remora_server.stores.database import Database
from remora_server.stores.gcs_bucket import Bucket, Found, open_bucket
from remora_server.stores.gcs_calls import CloudRefusalError, Patience
from remora_server.stores.gcs_staged import BLOCK_BYTES
from remora_server.stores.metadata import SqlMetadata
from tests.core.world import SetClock
from tests.gcs.running import RunningGcs
from tests.stores.blob_contract import get

Result = TypeVar("Result")

KIB = 1024
MIB = 1024 * KIB
SYNC_BYTES = 4 * MIB
LONGEST_SECONDS = 10.0  # An operation is a few requests, and this machine may have much else to do.

# One request, a session below 8 MiB, and one above.
SIZES = {"small": 100 * KIB, "below": MIB + 77, "above": 9 * MIB + 77}
sizes = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
STATUSES = [503, 408, 429, 500, 502, 504]
TRANSIENT: dict[str, dict[str, Any]] = {
    **{f"{status}": {"kind": "status", "status": status} for status in STATUSES},
    "503-after-256KiB": {"kind": "status", "status": 503, "after_bytes": 256 * KIB},
    "503-after-8MiB": {"kind": "status", "status": 503, "after_bytes": 8 * MIB},
    "reset": {"kind": "reset"},
    "reset-after-300KiB": {"kind": "reset", "after_bytes": 300 * KIB},
    "stall": {"kind": "stall", "seconds": 2},
    "stall-after-300KiB": {"kind": "stall", "seconds": 2, "after_bytes": 300 * KIB},
    "lost": {"kind": "lost"},
    "drop": {"kind": "drop"},
}
transient = pytest.mark.parametrize("fault", TRANSIENT.values(), ids=TRANSIENT)


@pytest.fixture
def bucket(gcs: RunningGcs, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """Connect to the fake, with patience for more than one attempt."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.address)
    gcs.clear()
    yield open_bucket(gcs.bucket, Patience(connect_seconds=0.4, answer_seconds=0.4, total_seconds=3))
    gcs.clear()


@pytest.fixture
def hasty(bucket: Bucket, prefix: str, database: Database, changes: Changes) -> GcsBlobs:
    """Make a store that soon gives up."""
    impatient = open_bucket(bucket.name, Patience(connect_seconds=0.3, answer_seconds=0.3, total_seconds=0.3))
    return GcsBlobs(impatient, prefix, SqlMetadata(database), changes, SetClock())


class Upload:
    """One upload as core makes it; `confirmed` is what core would record as committed."""

    def __init__(self, data: bytes, sync_bytes: int = SYNC_BYTES, *, reads_back: bool = False) -> None:
        self.name = ids.new_id(ids.TICKET)
        self.data = data
        self.confirmed = 0
        self.epoch = 0
        self._sync_bytes = sync_bytes
        self._reads_back = reads_back

    def run(self, blobs: GcsBlobs) -> str:
        """Send everything that is not confirmed yet; return the location."""
        self.epoch += 1
        staged = blobs.stage(self.name, self.confirmed, self.epoch)
        assert staged.size_bytes == self.confirmed
        for at in range(self.confirmed, len(self.data), self._sync_bytes):
            staged.write(self.data[at : min(at + self._sync_bytes, len(self.data))])
            staged.sync()
            self.confirmed = staged.size_bytes
        staged.sync()
        if self._reads_back:
            assert staged.read(0, len(self.data)) == self.data
        staged.close()
        content = measure(self.data)
        return blobs.commit(self.name, content.checksums, len(self.data), self.epoch)


def stored(gcs: RunningGcs, name: str) -> bytes | None:
    """Return the bytes of a blob's object, past everything of ours; None if there is no such object."""
    objects = gcs.objects()
    found = [path.read_bytes() for key, path in gcs.files().items() if key.endswith(name) and key in objects]
    return found[0] if found else None


def timed(call: Callable[[], Result]) -> Result:
    """Make a call that ends within its deadline, whatever happens."""
    began = time.monotonic()
    try:
        return call()
    finally:
        assert time.monotonic() - began < LONGEST_SECONDS


BEGIN, SEND = "POST .*uploadType=resumable", "POST .*multipart|PUT .*upload_id"


@transient
@pytest.mark.parametrize(
    ("where", "size"),
    [(BEGIN, SIZES["below"]), *((SEND, size) for size in SIZES.values())],
    ids=["begin", *SIZES],
)
def test_a_fault_that_passes(gcs: RunningGcs, blobs: GcsBlobs, where: str, size: int, fault: dict[str, Any]) -> None:
    """P19: after one fault, wherever it strikes, the upload succeeds, and the object is what was sent."""
    upload = Upload(os.urandom(size), sync_bytes=9 * MIB)
    gcs.plan(match=where, **fault)
    location = timed(lambda: upload.run(blobs))
    assert stored(gcs, upload.name) == upload.data
    assert get(blobs, location) == upload.data
    (plan,) = gcs.clear()
    assert plan["struck"] == 1


@sizes
@transient
def test_a_fault_that_stays(
    gcs: RunningGcs, hasty: GcsBlobs, there: GcsBlobs, size: int, fault: dict[str, Any]
) -> None:
    """P19: as long as a fault lasts the caller is told to retry; then another server goes on, with nothing lost.

    What it goes on from is what was confirmed, and whatever was acknowledged is there.
    """
    upload = Upload(os.urandom(size))
    gcs.plan(match=SEND, times=-1, **fault)
    try:
        timed(lambda: upload.run(hasty))
    except StorageUnavailableError:
        # What a lost answer told of is there, and nobody's.
        assert fault["kind"] == "lost" or not list(hasty.list_blobs())
    else:
        assert stored(gcs, upload.name) == upload.data
        return
    finally:
        gcs.clear()
    location = upload.run(there)
    assert stored(gcs, upload.name) == upload.data
    assert [one.location for one in there.list_blobs()] == [location]
    assert not list(there.list_staged())


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize(
    ("where", "size"),
    [(BEGIN, SIZES["below"]), *((SEND, size) for size in SIZES.values())],
    ids=["begin", *SIZES],
)
def test_a_refusal(gcs: RunningGcs, blobs: GcsBlobs, where: str, size: int, status: int) -> None:
    """P19: what Cloud Storage refuses for good is asked for once, is no reason to retry, and stores nothing."""
    upload = Upload(os.urandom(size))
    gcs.plan("status", where, status=status, times=-1)
    with pytest.raises(CloudRefusalError):
        timed(lambda: upload.run(blobs))
    (plan,) = gcs.clear()
    assert plan["struck"] <= 2  # A request that was malformed is looked into.
    assert stored(gcs, upload.name) is None
    upload.run(blobs)
    assert stored(gcs, upload.name) == upload.data


class CrashError(BaseException):
    """The server is no more."""


class Steps:
    """Counts what is seen outside of a server, and kills it at one of those steps."""

    def __init__(self, last: int) -> None:
        self.left = last

    def take(self, step: Callable[[], Result]) -> Result:
        """Take a step; a crash comes before it, or after it and before its answer."""
        self.count()
        done = step()
        self.count()
        return done

    def count(self) -> None:
        """Crash if it is time."""
        self.left -= 1
        if self.left <= 0:
            raise CrashError


class CrashingBucket(Bucket):
    """A bucket whose user dies."""

    steps: Steps

    def insert(self, name: str, data: bytes) -> Found:
        """Create an object."""
        return self.steps.take(lambda: super(CrashingBucket, self).insert(name, data))

    def start(self, name: str, **how: Any) -> str:
        """Begin a session."""
        return self.steps.take(lambda: super(CrashingBucket, self).start(name, **how))

    def append(self, url: str, offset: int, data: bytes, total_bytes: int | None = None) -> Found | None:
        """Add to a session, or finish it."""
        return self.steps.take(lambda: super(CrashingBucket, self).append(url, offset, data, total_bytes))


class CrashingChanges:
    """Changes whose maker dies."""

    def __init__(self, changes: Changes, steps: Steps) -> None:
        self._changes = changes
        self._steps = steps

    def run(self, change: Callable[[], Result]) -> Result:
        """Make a change."""
        return self._steps.take(lambda: self._changes.run(change))


@pytest.mark.parametrize("size", [100 * KIB, MIB + 77, 5 * MIB + 77])
@pytest.mark.parametrize("reads_back", [False, True])
@pytest.mark.parametrize("acknowledges", [False, True])
def test_a_crash_at_each_step(
    gcs: RunningGcs,
    bucket: Bucket,
    there: GcsBlobs,
    prefix: str,
    database: Database,
    changes: Changes,
    size: int,
    *,
    reads_back: bool,
    acknowledges: bool,
) -> None:
    """P19: wherever a server dies, another one goes on behind what was confirmed, which is never more than is there."""
    data, crashes = os.urandom(size), 0
    while True:
        crashes += 1
        steps = Steps(crashes)
        dying = CrashingBucket(bucket.client, bucket.transport, bucket.name, Patience())
        dying.steps = steps
        here = GcsBlobs(dying, prefix, SqlMetadata(database), CrashingChanges(changes, steps), SetClock())
        upload = Upload(data, reads_back=reads_back)
        try:
            upload.run(here)
        except CrashError:
            if not acknowledges:
                upload.confirmed = 0
            upload.run(there)
            assert stored(gcs, upload.name) == data
            assert not list(there.list_staged())
        else:
            assert crashes > 4
            return


def test_nothing_replaces_what_has_arrived(gcs: RunningGcs, blobs: GcsBlobs, there: GcsBlobs) -> None:
    """P19: a writer that began before something arrived elsewhere leaves that alone, and is told."""
    first, second = os.urandom(MIB), os.urandom(MIB)
    name = ids.new_id(ids.TICKET)
    late = there.stage(name, 0, 1)
    early = blobs.stage(name, 0, 1)
    early.write(first)
    early.sync()
    assert blobs.land(name, 1)
    late.write(second)
    late.sync()
    assert not there.land(name, 1)
    there.discard(name)
    assert stored(gcs, name) == first


@pytest.mark.parametrize("loss", [{}, {"expire": True}, {"size": BLOCK_BYTES}], ids=["gone", "expired", "shorter"])
def test_a_session_that_lost_what_it_confirmed(
    gcs: RunningGcs, blobs: GcsBlobs, there: GcsBlobs, loss: dict[str, Any]
) -> None:
    """P19: it is told, wherever the upload is gone on with or finished, and the upload can begin anew."""
    data = os.urandom(MIB + 77)
    for act in ("write", "commit", "open"):
        upload = Upload(data)
        staged = blobs.stage(upload.name, 0, 1)
        staged.write(data[:MIB])
        staged.sync()
        gcs.forget(upload.name, **loss)
        if act == "write":
            staged.write(os.urandom(MIB))
            with pytest.raises((StorageUnavailableError, StoredContentCorruptError)):
                staged.sync()
        elif act == "commit":
            with pytest.raises(StoredContentCorruptError):
                blobs.commit(upload.name, measure(data[:MIB]).checksums, MIB, 1)
        with pytest.raises(StoredContentCorruptError):
            there.stage(upload.name, MIB, 2)
        assert stored(gcs, upload.name) is None
        upload.epoch = 2
        upload.run(there)
        assert stored(gcs, upload.name) == data


@sizes
@pytest.mark.parametrize("wrong", ["bytes", "size", "md5"])
def test_what_is_stored_is_compared(gcs: RunningGcs, blobs: GcsBlobs, size: int, wrong: str) -> None:
    """P19: an object that is not what was received is no blob, and does not stay."""
    upload = Upload(os.urandom(size))
    staged = blobs.stage(upload.name, 0)
    staged.write(os.urandom(size) if wrong == "bytes" else upload.data)
    staged.sync()
    staged.close()
    content = replace(measure(upload.data).checksums, md5=bytes(16) if wrong == "md5" else b"")
    with pytest.raises(StoredContentCorruptError):
        blobs.commit(upload.name, content, size + (wrong == "size"))
    assert stored(gcs, upload.name) is None


@sizes
def test_nothing_is_replaced(gcs: RunningGcs, bucket: Bucket, blobs: GcsBlobs, size: int) -> None:
    """P19: what lies under a name when an upload is finished stays; it is none of ours, so the upload fails."""
    upload, other = Upload(os.urandom(size)), os.urandom(size)
    staged = blobs.stage(upload.name, 0)
    staged.write(upload.data)
    staged.sync()
    bucket.client.bucket(bucket.name).blob(blobs.key(upload.name)).upload_from_string(other)
    with pytest.raises(StoredContentCorruptError):
        blobs.commit(upload.name, measure(upload.data).checksums, size)
    assert stored(gcs, upload.name) == other


def test_a_commit_again_is_compared_too(gcs: RunningGcs, blobs: GcsBlobs) -> None:
    """P19: repeating a commit is harmless, and with another size or other bytes refused; the blob stays."""
    upload = Upload(os.urandom(MIB))
    location = upload.run(blobs)
    content = measure(upload.data).checksums
    assert blobs.commit(upload.name, content, MIB) == location
    for checksums, size in ((content, MIB + 1), (measure(b"other").checksums, MIB)):
        with pytest.raises(StoredContentCorruptError):
            blobs.commit(upload.name, checksums, size)
    assert stored(gcs, upload.name) == upload.data


def test_a_later_writer_keeps_its_session(blobs: GcsBlobs, there: GcsBlobs) -> None:
    """P19: the row of a session is not written by a writer of a lower epoch, which is told."""
    data = os.urandom(300)
    name = ids.new_id(ids.TICKET)
    old = blobs.stage(name, 0, 1)
    old.write(data[:100])
    old.sync()
    new = there.stage(name, 100, 2)
    old.write(b"x" * 200)
    with pytest.raises(WriterFencedError):
        old.sync()
    new.write(data[100:])
    new.sync()
    with pytest.raises(WriterFencedError):
        blobs.stage(name, 0, 1)
    with pytest.raises(StoredContentCorruptError):
        blobs.commit(name, measure(data).checksums, len(data), 1)
    assert get(there, there.commit(name, measure(data).checksums, len(data), 2)) == data


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_reads_are_of_one_generation(bucket: Bucket, blobs: GcsBlobs, change: str) -> None:
    """P19: what somebody puts in the place of a blob is never read as the blob, whether it was opened before or not."""
    name = ids.new_id(ids.BLOB)
    location = blobs.put(name, os.urandom(2 * MIB))
    reader = blobs.open(location)
    reader.read(0, KIB)
    object_of_it = bucket.client.bucket(bucket.name).blob(blobs.key(name))
    if change == "replaced":
        object_of_it.upload_from_string(os.urandom(2 * MIB))
    else:
        object_of_it.delete()
    with pytest.raises(StoredContentCorruptError):
        reader.read(MIB, KIB)  # By a request of its own.
    with pytest.raises(StoredContentCorruptError):
        blobs.open(location)
    reader.close()
    blobs.delete(location)
    assert object_of_it.exists() == (change == "replaced")


@pytest.mark.parametrize("after_bytes", [0, 100 * KIB, 9 * MIB])
@pytest.mark.parametrize("kind", ["status", "reset", "stall"])
def test_reads_under_faults(gcs: RunningGcs, blobs: GcsBlobs, hasty: GcsBlobs, kind: str, after_bytes: int) -> None:
    """P19: a read that breaks off goes on where it was; one that can't is told to retry, and brings nothing wrong."""
    data = os.urandom(9 * MIB + 77)
    location = Upload(data).run(blobs)
    fault: dict[str, Any] = {"kind": kind, "after_bytes": after_bytes, "seconds": 2}
    gcs.plan(match="alt=media", **fault)
    assert timed(lambda: read_by_blocks(blobs, location)) == data
    gcs.clear()
    gcs.plan(match="alt=media", times=-1, **(fault | {"after_bytes": min(after_bytes, 100 * KIB)}))
    with pytest.raises(StorageUnavailableError):
        timed(lambda: read_by_blocks(hasty, location))


def read_by_blocks(blobs: GcsBlobs, location: str) -> bytes:
    """Read as downloads do."""
    reader = blobs.open(location)
    try:
        return b"".join(reader.read(at, MIB) for at in range(0, reader.size_bytes, MIB))
    finally:
        reader.close()


OPERATIONS: dict[str, Callable[[GcsBlobs, str, str], object]] = {
    "put": lambda blobs, _, __: blobs.put(ids.new_id(ids.BLOB), b"abc"),
    "arrived": lambda blobs, name, _: blobs.arrived(name),
    "discard": lambda blobs, name, _: blobs.discard(name, arrived=True),
    "open": lambda blobs, _, location: blobs.open(location),
    "delete": lambda blobs, _, location: blobs.delete(location),
    "list": lambda blobs, _, __: list(blobs.list_blobs()),
    "owner": lambda blobs, _, __: blobs.owner(),
    "claim": lambda blobs, _, __: blobs.claim("somebody"),
    "probe": lambda blobs, _, __: blobs.probe(),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize("fault", [one for one in TRANSIENT if one in {"503", "reset", "stall"}])
def test_every_operation(
    gcs: RunningGcs, blobs: GcsBlobs, hasty: GcsBlobs, operation: Callable[..., object], fault: str
) -> None:
    """P19: whatever is asked of a store that is away, the answer is to retry; when it is back it answers."""
    name = ids.new_id(ids.BLOB)
    location = blobs.put(name, b"kept")
    gcs.plan(times=-1, **TRANSIENT[fault])
    with pytest.raises(StorageUnavailableError):
        timed(lambda: operation(hasty, name, location))
    gcs.clear()
    operation(blobs, name, location)

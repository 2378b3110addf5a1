"""A disk that is full, and one that fails: nothing is acknowledged that is not there, and the server recovers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from remora.v1 import upload_ticket_pb2
from tests.combinations import only_disk, only_sqlite
from tests.faulty import Faults, small_volume
from tests.running import Api, RunningServer, refused, until
from tests.uploading import (
    KIB,
    MIB,
    WAYS,
    Stream,
    append,
    attached,
    checksums_of,
    new_ticket,
    read,
    spec_of,
    ticket,
    upload,
)

pytestmark = only_disk
Start = Callable[..., RunningServer]
VOLUME_BYTES = 64 * MIB
FULL = (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL")
AWAY = (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")
FAILED = upload_ticket_pb2.UPLOAD_TICKET_STATE_FAILED
UPLOADING = upload_ticket_pb2.UPLOAD_TICKET_STATE_UPLOADING


@dataclass
class Disk:
    """A server on a small disk, and where its blobs are."""

    server: RunningServer
    blobs: Path
    ballast: Callable[[], None]  # Frees 16 MiB.

    def sizes(self) -> dict[str, int]:
        """Return what lies in the blob store, staged or not."""
        found = [path for name in ("blobs", "staging") for path in (self.blobs / name).rglob("*") if path.is_file()]
        return {path.name: path.stat().st_size for path in found}


@pytest.fixture(params=[pytest.param("all", marks=only_sqlite), "blobs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """Start a server with everything on a volume of 64 MiB, or with the blobs alone there.

    Where nothing may be mounted, writes of blobs and pages of the database are limited instead.
    """
    volume = tmp_path / "volume"
    both = request.param == "all"
    data = volume / "data" if both else tmp_path / "data"
    blobs = volume / "blobs"
    options = ("--blobs", blobs.as_uri())
    with small_volume(volume, VOLUME_BYTES) as is_mounted:
        if is_mounted:
            server = RunningServer(data, *options)
            ballast = volume / "ballast"
            ballast.write_bytes(bytes(16 * MIB))

            def free() -> None:
                ballast.unlink()
        else:
            faults = Faults(tmp_path / "faults", blobs)
            faults.limit(VOLUME_BYTES - 16 * MIB, 1000 if both else 10**6)
            server = RunningServer(data, *options, environment=faults.environment)

            def free() -> None:
                faults.limit(VOLUME_BYTES, 10**6)

        try:
            yield Disk(server.start(), blobs, free)
        finally:
            server.kill()


def fill(api: Api, issue: str) -> dict[str, bytes]:
    """Upload by all ways in turn, until one is refused; return what was stored, by file."""
    stored: dict[str, bytes] = {}
    ways = list(WAYS.values())
    with refused(*FULL):
        for number in range(VOLUME_BYTES // (3 * MIB) + 1):
            data = os.urandom(3 * MIB)
            stored[ways[number % len(ways)](api, data, spec_of(), attach_to=issue).id] = data
    return stored


def test_a_full_disk(disk: Disk) -> None:
    """P03: the upload that does not fit is STORAGE_FULL by every way, is not listed and leaves no partial file.

    Reads go on. Once there is room again uploads work, without a restart.
    """
    api = disk.server.api()
    stored = fill(api, "FULL-1")
    before = disk.sizes()
    assert len(before) == len(stored)
    for way in WAYS.values():
        data = os.urandom(3 * MIB)
        with refused(*FULL) as refusals:
            way(api, data, spec_of(), attach_to="FULL-1")
        assert not refusals[0].retry.HasField("retry_delay")
        until(lambda: disk.sizes() == before)
    assert {file.id for file in attached(api, "FULL-1")} == set(stored)
    for file_id, data in stored.items():
        assert read(api, file_id) == data

    disk.ballast()
    for way in WAYS.values():
        data = os.urandom(3 * MIB)
        assert read(api, way(api, data, spec_of(), attach_to="FULL-2").id) == data
    checked = disk.server.report("fsck", "--blobs", disk.blobs.as_uri())
    assert checked["clean"]


@only_sqlite
@pytest.mark.parametrize("disk", ["all"], indirect=True)
def test_a_full_disk_under_the_database(disk: Disk) -> None:
    """P03: where not even a row can be written every change is STORAGE_FULL, and nothing of it is there."""
    api = disk.server.api()
    half = new_ticket(api).id  # While there is room for its row.
    stored = fill(api, "FULL-1")
    with refused(*FULL):
        for _ in range(VOLUME_BYTES // (16 * KIB)):
            data = os.urandom(16 * KIB)
            stored[upload(api, data, attach_to="FULL-1").file.id] = data
    before = disk.sizes()
    for way in WAYS.values():
        with refused(*FULL):
            way(api, os.urandom(3 * MIB), spec_of(), attach_to="FULL-1")
        until(lambda: disk.sizes() == before)
    with refused(*FULL):
        for offset in range(0, 3 * MIB, MIB):
            append(api, half, offset, os.urandom(MIB))
    assert {file.id for file in attached(api, "FULL-1")} == set(stored)
    for file_id, data in stored.items():
        assert read(api, file_id) == data
    disk.ballast()
    for way in WAYS.values():
        data = os.urandom(MIB)
        assert read(api, way(api, data, spec_of(), attach_to="FULL-2").id) == data
    disk.server.report("gc", "--blobs", disk.blobs.as_uri(), "--grace", "0")
    assert disk.server.report("fsck", "--blobs", disk.blobs.as_uri())["clean"]


# A disk that fails.


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    """Have something fail in the first server that is started."""
    return Faults(tmp_path / "faults", tmp_path / "data0" / "blobs")


CASES = [
    *[("unary", call) for call in ("write", "fdatasync", "fsync")],
    *[(way, call) for way in ("stream", "append") for call in ("pwrite", "fdatasync", "fsync")],
]


@pytest.mark.parametrize(("way", "call"), CASES)
def test_a_write_or_sync_that_fails(start_server: Start, faults: Faults, way: str, call: str) -> None:
    """P04: where the disk answers with EIO an upload is not acknowledged, nothing of it is seen; it can be repeated.

    The server goes on, and what was stored before can be read.
    """
    server = start_server(**faults.environment)
    api = server.api()
    earlier = upload(api, os.urandom(40 * KIB)).file
    for size in (40 * KIB, 3 * MIB):
        data = os.urandom(size)
        with faults.failing(call, "EIO"), refused(*AWAY):
            WAYS[way](api, data, spec_of(), attach_to="EIO-1")
        assert not attached(api, "EIO-1")
    assert read(api, earlier.id)
    for size in (40 * KIB, 3 * MIB):
        data = os.urandom(size)
        assert read(api, WAYS[way](api, data, spec_of(), attach_to="EIO-1").id) == data
    server.report("gc", "--grace", "0")
    checked = server.report("fsck", check=False)
    assert not any(checked[finding] for finding in checked if isinstance(checked[finding], list)), checked


@pytest.mark.parametrize("call", ["pwrite", "fdatasync", "fsync"])
def test_an_upload_goes_on_after_a_fault(start_server: Start, faults: Faults, call: str) -> None:
    """P04: nothing is confirmed that may be lost; the ticket stays, and goes on where it was confirmed.

    After a sync that failed a second one would succeed for nothing, so bytes from before it are written again.
    """
    api = start_server(**faults.environment).api()
    data = os.urandom(5 * MIB + 123)
    with Stream(api, attach_to="EIO-2") as stream:
        stream.ready()
        stream.send_all(data[: 2 * MIB])
        assert stream.flush() == 2 * MIB
        with faults.failing(call, "EIO"), refused(*AWAY):
            stream.send_all(data[: 4 * MIB])
            stream.ask_flush()
            stream.ask_finish()
            stream.rest()
    kept = ticket(api, stream.ticket_id)
    assert kept.state != upload_ticket_pb2.UPLOAD_TICKET_STATE_COMPLETED
    assert kept.committed_size == (4 * MIB if call == "fsync" else 2 * MIB)
    assert not attached(api, "EIO-2")
    with Stream(api, stream.ticket_id) as again:
        assert again.ready().committed_size == kept.committed_size
        again.send_all(data)
        assert read(api, again.finish(checksums=checksums_of(data)).file.id) == data

"""The server dies between any two steps of an upload: what was acknowledged is there, and no row lacks a blob."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc
import pytest

from remora.v1 import activity_service_pb2, capability_service_pb2, upload_ticket_pb2
from remora.v1 import file_service_pb2 as pb
from remora_server import opening
from remora_server.core.check import Checked
from remora_server.core.sweep import Sweep, Swept
from remora_server.stores.metadata import SqlMetadata
from tests.crashing import CrashingServer, HeldServer
from tests.running import Api, RunningServer, refused, until
from tests.uploading import (
    KIB,
    MIB,
    Stream,
    append,
    attached,
    cancel,
    checksums_of,
    create_file,
    new_ticket,
    read,
    spec_of,
    ticket,
    upload,
)

ISSUE = "CRASH-1"
HOUR = 3600 * 1_000_000
COMPLETED = upload_ticket_pb2.UPLOAD_TICKET_STATE_COMPLETED
REQUEST_ID = "0b0c9d5e-6a3a-4a0e-9d61-0e6f2ab6ae3d"
Started = list[RunningServer]


@pytest.fixture
def started() -> Iterator[Started]:
    """Hold servers that are killed afterwards."""
    servers: Started = []
    yield servers
    for server in servers:
        server.kill()


def sweep(server: RunningServer, grace: int) -> Swept:
    """Do what `gc` does, without starting a process."""
    with opening.open_stores(server.config()) as stores:
        return opening.sweep_of(stores).sweep(grace)


def check(server: RunningServer) -> Checked:
    """Do what `fsck` does, without starting a process."""
    with opening.open_stores(server.config()) as stores:
        return opening.check_of(stores).run()


def by_unary(api: Api, _ticket_id: str, data: bytes) -> None:
    """Send everything in one call, which may be repeated."""
    upload(api, data, attach_to=ISSUE, request_id=REQUEST_ID)


def by_stream(api: Api, ticket_id: str, data: bytes) -> None:
    """Send what is missing in a stream."""
    with Stream(api, ticket_id) as stream:
        first = stream.opened()
        if first.WhichOneof("message") == "done":
            return
        stream.offset = first.ready.committed_size
        stream.send_all(data, chunk_bytes=300 * KIB)
        stream.finish(checksums=checksums_of(data))


def by_append(api: Api, ticket_id: str, data: bytes) -> None:
    """Send what is missing in pieces, then make the file; asked for while it is verified, it is asked for again."""
    while (start := ticket(api, ticket_id).committed_size) < len(data):
        append(api, ticket_id, start, data[start : start + 700 * KIB])
    while create_file(api, ticket_id, checksums=checksums_of(data)).HasField("upload_ticket"):
        pass


Send = Callable[[Api, str, bytes], None]
CASES = [
    *[(point, by_unary) for point in ("put", "blob", "row", "answer")],
    *[(point, way) for point in ("staged", "blob", "row", "answer") for way in (by_stream, by_append)],
]


@pytest.mark.parametrize(("point", "send"), CASES)
def test_a_crash_within_an_upload_leaves_at_most_litter(
    tmp_path: Path, started: Started, point: str, send: Send
) -> None:
    """P02: after a crash at any step no row lacks its blob, the upload can be repeated, and gc leaves no litter.

    After a crash behind the commit the file is there once, and repeating the upload finds it.
    """
    started.append(crashing := CrashingServer(tmp_path / "data", point))
    api = crashing.start().api()
    data = os.urandom(MIB + 100 * KIB)
    ticket_id = new_ticket(api, spec_of(), attach_to=ISSUE).id
    with pytest.raises(grpc.RpcError) as caught:
        send(api, ticket_id, data)
    assert caught.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    started.append(server := crashing.recovered())
    api = server.api()

    checked = check(server)
    assert not checked.missing
    assert not checked.dangling_files
    assert not checked.corrupt
    files = attached(api, ISSUE)
    assert len(files) == (1 if point == "answer" else 0)
    if send is not by_unary:
        assert (ticket(api, ticket_id).state == COMPLETED) == (point == "answer")

    send(api, ticket_id, data)
    (file,) = attached(api, ISSUE)
    assert not files or file.id == files[0].id
    assert read(api, file.id) == data

    if send is by_unary:
        cancel(api, ticket_id)
    sweep(server, 0)
    assert len(server.blob_files()) == 1
    assert check(server).clean


LITTER = [("put", by_unary), ("blob", by_unary), ("staged", by_stream), ("blob", by_stream), ("row", by_append)]


@pytest.mark.parametrize(("point", "send"), LITTER)
def test_litter_of_a_crash_is_swept_away(tmp_path: Path, started: Started, point: str, send: Send) -> None:
    """P02: when nobody comes back to the upload, gc leaves neither an orphan nor a temporary file."""
    started.append(crashing := CrashingServer(tmp_path / "data", point, "--ticket-ttl", "2"))
    api = crashing.start().api()
    ticket_id = new_ticket(api, spec_of(), attach_to=ISSUE).id
    with pytest.raises(grpc.RpcError):
        send(api, ticket_id, os.urandom(MIB + 100 * KIB))
    started.append(server := crashing.recovered())
    api = server.api()
    assert server.used_bytes()
    until(lambda: ticket(api, ticket_id).state == upload_ticket_pb2.UPLOAD_TICKET_STATE_EXPIRED)
    swept = sweep(server, HOUR)
    assert (swept.orphan_blobs, swept.stale_staged, swept.expired_tickets) == (0, 0, 1)
    sweep(server, 0)
    assert not server.blob_files()
    assert check(server).clean


@pytest.mark.parametrize("send", [by_unary, by_stream, by_append])
def test_what_is_committed_has_its_event(tmp_path: Path, started: Started, send: Send) -> None:
    """P28: an upload whose answer was lost in a crash has exactly one event, also when it is repeated."""
    started.append(crashing := CrashingServer(tmp_path / "data", "answer"))
    api = crashing.start().api()
    data = os.urandom(100 * KIB)
    ticket_id = new_ticket(api, spec_of(), attach_to=ISSUE).id
    with pytest.raises(grpc.RpcError):
        send(api, ticket_id, data)
    started.append(server := crashing.recovered())
    api = server.api()
    send(api, ticket_id, data)
    (file,) = attached(api, ISSUE)
    request = activity_service_pb2.ListActivitiesRequest(workspace_id="demo", types=["file.created.v1"])
    assert [one.resource_id for one in api.activity.ListActivities(request).activities] == [file.id]


# A client that goes away while the server is between two steps.


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Callable[[str], HeldServer]]:
    """Start servers that stop at a point; they are killed afterwards."""
    servers: list[HeldServer] = []

    def start(point: str) -> HeldServer:
        servers.append(HeldServer(tmp_path / f"data{len(servers)}", point))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


def open_blob_files(server: RunningServer) -> int:
    """Count the files of the blob store that the server process has open."""
    folder = Path(f"/proc/{server.pid}/fd")
    targets = [os.readlink(descriptor) for descriptor in folder.iterdir() if descriptor.is_symlink()]  # noqa: PTH115
    return sum(target.startswith(str(server.data / "blobs")) for target in targets)


def settle(api: Api) -> None:
    """Let the server hear of everything that was sent to it before."""
    for _ in range(20):
        api.capabilities.GetCapabilities(capability_service_pb2.GetCapabilitiesRequest(), timeout=5)


def test_a_caller_that_leaves_while_rows_are_written_loses_no_bytes(held: Callable[[str], HeldServer]) -> None:
    """P02: a unary upload that is cancelled while its rows are being written has both rows and bytes, or neither."""
    server = held("row")
    api = server.api()
    first = new_ticket(api).id
    append(api, first, 0, b"first")
    before = set(server.blob_files())
    # While one change is held on the writer's thread, the next ones queue up behind it.
    holding = api.files.CreateFile.future(pb.CreateFileRequest(upload_ticket_id=first))
    server.wait_held()
    data = os.urandom(40 * KIB)
    call = api.files.UploadFile.future(pb.UploadFileRequest(workspace_id="demo", spec=spec_of(), data=data))
    until(lambda: any(path.stat().st_size == len(data) for path in set(server.blob_files()) - before))
    until(lambda: open_blob_files(server) == 0)
    settle(api)
    server.let_go()
    server.wait_held()
    call.cancel()
    settle(api)
    server.let_go()
    assert read(api, holding.result().file.id) == b"first"
    again = upload(api, data)
    assert read(api, again.file.id) == data
    assert check(server).clean


def test_gc_spares_an_upload_that_is_finished_while_it_looks(held: Callable[[str], HeldServer]) -> None:
    """P08: bytes whose row is committed just between two looks of gc are no orphan, even without any grace."""
    server = held("blob")
    api = server.api()
    data = os.urandom(40 * KIB)
    ticket_id = new_ticket(api).id
    append(api, ticket_id, 0, data)
    call = api.files.CreateFile.future(pb.CreateFileRequest(upload_ticket_id=ticket_id))
    server.wait_held()

    class Late(SqlMetadata):
        """Lets the upload be finished after the first look at its bytes."""

        waiting = True

        def finish(self, names: Sequence[str]) -> None:
            """Let go of the upload, and wait for its end."""
            if self.waiting and ticket_id in names:
                self.waiting = False
                server.let_go()
                call.result()

        def known_locations(self, locations: Sequence[str]) -> set[str]:
            """Look for rows."""
            known = super().known_locations(locations)
            self.finish(locations)
            return known

        def open_tickets_among(self, ticket_ids: Sequence[str]) -> set[str]:
            """Look for tickets."""
            found = super().open_tickets_among(ticket_ids)
            self.finish(ticket_ids)
            return found

    with opening.open_stores(server.config()) as stores:
        late = Late(stores.database)
        swept = Sweep(late, stores.blobs, stores.writer, stores.clock, opening.leases_of(stores)).sweep(0)
    assert not late.waiting
    assert swept.orphan_blobs == 0
    assert read(api, call.result().file.id) == data


def test_gc_and_an_upload_in_one_piece_never_make_a_row_without_bytes(held: Callable[[str], HeldServer]) -> None:
    """P08: a sweep without grace may take an upload's bytes before their row; then that upload is told to retry."""
    server = held("put")
    api = server.api()
    data = os.urandom(40 * KIB)
    request = pb.UploadFileRequest(workspace_id="demo", spec=spec_of(), data=data, request_id=REQUEST_ID)
    call = api.files.UploadFile.future(request)
    server.wait_held()
    assert sweep(server, 0).orphan_blobs == 1
    server.let_go()
    with refused(grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE") as refusals:
        call.result()
    assert refusals[0].retry.HasField("retry_delay")
    assert check(server).clean
    again = api.files.UploadFile(request)
    assert sweep(server, 0).orphan_blobs == 0
    assert read(api, again.file.id) == data


def test_a_caller_that_leaves_while_its_upload_is_opened_leaves_nothing_open(
    held: Callable[[str], HeldServer],
) -> None:
    """P17: a stream that is cancelled while its file is being opened gives it back; the ticket can be opened again."""
    server = held("stage")
    api = server.api()
    ticket_id = new_ticket(api).id
    with Stream(api, ticket_id):
        server.wait_held()
    settle(api)
    server.let_go()
    with Stream(api, ticket_id) as stream:
        stream.ready()
        stream.send(b"mine")
        assert stream.finish().file.size_bytes == 4
    until(lambda: open_blob_files(server) == 0)


def test_a_caller_that_leaves_while_a_blob_is_opened_leaves_nothing_open(held: Callable[[str], HeldServer]) -> None:
    """P17: a download that is cancelled while its file is being opened closes it."""
    server = held("open")
    api = server.api()
    data = os.urandom(40 * KIB)
    file = upload(api, data).file
    call = api.files.ReadFile(pb.ReadFileRequest(file_id=file.id))
    server.wait_held()
    call.cancel()
    settle(api)
    server.let_go()
    assert read(api, file.id) == data
    until(lambda: open_blob_files(server) == 0)


def test_a_fenced_writer_that_was_being_opened_does_not_block_the_next(held: Callable[[str], HeldServer]) -> None:
    """A writer that is overtaken while its file is being opened ends with WRITER_FENCED; the newer one goes on."""
    server = held("stage")
    api = server.api()
    ticket_id = new_ticket(api).id
    with Stream(api, ticket_id) as older:
        server.wait_held()
        with Stream(api, ticket_id) as newer:
            settle(api)
            server.let_go()
            with refused(grpc.StatusCode.ABORTED, "WRITER_FENCED"):
                older.rest()
            newer.ready()
            newer.send(b"mine")
            assert newer.finish().file.size_bytes == 4

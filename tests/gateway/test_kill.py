"""The server dies between any two steps of an upload over HTTP: no row lacks a blob, and the upload can be finished."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import grpc
import pytest

from remora.v1 import file_service_pb2 as files_pb
from remora.v1 import upload_ticket_pb2
from remora_server import opening
from tests.combinations import own_urls
from tests.crashing import CrashingServer, HeldServer
from tests.running import Api, RunningServer, refused
from tests.ticketing import FORM, PUT, RESUMABLE, TRANSPORTS, Reply, ask, http_ticket, make_file, send
from tests.uploading import KIB, checksums_of, read, ticket

pytestmark = own_urls
DATA = os.urandom(600 * KIB)
Transport: TypeAlias = upload_ticket_pb2.Transport.ValueType
Ticket = upload_ticket_pb2.UploadTicket
transports = pytest.mark.parametrize("transport", TRANSPORTS.values(), ids=TRANSPORTS)
VERIFYING = upload_ticket_pb2.UPLOAD_TICKET_STATE_VERIFYING


@pytest.fixture
def started() -> Iterator[list[RunningServer]]:
    """Hold servers that are killed afterwards."""
    servers: list[RunningServer] = []
    yield servers
    for server in servers:
        server.kill()


def at(server: RunningServer, made: Ticket) -> upload_ticket_pb2.HttpUpload:
    """Return how to send a ticket's bytes, at the port that the server has now."""
    moved = upload_ticket_pb2.HttpUpload()
    moved.CopyFrom(made.http)
    moved.url = moved.url.replace(urlsplit(moved.url).netloc, urlsplit(server.ready["http"]).netloc)
    return moved


def send_fatally(http: upload_ticket_pb2.HttpUpload) -> None:
    """Send all bytes to a server that does not live to answer."""
    with pytest.raises(ConnectionError):
        send(http, DATA)


def where(http: upload_ticket_pb2.HttpUpload) -> Reply:
    """Ask a session how far it is."""
    return ask("PUT", http.url, {"Content-Range": "bytes */*"}, b"")


def is_clean(server: RunningServer) -> bool:
    """Do what `fsck` does, without starting a process."""
    with opening.open_stores(server.config()) as stores:
        return opening.check_of(stores).run().clean


def finish(server: RunningServer, api: Api, made: Ticket) -> None:
    """Make the file, twice; prove that there is one, and nothing beside it."""
    file = make_file(api, made.id)
    assert make_file(api, made.id) == file
    assert (read(api, file.id), file.checksums.sha256) == (DATA, checksums_of(DATA).sha256)
    listed = api.files.ListFiles(files_pb.ListFilesRequest(workspace_id="demo")).files
    assert [one.id for one in listed] == [file.id]
    with opening.open_stores(server.config()) as stores:
        opening.sweep_of(stores).sweep(0)
    assert is_clean(server)
    assert len(server.blob_files()) == 1
    assert read(api, file.id) == DATA


@transports
def test_half_way_through_the_bytes(tmp_path: Path, started: list[RunningServer], transport: Transport) -> None:
    """What came is no file, whatever it is; the same URL takes the bytes again (P01, P02)."""
    dying = CrashingServer(tmp_path / "data", "staged")
    started.append(dying.start())
    made = http_ticket(dying.api(), transport)
    send_fatally(made.http)
    started.append(server := dying.recovered())
    api = server.api()
    assert is_clean(server)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "UPLOAD_INCOMPLETE"):
        make_file(api, made.id)
    http = at(server, made)
    if transport == RESUMABLE:
        assert where(http).status == 308
        assert ticket(api, made.id).committed_size == 0
    assert send(http, DATA).ok
    finish(server, api, made)


@transports
def test_when_the_bytes_have_arrived(tmp_path: Path, started: list[RunningServer], transport: Transport) -> None:
    """They are there, though nobody was told: no more are taken, and the file can be made."""
    dying = CrashingServer(tmp_path / "data", "land")
    started.append(dying.start())
    made = http_ticket(dying.api(), transport)
    send_fatally(made.http)
    started.append(server := dying.recovered())
    assert is_clean(server)
    http = at(server, made)
    assert send(http, DATA[::-1]).refusal == (409, "UPLOAD_TICKET_CLOSED")
    if transport == RESUMABLE:
        assert where(http).status == 200
    finish(server, server.api(), made)


@pytest.mark.parametrize("point", ["row", "answer"])
@pytest.mark.parametrize("transport", [PUT, FORM], ids=["put", "form"])
def test_while_the_file_is_made(tmp_path: Path, started: list[RunningServer], transport: Transport, point: str) -> None:
    """Before the commit there is no file, after it there is; to ask again gives the one there is (P02, P15)."""
    dying = CrashingServer(tmp_path / "data", point)
    started.append(dying.start())
    api = dying.api()
    made = http_ticket(api, transport)
    assert send(made.http, DATA).ok
    with pytest.raises(grpc.RpcError):
        make_file(api, made.id)
    started.append(server := dying.recovered())
    assert is_clean(server)
    finish(server, server.api(), made)


def test_while_the_bytes_are_read(tmp_path: Path, started: list[RunningServer]) -> None:
    """A server that reads what another one received may die over it; the next one reads it again."""
    first = RunningServer(tmp_path / "data").start()
    started.append(first)
    made = http_ticket(first.api(), PUT)
    assert send(made.http, DATA).ok
    first.kill()
    held = HeldServer(tmp_path / "data", "open")
    started.append(held.start())
    api = held.api()
    asking = threading.Thread(target=pytest.raises, args=(grpc.RpcError, make_file, api, made.id))
    asking.start()
    held.wait_held()
    assert ticket(api, made.id).state == VERIFYING
    held.kill()
    asking.join()
    started.append(server := RunningServer(tmp_path / "data").start())
    assert is_clean(server)
    finish(server, server.api(), made)


def test_what_takes_long_to_read(tmp_path: Path, started: list[RunningServer]) -> None:
    """Meanwhile the answer is the ticket, and in the end it is the file."""
    first = RunningServer(tmp_path / "data").start()
    started.append(first)
    made = http_ticket(first.api(), PUT)
    assert send(made.http, DATA).ok
    first.kill()
    held = HeldServer(tmp_path / "data", "open")
    started.append(held.start())
    api = held.api()
    answer = api.files.CreateFile(files_pb.CreateFileRequest(upload_ticket_id=made.id))
    assert (answer.upload_ticket.id, answer.upload_ticket.state) == (made.id, VERIFYING)
    held.wait_held()
    held.let_go()
    finish(held, api, made)


def test_between_parts(tmp_path: Path, started: list[RunningServer]) -> None:
    """What a session was told is stored outlives every kill (P01)."""
    size, part = len(DATA), 256 * KIB
    server = RunningServer(tmp_path / "data").start()
    started.append(server)
    made = http_ticket(server.api(), RESUMABLE)
    for first in range(0, size, part):
        http, end = at(server, made), min(size, first + part)
        total = size if end == size else "*"
        reply = ask("PUT", http.url, {"Content-Range": f"bytes {first}-{end - 1}/{total}"}, DATA[first:end])
        assert reply.status == (200 if end == size else 308)
        server.kill()
        started.append(server := RunningServer(tmp_path / "data").start())
        reply = where(at(server, made))
        assert reply.headers.get("range") == (None if end == size else f"bytes=0-{end - 1}")
    finish(server, server.api(), made)


@transports
def test_several_workers(tmp_path: Path, started: list[RunningServer], transport: Transport) -> None:
    """Each request of an upload may come to another process."""
    server = RunningServer(tmp_path / "data", "--workers", "2").start()
    started.append(server)
    api, part = server.api(), 256 * KIB
    for _ in range(4):
        data = os.urandom(1000 * KIB)
        made = http_ticket(api, transport)
        if transport == RESUMABLE:
            for first in range(0, len(data), part):
                end = min(first + part, len(data))
                content_range = f"bytes {first}-{end - 1}/{len(data)}"
                reply = ask("PUT", made.http.url, {"Content-Range": content_range}, data[first:end])
                assert reply.status == (200 if end == len(data) else 308)
        else:
            assert send(made.http, data).ok
        for _ in range(4):
            assert not send(made.http, data[::-1]).ok
        files = {make_file(api, made.id).id for _ in range(4)}
        assert [read(api, file) for file in files] == [data]

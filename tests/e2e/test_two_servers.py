"""Two servers on one data directory: an upload goes on at either, and a writer that was overtaken harms nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from remora.v1 import upload_ticket_pb2
from tests.combinations import BLOBS
from tests.crashing import HeldServer
from tests.running import Api, RunningServer, refused, until
from tests.uploading import (
    KIB,
    MIB,
    Stream,
    append,
    cancel,
    checksums_of,
    create_file,
    new_ticket,
    read,
    ticket,
)

ABORTED = grpc.StatusCode.ABORTED
VERIFYING = upload_ticket_pb2.UPLOAD_TICKET_STATE_VERIFYING
COPIED = "bytes are copied"


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[RunningServer, RunningServer]]:
    """Start two servers on one data directory; they are killed afterwards."""
    started = [RunningServer(tmp_path / "data").start() for _ in range(2)]
    yield started[0], started[1]
    for server in started:
        server.signal(signal.SIGKILL)
        server.wait()


def nothing_is_left(server: RunningServer, *kept: int) -> None:
    """Check that, after gc, the store holds files of these sizes only, all of them sound."""
    server.report("gc", "--grace", "0")
    assert server.report("fsck")["clean"]
    assert sorted(path.stat().st_size for path in server.blob_files()) == sorted(kept)


def test_a_writer_that_stops_and_wakes_up(servers: tuple[RunningServer, RunningServer]) -> None:
    """A server that is stopped half-way through an upload, which is finished elsewhere, changes no byte of it."""
    here, there = servers
    data = os.urandom(7 * MIB + 123)
    with Stream(here.api()) as old:
        old.ready()
        old.send_all(data[: 3 * MIB + 77])
        old.flush()
        here.signal(signal.SIGSTOP)
        for _ in range(4):
            old.send(os.urandom(MIB))
        api = there.api()
        with Stream(api, old.ticket_id) as new:
            assert new.ready().committed_size == 3 * MIB + 77
            assert (COPIED in there.log()) == (BLOBS == "disk")
            new.send_all(data[: 6 * MIB])
            new.flush()
            here.signal(signal.SIGCONT)
            with refused(ABORTED, "WRITER_FENCED"):
                old.rest()
            new.send_all(data)
            file = new.finish(checksums=checksums_of(data)).file
    assert read(api, file.id) == read(here.api(), file.id) == data
    nothing_is_left(there, len(data))


def test_a_writer_that_wakes_up_after_the_end(servers: tuple[RunningServer, RunningServer]) -> None:
    """It is told that it was overtaken, also when all it had left to do was to finish."""
    here, there = servers
    data, other = os.urandom(2 * MIB + 1), os.urandom(MIB)
    with Stream(here.api()) as old:
        old.ready()
        old.send_all(data[:MIB])
        old.flush()
        here.signal(signal.SIGSTOP)
        old.send(other)
        old.ask_finish()
        api = there.api()
        with Stream(api, old.ticket_id) as new:
            new.ready()
            new.send_all(data)
            file = new.finish(checksums=checksums_of(data)).file
        here.signal(signal.SIGCONT)
        with refused(ABORTED, "WRITER_FENCED"):
            old.rest()
    assert read(api, file.id) == data
    nothing_is_left(here, len(data))


def test_a_silent_writer_lets_go(servers: tuple[RunningServer, RunningServer]) -> None:
    """A writer whose client sends nothing is stopped within a few seconds, and the next one goes on in place."""
    here, there = servers
    data = os.urandom(2 * MIB)
    with Stream(here.api()) as old:
        old.ready()
        old.send_all(data[:MIB])
        old.flush()
        api = there.api()
        with Stream(api, old.ticket_id) as new:
            assert new.ready().committed_size == MIB
            with refused(ABORTED, "WRITER_FENCED"):
                old.rest()
            new.send_all(data)
            file = new.finish(checksums=checksums_of(data)).file
    assert read(here.api(), file.id) == data
    assert COPIED not in there.log()


def test_cancelled_elsewhere(servers: tuple[RunningServer, RunningServer]) -> None:
    """CancelUploadTicket at one server stops the writer at the other, and no bytes stay."""
    here, there = servers
    with Stream(here.api()) as stream:
        stream.ready()
        stream.send(bytes(100 * KIB))
        stream.flush()
        cancel(there.api(), stream.ticket_id)
        with refused(ABORTED, "WRITER_FENCED"):
            stream.rest()
    assert not there.staged_bytes("")
    nothing_is_left(there)


def test_appending_here_and_there(servers: tuple[RunningServer, RunningServer]) -> None:
    """Pieces may be appended at either server in turn, and the file created at any."""
    apis = [server.api() for server in servers]
    data = os.urandom(5 * 300 * KIB)
    ticket_id = new_ticket(apis[0]).id
    for number, offset in enumerate(range(0, len(data), 300 * KIB)):
        append(apis[number % 2], ticket_id, offset, data[offset : offset + 300 * KIB])
    repeated = append(apis[1], ticket_id, 4 * 300 * KIB, data[4 * 300 * KIB :])
    assert repeated.committed_size == len(data)
    file = create_file(apis[1], ticket_id, checksums=checksums_of(data)).file
    assert create_file(apis[0], ticket_id).file.id == file.id
    assert read(apis[0], file.id) == data
    nothing_is_left(servers[0], len(data))


@pytest.fixture
def reading_back(tmp_path: Path) -> Iterator[tuple[HeldServer, Api, Api, str, bytes]]:
    """Have a server wait where it reads bytes back that another one had got; both are killed afterwards."""
    held = HeldServer(tmp_path / "data", "verify")
    other = RunningServer(tmp_path / "data")
    held.start()
    other.start()
    api = other.api()
    data = os.urandom(MIB + 3)
    ticket_id = new_ticket(api).id
    append(api, ticket_id, 0, data)
    yield held, held.api(), api, ticket_id, data
    for server in (held, other):
        server.kill()


def test_whoever_asks_while_another_server_verifies_waits(
    reading_back: tuple[HeldServer, Api, Api, str, bytes],
) -> None:
    """CreateFile and WriteFile elsewhere wait for the verification, which goes on, and return its file."""
    held, here, there, ticket_id, data = reading_back
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(create_file, here, ticket_id)
        held.wait_held()
        assert ticket(there, ticket_id).state == VERIFYING
        with Stream(there, ticket_id) as stream:
            assert stream.next().WhichOneof("message") == "verifying"
            second = pool.submit(create_file, there, ticket_id)
            with refused(ABORTED, "WRITER_FENCED"):
                append(there, ticket_id, len(data), b"more")
            held.let_go()
            files = [first.result().file, second.result().file, stream.rest()[-1].done.file]
    assert len({file.id for file in files}) == 1
    assert read(there, files[0].id) == data


def test_a_verification_that_died_is_begun_anew(reading_back: tuple[HeldServer, Api, Api, str, bytes]) -> None:
    """When the server that verifies is killed, another one does it, some seconds later."""
    held, here, there, ticket_id, data = reading_back
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(create_file, here, ticket_id)
        held.wait_held()
        held.kill()
        assert first.exception() is not None
    until(lambda: create_file(there, ticket_id).HasField("file"), 60)
    assert read(there, create_file(there, ticket_id).file.id) == data

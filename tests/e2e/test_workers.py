"""`serve --workers N`: several processes on the same two ports, kept running by a parent that ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import pytest

from remora_server.workers import Workers, reserve
from tests.running import Api, RunningServer, until
from tests.uploading import MIB, Stream, checksums_of, direct, read, upload

WORKERS = 2
Start = Callable[..., RunningServer]


@pytest.fixture
def server(start_server: Start) -> RunningServer:
    """Start a server with two workers."""
    return start_server("--workers", str(WORKERS))


def workers_of(server: RunningServer) -> set[int]:
    """Return the processes that the server's parent process has started."""
    path = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    return {int(pid) for pid in path.read_text().split()}


def serving(server: RunningServer) -> set[int]:
    """Return the workers that have taken at least one connection."""
    found = set()
    for pid in workers_of(server):
        inodes = set()
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
        tables = "".join(Path(f"/proc/{pid}/net/{table}").read_text() for table in ("tcp", "tcp6"))
        rows = [line.split() for line in tables.splitlines()]
        port = f":{server.port:04X}"
        if any(row[1].endswith(port) and row[3] == "01" and row[9] in inodes for row in rows):
            found.add(pid)
    return found


def alive(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


@pytest.fixture
def apis(server: RunningServer) -> Iterator[list[Api]]:
    """Make stubs over so many connections that every worker has some."""
    made: list[Api] = []

    def spread() -> bool:
        made.append(Api(server.address, server.ready["key"], (("grpc.use_local_subchannel_pool", 1),)))
        upload(made[-1], b"x")
        return len(serving(server)) == WORKERS

    until(spread, 30)
    yield made
    for api in made:
        api.channel.close()


def test_all_workers_serve_the_same(server: RunningServer, apis: list[Api]) -> None:
    """Every worker sees what any other has stored, over gRPC and HTTP, and one line told that they are ready."""
    files = [upload(api, bytes([number]) * 100_000).file for number, api in enumerate(apis)]
    for number, file in enumerate(files):
        assert read(apis[-1 - number], file.id) == bytes([number]) * 100_000
    for _ in range(10):
        with httpx.Client() as client:
            assert client.get(server.ready["http"] + "/healthz").status_code == 200
    assert server.stop() == 0
    assert server.rest_of_output == ""
    assert server.log().count("migrated: 0001_start") == 1


def test_an_upload_goes_on_at_another_worker(server: RunningServer, apis: list[Api]) -> None:
    """Each continuation of an upload may land at another process; the file is byte for byte right."""
    data = os.urandom(4 * MIB + 5)
    ticket_id = ""
    for turn, api in enumerate(apis * 2):
        with Stream(api, ticket_id) as stream:
            ready = stream.ready()
            ticket_id = stream.ticket_id
            assert ready.committed_size == min(turn * 300_000, len(data))
            stream.send_all(data[: (turn + 1) * 300_000], chunk_bytes=100_000)
            stream.flush()
    with Stream(apis[0], ticket_id) as stream:
        stream.ready()
        stream.send_all(data)
        file = stream.finish(checksums=checksums_of(data)).file
    assert read(apis[-1], file.id) == data
    server.report("gc", "--grace", "0")
    assert server.report("fsck")["clean"]


def test_a_worker_that_dies_is_replaced(server: RunningServer, apis: list[Api]) -> None:
    """The others go on meanwhile, and the new one serves too."""
    before = workers_of(server)
    assert len(before) == WORKERS
    killed = min(before)
    os.kill(killed, signal.SIGKILL)
    until(lambda: len(workers_of(server) - {killed}) == WORKERS, 30)
    assert "ended with code -9" in server.log()
    for api in apis:
        upload(api, b"still there")
    (new,) = workers_of(server) - before

    def reached() -> bool:
        with direct(server.address, server.ready["key"]) as api:
            upload(api, b"y")
            return new in serving(server)

    until(reached, 30)
    assert server.stop() == 0


def test_sigterm_drains_every_worker(server: RunningServer, apis: list[Api]) -> None:
    """Uploads at each worker are told how far they came, and the exit code is 0."""
    streams = [Stream(api) for api in apis]
    for stream in streams:
        stream.ready()
        stream.send(b"abc")
        stream.flush()
    workers = workers_of(server)
    server.signal(signal.SIGTERM)
    assert {stream.drained().committed_size for stream in streams} == {3}
    assert server.wait() == 0
    assert not any(map(alive, workers))


def test_no_worker_outlives_its_parent(server: RunningServer) -> None:
    """A parent that is killed takes its workers along, and the ports are free for the next start."""
    workers = workers_of(server)
    server.kill()
    until(lambda: not any(map(alive, workers)))
    port = server.port
    assert server.restart().port == port
    upload(server.api(), b"x")


def test_another_server_is_refused(server: RunningServer, tmp_path: Path) -> None:
    """Workers share their ports with each other only, whether the other server has workers or not."""
    other = RunningServer(tmp_path / "other")
    taken = {"--grpc-port": str(server.port), "--http-port": server.ready["http"].rpartition(":")[2]}

    def refusal(flag: str, more: tuple[str, ...]) -> str:
        ports = {"--grpc-port": "0", "--http-port": "0", flag: taken[flag]}
        refused = other.command("serve", *(part for pair in ports.items() for part in pair), *more, check=False)
        assert refused.returncode == 1
        return refused.stderr

    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(refusal, taken, [(), ("--workers", "2")]))
    for text, (flag, port) in zip(told, taken.items(), strict=True):
        assert f"can't listen on 127.0.0.1:{port} for" in text
        assert f"choose another with {flag}." in text


def test_a_reserved_port_is_nobody_elses() -> None:
    """Before a worker listens, another parent can't have the port, and a worker can."""
    with reserve("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            reserve("127.0.0.1", port)
        server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 1)])
        assert server.add_insecure_port(f"127.0.0.1:{port}") == port


def run(program: str) -> tuple[int, bool]:
    """Run two workers that are this program; return the exit code, and whether all were ready."""
    told: list[bool] = []
    code = asyncio.run(Workers([sys.executable, "-c", program], 2, 1.0).run(lambda: told.append(True)))
    return code, bool(told)


def test_workers_that_can_not_start(caplog: pytest.LogCaptureFixture) -> None:
    """The parent gives up with their exit code, before anybody is told that it is ready."""
    assert run("import sys; sys.exit(7)") == (7, False)
    assert "ended with code 7 before it was ready" in caplog.text


def test_workers_that_die_again_and_again(caplog: pytest.LogCaptureFixture) -> None:
    """They are replaced at longer and longer intervals; the first one here ends it all at its fourth life."""
    caplog.set_level(logging.ERROR)
    dying = """
import os, signal, socket, sys, time
socket.socket(fileno=int(sys.argv[1])).sendall(b"ready")
time.sleep(0.5)
"""
    parent = os.getpid()

    class Enough(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "starts in 0.4 s" in record.getMessage():
                os.kill(parent, signal.SIGTERM)

    handler = Enough()
    logging.getLogger("remora_server.workers").addHandler(handler)
    try:
        assert run(dying) == (0, True)
    finally:
        logging.getLogger("remora_server.workers").removeHandler(handler)
    for delay in ("0.1", "0.2", "0.4"):
        assert f"starts in {delay} s" in caplog.text

"""A server on Cloud Storage that fails, or is away: what callers are told, and that nothing acknowledged is lost."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from tests.gcs.line import Line
from tests.gcs.running import RunningGcs
from tests.running import Api, RunningServer, refused, until
from tests.ticketing import ask
from tests.uploading import KIB, MIB, WAYS, attached, direct, read, spec_of, upload

CODE = grpc.StatusCode
SEND = "POST .*multipart|PUT .*upload_id"
PASSING: dict[str, dict[str, Any]] = {
    **{f"{status}": {"kind": "status", "status": status} for status in (503, 408, 429, 500, 502, 504)},
    "503-after-256KiB": {"kind": "status", "status": 503, "after_bytes": 256 * KIB},
    "503-after-8MiB": {"kind": "status", "status": 503, "after_bytes": 8 * MIB},
    "reset": {"kind": "reset"},
    "stall": {"kind": "stall", "seconds": 1},
    "lost": {"kind": "lost"},
    "drop": {"kind": "drop"},
}
DEADLINE_SECONDS = 20.0
CALLERS = 16
# What was freed stays with the allocator (`tune_allocator`), and how much that is depends on who sent what at once.
MEMORY_BYTES = 128 * MIB
LISTENING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def line(gcs: RunningGcs) -> Iterator[Line]:
    """Connect to the fake."""
    with Line(gcs.address) as made:
        yield made


@pytest.fixture(scope="module")
def on_gcs(tmp_path_factory: pytest.TempPathFactory, gcs: RunningGcs, line: Line) -> Iterator[RunningServer]:
    """Start a server on the fake, whatever the stores of other tests are; it is killed afterwards."""
    where = {"STORAGE_EMULATOR_HOST": line.address, "REMORA_BLOBS": f"gs://{gcs.bucket}/{secrets.token_hex(8)}"}
    folder = tmp_path_factory.mktemp("gcs")
    running = RunningServer(folder / "data", environment={**gcs.environment, **where})
    yield running.start()
    running.signal(signal.SIGKILL)
    running.wait()


@pytest.fixture(autouse=True)
def _without_faults(gcs: RunningGcs) -> Iterator[None]:
    gcs.clear()
    yield
    gcs.clear()


@pytest.fixture
def api(on_gcs: RunningServer) -> Iterator[Api]:
    """Stubs that call the server on the fake."""
    with direct(on_gcs.address, str(on_gcs.ready["key"])) as made:
        yield made


def object_of(server: RunningServer, gcs: RunningGcs, file_id: str) -> tuple[str, Path]:
    """Return the name of the object of a file, and where the fake has its bytes."""
    query = "SELECT b.location FROM files f JOIN blobs b ON b.id = f.blob_id WHERE f.id = ?"
    name = str(server.sql(query, file_id)[0][0]).partition("@")[0]
    (found,) = [(key, path) for key, path in gcs.files().items() if key.endswith(name)]
    return found


@pytest.mark.parametrize(
    ("way", "size", "fault"),
    [
        *(pytest.param("stream", 9 * MIB + 77, fault, id=f"stream-{name}") for name, fault in PASSING.items()),
        *(
            pytest.param(way, MIB + 77, PASSING[name], id=f"{way}-{name}")
            for way in ("unary", "append")
            for name in ("503", "reset", "stall", "lost")
        ),
    ],
)
def test_faults_that_pass(
    on_gcs: RunningServer, gcs: RunningGcs, api: Api, new_issue: str, way: str, size: int, fault: dict[str, Any]
) -> None:
    """P19: a fault that passes is not seen by the caller, and what is acknowledged is stored as it was sent."""
    data = os.urandom(size)
    gcs.plan(match=SEND, **fault)
    file = WAYS[way](api, data, spec_of(size_bytes=size), attach_to=new_issue)
    assert object_of(on_gcs, gcs, file.id)[1].read_bytes() == data
    assert read(api, file.id) == data
    assert [one.id for one in attached(api, new_issue)] == [file.id]


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize("way", WAYS)
def test_refusals(gcs: RunningGcs, api: Api, new_issue: str, way: str, status: int) -> None:
    """P19: what Cloud Storage refuses this server for good is no reason to retry; no file is made."""
    data = os.urandom(MIB + 77)
    gcs.plan("status", SEND, status=status, times=-1)
    with refused(CODE.INTERNAL, "INTERNAL"):
        WAYS[way](api, data, spec_of(), attach_to=new_issue)
    assert not attached(api, new_issue)
    gcs.clear()
    assert read(api, WAYS[way](api, data, spec_of()).id) == data


@pytest.mark.parametrize("change", ["damaged", "replaced", "removed"])
def test_an_object_that_changed(on_gcs: RunningServer, gcs: RunningGcs, api: Api, change: str) -> None:
    """P19: bytes that are not what was stored are never passed off as the file."""
    data = os.urandom(2 * MIB)
    file = upload(api, data).file
    name, path = object_of(on_gcs, gcs, file.id)
    if change == "damaged":
        gcs.flip(name)
    elif change == "replaced":
        address = f"{gcs.address}/upload/storage/v1/b/{gcs.bucket}/o?uploadType=media&name={name}"
        assert ask("POST", address, {"Content-Type": "text/plain"}, data).ok
    else:
        path.unlink()
    with refused(CODE.DATA_LOSS, "STORED_CONTENT_CORRUPT"):
        read(api, file.id)


def health(api: Api, service: str = "") -> int:
    """Ask for the health of a service."""
    check = api.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    return int(check(health_pb2.HealthCheckRequest(service=service), timeout=10).status)


def threads_and_bytes(server: RunningServer) -> tuple[int, int]:
    """Return how many threads a server has, and how much memory."""
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return int(found["Threads"]), int(found["VmRSS"].split()[0]) * KIB


class Caller:
    """Uploads and reads until it is told to end, and notes what it was told."""

    def __init__(self, server: RunningServer, number: int) -> None:
        self._server = server
        self._number = number
        self._ending = threading.Event()
        self.files: dict[str, bytes] = {}
        self.acknowledged_at = 0.0
        self.refusals: list[tuple[grpc.StatusCode, float]] = []
        self.thread = threading.Thread(target=self._work)
        self.thread.start()

    def end(self) -> None:
        """Have the calls end."""
        self._ending.set()
        self.thread.join(60)

    def _work(self) -> None:
        with direct(self._server.address, str(self._server.ready["key"])) as api:
            while not self._ending.is_set():
                began = time.monotonic()
                try:
                    self._call(api)
                except grpc.RpcError as error:
                    self.refusals.append((error.code(), time.monotonic() - began))
                    self._ending.wait(0.2)
                else:
                    self.acknowledged_at = time.monotonic()
                    self._ending.wait(0.05)

    def _call(self, api: Api) -> None:
        if self._number % 4 == 3 and self.files:
            file_id, data = next(iter(self.files.items()))
            assert read(api, file_id) == data
            return
        data = os.urandom(300 * KIB)
        way = "stream" if self._number % 2 else "unary"
        self.files[WAYS[way](api, data, spec_of()).id] = data


@pytest.mark.timeout(180)
def test_cloud_storage_is_away_for_a_while(on_gcs: RunningServer, line: Line, api: Api) -> None:
    """P20: callers get UNAVAILABLE within their deadline, health says so, and everything returns to what it was.

    What needs no contents of files goes on meanwhile.
    """
    callers = [Caller(on_gcs, number) for number in range(CALLERS)]
    try:
        until(lambda: all(len(caller.files) > 2 or caller.acknowledged_at for caller in callers), 60)
        threads, memory_bytes = threads_and_bytes(on_gcs)
        line.cut()
        until(lambda: health(api) == NOT_SERVING, 15)
        assert health(api, "remora.v1.FileService") == NOT_SERVING
        assert health(api, "remora.v1.LinkService") == LISTENING
        told = ask("GET", f"{on_gcs.ready['http']}/healthz")
        assert (told.status, b'"blobs"' in told.body) == (503, True)
        assert read(api, upload(api, b"small enough for the database").file.id)
        until(lambda: all(caller.refusals for caller in callers), DEADLINE_SECONDS)
        line.mend()
        back = time.monotonic()
        until(lambda: all(caller.acknowledged_at > back for caller in callers), DEADLINE_SECONDS)
        until(lambda: health(api) == health(api, "remora.v1.FileService") == LISTENING, 15)
        assert ask("GET", f"{on_gcs.ready['http']}/healthz").ok
    finally:
        line.cut()
        line.mend()
        for caller in callers:
            caller.end()
    refusals = [refusal for caller in callers for refusal in caller.refusals]
    assert {code for code, _ in refusals} == {CODE.UNAVAILABLE}
    assert max(seconds for _, seconds in refusals) < DEADLINE_SECONDS
    for caller in callers:
        for file_id, data in caller.files.items():
            assert read(api, file_id) == data
    until(lambda: threads_and_bytes(on_gcs)[0] <= threads, 30)
    assert threads_and_bytes(on_gcs)[1] < memory_bytes + MEMORY_BYTES

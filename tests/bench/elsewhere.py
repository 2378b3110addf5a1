"""Servers on the other stores, started when a row first needs them: PostgreSQL, the fake of Cloud Storage, or both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Self

import httpx

from remora.v1 import common_pb2, file_pb2, file_service_pb2, upload_ticket_pb2, upload_ticket_service_pb2
from tests.bench.bytes_moved import MIB, Content, rate_since
from tests.gcs.running import RunningGcs
from tests.postgres import own_cluster
from tests.running import Api, RunningServer

# Unlike the clusters of the tests: what it acknowledges is on the disk.
DURABLE = ("-c", "shared_buffers=128MB", "-c", "max_connections=100")
PART = 8 * MIB
PUT, RESUMABLE = upload_ticket_pb2.TRANSPORT_HTTP_PUT, upload_ticket_pb2.TRANSPORT_HTTP_RESUMABLE


class Elsewhere:
    """What the production rows are measured on; use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def cloud(self) -> RunningGcs:
        """The fake of Cloud Storage."""
        fake = RunningGcs()
        self._stack.callback(fake.stop)
        return fake

    @cached_property
    def on_postgres(self) -> RunningServer:
        """A server on PostgreSQL and a directory."""
        cluster = self._stack.enter_context(own_cluster(DURABLE))
        return self._start("on-postgres", {"REMORA_DATABASE_URL": cluster.url})

    @cached_property
    def on_cloud(self) -> RunningServer:
        """A server on SQLite and the fake of Cloud Storage."""
        return self._start("on-cloud", {"REMORA_BLOBS": f"gs://{self.cloud.bucket}/bench", **self.cloud.environment})

    def _start(self, name: str, environment: dict[str, str]) -> RunningServer:
        server = RunningServer(self._folder / name, environment=environment).start()
        self._stack.callback(server.kill)
        return server


def upload_by_ticket(api: Api, content: Content, transport: upload_ticket_pb2.Transport.ValueType) -> float:
    """Upload over HTTP as a ticket says, and make the file; return the rate of both together."""
    with timed(content) as rates:
        spec = file_pb2.FileSpec(
            name="bench.bin", size_bytes=content.size_bytes, checksums=common_pb2.Checksums(sha256=content.sha256)
        )
        ticket = api.tickets.CreateUploadTicket(
            upload_ticket_service_pb2.CreateUploadTicketRequest(workspace_id="demo", spec=spec, transport=transport)
        ).upload_ticket
        send(ticket.http, content)
        request = file_service_pb2.CreateFileRequest(upload_ticket_id=ticket.id)
        made = api.files.CreateFile(request)
        while not made.HasField("file"):
            made = api.files.CreateFile(request)
    if made.file.checksums.sha256 != content.sha256:
        raise RuntimeError("the file is not what was sent")
    return rates[0]


def send(http: upload_ticket_pb2.HttpUpload, content: Content) -> None:
    """Send content in one request, or in parts where the ticket wants parts."""
    headers = {header.name: header.value for header in http.headers}
    with httpx.Client(timeout=60) as client:
        if not http.chunk_multiple_bytes:
            length = {"Content-Length": str(content.size_bytes)}
            client.request(
                http.method, http.url, headers=headers | length, content=iter(content.chunks)
            ).raise_for_status()
            return
        step = PART // MIB
        for start in range(0, len(content.chunks), step):
            part = b"".join(content.chunks[start : start + step])
            first = start * MIB
            span = f"bytes {first}-{first + len(part) - 1}/{content.size_bytes}"
            answer = client.put(http.url, headers=headers | {"Content-Range": span}, content=part)
            if answer.status_code not in {200, 201, 308}:
                answer.raise_for_status()


def straight_to_cloud(cloud: RunningGcs, content: Content) -> float:
    """Send the same parts to the fake without a server of ours between; the ceiling of what goes through one."""
    name = f"bench/straight-{content.sha256.hex()}"
    with timed(content) as rates, httpx.Client(timeout=60) as client:
        started = client.post(
            f"{cloud.address}/upload/storage/v1/b/{cloud.bucket}/o",
            params={"uploadType": "resumable", "name": name},
            json={},
        )
        started.raise_for_status()
        session = upload_ticket_pb2.HttpUpload(
            method="PUT", url=started.headers["location"], chunk_multiple_bytes=256 * 1024
        )
        send(session, content)
    return rates[0]


@contextmanager
def timed(content: Content) -> Iterator[list[float]]:
    """Time the body; the list holds the rate of `content` afterwards, in MB/s (MiB)."""
    rates: list[float] = []
    measure = rate_since()
    yield rates
    rates.append(measure(content.size_bytes))

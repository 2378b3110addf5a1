"""What is measured: each row's rate, and the ceiling that it is held against, one right after the other."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from remora.v1 import activity_service_pb2, attachment_service_pb2, upload_ticket_pb2
from tests.bench import bytes_moved
from tests.bench.bytes_moved import MIB, Content
from tests.bench.calling import Calls, call_for
from tests.bench.elsewhere import PUT, RESUMABLE, Elsewhere, straight_to_cloud, upload_by_ticket
from tests.bench.listing import Listing
from tests.bench.messages import upload_message, upsert_message
from tests.running import Api, RunningServer, issue

UPSERT = "/remora.v1.AttachmentService/UpsertAttachment"
UPLOAD = "/remora.v1.FileService/UploadFile"


@dataclass(slots=True)
class Sample:
    """Ours, the ceiling measured right beside it, and what else is worth telling."""

    ours: float
    ceiling: float
    note: str = ""


@dataclass(slots=True)
class Row:
    """One line of the table."""

    name: str
    unit: str
    floor: float | None
    stretch: float | None
    measure: Callable[[], Sample]
    at_most: bool = False
    samples: list[Sample] = field(default_factory=list)

    def report(self) -> dict[str, object]:
        """Return medians and ranges as plain values."""
        ratios = [one.ours / one.ceiling for one in self.samples]
        ratio = statistics.median(ratios)
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": round(statistics.median(one.ours for one in self.samples), 3),
            "ceiling": round(statistics.median(one.ceiling for one in self.samples), 3),
            "ratio": round(ratio, 3),
            "ratio_least": round(min(ratios), 3),
            "ratio_most": round(max(ratios), 3),
            "floor": self.floor,
            "stretch": self.stretch,
            "met": self._is_met(ratio),
            "note": self.samples[-1].note,
        }

    def _is_met(self, ratio: float) -> bool:
        if self.floor is None:
            return True
        return ratio <= self.floor if self.at_most else ratio >= self.floor


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much each sample does."""

    upload_bytes: int
    seconds: float
    pages: int


class Bench:
    """Everything that is measured, on the servers that it needs."""

    def __init__(self, server: RunningServer, ceiling: str, elsewhere: Elsewhere, folder: Path, sizes: Sizes) -> None:
        self._server = server
        self._api = server.api()
        self._ceiling = ceiling
        self._elsewhere = elsewhere
        self._folder = folder
        self._sizes = sizes

    def rows(self) -> list[Row]:
        """Return the table; the floors are those of the design, where it has any."""
        pages = self._sizes.pages
        here, on_postgres = (lambda: self._server), (lambda: self._elsewhere.on_postgres)
        listing = Listing(self._server, self._api, pages)
        return [
            Row("upload, 1 stream / MD5 alone", "MB/s", 0.70, 0.80, self._one_stream_over_md5),
            Row("upload, 1 stream / same work without RPC", "MB/s", 0.75, 0.85, self._one_stream_over_local),
            Row("upload, 4 streams / MD5 alone", "MB/s", 0.65, 0.75, self._four_streams_over_md5),
            Row("download / raw upload discard", "MB/s", 0.55, 0.70, self._download_over_discard),
            Row("upsert by URL, c=64 / no-op", "calls/s", 0.65, 0.80, self._upsert_at(64, here)),
            Row("upsert by URL, c=1 / no-op", "calls/s", 0.45, 0.55, self._upsert_at(1, here)),
            Row("4 KiB upload, inlined, c=64 / no-op", "calls/s", 0.50, 0.65, self._upload_of(4096)),
            Row("40 KiB upload, as a file, c=64 / no-op", "calls/s", 0.20, 0.25, self._upload_of(40 * 1024)),
            Row(f"list page {pages} / page 1, p50", "ms", 1.5, 1.1, lambda: Sample(*listing.measure()), at_most=True),
            Row("ticket, HTTP PUT / same work locally", "MB/s", None, None, self._by_ticket(PUT)),
            Row("ticket, HTTP resumable / same work locally", "MB/s", None, None, self._by_ticket(RESUMABLE)),
            Row("upload through to GCS fake / straight to it", "MB/s", None, None, self._through_to_cloud),
            Row("ticket to GCS fake / straight to it", "MB/s", None, None, self._ticket_to_cloud),
            Row("upsert, PostgreSQL, c=64 / no-op", "calls/s", 0.50, 0.65, self._upsert_at(64, on_postgres)),
            Row("upsert, PostgreSQL, c=16 / no-op", "calls/s", None, None, self._upsert_at(16, on_postgres)),
            Row("upsert, PostgreSQL, c=1 / no-op", "calls/s", None, None, self._upsert_at(1, on_postgres)),
        ]

    def _one_stream_over_md5(self) -> Sample:
        content = self._content()
        md5 = bytes_moved.md5_alone(content)
        return Sample(bytes_moved.upload(self._api, content, "BENCH-1")[0], md5)

    def _one_stream_over_local(self) -> Sample:
        content = self._content()
        local = bytes_moved.same_work_locally(content, self._folder)
        return Sample(bytes_moved.upload(self._api, content, "BENCH-1")[0], local)

    def _four_streams_over_md5(self) -> Sample:
        contents = [self._content(4) for _ in range(4)]
        md5 = bytes_moved.md5_alone(contents[0])
        with _another_caller(self._server.address, str(self._server.ready["key"])) as bystander:
            ours = bytes_moved.upload_together(self._api, contents, "BENCH-2")
        told = bystander[0]
        return Sample(ours, md5, f"another caller meanwhile: {_latency(told)} over {told.count} calls")

    def _download_over_discard(self) -> Sample:
        content = Content(self._sizes.upload_bytes)
        _, file_id = bytes_moved.upload(self._api, content, "BENCH-1")
        bytes_moved.download(self._api, file_id, content.size_bytes)  # Into the page cache.
        raw = bytes_moved.discard(self._ceiling, content)
        return Sample(bytes_moved.download(self._api, file_id, content.size_bytes), raw)

    def _upsert_at(self, connections: int, on: Callable[[], RunningServer]) -> Callable[[], Sample]:
        def measure() -> Sample:
            server = on()
            api, key = server.api(), str(server.ready["key"])
            noop = call_for(self._for_a_while, self._ceiling, UPSERT, "", connections, upsert_message)
            first = attachment_service_pb2.UpsertAttachmentRequest.FromString(upsert_message(0))
            api.attachments.UpsertAttachment(first)  # Makes the issue, if this server has not met it.
            before = _head(api)
            ours = call_for(self._for_a_while, server.address, UPSERT, key, connections, upsert_message)
            wrote = (_head(api) - before) / ours.count
            return Sample(ours.per_second, noop.per_second, f"{_latency(ours)}; {wrote:.0%} of calls wrote")

        return measure

    def _upload_of(self, size_bytes: int) -> Callable[[], Sample]:
        def message(number: int) -> bytes:
            return upload_message(size_bytes, number)

        def measure() -> Sample:
            key = str(self._server.ready["key"])
            noop = call_for(self._for_a_while, self._ceiling, UPLOAD, "", 64, message)
            ours = call_for(self._for_a_while, self._server.address, UPLOAD, key, 64, message)
            return Sample(ours.per_second, noop.per_second, _latency(ours))

        return measure

    def _by_ticket(self, transport: upload_ticket_pb2.Transport.ValueType) -> Callable[[], Sample]:
        def measure() -> Sample:
            content = self._content()
            local = bytes_moved.same_work_locally(content, self._folder)
            return Sample(upload_by_ticket(self._api, content, transport), local)

        return measure

    def _through_to_cloud(self) -> Sample:
        api = self._elsewhere.on_cloud.api()
        content = self._content(2)
        straight = straight_to_cloud(self._elsewhere.cloud, content)
        return Sample(bytes_moved.upload(api, content, "BENCH-1")[0], straight)

    def _ticket_to_cloud(self) -> Sample:
        api = self._elsewhere.on_cloud.api()
        content = self._content(2)
        straight = straight_to_cloud(self._elsewhere.cloud, content)
        ours = upload_by_ticket(api, content, PUT)
        return Sample(ours, straight, "sent by the client, then read once by the server")

    def _content(self, share: int = 1) -> Content:
        content = Content(self._sizes.upload_bytes // share)
        _settle(self._folder)
        return content

    def _for_a_while(self, elapsed: float) -> bool:
        return elapsed < self._sizes.seconds


def _head(api: Api) -> int:
    """Return how many activities the benchmark's issue has."""
    request = activity_service_pb2.ListActivitiesRequest(
        workspace_id="demo", subject=issue("BENCH-3"), page_size=1, include_total_size=True
    )
    return api.activity.ListActivities(request).total_size


@contextmanager
def _another_caller(address: str, key: str) -> Iterator[list[Calls]]:
    """Read one attachment again and again in another process while the body runs; the list holds what that saw."""
    told: list[Calls] = []
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.bystander", address, key], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield told
    finally:
        out, _ = process.communicate(b"end")
        told.append(Calls(*json.loads(out)))


def _settle(folder: Path) -> None:
    """Write and delete a scratch file, so that no sample pays for what an earlier one left in the page cache."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(bytes(32 * MIB))
        file.flush()
        os.fsync(file.fileno())


def _latency(calls: Calls) -> str:
    return f"p50 {calls.p50_ms:.2f}, p99 {calls.p99_ms:.2f} ms"

"""Benchmarks: our rates beside ceilings measured in the same run, as ratios, in turn, medians of several rounds.

    scripts/bench            all rows, some minutes
    scripts/bench --quick    small sizes and few rounds: shows that everything runs, proves no speed
    scripts/bench --json     one line a row

Absolute figures of a shared machine mean little; the ratio of two things done a second apart means much.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from remora.v1 import activity_service_pb2, attachment_service_pb2
from remora_server.core import ids
from remora_server.core.model import Attachment, Subject
from remora_server.stores.database_sqlite import Sqlite
from remora_server.stores.metadata import SqlMetadata
from remora_server.stores.writer import Writer
from tests.bench import bytes_moved
from tests.bench.bytes_moved import MIB, Content
from tests.bench.calling import Calls, call_for
from tests.bench.messages import upload_message, upsert_message
from tests.running import Api, RunningServer, issue

UPSERT = "/remora.v1.AttachmentService/UpsertAttachment"
UPLOAD = "/remora.v1.FileService/UploadFile"
PAGE_SIZE = 50


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
    floor: float
    stretch: float
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
            "met": ratio <= self.floor if self.at_most else ratio >= self.floor,
            "note": self.samples[-1].note,
        }


def main() -> int:
    """Run the rows and print the table; exit 1 if a floor is missed in a full run."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="remora-bench-") as folder:
        rows = _run(options, Path(folder))
    reports = [row.report() for row in rows if row.samples]
    if options.json:
        for report in reports:
            print(json.dumps(report))
    else:
        _print(reports)
    return 0 if options.quick or all(report["met"] for report in reports) else 1


def _run(options: argparse.Namespace, folder: Path) -> list[Row]:
    server = RunningServer(folder / "data").start()
    try:
        api = server.api()
        with _ceiling_server(api) as ceiling:
            rows = _rows(options, server, api, ceiling, folder)
            chosen = [row for row in rows if not options.only or options.only in row.name]
            for number in range(options.rounds):
                for row in random.sample(chosen, len(chosen)):
                    _tell(f"round {number + 1} of {options.rounds}: {row.name}")
                    row.samples.append(row.measure())
        return rows
    finally:
        server.kill()


def _rows(options: argparse.Namespace, server: RunningServer, api: Api, ceiling: str, folder: Path) -> list[Row]:
    key = str(server.ready["key"])
    size = 16 * MIB if options.quick else options.mib * MIB
    seconds = 0.3 if options.quick else 2.0
    pages = 100 if options.quick else 10_000

    def for_a_while(elapsed: float) -> bool:
        return elapsed < seconds

    def one_stream_over_md5() -> Sample:
        content = Content(size)
        _settle(folder)
        md5 = bytes_moved.md5_alone(content)
        ours, _ = bytes_moved.upload(api, content, "BENCH-1")
        return Sample(ours, md5)

    def one_stream_over_local() -> Sample:
        content = Content(size)
        _settle(folder)
        local = bytes_moved.same_work_locally(content, folder)
        ours, _ = bytes_moved.upload(api, content, "BENCH-1")
        return Sample(ours, local)

    def four_streams_over_md5() -> Sample:
        contents = [Content(size // 4) for _ in range(4)]
        _settle(folder)
        md5 = bytes_moved.md5_alone(contents[0])
        with _another_caller(server.address, key) as bystander:
            ours = bytes_moved.upload_together(api, contents, "BENCH-2")
        told = bystander[0]
        return Sample(ours, md5, f"another caller meanwhile: {_latency(told)} over {told.count} calls")

    def download_over_discard() -> Sample:
        content = Content(size)
        _, file_id = bytes_moved.upload(api, content, "BENCH-1")
        bytes_moved.download(api, file_id, content.size_bytes)  # Into the page cache.
        raw = bytes_moved.discard(ceiling, content)
        return Sample(bytes_moved.download(api, file_id, content.size_bytes), raw)

    def upsert_at(connections: int) -> Callable[[], Sample]:
        def measure() -> Sample:
            noop = call_for(for_a_while, ceiling, UPSERT, "", connections, upsert_message)
            before = _head(api)
            ours = call_for(for_a_while, server.address, UPSERT, key, connections, upsert_message)
            changed = _head(api) - before
            return Sample(
                ours.per_second, noop.per_second, f"{_latency(ours)}; {changed / ours.count:.0%} of calls wrote"
            )

        return measure

    def upload_of(size_bytes: int) -> Callable[[], Sample]:
        def measure() -> Sample:
            noop = call_for(for_a_while, ceiling, UPLOAD, "", 64, lambda n: upload_message(size_bytes, n))
            ours = call_for(for_a_while, server.address, UPLOAD, key, 64, lambda n: upload_message(size_bytes, n))
            return Sample(ours.per_second, noop.per_second, _latency(ours))

        return measure

    listing = _Listing(server, api, pages)
    return [
        Row("upload, 1 stream / MD5 alone", "MB/s", 0.70, 0.80, one_stream_over_md5),
        Row("upload, 1 stream / same work without RPC", "MB/s", 0.75, 0.85, one_stream_over_local),
        Row("upload, 4 streams / MD5 alone", "MB/s", 0.65, 0.75, four_streams_over_md5),
        Row("download / raw upload discard", "MB/s", 0.55, 0.70, download_over_discard),
        Row("upsert by URL, c=64 / no-op", "calls/s", 0.65, 0.80, upsert_at(64)),
        Row("upsert by URL, c=1 / no-op", "calls/s", 0.45, 0.55, upsert_at(1)),
        Row("4 KiB upload, inlined, c=64 / no-op", "calls/s", 0.50, 0.65, upload_of(4096)),
        Row("20 KiB upload, as a file, c=64 / no-op", "calls/s", 0.20, 0.25, upload_of(20 * 1024)),
        Row(f"list page {pages} / page 1, p50", "ms", 1.5, 1.1, listing.measure, at_most=True),
    ]


class _Listing:
    """Pages of 50 of one issue with very many attachments."""

    def __init__(self, server: RunningServer, api: Api, pages: int) -> None:
        self._server = server
        self._api = api
        self._pages = pages
        self._far = ""

    def measure(self) -> Sample:
        """Compare the time of a far page with that of the first."""
        if not self._far:
            self._fill()
            self._far = self._token_of_far_page()
        return Sample(self._time(self._far), self._time(""), f"{self._pages * PAGE_SIZE} attachments on the issue")

    def _fill(self) -> None:
        """Put the rows in through the store: over the wire it would take minutes and show nothing more."""
        first = self._api.attachments.UpsertAttachment(
            attachment_service_pb2.UpsertAttachmentRequest.FromString(upsert_message(0, "BENCH-LIST"))
        ).attachment
        database = Sqlite(self._server.data / "remora.db", busy_seconds=30)
        store, writer = SqlMetadata(database), Writer(database)
        model = store.attachment(first.workspace_id, first.id)
        assert model is not None
        total = self._pages * PAGE_SIZE + PAGE_SIZE
        for start in range(0, total, 20_000):
            _tell(f"filling the issue: {start} of {total}")
            writer.run(partial(_add, store, model, range(start, min(start + 20_000, total))))
        writer.close()
        database.close()

    def _token_of_far_page(self) -> str:
        token, page = "", 0
        while page < self._pages:
            size = min(1000, (self._pages - page) * PAGE_SIZE)
            token = self._page(token, size).next_page_token
            page += size // PAGE_SIZE
        return token

    def _time(self, token: str) -> float:
        times = []
        for _ in range(40):
            began = time.perf_counter()
            assert len(self._page(token, PAGE_SIZE).attachments) == PAGE_SIZE
            times.append((time.perf_counter() - began) * 1000)
        return statistics.median(times)

    def _page(self, token: str, size: int) -> attachment_service_pb2.ListAttachmentsResponse:
        return self._api.attachments.ListAttachments(
            attachment_service_pb2.ListAttachmentsRequest(
                workspace_id="demo", subject=issue("BENCH-LIST"), page_size=size, page_token=token
            )
        )


def _add(store: SqlMetadata, model: Attachment, numbers: range) -> None:
    for number in numbers:
        new = _copy(model, number)
        store.find_or_add_attachment(new)


def _copy(model: Attachment, number: int) -> Attachment:
    return replace(
        model,
        id=ids.new_id(ids.ATTACHMENT),
        subject=Subject(model.subject.type, model.subject.id, model.subject.key),
        url_key=f"{number:064x}",
        create_time=model.create_time + number,
    )


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


@contextmanager
def _ceiling_server(api: Api) -> Iterator[str]:
    """Run the bare server; it answers upserts with what ours answered once."""
    request = attachment_service_pb2.UpsertAttachmentRequest.FromString(upsert_message(0))
    answer = api.attachments.UpsertAttachment(request)
    answer.attachment.ClearField("file")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.ceiling"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(answer.SerializeToString())
    process.stdin.close()
    try:
        yield process.stdout.readline().decode().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _settle(folder: Path) -> None:
    """Write and delete a scratch file, so that no sample pays for what an earlier one left in the page cache."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(bytes(32 * MIB))
        file.flush()
        os.fsync(file.fileno())


def _latency(calls: Calls) -> str:
    return f"p50 {calls.p50_ms:.2f}, p99 {calls.p99_ms:.2f} ms"


def _print(reports: list[dict[str, object]]) -> None:
    print(f"{'ours / ceiling, medians':<42} {'ours':>10} {'ceiling':>10} {'ratio':>6}  {'range':<14} {'floor':>5}")
    for report in reports:
        span = f"{report['ratio_least']} to {report['ratio_most']}"
        verdict = "met" if report["met"] else "MISSED"
        print(
            f"{report['name']:<42} {report['ours']:>10} {report['ceiling']:>10} {report['ratio']:>6}  {span:<14}"
            f" {report['floor']:>5} {verdict:<6} {report['note']}"
        )
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores; load of the last minute {load:.1f}, ours included")


def _tell(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure Remora beside its ceilings.")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    parser.add_argument("--rounds", type=int, default=0, help="samples of each row (default 5, quick 1)")
    parser.add_argument("--mib", type=int, default=384, help="size of a large upload in MiB")
    parser.add_argument("--only", default="", help="rows whose name holds this text")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 5)
    return options


if __name__ == "__main__":
    sys.exit(main())

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
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from remora.v1 import attachment_service_pb2
from tests.bench.bytes_moved import MIB
from tests.bench.elsewhere import Elsewhere
from tests.bench.messages import upsert_message
from tests.bench.rows import Bench, Row, Sizes
from tests.running import Api, RunningServer


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
    sizes = Sizes(16 * MIB, 0.3, 100) if options.quick else Sizes(options.mib * MIB, 2.0, 10_000)
    server = RunningServer(folder / "data").start()
    try:
        with _ceiling_server(server.api()) as ceiling, Elsewhere(folder) as elsewhere:
            rows = Bench(server, ceiling, elsewhere, folder, sizes).rows()
            chosen = [row for row in rows if not options.only or options.only in row.name]
            for number in range(options.rounds):
                for row in random.sample(chosen, len(chosen)):
                    _tell(f"round {number + 1} of {options.rounds}: {row.name}")
                    row.samples.append(row.measure())
        return rows
    finally:
        server.kill()


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


def _print(reports: list[dict[str, object]]) -> None:
    print(f"{'ours / ceiling, medians':<42} {'ours':>10} {'ceiling':>10} {'ratio':>6}  {'range':<14} {'floor':>5}")
    for report in reports:
        span = f"{report['ratio_least']} to {report['ratio_most']}"
        floor = "none" if report["floor"] is None else report["floor"]
        verdict = "" if report["floor"] is None else "met" if report["met"] else "MISSED"
        print(
            f"{report['name']:<42} {report['ours']:>10} {report['ceiling']:>10} {report['ratio']:>6}  {span:<14}"
            f" {floor:>5} {verdict:<6} {report['note']}"
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

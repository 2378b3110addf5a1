"""A long run of the fuzzer against a server of its own, for some time or for some requests to each operation."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from remora_server.progress import Progress
from tests import combinations, postgres
from tests.gateway.fuzzing import Fuzzer, Tally, failures_in
from tests.running import RunningServer


def main() -> int:
    """Run it; 1 if it found anything."""
    options = _parser().parse_args()
    postgres.share()
    try:
        with tempfile.TemporaryDirectory(prefix="remora-fuzz-") as name:
            server = RunningServer(Path(name) / "data").start()
            try:
                tally, seconds = _run(server, options)
            finally:
                server.kill()
                combinations.remove(Path(name))
    finally:
        combinations.stop_fake_gcs()
        postgres.unshare()
    _report(options, tally, seconds)
    return 1 if tally.findings else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="begin no operation after this (default 300)")
    parser.add_argument("--examples", type=int, default=100, help="requests of each mode to each operation (100)")
    parser.add_argument("--seed", type=int, default=0, help="other seeds make other requests")
    parser.add_argument("--rounds", type=int, default=1, help="go round with the seeds that follow (1)")
    parser.add_argument("--json", action="store_true", help="write one JSON object")
    return parser


def _run(server: RunningServer, options: argparse.Namespace) -> tuple[Tally, float]:
    began, tally = time.monotonic(), Tally()
    with Progress(sys.stderr) as progress:

        def goes_on() -> bool:
            seconds = time.monotonic() - began
            told = f"{seconds:.0f} s: {tally.operations} operations, {tally.requests} requests, "
            progress.show(lambda: f"{told}{len(tally.findings)} findings")
            return seconds < float(options.seconds)

        for number in range(options.rounds):
            if goes_on():
                seed = options.seed + number
                Fuzzer.at(server, f"fuzz-{seed}", f"FUZZ{seed}").run(
                    options.examples, tally, seed=seed, goes_on=goes_on
                )
    tally.findings += [f"log: {line}" for line in failures_in(server.log())]
    return tally, time.monotonic() - began


def _report(options: argparse.Namespace, tally: Tally, seconds: float) -> None:
    statuses = {str(status): count for status, count in sorted(tally.statuses.items())}
    told = {
        "stores": combinations.STORES,
        "seconds": round(seconds, 1),
        "operations": tally.operations,
        "requests": tally.requests,
        "statuses": statuses,
        "findings": tally.findings,
    }
    if options.json:
        sys.stdout.write(json.dumps(told) + "\n")
        return
    sys.stdout.write(f"{tally.requests} requests to {tally.operations} operations in {seconds:.0f} s on ")
    sys.stdout.write(f"{combinations.STORES}: {statuses}\n")
    sys.stdout.write("".join(f"FOUND {one}\n" for one in tally.findings) or "Nothing was found.\n")


if __name__ == "__main__":
    sys.exit(main())

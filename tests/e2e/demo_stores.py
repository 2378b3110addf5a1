"""PostgreSQL and the fake of Cloud Storage for a trial: prints what to export, and runs both until interrupted."""

from __future__ import annotations

import shlex
import signal
import sys
import threading

from tests.gcs.running import RunningGcs
from tests.postgres import own_cluster

DURABLE = ("-c", "max_connections=100")


def main() -> int:
    """Run both."""
    enough = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: enough.set())
    with own_cluster(DURABLE) as cluster:
        fake = RunningGcs()
        try:
            settings = {"REMORA_DATABASE_URL": cluster.url, "REMORA_BLOBS": f"gs://{fake.bucket}/remora"}
            for name, value in (settings | fake.environment).items():
                sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
            sys.stdout.flush()
            enough.wait()
        finally:
            fake.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())

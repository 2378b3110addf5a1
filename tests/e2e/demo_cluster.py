"""Two servers on one PostgreSQL and one bucket, one of them killed in an upload; prints a transcript as Markdown."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from remora import Client
from tests.e2e.programs import clean_environment, ended, run, start, write_big
from tests.running import until

SIZE_BYTES = 400 * 1024 * 1024
NAME = "backup.tar"
CALLERS = 64
PYTHON = ".venv/bin/python"
ADDRESSES = ("127.0.0.1:7461", "127.0.0.1:7462")
INTRODUCTION = """\
# Two servers on PostgreSQL and a bucket

What `scripts/demo-cluster` printed, as it was. Remarks stand between the blocks. All of it runs on one machine, without
containers: PostgreSQL comes from a Python package, and the bucket is the strict fake that the tests use.

The commands want `jq`, and run in the root of the repository, after these two in each terminal:

```bash
scripts/setup server postgres gcs dev
export PATH="$PWD/.venv/bin:$PATH"
```

Two settings make it the real thing: `REMORA_BLOBS=gs://YOUR-BUCKET/PREFIX`, and **no** `STORAGE_EMULATOR_HOST`. The
credentials are then the application default ones (`gcloud auth application-default login`, a service account of the
machine, or `GOOGLE_APPLICATION_CREDENTIALS`); they need `roles/storage.objectUser` on the bucket, and to sign URLs
without a key file `roles/iam.serviceAccountTokenCreator` on themselves.
"""


class Transcript:
    """Runs commands in one environment, as a shell would, and prints them with what they printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = clean_environment(folder)
        self._stack = ExitStack()

    def close(self) -> None:
        """End what was started in the background."""
        self._stack.close()

    def say(self, text: str) -> None:
        """Print a remark."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def block(self, command: str, printed: str) -> None:
        """Print a command and its output."""
        self.say(f"```console\n$ {command}\n{printed}```\n")

    def shell(self, command: str, **more: str) -> str:
        """Run a command to its end, with settings before it; return what it printed."""
        done = run(self.environment | more, *shlex.split(command), cwd=self.folder)
        before = "".join(f"{name}={value} " for name, value in more.items())
        self.block(before + command, done.stderr + done.stdout)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        return done.stdout

    def background(self, command: str, lines: int = 1) -> tuple[subprocess.Popen[str], list[str]]:
        """Start a command that goes on; return it and its first lines."""
        program, *arguments = shlex.split(command)
        known = sys.executable if program == PYTHON else program
        process = start(self.environment, known, *arguments, cwd=self.folder)
        self._stack.callback(_end, process)
        assert process.stdout is not None
        printed = [process.stdout.readline() for _ in range(lines)]
        assert all(printed), process.communicate()[1]
        self.block(f"{command} &", "".join(printed))
        return process, printed

    def serve(self, name: str, address: str) -> subprocess.Popen[str]:
        """Start a server."""
        port = int(address.rpartition(":")[2])
        command = f"remora-server serve --data ./{name} --grpc-port {port} --http-port {port + 1000} --json"
        return self.background(command)[0]


def main() -> int:
    """Run the demonstration in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="remora-demo-") as name:
        told = Transcript(Path(name))
        try:
            told.say(INTRODUCTION)
            _show(told)
        finally:
            told.close()
    return 0


def _show(told: Transcript) -> None:
    told.say("The stores. This runs until it is interrupted, and prints what to export in the other terminals.\n")
    told.environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    for export in told.background(f"{PYTHON} -m tests.e2e.demo_stores", lines=4)[1]:
        name, _, value = export.removeprefix("export ").strip().partition("=")
        told.environment[name] = shlex.split(value)[0]
    told.say("A workspace and a key. `workspaces create` makes the tables if they are missing, as each server does.\n")
    told.shell("remora-server workspaces create acme")
    making = "remora-server keys create --workspace acme --user ada --json"
    key: str = json.loads(run(told.environment, *making.split(), cwd=told.folder).stdout)["key"]
    told.environment |= {"REMORA_KEY": key, "REMORA_WORKSPACE": "acme"}
    told.block(f"export REMORA_WORKSPACE=acme REMORA_KEY=$({making} | jq -r .key)", "")
    told.say("Two servers. Each keeps nothing of its own.\n")
    first = told.serve("a", ADDRESSES[0])
    told.serve("b", ADDRESSES[1])

    write_big(told.folder / NAME, SIZE_BYTES)
    told.say(f"An upload of {SIZE_BYTES} bytes to the first, which is killed at about 40 %.\n")
    put = f"remora put PLAT-1 {NAME}"
    impatiently = f"{put} --patience 3"
    here, there = ({"REMORA_ADDRESS": address} for address in ADDRESSES)
    putting = start(told.environment | here, *impatiently.split(), cwd=told.folder)
    _wait_for_share(told, 0.4)
    first.kill()
    told.block(f"REMORA_ADDRESS={ADDRESSES[0]} {impatiently}", ended(putting)[2])
    told.say("The second server goes on where the first was.\n")
    began = time.monotonic()
    told.shell(put, **there)
    told.say(f"That took {time.monotonic() - began:.1f} s. The bytes are the same:\n")
    told.shell(f"remora get PLAT-1 {NAME} -o copy.tar", **there)
    told.shell(f"sha256sum {NAME} copy.tar")

    told.say(f"The first server again, and {CALLERS} callers over both, which upsert one URL at once.\n")
    told.serve("a", ADDRESSES[0])
    told.say(_upsert_together(told) + "\n")
    told.shell("remora ls PLAT-1", **there)
    told.say("Nothing is left behind.\n")
    told.shell("remora-server gc --grace 0")
    told.shell("remora-server fsck")


def _wait_for_share(told: Transcript, share: float) -> None:
    with Client(ADDRESSES[0], key=told.environment["REMORA_KEY"], workspace="acme") as client:
        until(lambda: any(one.committed_size >= share * SIZE_BYTES for one in client.tickets()), 100)


def _upsert_together(told: Transcript) -> str:
    key = told.environment["REMORA_KEY"]
    clients = [Client(address, key=key, workspace="acme") for address in ADDRESSES]

    def upsert(number: int) -> tuple[str, str]:
        done = clients[number % 2].attach(
            "PLAT-1", "https://ci.example.com/builds/7", title=f"Build 7, seen by {number}"
        )
        return done.attachment.id, done.outcome

    with ThreadPoolExecutor(CALLERS) as pool:
        answers = list(pool.map(upsert, range(CALLERS)))
    for client in clients:
        client.close()
    ids = {one for one, _ in answers}
    outcomes = sorted({(outcome, sum(1 for _, other in answers if other == outcome)) for _, outcome in answers})
    assert len(ids) == 1
    told_outcomes = ", ".join(f"{count} x {outcome}" for outcome, count in outcomes)
    return f"{len(answers)} answers, {len(ids)} id: {told_outcomes}."


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.communicate(timeout=60)


if __name__ == "__main__":
    os.environ.pop("STORAGE_EMULATOR_HOST", None)
    sys.exit(main())

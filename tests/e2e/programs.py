"""The two programs, as a newcomer runs them: from `.venv/bin`, with an environment and a state folder of their own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from remora import Client
from tests.running import RunningServer

BIN = Path(sys.executable).parent
REMORA = str(BIN / "remora")
REMORA_SERVER = str(BIN / "remora-server")
MIB = 1024 * 1024
BIG_BYTES = 200 * MIB + 12_345
RUN_SECONDS = 100.0
MISSING = "there is no "  # Begins the reason of a test that was skipped for want of a program.


def require(program: str) -> None:
    """Skip a test for want of a program, which the end of the run tells in red; where CI is set, fail instead."""
    if shutil.which(program) is not None:
        return
    if os.environ.get("CI"):
        pytest.fail(f"`{program}` is missing, and CI leaves no test out: install it.", pytrace=False)
    pytest.skip(f"{MISSING}{program}")


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """Return an environment without settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REMORA_")}
    path = f"{BIN}{os.pathsep}{kept.get('PATH', '')}"
    return {**kept, "PATH": path, "XDG_STATE_HOME": str(home / "state"), **more}


def environment_for(server: RunningServer, home: Path) -> dict[str, str]:
    """Return the environment in which `remora` finds a server."""
    return clean_environment(
        home, REMORA_ADDRESS=server.address, REMORA_KEY=str(server.ready["key"]), REMORA_WORKSPACE="demo"
    )


def run(environment: Mapping[str, str], *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        command,
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=RUN_SECONDS,
    )


def remora_json(environment: Mapping[str, str], *arguments: str) -> list[dict[str, Any]]:
    """Run `remora … --json`, which must succeed, and return its objects."""
    done = run(environment, REMORA, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def start(environment: Mapping[str, str], *command: str, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start a program, and leave it running."""
    return subprocess.Popen(
        command,
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def write_big(path: Path, size_bytes: int = BIG_BYTES) -> Path:
    """Write a file of random bytes, as no other has."""
    with path.open("wb") as file:
        left = size_bytes
        while left > 0:
            left -= file.write(os.urandom(min(left, 8 * MIB)))
    return path


def sha256sum(path: Path) -> str:
    """Return the digest that `sha256sum` prints."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wait_for_share(server: RunningServer, share: float, writer: subprocess.Popen[str]) -> None:
    """Wait until a share of the newest unfinished upload is stored for good."""
    with Client(server.address, key=str(server.ready["key"]), workspace="demo") as client:
        while True:
            tickets = client.tickets()
            if tickets and tickets[0].committed_size >= share * (tickets[0].size_bytes or 1):
                return
            assert writer.poll() is None, "the upload ended before it could be interrupted"
            time.sleep(0.002)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the end of a program; return its exit code and what it printed."""
    out, error = process.communicate(timeout=RUN_SECONDS)
    return process.returncode, out, error

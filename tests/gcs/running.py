"""The fake as a child process, and its controls."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class RunningGcs:
    """A fake of its own port; `stop` it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.gcs", "--port", "0"], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self._process.stdout is not None
        told = json.loads(self._process.stdout.readline())
        self.address: str = told["address"]
        self.bucket: str = told["bucket"]
        self.credentials: str = told["credentials"]

    @property
    def pid(self) -> int:
        """The process id of the fake."""
        return self._process.pid

    @property
    def environment(self) -> dict[str, str]:
        """What a server needs to be told to use this fake, besides REMORA_BLOBS."""
        return {"STORAGE_EMULATOR_HOST": self.address, "GOOGLE_APPLICATION_CREDENTIALS": self.credentials}

    def plan(self, kind: str, match: str = "", **more: Any) -> None:
        """Plan a fault; see `faults.py`."""
        self.control("faults", {"kind": kind, "match": match, **more})

    def clear(self) -> list[dict[str, Any]]:
        """Take back every plan; return them as they were."""
        plans: list[dict[str, Any]] = self.state()["faults"]
        self.control("faults", method="DELETE")
        return plans

    def forget(self, name: str, **how: Any) -> None:
        """Lose the open sessions of an object, or what they confirmed beyond a `size`, or let them `expire`."""
        self.control("forget", {"name": name, **how})

    def flip(self, name: str) -> None:
        """Damage a stored object."""
        self.control("flip", {"name": name})

    def copy(self, prefix: str, target: str) -> None:
        """Put every object under a prefix under another one too, with its generation."""
        self.control("copy", {"prefix": prefix, "target": target})

    def state(self) -> dict[str, Any]:
        """Return plans, open sessions and objects."""
        state: dict[str, Any] = self.control("state")
        return state

    def objects(self, prefix: str = "") -> dict[str, int]:
        """Return the sizes of the objects by name."""
        return {name: size for name, size in self.state()["objects"].items() if name.startswith(prefix)}

    def files(self, prefix: str = "") -> dict[str, Path]:
        """Return by object name the files in which the fake keeps objects and open sessions that have bytes."""
        return {name: Path(path) for name, path in self.state()["files"].items() if name.startswith(prefix)}

    def requests(self) -> list[str]:
        """Return "METHOD /path?query" of every request since the last time."""
        made: list[str] = self.control("requests", method="DELETE")
        return made

    def control(self, path: str, body: Any = None, method: str = "") -> Any:
        """Use one of the controls."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}/_fake/{path}", data, method=method or None)  # noqa: S310 - our own.
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own.
            return json.load(answer)

    def stop(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()

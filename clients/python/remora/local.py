"""A server of one's own, as a child process with data that goes away with it."""

from __future__ import annotations

import atexit
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from remora.errors import LocalServerError

START_SECONDS = 30.0
STOP_SECONDS = 40.0  # Longer than a server may take to let its callers finish.
POLL_SECONDS = 0.02


class LocalServer:
    """A `remora-server` in development mode on free ports."""

    def __init__(self) -> None:
        program = Path(sys.executable).with_name("remora-server")
        found = str(program) if program.exists() else shutil.which("remora-server")
        if found is None:
            raise LocalServerError("there is no `remora-server` here; install it with: pip install 'remora[server]'")
        self._folder = Path(tempfile.mkdtemp(prefix="remora-"))
        self._output = self._folder / "ready.jsonl"
        self._log = self._folder / "server.log"
        # Files, not pipes: nobody reads on after the first line, and a full pipe would stop the server.
        with self._output.open("wb") as output, self._log.open("wb") as log:
            data = str(self._folder / "data")
            self._child = subprocess.Popen(  # noqa: S603 - The program was found above.
                [found, "serve", "--dev", "--json", "--data", data, "--grpc-port", "0", "--http-port", "0"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
            )
        atexit.register(self.stop)
        try:
            ready = self._wait()
        except BaseException:
            self.stop()
            raise
        self.address, self.http = str(ready["grpc"]), str(ready["http"])
        self.key, self.workspace = str(ready["key"]), str(ready["workspace"])

    def stop(self) -> None:
        """Stop the server and remove its data."""
        atexit.unregister(self.stop)
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait(self) -> dict[str, object]:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            line, newline, _ = self._output.read_text().partition("\n")
            if newline:
                ready = json.loads(line)
                assert isinstance(ready, dict)  # noqa: S101 - Its own server.
                return ready
            if self._child.poll() is not None:
                break
            time.sleep(POLL_SECONDS)
        said = self._log.read_text(errors="replace").strip().splitlines()[-5:]
        raise LocalServerError("the server did not start; it said: " + ("\n".join(said) or "nothing"))

"""Two clamds for tests: Debian's own with a signature of ours, and a strict fake that misbehaves as it is told."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.e2e.programs import require

SIGNED = b"remora-harmless-scan-me"  # Content with these bytes in it is what our one signature finds.
FINDING = "Remora.Test.Harmless.UNOFFICIAL"
STREAM_MAX_BYTES = 3 * 1024 * 1024
START_SECONDS = 30.0
STEP_SECONDS = 20.0


class RunningClamd:
    """A real one on a Unix socket and on a port, in a folder of its own, which needs a short path."""

    def __init__(self, folder: Path) -> None:
        # Debian has it where only root looks.
        found = shutil.which("clamd", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
        if found is None:
            require("clamd")
        self._program = str(found)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.path = folder / "clamd.sock"
        with socket.socket() as asked:
            asked.bind(("127.0.0.1", 0))
            self.port: int = asked.getsockname()[1]
        (folder / "signatures").mkdir()
        (folder / "signatures" / "remora.ndb").write_text(f"Remora.Test.Harmless:0:*:{SIGNED.hex()}\n")
        (folder / "clamd.conf").write_text(
            f"DatabaseDirectory {folder}/signatures\nTemporaryDirectory {folder}\n"
            f"LocalSocket {self.path}\nTCPAddr 127.0.0.1\nTCPSocket {self.port}\n"
            f"StreamMaxLength {STREAM_MAX_BYTES}\n"
        )

    def start(self) -> RunningClamd:
        """Start, and return once it answers."""
        with (self._folder / "log").open("ab") as told:
            self._process = subprocess.Popen(
                [self._program, "--foreground", f"--config-file={self._folder}/clamd.conf"],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
            )
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < end, "clamd did not start in time"
            time.sleep(0.02)
        return self

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, as a crash would; its socket stays behind."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STEP_SECONDS)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(STEP_SECONDS)
            asking.connect(str(self.path))
            asking.sendall(b"zPING\0")
            return asking.recv(16) == b"PONG\0"
        return False


@contextlib.contextmanager
def running_clamd() -> Iterator[RunningClamd]:
    """Run a real one."""
    folder = Path(tempfile.mkdtemp(prefix="remora-clamd-"))
    clamd = RunningClamd(folder)
    try:
        yield clamd.start()
    finally:
        clamd.kill()
        shutil.rmtree(folder)


class Stream:
    """What one client of the fake sends; whatever clamd would not understand fails the test."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._incoming = connection.makefile("rb")
        assert self._incoming.read(10) == b"zINSTREAM\0"

    def chunk(self) -> bytes:
        """Take the next chunk; empty at the end."""
        size = self._incoming.read(4)
        assert len(size) == 4, "the stream was broken off"
        (size_bytes,) = struct.unpack(">I", size)
        assert size_bytes <= 1024 * 1024
        data = self._incoming.read(size_bytes)
        assert len(data) == size_bytes, "a chunk was broken off"
        return data

    def all(self) -> bytes:
        """Take everything up to the end."""
        return b"".join(iter(self.chunk, b""))

    def wait_for_end(self) -> None:
        """Wait until the client has closed; what it sends until then is thrown away."""
        with contextlib.suppress(ConnectionError):
            while self.connection.recv(1024 * 1024):
                pass


@contextlib.contextmanager
def fake_clamd(behave: Callable[[Stream], None], host: str = "127.0.0.1") -> Iterator[tuple[str, int]]:
    """Serve one connection by `behave`, after which it is closed; what fails in there fails the test."""
    failed: list[BaseException] = []

    def serve() -> None:
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(STEP_SECONDS)
                behave(Stream(connection))
        except BaseException as problem:  # noqa: BLE001 - it is raised again below
            failed.append(problem)

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        listener.settimeout(STEP_SECONDS)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield (host, listener.getsockname()[1])
        finally:
            thread.join()
        assert not failed, failed

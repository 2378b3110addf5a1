"""A server that is killed, or stops for a while, at a chosen point: `python -m tests.crashing POINT serve ...`.

Points at which it is killed, each the first time that it is reached by an upload:

- staged: half-way through writing a piece to the staged file
- put: half-way through writing a file that came in one piece
- blob: the bytes are in their final place, nothing was told to the database
- land: bytes that came over HTTP have arrived, nothing was told to the database
- row: the rows are written, the transaction is not committed
- answer: the transaction is committed, the client has not been told
- sweep: at a step of `gc`, which are counted: each commit and each removal of bytes, before it and after it

Points at which it is held, once if nothing else is said, until the test lets it go on (see `HeldServer`):

- hold-stage: before a staged file is opened
- hold-open: before a blob is opened for reading
- hold-row: while rows are written, twice
- hold-sync: before staged bytes are made durable
- hold-verify: before staged bytes are read back
- hold-blob: when the bytes of an upload with a ticket are in their final place
- hold-put: when bytes that came in one piece are in their final place
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remora_server import __main__, app, opening
from remora_server.core.intake import Intake, Taken
from remora_server.core.model import Checksums
from remora_server.core.ports import BlobReader, Staged
from remora_server.stores import blobs_local, database_postgres
from remora_server.stores.blobs_local import LocalBlobs
from remora_server.stores.database_postgres import Postgres
from remora_server.stores.database_sqlite import Sqlite
from remora_server.stores.staged_file import StagedFile
from tests.running import RunningServer

ROOT = Path(__file__).parents[1]
FOLDER = "CRASHING_FOLDER"
STEP = "CRASHING_STEP"
CRASHES = ("staged", "put", "blob", "land", "row", "answer")


class CrashingServer(RunningServer):
    """A server with a point of no return."""

    def __init__(self, data: Path, point: str, *options: str, environment: Mapping[str, str] | None = None) -> None:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        super().__init__(data, *options, environment={"PYTHONPATH": path, **(environment or {})})
        self._point = point

    def start(self, *, grpc_port: int = 0) -> RunningServer:
        """Start, and return once both ports answer."""
        where = ["--data", str(self.data), "--grpc-port", str(grpc_port), "--http-port", "0"]
        program = [sys.executable, "-m", "tests.crashing", self._point, "serve", "--dev", "--json"]
        with self._log_path.open("a") as log:
            self._process = subprocess.Popen(
                [*program, *where, *self.options], stdout=subprocess.PIPE, stderr=log, text=True, env=self.environment
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the server did not start: {self.log()}"
        self.ready = json.loads(line)
        return self

    def recovered(self) -> RunningServer:
        """Start an ordinary server on the same data, once this one has died at its point."""
        assert self.wait() == -signal.SIGKILL
        return RunningServer(self.data, *self.options).start()


class HeldServer(CrashingServer):
    """A server that stops at a point until it is let go."""

    def __init__(self, data: Path, point: str, *options: str) -> None:
        folder = data.parent / f"{data.name}-hold"
        folder.mkdir()
        self._reached, self._go = folder / "reached", folder / "go"
        for pipe in (self._reached, self._go):
            os.mkfifo(pipe)
        super().__init__(data, f"hold-{point}", *options, environment={FOLDER: str(folder)})

    def wait_held(self) -> None:
        """Wait until the point is reached."""
        self._reached.read_bytes()

    def let_go(self) -> None:
        """Let the server go on."""
        self._go.write_bytes(b"")


def kill_gc(server: RunningServer, step: int) -> bool:
    """Run `gc` with a grace of an hour on the data of a server, and kill it at a step; False if it ended before."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-m", "tests.crashing", "sweep", "gc", "--grace", "1h", "--data", str(server.data)],
        env={**server.environment, "PYTHONPATH": path, STEP: str(step)},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode != 0


if TYPE_CHECKING:
    from remora_server.stores.blobs_local import LocalBlobs as Store
    from remora_server.stores.staged_file import StagedFile as Bytes
else:
    Store = Bytes = object  # What breaks stands before a store or its bytes, whichever they are.

POINT = ""
_times = {"hold-row": 2}
_steps = 0


def _reach(point: str) -> None:
    """Break here, if this is the point and its time has come."""
    left = _times.get(point, 1)
    if point != POINT or not left:
        return
    _times[point] = left - 1
    if point in CRASHES:
        os.kill(os.getpid(), signal.SIGKILL)
    folder = Path(os.environ[FOLDER])
    # Opening a pipe waits for its other end.
    (folder / "reached").write_bytes(b"")
    (folder / "go").read_bytes()


def _step() -> None:
    """Break here, if this is the step."""
    global _steps  # noqa: PLW0603 - there is one process to kill.
    _steps += 1
    if POINT == "sweep" and _steps == int(os.environ[STEP]):
        os.kill(os.getpid(), signal.SIGKILL)


class _BreakingStore(Store):
    """Breaks around every step of a blob."""

    def delete(self, location: str) -> None:
        """Remove a blob, or not."""
        _step()
        super().delete(location)
        _step()

    def discard(self, name: str, *, arrived: bool = False) -> None:
        """Remove staged bytes, or not."""
        _step()
        super().discard(name, arrived=arrived)
        _step()

    def stage(self, name: str, keep_bytes: int, epoch: int = 0) -> Staged:
        """Open staged bytes, later."""
        _reach("hold-stage")
        return super().stage(name, keep_bytes, epoch)

    def commit(self, name: str, content: Checksums, size_bytes: int, epoch: int = 0) -> str:
        """Commit, and no more."""
        location = super().commit(name, content, size_bytes, epoch)
        _reach("blob")
        _reach("hold-blob")
        return location

    def land(self, name: str, epoch: int) -> bool:
        """Have bytes arrive, and no more."""
        landed = super().land(name, epoch)
        _reach("land")
        return landed

    def put(self, name: str, data: bytes) -> str:
        """Keep half of a blob, or the blob and no more."""
        if POINT == "put":
            super().put(name, data[: len(data) // 2])
            _reach("put")
        location = super().put(name, data)
        _reach("blob")
        _reach("hold-put")
        return location

    def open(self, location: str) -> BlobReader:
        """Open a blob, later."""
        _reach("hold-open")
        return super().open(location)


class BreakingBlobs(_BreakingStore, LocalBlobs):
    """Breaks with a directory."""


class _BreakingBytes(Bytes):
    """Breaks in the middle of a piece, or before it is durable."""

    def write(self, data: bytes) -> None:
        """Write half."""
        if POINT == "staged":
            super().write(data[: len(data) // 2])
            self.sync()
            _reach("staged")
        super().write(data)

    def read(self, offset: int, size: int) -> bytes:
        """Read back, later."""
        _reach("hold-verify")
        return super().read(offset, size)

    def sync(self) -> None:
        """Make bytes durable, later."""
        _reach("hold-sync")
        super().sync()


class BreakingStagedFile(_BreakingBytes, StagedFile):
    """Breaks with a file."""


def break_bucket() -> None:
    """Have a bucket break too; Google's client is imported only where it is wanted."""
    from remora_server.stores import blobs_gcs, gcs_staged  # noqa: PLC0415

    class BreakingGcs(_BreakingStore, blobs_gcs.GcsBlobs):  # type: ignore[misc]
        """Breaks with a bucket."""

    class BreakingSession(_BreakingBytes, gcs_staged.StagedSession):
        """Breaks with a session."""

    vars(blobs_gcs).update(GcsBlobs=BreakingGcs, StagedSession=BreakingSession)


class BreakingIntake(Intake):
    """Breaks when the rows of an upload are there."""

    armed = False

    def take(self, *args: Any, **kwargs: Any) -> Taken:
        """Write the rows."""
        taken = super().take(*args, **kwargs)
        BreakingIntake.armed = True
        _reach("hold-row")
        return taken


@contextmanager
def _around_commit() -> Iterator[None]:
    """Break before or after a commit, if it ends an upload or is a step of gc."""
    _step()
    if BreakingIntake.armed:
        _reach("row")
    yield
    _step()
    if BreakingIntake.armed:
        _reach("answer")


class BreakingConnection(sqlite3.Connection):
    """Breaks before or after the commit of an upload's rows."""

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        """Run a statement, and no more if it was the COMMIT."""
        if sql != "COMMIT":
            return super().execute(sql, *values)
        with _around_commit():
            return super().execute(sql, *values)

    def commit(self) -> None:
        """Commit, and no more: the event loop's changes are committed this way."""
        with _around_commit():
            super().commit()


class BreakingSqlite(Sqlite):
    """Has such connections."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.inner.connect_params["factory"] = BreakingConnection


class BreakingPostgres(Postgres):
    """Breaks before or after the commit of an upload's rows."""

    def commit(self) -> None:
        """Commit, and no more."""
        if BreakingIntake.armed:
            _reach("row")
        super().commit()
        if BreakingIntake.armed:
            _reach("answer")


if __name__ == "__main__":
    POINT = sys.argv.pop(1)
    if os.environ.get("REMORA_BLOBS", "").startswith("gs:"):
        break_bucket()
    vars(blobs_local)["StagedFile"] = BreakingStagedFile
    vars(database_postgres)["Postgres"] = BreakingPostgres
    vars(app).update(Intake=BreakingIntake)
    vars(opening).update(LocalBlobs=BreakingBlobs, Sqlite=BreakingSqlite)
    sys.exit(__main__.main())

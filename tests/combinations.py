"""On which stores the tests' servers run.

REMORA_TEST_STORES is `sqlite+disk`, which is the default, `postgres+disk`, `sqlite+gcs` or `postgres+gcs`. Each data
directory has stores of its own, the same whenever a server is started on it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import postgres
from tests.gcs.running import RunningGcs

STORES = os.environ.get("REMORA_TEST_STORES", "sqlite+disk")
DATABASE, _, BLOBS = STORES.partition("+")
assert DATABASE in {"sqlite", "postgres"}, STORES
assert BLOBS in {"disk", "gcs"}, STORES

own_urls = pytest.mark.skipif(BLOBS != "disk", reason="about the signed URLs of this server, not of a blob store")
only_sqlite = pytest.mark.skipif(DATABASE != "sqlite", reason="about what becomes of a SQLite file")
only_disk = pytest.mark.skipif(BLOBS != "disk", reason="about what becomes of files on a disk")

_databases: dict[Path, tuple[str, ExitStack]] = {}
_fakes: list[RunningGcs] = []


def environment_of(data: Path) -> dict[str, str]:
    """Return the settings that make a server keep what belongs to a data directory in these stores."""
    database = {"REMORA_DATABASE_URL": _postgres_url(data)} if DATABASE == "postgres" else {}
    if BLOBS == "disk":
        return database
    return {**database, **fake_gcs().environment, "REMORA_BLOBS": f"gs://{fake_gcs().bucket}/{prefix_of(data)}"}


def prefix_of(data: Path) -> str:
    """Return the prefix in the bucket that belongs to a data directory."""
    return hashlib.sha256(str(data).encode()).hexdigest()[:16]


def fake_gcs() -> RunningGcs:
    """Return the fake of Cloud Storage of this process, started if it wasn't yet."""
    if not _fakes:
        _fakes.append(RunningGcs())
        if BLOBS == "gcs":
            os.environ.update(_fakes[0].environment)  # For what tests do to stores in their own process.
    return _fakes[0]


def stop_fake_gcs() -> None:
    """End it, if it runs."""
    while _fakes:
        _fakes.pop().stop()


def sql(data: Path, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Run a statement, with `?` for values, on the database of a data directory, past its server; return its rows."""
    if DATABASE == "postgres":
        with psycopg.connect(_postgres_url(data)) as connection:
            cursor = connection.execute(statement.replace("?", "%s"), values)
            return cursor.fetchall() if cursor.description else [()] * cursor.rowcount
    with closing(sqlite3.connect(data / "remora.db", timeout=30)) as database, database:
        found = database.execute(statement, values)
        return found.fetchall() if found.description else [()] * found.rowcount


def copy(data: Path, to: Path) -> None:
    """Copy a data directory that no server uses, with its stores."""
    shutil.copytree(data, to)
    if BLOBS == "gcs":
        fake_gcs().copy(f"{prefix_of(data)}/", f"{prefix_of(to)}/")
    if DATABASE == "postgres":
        ending = ExitStack()
        _databases[to] = ending.enter_context(postgres.new_database(copy_of=_postgres_url(data))), ending


def remove(folder: Path) -> None:
    """Remove what was made outside of a folder for the data directories in it."""
    for data in [data for data in _databases if data.is_relative_to(folder)]:
        _databases.pop(data)[1].close()


def _postgres_url(data: Path) -> str:
    if data not in _databases:
        ending = ExitStack()
        _databases[data] = ending.enter_context(postgres.new_database()), ending
    return _databases[data][0]

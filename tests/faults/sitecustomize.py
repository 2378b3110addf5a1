"""Faults of the operating system, in every Python process with this folder on its PYTHONPATH; tests/faulty.py leads.

Python imports a module of this name by itself when it starts. The calls fail as they do when the disk fails, whatever
the server makes of it, and only for files in one folder.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["FAULTS_FOLDER"])  # What a file in here is named fails; its text is the error.
VICTIM = os.environ["FAULTS_VICTIM"]  # The folder whose files it happens to.
LIMIT = "limit"  # In its file stands how many bytes the victim may hold,
PAGES = "pages"  # and how many pages a database.


def _is_victim(descriptor: int) -> bool:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith(VICTIM)


def _fail(error: int) -> None:
    raise OSError(error, os.strerror(error))


def _failing(name: str) -> Callable[..., Any]:
    real: Callable[..., Any] = getattr(os, name)
    fault = FOLDER / name

    def call(descriptor: int, *rest: Any) -> Any:
        if fault.exists() and _is_victim(descriptor):
            _fail(getattr(errno, fault.read_text()))
        if rest and (FOLDER / LIMIT).exists() and _is_victim(descriptor):
            held = sum(path.stat().st_size for path in Path(VICTIM).rglob("*") if path.is_file())
            if held + len(rest[0]) > int((FOLDER / LIMIT).read_text()):
                _fail(errno.ENOSPC)
        return real(descriptor, *rest)

    return call


class _SmallDatabase(sqlite3.Connection):
    """A connection to a database that may have so many pages as stand in a file, as on a volume that is full."""

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        """Run a statement; ask before each transaction."""
        if sql.startswith("BEGIN") and (FOLDER / PAGES).exists():
            super().execute(f"PRAGMA max_page_count = {int((FOLDER / PAGES).read_text())}")
        return super().execute(sql, *values)


def _connect(*args: Any, **options: Any) -> sqlite3.Connection:
    return _real_connect(*args, **{"factory": _SmallDatabase, **options})


for _name in ("write", "pwrite", "fsync", "fdatasync"):
    setattr(os, _name, _failing(_name))
_real_connect: Callable[..., sqlite3.Connection] = sqlite3.connect
vars(sqlite3)["connect"] = _connect

"""SQLite: one connection per thread."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import peewee

from remora_server.core.errors import StorageFullError, StorageUnavailableError
from remora_server.stores.database import Database, Row, StoreDefectError
from remora_server.stores.kept import Kept, Query

DRIVER_ERRORS = (sqlite3.Error, peewee.PeeweeException)
PRAGMAS = {
    "synchronous": "FULL",  # NORMAL would lose acknowledged rows at power loss; group commit makes FULL cheap.
    "foreign_keys": "ON",
    "cache_size": -16_000,  # KiB
    "temp_store": "MEMORY",
    # Pages; a checkpoint writes a page once however often it changed, so fewer, larger ones cost the commits less.
    "wal_autocheckpoint": 4096,
    "journal_size_limit": 64 * 1024 * 1024,
}
CONNECT_SECONDS = 10.0
LOCK_POLL_SECONDS = 0.001
STATEMENTS_CACHED = 256
IOERR_SHMSIZE = sqlite3.SQLITE_IOERR_SHMSIZE  # No room for the index of the write-ahead log.
DEFECTS = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_RANGE,
        sqlite3.SQLITE_TOOBIG,
    }
)


class Sqlite(Database):
    """A SQLite file; `migrate` makes it if there is none."""

    def __init__(self, path: Path, *, busy_seconds: float = 5.0) -> None:
        self.inner: peewee.SqliteDatabase = peewee.SqliteDatabase(
            str(path),
            pragmas=PRAGMAS,
            timeout=busy_seconds,
            check_same_thread=False,  # Only so that `close` can close what other threads opened.
            cached_statements=STATEMENTS_CACHED,
        )
        self._path = path
        self._busy_seconds = busy_seconds
        self._kind = type(self.inner)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._opened: list[tuple[threading.Thread, sqlite3.Connection]] = []
        self._closed = False

    def row(self, statement: Kept, *values: object) -> Row | None:
        """Run a kept query; return its first row."""
        text = statement.texts.get(self._kind) or statement.text_for(self.inner)
        try:
            found: Row | None = (
                self.connection().execute(text.sql, text.arrange(values) if text.arrange else values).fetchone()
            )
        except DRIVER_ERRORS as error:
            raise self._refusal(error) from error
        return found

    def rows(self, statement: Kept, *values: object) -> list[Row]:
        """Run a kept query; return its rows."""
        text = statement.texts.get(self._kind) or statement.text_for(self.inner)
        try:
            return self.connection().execute(text.sql, text.arrange(values) if text.arrange else values).fetchall()
        except DRIVER_ERRORS as error:
            raise self._refusal(error) from error

    def change(self, statement: Kept, *values: object) -> int:
        """Run a kept statement; return how many rows it wrote or removed."""
        text = statement.texts.get(self._kind) or statement.text_for(self.inner)
        try:
            return self.connection().execute(text.sql, text.arrange(values) if text.arrange else values).rowcount
        except DRIVER_ERRORS as error:
            raise self._refusal(error) from error

    def try_change(self, statement: Kept, *values: object) -> bool:
        """Run a kept statement; False, and nothing is changed, if a unique index is against it."""
        try:
            return self.change(statement, *values) > 0
        except StoreDefectError as defect:
            if getattr(defect.__cause__, "sqlite_errorcode", 0) == sqlite3.SQLITE_CONSTRAINT_UNIQUE:
                return False
            raise

    def select(self, query: Query) -> list[Row]:
        """Build and run a query; return its rows."""
        try:
            return self.connection().execute(*query.bind(self.inner).sql()).fetchall()
        except DRIVER_ERRORS as error:
            raise self._refusal(error) from error

    def execute(self, query: Query) -> int:
        """Build and run a statement; return how many rows it wrote or removed."""
        try:
            return self.connection().execute(*query.bind(self.inner).sql()).rowcount
        except DRIVER_ERRORS as error:
            raise self._refusal(error) from error

    def command(self, sql: str) -> None:
        """Run a statement without values, such as BEGIN."""
        try:
            self.connection().execute(sql)
        except DRIVER_ERRORS as error:
            raise self._refusal(error) from error

    def begin(self) -> None:
        """Begin a transaction that may write; SQLite takes its write lock here, never half-way."""
        # SQLite itself looks for the lock at last every 100 ms only, and a busy neighbour would have it each time.
        until = time.monotonic() + self._busy_seconds
        self.command("PRAGMA busy_timeout = 0")
        try:
            while True:
                try:
                    self.command("BEGIN IMMEDIATE")
                except StorageUnavailableError as error:
                    code: int = getattr(error.__cause__, "sqlite_errorcode", 0)
                    if code & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                        raise
                    time.sleep(LOCK_POLL_SECONDS)
                else:
                    return
        finally:
            self.command(f"PRAGMA busy_timeout = {int(self._busy_seconds * 1000)}")

    def connection(self) -> sqlite3.Connection:
        """Return this thread's connection, opened if need be."""
        try:
            connection: sqlite3.Connection = self._local.connection
        except AttributeError:
            return self._open()
        return connection

    def drop_connection(self) -> None:
        """Close this thread's connection, and with it whatever it left half done; the next use opens another."""
        connection = self._local.__dict__.pop("connection", None)
        if connection is None:
            return
        with self._lock:
            self._opened = [one for one in self._opened if one[1] is not connection]
        connection.close()
        self.inner.dispose()

    def close(self) -> None:
        """Close every connection; those of threads that still work break their statements off."""
        with self._lock:
            self._closed = True
            opened, self._opened = self._opened, []
        for _, connection in opened:
            connection.close()

    def exists(self) -> bool:
        """Tell whether there is a database, migrated or not."""
        return self._path.exists()

    def create(self) -> None:
        """Make the file if there is none, and turn on write-ahead logging, which stays with it."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StorageUnavailableError from error
        self._patiently(lambda: self.command("PRAGMA journal_mode = WAL"))

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Hold the write lock in a transaction that Peewee knows of, with foreign keys unchecked."""
        self.connection()
        try:
            self.inner.execute_sql("PRAGMA foreign_keys = OFF")  # Has no effect within a transaction.
            with self.inner.atomic("IMMEDIATE"):
                yield
        except DRIVER_ERRORS as error:
            raise self._refusal(error) from error
        finally:
            self.drop_connection()

    def _open(self) -> sqlite3.Connection:
        if self._closed:
            raise StorageUnavailableError
        self._patiently(lambda: self.inner.connect(reuse_if_open=True))
        connection: sqlite3.Connection = self.inner.connection()
        self._local.connection = connection
        with self._lock:
            dead = [one for one in self._opened if not one[0].is_alive()]
            self._opened = [one for one in self._opened if one[0].is_alive()]
            self._opened.append((threading.current_thread(), connection))
        for _, left in dead:
            left.close()
        return connection

    def _patiently(self, call: Callable[[], object]) -> None:
        """Repeat `call` while the database is busy: SQLite does not wait for locks while it opens a new file."""
        until = time.monotonic() + CONNECT_SECONDS
        while True:
            try:
                call()
            except (*DRIVER_ERRORS, StorageUnavailableError) as error:
                refused = error if isinstance(error, StorageUnavailableError) else self._refusal(error)
                if not isinstance(refused, StorageUnavailableError) or time.monotonic() > until:
                    raise refused from error
                time.sleep(0.005 + 0.02 * random.random())  # noqa: S311 - only spreads those who wait.
            else:
                return

    def _refusal(self, error: Exception) -> Exception:
        """Return the error that core knows for one of the driver's; its text stays behind in the cause."""
        driver = getattr(error, "orig", None) or error  # Peewee wraps what it calls itself.
        code: int = getattr(driver, "sqlite_errorcode", 0)
        if code & 0xFF == sqlite3.SQLITE_FULL or code == IOERR_SHMSIZE:
            return StorageFullError()
        if self._closed or (code & 0xFF not in DEFECTS and isinstance(driver, sqlite3.DatabaseError) and code):
            return StorageUnavailableError()
        return StoreDefectError(getattr(driver, "sqlite_errorname", type(driver).__name__))

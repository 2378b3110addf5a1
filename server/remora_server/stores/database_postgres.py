"""PostgreSQL: one connection for whoever writes, a bounded pool for what is read.

Core's rules hold for one writer at a time, so each transaction begins with one lock that all servers share. Reads take
a connection for the length of a statement and never wait for that lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import peewee
import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolTimeout

from remora_server.core.errors import StorageFullError, StorageUnavailableError
from remora_server.stores.database import (
    Database,
    DatabaseUnreachableError,
    OutcomeUnknownError,
    Row,
    StoreDefectError,
)
from remora_server.stores.kept import Kept, Query
from remora_server.stores.listener import Listener
from remora_server.stores.postgres_connection import PostgresConnection

DRIVER_ERRORS = (psycopg.Error, peewee.PeeweeException)
POOL_CONNECTIONS = 16
POOL_WAIT_SECONDS, POOL_LOOK_SECONDS = 2.0, 0.2
DOWN_SECONDS = 0.25  # How long nobody waits for a new connection after one could not be made.
CHANNEL = "remora_changes"
# Numbers of ours among all advisory locks of the database.
WRITE_LOCK, MIGRATE_LOCK = 7_460_001, 7_460_002

# Whatever hangs, callers are told in time: a network that went away by the operating system, a stalled holder of the
# lock by the database, which ends its transaction and so lets the other servers go on.
NETWORK = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "remora",
    "client_encoding": "utf8",
}
SESSION = "SET default_transaction_isolation = 'read committed'; SET statement_timeout = '60s'; SET jit = off"
# A role or a database may be set up to acknowledge commits that a crash would lose; whatever else is set, stays.
DURABLE = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
WRITING = "SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '4s'"
LOCK_SECONDS = 5.0  # More than a stalled holder keeps it.
BEGIN = f"BEGIN; SELECT pg_advisory_xact_lock({WRITE_LOCK})"

DISK_FULL, READ_ONLY = "53100", "25006"
# What a caller can only wait out: connections, resources, operators, locks, transactions ended from outside.
PASSING_CLASSES = ("08", "40", "53", "57", "58", "XX")
PASSING = frozenset({READ_ONLY, "25P03", "25P04", "55P03"})


class Postgres(Database):
    """A PostgreSQL database at a URL; `migrate` fills it."""

    def __init__(self, url: str, *, connections: int = POOL_CONNECTIONS, lock_seconds: float = LOCK_SECONDS) -> None:
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            # What the driver says may quote the password.
            raise ValueError("can't be read as a PostgreSQL URL; special characters in it are written %XX") from None
        ours: dict[str, Any] = {name: value for name, value in NETWORK.items() if name not in given}
        self._parameters: dict[str, Any] = {**given, **ours, "autocommit": True}
        self.inner: peewee.PostgresqlDatabase = peewee.PostgresqlDatabase(
            url.replace("postgres://", "postgresql://", 1), prefer_psycopg3=True, **ours
        )
        self._kind = type(self.inner)
        self._writing = f"{WRITING}; SET lock_timeout = {int(lock_seconds * 1000)}"
        self._local = threading.local()
        self._lock = threading.Lock()
        self._sessions: list[PostgresConnection] = []
        self._closed = False
        self._listener: Listener | None = None
        self._down_until = 0.0
        self._pool: ConnectionPool[PostgresConnection] = ConnectionPool(
            connection_class=PostgresConnection,
            kwargs=self._parameters,
            min_size=1,
            max_size=connections,
            open=False,
            configure=_configure,
            reconnect_timeout=0.1,  # Who asks next tries again; nobody waits for a delay that has grown meanwhile.
            reconnect_failed=self._note_down,
            name="remora",
        )

    def row(self, statement: Kept, *values: object) -> Row | None:
        """Run a kept query; return its first row."""
        text = statement.texts.get(self._kind) or statement.text_for(self.inner)
        found = self._rows(text.sql, text.arrange(values) if text.arrange else values, kept=True)
        return found[0] if found else None

    def rows(self, statement: Kept, *values: object) -> list[Row]:
        """Run a kept query; return its rows."""
        text = statement.texts.get(self._kind) or statement.text_for(self.inner)
        return self._rows(text.sql, text.arrange(values) if text.arrange else values, kept=True)

    def change(self, statement: Kept, *values: object) -> int:
        """Run a kept statement; return how many rows it wrote or removed."""
        text = statement.texts.get(self._kind) or statement.text_for(self.inner)
        return self._change(text.sql, text.arrange(values) if text.arrange else values, kept=True)

    def try_change(self, statement: Kept, *values: object) -> bool:
        """Run a kept statement; False, and nothing is changed, if a unique index is against it.

        That would end a transaction, which only a savepoint prevents, at the cost of two trips. So in the first attempt
        at a batch the statement is taken for done and put off; if it is refused then, the second attempt, which the
        writer's own savepoints tell of, is careful.
        """
        session: PostgresConnection | None = getattr(self._local, "session", None)
        if session is None or not session.in_transaction:
            return self._tried(statement, values)
        if session.savepoints == 0:
            self.write(statement, *values)
            return True
        self.savepoint("attempt")
        if self._tried(statement, values):
            self.release("attempt")
            return True
        self.undo("attempt")
        return False

    def write(self, statement: Kept, *values: object) -> None:
        """Run a kept statement whose outcome nobody asks for; it may be put off until the next read, or the end."""
        session: PostgresConnection | None = getattr(self._local, "session", None)
        if session is None or session.savepoints > 0 or not session.in_transaction:
            self.change(statement, *values)
            return
        text = statement.texts.get(self._kind) or statement.text_for(self.inner)
        try:
            session.put_off(text.sql, text.arrange(values) if text.arrange else values)
        except DRIVER_ERRORS as error:
            raise self._failure(session, error) from error

    def select(self, query: Query) -> list[Row]:
        """Build and run a query; return its rows."""
        sql, values = query.bind(self.inner).sql()
        return self._rows(sql, values)

    def execute(self, query: Query) -> int:
        """Build and run a statement; return how many rows it wrote or removed."""
        sql, values = query.bind(self.inner).sql()
        return self._change(sql, values)

    def command(self, sql: str) -> None:
        """Run a statement without values on this thread's connection."""
        session = self.connection()
        try:
            session.command(sql)
        except DRIVER_ERRORS as error:
            raise self._failure(session, error) from error

    def begin(self) -> None:
        """Begin a transaction, once every other server has ended its own."""
        session = self.connection()
        try:
            try:
                session.command(BEGIN)
            except psycopg.Error:
                if not session.is_broken():
                    raise
                # It was closed while nobody used it, and nothing has happened over it yet.
                session = self._reopened()
                session.command(BEGIN)
        except DRIVER_ERRORS as error:
            refusal = self._failure(session, error)
            if session.in_transaction:
                with suppress(psycopg.Error):
                    session.command("ROLLBACK")
            raise refusal from error
        session.savepoints = 0
        session.changes_before = session.total_changes

    def commit(self) -> None:
        """Make the transaction durable, and tell all servers if it changed something."""
        session = self.connection()
        changed = session.total_changes != session.changes_before
        try:
            done = session.command(f"NOTIFY {CHANNEL}; COMMIT" if changed else "COMMIT")
        except DRIVER_ERRORS as error:
            if session.is_broken():
                raise OutcomeUnknownError from error
            raise self._failure(session, error) from error
        if done != b"COMMIT":
            # A statement had failed, and whoever ran it went on as if it had not.
            raise StorageUnavailableError

    def roll_back(self) -> None:
        """Undo this thread's transaction."""
        self.connection().forget()
        super().roll_back()

    def savepoint(self, name: str) -> None:
        """Note a place in this thread's transaction to go back to."""
        super().savepoint(name)
        self.connection().savepoints += 1

    def release(self, name: str) -> None:
        """Forget a savepoint; what was done since stays."""
        super().release(name)
        self.connection().savepoints -= 1

    def undo(self, name: str) -> None:
        """Go back to a savepoint, and forget it."""
        self.command(f"ROLLBACK TO {name}; RELEASE {name}")
        self.connection().savepoints -= 1

    def connection(self) -> PostgresConnection:
        """Return this thread's connection, opened if need be."""
        session: PostgresConnection | None = getattr(self._local, "session", None)
        return session or self._opened()

    def hear(self, tell: Callable[[], None]) -> None:
        """Have `tell` called, on a thread of its own, when another server has committed something."""
        self._listener = Listener(lambda: psycopg.connect(**self._parameters), CHANNEL, self._is_own, tell)

    def drop_connection(self) -> None:
        """Close this thread's connection, and with it whatever it left half done; the next use opens another."""
        session: PostgresConnection | None = self._local.__dict__.pop("session", None)
        if session is not None:
            with self._lock:
                self._sessions = [one for one in self._sessions if one is not session]
            session.close()

    def close(self) -> None:
        """Close every connection; threads that still work are told that storage does not answer."""
        if self._listener is not None:
            self._listener.close()
        with self._lock:
            self._closed = True
            sessions, self._sessions = self._sessions, []
        for session in sessions:
            # Under a statement of another thread a connection can't be taken away; that one ends with the process.
            if session.pgconn.transaction_status == TransactionStatus.IDLE:
                session.close()
        self._pool.close()

    def wait_reachable(self, seconds: float, waiting: Callable[[str], None]) -> None:
        """Wait for a database that is about to start; raise DatabaseUnreachableError with what the driver says.

        `waiting` hears once, with the same text, that it is tried again.
        """
        until = time.monotonic() + seconds
        has_told = False
        while True:
            try:
                psycopg.connect(**self._parameters).close()
            except psycopg.Error as error:
                said = " ".join(str(error).split())
                if time.monotonic() > until or not _may_pass(error):
                    raise DatabaseUnreachableError(said) from None
                if not has_told:
                    waiting(said)
                    has_told = True
                time.sleep(0.25)
            else:
                return

    def exists(self) -> bool:
        """Tell whether there is a database; there is, since only its server's operator can make one."""
        return True

    def create(self) -> None:
        """Refuse a database that can't hold every text."""
        with self.looked_at():
            encoding = self.inner.execute_sql("SHOW server_encoding").fetchone()
        if encoding != ("UTF8",):
            raise DatabaseUnreachableError("the encoding of the database must be UTF8; make another one with it")

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Hold off everybody else who would migrate, in a transaction that Peewee knows of."""
        with self.looked_at(), self.inner.atomic():
            self.inner.execute_sql(f"SELECT pg_advisory_xact_lock({MIGRATE_LOCK})")
            yield

    @contextmanager
    def looked_at(self) -> Iterator[None]:
        """Let `inner` run statements on this thread."""
        try:
            with self.inner.connection_context():
                yield
        except DRIVER_ERRORS as error:
            raise self._refusal(error) from error

    def _rows(self, sql: str, values: Sequence[object], *, kept: bool = False) -> list[Row]:
        session: PostgresConnection | None = getattr(self._local, "session", None)
        try:
            if session is None:
                return self._read(sql, values, kept=kept)
            return session.rows(sql, values, kept=kept)
        except DRIVER_ERRORS as error:
            if type(error) is psycopg.DataError and (unlike := _without_nul(values)) != tuple(values):
                return self._rows(sql, unlike, kept=kept)
            raise self._failure(session, error) from error

    def _change(self, sql: str, values: Sequence[object], *, kept: bool = False) -> int:
        session: PostgresConnection | None = getattr(self._local, "session", None)
        try:
            if session is None:
                with self._lent() as connection:
                    return connection.change(sql, values, kept=kept)
            return session.change(sql, values, kept=kept)
        except DRIVER_ERRORS as error:
            raise self._failure(session, error) from error

    def _read(self, sql: str, values: Sequence[object], *, kept: bool) -> list[Row]:
        """Run a query outside of any transaction; once more if its connection had died since it was last used."""
        with self._lent() as connection:
            try:
                return connection.rows(sql, values, kept=kept)
            except psycopg.OperationalError:
                if not connection.is_broken() or self._closed:
                    raise
        self._pool.check()  # The others in the pool have died with it.
        with self._lent() as connection:
            return connection.rows(sql, values, kept=kept)

    def _tried(self, statement: Kept, values: Sequence[object]) -> bool:
        try:
            return self.change(statement, *values) > 0
        except StoreDefectError as defect:
            if isinstance(defect.__cause__, psycopg.errors.UniqueViolation):
                return False
            raise

    @contextmanager
    def _lent(self) -> Iterator[PostgresConnection]:
        if self._closed:
            raise StorageUnavailableError
        if self._pool.closed:
            self._pool.open()
        connection = self._borrowed()
        try:
            yield connection
        finally:
            self._pool.putconn(connection)

    def _borrowed(self) -> PostgresConnection:
        """Take a connection of the pool; wait for one, but not while the database can't be reached."""
        now = time.monotonic()
        until = now + POOL_WAIT_SECONDS
        while True:
            try:
                return self._pool.getconn(timeout=0.01 if now < self._down_until else POOL_LOOK_SECONDS)
            except PoolTimeout:
                now = time.monotonic()
                if now < self._down_until or now > until:
                    raise

    def _is_own(self, process_id: int) -> bool:
        with self._lock:
            return any(one.info.backend_pid == process_id for one in self._sessions)

    def _note_down(self, _pool: object) -> None:
        self._down_until = time.monotonic() + DOWN_SECONDS

    def _opened(self) -> PostgresConnection:
        if self._closed:
            raise StorageUnavailableError
        try:
            session = PostgresConnection.connect(**self._parameters)
            _configure(session)
            session.command(self._writing)
        except DRIVER_ERRORS as error:
            raise self._refusal(error) from error
        self._local.session = session
        with self._lock:
            self._sessions.append(session)
        return session

    def _reopened(self) -> PostgresConnection:
        self.drop_connection()
        return self._opened()

    def _failure(self, session: PostgresConnection | None, error: Exception) -> Exception:
        """Note that a statement failed on a connection; return the error that core knows for it."""
        if session is not None:
            session.total_changes += 1
        refusal = self._refusal(error)
        if session is not None and getattr(error, "sqlstate", None) == READ_ONLY:
            session.close()  # It leads to a server that is no longer the first.
        return refusal

    def _refusal(self, error: Exception) -> Exception:
        """Return the error that core knows for one of the driver's; its text stays behind in the cause."""
        driver = getattr(error, "orig", None) or error  # Peewee wraps what it calls itself.
        if isinstance(driver, StorageUnavailableError | StoreDefectError):
            return driver
        code: str = getattr(driver, "sqlstate", None) or ""
        if code == DISK_FULL:
            return StorageFullError()
        lost = not code and isinstance(driver, psycopg.OperationalError | psycopg.InterfaceError)
        if self._closed or lost or code.startswith(PASSING_CLASSES) or code in PASSING:
            return StorageUnavailableError()
        return StoreDefectError(f"{type(driver).__name__} {code}".strip())


def _configure(connection: PostgresConnection) -> None:
    connection.command(f"{SESSION}; {DURABLE}")


def _without_nul(values: Sequence[object]) -> tuple[object, ...]:
    """Return values to search for that PostgreSQL takes: no text in it has a NUL, so such a one equals none of them."""
    return tuple(value.replace("\0", "\uffff") if isinstance(value, str) else value for value in values)


def _may_pass(error: psycopg.Error) -> bool:
    """Tell whether a connection that could not be made may be made soon: nobody answers, or only for now."""
    text = str(error)
    return "FATAL" not in text or any(state in text for state in ("starting up", "shutting down", "recovery"))

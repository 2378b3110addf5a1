"""One connection to PostgreSQL: statements prepared once, and writes that travel with the next statement.

It speaks through psycopg's `pq`, which is libpq: a statement costs a third of what a cursor takes for it, and prepared
statements outlive a ROLLBACK. Each trip to the server costs more than what it does there, so writes that nobody waits
for are put off until the next read or the COMMIT takes them along.
"""

from __future__ import annotations

import select
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Transformer
from psycopg.pq import DiagnosticField, ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGresult

from remora_server.stores.database import PutOffError, Row

DONE = frozenset({ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK})
MOST_PUT_OFF = 100

Value = Buffer | None


class _Statement(NamedTuple):
    """A statement with its values, ready to be sent; without a name it is not prepared."""

    name: bytes
    sql: bytes
    values: list[Value]
    formats: Sequence[Format]


class PostgresConnection(psycopg.Connection[Row]):
    """A connection of psycopg with ways of its own to run what is kept. Whoever uses it, uses it alone."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - psycopg's own affair.
        super().__init__(*arguments, **options)
        self.total_changes = 0
        self.changes_before = 0
        self.savepoints = 0
        self._transformer = Transformer(self)
        self._prepared_names: dict[str, bytes] = {}
        self._put_off: list[_Statement] = []
        self._readable, self._both = select.poll(), select.poll()
        self._readable.register(self.pgconn.socket, select.POLLIN)
        self._both.register(self.pgconn.socket, select.POLLIN | select.POLLOUT)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, if only to be rolled back."""
        return self.pgconn.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}

    def is_broken(self) -> bool:
        """Tell whether the connection is known to be gone."""
        return self.pgconn.transaction_status == TransactionStatus.UNKNOWN

    def rows(self, sql: str, values: Sequence[object], *, kept: bool) -> list[Row]:
        """Run a query; return its rows. What is kept is prepared."""
        result = self._run(sql, values, kept=kept)
        self._transformer.set_pgresult(result)
        return self._transformer.load_rows(0, result.ntuples, tuple)

    def change(self, sql: str, values: Sequence[object], *, kept: bool) -> int:
        """Run a statement; return how many rows it wrote or removed."""
        changed = self._run(sql, values, kept=kept).command_tuples or 0
        self.total_changes += changed
        return changed

    def put_off(self, sql: str, values: Sequence[object]) -> None:
        """Run a statement within this transaction with, or at the latest before, the next one that is not put off."""
        self._put_off.append(self._statement(sql, values, kept=True))
        self.total_changes += 1
        if len(self._put_off) >= MOST_PUT_OFF:
            self._travel([])

    def command(self, sql: str) -> bytes:
        """Run statements without values; return what the last of them says that it did."""
        if self._put_off:
            commands = [_Statement(b"", one.encode(), [], []) for one in sql.split("; ")]
            return self._travel(commands).command_status or b""
        return _checked(self.pgconn.exec_(sql.encode())).command_status or b""

    def forget(self) -> None:
        """Drop what was put off: the transaction that it belongs to is rolled back."""
        self._put_off = []

    def _run(self, sql: str, values: Sequence[object], *, kept: bool) -> PGresult:
        statement = self._statement(sql, values, kept=kept)
        if self._put_off:
            return self._travel([statement])
        name, text, given, formats = statement
        if name:
            # The driver's annotation forgets that a value may be NULL.
            return _checked(self.pgconn.exec_prepared(name, given, formats, Format.BINARY))  # type: ignore[arg-type]
        return _checked(self.pgconn.exec_params(text, given, None, formats, Format.BINARY))

    def _statement(self, sql: str, values: Sequence[object], *, kept: bool) -> _Statement:
        encoded = [_encoded(value) for value in values]
        formats = [Format.BINARY if isinstance(value, bytes | memoryview) else Format.TEXT for value in values]
        if not kept:
            return _Statement(b"", _numbered(sql), encoded, formats)
        return _Statement(self._prepared_names.get(sql) or self._prepare(sql), b"", encoded, formats)

    def _prepare(self, sql: str) -> bytes:
        name = b"kept_%d" % len(self._prepared_names)
        _checked(self.pgconn.prepare(name, _numbered(sql)))
        self._prepared_names[sql] = name
        return name

    def _travel(self, last: Sequence[_Statement]) -> PGresult:
        """Send what was put off and then these, in one trip; return the result of the last."""
        put_off, self._put_off = self._put_off, []
        pg = self.pgconn
        pg.enter_pipeline_mode()
        try:
            for name, text, values, formats in (*put_off, *last):
                if name:
                    pg.send_query_prepared(name, values, formats, Format.BINARY)
                else:
                    pg.send_query_params(text, values, None, formats, Format.BINARY)
            pg.pipeline_sync()
            results = self._received()
        finally:
            with suppress(psycopg.Error):  # A connection that broke stays in this mode.
                pg.exit_pipeline_mode()
        for place, result in enumerate(results):
            try:
                _checked(result)
            except psycopg.OperationalError:
                raise
            except psycopg.Error as error:
                if place < len(put_off):
                    self.total_changes += 1
                    raise PutOffError from error
                raise
        return results[-1]

    def _received(self) -> list[PGresult]:
        """Wait for the results of one trip; other threads run meanwhile, as they would not in libpq's own waiting."""
        pg = self.pgconn
        results: list[PGresult] = []
        while True:
            while not pg.is_busy():
                result = pg.get_result()
                if result is None:  # It stands between the results of two statements, or for a connection that is gone.
                    if self.is_broken():
                        raise psycopg.OperationalError
                    continue
                if result.status == ExecStatus.PIPELINE_SYNC:
                    return results
                results.append(result)
            (self._both if pg.flush() else self._readable).poll()
            pg.consume_input()


def _checked(result: PGresult) -> PGresult:
    if result.status in DONE:
        return result
    if result.error_field(DiagnosticField.SQLSTATE) is None:
        raise psycopg.OperationalError  # The connection is gone.
    raise psycopg.errors.error_from_result(result)


def _numbered(sql: str) -> bytes:
    """Return a statement with the placeholders of libpq instead of those that Peewee writes."""
    first, *others = sql.split("%s")
    return (first + "".join(f"${number}{part}" for number, part in enumerate(others, 1))).encode()


def _encoded(value: object) -> Value:
    """Return a value as it is sent; its type is that which the statement has in its place."""
    match value:
        case None:
            return None
        case str():
            if "\0" in value:
                raise psycopg.DataError("a text of PostgreSQL can't hold a NUL")
            return value.encode()
        case bool():
            return b"t" if value else b"f"
        case int():
            return b"%d" % value
        case bytes() | memoryview():
            return value
        case _:
            raise psycopg.ProgrammingError(f"a value of type {type(value).__name__} can't be sent")

"""The shape of a database: statements in and outside of transactions, and driver errors turned into those of core."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import peewee

from remora_server.core.errors import StorageUnavailableError
from remora_server.stores.kept import Kept, Query

Row = tuple[Any, ...]


class StoreDefectError(Exception):
    """A statement that the database refuses whatever its state: a mistake in this server."""


class DatabaseUnreachableError(Exception):
    """The database can't be used as it is; the message says why."""


class OutcomeUnknownError(StorageUnavailableError):
    """The connection broke while a commit was on its way: it may have happened, so nobody may repeat its calls."""


class PutOffError(Exception):
    """A write that was put off was refused; which call of the transaction it belongs to is not known any more."""


class Connection(Protocol):
    """What whoever runs a transaction sees of its connection; `sqlite3.Connection` is one."""

    @property
    def total_changes(self) -> int:
        """How many rows were ever written over it; a statement that failed half-way counts, since it must be undone."""
        ...

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, if only to be rolled back."""
        ...


class Database(ABC):
    """Runs statements; any thread may use it. A thread that has begun a transaction runs all of its own in it."""

    inner: peewee.Database  # What builds SQL, and what migrations run on.

    @abstractmethod
    def row(self, statement: Kept, *values: object) -> Row | None:
        """Run a kept query; return its first row."""

    @abstractmethod
    def rows(self, statement: Kept, *values: object) -> list[Row]:
        """Run a kept query; return its rows."""

    @abstractmethod
    def change(self, statement: Kept, *values: object) -> int:
        """Run a kept statement; return how many rows it wrote or removed."""

    def write(self, statement: Kept, *values: object) -> None:
        """Run a kept statement whose outcome nobody asks for; within a transaction it may be put off up to its end."""
        self.change(statement, *values)

    @abstractmethod
    def try_change(self, statement: Kept, *values: object) -> bool:
        """Run a kept statement; False, and nothing is changed, if a unique index is against it."""

    @abstractmethod
    def select(self, query: Query) -> list[Row]:
        """Build and run a query; return its rows."""

    @abstractmethod
    def execute(self, query: Query) -> int:
        """Build and run a statement; return how many rows it wrote or removed."""

    @abstractmethod
    def command(self, sql: str) -> None:
        """Run a statement without values on this thread's connection."""

    @abstractmethod
    def begin(self) -> None:
        """Begin a transaction that may write. The database's one write lock is taken here, never half-way."""

    def commit(self) -> None:
        """Make this thread's transaction durable; raise OutcomeUnknownError where nobody can tell whether it is.

        Raise PutOffError, and it can only be rolled back, if a write was refused that had been put off.
        """
        self.command("COMMIT")

    def roll_back(self) -> None:
        """Undo this thread's transaction."""
        self.command("ROLLBACK")

    def savepoint(self, name: str) -> None:
        """Note a place in this thread's transaction to go back to."""
        self.command(f"SAVEPOINT {name}")

    def release(self, name: str) -> None:
        """Forget a savepoint; what was done since stays."""
        self.command(f"RELEASE {name}")

    def undo(self, name: str) -> None:
        """Go back to a savepoint, and forget it."""
        self.command(f"ROLLBACK TO {name}")
        self.command(f"RELEASE {name}")

    @abstractmethod
    def connection(self) -> Connection:
        """Return this thread's connection, opened if need be."""

    def in_transaction(self) -> bool:
        """Tell whether this thread's transaction is still there; on some errors a database ends it by itself."""
        return self.connection().in_transaction

    def written(self) -> int:
        """Return how many rows this thread's connection ever wrote, to see whether a transaction did."""
        return self.connection().total_changes

    def hear(self, tell: Callable[[], None]) -> None:  # noqa: B027 - some have nothing to hear.
        """Have `tell` called, on some thread, when another server has committed; where nobody tells of that, never."""

    @abstractmethod
    def drop_connection(self) -> None:
        """Close this thread's connection, and with it whatever it left half done; the next use opens another."""

    @abstractmethod
    def close(self) -> None:
        """Close every connection; threads that still work are told that storage does not answer."""

    @abstractmethod
    def exists(self) -> bool:
        """Tell whether there is a database, migrated or not."""

    @abstractmethod
    def create(self) -> None:
        """Make the database if there is none and if it can be made from here."""

    @abstractmethod
    def exclusively(self) -> AbstractContextManager[None]:
        """Hold off everybody else who would migrate, in a transaction that Peewee knows of."""

    @contextmanager
    def looked_at(self) -> Iterator[None]:
        """Let `inner` run statements on this thread."""
        self.connection()
        yield

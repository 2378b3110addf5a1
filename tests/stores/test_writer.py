"""Group commit: who shares a transaction shares its sync of the disk, and nothing else."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from remora_server.core.errors import NotFoundError, ShuttingDownError, StorageUnavailableError
from remora_server.core.ports import Changes, MetadataStore
from remora_server.stores import database_postgres
from remora_server.stores import writer as writer_module
from remora_server.stores.database import Database
from remora_server.stores.database_postgres import Postgres
from remora_server.stores.database_sqlite import Sqlite
from remora_server.stores.metadata import SqlMetadata
from remora_server.stores.migrations import migrate
from remora_server.stores.writer import CallBrokenOffError, Writer
from tests import postgres
from tests.stores.samples import NOW, Tenant


class Outside:
    """Looks at the database as another process would, and may keep everybody from writing."""

    def used(self) -> int:
        """Return what is charged, as committed."""
        return int(self.ask("SELECT used_bytes FROM workspaces"))

    def ask(self, sql: str) -> Any:
        """Return the first value of a query."""
        raise NotImplementedError

    def lock(self) -> None:
        """Take the write lock."""
        raise NotImplementedError

    def unlock(self) -> None:
        """Give it back."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the connection."""
        raise NotImplementedError


class OutsideSqlite(Outside):
    """Another connection to the file."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def ask(self, sql: str) -> Any:
        """Return the first value of a query."""
        return self._connection.execute(sql).fetchone()[0]

    def lock(self) -> None:
        """Take the write lock."""
        self._connection.execute("BEGIN IMMEDIATE")

    def unlock(self) -> None:
        """Give it back."""
        self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()


class OutsidePostgres(Outside):
    """Another connection to the server."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    def ask(self, sql: str) -> Any:
        """Return the first value of a query."""
        row = self._connection.execute(sql).fetchone()
        assert row is not None
        return row[0]

    def lock(self) -> None:
        """Take the write lock."""
        self._connection.execute("SELECT pg_advisory_lock(%s)", [database_postgres.WRITE_LOCK])

    def unlock(self) -> None:
        """Give it back."""
        self._connection.execute("SELECT pg_advisory_unlock_all()")

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()


@pytest.fixture(params=["sqlite", "postgres"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Database, Outside]]:
    """Make a migrated database that waits for a lock for a tenth of a second, and a look at it from outside."""
    with ExitStack() as ending:
        made: Database
        if request.param == "sqlite":
            made = Sqlite(tmp_path / "remora.db", busy_seconds=0.1)
            migrate(made)
            outside: Outside = OutsideSqlite(tmp_path / "remora.db")
        else:
            url = ending.enter_context(postgres.new_database(migrated=True))
            made = Postgres(url, lock_seconds=0.1)
            outside = OutsidePostgres(url)
        ending.callback(made.close)
        ending.callback(outside.close)
        yield made, outside


@pytest.fixture
def database(both: tuple[Database, Outside]) -> Database:
    """Take the database."""
    return both[0]


@pytest.fixture
def outside(both: tuple[Database, Outside]) -> Outside:
    """Take the look from outside."""
    return both[1]


@pytest.fixture
def store(database: Database) -> MetadataStore:
    """Make a store."""
    return SqlMetadata(database)


@pytest.fixture
def writer(database: Database) -> Iterator[Writer]:
    """Make a writer."""
    made = Writer(database)
    yield made
    made.close()


@pytest.fixture
def acme(store: MetadataStore) -> Tenant:
    """Make a workspace."""
    return Tenant(store)


def count_begins(database: Database) -> list[int]:
    """Note every transaction from now on."""
    begun: list[int] = []
    real = database.begin

    def begin() -> None:
        begun.append(len(begun))
        real()

    database.begin = begin  # type: ignore[method-assign]
    return begun


class Gate:
    """Holds the writer up, so that what is queued meanwhile goes into one batch."""

    def __init__(self, writer: Writer) -> None:
        self._open = threading.Event()
        entered = threading.Event()

        def wait() -> None:
            entered.set()
            self._open.wait(10)

        self._held = writer.submit(wait)
        entered.wait(10)

    def open(self) -> None:
        """Let the writer go on."""
        self._open.set()
        self._held.result(10)


def test_it_is_the_port(writer: Writer) -> None:
    """Core sees a writer as its `Changes`."""
    changes: Changes = writer
    assert changes.run(lambda: 5) == 5


def test_results_come_after_the_commit(writer: Writer, store: MetadataStore, acme: Tenant, outside: Outside) -> None:
    """Whoever has a result finds the change durable, from any connection; before that nobody sees it."""
    seen: list[int] = []

    def charge() -> bool:
        done = store.charge(acme.id, 1, 0)
        seen.append(outside.used())
        return done

    for number in range(1, 20):
        assert writer.run(charge)
        assert outside.used() == number
        assert store.used_bytes(acme.id) == number
    assert seen == list(range(19))


def test_a_failing_call_harms_nobody(writer: Writer, store: MetadataStore, acme: Tenant, outside: Outside) -> None:
    """In one batch, a call that fails half-way is undone whole; the others are done."""

    def fail(error: BaseException) -> None:
        store.charge(acme.id, 1000, 0)
        raise error

    begun = count_begins(writer._database)
    gate = Gate(writer)
    good = [writer.submit(lambda: store.charge(acme.id, 1, 0)) for _ in range(10)]
    bad = [writer.submit(lambda: fail(NotFoundError("file", "files/x"))), writer.submit(lambda: fail(KeyError("x")))]
    good += [writer.submit(lambda: store.charge(acme.id, 1, 0)) for _ in range(10)]
    gate.open()
    assert all(future.result(10) for future in good)
    assert [type(future.exception(10)) for future in bad] == [NotFoundError, KeyError]
    assert outside.used() == 20
    assert len(begun) == 3  # The gate's transaction, one for all the rest, and its second attempt with savepoints.


def test_a_call_that_fails_before_it_writes_costs_nothing(
    writer: Writer, store: MetadataStore, acme: Tenant, outside: Outside
) -> None:
    """A refusal without an effect needs no second attempt of its batch."""

    def refuse() -> None:
        raise NotFoundError("file", "files/x")

    begun = count_begins(writer._database)
    gate = Gate(writer)
    good = writer.submit(lambda: store.charge(acme.id, 1, 0))
    bad = writer.submit(refuse)
    gate.open()
    assert good.result(10)
    assert isinstance(bad.exception(10), NotFoundError)
    assert outside.used() == 1
    assert len(begun) == 2


def test_a_part_of_a_call_can_fail_by_itself(
    writer: Writer, store: MetadataStore, acme: Tenant, outside: Outside
) -> None:
    """`run` within a call undoes only what its own part did, so that a batch survives one bad item."""

    def part(number: int) -> None:
        store.charge(acme.id, 10**number, 0)
        if number == 1:
            raise NotFoundError("file", "files/x")

    def batch() -> int:
        failed = 0
        for number in range(3):
            try:
                writer.run(lambda number=number: part(number))  # type: ignore[misc]
            except NotFoundError:
                failed += 1
        return failed

    assert writer.run(batch) == 1
    assert outside.used() == 101


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), StopIteration(7)])
def test_nothing_ends_the_thread(writer: Writer, error: BaseException) -> None:
    """What would end a thread, or a loop, ends only the call."""

    def fail() -> None:
        raise error

    with pytest.raises(CallBrokenOffError) as caught:
        writer.run(fail)
    assert caught.value.__cause__ is error
    assert writer.run(lambda: 1) == 1


def test_a_call_within_a_call(writer: Writer, store: MetadataStore, acme: Tenant, outside: Outside) -> None:
    """`run` on the writer's own thread does not wait for itself: it becomes part of the running call."""

    def outer() -> None:
        writer.run(lambda: store.charge(acme.id, 5, 0))
        raise KeyError

    with pytest.raises(KeyError):
        writer.run(outer)
    assert outside.used() == 0
    assert writer.run(lambda: writer.run(lambda: 3)) == 3


def test_a_lock_held_too_long(
    writer: Writer, store: MetadataStore, acme: Tenant, outside: Outside, caplog: pytest.LogCaptureFixture
) -> None:
    """When the database can't be locked every caller hears of it soon, and later calls work."""
    gate = Gate(writer)
    futures = [writer.submit(lambda: store.charge(acme.id, 1, 0)) for _ in range(100)]
    blocker = threading.Thread(target=outside.lock)
    gate.open()
    done = sum(future.exception(10) is None for future in futures)
    assert done == 100
    blocker.start()
    blocker.join()
    futures = [writer.submit(lambda: store.charge(acme.id, 1, 0)) for _ in range(100)]
    assert {type(future.exception(10)) for future in futures} == {StorageUnavailableError}
    outside.unlock()
    assert writer.run(lambda: store.charge(acme.id, 1, 0))
    assert outside.used() == 101
    assert "SELECT" not in caplog.text


def _break_first(database: Database, wanted: str, times: int) -> list[str]:
    """Make the first `times` calls of a method of the database fail."""
    real = getattr(database, wanted)
    failed: list[str] = []

    def call() -> None:
        if len(failed) < times:
            failed.append(wanted)
            raise StorageUnavailableError
        real()

    setattr(database, wanted, call)
    return failed


def test_a_commit_that_fails(
    writer: Writer, database: Database, store: MetadataStore, acme: Tenant, outside: Outside
) -> None:
    """The batch is rolled back and its calls are done one by one: nothing is lost, nothing is done twice."""
    gate = Gate(writer)
    futures = [writer.submit(lambda: store.charge(acme.id, 1, 0)) for _ in range(10)]
    futures.append(writer.submit(lambda: store.charge("wks_none", 1, 0)))
    real = database.commit
    gate_commits = iter([True])

    def commit() -> None:
        if not next(gate_commits, False):
            database.commit = real  # type: ignore[method-assign]
            raise StorageUnavailableError
        real()

    database.commit = commit  # type: ignore[method-assign]
    gate.open()
    assert [future.result(10) for future in futures] == [True] * 10 + [False]
    assert outside.used() == 10


def test_commits_that_go_on_failing(
    writer: Writer, database: Database, store: MetadataStore, acme: Tenant, outside: Outside
) -> None:
    """Whoever's own commit fails too gets the error; those after it are tried all the same."""
    failed = _break_first(database, "commit", 2)
    with pytest.raises(StorageUnavailableError):
        writer.run(lambda: store.charge(acme.id, 1, 0))
    assert len(failed) == 2
    assert outside.used() == 0
    assert writer.run(lambda: store.charge(acme.id, 1, 0))
    assert outside.used() == 1


def test_a_transaction_that_ends_by_itself(
    writer: Writer, database: Database, store: MetadataStore, acme: Tenant, outside: Outside
) -> None:
    """On some errors a database rolls everything back; the calls of that batch are repeated, all but the guilty."""

    def lose_everything() -> None:
        store.charge(acme.id, 1000, 0)
        database.roll_back()
        raise StorageUnavailableError

    gate = Gate(writer)
    before = [writer.submit(lambda: store.charge(acme.id, 1, 0)) for _ in range(3)]
    guilty = writer.submit(lose_everything)
    after = [writer.submit(lambda: store.charge(acme.id, 1, 0)) for _ in range(3)]
    gate.open()
    assert all(future.result(10) for future in before + after)
    assert isinstance(guilty.exception(10), StorageUnavailableError)
    assert outside.used() == 6


def test_a_connection_that_can_not_even_roll_back(
    writer: Writer, database: Database, store: MetadataStore, acme: Tenant, outside: Outside
) -> None:
    """It is given up for a new one."""
    _break_first(database, "commit", 1)
    failed = _break_first(database, "roll_back", 1)
    assert writer.run(lambda: store.charge(acme.id, 1, 0))
    assert failed
    assert outside.used() == 1


def test_a_broken_writer_answers(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Even a mistake in the writer itself leaves nobody waiting."""

    def fail(*_: object) -> bool:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(writer_module.Writer, "_write", fail)
        with pytest.raises(StorageUnavailableError):
            writer.run(lambda: 1)
    assert "MemoryError" in caplog.text
    assert writer.run(lambda: 1) == 1


def test_futures_of_a_loop(
    writer: Writer, store: MetadataStore, acme: Tenant, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch wakes a loop once, whatever the number of its futures; errors arrive as well."""

    def fail() -> None:
        raise NotFoundError("file", "files/x")

    def end() -> None:
        raise StopIteration

    async def go() -> None:
        loop = asyncio.get_running_loop()
        wakings: list[object] = []
        real = loop.call_soon_threadsafe

        def wake(*what: object) -> object:
            wakings.append(what)
            return real(*what)  # type: ignore[arg-type]

        monkeypatch.setattr(loop, "call_soon_threadsafe", wake)
        gate = Gate(writer)
        futures = [loop.create_future() for _ in range(100)]
        for future in futures[:98]:
            writer.submit_to(lambda: store.charge(acme.id, 1, 0), loop, future)
        writer.submit_to(fail, loop, futures[98])
        writer.submit_to(end, loop, futures[99])
        futures[5].cancel()
        gate.open()
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        assert len(wakings) == 1
        kinds = [type(outcome) for outcome in outcomes]
        assert kinds[5] is asyncio.CancelledError
        assert kinds[98:] == [NotFoundError, CallBrokenOffError]
        assert kinds.count(bool) == 97

    asyncio.run(go())
    assert outside.used() == 97


def test_a_loop_that_is_gone(writer: Writer, caplog: pytest.LogCaptureFixture) -> None:
    """A loop that was closed meanwhile costs nobody else the answer."""
    loop = asyncio.new_event_loop()
    gate = Gate(writer)
    lost: asyncio.Future[int] = loop.create_future()
    writer.submit_to(lambda: 1, loop, lost)
    other = writer.submit(lambda: 2)
    loop.close()
    gate.open()
    assert other.result(10) == 2
    assert writer.run(lambda: 3) == 3
    assert "closed" in caplog.text


def test_a_call_that_nobody_waits_for_any_more(writer: Writer, store: MetadataStore, acme: Tenant) -> None:
    """A future that is cancelled in time spares its call; too late, it can't be cancelled."""
    gate = Gate(writer)
    unwanted: Future[bool] = writer.submit(lambda: store.charge(acme.id, 7, 0))
    assert unwanted.cancel()
    gate.open()
    writer.run(lambda: None)
    with pytest.raises(CancelledError):
        unwanted.result(0)
    assert store.used_bytes(acme.id) == 0


def test_listeners_hear_of_changes_only(writer: Writer, store: MetadataStore, acme: Tenant) -> None:
    """After a commit that changed something listeners are called; one that fails harms nobody."""
    heard: list[int] = []

    def broken() -> None:
        raise ValueError

    writer.on_commit(broken)
    writer.on_commit(lambda: heard.append(store.used_bytes(acme.id)))
    writer.run(lambda: store.used_bytes(acme.id))
    writer.run(lambda: store.charge("wks_none", 1, 0))
    writer.run(lambda: store.charge(acme.id, 2, 0))
    writer.run(lambda: None)
    assert heard == [2]


def test_batches_are_bounded(database: Database, store: MetadataStore, acme: Tenant) -> None:
    """No more calls than the limit share a transaction."""
    begun = count_begins(database)
    writer = Writer(database, batch_limit=10)
    gate = Gate(writer)
    futures = [writer.submit(lambda: store.charge(acme.id, 1, 0)) for _ in range(35)]
    gate.open()
    assert all(future.result(10) for future in futures)
    writer.close()
    assert len(begun) == 5


def test_closing(database: Database, store: MetadataStore, acme: Tenant, outside: Outside) -> None:
    """What was taken in is still done; what comes later is refused; closing again is harmless."""
    writer = Writer(database)
    gate = Gate(writer)
    futures = [writer.submit(lambda: store.charge(acme.id, 1, 0)) for _ in range(50)]
    closing = threading.Thread(target=writer.close)
    closing.start()
    while not writer._closed:
        pass
    with pytest.raises(ShuttingDownError):
        writer.submit(lambda: 1)
    gate.open()
    closing.join(10)
    assert all(future.result(0) for future in futures)
    writer.close()
    assert outside.used() == 50
    with pytest.raises(ShuttingDownError):
        writer.run(lambda: 1)


def test_the_order_is_that_of_submission(writer: Writer, store: MetadataStore, acme: Tenant) -> None:
    """Calls run one after the other, first come first served."""
    entries = [acme.activity(occur_time=NOW + n) for n in range(200)]
    futures = [writer.submit(lambda entry=entry: store.add_activity(entry)) for entry in entries]  # type: ignore[misc]
    for future in futures:
        future.result(10)
    found = [store.activity(acme.id, entry.id) for entry in entries]
    numbers = [one.seq for one in found if one is not None]
    assert len(numbers) == 200
    assert numbers == sorted(numbers)


def test_a_neighbour_that_writes_is_waited_for(tmp_path: Path) -> None:
    """A change waits while another process holds the lock of SQLite, up to a limit, and is then refused alone."""
    neighbour, ours = (Sqlite(tmp_path / "remora.db", busy_seconds=0.5) for _ in range(2))
    migrate(neighbour)
    writer = Writer(ours)
    try:
        neighbour.begin()
        with pytest.raises(StorageUnavailableError):
            writer.run(lambda: ours.command("UPDATE store_info SET value = value"))
        waiting = writer.submit(lambda: ours.command("UPDATE store_info SET value = value"))
        assert not wait([waiting], timeout=0.1).done
        neighbour.command("COMMIT")
        waiting.result(10)
    finally:
        writer.close()
        ours.close()
        neighbour.close()

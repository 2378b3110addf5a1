"""What only PostgreSQL does: errors, timeouts, a bounded pool, connections that break, commits without an answer."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import peewee
import psycopg
import pytest

from remora_server.core.errors import StorageFullError, StorageUnavailableError
from remora_server.core.ports import MetadataStore
from remora_server.stores import database_postgres, listener, tables
from remora_server.stores.database import DatabaseUnreachableError, Row, StoreDefectError
from remora_server.stores.database_postgres import Postgres
from remora_server.stores.metadata import SqlMetadata
from remora_server.stores.migrations import check, migrate
from remora_server.stores.writer import Writer
from tests import postgres
from tests.running import until
from tests.stores.samples import Tenant, subject


@pytest.fixture
def url() -> Iterator[str]:
    """Make a migrated database."""
    with postgres.new_database(migrated=True) as made:
        yield made


@pytest.fixture
def empty() -> Iterator[str]:
    """Make a database with nothing in it."""
    with postgres.new_database() as made:
        yield made


@pytest.fixture
def opened() -> Iterator[Callable[..., Postgres]]:
    """Open databases that are closed afterwards."""
    made: list[Postgres] = []

    def open_(url: str, **options: Any) -> Postgres:
        made.append(Postgres(url, **options))
        return made[-1]

    yield open_
    for one in made:
        one.close()


@pytest.fixture
def database(url: str, opened: Callable[..., Postgres]) -> Postgres:
    """Use the migrated one."""
    return opened(url, lock_seconds=0.2)


@pytest.fixture
def store(database: Postgres) -> MetadataStore:
    """Make a store."""
    return SqlMetadata(database)


@pytest.fixture
def acme(store: MetadataStore) -> Tenant:
    """Make a workspace."""
    return Tenant(store)


@pytest.fixture
def writers() -> Iterator[Callable[[Postgres], Writer]]:
    """Make writers that are closed afterwards."""
    made: list[Writer] = []

    def writer(database: Postgres) -> Writer:
        made.append(Writer(database))
        return made[-1]

    yield writer
    for one in made:
        one.close()


def ask(url: str, sql: str) -> Any:
    """Return the first value that a statement gives another connection."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(sql).fetchone()
        assert row is not None
        return row[0]


OURS = "FROM pg_stat_activity WHERE application_name = 'remora' AND datname = current_database()"


def end_connections(url: str) -> None:
    """Do what an operator does who wants everybody out."""
    ask(url, f"SELECT count(pg_terminate_backend(pid)) {OURS}")


# Migrations


def test_migrations_make_what_the_tables_describe(
    database: Postgres, empty: str, opened: Callable[..., Postgres]
) -> None:
    """The SQL of the migrations and the models agree in columns, types, NULLs, keys and indexes."""
    described = opened(empty).inner
    with described.bind_ctx(tables.ALL), described.connection_context(), database.looked_at():
        described.create_tables([tables.Blobs])  # Others refer to it.
        described.create_tables(tables.ALL)
        for table in tables.ALL:
            name = table._meta.table_name
            assert database.inner.get_columns(name) == described.get_columns(name)
            assert _indexes(database.inner, name) == _indexes(described, name)
        names = {table._meta.table_name for table in tables.ALL}
        assert set(database.inner.get_tables()) == {*names, "schema_migration"}


def _indexes(database: peewee.Database, table: str) -> set[tuple[tuple[str, ...], bool, str]]:
    return {
        (tuple(index.columns), index.unique, (index.sql or "").partition(" WHERE ")[2])
        for index in database.get_indexes(table)
    }


def test_texts_are_compared_as_bytes(url: str) -> None:
    """Pages follow each other as on SQLite, whatever order the database was made with."""
    sql = """
        SELECT count(*) FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        JOIN pg_type ON pg_type.oid = atttypid JOIN pg_collation ON pg_collation.oid = attcollation
        WHERE relnamespace = 'public'::regnamespace AND relname <> 'schema_migration' AND relkind = 'r'
        AND typname = 'text' AND collname
    """
    assert ask(url, f"{sql} <> 'C'") == 0
    assert ask(url, f"{sql} = 'C'") > 100


def test_migrating_twice(empty: str, opened: Callable[..., Postgres]) -> None:
    """A current database is left alone, and says that it is current."""
    database = opened(empty)
    assert not check(database)
    assert migrate(database) == ["0001_start", "0002_media", "0003_webhooks", "0004_assets", "0005_webhook_readers"]
    assert check(database)
    kept = SqlMetadata(database).store_id(), SqlMetadata(database).signing_key()
    assert migrate(database) == []
    assert (SqlMetadata(database).store_id(), SqlMetadata(database).signing_key()) == kept


def _migrate(url: str) -> int:
    database = Postgres(url)
    try:
        return len(migrate(database))
    finally:
        database.close()


def test_several_processes_migrate_at_once() -> None:
    """One of them does the work, none of them fails."""
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        for _ in range(3):
            with postgres.new_database() as url:
                assert sum(pool.map(_migrate, [url] * 4, chunksize=1)) == 5


def test_another_encoding_is_refused(opened: Callable[..., Postgres]) -> None:
    """A database that can't hold every text is refused before anything is made in it."""
    server, name = postgres.shared_url(), "remora_latin"
    with psycopg.connect(server, autocommit=True) as connection:
        latin = "ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
        connection.execute(f"CREATE DATABASE {name} {latin}")
        try:
            with pytest.raises(DatabaseUnreachableError, match="must be UTF8"):
                migrate(opened(postgres.named(server, name)))
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


# Errors


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("53100", StorageFullError),
        ("53300", StorageUnavailableError),
        ("57P01", StorageUnavailableError),
        ("57014", StorageUnavailableError),
        ("55P03", StorageUnavailableError),
        ("40P01", StorageUnavailableError),
        ("40001", StorageUnavailableError),
        ("25P03", StorageUnavailableError),
        ("25006", StorageUnavailableError),
        ("58030", StorageUnavailableError),
        ("XX001", StorageUnavailableError),
        ("23502", StoreDefectError),
        ("42601", StoreDefectError),
        ("22003", StoreDefectError),
    ],
)
def test_driver_errors(database: Postgres, code: str, expected: type[Exception]) -> None:
    """What a caller can act on gets a name of core; a mistake of ours stays one, and neither shows SQL."""
    error = psycopg.errors.lookup(code)("near SELECT secret")
    for given in (error, peewee.OperationalError(error, "near SELECT secret")):
        refusal = database._refusal(given)
        assert type(refusal) is expected
        assert "secret" not in str(refusal)


def test_a_lost_connection_is_storage_that_is_away(database: Postgres) -> None:
    """Without a code, the driver tells of the connection itself."""
    assert type(database._refusal(psycopg.OperationalError("gone"))) is StorageUnavailableError
    assert type(database._refusal(psycopg.ProgrammingError("wrong"))) is StoreDefectError


def test_a_text_that_no_row_can_hold_is_not_found(store: MetadataStore, acme: Tenant, database: Postgres) -> None:
    """PostgreSQL refuses a NUL in a text; looking for one finds nothing, also within a transaction, as on SQLite."""
    assert store.workspace("ac\0me") is None
    database.begin()
    assert store.issue_id_by_key(acme.id, "ENG\0-1") is None
    assert store.charge(acme.id, 5, 0)
    database.commit()
    assert store.used_bytes(acme.id) == 5


def test_a_failed_statement_ends_only_its_own_call(
    database: Postgres, store: MetadataStore, acme: Tenant, writers: Callable[[Postgres], Writer]
) -> None:
    """A mistake would end the transaction of a whole batch; the others of the batch are done all the same."""
    writer = writers(database)
    orphan = acme.file(acme.blob())  # No row has its blob.
    entered, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        go_on.wait(10)

    first = writer.submit(hold)
    entered.wait(10)
    good = [writer.submit(lambda: store.charge(acme.id, 1, 0)) for _ in range(5)]
    bad = writer.submit(lambda: store.add_file(orphan))
    good += [writer.submit(lambda: store.charge(acme.id, 1, 0)) for _ in range(5)]
    go_on.set()
    first.result(10)
    assert all(future.result(10) for future in good)
    assert isinstance(bad.exception(10), StoreDefectError)
    assert store.used_bytes(acme.id) == 10


def test_whoever_goes_on_after_a_failed_statement_is_told(
    database: Postgres, store: MetadataStore, acme: Tenant, writers: Callable[[Postgres], Writer]
) -> None:
    """PostgreSQL answers the COMMIT of a failed transaction with a quiet ROLLBACK; nobody takes that for success."""
    writer = writers(database)

    def swallow() -> bool:
        done = store.charge(acme.id, 1, 0)
        with contextlib.suppress(StoreDefectError):
            store.add_file(acme.file(acme.blob()))
        return done

    with pytest.raises(StorageUnavailableError):
        writer.run(swallow)
    assert store.used_bytes(acme.id) == 0
    assert writer.run(lambda: store.charge(acme.id, 1, 0))


def test_a_part_with_a_mistake_can_fail_by_itself(
    database: Postgres, store: MetadataStore, acme: Tenant, writers: Callable[[Postgres], Writer]
) -> None:
    """A part of a call that the database refuses is undone alone."""
    writer = writers(database)

    def batch() -> int:
        refused = 0
        for number in range(3):
            try:
                if number == 1:
                    writer.run(lambda: store.add_file(acme.file(acme.blob())))
                writer.run(lambda: store.charge(acme.id, 1, 0))
            except StoreDefectError:
                refused += 1
        return refused

    assert writer.run(batch) == 1
    assert store.used_bytes(acme.id) == 2


def test_a_write_that_was_put_off_and_is_refused(
    database: Postgres, store: MetadataStore, acme: Tenant, writers: Callable[[Postgres], Writer]
) -> None:
    """Whether a place was taken comes to light with the commit; the right call is told, and the others are done."""
    writer = writers(database)
    here, _ = store.find_or_add_attachment(acme.attachment(subject(), "https://e.org/1"))
    there, _ = store.find_or_add_attachment(acme.attachment(subject(), "https://e.org/2"))
    takes = dataclasses.replace(there, url=here.url, normalized_url=here.normalized_url, url_key=here.url_key)
    begun = 0
    real = database.begin

    def begin() -> None:
        nonlocal begun
        begun += 1
        real()

    database.begin = begin  # type: ignore[method-assign]

    def move() -> bool:
        store.charge(acme.id, 100, 0)
        return store.place_attachment(takes)

    assert writer.run(move) is False
    assert begun == 2  # The second time it is careful.
    entered, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        go_on.wait(10)

    held = writer.submit(hold)
    entered.wait(10)
    futures = [writer.submit(lambda: store.charge(acme.id, 1, 0)) for _ in range(3)]
    moved = writer.submit(move)
    futures += [writer.submit(lambda: store.charge(acme.id, 1, 0)) for _ in range(3)]
    go_on.set()
    held.result(10)
    assert moved.result(10) is False
    assert all(future.result(10) for future in futures)
    assert store.used_bytes(acme.id) == 206
    found = store.attachment(acme.id, there.id)
    assert found is not None
    assert found.url == there.url


def test_what_was_put_off_is_seen_and_kept(
    url: str, database: Postgres, store: MetadataStore, acme: Tenant, writers: Callable[[Postgres], Writer]
) -> None:
    """A read sees what its own call wrote before it; more than what is put off at most is written as well."""
    writer = writers(database)
    entries = [acme.activity() for _ in range(350)]

    def add() -> None:
        for number, entry in enumerate(entries):
            store.add_activity(entry)
            if number % 120 == 0:
                assert store.activity(acme.id, entry.id) is not None

    writer.run(add)
    assert ask(url, "SELECT count(*) FROM activities") == 350
    numbers = [found.seq for entry in entries if (found := store.activity(acme.id, entry.id)) is not None]
    assert numbers == sorted(numbers)


def test_what_was_put_off_goes_with_a_call_that_fails(
    database: Postgres, store: MetadataStore, acme: Tenant, writers: Callable[[Postgres], Writer]
) -> None:
    """A call that fails after it wrote leaves nothing behind, even if nothing of it had been sent."""
    writer = writers(database)
    entry = acme.activity()

    def fail() -> None:
        store.add_activity(entry)
        raise KeyError

    with pytest.raises(KeyError):
        writer.run(fail)
    assert store.activity(acme.id, entry.id) is None
    assert writer.run(lambda: store.charge(acme.id, 1, 0))


# Durability


@pytest.mark.parametrize("whose", ["DATABASE {database}", "ROLE CURRENT_USER IN DATABASE {database}"])
@pytest.mark.parametrize(
    ("setting", "used"),
    [("off", "on"), ("local", "local"), ("remote_write", "remote_write"), ("remote_apply", "remote_apply")],
)
def test_commits_are_waited_for(url: str, opened: Callable[..., Postgres], whose: str, setting: str, used: str) -> None:
    """Where the operator turned waiting for the log off, this server waits all the same; how far else, is theirs."""
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER {whose.format(database=name)} SET synchronous_commit = {setting}")
    assert ask(url, "SHOW synchronous_commit") == setting
    database = opened(url)
    show = peewee.SQL("current_setting('synchronous_commit')")
    shown = tables.StoreInfo.select(show).limit(1)
    assert database.select(shown) == [(used,)]  # On a connection of the pool.
    database.begin()
    assert database.select(shown) == [(used,)]
    database.roll_back()
    assert database.select(shown) == [(used,)]


# Locks and time


def test_reading_needs_no_lock(url: str, store: MetadataStore, acme: Tenant) -> None:
    """While another server holds the write lock, reading goes on."""
    with psycopg.connect(url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [database_postgres.WRITE_LOCK])
        assert store.workspace("acme") == acme.workspace


def test_two_servers_write_one_after_the_other(
    url: str, opened: Callable[..., Postgres], acme: Tenant, writers: Callable[[Postgres], Writer]
) -> None:
    """What one reads in order to write, no other changes meanwhile."""
    databases = [opened(url) for _ in range(2)]
    both = [(SqlMetadata(one), writers(one)) for one in databases]

    def add(store: SqlMetadata) -> None:
        before = store.used_bytes(acme.id)
        time.sleep(0.001)
        store.charge(acme.id, before + 1 - before, 0)
        assert store.used_bytes(acme.id) == before + 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: both[n % 2][1].run(lambda: add(both[n % 2][0])), range(60)))
    assert both[0][0].used_bytes(acme.id) == 60


def test_a_holder_that_stands_still_loses_the_lock(
    monkeypatch: pytest.MonkeyPatch, url: str, opened: Callable[..., Postgres], acme: Tenant
) -> None:
    """A server that stops in the middle of a transaction keeps the others from writing only for a while."""
    monkeypatch.setattr(
        database_postgres, "WRITING", database_postgres.WRITING.replace("timeout = '4s'", "timeout = '300ms'")
    )
    still, other = opened(url), opened(url, lock_seconds=5)
    still.begin()
    assert SqlMetadata(still).charge(acme.id, 1000, 0)
    other.begin()
    assert SqlMetadata(other).charge(acme.id, 1, 0)
    other.commit()
    with pytest.raises(StorageUnavailableError):
        still.commit()
    assert SqlMetadata(other).used_bytes(acme.id) == 1
    still.begin()  # It goes on with another connection.
    still.commit()


def test_a_pool_that_is_empty(url: str, opened: Callable[..., Postgres], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many threads read, there are no more connections than that, and none of them waits for ever."""
    monkeypatch.setattr(database_postgres, "POOL_WAIT_SECONDS", 0.5)
    database = opened(url, connections=2)
    store = SqlMetadata(database)
    with ThreadPoolExecutor(50) as pool:
        assert len(list(pool.map(lambda _: store.list_workspaces(), range(300)))) == 300
    assert ask(url, f"SELECT count(*) {OURS}") <= 2
    with database._lent(), database._lent(), pytest.raises(StorageUnavailableError):
        store.list_workspaces()
    assert store.list_workspaces() == []


def test_a_closed_database(database: Postgres, store: MetadataStore, acme: Tenant) -> None:
    """After closing, every thread is told that storage does not answer."""
    store.workspace("acme")
    database.close()
    for attempt in (lambda: store.workspace("acme"), database.begin, lambda: store.charge(acme.id, 1, 0)):
        with pytest.raises(StorageUnavailableError):
            attempt()


# Connections that break


def test_connections_that_ended_unnoticed_are_replaced(
    url: str, database: Postgres, store: MetadataStore, acme: Tenant, writers: Callable[[Postgres], Writer]
) -> None:
    """After a restart of PostgreSQL nobody sees a failure that was only an old connection's."""
    writer = writers(database)
    for _ in range(3):
        assert writer.run(lambda: store.charge(acme.id, 1, 0))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: store.list_workspaces(), range(20)))
        end_connections(url)
        assert store.workspace("acme") == acme.workspace
    assert writer.run(lambda: store.charge(acme.id, 1, 0))
    assert store.used_bytes(acme.id) == 4


def test_a_connection_that_ends_in_a_transaction(
    url: str, database: Postgres, store: MetadataStore, acme: Tenant, writers: Callable[[Postgres], Writer]
) -> None:
    """Before its COMMIT nothing of a transaction has happened, so its calls are made again, each once."""
    writer = writers(database)
    runs: list[int] = []

    def charge() -> bool:
        done = store.charge(acme.id, 1, 0)
        runs.append(1)
        if len(runs) == 1:
            end_connections(url)
        store.used_bytes(acme.id)
        return done

    assert writer.run(charge)
    assert len(runs) == 2
    assert store.used_bytes(acme.id) == 1


class CommitCutter:
    """A proxy that breaks the connection around the first COMMIT after it was armed."""

    def __init__(self, server_url: str) -> None:
        self._target = psycopg.conninfo.conninfo_to_dict(server_url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = psycopg.conninfo.make_conninfo(server_url, host="127.0.0.1", port=self._listener.getsockname()[1])
        self.armed = ""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        where = str(self._target["host"]), int(str(self._target["port"]))
        with client, contextlib.suppress(OSError), socket.create_connection(where) as server:
            while True:
                readable, _, _ = select.select([client, server], [], [], 30)
                for source, sink in ((client, server), (server, client)):
                    if source not in readable:
                        continue
                    data = source.recv(65536)
                    armed = self.armed if source is client and b"COMMIT" in data else ""
                    if armed:
                        self.armed = ""
                    if not data or armed == "before":
                        return
                    sink.sendall(data)
                    if armed == "after":
                        server.recv(1)  # It has answered; nobody will ever know.
                        return


@pytest.fixture
def cutter(url: str) -> Iterator[CommitCutter]:
    """Start a proxy."""
    made = CommitCutter(url)
    yield made
    made.close()


@pytest.mark.parametrize(("where", "charged"), [("after", 5), ("before", 0)])
def test_a_commit_without_an_answer(
    where: str,
    charged: int,
    cutter: CommitCutter,
    opened: Callable[..., Postgres],
    acme: Tenant,
    writers: Callable[[Postgres], Writer],
) -> None:
    """Nobody can know whether it happened: it is not acknowledged, and its calls are not made a second time."""
    database = opened(cutter.url)
    store, writer = SqlMetadata(database), writers(database)
    assert writer.run(lambda: store.used_bytes(acme.id)) == 0
    runs: list[int] = []

    def charge() -> bool:
        runs.append(1)
        return store.charge(acme.id, 5, 0)

    cutter.armed = where
    with pytest.raises(StorageUnavailableError):
        writer.run(charge)
    assert len(runs) == 1
    assert writer.run(lambda: store.used_bytes(acme.id)) == charged
    assert writer.run(charge)
    assert store.used_bytes(acme.id) == charged + 5


# Other servers


def test_a_commit_is_heard_by_other_servers(
    url: str, opened: Callable[..., Postgres], acme: Tenant, writers: Callable[[Postgres], Writer]
) -> None:
    """A server hears of what another one has changed, not of its own changes, nor of transactions without any."""
    here, elsewhere = opened(url), opened(url)
    heard: list[float] = []
    own, other = writers(here), writers(elsewhere)
    stores = SqlMetadata(here), SqlMetadata(elsewhere)
    own.run(lambda: stores[0].charge(acme.id, 1, 0))
    here.hear(lambda: heard.append(time.monotonic()))
    until(lambda: len(heard) == 1)  # It looks once when it begins.
    own.run(lambda: stores[0].charge(acme.id, 1, 0))
    other.run(lambda: stores[1].used_bytes(acme.id))
    other.run(lambda: stores[1].charge(acme.id, 1, 0))
    until(lambda: len(heard) == 2)
    end_connections(url)
    until(lambda: len(heard) == 3)  # Back again, it looks for what it missed.
    other.run(lambda: stores[1].charge(acme.id, 1, 0))
    until(lambda: len(heard) == 4)


def test_a_server_that_does_not_answer(opened: Callable[..., Postgres]) -> None:
    """Reads and changes are refused at once, however many there are, and it is said in one line what is wrong."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nowhere = opened(f"postgresql://remora:hush@127.0.0.1:{taken.getsockname()[1]}/remora")
        store = SqlMetadata(nowhere)
        told: list[str] = []
        with pytest.raises(DatabaseUnreachableError, match="Connection refused") as said:
            nowhere.wait_reachable(0.6, told.append)
        assert told == [str(said.value)]  # Once, though it was tried several times.
        assert "hush" not in str(said.value)
        assert "\n" not in str(said.value)
        with pytest.raises(StorageUnavailableError):
            nowhere.begin()
        with ThreadPoolExecutor(8) as pool:
            refusals = list(pool.map(lambda _: _refusal_of(store.list_workspaces), range(64)))
        assert set(refusals) == {StorageUnavailableError}


def _refusal_of(call: Callable[[], object]) -> type[Exception]:
    try:
        call()
    except StorageUnavailableError as error:
        return type(error)
    raise AssertionError


def test_a_database_that_is_not_there(opened: Callable[..., Postgres]) -> None:
    """It is told at once, since waiting does not make it."""
    missing = opened(postgres.named(postgres.shared_url(), "nothing_here"))
    told: list[str] = []
    with pytest.raises(DatabaseUnreachableError, match='database "nothing_here" does not exist'):
        missing.wait_reachable(600, told.append)
    assert not told


def test_a_listener_whose_database_is_away(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so once, however often it tries, and once that it is back."""
    monkeypatch.setattr(listener, "AGAIN_SECONDS", 0.01)
    caplog.set_level("INFO", listener.__name__)
    refused_times, told = 0, threading.Event()

    def connect() -> psycopg.Connection[Row]:
        nonlocal refused_times
        if refused_times < 5:
            refused_times += 1
            raise psycopg.OperationalError("away")
        return psycopg.connect(postgres.shared_url(), autocommit=True)

    hearing = listener.Listener(connect, "changes", lambda _: False, told.set)
    try:
        assert told.wait(20)
    finally:
        hearing.close()
    assert [record.message.partition(" until")[0] for record in caplog.records] == [
        "not hearing of other servers",
        "hearing of other servers again",
    ]

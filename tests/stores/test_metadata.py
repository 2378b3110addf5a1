"""The metadata contract on SQLite, and what only SQLite does."""

from __future__ import annotations

import importlib
import multiprocessing
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import peewee
import pytest

from remora_server.core import ids
from remora_server.core.errors import StorageFullError, StorageUnavailableError
from remora_server.core.model import Actor
from remora_server.core.ports import ActivityQuery, AttachmentQuery, Changes, MetadataStore
from remora_server.stores import tables
from remora_server.stores.database import StoreDefectError
from remora_server.stores.database_sqlite import Sqlite
from remora_server.stores.metadata import SqlMetadata
from remora_server.stores.migrations import check, migrate
from remora_server.stores.writer import Writer
from tests.stores.metadata_contract import MetadataContract
from tests.stores.samples import NOW, Tenant, subject


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Sqlite]:
    """Make a migrated database."""
    made = Sqlite(tmp_path / "data" / "remora.db", busy_seconds=0.2)
    migrate(made)
    yield made
    made.close()


@pytest.fixture
def store(database: Sqlite) -> MetadataStore:
    """Make a store."""
    return SqlMetadata(database)


@pytest.fixture
def changes(database: Sqlite) -> Iterator[Changes]:
    """Make a writer."""
    writer = Writer(database)
    yield writer
    writer.close()


@pytest.fixture
def acme(store: MetadataStore) -> Tenant:
    """Make a workspace."""
    return Tenant(store)


class TestSqlite(MetadataContract):
    """SQLite keeps the contract."""


def test_migrations_make_what_the_tables_describe(database: Sqlite) -> None:
    """The SQL of the migrations and the models agree in columns, NULLs, keys and indexes."""
    described = peewee.SqliteDatabase(":memory:")
    with described.bind_ctx(tables.ALL):
        described.create_tables(tables.ALL)
        for table in tables.ALL:
            name = table._meta.table_name
            assert database.inner.get_columns(name) == described.get_columns(name)
            assert _indexes(database.inner, name) == _indexes(described, name)
    described.close()
    assert set(database.inner.get_tables()) - {"sqlite_sequence"} == {*described_names(), "schema_migration"}


def described_names() -> set[str]:
    """Name every table that is described."""
    return {table._meta.table_name for table in tables.ALL}


def _indexes(database: peewee.Database, table: str) -> set[tuple[str, tuple[str, ...], bool, str]]:
    found = set()
    for index in database.get_indexes(table):
        condition = " ".join((index.sql or "").split()).partition(" WHERE ")[2]
        for mark in '()"':
            condition = condition.replace(mark, "")
        name = "" if index.name.startswith("sqlite_autoindex") else index.name
        found.add((name, tuple(index.columns), index.unique, condition.replace("!=", "<>")))
    return found


def test_migrating_twice(tmp_path: Path) -> None:
    """A current database is left alone, and says that it is current."""
    database = Sqlite(tmp_path / "x.db")
    assert not check(database)
    assert migrate(database) == ["0001_start", "0002_media", "0003_webhooks", "0004_assets", "0005_webhook_readers"]
    assert check(database)
    first = SqlMetadata(database).store_id()
    assert migrate(database) == []
    assert SqlMetadata(database).store_id() == first
    database.close()
    assert not check(Sqlite(tmp_path / "none.db"))
    assert not (tmp_path / "none.db").exists()


def _migrate(path: Path) -> int:
    database = Sqlite(path)
    try:
        return len(migrate(database))
    finally:
        database.close()


def test_several_processes_migrate_at_once(tmp_path: Path) -> None:
    """One of them does the work, none of them fails."""
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        for round_ in range(5):
            assert sum(pool.map(_migrate, [tmp_path / f"{round_}.db"] * 4, chunksize=1)) == 5


def test_endpoints_and_deliveries_stay_at_a_migration() -> None:
    """Each endpoint is read for its creator, and its deliveries lie there as before, but refer to nothing."""
    inner = peewee.SqliteDatabase(":memory:", pragmas={"foreign_keys": 1})
    steps = ["0001_start", "0002_media", "0003_webhooks", "0004_assets", "0005_webhook_readers"]
    for step in steps:
        if step == steps[-1]:
            _insert_all(inner, "webhook_endpoints", id="whk_1", creator_id="usr_1")
            _insert_all(inner, "webhook_deliveries", id="whd_1", endpoint_id="whk_1", duration=7)
        importlib.import_module(f"remora_server.stores.migrations.{step}").up(None, inner)
    assert inner.execute_sql("SELECT reader_id FROM webhook_endpoints").fetchall() == [("usr_1",)]
    inner.execute_sql("DELETE FROM webhook_endpoints")
    kept = inner.execute_sql("SELECT id, endpoint_id, duration, next_time FROM webhook_deliveries").fetchall()
    assert kept == [("whd_1", "whk_1", 7, None)]


def _insert_all(database: peewee.Database, table: str, **values: object) -> None:
    """Insert a row with something in every column that must have it."""
    row: dict[str, object] = {
        one.name: b"" if one.data_type == "BLOB" else 0 for one in database.get_columns(table) if not one.null
    }
    row |= values
    marks = ", ".join("?" * len(row))
    database.execute_sql(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))  # noqa: S608 - names of our own.


def test_settings(database: Sqlite, tmp_path: Path) -> None:
    """Acknowledged rows survive power loss, and the file is its owner's alone."""
    for pragma, value in {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}.items():
        assert database.connection().execute(f"PRAGMA {pragma}").fetchone() == (value,)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    for path in (tmp_path / "data").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_databases_in_one_process(database: Sqlite, tmp_path: Path) -> None:
    """Models are bound to none of them, so nothing ends up in the wrong one."""
    other = Sqlite(tmp_path / "other.db")
    migrate(other)
    Tenant(SqlMetadata(database))
    assert SqlMetadata(other).list_workspaces() == []
    assert SqlMetadata(other).store_id() != SqlMetadata(database).store_id()
    other.close()


def test_a_file_needs_its_blob(store: MetadataStore, acme: Tenant) -> None:
    """A row that would name missing bytes can't come into being."""
    with pytest.raises(StoreDefectError):
        store.add_file(acme.file(acme.blob()))


def test_dangling_files_are_found(database: Sqlite, store: MetadataStore, acme: Tenant) -> None:
    """Where somebody else has cut a blob's row away, the check says so."""
    file = acme.stored_file(store)
    foreign = sqlite3.connect(str(database.inner.database), isolation_level=None)
    foreign.execute("DELETE FROM blobs")
    foreign.close()
    assert store.dangling_files() == [file.id]


def test_sequence_numbers_are_not_given_again(database: Sqlite, store: MetadataStore, acme: Tenant) -> None:
    """A cursor keeps its meaning even if the whole log was removed."""
    store.add_activity(acme.activity())
    _, newest = store.activity_bounds()
    database.command("DELETE FROM activities")
    store.add_activity(acme.activity())
    assert store.activity_bounds()[1] == newest + 1


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_FULL, StorageFullError),
        (sqlite3.SQLITE_IOERR_SHMSIZE, StorageFullError),
        (sqlite3.SQLITE_IOERR_FSYNC, StorageUnavailableError),
        (sqlite3.SQLITE_BUSY, StorageUnavailableError),
        (sqlite3.SQLITE_CORRUPT, StorageUnavailableError),
        (sqlite3.SQLITE_CANTOPEN, StorageUnavailableError),
        (sqlite3.SQLITE_CONSTRAINT_NOTNULL, StoreDefectError),
        (sqlite3.SQLITE_ERROR, StoreDefectError),
    ],
)
def test_driver_errors(database: Sqlite, code: int, expected: type[Exception]) -> None:
    """What a caller can act on gets a name of core; a mistake of ours stays one, and neither shows SQL."""
    error = sqlite3.OperationalError("near SELECT secret")
    error.sqlite_errorcode = code
    for given in (error, peewee.OperationalError(error, "near SELECT secret")):
        refusal = database._refusal(given)
        assert type(refusal) is expected
        assert "secret" not in str(refusal)


def test_a_full_database(database: Sqlite, store: MetadataStore, acme: Tenant) -> None:
    """When there is no room, it is told as that, and reading goes on."""
    pages = database.connection().execute("PRAGMA page_count").fetchone()[0]
    database.command(f"PRAGMA max_page_count = {pages}")
    blob = acme.blob(b"x" * 100_000, location="")
    with pytest.raises(StorageFullError):
        store.find_or_add_blob(blob, b"x" * 100_000)
    assert store.workspace("acme") == acme.workspace
    database.command(f"PRAGMA max_page_count = {pages + 1000}")
    database.command("DELETE FROM blobs")
    assert store.find_or_add_blob(blob, b"x" * 100_000)[1]


def test_a_lock_that_is_held_too_long(database: Sqlite, store: MetadataStore, acme: Tenant) -> None:
    """Waiting ends with an error that says: try again. Reading needs no lock."""
    holder = sqlite3.connect(str(database.inner.database), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageUnavailableError):
        store.add_ticket(acme.ticket())
    assert store.workspace("acme") == acme.workspace
    holder.execute("COMMIT")
    holder.close()
    store.add_ticket(acme.ticket())


def test_a_closed_database(database: Sqlite, store: MetadataStore) -> None:
    """After closing, every thread is told that storage does not answer."""
    seen: list[type[Exception]] = []

    def read() -> None:
        try:
            store.workspace("acme")
        except StorageUnavailableError as error:
            seen.append(type(error))

    database.close()
    read()
    other = threading.Thread(target=read)
    other.start()
    other.join()
    assert seen == [StorageUnavailableError] * 2


def test_connections_of_ended_threads_are_closed(database: Sqlite, store: MetadataStore) -> None:
    """Threads come and go without leaving open files behind."""
    for _ in range(20):
        thread = threading.Thread(target=store.list_workspaces)
        thread.start()
        thread.join()
    store.list_workspaces()
    assert len(database._opened) <= 2


def test_people_are_loaded_once(database: Sqlite, store: MetadataStore, acme: Tenant) -> None:
    """A page by many authors asks for them in one statement, and the next one not at all."""
    for n in range(20):
        user = store.find_or_add_user(acme.id, Actor(ids.new_id(ids.USER), "USER", f"User {n}"), NOW)
        store.find_or_add_attachment(acme.attachment(subject(), f"https://e.org/{n}", creator=user, updater=user))
    fresh = SqlMetadata(database)
    seen: list[str] = []
    database.connection().set_trace_callback(seen.append)
    query = AttachmentQuery(acme.id, "issue", subject().id)
    page = fresh.list_attachments(query, None, 99)
    assert len({one.creator.display_name for one in page}) == 20
    assert len(seen) == 2
    fresh.list_attachments(query, None, 99)
    assert len(seen) == 3
    database.connection().set_trace_callback(None)


def test_an_unknown_person_is_the_service(store: MetadataStore, acme: Tenant) -> None:
    """An id without a user is that of the service itself."""
    system = Actor("system", "SYSTEM", "")
    entry = acme.activity(actor=system)
    store.add_activity(entry)
    found = store.activity(acme.id, entry.id)
    assert found is not None
    assert found.actor == system


def test_listing_is_served_by_an_index(database: Sqlite, store: MetadataStore, acme: Tenant) -> None:
    """No page of a listing, and no lookup on the way of a call, sorts or scans a table."""
    for n in range(3):
        store.find_or_add_attachment(acme.attachment(subject(n)))
    seen: list[str] = []
    database.connection().set_trace_callback(seen.append)
    for order in ("CREATE_TIME_DESC", "CREATE_TIME_ASC"):
        for query in (
            AttachmentQuery(acme.id, "issue", subject().id, order=order),
            AttachmentQuery(acme.id, order=order),
        ):
            store.list_attachments(query, None, 9)
            store.list_attachments(query, (NOW, "att_0"), 9)
    changed_last = AttachmentQuery(acme.id, "issue", subject().id, order="UPDATE_TIME_DESC")
    store.list_attachments(changed_last, (NOW, "att_0"), 9)
    store.live_attachment_by_url(acme.id, "issue", subject().id, "k")
    store.live_attachment_by_file("issue", subject().id, "fil_1")
    store.live_attachments_of_file("fil_1")
    store.list_attachments(AttachmentQuery(acme.id, url_key="k"), None, 9)
    store.file_with_content("k", acme.jo.id, own_only=False)
    store.file_with_md5(acme.id, b"m", 5, acme.jo.id)
    store.key_by_hash(b"h")
    store.issue_by_key(acme.id, "ENG-1")
    store.tickets_to_expire(NOW, 9)
    store.tickets_to_clear(9)
    store.list_activities(ActivityQuery(acme.id, newest_first=False), (1,), 9)
    store.activity_bounds()
    store.dangling_files()
    database.connection().set_trace_callback(None)
    plans = {
        sql: [row[3] for row in database.connection().execute(f"EXPLAIN QUERY PLAN {sql}")]
        for sql in seen
        if sql.startswith("SELECT")
    }
    assert len(plans) == len(set(seen)) > 15
    expected_scans = ("SCAN t1", "SCAN t2")  # dangling_files, and MAX(seq), which is a jump to the end.
    few = ("fil_1", '"url_key" = ', '"key" = ', '"md5" = ', '"state" IN')  # Sorted, but only what matches one key.
    for sql, plan in plans.items():
        scans = [step for step in plan if step.startswith("SCAN") and not step.startswith(expected_scans)]
        sorts = [step for step in plan if "TEMP B-TREE" in step and not any(part in sql for part in few)]
        assert (sql, scans, sorts) == (sql, [], [])

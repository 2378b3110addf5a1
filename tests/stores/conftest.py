"""A store on the fake of Cloud Storage, and what it stands on."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from remora_server.core.ports import Changes
from remora_server.stores.blobs_gcs import GcsBlobs
from remora_server.stores.database import Database
from remora_server.stores.database_sqlite import Sqlite
from remora_server.stores.gcs_bucket import Bucket, open_bucket
from remora_server.stores.gcs_calls import Patience
from remora_server.stores.metadata import SqlMetadata
from remora_server.stores.migrations import migrate
from remora_server.stores.writer import Writer
from tests.core.world import SetClock
from tests.gcs.running import RunningGcs


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a migrated database once, for copies."""
    path = tmp_path_factory.mktemp("migrated") / "remora.db"
    made = Sqlite(path)
    migrate(made)
    made.close()
    return path


@pytest.fixture
def database(tmp_path: Path, migrated: Path) -> Iterator[Database]:
    """Make a migrated database."""
    shutil.copy(migrated, tmp_path)
    made = Sqlite(tmp_path / migrated.name)
    yield made
    made.close()


@pytest.fixture
def changes(database: Database) -> Iterator[Changes]:
    """Make a writer."""
    writer = Writer(database)
    yield writer
    writer.close()


@pytest.fixture
def bucket(gcs: RunningGcs, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """Connect to the fake, impatiently."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.address)
    gcs.clear()
    yield open_bucket(gcs.bucket, Patience(connect_seconds=2, answer_seconds=2, total_seconds=2))
    gcs.clear()


@pytest.fixture
def prefix() -> str:
    """Make a prefix that no other test uses."""
    return f"tests/{secrets.token_hex(8)}"


@pytest.fixture
def blobs(bucket: Bucket, prefix: str, database: Database, changes: Changes) -> GcsBlobs:
    """Make an empty store."""
    return GcsBlobs(bucket, prefix, SqlMetadata(database), changes, SetClock())


@pytest.fixture
def there(bucket: Bucket, prefix: str, database: Database, changes: Changes) -> GcsBlobs:
    """Make the same store, as another server has it."""
    return GcsBlobs(bucket, prefix, SqlMetadata(database), changes, SetClock())

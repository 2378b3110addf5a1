"""The metadata contract on PostgreSQL, and what only PostgreSQL does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from remora_server.core.ports import Changes, MetadataStore
from remora_server.stores.database_postgres import Postgres
from remora_server.stores.metadata import SqlMetadata
from remora_server.stores.writer import Writer
from tests import postgres
from tests.stores.metadata_contract import MetadataContract
from tests.stores.samples import Tenant


@pytest.fixture
def url() -> Iterator[str]:
    """Make a migrated database."""
    with postgres.new_database(migrated=True) as made:
        yield made


@pytest.fixture
def database(url: str) -> Iterator[Postgres]:
    """Use it."""
    made = Postgres(url, lock_seconds=0.2)
    yield made
    made.close()


@pytest.fixture
def store(database: Postgres) -> MetadataStore:
    """Make a store."""
    return SqlMetadata(database)


@pytest.fixture
def changes(database: Postgres) -> Iterator[Changes]:
    """Make a writer."""
    writer = Writer(database)
    yield writer
    writer.close()


@pytest.fixture
def acme(store: MetadataStore) -> Tenant:
    """Make a workspace."""
    return Tenant(store)


class TestPostgres(MetadataContract):
    """PostgreSQL keeps the contract."""

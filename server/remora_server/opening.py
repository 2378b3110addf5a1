"""The stores that the settings choose, opened; and what operators' commands run on them."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from remora_server.config import Config, ConfigError
from remora_server.core.activity import ActivityLog
from remora_server.core.check import Check
from remora_server.core.errors import StorageUnavailableError
from remora_server.core.files import Files
from remora_server.core.inspection import Inspections
from remora_server.core.leases import Leases
from remora_server.core.model import Micros
from remora_server.core.pages import Pages
from remora_server.core.ports import DirectTransfers, LandingStore
from remora_server.core.preview_upkeep import PreviewUpkeep
from remora_server.core.quota import Quota
from remora_server.core.subjects import Subjects
from remora_server.core.sweep import Redeem, Sweep
from remora_server.core.tenants import Tenants
from remora_server.media.decoders import RENDERED
from remora_server.stores.blobs_local import LocalBlobs
from remora_server.stores.database import Database, DatabaseUnreachableError
from remora_server.stores.database_sqlite import Sqlite
from remora_server.stores.metadata import SqlMetadata
from remora_server.stores.migrations import check, migrate
from remora_server.stores.writer import Writer

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0  # A database that starts together with the server may take as long.


class SystemClock:
    """The machine's clock."""

    def now(self) -> Micros:
        """Return microseconds since the epoch, UTC."""
        return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class RowStores:
    """What keeps rows, opened."""

    database: Database
    metadata: SqlMetadata
    writer: Writer
    clock: SystemClock


@dataclass(frozen=True, slots=True)
class Stores:
    """What keeps things, opened."""

    database: Database
    metadata: SqlMetadata
    blobs: LandingStore
    transfers: DirectTransfers | None
    writer: Writer
    clock: SystemClock


class NotMigratedError(Exception):
    """The database is not at the version of this server."""


class BlobsUnreachableError(Exception):
    """The blob store does not answer."""


@contextlib.contextmanager
def open_stores(config: Config, *, migrating: bool = False, needing_blobs: bool = False) -> Iterator[Stores]:
    """Open the stores that the settings choose; raise NotMigratedError unless the database is up to date.

    A blob store that does not answer raises BlobsUnreachableError for those who need it; others do without.
    """
    with open_rows(config, migrating=migrating) as rows:
        blobs, transfers = _blobs(config, rows, needing_blobs=needing_blobs)
        yield Stores(rows.database, rows.metadata, blobs, transfers, rows.writer, rows.clock)


@contextlib.contextmanager
def open_rows(config: Config, *, migrating: bool = False) -> Iterator[RowStores]:
    """Open the database alone."""
    database = _database(config)
    if migrating:
        config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in migrate(database):
            log.info("migrated: %s", name)
    elif not check(database):
        raise NotMigratedError(f"{config.database_name} is missing or of another version; run `remora-server migrate`.")
    writer = Writer(database)
    try:
        yield RowStores(database, SqlMetadata(database), writer, SystemClock())
    finally:
        writer.close()
        database.close()


def _database(config: Config) -> Database:
    if not config.is_postgres:
        return Sqlite(config.sqlite_path)
    try:
        # Its driver is installed only where it is wanted.
        from remora_server.stores.database_postgres import Postgres  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            "REMORA_DATABASE_URL names a PostgreSQL database, but its driver is not installed; "
            "install it with: pip install 'remora[server,postgres]'"
        ) from error
    try:
        database = Postgres(config.database_url)
    except ValueError as error:
        raise ConfigError(f"The value of REMORA_DATABASE_URL {error}.") from error
    name = f"the database of REMORA_DATABASE_URL ({config.database_name})"
    try:
        database.wait_reachable(
            CONNECT_SECONDS,
            lambda said: log.warning("%s does not answer; trying for %g seconds: %s", name, CONNECT_SECONDS, said),
        )
    except DatabaseUnreachableError as problem:
        raise DatabaseUnreachableError(
            f"{name} can't be used: {problem}; check that PostgreSQL runs there and takes connections from here, and "
            "that the host, port, database, role and password in the URL are right."
        ) from None
    return database


def leases_of(stores: Stores) -> Leases:
    """Return the leases that this process may take, under a name that no other has."""
    holder = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(3)}"
    return Leases(stores.metadata, stores.writer, stores.clock, holder)


def _blobs(config: Config, rows: RowStores, *, needing_blobs: bool) -> tuple[LandingStore, DirectTransfers | None]:
    """Open the blob store, and what moves bytes past this server, if the store can be reached from outside."""
    if config.bucket is None:
        return LocalBlobs(config.blobs_path), None
    name, prefix = config.bucket
    try:
        # Google's client is installed only where it is wanted, and takes a second to be imported.
        from remora_server.stores.blobs_gcs import GcsBlobs  # noqa: PLC0415
        from remora_server.stores.gcs_bucket import open_bucket  # noqa: PLC0415
        from remora_server.stores.gcs_calls import BucketUnusableError, Patience  # noqa: PLC0415
        from remora_server.stores.gcs_transfers import GcsTransfers, find_signer  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            "REMORA_BLOBS names a bucket of Cloud Storage, but its client is not installed; "
            "install it with: pip install 'remora[server,gcs]'"
        ) from error
    try:
        bucket = open_bucket(name, Patience())
        try:
            bucket.check(prefix)
        except StorageUnavailableError:
            if needing_blobs:
                raise BlobsUnreachableError(
                    f"the bucket of REMORA_BLOBS ({config.blobs_name}) does not answer; check the network between here "
                    "and Cloud Storage, proxies and name service among it."
                ) from None
        signer = find_signer(bucket)
    except BucketUnusableError as problem:
        raise ConfigError(f"REMORA_BLOBS can't be used: {problem}") from problem
    blobs = GcsBlobs(bucket, prefix, rows.metadata, rows.writer, rows.clock)
    if signer is None:
        log.warning("nothing signs for the bucket: bytes over HTTP go through this server")
        return blobs, None
    # A session of Cloud Storage takes bytes from pages of one origin, which must be said when it begins.
    origin = config.cors_origins[0] if len(config.cors_origins) == 1 and config.cors_origins[0] != "*" else ""
    return blobs, GcsTransfers(bucket, blobs, signer, rows.clock, max_file_bytes=config.max_file_bytes, origin=origin)


def sweep_of(stores: Stores, redeem: Redeem | None = None) -> Sweep:
    """Return what `gc` runs, and a server, which can make files too."""

    def refused(name: str, problem: Exception) -> None:
        log.warning("%s could not be removed (%r)", name, problem)

    return Sweep(stores.metadata, stores.blobs, stores.writer, stores.clock, leases_of(stores), refused, redeem)


def check_of(stores: Stores) -> Check:
    """Return what `fsck` runs."""
    return Check(stores.metadata, stores.blobs)


def previews_of(config: Config, stores: Stores) -> PreviewUpkeep:
    """Return what `previews` runs."""
    metadata, clock = stores.metadata, stores.clock
    pages = Pages(signing_key(config, stores), clock)
    subjects = Subjects(metadata, clock, strict=config.strict_issues)
    log_of_changes = ActivityLog(metadata, pages, clock, subjects)
    # With a scanner everything gets a job that it has not seen, otherwise what can be shown.
    inspections = Inspections(metadata, clock, kinds=RENDERED, is_scanning=bool(config.scanner))
    quota = Quota(metadata, clock, config.quota_bytes)
    files = Files(
        *(metadata, stores.blobs, subjects, log_of_changes, pages, clock), quota=quota, inspections=inspections
    )
    return PreviewUpkeep(metadata, stores.blobs, stores.writer, clock, files, inspections)


def tenants_of(stores: Stores) -> Tenants:
    """Return what the commands for workspaces, keys and projects run."""
    return Tenants(stores.metadata, stores.clock)


def signing_key(config: Config, stores: Stores | RowStores) -> bytes:
    """Return the secret that seals page tokens and signs URLs: the setting, or the one that lies in the database."""
    return config.signing_key.encode() or stores.metadata.signing_key()

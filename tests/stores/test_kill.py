"""A process that is killed in the middle of its work leaves nothing half done behind."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remora_server.core.ports import ActivityQuery
from remora_server.stores.blobs_local import LocalBlobs
from remora_server.stores.database_sqlite import Sqlite
from remora_server.stores.metadata import SqlMetadata
from remora_server.stores.migrations import migrate
from tests.stores.blob_contract import get

ROUNDS = 8
ROOT = Path(__file__).parents[2]
# Stores blobs and rows as fast as it can, and names each on its output once it is durable.
CHILD = """
import hashlib, random, sys
from pathlib import Path
from remora_server.core import ids
from remora_server.core.model import Checksums
from remora_server.stores.blobs_local import LocalBlobs
from remora_server.stores.database_sqlite import Sqlite
from remora_server.stores.metadata import SqlMetadata
from remora_server.stores.migrations import migrate
from remora_server.stores.writer import Writer
from tests.stores.samples import Tenant

root = Path(sys.argv[1])
database = Sqlite(root / "remora.db")
migrate(database)
store, writer, blobs = SqlMetadata(database), Writer(database), LocalBlobs(root / "blobs")
acme = writer.run(lambda: Tenant(store))
while True:
    data = random.randbytes(random.randrange(3_000_000))
    name = ids.new_id(ids.TICKET)
    staged = blobs.stage(name, 0)
    for start in range(0, len(data), 400_000):
        staged.write(data[start : start + 400_000])
    staged.sync()
    staged.close()
    blob = acme.blob(data, location=blobs.commit(name, Checksums(), len(data)))

    def record():
        store.find_or_add_blob(blob, None)
        store.add_file(acme.file(blob))
        store.add_activity(acme.activity(resource_id=blob.id))

    writer.run(record)
    print(blob.id, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that can't be caught")
def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Acknowledged blobs are whole, unacknowledged ones are whole or no blobs, and rows come all or none."""
    acknowledged: set[str] = set()
    for _ in range(ROUNDS):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert child.stdout is not None
        acknowledged.add(child.stdout.readline().strip())
        time.sleep(random.uniform(0, 0.1))  # noqa: S311 - any moment will do.
        child.kill()
        rest, _ = child.communicate()
        # The last line may have been cut off by the kill.
        acknowledged.update(line.strip() for line in rest.splitlines(keepends=True) if line.endswith("\n"))

    database = Sqlite(tmp_path / "remora.db")
    assert migrate(database) == []
    store, blobs = SqlMetadata(database), LocalBlobs(tmp_path / "blobs")
    rows = store.blobs_after("", 100_000)
    assert len(acknowledged) >= ROUNDS
    assert acknowledged <= {blob.id for blob in rows}
    for blob in rows:
        assert hashlib.sha256(get(blobs, blob.location)).digest() == blob.checksums.sha256
    counts = store.counts()
    assert counts["blobs"] == counts["files"] == counts["activities"]
    workspace = store.list_workspaces()[0]
    log = store.list_activities(ActivityQuery(workspace.id), None, 100_000)
    assert {entry.resource_id for entry in log} == {blob.id for blob in rows}
    # A kill between the blob and its row leaves an orphan, which opening the upload again takes back.
    known = store.known_locations([stored.name for stored in blobs.list_blobs()])
    for stored in list(blobs.list_blobs()):
        if stored.name not in known:
            blobs.stage(stored.name, stored.size_bytes).close()
    assert {stored.name for stored in blobs.list_blobs()} == known
    database.close()

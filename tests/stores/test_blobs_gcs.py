"""The blob contract on the strict fake of Cloud Storage, and what only a store elsewhere does."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest
from google.auth.credentials import AnonymousCredentials

from remora_server.core import ids
from remora_server.core.errors import WriterFencedError
from remora_server.core.hashing import measure
from remora_server.core.model import OPEN_STATES, TicketState
from remora_server.core.ports import BlobStore
from remora_server.stores.blobs_gcs import GcsBlobs
from remora_server.stores.database import Database
from remora_server.stores.gcs_bucket import Bucket, Found, ObjectExistsError
from remora_server.stores.gcs_staged import BLOCK_BYTES
from remora_server.stores.gcs_transfers import GcsTransfers
from remora_server.stores.metadata import SqlMetadata
from tests.core.world import SetClock
from tests.stores.blob_contract import BlobContract, LandingContract
from tests.stores.samples import Tenant


class TestGcsBlobs(BlobContract, LandingContract):
    """A bucket keeps the contract, but for one test."""

    @pytest.mark.skip(
        reason="nothing of an object can be held open; core deletes only what no row names, after a grace"
    )
    def test_a_deleted_blob_is_read_to_its_end(self, blobs: BlobStore) -> None:
        """Whoever has opened a blob reads on after it was deleted."""


class TestFencing:
    """A writer that another server has overtaken learns it, though Cloud Storage knows nothing of writers."""

    @pytest.mark.parametrize("end", ["commit", "discard", "anew"])
    def test_a_session_that_a_later_writer_ended(self, blobs: GcsBlobs, there: GcsBlobs, end: str) -> None:
        """Whether that one made a blob of it, removed it or began anew: the older one is told that it is fenced."""
        name = ids.new_id(ids.TICKET)
        data = os.urandom(2 * BLOCK_BYTES)
        older = blobs.stage(name, 0, 1)
        older.write(data[:BLOCK_BYTES])
        older.sync()
        later = there.stage(name, 0 if end == "anew" else BLOCK_BYTES, 2)
        later.write(data[BLOCK_BYTES:])
        later.sync()
        later.close()
        if end == "commit":
            there.commit(name, measure(data).checksums, len(data), 2)
        elif end == "discard":
            there.discard(name)
        older.write(data[BLOCK_BYTES:])
        with pytest.raises(WriterFencedError):
            older.sync()
        if end == "commit":
            assert [one.size_bytes for one in there.list_blobs()] == [len(data)]

    @pytest.mark.parametrize("size", [100_000, 600_000])
    def test_reading_back_what_is_a_blob_by_now(
        self, blobs: GcsBlobs, there: GcsBlobs, database: Database, size: int
    ) -> None:
        """An older writer does not have it taken for something that is staged yet, which gc would remove."""
        store, data = SqlMetadata(database), os.urandom(size)
        acme = Tenant(store)
        ticket = acme.ticket(state=TicketState.UPLOADING, writer_epoch=1)
        store.add_ticket(ticket)
        older = blobs.stage(ticket.id, 0, 1)
        older.write(data)
        older.sync()
        store.update_ticket(replace(ticket, writer_epoch=2), if_state=OPEN_STATES, if_epoch=1)
        later = there.stage(ticket.id, size, 2)
        later.close()
        location = there.commit(ticket.id, measure(data).checksums, size, 2)
        done = replace(ticket, writer_epoch=2, state=TicketState.COMPLETED)
        store.update_ticket(done, if_state=OPEN_STATES, if_epoch=2)
        with pytest.raises(WriterFencedError):
            older.read(0, size)
        assert not list(there.list_staged())
        assert [one.location for one in there.list_blobs()] == [location]

    def test_what_a_form_sends_later(self, blobs: GcsBlobs, bucket: Bucket) -> None:
        """It replaces nothing: what was moved first stays what has arrived."""
        name = ids.new_id(ids.TICKET)
        bucket.insert(blobs.form_key(name), b"abc")
        first = blobs.arrived(name)
        assert first is not None
        later = bucket.insert(blobs.form_key(name), b"abcd")
        with pytest.raises(ObjectExistsError):
            bucket.move(later, blobs.key(name))
        assert blobs.arrived(name) == first

    def test_two_find_what_a_form_sent(self, blobs: GcsBlobs, bucket: Bucket) -> None:
        """The second to move it, or to describe it, finds that it has gone, which is no failure."""
        name = ids.new_id(ids.TICKET)
        sent = bucket.insert(blobs.form_key(name), b"abc")
        moved = bucket.move(sent, blobs.key(name))
        with pytest.raises(ObjectExistsError):
            bucket.move(sent, blobs.key(name))
        assert bucket.neutralise(moved)
        bucket.delete(moved.name, moved.generation)
        assert not bucket.neutralise(moved)
        assert blobs.arrived(name) is None

    def test_moved_while_it_is_looked_for(
        self, blobs: GcsBlobs, there: GcsBlobs, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever finds neither object, since it is moved between two looks, looks once more."""
        name = ids.new_id(ids.TICKET)
        bucket.insert(blobs.form_key(name), b"abc")
        find, first = bucket.find, list[str]()

        def find_late(key: str) -> Found | None:
            if key == blobs.form_key(name) and not first:
                first.append(key)
                assert there.arrived(name) is not None
            return find(key)

        monkeypatch.setattr(bucket, "find", find_late)
        assert blobs.arrived(name) == there.arrived(name)

    def test_many_find_what_a_form_sent(self, blobs: GcsBlobs, bucket: Bucket) -> None:
        """However many ask at once, all are told the same."""
        for _ in range(5):
            name = ids.new_id(ids.TICKET)
            bucket.insert(blobs.form_key(name), b"abc")
            with ThreadPoolExecutor(16) as pool:
                found = list(pool.map(blobs.arrived, [name] * 16))
            assert found == [blobs.arrived(name)] * 16
            assert found[0] is not None


class TestSessionsOfOthers:
    """Sessions that clients send to themselves."""

    def test_one_that_has_ended(self, blobs: GcsBlobs, bucket: Bucket, database: Database) -> None:
        """Whoever looks at its ticket again finds one that goes on, the same as long as that one does."""
        store = SqlMetadata(database)
        ticket = Tenant(store).ticket(transport="HTTP_RESUMABLE")
        store.add_ticket(ticket)
        nobody: Any = AnonymousCredentials()  # A session needs no signature.
        transfers = GcsTransfers(bucket, blobs, nobody, SetClock(), max_file_bytes=BLOCK_BYTES)
        first = transfers.offer_upload(ticket)
        assert transfers.offer_upload(ticket).url == first.url
        assert httpx.delete(first.url).status_code == 499
        second = transfers.offer_upload(ticket)
        assert second.url != first.url
        assert httpx.put(second.url, content=b"abc").status_code == 200
        arrived = blobs.arrived(ticket.id)
        assert arrived is not None
        assert arrived.size_bytes == 3

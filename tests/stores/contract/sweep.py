"""What every metadata store does for sweeping and checking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from remora_server.core import ids
from remora_server.core.model import (
    Blob,
    FileState,
    Lease,
    TicketState,
)
from remora_server.core.ports import (
    AttachmentQuery,
    Changes,
    MetadataStore,
    Repeat,
    Sweepable,
)
from tests.stores.samples import NOW, Tenant, at_once, subject


class SweepContract:
    """Sweeping and checking."""

    def test_tickets_run_out(self, store: MetadataStore, acme: Tenant) -> None:
        """Open tickets expire, closed ones are cleared, cleared ones are removed in the end."""
        made = [acme.ticket(state=state, expire_time=NOW + 1) for state in TicketState]
        made.append(acme.ticket(expire_time=NOW + 2))
        made.append(acme.ticket(state=TicketState.FAILED, expire_time=NOW + 1, staged_removed=True))
        for ticket in made:
            store.add_ticket(ticket)

        def states(tickets: Sequence[Any]) -> set[str]:
            return {ticket.state.value for ticket in tickets}

        closed = {"COMPLETED", "FAILED", "CANCELLED", "EXPIRED"}
        assert states(store.tickets_to_expire(NOW + 1, 99)) == {"PENDING", "UPLOADING", "VERIFYING"}
        assert len(store.tickets_to_expire(NOW + 2, 99)) == 4
        assert len(store.tickets_to_expire(NOW + 2, 2)) == 2
        assert store.tickets_to_expire(NOW, 99) == []
        assert len(store.tickets_to_expire(NOW + 2, 99, acme.id)) == 4
        assert store.tickets_to_expire(NOW + 2, 99, "wks_other") == []
        asset = replace(made[0], id=ids.new_id(ids.TICKET), is_asset=True)
        store.add_ticket(asset)
        assert len(store.tickets_to_expire(NOW + 2, 99)) == 4
        assert store.assets_to_redeem(NOW + 2, 99) == [asset]
        assert store.assets_to_redeem(asset.expire_time - 1, 99) == store.assets_to_redeem(NOW + 2, 0) == []
        assert states(store.tickets_to_clear(99)) == closed
        assert len(store.tickets_to_clear(99)) == 4
        assert store.tickets_closed_before(NOW + 2, 99) == [made[-1].id]
        assert store.tickets_closed_before(NOW + 1, 99) == []
        assert store.open_tickets_among([ticket.id for ticket in made] + ["upl_none"]) == {
            ticket.id for ticket in made if ticket.state.value not in closed
        }
        store.delete_tickets([made[-1].id, "upl_none"])
        store.delete_tickets([])
        assert store.ticket(acme.id, made[-1].id) is None
        assert store.ticket(acme.id, made[0].id) == made[0]

    def test_attachments_are_purged(self, store: MetadataStore, acme: Tenant) -> None:
        """What was deleted long enough ago goes for good, at most as many as asked for."""
        for n in range(5):
            store.find_or_add_attachment(acme.attachment(subject(n), delete_time=NOW + n))
        live = acme.attachment(subject(9))
        store.find_or_add_attachment(live)
        assert [store.purge_attachments(NOW + 3, 2) for _ in range(3)] == [2, 1, 0]
        assert store.counts()["attachments"] == 3
        assert store.attachment(acme.id, live.id) == live

    def test_files_are_purged(self, store: MetadataStore, acme: Tenant) -> None:
        """Deleted files go, and those that lost their last attachment; never-attached and held ones stay."""
        kept = [
            acme.stored_file(store, b"a"),
            acme.stored_file(store, b"b", delete_time=NOW + 2, state=FileState.DELETED),
            acme.stored_file(store, b"c", was_attached=True, detach_time=NOW),
            acme.stored_file(store, b"d", was_attached=True, detach_time=NOW),
            acme.stored_file(store, b"e", was_attached=True),
        ]
        store.find_or_add_attachment(acme.held(subject(), kept[2]))
        store.find_or_add_attachment(acme.held(subject(), kept[3], delete_time=NOW + 9))  # May yet be undeleted.
        gone = [
            acme.stored_file(store, b"x", delete_time=NOW, state=FileState.DELETED),
            acme.stored_file(store, b"y", was_attached=True, detach_time=NOW),
            acme.stored_file(store, b"z", was_attached=True, detach_time=NOW),
        ]
        store.find_or_add_attachment(acme.held(subject(), gone[2], delete_time=NOW))
        assert [store.purge_files(NOW + 2, 2) for _ in range(3)] == [2, 1, 0]
        assert [store.file(acme.id, file.id) for file in gone] == [None] * 3
        assert [store.file(acme.id, file.id) for file in kept] == kept
        left = store.list_attachments(AttachmentQuery(acme.id, show_deleted=True), None, 9)
        assert {one.file_id: one.file for one in left}[gone[2].id] is None

    def test_blobs_without_files(self, store: MetadataStore, acme: Tenant) -> None:
        """A blob goes once no file names it, with its inline bytes, and not before."""
        file = acme.stored_file(store, b"held", delete_time=NOW, state=FileState.DELETED)
        free, young = acme.blob(b"free", location=""), acme.blob(b"young", create_time=NOW + 5)
        store.find_or_add_blob(free, b"free")
        store.find_or_add_blob(young, None)
        assert store.unreferenced_blobs(NOW + 5, 9) == [free]
        assert len(store.unreferenced_blobs(NOW + 6, 1)) == 1
        assert not store.delete_blob_if_unreferenced(file.blob_id)
        assert store.delete_blob_if_unreferenced(free.id)
        assert not store.delete_blob_if_unreferenced(free.id)
        assert store.blob(free.id) is None
        assert store.inline_bytes(free.id) is None
        assert store.purge_files(NOW + 1, 9) == 1
        assert store.delete_blob_if_unreferenced(file.blob_id)

    def test_counting_what_a_sweep_removes(self, store: MetadataStore, acme: Tenant) -> None:
        """The counts are those of the removals after it, with blobs that only files hold which go themselves."""
        assert store.count_sweepable(NOW, NOW, NOW) == Sweepable(0, 0, 0, 0, 0, 0, 0)
        for ticket in (
            acme.ticket(state=TicketState.FAILED, expire_time=NOW + 1, staged_removed=True),
            acme.ticket(state=TicketState.FAILED, expire_time=NOW + 2, staged_removed=True),
            acme.ticket(state=TicketState.FAILED, expire_time=NOW + 1),
            *(acme.ticket(expire_time=NOW + 7) for _ in range(2)),
            acme.ticket(expire_time=NOW + 8),
        ):
            store.add_ticket(ticket)
        deleted: dict[str, Any] = {"delete_time": NOW, "state": FileState.DELETED}
        detached: dict[str, Any] = {"detach_time": NOW, "was_attached": True}
        for content in (b"1", b"22"):
            acme.stored_file(store, content, **deleted)
        for fields in (deleted, detached):  # Two files on a blob go, and the blob with them.
            acme.stored_file(store, b"333", **fields)
        for fields in (deleted, {}):
            acme.stored_file(store, b"one of two stays", **fields)
        acme.stored_file(store, b"deleted too late", delete_time=NOW + 2, state=FileState.DELETED)
        acme.stored_file(store, b"detached too late", was_attached=True, detach_time=NOW + 2)
        store.find_or_add_attachment(
            acme.held(subject(1), acme.stored_file(store, b"4444", **detached), delete_time=NOW)
        )
        for number, time in ((2, None), (3, NOW + 9)):
            held = acme.stored_file(store, b"held %d" % number, **detached)
            store.find_or_add_attachment(acme.held(subject(number), held, delete_time=time))
        acme.stored_file(store, b"in use")
        store.find_or_add_blob(acme.blob(b"55555", location=""), b"55555")
        young, _ = store.find_or_add_blob(acme.blob(b"young", create_time=NOW + 2), None)
        store.add_file(acme.file(young, **deleted))
        for number in range(4):
            store.add_repeat(f"{number}", Repeat(b"", b"", NOW + number))

        counted = store.count_sweepable(NOW + 2, NOW + 7, NOW + 3)
        assert counted == Sweepable(1, 2, 1, 7, 5, 15, 3)
        assert len(store.tickets_closed_before(NOW + 2, 99)) == counted.closed_tickets
        assert len(store.tickets_to_expire(NOW + 7, 99)) == counted.due_tickets
        assert store.purge_attachments(NOW + 2, 99) == counted.attachments
        assert store.purge_files(NOW + 2, 99) == counted.files
        free = store.unreferenced_blobs(NOW + 2, 99)
        assert (len(free), sum(blob.size_bytes for blob in free)) == (counted.blobs, counted.blob_bytes)
        assert store.delete_repeats(NOW + 3) == counted.repeats

    def test_walk_over_blobs(self, store: MetadataStore, acme: Tenant) -> None:
        """A check meets every blob once and learns which locations are known."""
        made = [acme.blob(bytes([n])) for n in range(7)]
        for blob in made:
            store.find_or_add_blob(blob, None)
        found: list[Blob] = []
        last = ""
        while page := store.blobs_after(last, 3):
            found += page
            last = page[-1].id
        assert found == sorted(made, key=lambda x: x.id)
        known = [blob.location for blob in made]
        assert store.known_locations([*known, "upl_none"]) == set(known)
        assert store.known_locations([]) == store.open_tickets_among([]) == set()
        assert store.known_locations([f"upl_{n}" for n in range(2000)]) == set()

    def test_blobs_in_the_blob_store(self, store: MetadataStore, acme: Tenant) -> None:
        """Small contents, which lie in the database, are none."""
        assert not store.has_stored_blobs()
        store.find_or_add_blob(acme.blob(b"small", location=""), b"small")
        assert not store.has_stored_blobs()
        store.find_or_add_blob(acme.blob(b"large"), None)
        assert store.has_stored_blobs()

    def test_condemned(self, store: MetadataStore) -> None:
        """What was condemned stays so until it is forgotten; condemning it again changes nothing."""
        store.condemn(["blb_1", "blb_2"], NOW)
        store.condemn(["blb_2", "blb_3"], NOW + 5)
        store.condemn([], NOW)
        assert [store.is_condemned(f"blb_{n}") for n in range(5)] == [False, True, True, True, False]
        assert store.forget_condemned(NOW) == 0
        assert store.forget_condemned(NOW + 1) == 2
        assert [store.is_condemned(f"blb_{n}") for n in range(5)] == [False, False, False, True, False]

    def test_leases(self, store: MetadataStore) -> None:
        """One holder at a time, until the lease runs out or is given back; renewing is taking again."""
        mine, theirs = Lease("a", "me", NOW + 10), Lease("a", "them", NOW + 20)
        assert store.take_lease(mine, NOW) == mine
        assert store.take_lease(theirs, NOW + 9) == mine
        longer = replace(mine, expire_time=NOW + 15)
        assert store.take_lease(longer, NOW + 9) == longer
        assert store.take_lease(theirs, NOW + 14) == longer
        assert store.take_lease(replace(theirs, name="b"), NOW).holder == "them"
        assert store.take_lease(theirs, NOW + 15) == theirs
        store.drop_lease("a", "me")
        assert store.take_lease(longer, NOW + 16) == theirs
        store.drop_lease("a", "them")
        assert store.take_lease(mine, NOW) == mine

    def test_leases_at_once(self, store: MetadataStore, changes: Changes) -> None:
        """Of 64 that want one lease one gets it, and all hear who."""
        wanted = [Lease("a", f"holder {number}", NOW + 10) for number in range(64)]
        got = at_once(64, lambda number: changes.run(lambda: store.take_lease(wanted[number], NOW)))
        assert len(set(got)) == 1

    def test_identity(self, store: MetadataStore) -> None:
        """A database says who it is, always the same."""
        assert len(store.store_id()) == 32
        assert store.store_id() == store.store_id()

    def test_files_on_a_blob(self, store: MetadataStore, acme: Tenant) -> None:
        """All are found, deleted ones too, and no others."""
        one = acme.stored_file(store, b"a")
        two = acme.stored_file(store, b"a", name="b", state=FileState.DELETED, delete_time=NOW)
        acme.stored_file(store, b"b")
        assert store.files_on_blob(one.blob_id) == [one, two]
        assert store.files_on_blob("blb_none") == []

    def test_counts(self, store: MetadataStore, acme: Tenant) -> None:
        """Rows are counted by noun."""
        file = acme.stored_file(store)
        store.find_or_add_attachment(acme.held(subject(), file))
        store.add_activity(acme.activity())
        counts = store.counts()
        assert {noun: count for noun, count in counts.items() if count} == {
            "workspaces": 1,
            "users": 2,
            "blobs": 1,
            "files": 1,
            "attachments": 1,
            "activities": 1,
        }
        assert {"issues", "links", "tickets"} <= set(counts)
        assert store.dangling_files() == []

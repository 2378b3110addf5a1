"""What every metadata store does with quotas."""

from __future__ import annotations

from remora_server.core.model import FileState
from remora_server.core.ports import Changes, MetadataStore, Tally
from tests.stores.samples import NOW, Tenant, at_once


class QuotaContract:
    """Two counters of each workspace."""

    def test_charges(self, store: MetadataStore, acme: Tenant) -> None:
        """A limit holds back what would pass it, and nothing else."""
        assert store.used_bytes(acme.id) == 0
        assert store.charge(acme.id, 60, 100)
        assert not store.charge(acme.id, 41, 100)
        assert store.used_bytes(acme.id) == 60
        assert store.charge(acme.id, 40, 100)
        assert store.charge(acme.id, 1000, 0)
        assert store.charge(acme.id, -100, 10)
        assert store.charge(acme.id, 0, 0)
        assert store.used_bytes(acme.id) == 1000
        assert store.used_bytes(Tenant(store, "beta").id) == 0

    def test_reservations(self, store: MetadataStore, acme: Tenant) -> None:
        """A ticket holds what it was last told to; what all hold counts with what is used, against both."""
        one, two = acme.ticket(), acme.ticket()
        for ticket in (one, two):
            store.add_ticket(ticket)

        def held() -> list[int]:
            found = [store.ticket(acme.id, ticket.id) for ticket in (one, two)]
            return [ticket.reserved_bytes for ticket in found if ticket] + [store.reserved_bytes(acme.id)]

        assert held() == [0, 0, 0]
        assert store.reserve(one.id, 60, 100)
        assert not store.reserve(two.id, 41, 100)
        assert not store.charge(acme.id, 41, 100)
        assert store.charge(acme.id, 30, 100)
        assert store.reserve(one.id, 70, 100)
        assert not store.reserve(one.id, 71, 100)
        assert held() == [70, 0, 70]
        assert store.reserve(two.id, 500, 0)
        assert store.reserve(two.id, 400, 100)  # Less than before, though still too much.
        assert store.reserve(two.id, 400, 100)
        assert held() == [70, 400, 470]
        for _ in range(2):
            assert store.reserve(two.id, 0, 0)
        assert held() == [70, 0, 70]
        assert not store.reserve("upl_none", 1, 0)
        assert (store.used_bytes(acme.id), store.reserved_bytes(Tenant(store, "beta").id)) == (30, 0)

    def test_other_changes_of_a_ticket_leave_what_it_holds(self, store: MetadataStore, acme: Tenant) -> None:
        """Whoever writes a ticket as it was read earlier does not write back what it held then."""
        ticket = acme.ticket()
        store.add_ticket(ticket)
        store.reserve(ticket.id, 5, 0)
        assert store.update_ticket(ticket, if_state=(ticket.state,), if_epoch=None)
        found = store.ticket(acme.id, ticket.id)
        assert found is not None
        assert found.reserved_bytes == 5

    def test_tallies(self, store: MetadataStore, acme: Tenant) -> None:
        """Live files are paid for, deleted and detached ones are not; counters stand beside what they should be."""
        beta = Tenant(store, "beta")
        acme.stored_file(store, b"12345")
        acme.stored_file(store, b"67", was_attached=True)
        acme.stored_file(store, b"deleted", state=FileState.DELETED, delete_time=NOW)
        acme.stored_file(store, b"detached", was_attached=True, detach_time=NOW)
        acme.stored_file(store, b"bad", state=FileState.QUARANTINED)
        store.charge(acme.id, 9, 0)
        for _ in range(2):
            ticket = beta.ticket()
            store.add_ticket(ticket)
            store.reserve(ticket.id, 2**40, 0)
        found = sorted(store.tallies(), key=lambda tally: tally.used_bytes)
        assert found == [Tally(beta.id, 0, 0, 2**41, 2**41), Tally(acme.id, 9, 10, 0, 0)]

    def test_reservations_at_once(self, store: MetadataStore, changes: Changes, acme: Tenant) -> None:
        """64 tickets together hold no more than the limit."""
        tickets = [acme.ticket() for _ in range(64)]
        for ticket in tickets:
            store.add_ticket(ticket)
        got = at_once(64, lambda number: changes.run(lambda: store.reserve(tickets[number].id, 10, 333)))
        assert sum(got) == 33
        assert store.reserved_bytes(acme.id) == 330

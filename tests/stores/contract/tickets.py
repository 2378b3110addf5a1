"""What every metadata store does with upload tickets."""

from __future__ import annotations

from dataclasses import replace

from remora_server.core.model import (
    Checksums,
    ExternalRef,
    FileSpec,
    Media,
    Subject,
    TicketState,
)
from remora_server.core.ports import (
    MetadataStore,
    TicketQuery,
)
from tests.stores.samples import METADATA, NOW, Tenant, subject, walk


class TicketContract:
    """Upload tickets."""

    def test_tickets_everything_comes_back(self, store: MetadataStore, acme: Tenant) -> None:
        """A ticket is found with every field as it was given."""
        spec = FileSpec(
            name="ü.png",
            size_bytes=2**40,
            content_type="image/png",
            checksums=Checksums(2**32 - 1, b"\0" * 16, b"\xff" * 32),
            media=Media(1, 2, "L", 3, 4, "py", "alt"),
            metadata=METADATA,
            external_ref=ExternalRef("a", "b"),
        )
        full = acme.ticket(spec=spec, attach_to=Subject("issue", "", "ENG-1"), skip_existing_check=True)
        for ticket in (acme.ticket(), full):
            store.add_ticket(ticket)
            assert store.ticket(acme.id, ticket.id) == ticket
            assert store.ticket("wks_other", ticket.id) is None

    def test_conditional_update(self, store: MetadataStore, acme: Tenant) -> None:
        """A ticket is written only in the expected state and epoch."""
        ticket = acme.ticket()
        store.add_ticket(ticket)
        moved = replace(
            ticket,
            state=TicketState.UPLOADING,
            spec=FileSpec("b.txt"),
            attach_to=subject(),
            committed_size=2**40,
            committed_crc32c=2**32 - 1,
            writer_epoch=3,
            append_offset=5,
            append_crc32c=6,
            file_id="fil_1",
            attachment_id="att_1",
            outcome="STORED",
            error_reason="R",
            error_message="M",
            expire_time=NOW + 5,
            staged_removed=True,
        )
        pending, uploading = (TicketState.PENDING,), (TicketState.UPLOADING, TicketState.VERIFYING)
        assert not store.update_ticket(moved, if_state=uploading, if_epoch=None)
        assert not store.update_ticket(moved, if_state=pending, if_epoch=1)
        assert store.ticket(acme.id, ticket.id) == ticket
        assert store.update_ticket(moved, if_state=pending, if_epoch=0)
        assert store.ticket(acme.id, ticket.id) == moved
        assert store.update_ticket(moved, if_state=uploading, if_epoch=3)
        assert not store.update_ticket(moved, if_state=(), if_epoch=None)

    def test_tickets_list(self, store: MetadataStore, acme: Tenant) -> None:
        """Newest first, by state and creator."""
        made = [acme.ticket(create_time=NOW + n // 2) for n in range(6)]
        made[1] = replace(made[1], state=TicketState.FAILED)
        made[2] = replace(made[2], creator=acme.kim)
        for ticket in made:
            store.add_ticket(ticket)
        ordered = sorted(made, key=lambda x: (x.create_time, x.id), reverse=True)
        everything = TicketQuery(acme.id)
        found = walk(lambda after, limit: store.list_tickets(everything, after, limit), lambda x: (x.create_time, x.id))
        assert found == ordered
        assert store.list_tickets(TicketQuery(acme.id, states=[TicketState.FAILED]), None, 9) == [made[1]]
        assert store.list_tickets(TicketQuery(acme.id, created_by=acme.kim.id), None, 9) == [made[2]]
        assert store.list_tickets(TicketQuery("wks_other"), None, 9) == []

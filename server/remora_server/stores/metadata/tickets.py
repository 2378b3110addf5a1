"""Upload tickets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from remora_server.core.model import Checksums, ExternalRef, FileSpec, Ticket, TicketState
from remora_server.core.ports import Position, TicketQuery
from remora_server.stores.database import Row
from remora_server.stores.kept import Kept, Query, Slot, kept, kept_insert
from remora_server.stores.metadata.files import decode_media, encode_media
from remora_server.stores.metadata.rows import (
    Rows,
    before,
    columns_of,
    decode_json,
    encode_json,
    place,
    portions,
    subject_of,
)
from remora_server.stores.tables import Tickets

MUTABLE = (
    Tickets.state,
    Tickets.spec,
    Tickets.transport,
    Tickets.subject_type,
    Tickets.subject_id,
    Tickets.subject_key,
    Tickets.skip_existing_check,
    Tickets.committed_size,
    Tickets.committed_crc32c,
    Tickets.writer_epoch,
    Tickets.append_offset,
    Tickets.append_crc32c,
    Tickets.file_id,
    Tickets.attachment_id,
    Tickets.outcome,
    Tickets.error_reason,
    Tickets.error_message,
    Tickets.expire_time,
    Tickets.staged_removed,
    Tickets.verify_until,
    Tickets.is_asset,
)
# What a ticket holds is written by `reserve` alone, with the counter of its workspace.
TICKET = (Tickets.id, Tickets.workspace_id, Tickets.creator_id, Tickets.create_time, *MUTABLE, Tickets.reserved_bytes)
CREATOR = place(TICKET, Tickets.creator_id)
ADD_TICKET = kept_insert(Tickets, TICKET)


@kept
def _ticket_by_id(workspace_id: Slot, ticket_id: Slot) -> Query:
    return Tickets.select(*TICKET).where(Tickets.id == ticket_id, Tickets.workspace_id == workspace_id)


@cache
def _update_ticket(states: int, with_epoch: bool) -> Kept:  # noqa: FBT001 - as the other part of its cache key.
    """Return the one conditional UPDATE that every change of a ticket is."""

    def build(*slots: Slot) -> Query:
        values, tests = slots[: len(MUTABLE)], slots[len(MUTABLE) :]
        query = Tickets.update(dict(zip(MUTABLE, values, strict=True))).where(Tickets.id == tests[0])
        query = query.where(Tickets.state.in_(tests[1 : 1 + states]))
        return query.where(Tickets.writer_epoch == tests[-1]) if with_epoch else query

    return Kept(build, len(MUTABLE) + 1 + states + with_epoch)


class TicketRows(Rows):
    """Upload tickets."""

    def add_ticket(self, new: Ticket) -> None:
        """Insert a ticket; it holds nothing yet."""
        self._db.write(ADD_TICKET, new.id, new.workspace_id, new.creator.id, new.create_time, *_mutable(new), 0)

    def ticket(self, workspace_id: str, ticket_id: str) -> Ticket | None:
        """Find a ticket by id."""
        row = self._db.row(_ticket_by_id, workspace_id, ticket_id)
        return None if row is None else self._ticket(row)

    def update_ticket(self, changed: Ticket, *, if_state: Sequence[TicketState], if_epoch: int | None) -> bool:
        """Write a ticket if it still is in one of these states and has this writer epoch; tell whether it did."""
        statement = _update_ticket(len(if_state), if_epoch is not None)
        epoch = () if if_epoch is None else (if_epoch,)
        states = (state.value for state in if_state)
        return self._db.change(statement, *_mutable(changed), changed.id, *states, *epoch) > 0

    def writer_epochs(self, ticket_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the writer epoch of each of these tickets that there is."""
        found: dict[str, int] = {}
        for some in portions(ticket_ids):
            found.update(self._db.select(Tickets.select(Tickets.id, Tickets.writer_epoch).where(Tickets.id.in_(some))))
        return found

    def list_tickets(self, query: TicketQuery, after: Position | None, limit: int) -> Sequence[Ticket]:
        """Return tickets by (create_time, id) downwards."""
        tests = [Tickets.workspace_id == query.workspace_id]
        if query.states:
            tests.append(Tickets.state.in_([state.value for state in query.states]))
        if query.created_by:
            tests.append(Tickets.creator_id == query.created_by)
        if after is not None:
            tests.append(before(Tickets.create_time, Tickets.id, after))
        newest_first = (Tickets.create_time.desc(), Tickets.id.desc())
        return self._tickets(Tickets.select(*TICKET).where(*tests).order_by(*newest_first).limit(limit))

    def _tickets(self, query: Query) -> list[Ticket]:
        rows = self._db.select(query)
        self._actors.prepare(row[CREATOR] for row in rows)
        return [self._ticket(row) for row in rows]

    def _ticket(self, row: Row) -> Ticket:
        # fmt: off
        (
            id_, workspace_id, creator_id, create_time, state, spec, transport, subject_type, subject_id, subject_key,
            skip_existing_check, committed_size, committed_crc32c, writer_epoch, append_offset, append_crc32c,
            file_id, attachment_id, outcome, error_reason, error_message, expire_time, staged_removed,
            verify_until, is_asset,
            reserved_bytes,
        ) = row
        # fmt: on
        return Ticket(
            id=id_,
            workspace_id=workspace_id,
            state=TicketState(state),
            spec=_spec(spec),
            transport=transport,
            attach_to=subject_of(subject_type, subject_id, subject_key),
            skip_existing_check=bool(skip_existing_check),
            committed_size=committed_size,
            committed_crc32c=committed_crc32c,
            writer_epoch=writer_epoch,
            append_offset=append_offset,
            append_crc32c=append_crc32c,
            file_id=file_id,
            attachment_id=attachment_id,
            outcome=outcome,
            error_reason=error_reason,
            error_message=error_message,
            creator=self._actors[creator_id],
            create_time=create_time,
            expire_time=expire_time,
            staged_removed=bool(staged_removed),
            verify_until=verify_until,
            reserved_bytes=reserved_bytes,
            is_asset=bool(is_asset),
        )


def _mutable(ticket: Ticket) -> tuple[object, ...]:
    return (
        ticket.state.value,
        _spec_text(ticket.spec),
        ticket.transport,
        *columns_of(ticket.attach_to),
        ticket.skip_existing_check,
        ticket.committed_size,
        ticket.committed_crc32c,
        ticket.writer_epoch,
        ticket.append_offset,
        ticket.append_crc32c,
        ticket.file_id,
        ticket.attachment_id,
        ticket.outcome,
        ticket.error_reason,
        ticket.error_message,
        ticket.expire_time,
        ticket.staged_removed,
        ticket.verify_until,
        ticket.is_asset,
    )


def _spec_text(spec: FileSpec) -> str:
    sums = spec.checksums
    return encode_json(
        {
            "name": spec.name,
            "size_bytes": spec.size_bytes,
            "content_type": spec.content_type,
            "checksums": [sums.crc32c, sums.md5.hex(), sums.sha256.hex()],
            "media": encode_media(spec.media),
            "metadata": dict(spec.metadata),
            "external_ref": [spec.external_ref.source, spec.external_ref.id],
        }
    )


def _spec(text: str) -> FileSpec:
    kept_spec = decode_json(text)
    crc32c, md5, sha256 = kept_spec["checksums"]
    return FileSpec(
        name=kept_spec["name"],
        size_bytes=kept_spec["size_bytes"],
        content_type=kept_spec["content_type"],
        checksums=Checksums(crc32c, bytes.fromhex(md5), bytes.fromhex(sha256)),
        media=decode_media(kept_spec["media"]),
        metadata=kept_spec["metadata"],
        external_ref=ExternalRef(*kept_spec["external_ref"]),
    )

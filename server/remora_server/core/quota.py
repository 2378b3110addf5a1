"""What a workspace may keep: bytes charged for its files, and bytes reserved for its open tickets, never more.

A ticket reserves what it declares when it is issued; one that declares nothing reserves as its bytes are committed. Its
end gives that back, and what it came to is charged instead, in one transaction. A ticket's row says what it holds, and
whatever changes that goes by the row, so it is given back exactly once, whoever ends the ticket. Without a limit
nothing is reserved.
"""

from __future__ import annotations

from remora_server.core import errors
from remora_server.core.model import Micros, Ticket, TicketState
from remora_server.core.ports import Clock, MetadataStore
from remora_server.core.values import replace

EXPIRE_BATCH = 500


class Quota:
    """The rules of a limit that each workspace has; 0 is none. Every method belongs inside a change."""

    def __init__(self, store: MetadataStore, clock: Clock, limit_bytes: int) -> None:
        self._store = store
        self._clock = clock
        self._limit_bytes = limit_bytes

    def charge(self, workspace_id: str, size_bytes: int) -> None:
        """Let a workspace pay for bytes, or raise QuotaExceededError."""
        while not self._store.charge(workspace_id, size_bytes, self._limit_bytes):
            self._make_room(workspace_id, size_bytes)

    def give_back(self, workspace_id: str, size_bytes: int) -> None:
        """Let a workspace pay for so many bytes less."""
        self._store.charge(workspace_id, -size_bytes, 0)

    def reserve(self, ticket: Ticket) -> Ticket:
        """Have an open ticket hold what it declares, or what has come if that is more; return it as it is then.

        Raise QuotaExceededError, and leave what it holds, where there is no room for more.
        """
        wanted = max(ticket.spec.size_bytes or 0, ticket.committed_size)
        if not self._limit_bytes or wanted <= ticket.reserved_bytes:
            return ticket
        while not self._store.reserve(ticket.id, wanted, self._limit_bytes):
            self._make_room(ticket.workspace_id, wanted - ticket.reserved_bytes)
        return replace(ticket, reserved_bytes=wanted)

    def release(self, ticket: Ticket) -> Ticket:
        """Give back what a ticket holds, as it was read in this change; repeating it changes nothing."""
        if ticket.reserved_bytes:
            self._store.reserve(ticket.id, 0, 0)
        return replace(ticket, reserved_bytes=0)

    def require_room(self, workspace_id: str, size_bytes: int) -> None:
        """Raise QuotaExceededError if a workspace could not hold so many bytes more."""
        if not self._limit_bytes:
            return
        while self._held(workspace_id) + size_bytes > self._limit_bytes:
            self._make_room(workspace_id, size_bytes)

    def _held(self, workspace_id: str) -> int:
        return self._store.used_bytes(workspace_id) + self._store.reserved_bytes(workspace_id)

    def _make_room(self, workspace_id: str, size_bytes: int) -> None:
        """End tickets whose time is up but which no sweep has met yet; raise QuotaExceededError if there are none."""
        if not end_due_tickets(self._store, self._clock.now(), workspace_id):
            raise errors.QuotaExceededError(
                workspace_id,
                requested_bytes=size_bytes,
                used_bytes=self._store.used_bytes(workspace_id),
                reserved_bytes=self._store.reserved_bytes(workspace_id),
                limit_bytes=self._limit_bytes,
            )


def end_due_tickets(store: MetadataStore, now: Micros, workspace_id: str = "") -> int:
    """Note that some tickets have expired, of one workspace or of all, and give back what they hold; return how many.

    The raised epoch fences off a writer that goes on. Call it inside a change.
    """
    ended = 0
    for ticket in store.tickets_to_expire(now, EXPIRE_BATCH, workspace_id):
        expired = replace(ticket, state=TicketState.EXPIRED, writer_epoch=ticket.writer_epoch + 1)
        if store.update_ticket(expired, if_state=(ticket.state,), if_epoch=ticket.writer_epoch):
            store.reserve(ticket.id, 0, 0)
            ended += 1
    return ended

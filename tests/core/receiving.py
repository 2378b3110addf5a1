"""A world that cuts uploads small, and what tests of uploads do in it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from remora_server.core.hashing import measure
from remora_server.core.model import Checksums, FileSpec, Ticket
from remora_server.core.receiving import Limits, Receiving
from remora_server.core.tickets import Request
from tests.core.world import World

SMALL = Limits(
    max_file_bytes=100,
    max_chunk_bytes=20,
    ack_interval_bytes=10,
    max_unary_bytes=50,
    max_inline_bytes=5,
    max_queued_bytes=8,
)
NOTHING = Checksums()


def issued(world: World, size: int | None = None, **spec: object) -> Ticket:
    """Issue a ticket of Jo's."""
    request = Request("acme", FileSpec("a.txt", size, **spec))  # type: ignore[arg-type]
    ticket = world.do(world.tickets.issue, world.jo, request).ticket
    assert ticket is not None
    return ticket


def begin(world: World, ticket: Ticket) -> Receiving:
    """Open a ticket and begin to receive."""
    opened = world.do(world.tickets.open, world.jo, ticket.id)
    assert opened.done is None
    assert not opened.is_verified_elsewhere
    return world.uploads.begin(world.jo, opened.ticket)


def stored(world: World, ticket: Ticket) -> Ticket:
    """Read a ticket back."""
    return world.tickets.get(world.jo, ticket.id)


def proofs(data: bytes) -> Checksums:
    """Return the digests that every stream computes."""
    return replace(measure(data).checksums, md5=b"")


def staged(world: World) -> list[str]:
    """Name what is staged."""
    return [one.name for one in world.blobs.list_staged()]


def leaves_when_fenced(receiving: Receiving) -> None:
    """Let a writer go away when it is stopped, as a stream does."""

    def hear() -> None:
        if receiving._fenced.is_set():
            threading.Thread(target=receiving.leave).start()

    receiving.listen(hear)


def fails_with(problem: Exception) -> Callable[..., None]:
    """Make a call that fails."""

    def call(*_: object) -> None:
        raise problem

    return call

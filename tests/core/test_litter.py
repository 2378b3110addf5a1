"""Litter."""

from __future__ import annotations

import time

from remora_server.core import ids, litter
from remora_server.core.model import FileSpec
from remora_server.core.tickets import Request
from tests.core.stored import blob_of, store, take
from tests.core.world import HOUR, World


def test_what_is_litter(world: World) -> None:
    """Neither what a row names, nor what an open ticket awaits, nor what is too young."""
    now = time.time_ns() // 1000  # Blobs in memory are dated by the machine's clock.
    issued = world.do(world.tickets.issue, world.jo, Request("acme", FileSpec("a")))
    assert issued.ticket is not None
    awaited = store(world, issued.ticket.id, b"whole")
    kept = blob_of(world, take(world, b"x" * 100)).location
    orphan = store(world, ids.new_id(ids.BLOB), b"orphan")
    stale = ids.new_id(ids.TICKET)
    for name in (issued.ticket.id, stale):
        world.blobs.stage(name, 0).write(b"half")

    def found(before: int | None) -> tuple[list[str], list[str]]:
        orphans = litter.orphans(world.store, world.blobs, before)
        return [one.location for one in orphans], [one.name for one in litter.stale(world.store, world.blobs, before)]

    assert found(now + HOUR) == found(None) == ([orphan], [stale])
    assert found(now - HOUR) == ([], [])
    assert awaited not in {orphan, kept}
    every = list(world.blobs.list_blobs())
    assert [one.location for one in litter.unnamed(world.store, every)] == [orphan]


def test_batches() -> None:
    """Everything comes once, in order, in lists of a limited length."""
    cut = list(litter.batched(iter(range(1201))))
    assert [len(one) for one in cut] == [500, 500, 201]
    assert [item for one in cut for item in one] == list(range(1201))
    assert list(litter.batched(iter(()))) == []

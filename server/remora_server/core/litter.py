"""Litter: bytes in the blob store that nothing names, left by crashes and by uploads that were given up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from remora_server.core.model import Micros
from remora_server.core.ports import BlobStore, MetadataStore, Stored

BATCH = 500
Item = TypeVar("Item")
Beat = Callable[[], None]


def nothing() -> None:
    """Be a beat that nobody hears."""


def orphans(store: MetadataStore, blobs: BlobStore, before: Micros | None, beat: Beat = nothing) -> Iterator[Stored]:
    """Find committed bytes, older than a time, that neither a blob row nor an open ticket names."""
    for batch in batched(blobs.list_blobs()):
        beat()
        for stored in unnamed(store, batch):
            if before is None or stored.modify_time < before:
                yield stored


def unnamed(store: MetadataStore, found: Sequence[Stored]) -> Sequence[Stored]:
    """Return those committed bytes that neither a blob row nor an open ticket names."""
    # In this order: an upload that is finished in between is no longer open, but then it has its row.
    awaited = store.open_tickets_among([stored.name for stored in found])
    known = store.known_locations([stored.location for stored in found])
    return [stored for stored in found if stored.name not in awaited and stored.location not in known]


def stale(store: MetadataStore, blobs: BlobStore, before: Micros | None, beat: Beat = nothing) -> Iterator[Stored]:
    """Find staged bytes, older than a time, that no open ticket names."""
    for batch in batched(blobs.list_staged()):
        beat()
        known = store.open_tickets_among([stored.name for stored in batch])
        yield from (one for one in batch if one.name not in known and (before is None or one.modify_time < before))


def batched(items: Iterator[Item]) -> Iterator[list[Item]]:
    """Cut what comes into lists."""
    while batch := list(islice(items, BATCH)):
        yield batch

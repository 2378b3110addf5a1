"""Pages by number, of listings that go on from token to token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from remora_server.core.model import Page

STEP = 1000
Item = TypeVar("Item")
Listing = Callable[[int, str], Page[Item]]  # by page size and page token; the pages tell the total


def window(listing: Listing[Item], offset: int, size: int, *, backwards: bool = False) -> tuple[Sequence[Item], int]:
    """Return up to `size` items from `offset` on, counted from the other end if `backwards`, and how many there are."""
    step = STEP if backwards else min(STEP, offset + size)
    page = listing(step, "")
    total = page.total_size or 0
    first, last = (total - offset - size, total - offset) if backwards else (offset, offset + size)
    found = list(page.items)
    while page.next_page_token and len(found) < min(last, total):
        page = listing(step, page.next_page_token)
        found += page.items
    chosen = found[max(first, 0) : max(last, 0)]
    return chosen[::-1] if backwards else chosen, total

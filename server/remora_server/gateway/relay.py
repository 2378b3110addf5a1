"""Connections as Relay has them: which part of a listing is asked for, and how it is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from remora_server.core.errors import invalid
from remora_server.core.pages import Span, Window

Item = TypeVar("Item")
DEFAULT_SIZE = 50
MAX_SIZE = 250


def span_of(arguments: Mapping[str, Any]) -> Span:
    """Return which part `first`, `after`, `last` and `before` ask for: from one side, not from both."""
    first, last, after, before = (arguments.get(name) for name in ("first", "last", "after", "before"))
    if first is not None and last is not None:
        raise invalid("last", "can't be given with first; read from one side")
    if after is not None and (last is not None or before is not None):
        raise invalid("after", "can't be given with last or before; read from one side")
    if before is not None and first is not None:
        raise invalid("before", "can't be given with first; read from one side")
    from_end = last is not None or before is not None
    name, size = ("last", last) if from_end else ("first", first)
    if size is not None and not 1 <= size <= MAX_SIZE:
        raise invalid(name, f"must be a number from 1 to {MAX_SIZE}")
    return Span(size or DEFAULT_SIZE, after or "", before or "", from_end)


def connection(window: Window[Item], make: Callable[[Item], dict[str, Any]]) -> dict[str, Any]:
    """Return a part of a listing, with its items as objects."""
    nodes = [make(item) for item in window.items]
    return {
        "nodes": nodes,
        "edges": [{"cursor": cursor, "node": node} for cursor, node in zip(window.cursors, nodes, strict=True)],
        "pageInfo": {
            "hasPreviousPage": window.has_previous,
            "hasNextPage": window.has_next,
            "startCursor": window.cursors[0] if window.cursors else None,
            "endCursor": window.cursors[-1] if window.cursors else None,
        },
    }

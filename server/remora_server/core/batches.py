"""Batches: every item by itself, in order; one that is refused leaves no trace and does not harm the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from remora_server.core import fields
from remora_server.core.errors import RemoraError
from remora_server.core.ports import Changes

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(
    changes: Changes, items: Sequence[Item], call: Callable[[Item], Result], field: str = "requests"
) -> list[Result | RemoraError]:
    """Run `call` for each item in a savepoint of its own, inside one change; return values and refusals in order."""
    fields.batch(items, field)
    results: list[Result | RemoraError] = []
    for item in items:
        try:
            results.append(changes.run(partial(call, item)))
        except RemoraError as refusal:
            results.append(refusal)
    return results


def each_read(items: Sequence[Item], call: Callable[[Item], Result], field: str) -> list[Result | RemoraError]:
    """Run `call`, which changes nothing, for each item; return values and refusals in order."""
    fields.batch(items, field)
    results: list[Result | RemoraError] = []
    for item in items:
        try:
            results.append(call(item))
        except RemoraError as refusal:
            results.append(refusal)
    return results

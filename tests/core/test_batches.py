"""Batches."""

from __future__ import annotations

import pytest

from remora_server.core import batches
from remora_server.core.errors import NotDeletedError, RemoraError, ValidationFailedError
from remora_server.core.links import LinkDraft
from tests.core.world import World, issue


def test_each_item_by_itself(world: World) -> None:
    """Values and refusals come in order; what a refused item had done is undone, what the others did stays."""

    def one(number: int) -> str:
        link, _ = world.links.create(world.jo, LinkDraft("acme", issue(), f"https://e.org/{number}"))
        if number == 2:
            raise NotDeletedError
        return link.url

    results = world.do(batches.each, world.changes, [1, 2, 3], one)
    assert [one if isinstance(one, str) else type(one) for one in results] == [
        "https://e.org/1",
        NotDeletedError,
        "https://e.org/3",
    ]
    found = world.links.list(world.jo, "acme", issue()).items
    assert [one.url for one in found] == ["https://e.org/3", "https://e.org/1"]
    assert world.types() == ["link.created"] * 2


def test_a_mistake_of_ours_is_nobodys_result(world: World) -> None:
    """Anything but a refusal ends the whole batch, and nothing of it stays."""

    def one(number: int) -> None:
        world.links.create(world.jo, LinkDraft("acme", issue(), f"https://e.org/{number}"))
        if number == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        world.do(batches.each, world.changes, [1, 2], one)
    assert world.told() == []


def test_reads() -> None:
    """Reading needs no transaction."""

    def one(number: int) -> int:
        if not number:
            raise NotDeletedError
        return number

    results: list[int | RemoraError] = batches.each_read([1, 0, 2], one, "ids")
    assert [results[0], type(results[1]), results[2]] == [1, NotDeletedError, 2]


def test_sizes(world: World) -> None:
    """Empty and oversized batches are refused as a whole."""
    for items in ([], [0] * 101):
        with pytest.raises(ValidationFailedError):
            batches.each(world.changes, items, lambda one: one)
        with pytest.raises(ValidationFailedError):
            batches.each_read(items, lambda one: one, "ids")

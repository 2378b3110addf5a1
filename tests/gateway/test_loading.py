"""Loaders: what many ask for at once is fetched once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from remora_server.gateway.loading import Loader


def test_one_turn_of_the_loop_is_one_fetch() -> None:
    """Those who ask in the same turn share a fetch, each key is in it once, and nothing is fetched again."""
    fetched: list[Sequence[int]] = []

    async def fetch(keys: Sequence[int]) -> Mapping[int, str]:
        fetched.append(keys)
        return {key: str(key) for key in keys if key < 3}

    async def ask(loader: Loader[int, str], key: int) -> str | None:
        return await loader.load(key)

    async def run() -> list[str | None]:
        loader = Loader(fetch)
        first = await asyncio.gather(*(ask(loader, key) for key in (1, 2, 3, 1)))
        return [*first, *await asyncio.gather(ask(loader, 2), ask(loader, 0))]

    assert asyncio.run(run()) == ["1", "2", None, "1", "2", "0"]
    assert fetched == [[1, 2, 3], [0]]


def test_all_hear_of_a_failure() -> None:
    """A fetch that fails fails for each who waits for it."""

    async def fetch(keys: Sequence[int]) -> Mapping[int, str]:
        raise ConnectionError(str(keys))

    async def run() -> list[str | BaseException | None]:
        loader = Loader(fetch)
        return list(await asyncio.gather(loader.load(1), loader.load(2), return_exceptions=True))

    assert [type(one) for one in asyncio.run(run())] == [ConnectionError, ConnectionError]


def test_whoever_is_gone_is_no_trouble() -> None:
    """A reader that gives up does not take the values of the others with it."""

    async def fetch(keys: Sequence[int]) -> Mapping[int, str]:
        return dict.fromkeys(keys, "there")

    async def run() -> str | None:
        loader = Loader(fetch)
        gone, stays = loader.load(1), loader.load(2)
        gone.cancel()
        return await stays

    assert asyncio.run(run()) == "there"


@pytest.mark.parametrize("asked", [1, 50])
def test_many_readers_of_one_key(asked: int) -> None:
    """A key is fetched once, however many ask for it."""
    count = 0

    async def fetch(keys: Sequence[int]) -> Mapping[int, int]:
        nonlocal count
        count += len(keys)
        return dict.fromkeys(keys, 1)

    async def run() -> list[int | None]:
        loader = Loader(fetch)
        return await asyncio.gather(*(loader.load(7) for _ in range(asked)))

    assert asyncio.run(run()) == [1] * asked
    assert count == 1


def test_a_fetch_that_is_cancelled() -> None:
    """Whoever waits for it is told: nobody waits for ever."""

    async def fetch(keys: Sequence[int]) -> Mapping[int, str]:
        raise asyncio.CancelledError(str(keys))

    async def run() -> list[str | BaseException | None]:
        loader = Loader(fetch)
        waiting = asyncio.gather(loader.load(1), loader.load(2), return_exceptions=True)
        return list(await asyncio.wait_for(waiting, timeout=10))

    assert [type(one) for one in asyncio.run(run())] == [asyncio.CancelledError] * 2

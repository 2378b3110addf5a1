"""Health: what does not answer, what else is told, and how often anything is asked."""

from __future__ import annotations

import asyncio
import json

import pytest

from remora_server.gateway.health import Health
from tests.running import RunningServer
from tests.ticketing import ask


@pytest.mark.parametrize(("fresh_seconds", "times"), [(60.0, 1), (0.0, 3)])
def test_many_share_one_answer(fresh_seconds: float, times: int) -> None:
    """Checks and facts are asked for once, however many want to know, until the answer is old."""
    asked: list[str] = []

    async def check() -> None:
        asked.append("check")
        await asyncio.sleep(0)

    async def fact() -> int:
        asked.append("fact")
        await asyncio.sleep(0)
        return len(asked)

    async def many() -> None:
        well = Health({"a": check}, {"b": fact}, fresh_seconds=fresh_seconds, fresh_facts_seconds=fresh_seconds)
        for _ in range(3):
            assert list(await asyncio.gather(*(well.failing() for _ in range(5)))) == [[]] * 5
            assert len({one["b"] for one in await asyncio.gather(*(well.facts() for _ in range(5)))}) == 1

    asyncio.run(many())
    assert (asked.count("check"), asked.count("fact")) == (times, times)


def test_what_does_not_answer() -> None:
    """A check that fails or takes too long is named; a fact that can't be told is left out, and fails nothing."""

    async def broken() -> None:
        raise OSError("gone")

    async def slow() -> None:
        await asyncio.sleep(60)

    async def fine() -> int:
        return 7

    async def look() -> None:
        asked = {"broken": broken, "slow": slow, "fine": fine}
        ill = Health(asked, asked, answer_seconds=0.05)
        assert await ill.failing() == ["broken", "slow"]
        assert await ill.facts() == {"fine": 7}

    asyncio.run(look())


def test_a_server_that_is_well(server: RunningServer) -> None:
    """It says so, and how many previews wait to be made."""
    told = json.loads(ask("GET", f"{server.ready['http']}/healthz").body)
    assert told["status"] == "ok"
    assert told["previews"]["waiting"] >= 0

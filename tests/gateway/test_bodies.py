"""The bytes of a request, and time that passes while its client waits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from remora_server.gateway.bodies import Body, Pace

LONG_SECONDS = 60.0


def body_of(*messages: dict[str, Any]) -> Body:
    """Return the body of a request of which these messages come at once, and then nothing more."""
    left = list(messages)

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    return Body({"type": "http", "headers": []}, receive, Pace(LONG_SECONDS, 1))


def test_a_pause() -> None:
    """It ends by itself, or with the client; what still came is passed by."""
    rest = {"type": "http.request", "body": b"x", "more_body": False}

    async def pause(seconds: float, *messages: dict[str, Any]) -> None:
        async with asyncio.timeout(LONG_SECONDS / 2):
            await body_of(*messages).pause(seconds)

    asyncio.run(pause(0.01))
    asyncio.run(pause(0.01, rest))
    with pytest.raises(ClientDisconnect):
        asyncio.run(pause(LONG_SECONDS, rest, {"type": "http.disconnect"}))

"""gRPC's health, by what the server stands on."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from grpc_health.v1 import health_pb2

from remora_server.rpc.health import Health
from remora_server.rpc.upload_stream import Draining

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Context:
    """One who watches."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self.heard = asyncio.Event()

    async def write(self, answer: health_pb2.HealthCheckResponse) -> None:
        """Hear an answer."""
        self.told.append(answer.status)
        self.heard.set()


async def status_of(health: Health, service: str) -> int:
    """Ask once."""
    answer = await health.Check(health_pb2.HealthCheckRequest(service=service), cast("Any", Context()))
    assert isinstance(answer, health_pb2.HealthCheckResponse)
    return answer.status


@pytest.mark.parametrize(
    ("failing", "told"),
    [
        ([], [SERVING, SERVING, SERVING]),
        (["blobs"], [NOT_SERVING, NOT_SERVING, SERVING]),
        (["database"], [NOT_SERVING, NOT_SERVING, NOT_SERVING]),
        (["database", "blobs"], [NOT_SERVING, NOT_SERVING, NOT_SERVING]),
    ],
)
def test_what_needs_what(failing: list[str], told: list[int]) -> None:
    """P20: the whole is well if all is; a service that needs no contents is well without the blobs."""

    async def ask() -> list[int]:
        health = Health(Draining(), ["files", "links"], ["files"])
        await health.tell(failing)
        return [await status_of(health, service) for service in ("", "files", "links")]

    assert asyncio.run(ask()) == told


@pytest.mark.parametrize("failing", [[], ["blobs"]])
def test_a_watch_ends_with_the_server(failing: list[str]) -> None:
    """P20: also if it had said before that something is away, and has nothing more to say."""

    async def watch() -> list[int]:
        draining, context = Draining(), Context()
        health = Health(draining, ["files"], ["files"])
        await health.tell(failing)
        watching = asyncio.ensure_future(health.Watch(health_pb2.HealthCheckRequest(service="files"), context))
        await context.heard.wait()
        draining.announced = True
        await health.enter_graceful_shutdown()
        draining.start()
        await asyncio.wait_for(watching, 5)
        return context.told

    assert asyncio.run(watch())[-1] == NOT_SERVING

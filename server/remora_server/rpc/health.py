"""gRPC's health: of the server as a whole, and of each service as far as what it stands on answers."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, cast

from grpc_health.v1 import health, health_pb2

from remora_server.rpc.upload_stream import Draining

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class _WatchOverError(Exception):
    """A watch of health has said its last word."""


class _Watch:
    """The context of a watch of health, as far as it is used."""

    def __init__(self, context: Any, draining: Draining) -> None:  # noqa: ANN401 - only `write` is used of it
        self._context = context
        self._draining = draining
        self.last: int = SERVING
        self.is_over = False

    async def write(self, answer: health_pb2.HealthCheckResponse) -> None:
        """Send an answer; end the watch if nothing else can follow."""
        await self._context.write(answer)
        self.last = answer.status
        if self._draining.announced and answer.status == NOT_SERVING:
            raise _WatchOverError


class Health(health.aio.HealthServicer):
    """Health whose watches end with the server; they would keep it for all the time that calls are given to end."""

    def __init__(self, draining: Draining, services: Collection[str], need_blobs: Collection[str]) -> None:
        super().__init__()
        self._draining = draining
        self._services = services
        self._need_blobs = need_blobs

    async def tell(self, failing: Collection[str]) -> None:
        """Say what of that which the server stands on does not answer: "database" or "blobs", and perhaps more."""
        for service in ("", *self._services):
            is_well = not failing or (service != "" and service not in self._need_blobs and "database" not in failing)
            await self.set(service, SERVING if is_well else NOT_SERVING)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:  # noqa: ANN401 - as above
        """Tell each change until the server stops."""
        watch = _Watch(context, self._draining)
        watching = asyncio.ensure_future(super().Watch(request, cast("Any", watch)))

        def end() -> None:
            if watch.last != SERVING:  # Otherwise it is about to hear of the end.
                watch.is_over = watching.cancel()

        self._draining.join(end)
        try:
            await watching
        except _WatchOverError:
            pass
        except asyncio.CancelledError:
            if not watch.is_over:
                raise
        finally:
            self._draining.leave(end)

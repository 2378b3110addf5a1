"""That no method is registered with grpc.aio, which would wait for each of them on every call."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from remora_server.core.forwarding import Proxies
from remora_server.rpc.calls import Traffic
from remora_server.rpc.interceptors import Gate, Keys, Unregistered


class _Nobody:
    """Knows no key."""


def test_methods_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services that are added through either stand-in are served, and nothing is registered."""
    registered: list[str] = []

    async def serve() -> tuple[int, grpc.StatusCode]:
        server = grpc.aio.server()
        monkeypatch.setattr(server, "add_registered_method_handlers", lambda name, _handlers: registered.append(name))
        port = server.add_insecure_port("127.0.0.1:0")
        open_door = cast("grpc.aio.Server", Unregistered(server))
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), open_door)
        gate = Gate(server, {"/guarded.Health/Check": "x"}, cast("Keys", _Nobody()), Traffic(), Proxies(()))
        handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(
            health.aio.HealthServicer().Check
        )
        gate.add_registered_method_handlers("guarded.Health", {"Check": handler})
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
            answer = health_pb2.HealthCheckResponse.FromString(await check(b""))
            guarded: Any = channel.unary_unary("/guarded.Health/Check")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await guarded(b"")
        await server.stop(None)
        return answer.status, refused.value.code()

    status, code = asyncio.run(serve())
    assert status == health_pb2.HealthCheckResponse.SERVING
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert not registered

"""What every call passes: the key is checked before any field, and every error becomes a rich status.

The scope of an RPC is read from its `remora.v1.access` option, so the proto is the only place that says it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_status import rpc_status

from remora.v1 import options_pb2
from remora_server.core.access import require_scope
from remora_server.core.errors import RemoraError, TokenMissingError
from remora_server.core.model import Caller
from remora_server.rpc.calls import set_caller
from remora_server.rpc.errors import internal_status, status_of

log = logging.getLogger(__name__)

Authenticate = Callable[[str], Awaitable[Caller]]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


def scopes_of(services: Iterable[ServiceDescriptor]) -> dict[str, str]:
    """Return the scope of each RPC by its path; an RPC without the option is a mistake."""
    scopes: dict[str, str] = {}
    for service in services:
        for method in service.methods:
            options = method.GetOptions()
            if not options.HasExtension(options_pb2.access):
                raise LookupError(f"{service.full_name}.{method.name} has no (remora.v1.access) option")
            scopes[f"/{service.full_name}/{method.name}"] = options.Extensions[options_pb2.access].scope
    return scopes


def token_of(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Return the key that came with a call; raise TokenMissingError if none did."""
    for name, value in context.invocation_metadata() or ():
        if name == "authorization" and isinstance(value, str):
            scheme, _, token = value.partition(" ")
            if scheme.lower() == "bearer" and token.strip():
                return token.strip()
    raise TokenMissingError


class Gate:
    """Lets calls in and errors out.

    It stands in for the server while services are added to it, and wraps each handler once. grpc.aio's own
    interceptors would do the same on every call, for more than a third of the time that a small call takes.
    """

    def __init__(self, server: grpc.aio.Server, scopes: dict[str, str], authenticate: Authenticate) -> None:
        self._server = server
        self._scopes = scopes
        self._authenticate = authenticate

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Take no unwrapped handlers: those of `add_registered_method_handlers` are the same ones."""

    def add_registered_method_handlers(self, service_name: str, handlers: dict[str, Handler]) -> None:
        """Register the handlers of one service, each behind the gate."""
        wrapped = {
            name: self._wrap(handler, self._scopes[f"/{service_name}/{name}"]) for name, handler in handlers.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service_name, wrapped),))
        self._server.add_registered_method_handlers(service_name, wrapped)

    def _wrap(self, handler: Handler, scope: str) -> Handler:
        if handler.request_streaming or handler.response_streaming:
            inner = handler.stream_stream or handler.unary_stream

            async def stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:  # noqa: ANN401 - a message, or an iterator of messages
                await self._guarded(inner, request, context, scope)

            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(stream, handler.request_deserializer, handler.response_serializer)

        async def unary(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:  # noqa: ANN401 - any message
            return await self._guarded(handler.unary_unary, request, context, scope)

        return grpc.unary_unary_rpc_method_handler(unary, handler.request_deserializer, handler.response_serializer)

    async def _guarded(self, behave: Any, request: Any, context: grpc.aio.ServicerContext[Any, Any], scope: str) -> Any:  # noqa: ANN401 - any message
        try:
            caller = await self._authenticate(token_of(context))
            require_scope(caller, scope)
            set_caller(replace(caller, request_id=getattr(request, "request_id", "")))
            return await behave(request, context)
        except RemoraError as error:
            status = rpc_status.to_status(status_of(error))
        except (asyncio.CancelledError, grpc.aio.AbortError):
            raise
        except Exception:
            # Its text may hold paths or SQL: it goes to the log, and only a number to the caller.
            number = secrets.token_hex(8)
            log.exception("internal error %s", number)
            status = rpc_status.to_status(internal_status(number))
        return await context.abort(status.code, status.details or "", status.trailing_metadata or ())

"""What every call passes: the key is checked before any field, and every error becomes a rich status.

The scope of an RPC is read from its `remora.v1.access` option, so the proto is the only place that says it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias
from urllib.parse import unquote

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_status import rpc_status

from remora.v1 import options_pb2
from remora_server.core import fields
from remora_server.core.access import require_scope
from remora_server.core.errors import RemoraError, TokenExpiredError, TokenMissingError, invalid
from remora_server.core.forwarding import Proxies
from remora_server.core.model import Caller
from remora_server.core.values import replace
from remora_server.rpc.calls import Traffic, set_caller
from remora_server.rpc.errors import internal_status, status_of

log = logging.getLogger(__name__)


class Keys(Protocol):
    """Tells whom a key stands for."""

    def recent(self, token: str) -> Caller | None:
        """Return the caller if the key was looked up a moment ago."""
        ...

    async def caller(self, token: str) -> Caller:
        """Return the caller as of now, or raise TokenMissingError or TokenExpiredError."""
        ...


Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

UNKNOWN_CALLER = (TokenMissingError, TokenExpiredError)
MALFORMED = object()  # Stands for a request whose bytes are no message.


def _reader(handler: Handler) -> Callable[[bytes], Any]:
    """Return the handler's reader of messages, with a refusal for bytes that are none.

    grpc.aio would answer UNKNOWN with the text of the Python exception. Messages of a stream are read by the handler,
    so there the refusal can be raised; a single request is read before there is anybody to catch it.
    """
    read: Callable[[bytes], Any] = handler.request_deserializer or bytes

    def careful(data: bytes) -> Any:  # noqa: ANN401 - any message
        try:
            return read(data)
        except Exception as problem:
            if handler.request_streaming:
                raise invalid("message", "is not a message of this RPC") from problem
            return MALFORMED

    return careful


def _refuse_malformed(request: object) -> None:
    if request is MALFORMED:
        raise invalid("message", "is not a message of this RPC")


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


class Unregistered:
    """Stands in for the server while services are added to it: their methods are found by name at each call.

    A server of grpc.aio that has registered methods gathers a future of each into one `asyncio.wait`, for every call.
    With the seventy methods here that cost a lone caller 40 microseconds a call.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Pass handlers on."""
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service_name: str, handlers: dict[str, Handler]) -> None:
        """Register nothing: those of `add_generic_rpc_handlers` are the same ones."""


class Gate:
    """Lets calls in and errors out.

    It stands in for the server while services are added to it, and wraps each handler once. grpc.aio's own
    interceptors would do the same on every call, for more than a third of the time that a small call takes.
    """

    def __init__(
        self, server: grpc.aio.Server, scopes: dict[str, str], keys: Keys, traffic: Traffic, proxies: Proxies
    ) -> None:
        self._server = server
        self._traffic = traffic
        self._scopes = scopes
        self._keys = keys
        self._proxies = proxies

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Take no unwrapped handlers: those of `add_registered_method_handlers` are the same ones."""

    def add_registered_method_handlers(self, service_name: str, handlers: dict[str, Handler]) -> None:
        """Register the handlers of one service, each behind the gate."""
        wrapped = {name: self._wrap(handler, f"/{service_name}/{name}") for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service_name, wrapped),))

    def _wrap(self, handler: Handler, method: str) -> Handler:
        if handler.request_streaming or handler.response_streaming:
            inner = handler.stream_stream or handler.unary_stream

            async def stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:  # noqa: ANN401 - a message, or an iterator of messages
                answering = self._guarded(inner, request, context, method)
                del request  # See _guarded.
                await answering

            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(stream, _reader(handler), handler.response_serializer)

        async def unary(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:  # noqa: ANN401 - any message
            answering = self._guarded(handler.unary_unary, request, context, method)
            del request  # See _guarded.
            self._traffic.calls += 1
            try:
                return await answering
            finally:
                self._traffic.calls -= 1

        return grpc.unary_unary_rpc_method_handler(unary, _reader(handler), handler.response_serializer)

    async def _guarded(self, behave: Any, request: Any, context: Context, method: str) -> Any:  # noqa: ANN401 - any message
        try:
            token = token_of(context)
            caller = self._keys.recent(token) or await self._keys.caller(token)
            require_scope(caller, self._scopes[method])
            request_id = getattr(request, "request_id", "")
            fields.request_id(request_id)
            _refuse_malformed(request)
            set_caller(replace(caller, request_id=request_id) if request_id else caller)
            return await behave(request, context)
        except RemoraError as error:
            if isinstance(error, UNKNOWN_CALLER):
                log.info("%s in %s from %s", error.reason, method, self._origin(context))
            status = rpc_status.to_status(status_of(error))
        except (asyncio.CancelledError, grpc.aio.AbortError):
            raise
        except grpc.aio.InternalError:
            # A write failed because the call is over: the client has gone, and there is nobody to tell.
            return None
        except Exception:
            # Its text may hold paths or SQL: it goes to the log, and only a number to the caller.
            number = secrets.token_hex(8)
            log.exception("internal error %s in %s from %s", number, method, self._origin(context))
            status = rpc_status.to_status(internal_status(number))
        # grpc.aio keeps the error that abort raises, in a circle with these frames: what they hold, stays a while.
        del request
        return await context.abort(status.code, status.details or "", status.trailing_metadata or ())

    def _origin(self, context: Context) -> str:
        """Tell from where a call comes, for the log."""
        _, _, peer = unquote(context.peer()).partition(":")
        headers = [(str(name), value) for name, value in context.invocation_metadata() or () if isinstance(value, str)]
        return self._proxies.origin(peer, headers).address or "elsewhere"

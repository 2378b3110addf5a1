"""The channel to a server, with the key on every call and an id on every change, and the stubs of all services."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import grpc

import remora
from remora import errors
from remora.addresses import is_local
from remora.reaching import Way, explain
from remora.v1.activity_service_pb2_grpc import ActivityServiceStub
from remora.v1.attachment_service_pb2_grpc import AttachmentServiceStub
from remora.v1.capability_service_pb2_grpc import CapabilityServiceStub
from remora.v1.file_service_pb2_grpc import FileServiceStub
from remora.v1.issue_service_pb2_grpc import IssueServiceStub
from remora.v1.link_service_pb2_grpc import LinkServiceStub
from remora.v1.upload_ticket_service_pb2_grpc import UploadTicketServiceStub

UNWELL = "unhealthy"  # Part of what gRPC says where it was told NOT_SERVING.

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class Connection:
    """One channel and the stubs on it."""

    def __init__(
        self,
        address: str,
        key: str,
        ca: str | os.PathLike[str] | None,
        cert: str | os.PathLike[str] | None = None,
    ) -> None:
        self.heard = False  # Whether the server ever answered anything.
        self._way = Way(address, ca, cert)
        self._credentials = None
        if ca is not None:
            # Of a file that holds both, gRPC takes the key for the one and the certificates for the other.
            own = Path(cert).read_bytes() if cert is not None else None
            self._credentials = grpc.ssl_channel_credentials(Path(ca).read_bytes(), own, own)
        config = Path(__file__).with_name("service_config.json").read_text()
        self._channel = self._open([*_options(address), ("grpc.service_config", config)])
        signed = grpc.intercept_channel(self._channel, _Signer(key))
        self.files = FileServiceStub(signed)
        self.attachments = AttachmentServiceStub(signed)
        self.upload_tickets = UploadTicketServiceStub(signed)
        self.links = LinkServiceStub(signed)
        self.activities = ActivityServiceStub(signed)
        self.issues = IssueServiceStub(signed)
        self.capabilities = CapabilityServiceStub(signed)

    def call(self, method: Callable[[_Request], _Response], request: _Request) -> _Response:
        """Make a unary call; errors become those of `remora.errors`."""
        try:
            response = method(request)
        except grpc.RpcError as error:
            raise self.failure(error) from None
        self.heard = True
        return response

    def failure(self, error: grpc.RpcError) -> errors.RemoraError:
        """Turn what gRPC raised into the error that the service meant."""
        found = errors.from_call(error)
        if not isinstance(found, errors.ConnectionFailedError):
            self.heard = True
        elif not self.heard or UNWELL in found.message:
            # Of most mistakes in how a server is addressed gRPC says no more than that it can't be reached.
            with self._open(_options(self._way.address)) as channel:
                if why := explain(self._way, channel):
                    return errors.NotServedError(why, code=found.code)
        return found

    def close(self) -> None:
        """End all calls and close the channel."""
        self._channel.close()

    def _open(self, options: list[tuple[str, Any]]) -> grpc.Channel:
        if self._credentials is None:
            return grpc.insecure_channel(self._way.address, options)
        return grpc.secure_channel(self._way.address, self._credentials, options)


def new_request_id() -> str:
    """Make an id under which a change may be repeated without being done twice."""
    return str(uuid.uuid4())


def _options(address: str) -> list[tuple[str, Any]]:
    return [
        ("grpc.primary_user_agent", f"remora-python/{remora.__version__}"),
        # A page of a thousand large attachments passes the default of 4 MiB.
        ("grpc.max_receive_message_length", 64 * 1024 * 1024),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Uploads live through restarts: look for the server again soon, not after up to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 3_000),
        # A proxy from the environment can't reach a server on this machine.
        ("grpc.enable_http_proxy", int(not is_local(address))),
        # Connections of clients with other keys or settings are none of ours.
        ("grpc.use_local_subchannel_pool", 1),
    ]


class _Details(NamedTuple):
    """What gRPC wants to know about a call."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _Signer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Puts the key on every call, and an id on every change that has none: gRPC repeats calls by itself."""

    def __init__(self, key: str) -> None:
        self._authorization = ("authorization", f"Bearer {key}") if key else None

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:  # noqa: ANN401
        """Sign a unary call."""
        if "request_id" in request.DESCRIPTOR.fields_by_name and not request.request_id:
            named = type(request)()  # The caller may use its message for another change.
            named.CopyFrom(request)
            named.request_id = new_request_id()
            request = named
        return continuation(self._signed(client_call_details), request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:  # noqa: ANN401
        """Sign a call that answers with a stream."""
        return continuation(self._signed(client_call_details), request)

    def intercept_stream_stream(
        self,
        continuation: Any,  # noqa: ANN401
        client_call_details: Any,  # noqa: ANN401
        request_iterator: Iterator[Any],
    ) -> Any:  # noqa: ANN401
        """Sign a call with streams both ways."""
        return continuation(self._signed(client_call_details), request_iterator)

    def _signed(self, details: Any) -> _Details:  # noqa: ANN401
        metadata = list(details.metadata or ())
        if self._authorization is not None:
            metadata.append(self._authorization)
        return _Details(
            details.method,
            details.timeout,
            metadata,
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )

"""The gRPC server: services, health, reflection, and the settings that keep connections honest."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import cast

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from remora.v1 import (
    activity_service_pb2,
    activity_service_pb2_grpc,
    attachment_service_pb2,
    attachment_service_pb2_grpc,
    capability_service_pb2,
    capability_service_pb2_grpc,
    file_service_pb2,
    file_service_pb2_grpc,
    issue_service_pb2,
    issue_service_pb2_grpc,
    link_service_pb2,
    link_service_pb2_grpc,
    upload_ticket_service_pb2,
    upload_ticket_service_pb2_grpc,
    webhook_service_pb2,
    webhook_service_pb2_grpc,
)
from remora_server.core.activity import ActivityLog
from remora_server.core.admission import Admission
from remora_server.core.arrivals import Arrivals
from remora_server.core.attachments import Attachments
from remora_server.core.dedup import DedupMode
from remora_server.core.deletion import Deletion
from remora_server.core.downloads import Downloads
from remora_server.core.files import Files
from remora_server.core.forwarding import Proxies
from remora_server.core.issues import Issues
from remora_server.core.links import Links
from remora_server.core.ports import Changes, Clock, DirectTransfers
from remora_server.core.renditions import Renditions
from remora_server.core.tickets import Tickets
from remora_server.core.uploads import Uploads
from remora_server.core.webhook_deliveries import WebhookDeliveries
from remora_server.core.webhook_endpoints import WebhookEndpoints
from remora_server.rpc.activity import ActivityService, Growth
from remora_server.rpc.attachments import AttachmentService
from remora_server.rpc.calls import Calls, Traffic
from remora_server.rpc.capabilities import CapabilityService
from remora_server.rpc.files import FileService, Streams
from remora_server.rpc.health import Health
from remora_server.rpc.interceptors import Gate, Keys, Unregistered, scopes_of, token_of
from remora_server.rpc.issues import IssueService
from remora_server.rpc.links import LinkService
from remora_server.rpc.reflection import add_reflection
from remora_server.rpc.tickets import UploadTicketService
from remora_server.rpc.upload_stream import Draining, Pace
from remora_server.rpc.webhooks import WebhookService

SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name]
    for module, name in (
        (upload_ticket_service_pb2, "UploadTicketService"),
        (file_service_pb2, "FileService"),
        (attachment_service_pb2, "AttachmentService"),
        (link_service_pb2, "LinkService"),
        (activity_service_pb2, "ActivityService"),
        (issue_service_pb2, "IssueService"),
        (webhook_service_pb2, "WebhookService"),
        (capability_service_pb2, "CapabilityService"),
    )
)
NEED_BLOBS = ("remora.v1.UploadTicketService", "remora.v1.FileService")
MAX_STREAMS = 512
MAX_STREAMS_PER_PRINCIPAL = 256
OPTIONS = (
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # The default floor is 5 minutes, and answers a client that pings faster by closing its connection.
    ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
    # Connections end now and then, so that callers spread over servers again; streams drain long before.
    ("grpc.max_connection_age_ms", 30 * 60_000),
    ("grpc.max_connection_age_grace_ms", 15 * 60_000),
)


@dataclass(frozen=True, slots=True)
class Port:
    """How the port is opened: with TLS or not, and whether other workers of this host have it too."""

    credentials: grpc.ServerCredentials | None = None
    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """Core, as the servicers need it."""

    files: Files
    deletion: Deletion
    tickets: Tickets
    uploads: Uploads
    arrivals: Arrivals
    downloads: Downloads
    renditions: Renditions
    transfers: DirectTransfers
    attachments: Attachments
    links: Links
    issues: Issues
    webhook_endpoints: WebhookEndpoints
    webhook_deliveries: WebhookDeliveries
    log: ActivityLog
    changes: Changes
    clock: Clock


def scopes_by_rpc() -> Mapping[str, str]:
    """Return the scope of each RPC by its service and name, such as `LinkService.CreateLink`."""
    return {path.rpartition(".")[2].replace("/", "."): scope for path, scope in scopes_of(SERVICES).items()}


class RpcServer:
    """Serves gRPC on one port."""

    def __init__(
        self,
        rules: Rules,
        calls: Calls,
        readers: Executor,
        keys: Keys,
        traffic: Traffic,
        *,
        pace: Pace,
        mode: DedupMode,
        transports: tuple[str, ...],
        proxies: Proxies,
        port: Port,
    ) -> None:
        self.growth = Growth()
        self.draining = Draining()
        self._kinds = [Admission(MAX_STREAMS, MAX_STREAMS_PER_PRINCIPAL) for _ in range(3)]
        uploading, downloading, watching = self._kinds
        self._credentials = port.credentials
        self.health = Health(self.draining, [service.full_name for service in SERVICES], NEED_BLOBS)
        self._server = grpc.aio.server(
            # Two servers on one port would otherwise both bind, and each get half of the calls.
            options=(*OPTIONS, ("grpc.so_reuseport", int(port.is_shared)))
        )
        # The generated functions ask of a server only what these two offer.
        unregistered = cast("grpc.aio.Server", Unregistered(self._server))
        server = cast("grpc.aio.Server", Gate(self._server, scopes_of(SERVICES), keys, traffic, proxies))
        file_service_pb2_grpc.add_FileServiceServicer_to_server(
            FileService(
                calls,
                rules.files,
                rules.deletion,
                rules.tickets,
                rules.uploads,
                rules.arrivals,
                rules.downloads,
                rules.renditions,
                readers,
                Streams(uploading, downloading, pace, self.draining, lambda context: keys.caller(token_of(context))),
            ),
            server,
        )
        upload_ticket_service_pb2_grpc.add_UploadTicketServiceServicer_to_server(
            UploadTicketService(calls, rules.tickets, rules.uploads, rules.changes, rules.transfers), server
        )
        attachment_service_pb2_grpc.add_AttachmentServiceServicer_to_server(
            AttachmentService(calls, rules.attachments, rules.changes), server
        )
        link_service_pb2_grpc.add_LinkServiceServicer_to_server(LinkService(calls, rules.links, rules.changes), server)
        issue_service_pb2_grpc.add_IssueServiceServicer_to_server(
            IssueService(calls, rules.issues, rules.changes), server
        )
        activity_service_pb2_grpc.add_ActivityServiceServicer_to_server(
            ActivityService(
                calls,
                rules.log,
                rules.clock,
                watching=watching,
                growth=self.growth,
                draining=self.draining,
                check_again=lambda context: keys.caller(token_of(context)),
            ),
            server,
        )
        webhook_service_pb2_grpc.add_WebhookServiceServicer_to_server(
            WebhookService(calls, rules.webhook_endpoints, rules.webhook_deliveries), server
        )
        capability_service_pb2_grpc.add_CapabilityServiceServicer_to_server(
            CapabilityService(rules.uploads.limits, mode, transports), server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self.health, unregistered)
        add_reflection(unregistered, (*(service.full_name for service in SERVICES), health.SERVICE_NAME))

    async def start(self, address: str) -> int:
        """Begin to serve; return the port, which the system chooses for port 0."""
        await self.health.tell(())
        if self._credentials is None:
            add = partial(self._server.add_insecure_port, address)
        else:
            add = partial(self._server.add_secure_port, address, self._credentials)
        try:
            port = add()
        except RuntimeError as problem:
            raise OSError(
                f"can't listen on {address} for gRPC: it is taken; choose another with --grpc-port."
            ) from problem
        await self._server.start()
        return port

    async def stop(self, grace_seconds: float) -> None:
        """Say so by health, let streams end in order, admit no new ones, and wait for the rest."""
        self.draining.announced = True
        await self.health.enter_graceful_shutdown()
        for kind in self._kinds:
            kind.close()
        self.draining.start()
        await self._server.stop(grace_seconds)

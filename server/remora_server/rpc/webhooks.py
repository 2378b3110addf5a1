"""WebhookService: translates, and calls core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc

from remora.v1 import webhook_pb2, webhook_service_pb2_grpc
from remora.v1 import webhook_service_pb2 as pb
from remora_server.core import etags
from remora_server.core.admission import Admission
from remora_server.core.model import DeliveryState, DisabledReason, WebhookDelivery, WebhookEndpoint, WebhookFormat
from remora_server.core.webhook_deliveries import WebhookDeliveries
from remora_server.core.webhook_endpoints import EndpointDraft, WebhookEndpoints
from remora_server.rpc import convert
from remora_server.rpc.calls import Calls, caller

FORMATS: Mapping[int, WebhookFormat | None] = {
    webhook_pb2.WEBHOOK_FORMAT_UNSPECIFIED: None,
    webhook_pb2.WEBHOOK_FORMAT_STANDARD: WebhookFormat.STANDARD,
    webhook_pb2.WEBHOOK_FORMAT_LINEAR: WebhookFormat.LINEAR,
}
STATES: Mapping[int, DeliveryState] = {
    webhook_pb2.WEBHOOK_DELIVERY_STATE_PENDING: DeliveryState.PENDING,
    webhook_pb2.WEBHOOK_DELIVERY_STATE_SUCCEEDED: DeliveryState.SUCCEEDED,
    webhook_pb2.WEBHOOK_DELIVERY_STATE_FAILED: DeliveryState.FAILED,
}
FORMAT_NUMBERS = {
    WebhookFormat.STANDARD: webhook_pb2.WEBHOOK_FORMAT_STANDARD,
    WebhookFormat.LINEAR: webhook_pb2.WEBHOOK_FORMAT_LINEAR,
}
STATE_NUMBERS = {
    DeliveryState.PENDING: webhook_pb2.WEBHOOK_DELIVERY_STATE_PENDING,
    DeliveryState.SUCCEEDED: webhook_pb2.WEBHOOK_DELIVERY_STATE_SUCCEEDED,
    DeliveryState.FAILED: webhook_pb2.WEBHOOK_DELIVERY_STATE_FAILED,
}
REASON_NUMBERS = {
    DisabledReason.NONE: webhook_pb2.WEBHOOK_DISABLED_REASON_UNSPECIFIED,
    DisabledReason.REQUESTED: webhook_pb2.WEBHOOK_DISABLED_REASON_REQUESTED,
    DisabledReason.FAILING: webhook_pb2.WEBHOOK_DISABLED_REASON_FAILING,
    DisabledReason.GONE: webhook_pb2.WEBHOOK_DISABLED_REASON_GONE,
}


# Each holds a thread until its receiver answers; uploads want those as well.
MAX_SENDING, MAX_SENDING_PER_PRINCIPAL = 16, 4


class WebhookService(webhook_service_pb2_grpc.WebhookServiceServicer):
    """The RPCs of webhooks."""

    def __init__(self, calls: Calls, endpoints: WebhookEndpoints, deliveries: WebhookDeliveries) -> None:
        self._calls = calls
        self._endpoints = endpoints
        self._deliveries = deliveries
        self._sending = Admission(MAX_SENDING, MAX_SENDING_PER_PRINCIPAL)

    async def CreateWebhookEndpoint(
        self, request: pb.CreateWebhookEndpointRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.CreateWebhookEndpointResponse:
        who, draft = caller(), _draft(request.webhook_endpoint)
        secrets: dict[str, str] = {}

        def answer() -> pb.CreateWebhookEndpointResponse:
            made, secret = self._endpoints.create(who, draft)
            secrets[made.id] = secret
            return pb.CreateWebhookEndpointResponse(webhook_endpoint=_endpoint(made))

        # The answer is kept for repeats; the secret must not be, so it is added afterwards, and only to the first.
        response = await self._calls.once(
            "CreateWebhookEndpoint", request, answer, pb.CreateWebhookEndpointResponse.FromString
        )
        response.secret = secrets.get(response.webhook_endpoint.id, "")
        return response

    async def GetWebhookEndpoint(
        self, request: pb.GetWebhookEndpointRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetWebhookEndpointResponse:
        found = await self._calls.read(self._endpoints.get, caller(), request.webhook_endpoint_id)
        return pb.GetWebhookEndpointResponse(webhook_endpoint=_endpoint(found))

    async def ListWebhookEndpoints(
        self, request: pb.ListWebhookEndpointsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListWebhookEndpointsResponse:
        page = await self._calls.read(
            self._endpoints.list,
            caller(),
            request.workspace_id,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListWebhookEndpointsResponse(
            webhook_endpoints=map(_endpoint, page.items), next_page_token=page.next_page_token
        )

    async def UpdateWebhookEndpoint(
        self, request: pb.UpdateWebhookEndpointRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.UpdateWebhookEndpointResponse:
        given = request.webhook_endpoint
        updated = await self._calls.change(
            self._endpoints.update,
            caller(),
            given.id,
            _draft(given),
            tuple(request.update_mask.paths),
            given.etag,
            skip_backlog=request.skip_backlog,
        )
        return pb.UpdateWebhookEndpointResponse(webhook_endpoint=_endpoint(updated))

    async def DeleteWebhookEndpoint(
        self, request: pb.DeleteWebhookEndpointRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DeleteWebhookEndpointResponse:
        deleted = await self._calls.change_many(
            self._endpoints.delete,
            caller(),
            request.webhook_endpoint_id,
            request.etag,
            allow_missing=request.allow_missing,
        )
        return pb.DeleteWebhookEndpointResponse(webhook_endpoint=_endpoint(deleted) if deleted else None)

    async def RotateWebhookSecret(
        self, request: pb.RotateWebhookSecretRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RotateWebhookSecretResponse:
        rotated, secret = await self._calls.change(
            self._endpoints.rotate, caller(), request.webhook_endpoint_id, request.etag
        )
        return pb.RotateWebhookSecretResponse(webhook_endpoint=_endpoint(rotated), secret=secret)

    async def TestWebhookEndpoint(
        self, request: pb.TestWebhookEndpointRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.TestWebhookEndpointResponse:
        who = caller()
        with self._sending.stream(who.principal_id):
            sent = await self._calls.wait(self._deliveries.test, who, request.webhook_endpoint_id)
        attempt = webhook_pb2.WebhookAttempt(
            succeeded=sent.succeeded,
            response_status=sent.status,
            error=sent.error,
            duration=convert.duration_to_proto(sent.duration),
        )
        return pb.TestWebhookEndpointResponse(attempt=attempt)

    async def ListWebhookDeliveries(
        self, request: pb.ListWebhookDeliveriesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListWebhookDeliveriesResponse:
        page = await self._calls.read(
            self._deliveries.list,
            caller(),
            request.workspace_id,
            request.webhook_endpoint_id,
            convert.known(request.states, STATES, "states"),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListWebhookDeliveriesResponse(
            webhook_deliveries=map(_delivery, page.items), next_page_token=page.next_page_token
        )

    async def RedeliverWebhook(
        self, request: pb.RedeliverWebhookRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RedeliverWebhookResponse:
        who = caller()
        with self._sending.stream(who.principal_id):
            told = await self._calls.wait(self._deliveries.redeliver, who, request.webhook_delivery_id)
        return pb.RedeliverWebhookResponse(webhook_delivery=_delivery(told))


def _draft(given: webhook_pb2.WebhookEndpoint) -> EndpointDraft:
    return EndpointDraft(
        workspace_id=given.workspace_id,
        url=given.url,
        types=tuple(given.types),
        subjects=tuple(map(convert.subject_from_proto, given.subjects)),
        format=convert.known([given.format], FORMATS, "webhook_endpoint.format")[0],
        enabled=given.enabled if given.HasField("enabled") else None,
        description=given.description,
    )


def _endpoint(endpoint: WebhookEndpoint) -> webhook_pb2.WebhookEndpoint:
    return webhook_pb2.WebhookEndpoint(
        id=endpoint.id,
        workspace_id=endpoint.workspace_id,
        url=endpoint.url,
        types=endpoint.types,
        subjects=map(convert.subject_to_proto, endpoint.subjects),
        format=FORMAT_NUMBERS[endpoint.format],
        enabled=endpoint.enabled,
        description=endpoint.description,
        disabled_reason=REASON_NUMBERS[endpoint.disabled_reason],
        failing_since=convert.optional_time_to_proto(endpoint.failing_since),
        previous_secret_expire_time=convert.optional_time_to_proto(endpoint.previous_secret_expire_time),
        creator=convert.actor_to_proto(endpoint.creator),
        create_time=convert.time_to_proto(endpoint.create_time),
        update_time=convert.time_to_proto(endpoint.update_time),
        etag=etags.etag_of(endpoint.version),
    )


def _delivery(delivery: WebhookDelivery) -> webhook_pb2.WebhookDelivery:
    return webhook_pb2.WebhookDelivery(
        id=delivery.id,
        webhook_endpoint_id=delivery.endpoint_id,
        activity_id=delivery.activity_id,
        activity_type=delivery.activity_type,
        state=STATE_NUMBERS[delivery.state],
        attempt_count=delivery.attempts,
        response_status=delivery.status,
        error=delivery.error,
        duration=convert.duration_to_proto(delivery.duration),
        create_time=convert.time_to_proto(delivery.create_time),
        last_attempt_time=convert.time_to_proto(delivery.attempt_time),
        next_attempt_time=convert.optional_time_to_proto(delivery.next_time),
    )

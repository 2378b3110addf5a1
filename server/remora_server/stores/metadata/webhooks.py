"""Endpoints of webhooks, and deliveries to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import peewee

from remora_server.core.model import (
    DeliveryState,
    DisabledReason,
    Micros,
    Subject,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookFormat,
)
from remora_server.core.ports import DeliveryQuery, Position
from remora_server.stores.database import Row
from remora_server.stores.kept import Query, Slot, kept, kept_insert, kept_update
from remora_server.stores.metadata.rows import Rows, before, decode_json, encode_metadata, place
from remora_server.stores.tables import EMPTY, Activities, WebhookDeliveries, WebhookEndpoints

FIXED = (
    WebhookEndpoints.id,
    WebhookEndpoints.workspace_id,
    WebhookEndpoints.creator_id,
    WebhookEndpoints.create_time,
)
MUTABLE = (
    WebhookEndpoints.url,
    WebhookEndpoints.types,
    WebhookEndpoints.subjects,
    WebhookEndpoints.format,
    WebhookEndpoints.description,
    WebhookEndpoints.disabled_reason,
    WebhookEndpoints.secret,
    WebhookEndpoints.previous_secret,
    WebhookEndpoints.previous_secret_expire_time,
    WebhookEndpoints.reader_id,
    WebhookEndpoints.update_time,
    WebhookEndpoints.version,
    WebhookEndpoints.log_cursor,
    WebhookEndpoints.attempts,
    WebhookEndpoints.failing_since,
    WebhookEndpoints.due_time,
    WebhookEndpoints.claim_time,
    WebhookEndpoints.epoch,
)
ENDPOINT = (*FIXED, *MUTABLE)
CREATOR = place(ENDPOINT, WebhookEndpoints.creator_id)
ADD_ENDPOINT = kept_insert(WebhookEndpoints, ENDPOINT)
UPDATE_ENDPOINT = kept_update(WebhookEndpoints, MUTABLE, WebhookEndpoints.id)
TOLD = (
    WebhookDeliveries.state,
    WebhookDeliveries.attempts,
    WebhookDeliveries.status,
    WebhookDeliveries.error,
    WebhookDeliveries.duration,
    WebhookDeliveries.attempt_time,
    WebhookDeliveries.next_time,
)
DELIVERY = (
    WebhookDeliveries.id,
    WebhookDeliveries.workspace_id,
    WebhookDeliveries.endpoint_id,
    WebhookDeliveries.activity_id,
    WebhookDeliveries.activity_type,
    WebhookDeliveries.create_time,
    *TOLD,
)
ADD_DELIVERY = kept_insert(WebhookDeliveries, DELIVERY)
UPDATE_DELIVERY = kept_update(WebhookDeliveries, TOLD, WebhookDeliveries.id)


@kept
def _endpoint_by_id(workspace_id: Slot, endpoint_id: Slot) -> Query:
    return WebhookEndpoints.select(*ENDPOINT).where(
        WebhookEndpoints.id == endpoint_id, WebhookEndpoints.workspace_id == workspace_id
    )


@kept
def _enabled() -> Query:
    enabled = WebhookEndpoints.disabled_reason == EMPTY
    return WebhookEndpoints.select(*ENDPOINT).where(enabled).order_by(WebhookEndpoints.id)


@kept
def _any_enabled() -> Query:
    return WebhookEndpoints.select(WebhookEndpoints.id).where(WebhookEndpoints.disabled_reason == EMPTY).limit(1)


@kept
def _delivery_by_id(workspace_id: Slot, delivery_id: Slot) -> Query:
    return WebhookDeliveries.select(*DELIVERY).where(
        WebhookDeliveries.id == delivery_id, WebhookDeliveries.workspace_id == workspace_id
    )


@kept
def _delivery_of(endpoint_id: Slot, activity_id: Slot) -> Query:
    return WebhookDeliveries.select(*DELIVERY).where(
        WebhookDeliveries.endpoint_id == endpoint_id, WebhookDeliveries.activity_id == activity_id
    )


class WebhookRows(Rows):
    """Endpoints and deliveries."""

    def add_webhook_endpoint(self, new: WebhookEndpoint) -> None:
        """Insert an endpoint."""
        fixed = (new.id, new.workspace_id, new.creator.id, new.create_time)
        self._db.write(ADD_ENDPOINT, *fixed, *_mutable(new))

    def webhook_endpoint(self, workspace_id: str, endpoint_id: str) -> WebhookEndpoint | None:
        """Find an endpoint by id."""
        row = self._db.row(_endpoint_by_id, workspace_id, endpoint_id)
        return None if row is None else self._endpoint(row)

    def update_webhook_endpoint(self, changed: WebhookEndpoint) -> None:
        """Write all mutable fields of an endpoint."""
        self._db.write(UPDATE_ENDPOINT, *_mutable(changed), changed.id)

    def delete_webhook_endpoint(self, endpoint_id: str) -> None:
        """Remove an endpoint for good; its deliveries, which nobody finds any more, go with time."""
        self._db.execute(WebhookEndpoints.delete().where(WebhookEndpoints.id == endpoint_id))

    def list_webhook_endpoints(
        self, workspace_id: str, after: Position | None, limit: int
    ) -> Sequence[WebhookEndpoint]:
        """Return endpoints by (create_time, id) downwards."""
        query = WebhookEndpoints.select(*ENDPOINT).where(WebhookEndpoints.workspace_id == workspace_id)
        if after is not None:
            query = query.where(before(WebhookEndpoints.create_time, WebhookEndpoints.id, after))
        newest_first = (WebhookEndpoints.create_time.desc(), WebhookEndpoints.id.desc())
        return self._endpoints(self._db.select(query.order_by(*newest_first).limit(limit)))

    def count_webhook_endpoints(self, workspace_id: str) -> int:
        """Count what list_webhook_endpoints would return in all."""
        count = WebhookEndpoints.select(peewee.fn.COUNT(WebhookEndpoints.id))
        return self._count(count.where(WebhookEndpoints.workspace_id == workspace_id))

    def enabled_webhook_endpoints(self) -> Sequence[WebhookEndpoint]:
        """Return the endpoints of all workspaces that are enabled."""
        return self._endpoints(self._db.rows(_enabled))

    def count_given_up_webhook_endpoints(self) -> int:
        """Count the endpoints of all workspaces that the service disabled."""
        count = WebhookEndpoints.select(peewee.fn.COUNT(WebhookEndpoints.id))
        given_up = [DisabledReason.FAILING.value, DisabledReason.GONE.value]
        return self._count(count.where(WebhookEndpoints.disabled_reason.in_(given_up)))

    def has_enabled_webhook_endpoint(self) -> bool:
        """Tell whether there is any of them, quickly."""
        return self._db.row(_any_enabled) is not None

    def add_webhook_delivery(self, new: WebhookDelivery) -> None:
        """Insert a delivery."""
        fixed = (new.id, new.workspace_id, new.endpoint_id, new.activity_id, new.activity_type, new.create_time)
        self._db.write(ADD_DELIVERY, *fixed, *_told(new))

    def update_webhook_delivery(self, changed: WebhookDelivery) -> None:
        """Write all mutable fields of a delivery."""
        self._db.write(UPDATE_DELIVERY, *_told(changed), changed.id)

    def webhook_delivery(self, workspace_id: str, delivery_id: str) -> WebhookDelivery | None:
        """Find a delivery by id."""
        row = self._db.row(_delivery_by_id, workspace_id, delivery_id)
        return None if row is None else _delivery(row)

    def webhook_delivery_of(self, endpoint_id: str, activity_id: str) -> WebhookDelivery | None:
        """Find the delivery of an activity to an endpoint."""
        row = self._db.row(_delivery_of, endpoint_id, activity_id)
        return None if row is None else _delivery(row)

    def list_webhook_deliveries(
        self, query: DeliveryQuery, after: Position | None, limit: int
    ) -> Sequence[WebhookDelivery]:
        """Return deliveries by (create_time, id) downwards."""
        wanted = WebhookDeliveries.select(*DELIVERY).where(WebhookDeliveries.endpoint_id == query.endpoint_id)
        if query.states:
            wanted = wanted.where(WebhookDeliveries.state.in_([state.value for state in query.states]))
        if query.reader:
            # What is no longer in the log has nobody who may see it.
            log = WebhookDeliveries.activity_id == Activities.id
            seen = (Activities.visible_to == EMPTY) | (Activities.visible_to == query.reader)
            wanted = wanted.join(Activities, on=log).where(seen)
        if after is not None:
            wanted = wanted.where(before(WebhookDeliveries.create_time, WebhookDeliveries.id, after))
        newest_first = (WebhookDeliveries.create_time.desc(), WebhookDeliveries.id.desc())
        return [_delivery(row) for row in self._db.select(wanted.order_by(*newest_first).limit(limit))]

    def delete_webhook_deliveries(self, before: Micros, limit: int) -> int:
        """Forget deliveries that were last tried before a time, at most so many; return how many."""
        old = WebhookDeliveries.select(WebhookDeliveries.id).where(WebhookDeliveries.attempt_time < before)
        return self._db.execute(WebhookDeliveries.delete().where(WebhookDeliveries.id.in_(old.limit(limit))))

    def _endpoints(self, rows: Sequence[Row]) -> Sequence[WebhookEndpoint]:
        self._actors.prepare(row[CREATOR] for row in rows)
        return [self._endpoint(row) for row in rows]

    def _endpoint(self, row: Row) -> WebhookEndpoint:
        # fmt: off
        (
            id_, workspace_id, creator_id, create_time, url, types, subjects, format_, description, disabled_reason,
            secret, previous_secret, previous_secret_expire_time, reader_id, update_time, version, cursor, attempts,
            failing_since, due_time, claim_time, epoch,
        ) = row
        # fmt: on
        return WebhookEndpoint(
            id=id_,
            workspace_id=workspace_id,
            url=url,
            types=tuple(types.split(",")) if types else (),
            subjects=tuple(Subject(*one) for one in decode_json(subjects)) if subjects else (),
            format=WebhookFormat(format_),
            description=description,
            disabled_reason=DisabledReason(disabled_reason),
            secret=bytes(secret),
            previous_secret=bytes(previous_secret),
            previous_secret_expire_time=previous_secret_expire_time,
            creator=self._actors[creator_id],
            reader_id=reader_id,
            create_time=create_time,
            update_time=update_time,
            version=version,
            cursor=cursor,
            attempts=attempts,
            failing_since=failing_since,
            due_time=due_time,
            claim_time=claim_time,
            epoch=epoch,
        )


def _mutable(endpoint: WebhookEndpoint) -> tuple[object, ...]:
    return (
        endpoint.url,
        ",".join(endpoint.types),
        encode_metadata([(one.type, one.id, one.key) for one in endpoint.subjects]),
        endpoint.format.value,
        endpoint.description,
        endpoint.disabled_reason.value,
        endpoint.secret,
        endpoint.previous_secret,
        endpoint.previous_secret_expire_time,
        endpoint.reader_id,
        endpoint.update_time,
        endpoint.version,
        endpoint.cursor,
        endpoint.attempts,
        endpoint.failing_since,
        endpoint.due_time,
        endpoint.claim_time,
        endpoint.epoch,
    )


def _told(delivery: WebhookDelivery) -> tuple[Any, ...]:
    return (
        delivery.state.value,
        delivery.attempts,
        delivery.status,
        delivery.error,
        delivery.duration,
        delivery.attempt_time,
        delivery.next_time,
    )


def _delivery(row: Row) -> WebhookDelivery:
    # fmt: off
    (
        id_, workspace_id, endpoint_id, activity_id, activity_type, create_time, state, attempts, status, error,
        duration, attempt_time, next_time,
    ) = row
    # fmt: on
    return WebhookDelivery(
        id=id_,
        workspace_id=workspace_id,
        endpoint_id=endpoint_id,
        activity_id=activity_id,
        activity_type=activity_type,
        state=DeliveryState(state),
        attempts=attempts,
        status=status,
        error=error,
        duration=duration,
        create_time=create_time,
        attempt_time=attempt_time,
        next_time=next_time,
    )

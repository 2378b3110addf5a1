"""What every metadata store does with endpoints of webhooks and deliveries."""

from __future__ import annotations

from dataclasses import replace

from remora_server.core import ids
from remora_server.core.model import (
    DeliveryState,
    DisabledReason,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookFormat,
)
from remora_server.core.ports import ActivityQuery, DeliveryQuery, MetadataStore
from tests.stores.samples import NOW, Tenant, subject, walk


def endpoint_of(acme: Tenant, create_time: int = NOW) -> WebhookEndpoint:
    """Make an endpoint with something in every field."""
    return WebhookEndpoint(
        id=ids.new_id(ids.WEBHOOK_ENDPOINT),
        workspace_id=acme.id,
        url="https://e.org/ünder",
        types=("link.created.v1", "link.deleted.v1"),
        subjects=(subject(1), subject(2)),
        format=WebhookFormat.LINEAR,
        description="d",
        disabled_reason=DisabledReason.NONE,
        secret=b"\0\xff",
        previous_secret=b"\x01",
        previous_secret_expire_time=NOW + 1,
        creator=acme.jo,
        reader_id=acme.kim.id,
        create_time=create_time,
        update_time=NOW,
        version=1,
        cursor=2**40,
        attempts=3,
        failing_since=NOW,
        due_time=NOW + 2,
        claim_time=NOW + 3,
        epoch=4,
    )


def delivery_of(endpoint: WebhookEndpoint, number: int = 0) -> WebhookDelivery:
    """Make a delivery."""
    return WebhookDelivery(
        id=ids.new_id(ids.WEBHOOK_DELIVERY),
        workspace_id=endpoint.workspace_id,
        endpoint_id=endpoint.id,
        activity_id=ids.new_id(ids.ACTIVITY),
        activity_type="link.created.v1",
        state=DeliveryState.PENDING,
        attempts=1,
        status=500,
        error="e",
        duration=7,
        create_time=NOW + number // 3,
        attempt_time=NOW + number,
        next_time=NOW + 9,
    )


class WebhookContract:
    """Endpoints and deliveries."""

    def test_webhook_endpoints(self, store: MetadataStore, acme: Tenant) -> None:
        """They come back as they were, until they are gone."""
        made = endpoint_of(acme)
        store.add_webhook_endpoint(made)
        assert store.webhook_endpoint(acme.id, made.id) == made
        assert store.webhook_endpoint("wks_other", made.id) is None
        changed = replace(
            made,
            url="https://e.org/2",
            types=(),
            subjects=(),
            format=WebhookFormat.STANDARD,
            previous_secret=b"",
            previous_secret_expire_time=None,
            failing_since=None,
            cursor=2**41,
            reader_id=acme.jo.id,
            version=2,
        )
        store.update_webhook_endpoint(changed)
        assert store.webhook_endpoint(acme.id, made.id) == changed
        store.delete_webhook_endpoint(made.id)
        assert store.webhook_endpoint(acme.id, made.id) is None

    def test_webhook_endpoints_list(self, store: MetadataStore, acme: Tenant) -> None:
        """Newest first; and those of all workspaces that are enabled."""
        made = [endpoint_of(acme, NOW + number // 3) for number in range(8)]
        for one in made:
            store.add_webhook_endpoint(one)
        found = walk(
            lambda after, limit: store.list_webhook_endpoints(acme.id, after, limit), lambda x: (x.create_time, x.id)
        )
        assert found == sorted(made, key=lambda x: (x.create_time, x.id), reverse=True)
        assert store.count_webhook_endpoints(acme.id) == 8
        assert store.count_webhook_endpoints("wks_other") == 0
        ours = {one.id for one in made}
        enabled = [one for one in store.enabled_webhook_endpoints() if one.id in ours]
        assert enabled == sorted(made, key=lambda x: x.id)
        given_up = store.count_given_up_webhook_endpoints()
        store.update_webhook_endpoint(replace(enabled[0], disabled_reason=DisabledReason.REQUESTED))
        assert store.count_given_up_webhook_endpoints() == given_up
        store.update_webhook_endpoint(replace(enabled[0], disabled_reason=DisabledReason.FAILING))
        assert store.count_given_up_webhook_endpoints() == given_up + 1
        store.update_webhook_endpoint(enabled[0])
        for one in enabled:
            assert store.has_enabled_webhook_endpoint()
            store.update_webhook_endpoint(replace(one, disabled_reason=DisabledReason.GONE))
        assert not ours.intersection(one.id for one in store.enabled_webhook_endpoints())
        assert store.count_given_up_webhook_endpoints() == given_up + len(enabled)

    def test_webhook_deliveries(self, store: MetadataStore, acme: Tenant) -> None:
        """One for each activity and endpoint; they go with time, also when their endpoint has gone."""
        endpoint, other = endpoint_of(acme), endpoint_of(acme)
        store.add_webhook_endpoint(endpoint)
        store.add_webhook_endpoint(other)
        made = [delivery_of(endpoint, number) for number in range(8)]
        for one in (*made, delivery_of(other)):
            store.add_webhook_delivery(one)
        assert store.webhook_delivery(acme.id, made[0].id) == made[0]
        assert store.webhook_delivery("wks_other", made[0].id) is None
        assert store.webhook_delivery_of(endpoint.id, made[1].activity_id) == made[1]
        assert store.webhook_delivery_of(other.id, made[1].activity_id) is None
        changed = replace(made[0], state=DeliveryState.SUCCEEDED, attempts=2, status=204, error="", next_time=None)
        store.update_webhook_delivery(changed)
        query = DeliveryQuery(endpoint.id)
        found = walk(
            lambda after, limit: store.list_webhook_deliveries(query, after, limit), lambda x: (x.create_time, x.id)
        )
        assert found == sorted([changed, *made[1:]], key=lambda x: (x.create_time, x.id), reverse=True)
        taken = store.list_webhook_deliveries(DeliveryQuery(endpoint.id, (DeliveryState.SUCCEEDED,)), None, 9)
        assert taken == [changed]
        store.add_activity(replace(acme.activity(), id=made[2].activity_id, visible_to=acme.jo.id))
        store.add_activity(replace(acme.activity(), id=made[3].activity_id))
        for reader, seen in ((acme.jo.id, {made[2].id, made[3].id}), (acme.kim.id, {made[3].id})):
            listed = store.list_webhook_deliveries(DeliveryQuery(endpoint.id, reader=reader), None, 9)
            assert {one.id for one in listed} == seen
        assert [store.delete_webhook_deliveries(NOW + 5, 4) for _ in range(3)] == [4, 2, 0]
        assert len(store.list_webhook_deliveries(query, None, 9)) == 3
        store.delete_webhook_endpoint(endpoint.id)
        assert len(store.list_webhook_deliveries(query, None, 9)) == 3
        assert store.delete_webhook_deliveries(NOW + 9, 99) == 3

    def test_what_is_behind_a_place_in_the_log(self, store: MetadataStore, acme: Tenant) -> None:
        """It is counted up to a limit."""
        _, before = store.activity_bounds()
        for _ in range(5):
            store.add_activity(acme.activity())
        query = ActivityQuery(acme.id, reader=acme.jo.id, newest_first=False)
        assert store.count_activities_behind(query, before, 9) == 5
        assert store.count_activities_behind(query, before, 3) == 3
        first = store.list_activities(query, (before,), 1)[0]
        assert store.count_activities_behind(query, first.seq, 9) == 4
        assert store.count_activities_behind(replace(query, types=("none.such.v1",)), before, 9) == 0

"""WebhookService, and what reaches receivers over real sockets."""

from __future__ import annotations

import hashlib
import hmac
import json
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import grpc
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from remora.v1 import activity_service_pb2 as activity_pb
from remora.v1 import common_pb2, webhook_pb2
from remora.v1 import link_service_pb2 as link_pb
from remora.v1 import webhook_service_pb2 as pb
from tests.receiving import LOOPBACK, Receiver, receiving
from tests.rpc.asking import create as create_attachment
from tests.rpc.asking import delete as delete_attachment
from tests.rpc.asking import second_user, upload
from tests.running import Api, Refusal, RunningServer, issue, refused, until
from tests.ticketing import ask

CODE = grpc.StatusCode
LINKS = ["link.created.v1"]
GIVE_UP_SECONDS = 2.0
Create = Callable[..., pb.CreateWebhookEndpointResponse]


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Share a server that may send to this machine, and gives up soon."""
    environment = {
        "REMORA_ALLOWED_NETWORKS": LOOPBACK,
        "REMORA_WEBHOOK_GIVE_UP": f"{GIVE_UP_SECONDS}s",
        "REMORA_WEBHOOK_TIMEOUT": "1s",
    }
    running = RunningServer(tmp_path_factory.mktemp("hooked") / "data", environment=environment).start()
    yield running
    running.signal(signal.SIGKILL)
    running.wait()


@pytest.fixture
def hooks(hooked: RunningServer) -> Api:
    """Stubs that call it."""
    return hooked.api()


@pytest.fixture
def create(hooks: Api) -> Iterator[Create]:
    """Create endpoints that are gone after the test."""
    made: list[str] = []

    def make(url: str, request_id: str = "", **options: Any) -> pb.CreateWebhookEndpointResponse:
        wanted = webhook_pb2.WebhookEndpoint(workspace_id="demo", url=url, **options)
        response = hooks.webhooks.CreateWebhookEndpoint(
            pb.CreateWebhookEndpointRequest(webhook_endpoint=wanted, request_id=request_id)
        )
        made.append(response.webhook_endpoint.id)
        return response

    yield make
    for one in made:
        request = pb.DeleteWebhookEndpointRequest(webhook_endpoint_id=one, allow_missing=True)
        hooks.webhooks.DeleteWebhookEndpoint(request)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver that takes everything."""
    with receiving() as one:
        yield one


def link(api: Api, key: str, number: int = 0) -> str:
    """Make something happen; return the id of what was made."""
    url = f"https://example.com/{key}/{number}"
    return api.links.CreateLink(link_pb.CreateLinkRequest(workspace_id="demo", subject=issue(key), url=url)).link.id


def get(api: Api, endpoint_id: str) -> webhook_pb2.WebhookEndpoint:
    """Read an endpoint."""
    request = pb.GetWebhookEndpointRequest(webhook_endpoint_id=endpoint_id)
    return api.webhooks.GetWebhookEndpoint(request).webhook_endpoint


def update(api: Api, **fields: Any) -> webhook_pb2.WebhookEndpoint:
    """Change an endpoint."""
    request = pb.UpdateWebhookEndpointRequest(webhook_endpoint=webhook_pb2.WebhookEndpoint(**fields))
    return api.webhooks.UpdateWebhookEndpoint(request).webhook_endpoint


def rotate(api: Api, endpoint_id: str) -> pb.RotateWebhookSecretResponse:
    """Give an endpoint a new secret."""
    return api.webhooks.RotateWebhookSecret(pb.RotateWebhookSecretRequest(webhook_endpoint_id=endpoint_id))


def try_out(api: Api, endpoint_id: str) -> webhook_pb2.WebhookAttempt:
    """Have an endpoint tested."""
    return api.webhooks.TestWebhookEndpoint(pb.TestWebhookEndpointRequest(webhook_endpoint_id=endpoint_id)).attempt


def deliveries(api: Api, endpoint_id: str, **options: Any) -> list[webhook_pb2.WebhookDelivery]:
    """List the deliveries to an endpoint."""
    request = pb.ListWebhookDeliveriesRequest(workspace_id="demo", webhook_endpoint_id=endpoint_id, **options)
    return list(api.webhooks.ListWebhookDeliveries(request).webhook_deliveries)


def redeliver(api: Api, delivery: webhook_pb2.WebhookDelivery) -> webhook_pb2.WebhookDelivery:
    """Have something sent once more."""
    return api.webhooks.RedeliverWebhook(pb.RedeliverWebhookRequest(webhook_delivery_id=delivery.id)).webhook_delivery


def test_what_happens_is_sent_in_order(hooks: Api, create: Create, receiver: Receiver, new_issue: str) -> None:
    """Each activity once, in the order of the log; the standardwebhooks library takes the signature (P40)."""
    made = create(receiver.url, types=LINKS)
    told = [link(hooks, new_issue, number) for number in range(40)]
    received = receiver.wait(40)
    for one in received:
        Webhook(made.secret).verify(one.body, dict(one.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(made.secret).verify(received[0].body + b" ", dict(received[0].headers))
    assert [one.json["data"]["resource_id"] for one in received] == told
    listed = hooks.activity.ListActivities(
        activity_pb.ListActivitiesRequest(workspace_id="demo", subject=issue(new_issue), page_size=100, types=LINKS)
    ).activities
    assert [one.id for one in received] == [one.id for one in listed][::-1]
    until(lambda: len(deliveries(hooks, made.webhook_endpoint.id)) == 40)
    assert {one.attempt_count for one in deliveries(hooks, made.webhook_endpoint.id)} == {1}


def test_an_attempt_that_fails_is_made_again(hooks: Api, create: Create, new_issue: str) -> None:
    """Under the same id, in the same order, with a time of its own; what is behind it waits (P40)."""
    with receiving(lambda number: 500 if number == 0 else 204) as broken:
        made = create(broken.url, types=LINKS)
        told = [link(hooks, new_issue, number) for number in range(2)]
        received = broken.wait(3)
        assert received[0].id == received[1].id != received[2].id
        assert [one.json["data"]["resource_id"] for one in received] == [told[0], *told]
        for one in received:
            Webhook(made.secret).verify(one.body, dict(one.headers))
        until(lambda: len(deliveries(hooks, made.webhook_endpoint.id)) == 2)
        assert [one.attempt_count for one in deliveries(hooks, made.webhook_endpoint.id)] == [1, 2]
        assert not get(hooks, made.webhook_endpoint.id).HasField("failing_since")


def test_one_that_does_not_answer_delays_no_other(
    hooked: RunningServer, hooks: Api, create: Create, receiver: Receiver, new_issue: str
) -> None:
    """A receiver that never answers, and one that is gone, beside one that is well (P40); the queue is told."""
    answer = threading.Event()
    with receiving(lambda _: 204 if answer.wait(30) else 500) as silent:
        with receiving() as gone:
            pass
        for one in (silent, gone):
            for _ in range(3):
                create(one.url, types=LINKS)
        create(receiver.url, types=LINKS)
        for number in range(5):
            link(hooks, new_issue, number)
            receiver.wait(number + 1, 5.0)
        facts = json.loads(ask("GET", f"{hooked.ready['http']}/healthz").body)["webhooks"]
        assert facts["waiting"] >= 0
        until(lambda: json.loads(ask("GET", f"{hooked.ready['http']}/healthz").body)["webhooks"]["waiting"] >= 15)
        answer.set()


def test_two_secrets(hooks: Api, create: Create, receiver: Receiver, new_issue: str) -> None:
    """After a rotation both sign, so that a receiver may know either; nothing else tells a secret."""
    made = create(receiver.url, types=LINKS)
    endpoint_id = made.webhook_endpoint.id
    second = rotate(hooks, endpoint_id)
    assert second.webhook_endpoint.HasField("previous_secret_expire_time")
    link(hooks, new_issue)
    (received,) = receiver.wait(1)
    for secret in (made.secret, second.secret):
        Webhook(secret).verify(received.body, dict(received.headers))
    third = rotate(hooks, endpoint_id)
    assert try_out(hooks, endpoint_id).succeeded
    tested = receiver.wait(2)[1]
    with pytest.raises(WebhookVerificationError):
        Webhook(made.secret).verify(tested.body, dict(tested.headers))
    Webhook(third.secret).verify(tested.body, dict(tested.headers))
    listing = pb.ListWebhookEndpointsRequest(workspace_id="demo")
    shown = str(hooks.webhooks.ListWebhookEndpoints(listing)) + str(get(hooks, endpoint_id))
    assert "whsec_" not in shown


def test_secrets_lie_sealed(hooked: RunningServer, create: Create, receiver: Receiver) -> None:
    """Neither the row, nor the answer that is kept for a repeat, holds a secret; a repeat is not told it again."""
    request_id = str(uuid4())
    made = create(receiver.url, request_id, enabled=False)
    again = create(receiver.url, request_id, enabled=False)
    assert again.webhook_endpoint == made.webhook_endpoint
    assert (made.secret[:6], again.secret) == ("whsec_", "")
    kept = hooked.sql("SELECT secret FROM webhook_endpoints") + hooked.sql("SELECT answer FROM repeats")
    assert kept
    assert not [row for row in kept if made.secret.encode() in bytes(row[0]) or b"whsec_" in bytes(row[0])]


def test_giving_up(hooks: Api, create: Create, new_issue: str) -> None:
    """An endpoint that fails for too long is disabled, and the log tells so; enabled, it goes on where it stopped."""
    with receiving(lambda _: 503) as broken:
        made = create(broken.url, types=LINKS).webhook_endpoint
        told = link(hooks, new_issue)
        until(lambda: not get(hooks, made.id).enabled)
        disabled = get(hooks, made.id)
        assert disabled.disabled_reason == webhook_pb2.WEBHOOK_DISABLED_REASON_FAILING
        assert disabled.etag != made.etag
        assert {one.id for one in broken.received} == {broken.received[0].id}
        assert len(broken.received) >= 2
        (event,) = hooks.activity.ListActivities(
            activity_pb.ListActivitiesRequest(workspace_id="demo", types=["webhook_endpoint.disabled.v1"], page_size=1)
        ).activities
        assert (event.resource_id, event.actor.kind) == (made.id, common_pb2.ACTOR_KIND_SYSTEM)
        (failed,) = deliveries(hooks, made.id, states=[webhook_pb2.WEBHOOK_DELIVERY_STATE_FAILED])
        assert (failed.response_status, failed.attempt_count) == (503, len(broken.received))
        count = len(broken.received)
        broken.answer = lambda _: 204
        update(hooks, id=made.id, enabled=True)
        assert broken.wait(count + 1)[-1].json["data"]["resource_id"] == told
        until(lambda: not deliveries(hooks, made.id, states=[webhook_pb2.WEBHOOK_DELIVERY_STATE_FAILED]))


def test_gone(hooks: Api, create: Create, new_issue: str) -> None:
    """A receiver that answers 410 wants no more."""
    with receiving(lambda _: 410) as gone:
        made = create(gone.url, types=LINKS).webhook_endpoint
        link(hooks, new_issue)
        until(lambda: get(hooks, made.id).disabled_reason == webhook_pb2.WEBHOOK_DISABLED_REASON_GONE)
        assert len(gone.received) == 1


def test_linears_format(hooks: Api, create: Create, receiver: Receiver, new_issue: str) -> None:
    """A receiver that checks Linear's signature is told of attachments as Linear tells, and of nothing else."""
    made = create(receiver.url, format=webhook_pb2.WEBHOOK_FORMAT_LINEAR, subjects=[])
    link(hooks, new_issue)
    card = create_attachment(hooks, new_issue, "https://example.com/card")
    delete_attachment(hooks, card.id)
    received = [one for one in receiver.wait(2) if one.json["data"]["url"] == "https://example.com/card"]
    assert [one.json["action"] for one in received] == ["create", "remove"]
    for one in received:
        expected = hmac.new(made.secret.encode(), one.body, hashlib.sha256).hexdigest()
        assert hmac.compare_digest(expected, one.headers["linear-signature"])
        assert one.headers["linear-event"] == one.json["type"] == "Attachment"
    assert len({one.headers["linear-delivery"] for one in received}) == 2
    assert not [one for one in receiver.received if "webhook-id" in one.headers]


def test_redelivery(hooks: Api, create: Create, receiver: Receiver, new_issue: str) -> None:
    """What was sent is sent again under its id, signed for that moment."""
    made = create(receiver.url, types=LINKS)
    link(hooks, new_issue)
    until(lambda: deliveries(hooks, made.webhook_endpoint.id))
    (delivery,) = deliveries(hooks, made.webhook_endpoint.id)
    again = redeliver(hooks, delivery)
    assert (again.attempt_count, again.state) == (2, webhook_pb2.WEBHOOK_DELIVERY_STATE_SUCCEEDED)
    first, second = receiver.wait(2)
    assert first.id == second.id == delivery.activity_id
    Webhook(made.secret).verify(second.body, dict(second.headers))


def test_nobody_reads_anothers_things_through_their_endpoint(
    hooked: RunningServer, hooks: Api, create: Create, receiver: Receiver
) -> None:
    """Who points another's endpoint at their own URL hears of their own files, not of the other's (P43)."""
    kim = second_user(hooked, scopes="webhooks:manage,files:read,files:write")
    with receiving() as hers:
        made = create(receiver.url, types=["file.created.v1"]).webhook_endpoint
        first = upload(hooks).id
        assert receiver.wait(1)[0].json["data"]["resource_id"] == first
        until(lambda: deliveries(hooks, made.id))
        (told,) = deliveries(hooks, made.id)
        assert deliveries(kim, made.id) == []
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            redeliver(kim, told)
        update(kim, id=made.id, url=hers.url)
        upload(hooks)
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            redeliver(hooks, told)
        own = upload(kim).id
        assert [one.json["data"]["resource_id"] for one in hers.wait(1)] == [own]
        assert len(receiver.received) == 1


def test_what_is_disabled_is_sent_nothing(hooks: Api, create: Create, receiver: Receiver, new_issue: str) -> None:
    """Until it is enabled; the backlog can be dropped."""
    made = create(receiver.url, types=LINKS, enabled=False).webhook_endpoint
    link(hooks, new_issue, 1)
    assert try_out(hooks, made.id).succeeded
    request = pb.UpdateWebhookEndpointRequest(
        webhook_endpoint=webhook_pb2.WebhookEndpoint(id=made.id, enabled=True), skip_backlog=True
    )
    hooks.webhooks.UpdateWebhookEndpoint(request)
    late = link(hooks, new_issue, 2)
    assert receiver.wait(2)[1].json["data"]["resource_id"] == late
    assert receiver.types == ["webhook_endpoint.tested.v1", "link.created.v1"]


def test_few_tests_at_once(hooks: Api, create: Create) -> None:
    """Who has many receivers tested that don't answer holds no more than a few threads of the server."""
    answer = threading.Event()
    with receiving(lambda _: 204 if answer.wait(30) else 500) as silent:
        made = create(silent.url, enabled=False).webhook_endpoint
        request = pb.TestWebhookEndpointRequest(webhook_endpoint_id=made.id)
        asked = [hooks.webhooks.TestWebhookEndpoint.future(request) for _ in range(12)]
        refusals = [Refusal(problem) for one in asked if (problem := one.exception()) is not None]
        answer.set()
    assert 1 <= len(refusals) <= 8
    assert {one.reason for one in refusals} == {"TOO_MANY_STREAMS"}
    assert all(one.retry.retry_delay.ToTimedelta() for one in refusals)


def test_a_redirect_is_not_followed(hooks: Api, create: Create, receiver: Receiver) -> None:
    """Wherever it leads: it is a failure that says so (P39)."""
    for status in (301, 302, 303, 307, 308):
        with receiving(headers={"location": receiver.url}) as redirecting:
            redirecting.answer = dict.fromkeys(range(9), status).__getitem__
            attempt = try_out(hooks, create(redirecting.url).webhook_endpoint.id)
            assert (attempt.succeeded, attempt.response_status) == (False, status)
            assert "redirects are not followed" in attempt.error
    assert receiver.received == []


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:{port}/",
        "https://[::1]:{port}/",
        "https://[::ffff:127.0.0.1]:{port}/",
        "https://[::ffff:7f00:1]:{port}/",
        "https://localhost:{port}/",
        "https://10.1.2.3/",
        "https://192.168.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[fe80::1]/",
        "https://[::::]/",
        "https://168.63.129.16/",
        "https://[fd00:ec2::254]/",
        "https://0.0.0.0:{port}/",
        "http://example.com/",
        "http://127.0.0.1:{port}/",
    ],
)
def test_where_a_server_that_was_not_told_so_does_not_send(api: Api, receiver: Receiver, url: str) -> None:
    """Loopback, private, link-local, metadata addresses are refused when an endpoint is set, and so is http (P39)."""
    wanted = webhook_pb2.WebhookEndpoint(workspace_id="demo", url=url.format(port=receiver.port))
    with refused(CODE.INVALID_ARGUMENT, "URL_NOT_ALLOWED") as seen:
        api.webhooks.CreateWebhookEndpoint(pb.CreateWebhookEndpointRequest(webhook_endpoint=wanted))
    assert seen[0].fields == ["webhook_endpoint.url"]


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "017700000001"])
def test_names_that_mean_this_machine(api: Api, receiver: Receiver, host: str) -> None:
    """What only the resolver takes for an address is refused when it is connected to; nobody hears of it (P39)."""
    wanted = webhook_pb2.WebhookEndpoint(workspace_id="demo", url=f"https://{host}:{receiver.port}/", enabled=False)
    made = api.webhooks.CreateWebhookEndpoint(pb.CreateWebhookEndpointRequest(webhook_endpoint=wanted))
    attempt = try_out(api, made.webhook_endpoint.id)
    assert not attempt.succeeded
    assert "an address that this service may not reach" in attempt.error
    assert receiver.received == []
    api.webhooks.DeleteWebhookEndpoint(
        pb.DeleteWebhookEndpointRequest(webhook_endpoint_id=made.webhook_endpoint.id, etag=made.webhook_endpoint.etag)
    )


def test_only_listed_networks_are_reached(hooks: Api, create: Create, receiver: Receiver) -> None:
    """A server that may send to this machine may not send to any other private one."""
    assert try_out(hooks, create(receiver.url).webhook_endpoint.id).succeeded
    assert try_out(hooks, create(f"http://localhost:{receiver.port}/").webhook_endpoint.id).succeeded
    with refused(CODE.INVALID_ARGUMENT, "URL_NOT_ALLOWED"):
        create("http://10.0.0.1/")


def test_bad_requests(hooks: Api, create: Create) -> None:
    """Each says which field; nothing is made."""
    with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
        create("https://example.com/", types=["everything"])
    assert seen[0].fields == ["webhook_endpoint.types"]
    with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
        create("https://example.com/", subjects=[issue("NEVER-1")])
    with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED"):
        create("https://example.com/", format=9)
    with refused(CODE.ABORTED, "ETAG_MISMATCH"):
        made = create("https://example.com/", enabled=False).webhook_endpoint
        update(hooks, id=made.id, etag='"9"', description="x")

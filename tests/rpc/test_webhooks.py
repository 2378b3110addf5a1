"""WebhookService, and what reaches receivers over real sockets."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from standardwebhooks import Webhook

from remora.v1 import link_service_pb2 as links
from remora.v1 import webhook_pb2
from remora.v1 import webhook_service_pb2 as pb
from tests.receiving import LOOPBACK, receiving
from tests.running import Api, RunningServer, issue


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Share a server that may send to this machine, and gives up soon."""
    environment = {
        "REMORA_ALLOWED_NETWORKS": LOOPBACK, "REMORA_WEBHOOK_GIVE_UP": "1.5s", "REMORA_WEBHOOK_TIMEOUT": "2s",
    }  # fmt: skip
    running = RunningServer(tmp_path_factory.mktemp("hooked") / "data", environment=environment).start()
    yield running
    running.signal(signal.SIGKILL)
    running.wait()


@pytest.fixture
def hooks(hooked: RunningServer) -> Api:
    """Stubs that call it."""
    return hooked.api()


def endpoint(api: Api, url: str, **options: Any) -> pb.CreateWebhookEndpointResponse:
    """Create an endpoint."""
    made = webhook_pb2.WebhookEndpoint(workspace_id="demo", url=url, **options)
    return api.webhooks.CreateWebhookEndpoint(pb.CreateWebhookEndpointRequest(webhook_endpoint=made))


def link(api: Api, key: str, url: str) -> str:
    """Make something happen; return the id of what was made."""
    request = links.CreateLinkRequest(workspace_id="demo", subject=issue(key), url=url)
    return api.links.CreateLink(request).link.id


def test_what_happens_is_sent(hooks: Api, new_issue: str) -> None:
    """A receiver gets each activity, in order, and the standardwebhooks library takes its signature for good."""
    with receiving() as receiver:
        made = endpoint(hooks, receiver.url, types=["link.created.v1"])
        told = [link(hooks, new_issue, f"https://example.com/{number}") for number in range(5)]
        received = receiver.wait(5)
        for one in received:
            Webhook(made.secret).verify(one.body, dict(one.headers))
        assert [one.json["data"]["resource_id"] for one in received] == told

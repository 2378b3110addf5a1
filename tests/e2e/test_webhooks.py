"""Webhooks across kills, and from several servers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from remora.v1 import activity_service_pb2 as activity_pb
from remora.v1 import link_service_pb2 as link_pb
from remora.v1 import webhook_pb2
from remora.v1 import webhook_service_pb2 as pb
from tests.e2e import readme
from tests.receiving import LOOPBACK, receiving
from tests.running import Api, RunningServer, issue, until

SETTINGS = {"REMORA_ALLOWED_NETWORKS": LOOPBACK, "REMORA_WEBHOOK_TIMEOUT": "1s"}
LINKS = ["link.created.v1"]
TAKEN = webhook_pb2.WEBHOOK_DELIVERY_STATE_SUCCEEDED
PAGE = Path(__file__).parents[2] / "server" / "docs" / "webhooks.md"


def create(api: Api, url: str) -> pb.CreateWebhookEndpointResponse:
    """Create an endpoint."""
    wanted = webhook_pb2.WebhookEndpoint(workspace_id="demo", url=url, types=LINKS)
    return api.webhooks.CreateWebhookEndpoint(pb.CreateWebhookEndpointRequest(webhook_endpoint=wanted))


def link(api: Api, number: int) -> str:
    """Make something happen; return the id of what was made."""
    request = link_pb.CreateLinkRequest(
        workspace_id="demo", subject=issue("DEMO-1"), url=f"https://example.com/{number}"
    )
    return api.links.CreateLink(request).link.id


def log(api: Api) -> list[str]:
    """Return the ids of what happened, in order."""
    request = activity_pb.ListActivitiesRequest(
        workspace_id="demo", types=LINKS, page_size=1000, order=activity_pb.ACTIVITY_ORDER_OCCUR_TIME_ASC
    )
    return [one.id for one in api.activity.ListActivities(request).activities]


def states(api: Api, endpoint_id: str) -> dict[str, int]:
    """Return how far each delivery to an endpoint is, by its activity."""
    listing = pb.ListWebhookDeliveriesRequest(workspace_id="demo", webhook_endpoint_id=endpoint_id)
    found = api.webhooks.ListWebhookDeliveries(listing).webhook_deliveries
    return {one.activity_id: one.state for one in found}


def senders(server: RunningServer) -> list[int]:
    """Return the processes of a server that send."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == server.pid and b"\0deliver\0" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Callable[[], RunningServer]]:
    """Start servers on one data directory; they are killed afterwards."""
    started: list[RunningServer] = []

    def start() -> RunningServer:
        started.append(RunningServer(tmp_path / "data", environment=SETTINGS).start())
        return started[-1]

    yield start
    for server in started:
        server.kill()


def test_a_kill_between_commit_and_delivery(servers: Callable[[], RunningServer]) -> None:
    """SIGKILL of the server and of what sends: each acknowledged change is told, in order, under one id (P40)."""
    server = servers()
    api = server.api()
    held = threading.Event()
    with receiving(lambda number: 204 if number == 0 or held.wait(60) else 500) as receiver:
        made = create(api, receiver.url)
        for number in range(8):
            link(api, number)
        expected = log(api)
        receiver.wait(2)
        # The first one was taken, which is kept by now; the second is on its way; those behind it were not sent.
        until(lambda: states(api, made.webhook_endpoint.id).get(expected[0]) == TAKEN)
        (sender,) = senders(server)
        os.kill(sender, signal.SIGKILL)
        server.kill()
        before = [one.id for one in receiver.received]
        assert (before[0], set(before[1:])) == (expected[0], {expected[1]})
        held.set()
        server.restart()
        until(lambda: {one.id for one in receiver.received} == set(expected), 30.0)
        told = [one.id for one in receiver.received]
        assert list(dict.fromkeys(told)) == expected
        # Again came only what nobody had taken.
        assert [one for one in set(told) if told.count(one) > 1] == [expected[1]]
        for one in receiver.received:
            Webhook(made.secret).verify(one.body, dict(one.headers))
        assert log(server.api()) == expected


def test_the_process_that_sends_is_killed(servers: Callable[[], RunningServer]) -> None:
    """The server goes on without it, and starts another; when the server ends in order, so does that."""
    server = servers()
    with receiving() as receiver:
        create(server.api(), receiver.url)
        until(lambda: senders(server))
        os.kill(senders(server)[0], signal.SIGKILL)
        link(server.api(), 1)
        receiver.wait(1)
        (sender,) = senders(server)
        assert server.stop() == 0
        assert not Path(f"/proc/{sender}").exists()
        # A killed server takes it along.
        server.restart()
        until(lambda: senders(server))
        (sender,) = senders(server)
        server.kill()
        until(lambda: not Path(f"/proc/{sender}").exists())


def test_two_servers_send_each_once(servers: Callable[[], RunningServer]) -> None:
    """Two servers of one database share the work, and no receiver is told anything twice or out of order."""
    one, other = servers(), servers()
    with receiving() as first, receiving() as second:
        for receiver in (first, second):
            create(one.api(), receiver.url)
        until(lambda: senders(one) and senders(other))
        apis = [one.api(), other.api()]
        for number in range(60):
            link(apis[number % 2], number)
        expected = log(apis[0])
        for receiver in (first, second):
            assert [sent.id for sent in receiver.wait(60, 30.0)] == expected
        (endpoint, _) = (
            apis[0].webhooks.ListWebhookEndpoints(pb.ListWebhookEndpointsRequest(workspace_id="demo")).webhook_endpoints
        )
        listing = pb.ListWebhookDeliveriesRequest(workspace_id="demo", webhook_endpoint_id=endpoint.id)
        until(lambda: len(apis[1].webhooks.ListWebhookDeliveries(listing).webhook_deliveries) == 60)
        assert len(first.received) == len(second.received) == 60


def test_a_sender_of_its_own(servers: Callable[[], RunningServer]) -> None:
    """`remora-server deliver` sends without a server, until it is told to end."""
    server = servers()
    with receiving(lambda _: 500) as receiver:
        create(server.api(), receiver.url)
        link(server.api(), 1)
        receiver.wait(1)
        assert server.stop() == 0
        receiver.answer = lambda _: 204
        command = [sys.executable, "-m", "remora_server", "deliver", "--data", str(server.data)]
        with subprocess.Popen(command, env=server.environment, stdin=subprocess.DEVNULL) as sender:
            *_, last = receiver.wait(len(receiver.received) + 1)
            assert last.id == receiver.received[0].id
            sender.terminate()
            assert sender.wait(20) == 0


def test_the_receiver_of_the_page(servers: Callable[[], RunningServer], tmp_path: Path) -> None:
    """What the page tells a reader to run takes what it is sent, and refuses what was signed by another secret."""
    (program,) = readme.blocks("python", PAGE)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = tmp_path / "receiver.py"
    path.write_text(program.replace("9000", str(port)))
    api = servers().api()
    endpoint = create(api, f"http://127.0.0.1:{port}/")
    command = [sys.executable, str(path)]
    environment = {**os.environ, "WEBHOOK_SECRET": endpoint.secret}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        request = pb.TestWebhookEndpointRequest(webhook_endpoint_id=endpoint.webhook_endpoint.id)
        until(lambda: api.webhooks.TestWebhookEndpoint(request).attempt.succeeded)
        assert receiver.stdout.readline().split()[1] == "webhook_endpoint.tested.v1"
        link(api, 1)
        assert receiver.stdout.readline().split()[1] == "link.created.v1"
        for _ in range(2):
            rotating = pb.RotateWebhookSecretRequest(webhook_endpoint_id=endpoint.webhook_endpoint.id)
            api.webhooks.RotateWebhookSecret(rotating)
        assert api.webhooks.TestWebhookEndpoint(request).attempt.response_status == 401
        assert receiver.stdout.readline().startswith("refused:")
        receiver.terminate()

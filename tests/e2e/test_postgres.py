"""Servers on a real PostgreSQL: one that goes away and comes back, and several servers on one database."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from remora.v1 import activity_service_pb2 as activity_pb
from remora.v1 import attachment_service_pb2 as pb
from remora.v1 import link_service_pb2 as link_pb
from tests import postgres
from tests.e2e.programs import REMORA, REMORA_SERVER, clean_environment, environment_for, run
from tests.postgres import Cluster
from tests.rpc.asking import WORKSPACE, at_once, card, outcome_of
from tests.running import Api, RunningServer, issue, refused, until
from tests.uploading import KIB, direct, read, upload

CODE = grpc.StatusCode
CALLERS = 16
DEADLINE_SECONDS = 20.0
AWAY_SECONDS = 3.0

Servers = Callable[[str], RunningServer]


@pytest.fixture
def on(tmp_path: Path) -> Iterator[Servers]:
    """Start servers on a database, each with a data directory of its own but one directory of blobs."""
    started: list[RunningServer] = []

    def start(url: str) -> RunningServer:
        settings = {"REMORA_DATABASE_URL": url, "REMORA_BLOBS": (tmp_path / "blobs").as_uri()}
        started.append(RunningServer(tmp_path / f"data{len(started)}", environment=settings).start())
        return started[-1]

    yield start
    for server in started:
        server.signal(signal.SIGKILL)
        server.wait()


@pytest.fixture
def url() -> Iterator[str]:
    """Make a database with nothing in it."""
    with postgres.new_database() as made:
        yield made


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Start a PostgreSQL that may be stopped."""
    with postgres.own_cluster() as made:
        yield made


def upsert_request(key: str, url: str, title: str = "") -> pb.UpsertAttachmentRequest:
    """Return an upsert."""
    return pb.UpsertAttachmentRequest(attachment=card(key, url, title=title))


class Caller:
    """Makes one change after the other until it is told to end, and notes what it was told."""

    def __init__(self, number: int) -> None:
        self.key = f"AWAY-{number}"
        self.cards: dict[str, str] = {}  # By URL, as acknowledged.
        self.files: dict[str, bytes] = {}
        self.links: set[str] = set()
        self.tried: set[str] = set()
        self.refusals: list[tuple[grpc.StatusCode, float]] = []
        self.acknowledged: list[float] = []
        self._ending = threading.Event()

    def work(self, address: str, key: str) -> None:
        """Call until the end."""
        with direct(address, key) as api:
            for step in range(10**6):
                if self._ending.is_set():
                    return
                began = time.monotonic()
                try:
                    self._call(api, step)
                except grpc.RpcError as error:
                    self.refusals.append((error.code(), time.monotonic() - began))
                    self._ending.wait(0.05)
                else:
                    self.acknowledged.append(time.monotonic())

    def end(self) -> None:
        """Have the calls end."""
        self._ending.set()

    def _call(self, api: Api, step: int) -> None:
        address = f"https://away.example/{step}"
        if step % 3 == 0:
            self.tried.add(address)
            answer = api.attachments.UpsertAttachment(upsert_request(self.key, address), timeout=DEADLINE_SECONDS)
            self.cards[address] = answer.attachment.id
        elif step % 3 == 1:
            data = f"{self.key} {step}".encode() * (1 if step % 2 else 10_000)
            stored = upload(api, data, name=f"{step}.txt", attach_to=self.key)
            self.files[stored.file.id] = data
        else:
            subject = issue(self.key)
            request = link_pb.CreateLinkRequest(workspace_id=WORKSPACE, subject=subject, url=address)
            self.links.add(api.links.CreateLink(request, timeout=DEADLINE_SECONDS).link.id)


def attachments_of(api: Api, key: str) -> list[pb.ListAttachmentsResponse]:
    """Return the pages of an issue's attachments."""
    pages, token = [], ""
    while True:
        request = pb.ListAttachmentsRequest(workspace_id=WORKSPACE, subject=issue(key), page_size=100, page_token=token)
        pages.append(api.attachments.ListAttachments(request))
        token = pages[-1].next_page_token
        if not token:
            return pages


@pytest.mark.timeout(300)
def test_postgresql_goes_away_and_comes_back(cluster: Cluster, on: Servers) -> None:
    """P06: PostgreSQL is stopped as by a crash under load, and started again after a while.

    Callers are told UNAVAILABLE within their deadline, what was acknowledged is there, nothing is half made, and the
    server goes on without a restart.
    """
    server = on(cluster.url)
    callers = [Caller(number) for number in range(CALLERS)]
    where = server.address, str(server.ready["key"])
    threads = [threading.Thread(target=caller.work, args=where) for caller in callers]
    for thread in threads:
        thread.start()
    until(lambda: all(len(caller.acknowledged) > 5 for caller in callers), 60)
    cluster.stop()
    stopped = time.monotonic()
    until(lambda: all(caller.refusals for caller in callers), DEADLINE_SECONDS)
    until(lambda: time.monotonic() > stopped + AWAY_SECONDS)
    cluster.start()
    back = time.monotonic()
    until(lambda: all(caller.acknowledged[-1] > back for caller in callers), 60)
    for caller in callers:
        caller.end()
    for thread in threads:
        thread.join()

    assert {code for caller in callers for code, _ in caller.refusals} == {CODE.UNAVAILABLE}
    assert max(seconds for caller in callers for _, seconds in caller.refusals) < DEADLINE_SECONDS
    api = server.api()
    for caller in callers:
        listed = [one for page in attachments_of(api, caller.key) for one in page.attachments]
        by_url = {one.url: one.id for one in listed if one.url}
        assert caller.cards.items() <= by_url.items()
        assert by_url.keys() <= caller.tried
        for one in listed:
            assert bool(one.url) != one.HasField("file")
            if one.HasField("file"):
                read(api, one.file.id)
        for file_id, data in caller.files.items():
            assert read(api, file_id) == data
        for link_id in caller.links:
            api.links.GetLink(link_pb.GetLinkRequest(link_id=link_id))
    checked = server.report("fsck", check=False)
    for finding in ("missing", "dangling_files", "corrupt", "wrong_size"):
        assert not checked[finding], finding


def test_health_tells_of_the_database(cluster: Cluster, on: Servers, tmp_path: Path) -> None:
    """While PostgreSQL is away a read is UNAVAILABLE; as soon as it is back, reads and changes work.

    The program says meanwhile that the server was reached.
    """
    server = on(cluster.url)
    api = server.api()
    made = upload(api, b"kept", attach_to="HEALTH-1")
    cluster.stop()
    for _ in range(3):
        with refused(CODE.UNAVAILABLE, "STORAGE_UNAVAILABLE"):
            read(api, made.file.id)
        with refused(CODE.UNAVAILABLE, "STORAGE_UNAVAILABLE"):
            upload(api, b"new")
    environment = environment_for(server, tmp_path)
    until(lambda: "was reached, but says that it can't serve" in run(environment, REMORA, "ls", "HEALTH-1").stderr, 60)
    cluster.start()
    until(lambda: outcome_of(lambda: read(api, made.file.id)) is CODE.OK)
    assert read(api, made.file.id) == b"kept"
    upload(api, b"new")


def test_two_servers_upsert_one_url(url: str, on: Servers) -> None:
    """P25 over two servers: of 64 callers at once each is told the same id, and there is one row."""
    servers = [on(url), on(url)]
    apis = [server.api() for server in servers]
    for round_ in range(3):
        request = upsert_request(f"SAME-{round_}", "https://e.example/same")
        answers = at_once(64, lambda n: apis[n % 2].attachments.UpsertAttachment(request))  # noqa: B023 - runs now.
        assert len({answer.attachment.id for answer in answers}) == 1
        listed = [one for page in attachments_of(apis[0], f"SAME-{round_}") for one in page.attachments]
        assert len(listed) == 1


def test_two_servers_create_what_is_there_once(url: str, on: Servers) -> None:
    """P23 and P27 over two servers: one link, one blob, and one event for each of them."""
    servers = [on(url), on(url)]
    apis = [server.api() for server in servers]
    link = link_pb.CreateLinkRequest(workspace_id=WORKSPACE, subject=issue("ONCE-1"), url="https://e.example/link")
    links = at_once(32, lambda n: apis[n % 2].links.CreateLink(link))
    assert len({answer.link.id for answer in links}) == 1
    assert sum(answer.created for answer in links) == 1
    data = b"once" * 20 * KIB
    stored = at_once(32, lambda n: upload(apis[n % 2], data, name="once.bin"))
    assert all(read(apis[0], answer.file.id) == data for answer in stored)
    sizes = [path.stat().st_size for path in (servers[0].data.parent / "blobs").rglob("*") if path.is_file()]
    until(lambda: sum(size == len(data) for size in sizes) >= 1)
    servers[0].report("gc", "--grace", "0")
    checked = servers[0].report("fsck")
    assert checked["clean"]
    assert checked["blobs"] == 1
    log = activity_pb.ListActivitiesRequest(workspace_id=WORKSPACE, page_size=1000)
    told = [(one.type, one.resource_id) for one in apis[1].activity.ListActivities(log).activities]
    assert len(told) == len(set(told))


def test_a_watch_on_one_server_sees_changes_made_on_another(url: str, on: Servers) -> None:
    """Each change arrives, in the order of the commits, and before the watch would have looked for itself."""
    here, there = on(url), on(url)
    request = activity_pb.WatchActivitiesRequest(workspace_id=WORKSPACE)
    stream = here.api().activity.WatchActivities(request, timeout=60)
    messages = iter(stream)
    next(messages)  # It has begun.
    api = there.api()
    waits = []
    for number in range(20):
        began = time.monotonic()
        made = api.attachments.UpsertAttachment(upsert_request("WATCH-1", f"https://e.example/{number}"))
        seen: list[str] = []
        while made.attachment.id not in seen:
            seen += [one.resource_id for one in next(messages).batch.activities]
        assert seen == [made.attachment.id]
        waits.append(time.monotonic() - began)
    stream.cancel()
    # Looking once a second, as it does where nobody tells it, half of them would have come after half a second.
    assert sorted(waits)[len(waits) // 2] < 0.4


def test_servers_of_one_database_trust_each_other(url: str, on: Servers) -> None:
    """Keys and page tokens that one server gave are good at the other; each data directory has a key of its own."""
    here, there = on(url), on(url)
    assert here.ready["key"] != there.ready["key"]
    crossed = there.api(str(here.ready["key"]))
    for number in range(3):
        here.api().attachments.UpsertAttachment(upsert_request("TOKEN-1", f"https://e.example/{number}"))
    request = pb.ListAttachmentsRequest(workspace_id=WORKSPACE, subject=issue("TOKEN-1"), page_size=2)
    first = here.api().attachments.ListAttachments(request)
    request.page_token = first.next_page_token
    second = crossed.attachments.ListAttachments(request)
    assert len({one.id for page in (first, second) for one in page.attachments}) == 3
    assert not list(here.data.glob("signing*"))
    assert here.ready["issues"] == there.ready["issues"]


def test_commands_work(url: str, on: Servers) -> None:
    """What an operator does beside a server is done on its database."""
    server = on(url)
    stored = upload(server.api(), b"x" * 50 * KIB, attach_to="DEMO-1")
    server.command("workspaces", "create", "acme")
    assert "acme" in server.command("workspaces", "list").stdout
    key = server.report("keys", "create", "--workspace", "acme", "--user", "Jo")
    assert key["key_id"] in server.command("keys", "list", "--workspace", "acme").stdout
    server.command("projects", "create", "PLAT", "--workspace", "acme")
    server.command("keys", "revoke", key["key_id"])
    server.report("gc", "--grace", "0")
    checked = server.report("fsck")
    assert checked["clean"]
    assert checked["files"] == 1
    assert read(server.api(), stored.file.id) == b"x" * 50 * KIB
    assert url in server.command("migrate").stdout


def test_a_database_that_can_not_be_used(tmp_path: Path, url: str) -> None:
    """It is said in one line what is wrong, without the password, and the exit code is 1."""
    for database, expected in (
        (postgres.named(url, "nothing_here"), 'database "nothing_here" does not exist'),
        (url, "run `remora-server migrate`"),
    ):
        secret = database.replace("remora@", "remora:hush@")
        done = run(clean_environment(tmp_path, REMORA_DATABASE_URL=secret), REMORA_SERVER, "gc")
        assert done.returncode == 1
        assert not done.stdout
        assert expected in done.stderr
        assert done.stderr.count("\n") == 1
        assert "hush" not in done.stderr


def test_a_url_that_is_none(tmp_path: Path) -> None:
    """What the driver can't read is told as a setting that is wrong."""
    done = run(clean_environment(tmp_path, REMORA_DATABASE_URL="postgresql://h/%zz"), REMORA_SERVER, "gc")
    assert done.returncode == 2
    assert "REMORA_DATABASE_URL" in done.stderr
    assert "Traceback" not in done.stderr

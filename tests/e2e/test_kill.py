"""A busy server is killed again and again: what it has acknowledged is there, whatever moment it was."""

from __future__ import annotations

import os
import random
import secrets
import signal
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple
from uuid import UUID

import grpc
import pytest

from remora.v1 import activity_pb2, activity_service_pb2, attachment_service_pb2, link_service_pb2
from remora.v1 import file_service_pb2 as pb
from tests.running import Api, RunningServer, issue
from tests.uploading import KIB, Stream, checksums_of, direct, read, spec_of, upload

KILLS = int(os.environ.get("REMORA_TEST_KILLS", "20"))
CLIENTS = 16
CHANNELS = 4
MOST_CHANGES = 120  # Between two kills.
DIED = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}

Deed = Callable[[Api], None]
Event = tuple[str, str]  # Type of an activity, and the resource it is about.


class Content(NamedTuple):
    """Bytes that need not be kept to be known."""

    seed: int
    size: int

    def data(self) -> bytes:
        """Return the bytes."""
        return random.Random(self.seed).randbytes(self.size)  # noqa: S311 - no secret


class Client:
    """One client, what it was told by the server, and what it was not told of yet.

    A deed whose answer was lost is repeated after the restart, under the same request_id, like any careful client does.
    """

    def __init__(self, number: int, seed: int) -> None:
        self.random = random.Random(f"{seed}/{number}")  # noqa: S311 - no secret
        self.issue = f"KILL-{number}"
        self.failure: BaseException | None = None
        self.uploads: dict[str, tuple[str, Content]] = {}  # By attachment: its file, and what is in it.
        self.cards: set[str] = set()
        self.links: set[str] = set()
        self.gone: list[Event] = []
        self.events: list[Event] = []
        self._unanswered: Deed | None = None
        self._deeds = (self._upload, self._stream, self._upsert, self._link, self._delete, self._delete_card)
        self._weights = (8, 4, 4, 3, 4, 1)

    def work(self, api: Api, acknowledged: Callable[[], None]) -> None:
        """Do one thing after the other, until the server dies."""
        try:
            while True:
                if self._unanswered is None:
                    (kind,) = self.random.choices(self._deeds, self._weights)
                    self._unanswered = kind()
                self._unanswered(api)
                self._unanswered = None
                acknowledged()
        except BaseException as error:  # noqa: BLE001 - the test's own thread raises it.
            if not isinstance(error, grpc.RpcError) or error.code() not in DIED:
                self.failure = error

    def check(self, api: Api) -> None:
        """Compare what the server has with what it has acknowledged."""
        for attachment_id, (file_id, content) in self.uploads.items():
            assert read(api, attachment_id=attachment_id) == content.data(), file_id
        for card in self.cards:
            request = attachment_service_pb2.GetAttachmentRequest(attachment_id=card)
            assert not api.attachments.GetAttachment(request).attachment.HasField("delete_time")
        for link in self.links:
            api.links.GetLink(link_service_pb2.GetLinkRequest(link_id=link))
        for kind, gone in self.gone:
            assert _is_gone(api, kind, gone), (kind, gone)

    def _new_content(self, smallest: int, largest: int) -> Content:
        # Some contents are everybody's, so that uploads of one content meet.
        if self.random.random() < 0.3:
            return Content(self.random.randrange(5), largest)
        return Content(self.random.getrandbits(64), self.random.randint(smallest, largest))

    def _new_id(self) -> str:
        return str(UUID(int=self.random.getrandbits(128), version=4))

    def _stored(self, file_id: str, attachment_id: str, content: Content) -> None:
        self.uploads[attachment_id] = (file_id, content)
        self.events += [("file.created.v1", file_id), ("attachment.created.v1", attachment_id)]

    def _upload(self) -> Deed:
        inline = self.random.random() < 0.6
        content = self._new_content(0, 32 * KIB) if inline else self._new_content(33 * KIB, 200 * KIB)
        request_id, name = self._new_id(), self._new_id()

        def deed(api: Api) -> None:
            answer = upload(api, content.data(), name=name, attach_to=self.issue, request_id=request_id)
            self._stored(answer.file.id, answer.attachment_id, content)

        return deed

    def _stream(self) -> Deed:
        content = self._new_content(0, 400 * KIB)
        request_id, name = self._new_id(), self._new_id()

        def deed(api: Api) -> None:
            data = content.data()
            with Stream(api, spec=spec_of(name), attach_to=self.issue, request_id=request_id) as stream:
                first = stream.opened()
                if first.WhichOneof("message") == "done":
                    done = first.done
                else:
                    stream.offset = first.ready.committed_size
                    assert first.ready.committed_checksums == checksums_of(data[: stream.offset], "crc32c")
                    stream.send_all(data, chunk_bytes=100 * KIB)
                    done = stream.finish(checksums=checksums_of(data))
            self._stored(done.file.id, done.attachment_id, content)

        return deed

    def _upsert(self) -> Deed:
        request = attachment_service_pb2.UpsertAttachmentRequest(request_id=self._new_id())
        request.attachment.workspace_id = "demo"
        request.attachment.subject.CopyFrom(issue(self.issue))
        request.attachment.url = f"https://example.com/{self._new_id()}"
        request.attachment.title = "card"

        def deed(api: Api) -> None:
            card = api.attachments.UpsertAttachment(request).attachment
            self.cards.add(card.id)
            self.events.append(("attachment.created.v1", card.id))

        return deed

    def _link(self) -> Deed:
        url = f"https://example.com/{self._new_id()}"
        request = link_service_pb2.CreateLinkRequest(
            workspace_id="demo", subject=issue(self.issue), url=url, request_id=self._new_id()
        )

        def deed(api: Api) -> None:
            link = api.links.CreateLink(request).link
            self.links.add(link.id)
            self.events.append(("link.created.v1", link.id))

        return deed

    def _delete(self) -> Deed:
        if not self.uploads:
            return self._upload()
        attachment_id = self.random.choice(sorted(self.uploads))
        file_id, _ = self.uploads.pop(attachment_id)
        if self.random.random() < 0.5:
            return self._delete_file(file_id, attachment_id)
        return self._delete_attachment(attachment_id)

    def _delete_file(self, file_id: str, attachment_id: str) -> Deed:
        request = pb.DeleteFileRequest(file_id=file_id, detach=True)

        def deed(api: Api) -> None:
            try:
                api.files.DeleteFile(request)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:  # The first attempt's answer was lost.
                    raise
            deleted = [("file.deleted.v1", file_id), ("attachment.deleted.v1", attachment_id)]
            self.gone += deleted
            self.events += deleted

        return deed

    def _delete_card(self) -> Deed:
        return self._delete_attachment(self.cards.pop()) if self.cards else self._delete_link()

    def _delete_attachment(self, attachment_id: str) -> Deed:
        request = attachment_service_pb2.DeleteAttachmentRequest(attachment_id=attachment_id, allow_missing=True)

        def deed(api: Api) -> None:
            api.attachments.DeleteAttachment(request)
            self.gone.append(("attachment.deleted.v1", attachment_id))
            self.events.append(self.gone[-1])

        return deed

    def _delete_link(self) -> Deed:
        if not self.links:
            return self._link()
        request = link_service_pb2.DeleteLinkRequest(link_id=self.links.pop(), allow_missing=True)

        def deed(api: Api) -> None:
            api.links.DeleteLink(request)
            self.gone.append(("link.deleted.v1", request.link_id))
            self.events.append(self.gone[-1])

        return deed


def _is_gone(api: Api, kind: str, resource_id: str) -> bool:
    try:
        if kind == "file.deleted.v1":
            read(api, resource_id)
        elif kind == "link.deleted.v1":
            api.links.GetLink(link_service_pb2.GetLinkRequest(link_id=resource_id))
        else:
            request = attachment_service_pb2.GetAttachmentRequest(attachment_id=resource_id)
            return api.attachments.GetAttachment(request).attachment.HasField("delete_time")
    except grpc.RpcError as error:
        return error.code() is grpc.StatusCode.NOT_FOUND
    return False


class Countdown:
    """Kills a server on a count of changes, in the thread that was just told of the last one: none can be nearer."""

    def __init__(self, server: RunningServer, changes: int) -> None:
        self._server = server
        self._left = changes
        self._lock = threading.Lock()

    def tick(self) -> None:
        """Note that the server has acknowledged a change."""
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._server.signal(signal.SIGKILL)


def kill_under_load(server: RunningServer, clients: list[Client], changes: int) -> None:
    """Let all clients work at once, and kill the server when it has acknowledged so many changes."""
    countdown = Countdown(server, changes)
    with ExitStack() as channels:
        key = str(server.ready["key"])
        apis = [channels.enter_context(direct(server.address, key)) for _ in range(CHANNELS)]
        threads = [
            threading.Thread(target=client.work, args=(apis[number % CHANNELS], countdown.tick))
            for number, client in enumerate(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    server.kill()
    for client in clients:
        if client.failure is not None:
            raise client.failure


def walk(api: Api) -> list[activity_pb2.Activity]:
    """Return the whole log, oldest first."""
    found: list[activity_pb2.Activity] = []
    request = activity_service_pb2.ListActivitiesRequest(
        workspace_id="demo", page_size=1000, order=activity_service_pb2.ACTIVITY_ORDER_OCCUR_TIME_ASC
    )
    while True:
        page = api.activity.ListActivities(request)
        found += page.activities
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found


@pytest.mark.timeout(120 + 6 * KILLS)
def test_nothing_that_was_acknowledged_is_lost_by_a_kill(start_server: Callable[..., RunningServer]) -> None:
    """P01: a server that is killed at random moments under 16 mixed clients comes up again by itself each time.

    Each acknowledged upload reads back byte for byte, each acknowledged delete stays deleted, no row lacks its blob.

    P28: each acknowledged change has exactly one event, also when it was acknowledged just before a kill, and when it
    had to be repeated after one.
    """
    seed = secrets.randbits(32)
    chance = random.Random(seed)  # noqa: S311 - no secret
    server = start_server()
    clients = [Client(number, seed) for number in range(CLIENTS)]
    for _ in range(KILLS):
        kill_under_load(server, clients, chance.randint(1, MOST_CHANGES))
        server.start()
        with direct(server.address, str(server.ready["key"])) as api:
            for client in chance.sample(clients, 4):
                client.check(api)
    api = server.api()
    for client in clients:
        client.check(api)
    checked = server.report("fsck", check=False)
    for finding in ("missing", "dangling_files", "corrupt", "wrong_size"):
        assert not checked[finding], (finding, seed)

    counts = Counter((one.type, one.resource_id) for one in walk(api))
    for client in clients:
        for event in client.events:
            assert counts[event] == 1, (event, seed)
    assert max(counts.values()) == 1

    # What the kills left behind is swept away, and nothing else.
    server.report("gc", "--grace", "0")
    assert server.report("fsck")["clean"]
    for client in clients:
        client.check(api)

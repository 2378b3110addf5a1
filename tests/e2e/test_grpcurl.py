"""A backend engineer with nothing but a general gRPC client: the server describes itself, and the README is true."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import curls
from tests.e2e.programs import BIN, RUN_SECONDS, clean_environment, run
from tests.running import RunningServer

pytestmark = pytest.mark.timeout(600)  # Where grpcurl is missing and Go is there, it is built once.

BUF = str(BIN / "buf")
SERVICES = {
    f"remora.v1.{name}Service"
    for name in ("Activity", "Attachment", "Capability", "File", "Issue", "Link", "UploadTicket", "Webhook")
}


class Curl:
    """One of the tools, and a server to call with it."""

    def __init__(self, tool: str, server: RunningServer, folder: Path) -> None:
        self._server = server
        self._environment = clean_environment(folder)
        self._program = str(curls.folder_of(tool, folder) / "grpcurl")

    def say(self, *words: str) -> str:
        """Ask the server about itself, without a key."""
        done = run(self._environment, self._program, "-plaintext", self._server.address, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def call(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """Call a method."""
        done = run(self._environment, *self.command(method, request))
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def command(self, method: str, request: dict[str, Any], *, key: str | None = None) -> list[str]:
        """Return the command that calls a method."""
        key = str(self._server.ready["key"]) if key is None else key
        called = ["-H", f"authorization: Bearer {key}", "-d", json.dumps(request)]
        return [self._program, "-plaintext", *called, self._server.address, f"remora.v1.{method}"]

    def start(self, method: str, request: dict[str, Any]) -> subprocess.Popen[str]:
        """Start a call whose answers are read one by one."""
        return subprocess.Popen(
            self.command(method, request), env=self._environment, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def refusal(self, method: str, request: dict[str, Any], *, key: str) -> str:
        """Make a call that must fail, and return what the tool says of it."""
        done = run(self._environment, *self.command(method, request, key=key))
        assert done.returncode != 0
        return done.stderr


@pytest.fixture(params=curls.tools())
def curl(request: pytest.FixtureRequest, server: RunningServer, tmp_path: Path) -> Curl:
    """Each of the tools that can be had; `buf curl` always."""
    return Curl(str(request.param), server, tmp_path)


@pytest.fixture
def subject(new_issue: str) -> dict[str, str]:
    """Name an issue of this test."""
    return {"type": "issue", "key": new_issue}


def test_lists_every_service(curl: Curl) -> None:
    """`list` names the seven services, health and both names of reflection, to a caller without a key."""
    assert set(curl.say("list").split()) == SERVICES | {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }


def test_describes_a_service(curl: Curl) -> None:
    """`describe` tells the methods of a service."""
    described = curl.say("describe", "remora.v1.LinkService")
    for method in ("CreateLink", "BatchCreateLinks", "GetLink", "ListLinks", "UpdateLink", "DeleteLink"):
        assert method in described


@pytest.mark.parametrize("protocol", ["grpc-v1", "grpc-v1alpha"])
def test_both_versions_of_reflection_answer(server: RunningServer, tmp_path: Path, protocol: str) -> None:
    """Tools that know only one of the two find the server described."""
    url = f"http://{server.address}"
    options = ["--http2-prior-knowledge", "--protocol", "grpc", "--reflect-protocol", protocol, "--list-methods"]
    done = run(clean_environment(tmp_path), BUF, "curl", *options, url)
    assert done.returncode == 0, done.stderr
    assert {line.partition("/")[0] for line in done.stdout.split()} >= SERVICES


def test_an_upsert_sent_twice_makes_one_card(curl: Curl, subject: dict[str, str]) -> None:
    """The first creates, the second changes nothing, and both answer with one id."""
    card = {"workspace_id": "demo", "subject": subject, "url": "https://ci.example.com/builds/7", "title": "Build 7"}
    answers = [curl.call("AttachmentService/UpsertAttachment", {"attachment": card}) for _ in range(2)]
    assert [answer["outcome"] for answer in answers] == ["OUTCOME_CREATED", "OUTCOME_UNCHANGED"]
    assert answers[0]["attachment"]["id"] == answers[1]["attachment"]["id"]


def test_a_small_file_goes_up_in_one_call_and_is_listed(curl: Curl, subject: dict[str, str]) -> None:
    """A file of some bytes needs nothing but base64."""
    content = base64.b64encode(f"hello {subject['key']}".encode()).decode()
    request = {"workspace_id": "demo", "spec": {"name": "note.txt"}, "data": content, "attach_to": subject}
    stored = curl.call("FileService/UploadFile", request)
    assert stored["outcome"] == "UPLOAD_OUTCOME_STORED"
    assert stored["file"]["content_type"] == "text/plain"
    listed = curl.call("AttachmentService/ListAttachments", {"workspace_id": "demo", "subject": subject})
    assert [(one["id"], one["file"]["id"]) for one in listed["attachments"]] == [
        (stored["attachment_id"], stored["file"]["id"])
    ]


def test_a_watch_delivers_a_change_as_it_happens(curl: Curl, subject: dict[str, str]) -> None:
    """The watch begins, then comes the change that another call made."""
    link = {"workspace_id": "demo", "subject": subject, "url": "https://example.com/design"}
    curl.call("LinkService/CreateLink", link)  # An issue must be known before it can be watched.
    watch = curl.start("ActivityService/WatchActivities", {"workspace_id": "demo", "subjects": [subject]})
    given_up = threading.Timer(RUN_SECONDS, watch.kill)
    given_up.start()
    try:
        messages = _messages(watch)
        assert next(messages)["started"]["cursor"]
        created = curl.call("LinkService/CreateLink", {**link, "url": "https://example.com/plan"})["link"]["id"]
        batch = next(message["batch"] for message in messages if "batch" in message)
        assert [(one["type"], one.get("resource_id") or one.get("resourceId")) for one in batch["activities"]] == [
            ("link.created.v1", created)
        ]
    finally:
        given_up.cancel()
        watch.terminate()
        watch.communicate(timeout=RUN_SECONDS)


def test_a_wrong_key_is_told_so(curl: Curl, subject: dict[str, str]) -> None:
    """The message says what to send."""
    request = {"workspace_id": "demo", "subject": subject}
    said = curl.refusal("AttachmentService/ListAttachments", request, key="rk_wrong")
    assert "authorization: Bearer" in said


def _messages(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """Give the messages of a stream as they come: objects that begin and end at the left margin."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.rstrip() == "}":
            yield json.loads("".join(lines))
            lines = []

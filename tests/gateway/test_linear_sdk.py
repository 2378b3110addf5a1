"""The real client of Linear, as it comes from npm, against a server of ours: all that it does for attachments."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from remora_server.core import ids
from tests.e2e.programs import require
from tests.gateway.dialects.test_linear import push
from tests.running import RunningServer

HERE = Path(__file__).parent / "linear_sdk"
INSTALL_SECONDS = 110.0
RUN_SECONDS = 60.0
URL = "http://exception.com/123"


@pytest.fixture(scope="session")
def walk() -> Path:
    """Install the client as its lock file says, unless it is there, and return the script that uses it."""
    require("node")
    require("npm")
    wanted = (HERE / "package-lock.json").read_bytes()
    stamp = HERE / "node_modules" / ".installed"
    with (HERE / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Several processes run tests, and all look here.
        if not stamp.exists() or stamp.read_bytes() != wanted:
            command = [str(shutil.which("npm")), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(
                command, cwd=HERE, check=False, capture_output=True, text=True, timeout=INSTALL_SECONDS
            )
            assert done.returncode == 0, done.stderr
            stamp.write_bytes(wanted)
    return HERE / "walk.mjs"


def test_everything_that_the_client_does(server: RunningServer, walk: Path) -> None:
    """Create, upsert, update and read by URL, list, page, filter, upload and delete: each goes as with Linear's own."""
    workspace = f"sdk-{uuid4().hex[:8]}"
    key = server.new_key("alex", workspace=workspace)
    api = server.api(key)
    issue = push(api, "ENG-123", workspace, title="Exception in production")
    push(api, "ENG-124", workspace, title="A part of it", parent_issue_id=issue.id)
    issue_id = str(ids.to_uuid(issue.id))
    done = subprocess.run(
        [str(shutil.which("node")), str(walk), server.ready["http"], key, issue_id],
        check=False,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, dict[str, Any]] = {}
    for line in done.stdout.splitlines():
        found = json.loads(line)
        told[found.pop("step")] = found

    created = told["create"]
    attachment_id = created["attachmentId"]
    assert created["success"] is True
    assert created["lastSyncId"] > 0
    read = told["read"]
    me = read["creatorId"]
    assert read == {
        "id": attachment_id,
        "title": "Exception",
        "subtitle": "Open",
        "url": URL,
        "metadata": {"exceptionId": "exc-123", "count": 7, "ratio": 0.5},
        "groupBySource": False,
        "creatorId": me,
        "issueId": issue_id,
    }
    without = {name: value for name, value in read.items() if name != "subtitle"}
    assert told["upsert"] == without
    assert told["update by URL"] == {**without, "subtitle": "Resolved", "metadata": {"exceptionId": 1}}
    assert told["read by URL with its issue"] == {
        "id": attachment_id,
        "issue": "ENG-123",
        "title": "Exception in production",
        "number": 123,
    }
    assert told["the issue of an attachment"] == {"identifier": "ENG-123"}
    every = ["Link 3", "Link 2", "https://example.com/1", "Exception"]
    assert told["list"] == {"titles": every}
    assert told["pages"] == {"parts": [every[:2], True, every, False]}
    assert told["from the end"] == {"titles": every[3:], "before": every[2:3]}
    assert told["paginate"] == {"titles": every}
    assert told["filter"] == {"titles": ["Link 3", "Link 2"]}
    assert told["filter of all"] == {"titles": ["Exception"]}
    assert told["of a URL"] == {"ids": [attachment_id]}
    assert told["sub-issues"] == {"keys": ["ENG-124"]}
    assert told["viewer"] == {"name": "alex"}

    assert told["upload"] == {
        "size": 22,
        "contentType": "text/plain",
        "filename": "notes.txt",
        "metaData": {"from": "sdk"},
        "early": 404,
        "put": True,
        "text": "the bytes of an upload",
        "type": "text/plain",
        "nobody": 401,
    }
    assert told["attach an upload"] == {"url": True, "title": "Notes"}
    assert told["a signed URL"] == {"differs": True, "text": "the bytes of an upload"}

    refusals = {step: (found["error"], found["type"]) for step, found in told.items() if "error" in found}
    assert refusals == {
        "nothing there": ("InvalidInputLinearError", "InvalidInput"),
        "bad metadata": ("InvalidInputLinearError", "InvalidInput"),
        "bad input": ("InvalidInputLinearError", "InvalidInput"),
        "not offered": ("FeatureNotAccessibleLinearError", "FeatureNotAccessible"),
        "no key": ("AuthenticationLinearError", "AuthenticationError"),
        "deleted": ("InvalidInputLinearError", "InvalidInput"),
    }
    assert told["nothing there"]["message"] == "Could not find referenced Attachment."
    assert told["delete"] == {"success": True, "entityId": attachment_id}

"""Every operation of the OpenAPI document, asked for in ways that it allows and in ways that it forbids (P42).

This is a short run, always with the same requests; `scripts/fuzz` makes long ones.
"""

from __future__ import annotations

import httpx
import pytest
import requests

from tests.gateway.fuzzing import MODES, Fuzzer, LeakError, Tally, failures_in, judge
from tests.running import RunningServer

EXAMPLES = 2
# A thread of an earlier test's client may draw from `random`, to spread its pauses, while a request is made up;
# Hypothesis takes that for the strategy's doing.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the .random. module inside strategies")


@pytest.mark.timeout(300)  # It computes for some seconds, which are many where others compute, too.
def test_no_request_brings_it_down_or_makes_it_talk(server: RunningServer) -> None:
    """No answer is a mistake of the server's, is cut off, or tells of its code, its database or its files."""
    before = len(server.log())
    fuzzer, tally = Fuzzer.at(server, "fuzz"), Tally()
    fuzzer.run(EXAMPLES, tally, once=True)
    assert tally.findings == []
    assert failures_in(server.log()[before:]) == []
    # It came behind the doors, and was refused there in more than one way.
    assert tally.operations == len(list(fuzzer.operations(once=True)))
    assert tally.requests >= tally.operations * len(MODES)
    assert {200, 201, 204, 302, 400, 403, 404} <= tally.statuses.keys()
    assert httpx.get(f"{server.ready['http']}/healthz").json()["status"] == "ok"


@pytest.mark.parametrize(
    ("status", "content_type", "text"),
    [
        (500, "application/json", '{"error": "internal error 7"}'),
        (503, "application/json", "{}"),
        (400, "text/plain", "Invalid HTTP request"),
        (400, "application/json", '{"error": "no such table: in SELECT 1"}'),
        (200, "application/json", '{"path": "/tmp/data/blobs"}'),
        (404, "application/json", 'File "app.py"'),
    ],
)
def test_what_is_found(status: int, content_type: str, text: str) -> None:
    """An answer that must not be is told apart from those that may."""
    reply = requests.Response()
    reply.request = requests.Request("GET", "http://127.0.0.1/").prepare()
    reply.status_code, reply._content = status, text.encode()
    reply.headers["Content-Type"] = content_type
    with pytest.raises(LeakError):
        judge(reply)
    reply.status_code, reply._content = 404, b'{"error": "not found"}'
    reply.headers["Content-Type"] = "application/json"
    judge(reply)

"""HTTP/1.1 as hostile clients speak it: what comes is refused as it deserves, and the next client is served (P42)."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from urllib.parse import quote_from_bytes, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.combinations import own_urls
from tests.running import Api, RunningServer, until
from tests.ticketing import PUT, ask, http_ticket, make_file
from tests.uploading import read

pytestmark = own_urls


def say(server: RunningServer, data: bytes, *, seconds: float = 20.0) -> bytes:
    """Send bytes; return everything that comes back until the other side hangs up."""
    address = urlsplit(server.ready["http"])
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=seconds) as line:
        came = bytearray()
        try:
            line.sendall(data)
            while piece := line.recv(65536):
                came += piece
        except ConnectionError:
            pass
        return bytes(came)


def status_of(answer: bytes) -> int:
    """Return the status of the first answer; 0 if the line was cut without one."""
    return int(answer.split(b" ", 2)[1]) if answer else 0


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3",
        b"Content-Length: 3\r\nContent-Length: 4",
        b"Content-Length: -3",
        b"Content-Length: 3, 4",
        b"Content-Length: 0x3",
        b"Content-Length: 99999999999999999999999",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding : chunked",
        b"Content-Length: 3\r\n Transfer-Encoding: chunked",
        b"Content-Length: 3\rTransfer-Encoding: chunked",
        b"X: a\0b",
        b"X y: 1",
        b": 1",
    ],
)
def test_smuggling(server: RunningServer, api: Api, head: bytes) -> None:
    """A request with two lengths, or one that can be read in two ways, is refused, and nothing is taken of it."""
    made = http_ticket(api, PUT)
    path = made.http.url.removeprefix(server.ready["http"]).encode()
    smuggled = b"3\r\nabc\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = say(
        server, b"PUT " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + head + b"\r\n\r\n" + smuggled
    )
    assert status_of(answer) == 400
    assert answer.count(b"HTTP/1.1 ") == 1
    assert ask("PUT", made.http.url, {}, b"abc").ok
    assert read(api, make_file(api, made.id).id) == b"abc"


@pytest.mark.parametrize(
    "body", [b"zz\r\nabc\r\n", b"-3\r\nabc\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"fffffffffffffffff\r\n"]
)
def test_bad_chunks(server: RunningServer, api: Api, body: bytes) -> None:
    """A body that is not what its encoding says is not taken."""
    made = http_ticket(api, PUT)
    path = made.http.url.removeprefix(server.ready["http"]).encode()
    answer = say(server, b"PUT " + path + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    assert status_of(answer) in {0, 400}
    # The server may still be busy with the first one.
    until(lambda: ask("PUT", made.http.url, {}, b"abc").ok)
    assert read(api, make_file(api, made.id).id) == b"abc"


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", {431}),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", {431}),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: 1\r\n" * 20_000 + b"\r\n", {431}),
        (b"GET / HTTP/1.1\r\n" + b"X" * 100_000, {431}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {400}),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
        (b"nonsense\r\n\r\n", {400}),
        (b"GET http://[::1/ HTTP/1.1\r\n\r\n", {400}),
        (b"GET /healthz HTTP/9.9\r\n\r\n", {400}),
        (b"GET /healthz HTTP/1.0\r\n\r\n", {200}),
        (b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", {404}),
    ],
)
def test_what_is_no_good_request(server: RunningServer, data: bytes, statuses: set[int]) -> None:
    """It is answered as it deserves, the line is closed, and others are served."""
    assert status_of(say(server, data)) in statuses
    assert ask("GET", f"{server.ready['http']}/healthz").ok


def test_one_after_the_other(server: RunningServer) -> None:
    """Requests that come together are answered in their order."""
    one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = say(
        server, one + one.replace(b"/healthz", b"/nowhere") + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    )
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 404, 200]


@pytest.mark.parametrize("data", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Y: 1"])
def test_a_head_that_does_not_come(start_server: Callable[..., RunningServer], data: bytes) -> None:
    """Who says nothing, or half of something, is hung up on after the idle time."""
    server = start_server("--idle-timeout", "0.5")
    began = time.monotonic()
    answer = say(server, data)
    assert status_of(answer) == (408 if data else 0)
    assert time.monotonic() - began < 15


@settings(max_examples=150, deadline=None)
@given(
    path=st.binary(max_size=60), query=st.binary(max_size=60), method=st.sampled_from(["GET", "PUT", "POST", "DELETE"])
)
def test_any_path(server: RunningServer, path: bytes, query: bytes, method: str) -> None:
    """No path and no query make a mistake of ours."""
    for prefix in ("/uploads/", "/downloads/", "/"):
        url = f"{server.ready['http']}{prefix}{quote_from_bytes(path)}?{quote_from_bytes(query, safe='&=')}"
        assert ask(method, url, {}, b"").status in {200, 403, 404, 405}
    assert "internal error" not in server.log()

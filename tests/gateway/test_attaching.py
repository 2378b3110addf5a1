"""Files that come as forms with requests of a dialect: streamed whatever their size, and stored whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from remora.v1 import upload_ticket_pb2, upload_ticket_service_pb2
from remora_server.gateway.forms import OVERHEAD_BYTES
from tests import combinations
from tests.faulty import Faults
from tests.running import RunningServer, until

MIB = 1024 * 1024
HEAD = b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n\r\n'
TAIL = b"\r\n--xyz--\r\n"
Start = Callable[..., RunningServer]


def headers(server: RunningServer) -> dict[str, str]:
    """Return the headers of an upload with the development key."""
    return {"Authorization": f"OAuth {server.ready['key']}", "Content-Type": "multipart/form-data; boundary=xyz"}


def url(server: RunningServer, issue: str) -> str:
    """Return where the files of an issue are."""
    return f"{server.ready['http']}/v2/issues/{issue}/attachments/"


def send(server: RunningServer, issue: str, data: bytes | Iterator[bytes], name: str = "a.bin") -> httpx.Response:
    """Send a body."""
    return httpx.post(url(server, issue), params={"filename": name}, content=data, headers=headers(server), timeout=120)


def opened(server: RunningServer, issue: str, length: int) -> socket.socket:
    """Begin to send a body of a length."""
    where = urlsplit(url(server, issue))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers(server).items())
    connection = socket.create_connection((where.hostname or "", where.port or 0), timeout=30)
    connection.sendall(f"POST {where.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{lines}\r\n".encode())
    return connection


def kib(server: RunningServer, name: str) -> int:
    """Return a figure of the server's memory."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{server.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def states(server: RunningServer) -> list[int]:
    """Return the states of all tickets, newest first."""
    request = upload_ticket_service_pb2.ListUploadTicketsRequest(workspace_id="demo")
    return [one.state for one in server.api().tickets.ListUploadTickets(request).upload_tickets]


MOST_KIB = 64 * 1024


def is_clean(server: RunningServer) -> bool:
    """Tell whether the server keeps no bytes."""
    return not server.blob_files() and not server.staged_bytes("")


def test_flat_memory(start_server: Start, new_issue: str) -> None:
    """64 MiB arrive as they were sent, while the server takes little more than when it was idle."""
    server = start_server()
    assert send(server, new_issue, HEAD + b"warm" + TAIL).status_code == 201
    idle_kib = kib(server, "VmRSS")
    sent = hashlib.sha256()

    def body() -> Iterator[bytes]:
        yield HEAD
        for _ in range(64):
            piece = os.urandom(MIB)
            sent.update(piece)
            yield piece
        yield TAIL

    made = send(server, new_issue, body())
    assert (made.status_code, made.json()["size"]) == (201, 64 * MIB)
    assert kib(server, "VmHWM") - idle_kib < MOST_KIB
    came = hashlib.sha256()
    with httpx.stream("GET", made.json()["content"], headers=headers(server), timeout=120) as reply:
        assert reply.status_code == 200
        for piece in reply.iter_bytes():
            came.update(piece)
    assert came.digest() == sent.digest()
    assert kib(server, "VmHWM") - idle_kib < MOST_KIB


def test_a_server_that_stops(start_server: Start, new_issue: str) -> None:
    """What is sent to its end in time is attached; of what is not nothing is kept, and its client is told so."""
    server = start_server(REMORA_DRAIN_TIMEOUT="3")
    half = os.urandom(MIB)
    with (
        opened(server, new_issue, len(HEAD) + 2 * MIB + len(TAIL)) as quick,
        opened(server, new_issue, 64 * MIB) as slow,
    ):
        for connection in (quick, slow):
            connection.sendall(HEAD + half)
        until(lambda: states(server) == [upload_ticket_pb2.UPLOAD_TICKET_STATE_UPLOADING] * 2)
        server.signal(signal.SIGTERM)
        until(lambda: is_refusing(server))
        quick.sendall(half + TAIL)
        assert quick.recv(1000).startswith(b"HTTP/1.1 201 ")
        assert server.wait() == 0
        assert slow.recv(1000).startswith(b"HTTP/1.1 424 ")
    server.restart()
    until(lambda: set(states(server)) == {
        upload_ticket_pb2.UPLOAD_TICKET_STATE_COMPLETED, upload_ticket_pb2.UPLOAD_TICKET_STATE_CANCELLED
    })  # fmt: skip
    assert not server.staged_bytes("")
    (made,) = httpx.get(url(server, new_issue), headers=headers(server)).json()
    assert made["size"] == 2 * MIB


def is_refusing(server: RunningServer) -> bool:
    """Tell whether a server lets nobody in any more."""
    try:
        return httpx.get(f"{server.ready['http']}/healthz").status_code != 200
    except httpx.TransportError:
        return True


@pytest.mark.parametrize("sent_bytes", [1, 20 * MIB])
def test_a_cut_connection(start_server: Start, new_issue: str, sent_bytes: int) -> None:
    """What was cut off in the middle leaves nothing: no attachment, no issue, no ticket to go on with, no bytes."""
    server = start_server()
    with opened(server, new_issue, 64 * MIB) as connection:
        connection.sendall(HEAD + os.urandom(sent_bytes))
        until(lambda: states(server) == [upload_ticket_pb2.UPLOAD_TICKET_STATE_UPLOADING])
    until(lambda: states(server) == [upload_ticket_pb2.UPLOAD_TICKET_STATE_CANCELLED])
    until(lambda: is_clean(server))
    # Not even the issue, which nobody knew before.
    for path in (url(server, new_issue), url(server, new_issue).removesuffix("/attachments/")):
        assert httpx.get(path, headers=headers(server)).status_code == 404


@pytest.mark.parametrize(
    "body", [HEAD + b"x" * MIB, HEAD + b"x\r\n--xyz\r\n:\r\n" + TAIL, HEAD + b"x" + TAIL[:-4] + HEAD[5:]]
)
def test_a_form_that_ends_badly(start_server: Start, new_issue: str, body: bytes) -> None:
    """A form that is broken, or has no end, or a second file, is refused, and leaves nothing."""
    server = start_server()
    assert send(server, new_issue, body).status_code == 400
    # What is seen to be broken at once has no ticket.
    until(lambda: states(server) in ([], [upload_ticket_pb2.UPLOAD_TICKET_STATE_CANCELLED]))
    until(lambda: is_clean(server))


@pytest.mark.parametrize("setting", ["REMORA_MAX_FILE_BYTES", "REMORA_YANDEX_MAX_BYTES"])
def test_too_large(start_server: Start, new_issue: str, setting: str) -> None:
    """413 for a length above the limit before anything is read, and for bytes beyond it as soon as they come."""
    server = start_server(**{setting: "1MiB"})
    with opened(server, new_issue, 1024 * MIB + OVERHEAD_BYTES + 1) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    assert states(server) == []
    assert send(server, new_issue, HEAD + bytes(MIB) + TAIL).status_code == 201
    used = server.used_bytes()
    too_large = HEAD + bytes(MIB + 1) + TAIL
    for body in (too_large, iter([too_large[:MIB], too_large[MIB:]])):  # with its length, and without
        reply = send(server, new_issue, body)
        assert (reply.status_code, reply.json()["statusCode"]) == (413, 413)
        assert reply.json()["errorMessages"] == [f"files may have at most {MIB} bytes here."]
    until(lambda: server.used_bytes() == used)
    assert len(httpx.get(url(server, new_issue), headers=headers(server)).json()) == 1


@pytest.mark.parametrize(
    ("given", "filename", "name"),
    [("a.txt", "b.txt", "a.txt"), ("", "b.txt", "b.txt"), ("", "C:\\\\x\\\\b.txt", "b.txt"), ("", "/", "file")],
)
def test_names(server: RunningServer, new_issue: str, given: str, filename: str, name: str) -> None:
    """A file is called as the query says, or else as its part."""
    body = HEAD.replace(b'filename="file"', b'filename="%s"' % filename.encode()) + b"x" + TAIL
    assert send(server, new_issue, body, given).json()["name"] == name


def test_names_that_can_not_be(server: RunningServer, new_issue: str) -> None:
    """A name that would be dangerous is refused."""
    for name in ("a/b", "..", "\0", "x" * 2000):
        assert send(server, new_issue, HEAD + b"x" + TAIL, name).status_code == 400, name


@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_what_is_packed(server: RunningServer, new_issue: str, coding: str) -> None:
    """A body in a coding is refused, since what it stands for is not known; nothing is stored."""
    packed = {**headers(server), "Content-Encoding": coding}
    reply = httpx.post(url(server, new_issue), content=HEAD + b"x" + TAIL, headers=packed)
    assert (reply.status_code, "Content-Encoding" in reply.json()["errorMessages"][0]) == (400, True)
    assert httpx.get(url(server, new_issue), headers=headers(server)).status_code == 404


def test_other_fields(server: RunningServer, new_issue: str) -> None:
    """What stands beside the file is passed by."""
    field = b'--xyz\r\nContent-Disposition: form-data; name="a"\r\n\r\nvalue\r\n'
    body = field + HEAD + b"x" + TAIL[:2] + field + TAIL[2:]
    assert send(server, new_issue, body).json()["size"] == 1


@combinations.only_disk
@pytest.mark.parametrize("call", ["pwrite", "fdatasync", "fsync"])
def test_a_store_that_is_away(start_server: Start, tmp_path: Path, new_issue: str, call: str) -> None:
    """It is told in a way after which the real client does not send an empty file, and nothing is stored."""
    faults = Faults(tmp_path / "faults", tmp_path / "data0" / "blobs")
    server = start_server(**faults.environment)
    assert send(server, new_issue, HEAD + b"before" + TAIL).status_code == 201
    with faults.failing(call, "EIO"):
        reply = send(server, new_issue, HEAD + bytes(3 * MIB) + TAIL)
    assert (reply.status_code, reply.json()["statusCode"]) == (424, 424)
    assert len(httpx.get(url(server, new_issue), headers=headers(server)).json()) == 1
    assert send(server, new_issue, HEAD + b"after" + TAIL).status_code == 201

"""Uploads to signed URLs of this server, in one piece: bounds, broken lines, slow senders, and what is left of them."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit
from uuid import uuid4

import grpc
import pytest

from remora.v1 import file_pb2, upload_ticket_pb2
from remora.v1 import upload_ticket_service_pb2 as tickets_pb
from tests.combinations import own_urls
from tests.running import Api, RunningServer, refused, until
from tests.ticketing import FORM, PUT, ask, curl, download_url, http_ticket, make_file, options_for, send
from tests.uploading import KIB, MIB, cancel, checksums_of, read, spec_of, ticket

pytestmark = own_urls
Start = Callable[..., RunningServer]
one_piece = pytest.mark.parametrize("transport", [PUT, FORM], ids=["put", "form"])
Ticket = upload_ticket_pb2.UploadTicket
Transport: TypeAlias = upload_ticket_pb2.Transport.ValueType
BOUNDARY = "boundary"


def head_of(made: Ticket, length: int | None = None, *more: str) -> bytes:
    """Return what begins the request of a ticket."""
    parts = urlsplit(made.http.url)
    lines = [f"{made.http.method} {parts.path}?{parts.query} HTTP/1.1", "Host: x"]
    lines += [f"{header.name}: {header.value}" for header in made.http.headers]
    if made.http.form_data:
        lines.append(f"Content-Type: multipart/form-data; boundary={BOUNDARY}")
    lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    return "\r\n".join([*lines, *more, "", ""]).encode()


def form_of(made: Ticket, data: bytes) -> bytes:
    """Return the body of a request: a form, or the bytes themselves."""
    if not made.http.form_data:
        return data
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
        % (
            BOUNDARY.encode(),
            field.name.encode(),
            b'; filename="x"' if field.value == "@file" else b"",
            data if field.value == "@file" else field.value.encode(),
        )
        for field in made.http.form_data
    ]
    return b"".join(parts) + b"--%s--\r\n" % BOUNDARY.encode()


@contextmanager
def line_to(made: Ticket) -> Iterator[socket.socket]:
    """Connect to where a ticket's bytes go."""
    parts = urlsplit(made.http.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30) as line:
        yield line


def all_from(line: socket.socket) -> bytes:
    """Return everything that comes until the other side hangs up."""
    came = bytearray()
    try:
        while piece := line.recv(65536):
            came += piece
    except ConnectionError:
        pass
    return bytes(came)


def is_unused(server: RunningServer, made: Ticket) -> bool:
    """Tell whether nothing is left of an upload."""
    return not server.open_files(made.id) and not [path for path in server.blob_files() if made.id in path.name]


@one_piece
def test_too_large(start_server: Start, transport: Transport) -> None:
    """A length that is too large is refused unread; bytes without a length are cut at the limit (P11, P12)."""
    server = start_server("--max-file-bytes", str(MIB))
    api = server.api()
    made = http_ticket(api, transport)
    assert send(made.http, bytes(3 * MIB)).refusal == (413, "FILE_TOO_LARGE")
    body = form_of(made, bytes(3 * MIB))
    with line_to(made) as line:
        line.sendall(head_of(made))
        sizes = []
        try:
            for start in range(0, len(body), 64 * KIB):
                piece = body[start : start + 64 * KIB]
                line.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
                sizes += [path.stat().st_size for path in server.staged_files(made.id) if path.exists()]
        except ConnectionError:
            pass
        assert b" 413 " in all_from(line)
    assert max(sizes, default=0) <= MIB
    until(lambda: is_unused(server, made))
    assert send(made.http, bytes(MIB)).ok
    assert make_file(api, made.id).size_bytes == MIB


@one_piece
@pytest.mark.parametrize("digest", ["md5", "sha256"])
def test_a_refused_body(server: RunningServer, api: Api, transport: Transport, digest: str) -> None:
    """Bytes of a wrong digest or size are refused, nothing is left of them, and the ticket stays good (P09, P11)."""
    data = os.urandom(300 * KIB)
    made = http_ticket(api, transport, spec_of("a", len(data), checksums_of(data, digest)))
    assert send(made.http, data[::-1]).refusal == (400, "CONTENT_CHECKSUM_MISMATCH")
    assert send(made.http, data[1:]).refusal == (400, "SIZE_MISMATCH")
    assert send(made.http, data + b"x").refusal == (400, "SIZE_MISMATCH")
    until(lambda: is_unused(server, made))
    assert ticket(api, made.id).committed_size == 0
    assert send(made.http, data).ok
    assert read(api, make_file(api, made.id).id) == data


@one_piece
def test_a_second_one(api: Api, transport: Transport) -> None:
    """A used ticket is told apart, whatever became of it (P31)."""
    made = http_ticket(api, transport)
    assert send(made.http, b"abc").ok
    assert send(made.http, b"other").refusal == (409, "UPLOAD_TICKET_CLOSED")
    file = make_file(api, made.id)
    assert send(made.http, b"other").refusal == (409, "UPLOAD_TICKET_CLOSED")
    assert read(api, file.id) == b"abc"
    gone = http_ticket(api, transport)
    cancel(api, gone.id)
    assert send(gone.http, b"abc").refusal == (409, "UPLOAD_TICKET_CLOSED")


@pytest.mark.parametrize(
    ("name", "value"), [("Content-Encoding", "gzip"), ("Content-Range", "bytes 0-2/3"), ("Content-Encoding", "br")]
)
def test_packed_bytes(api: Api, name: str, value: str) -> None:
    """Bytes that are not what they seem, or not all, are refused."""
    made = http_ticket(api, PUT)
    assert ask("PUT", made.http.url, {name: value}, b"abc").refusal == (400, "VALIDATION_FAILED")
    assert ask("PUT", made.http.url, {"Content-Encoding": "identity"}, b"abc").ok


def test_no_form(api: Api) -> None:
    """What is not a form, or ends too early, is refused."""
    made = http_ticket(api, FORM)
    assert ask("POST", made.http.url, {"Content-Type": "text/plain"}, b"abc").refusal == (400, "VALIDATION_FAILED")
    whole = form_of(made, b"abc")
    for cut in (0, 10, len(whole) - 10):
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        assert ask("POST", made.http.url, headers, whole[:cut]).refusal == (400, "VALIDATION_FAILED")
    assert send(made.http, b"abc").status == 204


@one_piece
def test_without_a_length(api: Api, transport: Transport) -> None:
    """Curl does not know how much a pipe will bring; it need not."""
    data = os.urandom(700 * KIB)
    made = http_ticket(api, transport)
    assert send(made.http, data, "-H", "Transfer-Encoding: chunked").ok
    assert read(api, make_file(api, made.id).id) == data


@pytest.mark.parametrize(("size", "more", "answer"), [(None, "0", b"403 0"), (5 * MIB + 1, "", b"400 0")])
def test_nothing_is_sent_for_a_refusal(api: Api, size: int | None, more: str, answer: bytes) -> None:
    """Curl asks first for a large body, and keeps it to itself if the URL is wrong, or the length (P11)."""
    made = http_ticket(api, PUT, file_pb2.FileSpec(name="a.bin", size_bytes=size))
    done = subprocess.run(
        ["curl", "-sS", "-o", os.devnull, "-w", "%{http_code} %{size_upload}", "--expect100-timeout", "20",  # noqa: S607
         "-H", "Expect: 100-continue", *options_for(made.http), f"{made.http.url}{more}"],
        input=bytes(5 * MIB), capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout == answer


def test_a_refusal_is_read(api: Api) -> None:
    """A client that sends everything before it looks gets the answer nevertheless."""
    made = http_ticket(api, PUT)
    assert ask("PUT", f"{made.http.url}0", {}, bytes(8 * MIB)).refusal == (403, "SIGNED_URL_INVALID")


@one_piece
def test_a_sender_who_goes_away(server: RunningServer, api: Api, transport: Transport) -> None:
    """Within five seconds nothing is held any more, and the ticket can be used again (P17)."""
    made = http_ticket(api, transport)
    body = form_of(made, bytes(4 * MIB))
    with line_to(made) as line:
        line.sendall(head_of(made, len(body)) + body[: 2 * MIB])
        until(lambda: server.open_files(made.id))
    until(lambda: is_unused(server, made), 5)
    assert send(made.http, b"abc").ok
    assert read(api, make_file(api, made.id).id) == b"abc"


def test_a_newer_request(server: RunningServer, api: Api) -> None:
    """It takes the ticket over from an older one that hangs, which is told."""
    made = http_ticket(api, PUT)
    with line_to(made) as line:
        line.sendall(head_of(made, MIB) + bytes(1000))
        until(lambda: server.open_files(made.id))
        assert send(made.http, b"abc").ok
        assert b'"WRITER_FENCED"' in all_from(line)
    assert read(api, make_file(api, made.id).id) == b"abc"


def test_cancelled_while_it_comes(server: RunningServer, api: Api) -> None:
    """The sender is told, and nothing is left."""
    made = http_ticket(api, PUT)
    with line_to(made) as line:
        line.sendall(head_of(made, MIB) + bytes(1000))
        until(lambda: server.open_files(made.id))
        cancel(api, made.id)
        assert b" 409 " in all_from(line)
    assert is_unused(server, made)


@pytest.mark.parametrize("pause", [None, 0.05])
def test_a_slow_sender(start_server: Start, pause: float | None) -> None:
    """Who sends nothing, or next to nothing, is cut off after the idle time, and others are served (P18)."""
    server = start_server("--idle-timeout", "1", "--min-rate", "10000")
    api = server.api()
    made = http_ticket(api, PUT)
    with line_to(made) as line:
        line.sendall(head_of(made, MIB) + b"x")
        line.setblocking(False)  # noqa: FBT003 - as in the standard library
        answer, end = b"", time.monotonic() + 20
        while not answer:
            assert time.monotonic() < end
            try:
                if pause:
                    line.send(b"x")
                answer = line.recv(1000)
            except BlockingIOError:
                time.sleep(pause or 0.05)
        assert b" 408 " in answer
    until(lambda: is_unused(server, made))
    assert send(made.http, b"abc").ok


def test_a_quota(start_server: Start) -> None:
    """Bytes that nobody declared are counted when they have come, and do not stay if there is no room (P44)."""
    server = start_server("--quota-bytes", str(MIB))
    made = http_ticket(server.api(), PUT)
    assert send(made.http, bytes(2 * MIB)).refusal == (429, "QUOTA_EXCEEDED")
    until(lambda: is_unused(server, made))
    assert send(made.http, bytes(KIB)).ok


def test_as_many_as_are_admitted(start_server: Start) -> None:
    """Beyond 256 uploads of one principal the next is told to come back, and does not wait in a queue."""
    server = start_server()
    api = server.api()
    made: list[Ticket] = []
    for _ in range(3):
        wanted = [tickets_pb.CreateUploadTicketRequest(spec=spec_of(str(uuid4())), transport=PUT) for _ in range(86)]
        request = tickets_pb.BatchCreateUploadTicketsRequest(workspace_id="demo", requests=wanted)
        made += [result.upload_ticket for result in api.tickets.BatchCreateUploadTickets(request).results]
    lines = []
    for one in made[:256]:
        parts = urlsplit(one.http.url)
        line = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30)
        line.sendall(head_of(one, 10) + b"abc")
        lines.append(line)
    until(lambda: len(server.staged_files()) == 256, 30)
    reply = ask("PUT", made[256].http.url, {}, b"abc")
    assert reply.refusal == (429, "TOO_MANY_STREAMS")
    assert reply.headers["retry-after"] == "1"
    for line in lines:
        line.close()
    until(lambda: not server.staged_files(), 20)
    assert ask("PUT", made[256].http.url, {}, b"abc").ok


def test_no_body_is_held(start_server: Start, tmp_path: Path) -> None:
    """Memory does not grow with the file, in or out."""
    server = start_server()
    api = server.api()
    source = tmp_path / "large"
    digest = hashlib.sha256()
    with source.open("wb") as file:
        for _ in range(24):
            block = os.urandom(8 * MIB)
            digest.update(block)
            file.write(block)
    size = source.stat().st_size

    def peak() -> int:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{server.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * KIB

    before = peak()
    for transport in (PUT, FORM):
        made = http_ticket(api, transport)
        options = ["-T", str(source)] if transport == PUT else []
        for field in made.http.form_data:
            options += ["-F", f"{field.name}={field.value.replace('@file', f'@{source}')}"]
        assert curl(made.http.url, *options).ok
        made_of_it = make_file(api, made.id)
        assert (made_of_it.size_bytes, made_of_it.checksums.sha256) == (size, digest.digest())
    found = curl(download_url(api, made_of_it.id), output=tmp_path / "back")
    assert (found.status, (tmp_path / "back").stat().st_size) == (200, size)
    assert peak() - before < size / 4


def test_sigterm(start_server: Start) -> None:
    """What is under way is finished, nobody new is admitted, health says so, and the server ends well (P05)."""
    server = start_server()
    made, other = (http_ticket(server.api(), PUT) for _ in range(2))
    data = os.urandom(600 * KIB)
    with line_to(made) as line, line_to(other) as waiting:
        line.sendall(head_of(made, len(data)) + data[: 300 * KIB])
        until(lambda: server.open_files(made.id))
        server.signal(signal.SIGTERM)

        def is_draining() -> bool:
            try:
                return not ask("GET", f"{server.ready['http']}/healthz").ok
            except OSError:
                return True

        until(is_draining)
        line.sendall(data[300 * KIB :])
        answer = all_from(line)
        assert b" 200 " in answer
        waiting.close()
    assert server.wait() == 0
    server.restart()
    api = server.api()
    assert read(api, make_file(api, made.id).id) == data
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "UPLOAD_INCOMPLETE"):
        make_file(api, other.id)

"""Uploads in parts, as Cloud Storage's resumable sessions take them, at the URLs of this server."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import grpc
import pytest

from remora.v1 import file_pb2, upload_ticket_pb2
from tests.combinations import own_urls
from tests.running import Api, RunningServer, refused, until
from tests.ticketing import RESUMABLE, Reply, ask, http_ticket, make_file
from tests.uploading import KIB, MIB, cancel, checksums_of, read, spec_of, ticket

pytestmark = own_urls
PART = 256 * KIB
CLOSED = grpc.StatusCode.FAILED_PRECONDITION


class Session:
    """One upload."""

    def __init__(self, api: Api, spec: file_pb2.FileSpec | None = None) -> None:
        self.api = api
        self.ticket = http_ticket(api, RESUMABLE, spec)
        self.url = self.ticket.http.url

    def put(self, data: bytes | None, content_range: str = "", **headers: str) -> Reply:
        """Send a part."""
        if content_range:
            headers["Content-Range"] = f"bytes {content_range}"
        return ask("PUT", self.url, {name.replace("_", "-"): value for name, value in headers.items()}, data or b"")

    def part(self, data: bytes, first: int, end: int, total: object = "*") -> Reply:
        """Send these bytes of a whole."""
        return self.put(data[first:end], f"{first}-{end - 1}/{total}")

    def where(self, total: object = "*") -> Reply:
        """Ask how far it is."""
        return self.put(None, f"*/{total}")

    def committed(self) -> int:
        """Return how many bytes are stored for good, by both of those who know."""
        reply = self.where()
        assert reply.status == 308, reply
        size = committed_of(reply)
        assert ticket(self.api, self.ticket.id).committed_size == size
        return size

    def content(self) -> bytes:
        """Make the file; return its bytes."""
        file = make_file(self.api, self.ticket.id)
        data = read(self.api, file.id)
        assert file.checksums.sha256 == checksums_of(data).sha256
        return data


def committed_of(reply: Reply) -> int:
    """Return what the answer says is stored."""
    if "range" not in reply.headers:
        return 0
    first, _, last = reply.headers["range"].removeprefix("bytes=").partition("-")
    assert first == "0"
    return int(last) + 1


@pytest.fixture
def session(api: Api) -> Session:
    """Begin an upload of which nothing is known."""
    return Session(api)


def test_the_ticket_says_how(session: Session) -> None:
    """PUT to the URL, in parts of a multiple of 256 KiB."""
    http = session.ticket.http
    assert (http.method, http.chunk_multiple_bytes) == ("PUT", PART)
    assert not http.headers
    assert http.expire_time.seconds - session.ticket.create_time.seconds == 7 * 86400


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", [1, PART, PART + 1, 3 * PART, 1_000_000])
def test_part_by_part(session: Session, size: int, known: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Each part is answered with what is stored for good, and the last with 200; the size may come with that one."""
    data = os.urandom(size)
    total = str(size) if known else "*"
    assert session.committed() == 0
    for first in range(0, size - PART, PART):
        reply = session.part(data, first, first + PART, total)
        assert (reply.status, committed_of(reply), reply.body) == (308, first + PART, b"")
        assert session.committed() == first + PART
    first = session.committed()
    last = session.part(data, first, size, size)
    assert (last.status, session.where().status, session.where(size).status) == (200, 200, 200)
    assert session.content() == data
    assert session.where().status == 200


def test_in_one_request(session: Session) -> None:
    """Without a Content-Range it is the whole; so it is with one that spans it."""
    data = os.urandom(300_001)
    assert session.put(data).status == 200
    assert session.content() == data
    other = Session(session.api)
    assert other.part(data, 0, len(data), len(data)).status == 200
    assert other.content() == data


def test_nothing(session: Session) -> None:
    """A file without bytes is finished by saying so, or by an empty body."""
    assert session.committed() == 0
    assert session.where(0).status == 200
    assert session.content() == b""
    other = Session(session.api)
    assert other.put(b"").status == 200
    assert other.content() == b""


def test_the_size_afterwards(session: Session) -> None:
    """A last part that was sent as one among others is made the last by naming the size."""
    data = os.urandom(2 * PART)
    assert session.part(data, 0, len(data)).status == 308
    assert session.where(3 * PART).status == 308
    assert session.where(len(data)).status == 200
    assert session.content() == data


@pytest.mark.parametrize(
    ("content_range", "size", "refusal"),
    [
        ("0-262143/*", PART, (409, "OFFSET_MISMATCH")),
        ("262143-524286/*", PART, (409, "OFFSET_MISMATCH")),
        ("524288-786431/*", PART, (409, "OFFSET_MISMATCH")),
        ("262145-262146/262147", 2, (409, "OFFSET_MISMATCH")),
        ("262144-262245/*", 102, (400, "VALIDATION_FAILED")),
        ("262144-524286/1000000", PART - 1, (400, "VALIDATION_FAILED")),
        ("262144-524287/*", PART - 1, (400, "VALIDATION_FAILED")),
        ("262144-524287/*", PART + 1, (400, "VALIDATION_FAILED")),
        ("524287-262144/*", PART, (400, "VALIDATION_FAILED")),
        ("262144-524287/524287", PART, (400, "VALIDATION_FAILED")),
        ("*/*", 1, (400, "VALIDATION_FAILED")),
        ("a-b/c", 1, (400, "VALIDATION_FAILED")),
        ("262144-/*", PART, (400, "VALIDATION_FAILED")),
        ("262144-524287", PART, (400, "VALIDATION_FAILED")),
        ("-1-5/*", 6, (400, "VALIDATION_FAILED")),
        ("", PART, (409, "OFFSET_MISMATCH")),
        ("262144-99999999999999999/99999999999999999999", 5, (400, "VALIDATION_FAILED")),
        ("262144-6000000143/6000000144", 1, (400, "VALIDATION_FAILED")),
        ("262144-524287/6000000000", PART, (413, "FILE_TOO_LARGE")),
    ],
)
def test_what_is_refused(session: Session, content_range: str, size: int, refusal: tuple[int, str]) -> None:
    """A part that does not fit changes nothing, and says where the next one begins; the upload goes on (P14)."""
    data = os.urandom(2 * PART)
    assert session.part(data, 0, PART).status == 308
    reply = session.put(bytes(size), content_range)
    assert reply.refusal == refusal
    if refusal[0] == 409:
        assert committed_of(reply) == PART
    assert session.committed() == PART
    assert session.part(data, PART, 2 * PART, 2 * PART).status == 200
    assert session.content() == data


def test_a_declared_size(api: Api) -> None:
    """A whole of another size than declared is refused at the first part that says so (P11)."""
    data = os.urandom(2 * PART)
    session = Session(api, spec_of("a", len(data)))
    for other in (len(data) - 1, len(data) + 1):
        assert session.part(data, 0, PART, other).refusal == (400, "SIZE_MISMATCH")
        assert session.where(other).refusal == (400, "SIZE_MISMATCH")
    assert session.part(data + data, 0, 3 * PART).refusal == (400, "SIZE_MISMATCH")
    assert session.part(data, 0, PART, len(data)).status == 308
    assert session.part(data, PART, 2 * PART).status == 308
    # All that was declared is there, so to ask is enough.
    assert session.where().status == 200
    assert session.content() == data


def test_a_wrong_digest(api: Api) -> None:
    """Parts that are not what was declared make no file, and nothing is left of them (P09)."""
    data = os.urandom(2 * PART)
    session = Session(api, spec_of("a", len(data), checksums_of(data, "sha256")))
    assert session.put(data[::-1]).status == 200
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "CONTENT_CHECKSUM_MISMATCH"):
        make_file(api, session.ticket.id)
    assert session.where().refusal == (409, "UPLOAD_TICKET_CLOSED")
    assert session.part(data, 0, PART).refusal == (409, "UPLOAD_TICKET_CLOSED")


def test_single_use(session: Session) -> None:
    """When all is there no part is taken any more (P31); to ask is harmless, so a lost answer is too (P15)."""
    data = os.urandom(PART + 5)
    for _ in range(2):
        reply = session.put(data)
        assert reply.status in {200, 409}
    assert reply.refusal == (409, "UPLOAD_TICKET_CLOSED")
    assert session.part(data, PART, PART + 5, PART + 5).refusal == (409, "UPLOAD_TICKET_CLOSED")
    assert session.content() == data
    assert session.put(data).refusal == (409, "UPLOAD_TICKET_CLOSED")
    assert session.where(PART + 5).status == 200


def test_given_up(session: Session) -> None:
    """DELETE ends the upload, as Cloud Storage's own status says; what was there is gone."""
    assert session.part(os.urandom(PART), 0, PART).status == 308
    assert ask("DELETE", session.url).status == 499
    assert ticket(session.api, session.ticket.id).state == upload_ticket_pb2.UPLOAD_TICKET_STATE_CANCELLED
    for reply in (session.where(), session.put(b"x"), ask("DELETE", session.url)):
        assert reply.refusal == (409, "UPLOAD_TICKET_CLOSED")


def test_cancelled_by_call(session: Session) -> None:
    """The other way round is the same."""
    assert session.part(os.urandom(PART), 0, PART).status == 308
    cancel(session.api, session.ticket.id)
    assert session.part(os.urandom(PART), 0, PART).refusal == (409, "UPLOAD_TICKET_CLOSED")


def test_for_browsers(session: Session) -> None:
    """Whoever can't have a 308 gets 200 and the status in a header, as from Cloud Storage."""
    reply = session.put(os.urandom(PART), f"0-{PART - 1}/*", X_GUploader_No_308="yes")
    assert (reply.status, reply.headers["x-http-status-code-override"]) == (200, "308")
    assert committed_of(reply) == PART


def test_without_a_length(session: Session) -> None:
    """Chunked parts are counted as they come: the Content-Range holds for them too."""
    data = os.urandom(2 * PART)

    def chunked(content_range: str, body: bytes) -> Reply:
        pieces = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        headers = {"Transfer-Encoding": "chunked", **({"Content-Range": content_range} if content_range else {})}
        return ask("PUT", session.url, headers, pieces)

    assert chunked(f"bytes 0-{PART - 1}/*", data[:PART]).status == 308
    assert chunked(f"bytes {PART}-{2 * PART - 1}/{2 * PART}", data[PART:] + b"x").refusal[0] == 400
    at = session.committed()
    assert PART <= at <= 2 * PART
    if at < 2 * PART:
        short = chunked(f"bytes {at}-{2 * PART - 1}/{2 * PART}", data[at:-7])
        assert (short.status, committed_of(short)) == (400, 2 * PART - 7)
        at = 2 * PART - 7
    assert session.put(data[at:], f"{at}-{2 * PART - 1}/{2 * PART}" if data[at:] else f"*/{2 * PART}").status == 200
    assert session.content() == data


def begun(session: Session, data: bytes, *, first: int = 0) -> socket.socket:
    """Begin to send the rest of a whole."""
    parts = urlsplit(session.url)
    line = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20)
    head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data) - first}\r\n"
    line.sendall(f"{head}Content-Range: bytes {first}-{len(data) - 1}/{len(data)}\r\n\r\n".encode())
    return line


def test_a_line_that_breaks(server: RunningServer, session: Session) -> None:
    """What came before the line broke counts, and never more than came; the next part begins there (P13)."""
    data = os.urandom(8 * MIB)
    at = 0
    for sent in (2 * MIB, 1, 3 * MIB, 77):
        line = begun(session, data, first=at)
        line.sendall(data[at : at + sent])
        until(lambda: server.open_files(session.ticket.id))
        line.close()
        until(lambda: not server.open_files(session.ticket.id))
        assert at <= session.committed() <= at + sent
        at = session.committed()
    # What the server had not looked at yet when the line broke is lost, and that is little.
    assert at > 4 * MIB
    assert session.part(data, at, len(data), len(data)).status == 200
    assert session.content() == data


def test_overtaken(session: Session) -> None:
    """A part that is sent again while an earlier request still hangs takes the upload over from it."""
    data = os.urandom(MIB)
    with begun(session, data) as line:
        line.sendall(data[:1000])
        until(lambda: ticket(session.api, session.ticket.id).state == upload_ticket_pb2.UPLOAD_TICKET_STATE_UPLOADING)
        assert session.put(data).status == 200
        assert b" 409 " in line.recv(100)
    assert session.content() == data


def test_a_restart(start_server: Callable[..., RunningServer]) -> None:
    """After kill -9, and after SIGTERM in the middle of a part, the upload goes on where the last answer said (P01)."""
    server = start_server()
    data = os.urandom(4 * PART + 99)
    session = Session(server.api())

    def come_back() -> None:
        server.restart()
        session.api = server.api()
        port = urlsplit(session.url).port
        session.url = session.url.replace(f":{port}/", f":{urlsplit(server.ready['http']).port}/")

    assert session.part(data, 0, 2 * PART).status == 308
    server.kill()
    come_back()
    assert session.committed() == 2 * PART
    with begun(session, data, first=2 * PART) as line:
        line.sendall(data[2 * PART : 3 * PART + 5])
        until(lambda: ticket(session.api, session.ticket.id).committed_size > 2 * PART, 20)
        assert server.stop() == 0
        answer = line.recv(1000)
    assert b" 503 " in answer
    assert f"range: bytes=0-{3 * PART + 4}".encode() in answer
    come_back()
    assert session.committed() == 3 * PART + 5
    assert session.part(data, 3 * PART + 5, len(data), len(data)).status == 200
    assert session.content() == data
    assert server.report("fsck")["clean"]

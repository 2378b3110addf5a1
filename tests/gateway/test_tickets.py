"""Upload tickets over HTTP, on any store: whoever follows `UploadTicket.http` gets a file, and nothing undeclared."""

from __future__ import annotations

import base64
import os
from typing import TypeAlias
from uuid import uuid4

import grpc
import pytest

from remora.v1 import file_pb2, upload_ticket_pb2
from remora.v1 import upload_ticket_service_pb2 as tickets_pb
from tests.combinations import BLOBS
from tests.running import Api, RunningServer, refused
from tests.ticketing import FORM, PUT, TRANSPORTS, curl, download_url, http_ticket, make_file, send
from tests.uploading import KIB, MIB, append, attached, cancel, checksums_of, read, spec_of, ticket

CLOSED = grpc.StatusCode.FAILED_PRECONDITION
COMPLETED, FAILED = upload_ticket_pb2.UPLOAD_TICKET_STATE_COMPLETED, upload_ticket_pb2.UPLOAD_TICKET_STATE_FAILED
transports = pytest.mark.parametrize("transport", TRANSPORTS.values(), ids=TRANSPORTS)
one_piece = pytest.mark.parametrize("transport", [PUT, FORM], ids=["put", "form"])
Transport: TypeAlias = upload_ticket_pb2.Transport.ValueType


def typed(data: bytes, *digests: str, name: str = "shot.png", content_type: str = "image/png") -> file_pb2.FileSpec:
    """Declare everything of a file, its named digests among it."""
    spec = spec_of(name, len(data), checksums_of(data, *digests) if digests else None)
    spec.content_type = content_type
    return spec


@transports
@pytest.mark.parametrize("size", [0, 1, 256 * KIB - 1, 256 * KIB, 256 * KIB + 1, 5 * MIB + 77])
def test_sizes(api: Api, transport: Transport, size: int) -> None:
    """Files of every size go in with curl and come out with curl, byte for byte (P12)."""
    data = os.urandom(size)
    made = http_ticket(api, transport, typed(data, "md5", "sha256"))
    assert send(made.http, data).ok
    file = make_file(api, made.id)
    assert file.checksums == checksums_of(data)
    assert (file.name, file.content_type, file.size_bytes) == ("shot.png", "image/png", size)
    assert read(api, file.id) == data
    found = curl(download_url(api, file.id))
    assert (found.status, found.body) == (200, data)


@transports
def test_nothing_declared(api: Api, new_issue: str, transport: Transport) -> None:
    """A name is enough; the file hangs on what the ticket names."""
    data = os.urandom(700 * KIB)
    made = http_ticket(api, transport, attach_to=new_issue)
    assert send(made.http, data).ok
    file = make_file(api, made.id)
    assert (file.size_bytes, file.checksums.sha256) == (len(data), checksums_of(data).sha256)
    assert [one.id for one in attached(api, new_issue)] == [file.id]


@transports
def test_the_order_of_steps(server: RunningServer, api: Api, transport: Transport) -> None:
    """Before the bytes no file, then one, always the same, for its creator alone (P15, P33)."""
    data = os.urandom(1000)
    made = http_ticket(api, transport)
    with refused(CLOSED, "UPLOAD_INCOMPLETE"):
        make_file(api, made.id)
    assert send(made.http, data).ok
    somebody = server.api(server.new_key(f"user-{uuid4()}"))
    with refused(grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
        make_file(somebody, made.id)
    somebody.channel.close()
    file = make_file(api, made.id)
    assert make_file(api, made.id) == file
    assert (ticket(api, made.id).state, ticket(api, made.id).file_id) == (COMPLETED, file.id)


@one_piece
def test_single_use(api: Api, transport: Transport) -> None:
    """A second upload is refused and changes nothing, before the file is made and after (P31).

    Cloud Storage lets a form replace what it sent before, and so it may until the file is made.
    """
    may_replace = BLOBS == "gcs" and transport == FORM
    data = os.urandom(100 * KIB)
    made = http_ticket(api, transport, typed(data))
    assert send(made.http, data).ok
    if not may_replace:
        assert not send(made.http, os.urandom(len(data))).ok
    file = make_file(api, made.id)
    assert send(made.http, os.urandom(len(data))).ok == may_replace
    assert read(api, file.id) == data


@one_piece
@pytest.mark.parametrize("digests", [("md5",), ("sha256",), ("md5", "sha256")])
def test_wrong_digests(api: Api, transport: Transport, digests: tuple[str, ...]) -> None:
    """Bytes of other digests than declared become no file, whoever notices it (P09)."""
    data, wrong = os.urandom(300 * KIB), os.urandom(300 * KIB)
    made = http_ticket(api, transport, typed(data, *digests))
    if send(made.http, wrong).ok:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "CONTENT_CHECKSUM_MISMATCH"):
            make_file(api, made.id)
        assert ticket(api, made.id).state == FAILED
    else:
        with refused(CLOSED, "UPLOAD_INCOMPLETE"):
            make_file(api, made.id)
    fresh = http_ticket(api, transport, typed(data, *digests))
    assert send(fresh.http, data).ok
    assert read(api, make_file(api, fresh.id).id) == data


@transports
@pytest.mark.parametrize("by", [-1, 1])
def test_wrong_length(api: Api, transport: Transport, by: int) -> None:
    """A byte more or less than declared is refused, and no file is made (P11)."""
    data = os.urandom(300 * KIB)
    made = http_ticket(api, transport, typed(data))
    assert not send(made.http, (data + b"x")[: len(data) + by]).ok
    with refused(CLOSED, "UPLOAD_INCOMPLETE"):
        make_file(api, made.id)


@pytest.mark.parametrize("transport", [PUT], ids=["put"])
def test_md5_is_sent_along(api: Api, transport: Transport) -> None:
    """A declared MD5 and type are headers to send, so that whoever takes the bytes compares them."""
    data = os.urandom(10)
    made = http_ticket(api, transport, typed(data, "md5"))
    headers = {header.name.lower(): header.value for header in made.http.headers}
    assert headers["content-md5"] == base64.b64encode(checksums_of(data).md5).decode()
    assert headers["content-type"] == "image/png"


@transports
def test_it_is_shown_with_the_ticket(api: Api, transport: Transport) -> None:
    """How to send is in every answer that shows one open ticket, also in a repeated one, and works from each."""
    request_id = str(uuid4())
    request = tickets_pb.CreateUploadTicketRequest(
        workspace_id="demo", spec=spec_of(f"{request_id}.bin"), transport=transport, request_id=request_id
    )
    first = api.tickets.CreateUploadTicket(request).upload_ticket
    again = api.tickets.CreateUploadTicket(request).upload_ticket
    shown = ticket(api, first.id)
    assert again.id == first.id
    assert first.http.url and again.http.url and shown.http.url  # noqa: PT018 - all are there
    assert first.transport == transport
    data = os.urandom(1000)
    assert send(shown.http, data).ok
    file = make_file(api, first.id)
    assert read(api, file.id) == data
    assert not ticket(api, first.id).HasField("http")
    assert not api.tickets.CreateUploadTicket(request).upload_ticket.HasField("http")


def test_a_batch(api: Api) -> None:
    """Each ticket of a batch says how its own bytes are to be sent."""
    request = tickets_pb.BatchCreateUploadTicketsRequest(
        workspace_id="demo",
        requests=[
            tickets_pb.CreateUploadTicketRequest(spec=spec_of(f"{uuid4()}"), transport=transport)
            for transport in (*TRANSPORTS.values(), upload_ticket_pb2.TRANSPORT_GRPC)
        ],
    )
    made = [result.upload_ticket for result in api.tickets.BatchCreateUploadTickets(request).results]
    assert len({one.http.url for one in made}) == 4
    assert not made[-1].HasField("http")
    for one in made[:-1]:
        assert send(one.http, one.id.encode()).ok
        assert read(api, make_file(api, one.id).id) == one.id.encode()


@transports
def test_streams_are_kept_out(api: Api, transport: Transport) -> None:
    """A ticket takes bytes by the transport that it was issued for."""
    made = http_ticket(api, transport)
    with refused(CLOSED, "TRANSPORT_UNAVAILABLE"):
        append(api, made.id, 0, b"abc")
    assert send(made.http, b"abc").ok


@one_piece
def test_a_cancelled_ticket(api: Api, transport: Transport) -> None:
    """Bytes that arrived for it make no file, and are gone."""
    made = http_ticket(api, transport)
    assert send(made.http, b"abc").ok
    cancel(api, made.id)
    with refused(CLOSED, "UPLOAD_TICKET_CLOSED"):
        make_file(api, made.id)


@one_piece
def test_known_content(api: Api, transport: Transport) -> None:
    """Content that was stored before is stored once, and its new file is as good as any."""
    data = os.urandom(200 * KIB)
    files = []
    for name in ("one", "other"):
        made = http_ticket(api, transport, spec_of(name))
        assert send(made.http, data).ok
        files.append(make_file(api, made.id))
    assert files[0].id != files[1].id
    assert [read(api, file.id) == data for file in files] == [True, True]

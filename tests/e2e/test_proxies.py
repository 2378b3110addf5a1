"""REMORA_TRUSTED_PROXIES: whose word counts for where a call comes from, on both ports."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import httpx
import pytest

from remora.v1 import file_pb2, upload_ticket_pb2
from remora.v1 import upload_ticket_service_pb2 as pb
from tests.running import RunningServer, refused, until

Start = Callable[..., RunningServer]
LIES = (
    ("x-forwarded-for", "192.0.2.7"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-port", "1"),
)


@pytest.mark.parametrize(
    ("networks", "origin"),
    [("", "127.0.0.1"), ("10.0.0.0/8", "127.0.0.1"), ("10.0.0.0/8,127.0.0.0/8,::1", "192.0.2.7")],
)
def test_where_a_call_comes_from(start_server: Start, networks: str, origin: str) -> None:
    """The log names the address that a trusted proxy tells, and the peer's own if it is not trusted; URLs never do."""
    server = start_server("--trusted-proxies", networks)
    api = server.api("rk_wrong")
    with refused(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"):
        api.tickets.ListUploadTickets(pb.ListUploadTicketsRequest(workspace_id="demo"), metadata=LIES)
    until(lambda: f"TOKEN_MISSING in /remora.v1.UploadTicketService/ListUploadTickets from {origin}\n" in server.log())
    request = pb.CreateUploadTicketRequest(
        workspace_id="demo",
        spec=file_pb2.FileSpec(name="a.bin", size_bytes=3),
        transport=upload_ticket_pb2.TRANSPORT_HTTP_PUT,
    )
    ticket = server.api().tickets.CreateUploadTicket(request, metadata=LIES).upload_ticket
    url = ticket.http.url
    assert url.startswith(server.ready["http"] + "/")
    with httpx.Client(headers=dict(LIES)) as client:
        assert client.put(url + "x", content=b"abc").status_code == 403
    path = httpx.URL(url).path
    until(lambda: f"SIGNED_URL_INVALID in PUT {path} from {origin}\n" in server.log())

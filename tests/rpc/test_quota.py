"""Quotas, over a real server: what is announced counts, whoever comes first, and every end gives it back."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import grpc
import pytest
from google.rpc import error_details_pb2

from remora.v1 import file_pb2, upload_ticket_pb2
from remora.v1 import file_service_pb2 as pb
from remora.v1 import upload_ticket_service_pb2 as tickets_pb
from tests.running import Api, Refusal, RunningServer, refused, until
from tests.uploading import (
    KIB,
    WAYS,
    Stream,
    append,
    cancel,
    checksums_of,
    create_file,
    new_ticket,
    read,
    spec_of,
    ticket,
    upload,
)

Start = Callable[..., RunningServer]
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
LIMIT = 100 * KIB


@pytest.fixture
def api(start_server: Start) -> Api:
    """Call a server with a limit."""
    return start_server("--quota-bytes", str(LIMIT)).api()


def delete(api: Api, file: file_pb2.File) -> None:
    """Delete a file."""
    api.files.DeleteFile(pb.DeleteFileRequest(file_id=file.id))


def require_final(refusal: Refusal, requested_bytes: int, used_bytes: int, reserved_bytes: int) -> None:
    """Hold a refusal to what is told of quotas: whose, how much of what, and no hint to try again."""
    numbers = {"requested_bytes": requested_bytes, "used_bytes": used_bytes + reserved_bytes, "limit_bytes": LIMIT}
    assert dict(refusal.info.metadata) == {name: str(number) for name, number in numbers.items()}
    assert f"{requested_bytes} bytes more do not fit: of its {LIMIT} bytes" in refusal.message
    assert f"has used {used_bytes}, and open uploads hold {reserved_bytes};" in refusal.message
    failure = error_details_pb2.QuotaFailure()
    assert any(detail.Unpack(failure) for detail in refusal.details)
    assert failure.violations[0].subject.startswith("workspaces/wks_")
    assert not refusal.retry.HasField("retry_delay")


def require_free(api: Api, size_bytes: int) -> None:
    """Show that there is room for so many bytes, and for no more."""
    with refused(EXHAUSTED, "QUOTA_EXCEEDED"):
        new_ticket(api, spec_of(size_bytes=size_bytes + 1))
    cancel(api, new_ticket(api, spec_of(size_bytes=size_bytes)).id)


def test_a_ticket_holds_what_it_declares(api: Api) -> None:
    """While it is open nobody else gets that room; cancelling and failing give it back, completing charges it."""
    one, two = new_ticket(api, spec_of(size_bytes=60 * KIB)).id, new_ticket(api, spec_of(size_bytes=20 * KIB)).id
    require_free(api, 20 * KIB)
    with refused(EXHAUSTED, "QUOTA_EXCEEDED") as refusals:
        upload(api, os.urandom(21 * KIB))
    require_final(refusals[0], 21 * KIB, 0, 80 * KIB)
    cancel(api, two)
    require_free(api, 40 * KIB)
    append(api, one, 0, os.urandom(60 * KIB))
    require_free(api, 40 * KIB)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "CONTENT_CHECKSUM_MISMATCH"):
        create_file(api, one, checksums=checksums_of(b"other"))
    require_free(api, 100 * KIB)
    for way in WAYS.values():
        data = os.urandom(70 * KIB)
        file = way(api, data, spec_of(size_bytes=len(data)))
        require_free(api, 30 * KIB)
        delete(api, file)
        require_free(api, 100 * KIB)


def test_a_stream_that_comes_to_the_quota(api: Api) -> None:
    """It ends with QUOTA_EXCEEDED; its ticket keeps what was committed, and goes on once there is room."""
    other = upload(api, os.urandom(40 * KIB)).file
    data = os.urandom(90 * KIB)
    with Stream(api) as stream:
        stream.ready()
        stream.send(data[: 50 * KIB])
        assert stream.flush() == 50 * KIB
        require_free(api, 10 * KIB)
        stream.send(data[50 * KIB :])
        stream.ask_flush()
        with refused(EXHAUSTED, "QUOTA_EXCEEDED") as refusals:
            stream.rest()
        require_final(refusals[0], 40 * KIB, 40 * KIB, 50 * KIB)
    kept = ticket(api, stream.ticket_id)
    assert (kept.state, kept.committed_size) == (upload_ticket_pb2.UPLOAD_TICKET_STATE_UPLOADING, 50 * KIB)
    require_free(api, 10 * KIB)
    with refused(EXHAUSTED, "QUOTA_EXCEEDED"):
        append(api, stream.ticket_id, 50 * KIB, data[50 * KIB :])
    delete(api, other)
    with Stream(api, stream.ticket_id) as again:
        assert again.ready().committed_size == 50 * KIB
        again.send_all(data)
        assert read(api, again.finish(checksums=checksums_of(data)).file.id) == data
    require_free(api, 10 * KIB)


def test_finishing_beyond_the_quota(api: Api) -> None:
    """Finish and CreateFile are refused where the bytes that were not declared do not fit; the ticket stays."""
    other = upload(api, os.urandom(60 * KIB)).file
    data = os.urandom(50 * KIB)
    with Stream(api) as stream:
        stream.ready()
        stream.send(data)
        with refused(EXHAUSTED, "QUOTA_EXCEEDED") as refusals:
            stream.finish(checksums=checksums_of(data))
        require_final(refusals[0], 50 * KIB, 60 * KIB, 0)
    delete(api, other)
    append(api, stream.ticket_id, 0, data)
    assert read(api, create_file(api, stream.ticket_id, checksums=checksums_of(data)).file.id) == data


def test_opening_in_a_full_workspace(api: Api) -> None:
    """A stream of unknown size is refused before a byte is sent; one that holds its room goes on."""
    silent, declared = new_ticket(api).id, new_ticket(api, spec_of(size_bytes=30 * KIB)).id
    upload(api, os.urandom(70 * KIB))
    for ticket_id in (silent, ""):
        with Stream(api, ticket_id) as stream, refused(EXHAUSTED, "QUOTA_EXCEEDED") as refusals:
            stream.ready()
        require_final(refusals[0], 1, 70 * KIB, 30 * KIB)
    data = os.urandom(30 * KIB)
    with Stream(api, declared) as stream:
        stream.ready()
        stream.send(data)
        assert stream.finish().file.size_bytes == len(data)


def test_parallel_uploads_cannot_pass_the_quota(api: Api) -> None:
    """P44: of 50 uploads at once, by all three ways, declared or not, no more succeed than fit; deleting gives it back.

    Those that are refused leave nothing but their tickets, and cancelling these gives back what they hold.
    """
    together = Barrier(50)
    ways = list(WAYS.values())

    def send(number: int) -> file_pb2.File | Refusal:
        data = os.urandom(9 * KIB + number)
        spec = spec_of(size_bytes=len(data) if number % 2 else None)
        together.wait()
        try:
            return ways[number % 3](api, data, spec)
        except grpc.RpcError as error:
            return Refusal(error)

    with ThreadPoolExecutor(50) as pool:
        results = list(pool.map(send, range(50)))
    files = [one for one in results if isinstance(one, file_pb2.File)]
    refusals = [one for one in results if isinstance(one, Refusal)]
    assert {(one.code, one.reason) for one in refusals} == {(EXHAUSTED, "QUOTA_EXCEEDED")}
    assert 0 < sum(file.size_bytes for file in files) <= LIMIT
    for file in files:
        delete(api, file)
    for left in tickets_of(api):
        cancel(api, left.id)
    require_free(api, LIMIT)


def tickets_of(api: Api) -> list[upload_ticket_pb2.UploadTicket]:
    """Return the open tickets."""
    states = [upload_ticket_pb2.UPLOAD_TICKET_STATE_PENDING, upload_ticket_pb2.UPLOAD_TICKET_STATE_UPLOADING]
    request = tickets_pb.ListUploadTicketsRequest(workspace_id="demo", states=states)
    return list(api.tickets.ListUploadTickets(request).upload_tickets)


def test_reservations_outlive_the_server_and_run_out(start_server: Start) -> None:
    """A killed server's tickets still hold their room; once they have expired they don't, even before a sweep."""
    server = start_server("--quota-bytes", str(LIMIT), "--ticket-ttl", "3")
    api = server.api()
    ticket_id = new_ticket(api, spec_of(size_bytes=80 * KIB)).id
    append(api, ticket_id, 0, os.urandom(40 * KIB))
    server.kill()
    server.start()
    api = server.api()
    require_free(api, 20 * KIB)
    until(lambda: ticket(api, ticket_id).state == upload_ticket_pb2.UPLOAD_TICKET_STATE_EXPIRED)
    assert upload(api, os.urandom(LIMIT)).file.size_bytes == LIMIT
    server.report("gc")
    with refused(EXHAUSTED, "QUOTA_EXCEEDED"):
        upload(api, b"x")

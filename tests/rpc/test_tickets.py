"""Upload tickets over a real server: issue, append, create, cancel, list, expire."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from uuid import uuid4

import grpc
import pytest

from remora.v1 import common_pb2, file_pb2, upload_ticket_pb2
from remora.v1 import upload_ticket_service_pb2 as pb
from tests.running import Api, RunningServer, issue, refused, until
from tests.uploading import (
    KIB,
    MIB,
    Stream,
    append,
    ask_for_ticket,
    attached,
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
State = upload_ticket_pb2.UploadTicketState
INVALID, ABORTED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ABORTED
CLOSED, NOT_FOUND = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND
PENDING, UPLOADING, COMPLETED, CANCELLED, EXPIRED = (
    upload_ticket_pb2.UPLOAD_TICKET_STATE_PENDING,
    upload_ticket_pb2.UPLOAD_TICKET_STATE_UPLOADING,
    upload_ticket_pb2.UPLOAD_TICKET_STATE_COMPLETED,
    upload_ticket_pb2.UPLOAD_TICKET_STATE_CANCELLED,
    upload_ticket_pb2.UPLOAD_TICKET_STATE_EXPIRED,
)


@pytest.fixture
def somebody(server: RunningServer) -> Iterator[Api]:
    """Give another user of the same workspace."""
    api = server.api(server.new_key(f"user-{uuid4()}"))
    yield api
    api.channel.close()


def listed(api: Api, *states: State.ValueType, page_size: int = 0, created_by: str = "") -> list[str]:
    """Walk through all pages of ListUploadTickets; return the ids."""
    found: list[str] = []
    token = ""
    while True:
        answer = api.tickets.ListUploadTickets(
            pb.ListUploadTicketsRequest(
                workspace_id="demo", states=states, page_size=page_size, page_token=token, created_by=created_by
            )
        )
        assert not page_size or len(answer.upload_tickets) <= page_size
        found += [one.id for one in answer.upload_tickets]
        token = answer.next_page_token
        if not token:
            return found


def test_a_ticket_says_what_was_asked_and_what_holds(api: Api, new_issue: str) -> None:
    """A new ticket repeats the spec, stands at 0, and tells limits, subject, creator and time of expiry."""
    spec = spec_of("clip.mp4", 10, checksums_of(b"0123456789"))
    spec.content_type = "video/mp4"
    made = new_ticket(api, spec, attach_to=new_issue)
    assert made.spec == spec
    assert (made.state, made.committed_size) == (PENDING, 0)
    assert made.attach_to.key == new_issue
    assert made.limits.max_chunk_bytes == 2 * MIB
    assert made.creator.id
    assert made.expire_time.seconds - made.create_time.seconds == 24 * 3600
    assert ticket(api, made.id) == made


def test_asking_again_with_the_same_request_id_returns_the_same_ticket(api: Api) -> None:
    """P15: CreateUploadTicket may be repeated under one request_id; another spec under it is refused."""
    request_id = str(uuid4())
    first = ask_for_ticket(api, spec_of("a"), request_id=request_id)
    assert ask_for_ticket(api, spec_of("a"), request_id=request_id) == first
    with refused(INVALID, "REQUEST_ID_REUSED"):
        ask_for_ticket(api, spec_of("b"), request_id=request_id)


def test_an_unknown_transport_is_refused(api: Api) -> None:
    """A transport that means nothing is VALIDATION_FAILED."""
    request = pb.CreateUploadTicketRequest(workspace_id="demo", spec=spec_of())
    request.transport = 99  # type: ignore[assignment]
    with refused(INVALID, "VALIDATION_FAILED"):
        api.tickets.CreateUploadTicket(request)


# AppendUploadTicket


def test_pieces_are_appended_one_by_one(api: Api) -> None:
    """Each append answers with what is stored and its CRC32C; the ticket is UPLOADING; CreateFile makes the file."""
    data = os.urandom(200 * KIB)
    ticket_id = new_ticket(api).id
    for end in (70 * KIB, 140 * KIB, 200 * KIB):
        start = ticket(api, ticket_id).committed_size
        answer = append(api, ticket_id, start, data[start:end])
        assert (answer.committed_size, answer.state) == (end, UPLOADING)
        assert answer.committed_checksums == checksums_of(data[:end], "crc32c")
    file = create_file(api, ticket_id, checksums=checksums_of(data), size_bytes=len(data)).file
    assert read(api, file.id) == data
    done = ticket(api, ticket_id)
    assert (done.state, done.file_id, done.committed_size) == (COMPLETED, file.id, len(data))


def test_the_last_piece_may_be_repeated(api: Api) -> None:
    """P15: an append whose answer was lost may be sent again and again, and is stored once."""
    ticket_id = new_ticket(api).id
    append(api, ticket_id, 0, b"first")
    last = append(api, ticket_id, 5, b"last")
    assert append(api, ticket_id, 5, b"last") == last
    assert append(api, ticket_id, 5, b"last", writer_epoch=last.writer_epoch) == last
    assert last.committed_size == 9
    assert read(api, create_file(api, ticket_id).file.id) == b"firstlast"


@pytest.mark.parametrize(("offset", "data"), [(5, b"tsal"), (5, b"las"), (0, b"first"), (4, b"tlast")])
def test_anything_but_the_last_piece_is_no_repeat(api: Api, offset: int, data: bytes) -> None:
    """P14: other bytes, another length or an earlier piece are OFFSET_MISMATCH and change nothing."""
    ticket_id = new_ticket(api).id
    append(api, ticket_id, 0, b"first")
    append(api, ticket_id, 5, b"last")
    with refused(ABORTED, "OFFSET_MISMATCH") as refusals:
        append(api, ticket_id, offset, data)
    assert refusals[0].info.metadata["expected_offset"] == "9"
    assert read(api, create_file(api, ticket_id).file.id) == b"firstlast"


def test_a_damaged_piece_is_dropped(api: Api) -> None:
    """A piece with a wrong CRC32C is CHUNK_CHECKSUM_MISMATCH and nothing is stored of it."""
    ticket_id = new_ticket(api).id
    append(api, ticket_id, 0, b"good")
    with refused(ABORTED, "CHUNK_CHECKSUM_MISMATCH") as refusals:
        append(api, ticket_id, 4, b"bad", crc32c=1)
    assert refusals[0].info.metadata["expected_offset"] == "4"
    assert ticket(api, ticket_id).committed_size == 4


def test_an_append_of_an_older_writer_is_fenced(api: Api) -> None:
    """A piece with the writer_epoch of before another writer opened the ticket is WRITER_FENCED."""
    ticket_id = new_ticket(api).id
    mine = append(api, ticket_id, 0, b"mine")
    with Stream(api, ticket_id) as other:
        epoch = other.ready().writer_epoch
        with refused(ABORTED, "WRITER_FENCED") as refusals:
            append(api, ticket_id, 4, b"more", writer_epoch=mine.writer_epoch)
        assert refusals[0].info.metadata["writer_epoch"] == str(epoch)
        other.send(b"theirs")
        assert other.finish().file.size_bytes == 10


def test_the_epoch_of_the_last_answer_goes_on(api: Api) -> None:
    """Each append may carry the writer_epoch of the answer before."""
    ticket_id = new_ticket(api).id
    epoch = append(api, ticket_id, 0, b"a").writer_epoch
    for offset in range(1, 5):
        epoch = append(api, ticket_id, offset, b"b", writer_epoch=epoch).writer_epoch
    assert ticket(api, ticket_id).committed_size == 5


def test_a_finished_ticket_takes_no_more(api: Api) -> None:
    """P15: a ticket makes one file; appending to it afterwards is UPLOAD_TICKET_CLOSED."""
    ticket_id = new_ticket(api).id
    append(api, ticket_id, 0, b"all")
    file = create_file(api, ticket_id).file
    with refused(CLOSED, "UPLOAD_TICKET_CLOSED") as refusals:
        append(api, ticket_id, 3, b"more")
    assert refusals[0].info.metadata["state"] == "COMPLETED"
    assert read(api, file.id) == b"all"


# CreateFile


def test_a_file_can_not_be_made_before_its_bytes(api: Api) -> None:
    """CreateFile on a ticket without bytes, or with fewer than declared, is UPLOAD_INCOMPLETE; it may go on."""
    ticket_id = new_ticket(api, spec_of(size_bytes=8)).id
    with refused(CLOSED, "UPLOAD_INCOMPLETE") as refusals:
        create_file(api, ticket_id)
    assert refusals[0].info.metadata["committed_size"] == "0"
    append(api, ticket_id, 0, b"1234")
    with refused(CLOSED, "UPLOAD_INCOMPLETE") as refusals:
        create_file(api, ticket_id)
    assert refusals[0].info.metadata["committed_size"] == "4"
    unsized = new_ticket(api).id
    append(api, unsized, 0, b"1234")
    with refused(CLOSED, "UPLOAD_INCOMPLETE"):
        create_file(api, unsized, size_bytes=5)
    append(api, ticket_id, 4, b"5678")
    assert read(api, create_file(api, ticket_id).file.id) == b"12345678"


def test_more_bytes_than_create_file_declares_are_refused(api: Api) -> None:
    """P11: a size in CreateFile that is smaller than what came is SIZE_MISMATCH, and the ticket has failed."""
    ticket_id = new_ticket(api).id
    append(api, ticket_id, 0, b"1234")
    with refused(INVALID, "SIZE_MISMATCH"):
        create_file(api, ticket_id, size_bytes=3)
    assert ticket(api, ticket_id).state == upload_ticket_pb2.UPLOAD_TICKET_STATE_FAILED


def test_an_empty_file_needs_no_bytes(api: Api) -> None:
    """P12: a ticket over 0 bytes can be turned into a file at once."""
    ticket_id = new_ticket(api, spec_of(size_bytes=0)).id
    assert read(api, create_file(api, ticket_id).file.id) == b""


def test_create_file_may_say_what_to_attach_to(api: Api, new_issue: str) -> None:
    """The subject may come with CreateFile, is kept when that is repeated, and can't be changed any more."""
    ticket_id = new_ticket(api).id
    append(api, ticket_id, 0, os.urandom(10))
    first = create_file(api, ticket_id, attach_to=new_issue)
    assert first.attachment_id
    assert [file.id for file in attached(api, new_issue)] == [first.file.id]
    assert create_file(api, ticket_id, attach_to=new_issue) == first
    assert create_file(api, ticket_id) == first
    with refused(INVALID, "VALIDATION_FAILED") as refusals:
        create_file(api, ticket_id, attach_to="DEMO-1")
    assert refusals[0].fields == ["attach_to"]


def test_create_file_keeps_to_the_subject_of_the_ticket(api: Api, new_issue: str) -> None:
    """A ticket that says what to attach to keeps to that; another subject in CreateFile is refused."""
    ticket_id = new_ticket(api, attach_to=new_issue).id
    append(api, ticket_id, 0, os.urandom(10))
    with refused(INVALID, "VALIDATION_FAILED") as refusals:
        create_file(api, ticket_id, attach_to="DEMO-1")
    assert refusals[0].fields == ["attach_to"]
    made = create_file(api, ticket_id, attach_to=new_issue)
    assert made.attachment_id.removeprefix("att_") == ticket_id.removeprefix("upl_")


# CancelUploadTicket


def test_cancelling_removes_the_bytes_and_may_be_repeated(api: Api, server: RunningServer) -> None:
    """CancelUploadTicket ends the ticket and removes its bytes; again it answers alike; nothing more is taken."""
    ticket_id = new_ticket(api).id
    append(api, ticket_id, 0, os.urandom(40 * KIB))
    assert server.staged_bytes(ticket_id)
    assert cancel(api, ticket_id).state == CANCELLED
    assert not server.staged_bytes(ticket_id)
    assert cancel(api, ticket_id).state == CANCELLED
    for call in (lambda: append(api, ticket_id, 0, b"x"), lambda: create_file(api, ticket_id)):
        with refused(CLOSED, "UPLOAD_TICKET_CLOSED") as refusals:
            call()
        assert refusals[0].info.metadata["state"] == "CANCELLED"


def test_a_finished_upload_can_not_be_cancelled(api: Api) -> None:
    """Cancelling a completed ticket is UPLOAD_TICKET_CLOSED; its file stays."""
    ticket_id = new_ticket(api).id
    append(api, ticket_id, 0, b"kept")
    file = create_file(api, ticket_id).file
    with refused(CLOSED, "UPLOAD_TICKET_CLOSED"):
        cancel(api, ticket_id)
    assert read(api, file.id) == b"kept"


# Whose tickets


def test_the_tickets_of_others_do_not_exist(api: Api, somebody: Api) -> None:
    """A ticket is NOT_FOUND for everybody but its creator, by every call that takes one, and stays as it was."""
    ticket_id = new_ticket(api).id
    append(api, ticket_id, 0, b"mine")

    def opening() -> None:
        with Stream(somebody, ticket_id) as stream:
            stream.ready()

    for call in (
        lambda: ticket(somebody, ticket_id),
        lambda: append(somebody, ticket_id, 4, b"theirs"),
        lambda: cancel(somebody, ticket_id),
        lambda: create_file(somebody, ticket_id),
        opening,
    ):
        with refused(NOT_FOUND, "RESOURCE_NOT_FOUND") as refusals:
            call()
        theirs = refusals[0].message
        with refused(NOT_FOUND, "RESOURCE_NOT_FOUND") as refusals:
            ticket(somebody, new_ticket(api).id[:-5] + "aaaaa")
        assert refusals[0].message == theirs
    assert ticket(api, ticket_id).committed_size == 4


@pytest.mark.parametrize("bad", ["", "upl_", "fil_01m7yggyheeq5rqe7req2vftaj", "../../etc/passwd", "upl_" + "z" * 300])
def test_what_is_no_ticket_id_is_refused(api: Api, bad: str) -> None:
    """Anything that is not the id of a ticket is VALIDATION_FAILED or NOT_FOUND, never an internal error."""
    with pytest.raises(grpc.RpcError) as caught:
        ticket(api, bad)
    assert caught.value.code() in {INVALID, NOT_FOUND}


def test_everybody_lists_their_own_tickets(server: RunningServer, somebody: Api) -> None:
    """ListUploadTickets gives the caller's, newest first, page by page, by state; only admin sees those of others."""
    ids = [new_ticket(somebody).id for _ in range(5)]
    append(somebody, ids[0], 0, b"x")
    cancel(somebody, ids[1])
    newest_first = ids[::-1]
    assert listed(somebody) == newest_first
    assert listed(somebody, page_size=2) == newest_first
    assert listed(somebody, UPLOADING) == [ids[0]]
    assert listed(somebody, UPLOADING, CANCELLED) == [ids[1], ids[0]]
    me = ticket(somebody, ids[0]).creator.id
    assert listed(somebody, created_by=me) == newest_first
    other = server.api(server.new_key(f"user-{uuid4()}"))
    assert listed(other) == listed(other, created_by=me) == []
    admin = server.api(server.new_key(f"user-{uuid4()}", scopes="admin"))
    assert listed(admin, created_by=me) == newest_first
    for one in (other, admin):
        one.channel.close()


def test_a_page_token_is_good_for_its_own_list_only(somebody: Api, api: Api) -> None:
    """P30: a token that was altered, or comes from another filter or user, is PAGE_TOKEN_INVALID."""
    for _ in range(3):
        new_ticket(somebody)
    request = pb.ListUploadTicketsRequest(workspace_id="demo", page_size=2)
    token = somebody.tickets.ListUploadTickets(request).next_page_token
    altered = token[:-1] + ("A" if token[-1] != "A" else "B")
    for caller, changed in (
        (somebody, {"page_token": altered}),
        (somebody, {"page_token": token, "states": [PENDING]}),
        (api, {"page_token": token}),
    ):
        with refused(INVALID, "PAGE_TOKEN_INVALID"):
            caller.tickets.ListUploadTickets(pb.ListUploadTicketsRequest(workspace_id="demo", page_size=2, **changed))


# Batches


def batch(api: Api, *specs: file_pb2.FileSpec, request_id: str = "") -> list[pb.BatchCreateUploadTicketsResult]:
    """Call BatchCreateUploadTickets."""
    requests = [pb.CreateUploadTicketRequest(spec=spec) for spec in specs]
    answer = api.tickets.BatchCreateUploadTickets(
        pb.BatchCreateUploadTicketsRequest(workspace_id="demo", requests=requests, request_id=request_id)
    )
    return list(answer.results)


def test_a_batch_tells_of_each_file_whether_it_must_be_sent(api: Api) -> None:
    """Each item gets a ticket, the existing file, or the error that it would have got alone, in order."""
    data = os.urandom(100)
    stored = upload(api, data, name="there").file
    known = spec_of("there", len(data), checksums_of(data, "sha256"))
    results = batch(api, spec_of("new"), known, spec_of("bad/name"), spec_of("newer"))
    kinds = [result.WhichOneof("result") for result in results]
    assert kinds == ["upload_ticket", "existing_file", "error", "upload_ticket"]
    assert results[1].existing_file == stored
    assert results[2].error.code == INVALID.value[0]
    assert [results[place].upload_ticket.spec.name for place in (0, 3)] == ["new", "newer"]
    for place in (0, 3):
        assert ticket(api, results[place].upload_ticket.id).state == PENDING


def test_a_batch_may_be_repeated(api: Api) -> None:
    """P15: a batch under the same request_id returns the same tickets."""
    request_id = str(uuid4())
    first = batch(api, spec_of("a"), spec_of("b"), request_id=request_id)
    assert batch(api, spec_of("a"), spec_of("b"), request_id=request_id) == first


def test_a_batch_has_one_to_a_hundred_items_without_ids_of_their_own(api: Api) -> None:
    """Empty and oversized batches, and items with a request_id, are VALIDATION_FAILED."""
    assert len(batch(api, *[spec_of()] * 100)) == 100
    for specs in ([], [spec_of()] * 101):
        with refused(INVALID, "VALIDATION_FAILED"):
            batch(api, *specs)
    item = pb.CreateUploadTicketRequest(spec=spec_of(), request_id=str(uuid4()))
    with refused(INVALID, "VALIDATION_FAILED"):
        api.tickets.BatchCreateUploadTickets(pb.BatchCreateUploadTicketsRequest(workspace_id="demo", requests=[item]))


def test_an_item_of_another_workspace_fails_alone(api: Api) -> None:
    """An item that names another workspace is NOT_FOUND; the others are issued."""
    requests = [
        pb.CreateUploadTicketRequest(workspace_id="elsewhere", spec=spec_of()),
        pb.CreateUploadTicketRequest(spec=spec_of()),
    ]
    answer = api.tickets.BatchCreateUploadTickets(
        pb.BatchCreateUploadTicketsRequest(workspace_id="demo", requests=requests)
    )
    assert [result.WhichOneof("result") for result in answer.results] == ["error", "upload_ticket"]
    assert answer.results[0].error.code == NOT_FOUND.value[0]


# Expiry


def gc(server: RunningServer) -> dict[str, int]:
    """Run gc without grace."""
    report: dict[str, int] = server.report("gc", "--grace", "0")
    return report


def test_abandoned_uploads_are_swept_away(start_server: Start) -> None:
    """P16: 200 half-done uploads are gone after their lifetime and one gc; a late client hears EXPIRED, then NOT_FOUND.

    Of two more, one is finished in time and one still runs, so that gc has something to spare.
    """
    server = start_server("--ticket-ttl", "4")
    api = server.api()
    kept = upload(api, os.urandom(40 * KIB)).file
    before = server.used_bytes()
    half = os.urandom(20 * KIB)
    ids = []
    for number in range(200):
        ids.append(new_ticket(api).id)
        if number % 10:
            append(api, ids[-1], 0, half)
        else:
            with Stream(api, ids[-1]) as stream:
                stream.ready()
                stream.send(half)
                stream.flush()
    assert server.used_bytes() >= before + 200 * len(half)
    until(lambda: all(ticket(api, one).state == EXPIRED for one in (ids[0], ids[-2], ids[-1])))
    with Stream(api) as running:
        running.ready()
        running.send(half)
        running.flush()
        swept = gc(server)
        assert swept["expired_tickets"] == 200
        assert before + len(half) <= server.used_bytes() < before + 2 * len(half)
        running.send(half)
        running.flush()
        cancel(api, running.ticket_id)
    assert server.used_bytes() == before
    for one in (ids[0], ids[99], ids[-1]):
        for call in late_calls(api, one):
            with refused(CLOSED, "UPLOAD_TICKET_EXPIRED"):
                call()
    assert gc(server)["purged_tickets"] >= 200
    for one in (ids[0], ids[99], ids[-1]):
        for call in late_calls(api, one):
            with refused(NOT_FOUND, "RESOURCE_NOT_FOUND"):
                call()
    assert len(read(api, kept.id)) == 40 * KIB
    assert server.report("fsck")["clean"]


def late_calls(api: Api, ticket_id: str) -> list[Callable[[], object]]:
    """Return the ways to go on with a ticket."""

    def opening() -> None:
        with Stream(api, ticket_id) as stream:
            stream.ready()

    return [opening, lambda: append(api, ticket_id, 20 * KIB, b"late"), lambda: create_file(api, ticket_id)]


def test_an_expired_ticket_is_refused_before_it_is_swept(start_server: Start) -> None:
    """P16: a ticket whose time is up is EXPIRED at once, without any gc, and can't be cancelled or finished."""
    api = start_server("--ticket-ttl", "0.3").api()
    ticket_id = new_ticket(api).id
    until(lambda: ticket(api, ticket_id).state == EXPIRED)
    for call in late_calls(api, ticket_id):
        with refused(CLOSED, "UPLOAD_TICKET_EXPIRED"):
            call()
    with refused(CLOSED, "UPLOAD_TICKET_EXPIRED"):
        cancel(api, ticket_id)


def test_committed_bytes_prolong_a_ticket(start_server: Start) -> None:
    """A ticket lives for its lifetime after the last committed byte, and for 7 days in all."""
    server = start_server("--ticket-ttl", "1h")
    api = server.api()
    made = new_ticket(api)
    append(api, made.id, 0, b"x")
    prolonged = ticket(api, made.id)
    assert prolonged.expire_time.ToNanoseconds() > made.expire_time.ToNanoseconds()
    week = 7 * 24 * 3600
    older = "UPDATE tickets SET create_time = create_time - ? WHERE id = ?"
    assert len(server.sql(older, (week - 60) * 1_000_000, made.id)) == 1
    append(api, made.id, 1, b"y")
    old = ticket(api, made.id)
    assert old.expire_time.ToNanoseconds() - old.create_time.ToNanoseconds() == week * 10**9


def test_a_subject_is_checked_before_a_ticket_is_issued(api: Api) -> None:
    """A malformed subject is VALIDATION_FAILED at once, not when the bytes have been sent."""
    request = pb.CreateUploadTicketRequest(
        workspace_id="demo", spec=spec_of(), attach_to=common_pb2.Subject(type="Not A Type", id="x")
    )
    with refused(INVALID, "VALIDATION_FAILED"):
        api.tickets.CreateUploadTicket(request)
    request.attach_to.CopyFrom(issue(""))
    with refused(INVALID, "VALIDATION_FAILED"):
        api.tickets.CreateUploadTicket(request)

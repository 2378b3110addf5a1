"""The dedup rule over a real server: what a digest gets you, what it never gets you, and when one blob serves many."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import grpc
import pytest

from remora.v1 import attachment_service_pb2, capability_service_pb2, file_pb2, upload_ticket_pb2
from remora.v1 import file_service_pb2 as pb
from tests.running import Api, RunningServer, refused, until
from tests.uploading import (
    KIB,
    WAYS,
    Stream,
    ask_for_ticket,
    attached,
    by_stream,
    checksums_of,
    create_file,
    new_ticket,
    read,
    spec_of,
    upload,
)

Start = Callable[..., RunningServer]
STORED, EXISTS = pb.UPLOAD_OUTCOME_STORED, pb.UPLOAD_OUTCOME_ALREADY_EXISTS
NOT_FOUND = grpc.StatusCode.NOT_FOUND

# Two messages of 128 bytes with one MD5, by Wang, Feng, Lai and Yu (2004).
COLLIDING = tuple(
    bytes.fromhex(
        "d131dd02c5e6eec4693d9a0698aff95c2fcab5" + a + "12467eab4004583eb8fb7f8955ad340609f4b30283e4888325" + b + "415a"
        "085125e8f7cdc99fd91dbd" + c + "80373c5bd8823e3156348f5bae6dacd436c919c6dd53e2" + d + "87da03fd02396306d248cda0"
        "e99f33420f577ee8ce54b67080" + e + "0d1ec69821bcb6a8839396f965" + f + "b6ff72a70"
    )
    for a, b, c, d, e, f in (("87", "71", "f2", "b4", "a8", "2"), ("07", "f1", "72", "34", "28", "a"))
)


@pytest.fixture
def somebody(server: RunningServer) -> Iterator[Api]:
    """Give another user of the same workspace."""
    api = server.api(server.new_key(f"user-{uuid4()}"))
    yield api
    api.channel.close()


@pytest.fixture
def stranger(server: RunningServer) -> Iterator[Api]:
    """Give a user of another workspace, `other`."""
    api = server.api(server.new_key(f"user-{uuid4()}", workspace="other"))
    yield api
    api.channel.close()


def claim(data: bytes, *digests: str, name: str = "a.bin") -> file_pb2.FileSpec:
    """Return a spec that claims content by size and digests."""
    return spec_of(name, len(data), checksums_of(data, *digests or ("sha256",)))


def existing(api: Api, spec: file_pb2.FileSpec, *, workspace: str = "demo") -> file_pb2.File | None:
    """Ask for a ticket; return the file that was there instead."""
    answer = ask_for_ticket(api, spec, workspace=workspace)
    return answer.existing_file if answer.WhichOneof("result") == "existing_file" else None


def shape(ticket: upload_ticket_pb2.UploadTicket) -> upload_ticket_pb2.UploadTicket:
    """Return a ticket without what differs between any two."""
    bare = upload_ticket_pb2.UploadTicket()
    bare.CopyFrom(ticket)
    for field in ("id", "create_time", "expire_time", "spec"):
        bare.ClearField(field)
    return bare


def blobs(server: RunningServer, data: bytes) -> int:
    """Count the blobs with this content, wherever they lie.

    Bytes that turned out to be there already are removed just after the answer, hence the waiting.
    """
    in_files = sum(_content(path) == data for path in server.blob_files())
    ((count,),) = server.sql("SELECT count(*) FROM blob_bytes WHERE data = ?", data)
    return in_files + int(count)


def _content(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def quarantine(server: RunningServer, file_id: str) -> None:
    """Do what a scan does that found something."""
    assert len(server.sql("UPDATE files SET state = 'QUARANTINED' WHERE id = ?", file_id)) == 1


# Across workspaces


@pytest.mark.parametrize("size", [100, 40 * KIB])
def test_a_digest_tells_nothing_across_workspaces(api: Api, stranger: Api, new_issue: str, size: int) -> None:
    """P21, R7: in another workspace the digests of a file get a plain ticket of the same shape as unknown ones.

    Not even the bytes themselves show that they are stored elsewhere, and no call reads them by id.
    """
    data = os.urandom(size)
    theirs = upload(api, data, attach_to=new_issue)
    unknown = ask_for_ticket(stranger, claim(os.urandom(size), "md5", "sha256"), workspace="other")
    for digests in (("sha256",), ("md5",), ("md5", "sha256"), ("md5", "sha256", "crc32c")):
        answer = ask_for_ticket(stranger, claim(data, *digests), workspace="other")
        assert answer.WhichOneof("result") == "upload_ticket"
        assert shape(answer.upload_ticket) == shape(unknown.upload_ticket)
    with pytest.raises(grpc.RpcError) as caught:
        create_file(stranger, answer.upload_ticket.id, checksums=checksums_of(data), size_bytes=size)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    mine = upload(stranger, data, workspace="other")
    assert mine.outcome == STORED
    assert mine.file.creator != theirs.file.creator
    for attempt in (
        lambda: read(stranger, theirs.file.id),
        lambda: read(stranger, attachment_id=theirs.attachment_id),
        lambda: stranger.files.GetFile(pb.GetFileRequest(file_id=theirs.file.id)),
        lambda: stranger.files.GetFileDownloadUrl(pb.GetFileDownloadUrlRequest(file_id=theirs.file.id)),
        lambda: stranger.files.DeleteFile(pb.DeleteFileRequest(file_id=theirs.file.id)),
        lambda: stranger.attachments.GetAttachment(
            attachment_service_pb2.GetAttachmentRequest(attachment_id=theirs.attachment_id)
        ),
        lambda: ask_for_ticket(stranger, claim(data), workspace="demo"),
        lambda: upload(stranger, data, workspace="demo"),
    ):
        with refused(NOT_FOUND, "RESOURCE_NOT_FOUND"):
            attempt()
    for results in (
        stranger.files.BatchGetFiles(pb.BatchGetFilesRequest(file_ids=[theirs.file.id])).results,
        stranger.files.BatchReadFiles(pb.BatchReadFilesRequest(file_ids=[theirs.file.id])).results,
    ):
        assert [result.error.code for result in results] == [NOT_FOUND.value[0]]


@pytest.mark.parametrize("size", [100, 40 * KIB])
def test_workspaces_share_no_blob(api: Api, stranger: Api, server: RunningServer, size: int) -> None:
    """R7: equal content in two workspaces is stored twice, and each deletes its own."""
    data = os.urandom(size)
    upload(api, data)
    upload(stranger, data, workspace="other")
    assert blobs(server, data) == 2


# Within a workspace


@pytest.mark.parametrize("size", [100, 40 * KIB])
def test_own_content_need_not_be_sent_again(api: Api, size: int) -> None:
    """P22, R5: claiming content of one's own by SHA-256 and size returns the very file if name and type are equal."""
    data = os.urandom(size)
    name = f"{uuid4()}.bin"
    first = upload(api, data, name=name)
    assert first.outcome == STORED
    assert existing(api, claim(data, name=name)) == first.file
    assert existing(api, claim(data, "sha256", "md5", "crc32c", name=name)) == first.file
    with Stream(api, spec=claim(data, name=name)) as stream:
        done = stream.done()
    assert (done.file, done.outcome) == (first.file, EXISTS)
    again = upload(api, data, spec=claim(data, name=name))
    assert (again.file, again.outcome) == (first.file, EXISTS)


def test_another_name_makes_another_file_on_the_same_bytes(api: Api, server: RunningServer, new_issue: str) -> None:
    """P22, R5: a hit under another name or type is a new file, with its own id and attachment, on the one blob."""
    data = os.urandom(40 * KIB)
    first = upload(api, data, name="one.txt").file
    answer = ask_for_ticket(api, claim(data, name="two.txt"), attach_to=new_issue)
    second = answer.existing_file
    assert second.name == "two.txt"
    assert second.id != first.id
    assert read(api, attachment_id=answer.attachment_id) == data
    typed = claim(data, name="one.txt")
    typed.content_type = "text/csv"
    third = existing(api, typed)
    assert third is not None
    assert third.content_type == "text/csv"
    assert third.id not in {first.id, second.id}
    until(lambda: blobs(server, data) == 1)
    assert [file.id for file in attached(api, new_issue)] == [second.id]


def test_a_claim_without_the_size_or_a_digest_finds_nothing(api: Api) -> None:
    """R2: an early exit takes size and SHA-256; size alone, SHA-256 alone or CRC32C are not enough."""
    data = os.urandom(100)
    upload(api, data)
    wrong_size = claim(data)
    wrong_size.size_bytes += 1
    no_size = claim(data)
    no_size.ClearField("size_bytes")
    for spec in (wrong_size, no_size, spec_of(size_bytes=len(data)), claim(data, "crc32c")):
        assert existing(api, spec) is None


def test_the_check_can_be_skipped(api: Api) -> None:
    """A ticket is issued for known content if skip_existing_check asks for one, and opening it does not end early."""
    data = os.urandom(100)
    file = upload(api, data).file
    answer = ask_for_ticket(api, claim(data), skip_existing_check=True)
    with Stream(api, answer.upload_ticket.id) as stream:
        stream.ready()
        stream.send(data)
        done = stream.finish()
    assert (done.file.id, done.outcome) == (file.id, EXISTS)


def test_a_ticket_for_content_that_came_meanwhile_ends_early(api: Api, server: RunningServer) -> None:
    """P22: opening a ticket looks again, so content that was stored since is not sent a second time."""
    data = os.urandom(40 * KIB)
    ticket_id = new_ticket(api, claim(data)).id
    file = upload(api, data).file
    with Stream(api, ticket_id) as stream:
        done = stream.done()
    assert (done.file, done.outcome) == (file, EXISTS)
    until(lambda: blobs(server, data) == 1)


def test_content_of_others_counts_only_while_it_can_be_read(
    api: Api, somebody: Api, server: RunningServer, new_issue: str
) -> None:
    """P22, R2: another's file spares the upload exactly while it hangs on a live attachment."""
    data = os.urandom(40 * KIB)
    unattached = upload(api, data).file
    assert existing(somebody, claim(data)) is None
    shared = upload(api, data, name="shared", attach_to=new_issue)
    hit = existing(somebody, claim(data))
    assert hit is not None
    assert hit.id not in {unattached.id, shared.file.id}
    assert hit.creator.id != shared.file.creator.id
    assert hit.name == "a.bin"
    assert read(somebody, hit.id) == data
    somebody.files.DeleteFile(pb.DeleteFileRequest(file_id=hit.id))
    api.attachments.DeleteAttachment(attachment_service_pb2.DeleteAttachmentRequest(attachment_id=shared.attachment_id))
    assert existing(somebody, claim(data)) is None
    until(lambda: blobs(server, data) == 1)


def test_an_md5_finds_only_what_its_owner_uploaded(api: Api, somebody: Api, new_issue: str) -> None:
    """R3: with an MD5 alone only the caller's own files match, even where another's could be read."""
    data = os.urandom(100)
    file = upload(api, data, attach_to=new_issue).file
    assert existing(api, claim(data, "md5")) == file
    assert existing(somebody, claim(data, "md5")) is None
    assert existing(somebody, claim(data, "md5", "sha256")) is not None
    wrong_size = claim(data, "md5")
    wrong_size.size_bytes += 1
    assert existing(api, wrong_size) is None


def test_a_wrong_digest_beside_the_right_one_finds_nothing(api: Api) -> None:
    """R2: with a SHA-256 in the claim, the MD5 decides nothing."""
    data = os.urandom(100)
    upload(api, data)
    spec = claim(data, "md5")
    spec.checksums.sha256 = checksums_of(b"other").sha256
    assert existing(api, spec) is None


@pytest.mark.parametrize("way", WAYS)
def test_one_md5_does_not_make_two_contents_one(api: Api, new_issue: str, way: str) -> None:
    """R1: two contents with the same MD5 and size are two blobs, and each comes back as itself."""
    # What follows equal MD5 states keeps them equal, so no other test knows these contents.
    one, other = (half + new_issue.encode() + way.encode() for half in COLLIDING)
    assert one != other
    assert checksums_of(one, "md5") == checksums_of(other, "md5")
    first = WAYS[way](api, one, claim(one, "sha256", "md5", name=f"{uuid4()}"))
    second = WAYS[way](api, other, spec_of(f"{uuid4()}", len(other), checksums_of(other, "md5", "sha256")))
    assert (read(api, first.id), read(api, second.id)) == (one, other)


WAYS_TO_SEND = ["unary", "stream"]


@pytest.mark.parametrize("way", WAYS_TO_SEND)
@pytest.mark.parametrize("size", [100, 40 * KIB])
def test_who_can_not_read_it_sends_it_all_and_learns_nothing(
    api: Api, somebody: Api, server: RunningServer, way: str, size: int
) -> None:
    """R4: content that only others have is sent in full, the outcome is STORED, and one blob serves both."""
    data = os.urandom(size)
    theirs = upload(api, data).file
    if way == "unary":
        answer = upload(somebody, data, spec=claim(data))
        mine, outcome = answer.file, answer.outcome
    else:
        with Stream(somebody, spec=claim(data)) as stream:
            assert stream.ready().committed_size == 0
            stream.send(data)
            done = stream.finish()
        mine, outcome = done.file, done.outcome
    assert outcome == STORED
    assert mine.id != theirs.id
    assert mine.create_time.ToNanoseconds() > theirs.create_time.ToNanoseconds()
    assert read(somebody, mine.id) == data
    until(lambda: blobs(server, data) == 1)


def test_shared_bytes_are_charged_in_full(start_server: Start) -> None:
    """R4: a second file on one blob is charged like the first, so claiming content is no way around the quota."""
    server = start_server("--quota-bytes", str(100 * KIB))
    api, data = server.api(), os.urandom(40 * KIB)
    other = server.api(server.new_key("other"))
    upload(api, data, name="one")
    upload(other, data, name="two")
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED"):
        upload(api, data, name="three")
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED"):
        existing(api, claim(data, name="three"))
    until(lambda: len(server.blob_files()) == 1)


def test_a_lying_digest_stores_nothing_under_it(api: Api, somebody: Api) -> None:
    """P09, R1: bytes sent under the digest of other content are refused, and that content is not there afterwards."""
    promised, sent = os.urandom(100), os.urandom(100)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "CONTENT_CHECKSUM_MISMATCH"):
        by_stream(api, sent, claim(promised))
    for caller in (api, somebody):
        assert existing(caller, claim(promised)) is None
        assert existing(caller, claim(sent)) is None


@pytest.mark.parametrize("size", [100, 40 * KIB])
def test_deleted_and_quarantined_content_never_matches(api: Api, server: RunningServer, size: int) -> None:
    """R9: a deleted or quarantined file spares nobody an upload; undeleted it does again."""
    data = os.urandom(size)
    file = upload(api, data).file
    api.files.DeleteFile(pb.DeleteFileRequest(file_id=file.id))
    assert existing(api, claim(data)) is None
    assert existing(api, claim(data, "md5")) is None
    file = api.files.UndeleteFile(pb.UndeleteFileRequest(file_id=file.id)).file
    assert existing(api, claim(data)) == file
    quarantine(server, file.id)
    assert existing(api, claim(data)) is None
    assert existing(api, claim(data, "md5")) is None
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "FILE_QUARANTINED"):
        read(api, file.id)


# One blob for many


@pytest.mark.parametrize("size", [100, 40 * KIB])
def test_64_uploads_at_once_store_one_blob(api: Api, server: RunningServer, size: int) -> None:
    """P23: of 64 concurrent uploads of one content all succeed and read back, and one blob is stored."""
    data = os.urandom(size)
    streams = [Stream(api, spec=spec_of(f"stream-{number}")) for number in range(32)]
    try:
        for stream in streams:
            stream.ready()
            stream.send(data)
        for stream in streams:
            stream.flush()
        for stream in streams:
            stream.ask_finish(checksums=checksums_of(data))
        calls = [
            api.files.UploadFile.future(
                pb.UploadFileRequest(workspace_id="demo", spec=spec_of(f"unary-{number}"), data=data)
            )
            for number in range(32)
        ]
        files = [call.result().file for call in calls] + [stream.done().file for stream in streams]
    finally:
        for stream in streams:
            stream.cancel()
    assert len({file.id for file in files}) == 64
    for file in files:
        assert read(api, file.id) == data
    until(lambda: blobs(server, data) == 1)


def test_two_users_at_once_store_one_blob(start_server: Start) -> None:
    """P23: it makes no difference that none of the uploaders can read the files of another."""
    server = start_server()
    data = os.urandom(40 * KIB)
    apis = [server.api(), server.api(server.new_key("other"))]
    calls = [
        api.files.UploadFile.future(pb.UploadFileRequest(workspace_id="demo", spec=spec_of(f"{number}"), data=data))
        for number in range(32)
        for api in apis
    ]
    files = [call.result().file for call in calls]
    for number, file in enumerate(files):
        assert read(apis[number % 2], file.id) == data
    assert len({file.id for file in files}) == 64
    until(lambda: len(server.blob_files()) == 1)
    assert server.report("fsck")["clean"]


@pytest.mark.parametrize("size", [100, 40 * KIB])
def test_a_shared_blob_lives_as_long_as_its_last_file(start_server: Start, size: int) -> None:
    """P24: of two attachments on one blob one is deleted and gc runs: the other still reads; after both it is gone."""
    server = start_server()
    api = server.api()
    data = os.urandom(size)
    first = upload(api, data, name="first", attach_to="P24-1")
    second = upload(api, data, name="second", attach_to="P24-2")
    until(lambda: blobs(server, data) == 1)

    def gc(grace: str) -> dict[str, int]:
        report: dict[str, int] = server.report("gc", "--grace", grace)
        return report

    request = attachment_service_pb2.DeleteAttachmentRequest(attachment_id=first.attachment_id)
    api.attachments.DeleteAttachment(request)
    assert gc("0")["deleted_blobs"] == 0
    assert read(api, attachment_id=second.attachment_id) == data
    with refused(NOT_FOUND, "RESOURCE_NOT_FOUND"):
        read(api, first.file.id)
    api.attachments.DeleteAttachment(attachment_service_pb2.DeleteAttachmentRequest(attachment_id=second.attachment_id))
    assert gc("3600")["deleted_blobs"] == 0
    until(lambda: blobs(server, data) == 1)
    assert gc("0")["deleted_blobs"] == 1
    until(lambda: blobs(server, data) == 0)
    assert server.report("fsck")["clean"]


# Other modes


def test_in_mode_own_only_own_files_spare_an_upload(start_server: Start) -> None:
    """Mode OWN: what others made never matches, attached or not; one's own does, and blobs are shared as ever."""
    server = start_server("--dedup-mode", "OWN")
    api, other = server.api(), server.api(server.new_key("other"))
    data = os.urandom(40 * KIB)
    file = upload(api, data, attach_to="DEMO-1").file
    assert existing(api, claim(data)) == file
    assert existing(other, claim(data)) is None
    sent = upload(other, data, spec=claim(data))
    assert sent.outcome == STORED
    until(lambda: len(server.blob_files()) == 1)


def test_in_mode_off_everything_is_sent(start_server: Start) -> None:
    """Mode OFF: no claim matches, not even for one's own content; each upload makes a file, and blobs are shared."""
    server = start_server("--dedup-mode", "OFF")
    api = server.api()
    data = os.urandom(40 * KIB)
    first = upload(api, data)
    assert existing(api, claim(data)) is None
    assert existing(api, claim(data, "md5")) is None
    with Stream(api, spec=claim(data)) as stream:
        stream.ready()
        stream.send(data)
        done = stream.finish()
    assert (first.outcome, done.outcome) == (STORED, STORED)
    assert done.file.id != first.file.id
    until(lambda: len(server.blob_files()) == 1)


def test_the_mode_is_announced(start_server: Start) -> None:
    """GetCapabilities tells how far a claimed digest reaches."""
    api = start_server("--dedup-mode", "OFF").api()
    answer = api.capabilities.GetCapabilities(capability_service_pb2.GetCapabilitiesRequest())
    assert answer.dedup_mode == capability_service_pb2.DEDUP_MODE_OFF

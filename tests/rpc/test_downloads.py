"""Bytes going out over a real server: ranges, batches, damage, clients that go away."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import google_crc32c
import grpc
import pytest

from remora.v1 import attachment_service_pb2, file_pb2
from remora.v1 import file_service_pb2 as pb
from tests.combinations import only_disk
from tests.running import Api, RunningServer, issue, refused, until
from tests.uploading import KIB, MIB, attached, by_stream, checksums_of, read, spec_of, upload

Start = Callable[..., RunningServer]
NOT_FOUND, INVALID = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT
UNKNOWN_FILE = "fil_01m7yggyheeq5rqe7req2vftaj"


@pytest.fixture
def somebody(server: RunningServer) -> Iterator[Api]:
    """Give another user of the same workspace."""
    api = server.api(server.new_key(f"user-{uuid4()}"))
    yield api
    api.channel.close()


def large(api: Api, size_bytes: int) -> tuple[file_pb2.File, bytes]:
    """Store random bytes outside the database."""
    data = os.urandom(size_bytes)
    return upload(api, data).file, data


def batch_read(api: Api, *file_ids: str) -> list[pb.BatchReadFilesResult]:
    """Call BatchReadFiles."""
    return list(api.files.BatchReadFiles(pb.BatchReadFilesRequest(file_ids=file_ids)).results)


# Ranges


@pytest.mark.parametrize("size", [10 * KIB, 2 * MIB + 3])
def test_every_range_gives_its_bytes(api: Api, size: int) -> None:
    """A range is what Python calls data[offset:][:limit]; a negative offset counts from the end; limit 0 is the end."""
    file, data = large(api, size)
    assert read(api, file.id) == data
    edges = [0, 1, MIB - 1, MIB, MIB + 1, size - 1, size]
    for offset in [edge for edge in edges if edge <= size]:
        for limit in (0, 1, MIB, size, size + 1):
            expected = data[offset : offset + limit] if limit else data[offset:]
            assert read(api, file.id, offset=offset, limit=limit) == expected
    for offset in (-1, -10, -size, -size - 1, -(2**62)):
        assert read(api, file.id, offset=offset) == data[max(0, size + offset) :]
    assert read(api, file.id, offset=-10, limit=4) == data[-10:-6]


def test_an_empty_file_has_a_header_and_no_bytes(api: Api) -> None:
    """P12: reading an empty file is a header alone."""
    file = upload(api, b"").file
    (only,) = api.files.ReadFile(pb.ReadFileRequest(file_id=file.id))
    assert (only.header.length, only.header.total_size) == (0, 0)
    assert only.header.checksums == checksums_of(b"")


def test_the_header_tells_of_the_whole_file(api: Api) -> None:
    """Whatever the range, the header has the file, its digests, its size and its content_etag."""
    file, data = large(api, 100 * KIB)
    first, *chunks = api.files.ReadFile(pb.ReadFileRequest(file_id=file.id, offset=10, limit=20))
    header = first.header
    assert (header.file, header.content_etag) == (file, file.content_etag)
    assert (header.offset, header.length, header.total_size) == (10, 20, len(data))
    assert header.checksums == checksums_of(data)
    assert b"".join(chunk.chunk.data.content for chunk in chunks) == data[10:30]


def test_a_range_beyond_the_end_is_refused(api: Api) -> None:
    """An offset past the size is OUT_OF_RANGE READ_OFFSET_TOO_LARGE with the size; the size itself reads nothing."""
    file, data = large(api, 100)
    assert read(api, file.id, offset=100) == b""
    with refused(grpc.StatusCode.OUT_OF_RANGE, "READ_OFFSET_TOO_LARGE") as refusals:
        read(api, file.id, offset=101)
    assert refusals[0].info.metadata["size"] == str(len(data))


def test_a_negative_limit_is_refused(api: Api) -> None:
    """A negative limit is VALIDATION_FAILED."""
    file, _ = large(api, 100)
    with refused(INVALID, "VALIDATION_FAILED") as refusals:
        read(api, file.id, limit=-1)
    assert refusals[0].fields == ["limit"]


def test_a_broken_download_goes_on_where_it_was(api: Api) -> None:
    """P13: reading on from the end of what arrived, held to the same content by its etag, gives the same bytes."""
    file, data = large(api, 2 * MIB + 5)
    call = api.files.ReadFile(pb.ReadFileRequest(file_id=file.id))
    etag = next(call).header.content_etag
    half = next(call).chunk.data.content
    call.cancel()
    rest = api.files.ReadFile(pb.ReadFileRequest(file_id=file.id, offset=len(half), if_content_etag=etag))
    next(rest)
    assert half + b"".join(answer.chunk.data.content for answer in rest) == data
    with refused(grpc.StatusCode.ABORTED, "ETAG_MISMATCH") as refusals:
        list(api.files.ReadFile(pb.ReadFileRequest(file_id=file.id, if_content_etag='"other"')))
    assert refusals[0].info.metadata["current_etag"] == etag


# What can be read


def test_the_file_of_an_attachment_can_be_read_by_its_id(api: Api, new_issue: str) -> None:
    """ReadFile takes the id of an attachment that shows a file; one that shows a URL, or is gone, is refused."""
    stored = upload(api, b"attached", attach_to=new_issue)
    assert read(api, attachment_id=stored.attachment_id) == b"attached"
    card = api.attachments.UpsertAttachment(
        attachment_service_pb2.UpsertAttachmentRequest(
            attachment={"workspace_id": "demo", "subject": issue(new_issue), "url": "https://example.com/card"}  # type: ignore[arg-type]
        )
    ).attachment
    with refused(NOT_FOUND, "RESOURCE_NOT_FOUND"):
        read(api, attachment_id=card.id)
    api.attachments.DeleteAttachment(attachment_service_pb2.DeleteAttachmentRequest(attachment_id=stored.attachment_id))
    with refused(NOT_FOUND, "RESOURCE_NOT_FOUND"):
        read(api, attachment_id=stored.attachment_id)
    assert read(api, stored.file.id) == b"attached"


def test_a_file_on_nothing_is_for_its_creator_alone(api: Api, somebody: Api, new_issue: str) -> None:
    """An unattached file is NOT_FOUND for others, exactly like one that does not exist; attached it can be read."""
    file = upload(api, b"mine").file
    said = []
    for file_id in (file.id, UNKNOWN_FILE):
        with refused(NOT_FOUND, "RESOURCE_NOT_FOUND") as refusals:
            read(somebody, file_id)
        said.append(refusals[0].message.replace(file_id, ""))
    assert said[0] == said[1]
    shared = upload(api, b"ours", attach_to=new_issue).file
    assert read(somebody, shared.id) == b"ours"
    assert [one.id for one in attached(somebody, new_issue)] == [shared.id]


def test_a_deleted_file_can_not_be_read(api: Api) -> None:
    """Reading a deleted file is NOT_FOUND, alone and in a batch, until it is undeleted."""
    file = upload(api, b"back").file
    api.files.DeleteFile(pb.DeleteFileRequest(file_id=file.id))
    with refused(NOT_FOUND, "RESOURCE_NOT_FOUND"):
        read(api, file.id)
    assert batch_read(api, file.id)[0].error.code == NOT_FOUND.value[0]
    api.files.UndeleteFile(pb.UndeleteFileRequest(file_id=file.id))
    assert read(api, file.id) == b"back"


def test_what_has_no_preview(api: Api) -> None:
    """A rendition that there is none of is NOT_FOUND PREVIEW_UNAVAILABLE."""
    file = upload(api, b"\0").file
    for rendition in (pb.RENDITION_PREVIEW, pb.RENDITION_THUMBNAIL):
        with refused(NOT_FOUND, "PREVIEW_UNAVAILABLE"):
            list(api.files.ReadFile(pb.ReadFileRequest(file_id=file.id, rendition=rendition)))


@pytest.mark.parametrize("request_", [pb.ReadFileRequest(), pb.ReadFileRequest(file_id="../../etc/passwd")])
def test_what_is_no_id_is_refused(api: Api, request_: pb.ReadFileRequest) -> None:
    """ReadFile without an id, or with what is none, is VALIDATION_FAILED or NOT_FOUND."""
    with pytest.raises(grpc.RpcError) as caught:
        list(api.files.ReadFile(request_))
    assert caught.value.code() in {INVALID, NOT_FOUND}


def test_a_batch_reads_small_files_each_for_itself(api: Api) -> None:
    """BatchReadFiles gives bytes with CRC32C or an error for each, in order; what passes 3 MiB in all is refused."""
    one, first = large(api, MIB)
    two, second = large(api, 2 * MIB)
    tiny = upload(api, b"tiny").file
    results = batch_read(api, one.id, UNKNOWN_FILE, "nonsense", two.id, tiny.id)
    kinds = [result.WhichOneof("result") for result in results]
    assert kinds == ["data", "error", "error", "data", "error"]
    assert (results[0].data.content, results[3].data.content) == (first, second)
    assert results[0].data.crc32c == google_crc32c.value(first)
    assert results[1].error.code == NOT_FOUND.value[0]
    assert results[4].error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert batch_read(api, tiny.id)[0].data.content == b"tiny"
    for count in (0, 101):
        with refused(INVALID, "VALIDATION_FAILED"):
            batch_read(api, *[tiny.id] * count)


# Damage


def flip_in_file(server: RunningServer, size_bytes: int) -> str:
    """Flip one bit of the only blob of a size; return its location."""
    (path,) = [path for path in server.blob_files() if path.stat().st_size == size_bytes]
    with path.open("r+b") as file:
        file.seek(size_bytes // 2)
        (byte,) = file.read(1)
        file.seek(size_bytes // 2)
        file.write(bytes([byte ^ 1]))
    return str(server.sql("SELECT location FROM blobs WHERE size_bytes = ?", size_bytes)[0][0])


def flip_in_database(server: RunningServer, data: bytes) -> None:
    """Flip one bit of a blob that lies in the database."""
    damaged = bytes([data[0] ^ 1]) + data[1:]
    assert len(server.sql("UPDATE blob_bytes SET data = ? WHERE data = ?", damaged, data)) == 1


@pytest.mark.parametrize("size", [100, 40 * KIB, 2 * MIB + 7])
def test_a_flipped_bit_is_never_served_as_a_whole_file(start_server: Start, size: int) -> None:
    """P07: with one bit of a blob flipped a full read is DATA_LOSS before its end, and fsck names exactly that blob."""
    server = start_server()
    api = server.api()
    others = {upload(api, data).file.id: data for data in (b"small", os.urandom(30 * KIB), os.urandom(MIB))}
    file, data = large(api, size)
    location = ""
    if size > 32 * KIB:
        location = flip_in_file(server, size)
    else:
        flip_in_database(server, data)
    arrived = bytearray()
    with refused(grpc.StatusCode.DATA_LOSS, "STORED_CONTENT_CORRUPT"):
        for answer in api.files.ReadFile(pb.ReadFileRequest(file_id=file.id)):
            arrived += answer.chunk.data.content
    assert len(arrived) < size
    assert batch_read(api, file.id)[0].error.code == grpc.StatusCode.DATA_LOSS.value[0]
    warned = [line for line in server.log().splitlines() if file.id in line]
    assert len(warned) == 2  # One for each read.
    assert all("WARNING" in line and (location or "the database") in line for line in warned)
    for other, content in others.items():
        assert read(api, other) == content
    run = server.command("fsck", "--json", check=False)
    assert run.returncode == 1
    checked = server.report("fsck", check=False)
    assert [one["sha256"] for one in checked["corrupt"]] == [checksums_of(data).sha256.hex()]
    assert checked["corrupt"][0]["location"] == location
    for finding in ("missing", "wrong_size", "orphans", "stale_staged", "dangling_files"):
        assert not checked[finding]


def test_a_shortened_or_missing_blob_is_data_loss(start_server: Start) -> None:
    """P07: a blob that lost bytes, or is gone, is DATA_LOSS as well; fsck names it, with exit code 1."""
    server = start_server()
    api = server.api()
    shortened, _ = large(api, 50 * KIB)
    missing, _ = large(api, 60 * KIB)
    for path in server.blob_files():
        if path.stat().st_size == 50 * KIB:
            os.truncate(path, 49 * KIB)
        else:
            path.unlink()
    for file in (shortened, missing):
        with refused(grpc.StatusCode.DATA_LOSS, "STORED_CONTENT_CORRUPT"):
            read(api, file.id)
        assert batch_read(api, file.id)[0].error.code == grpc.StatusCode.DATA_LOSS.value[0]
        (location,) = server.sql("SELECT location FROM blobs WHERE size_bytes = ?", file.size_bytes)[0]
        warned = [line for line in server.log().splitlines() if file.id in line]
        assert len(warned) == 2  # One for each read.
        assert all("WARNING" in line and str(location) in line for line in warned)
    checked = server.report("fsck", check=False)
    assert [one["sha256"] for one in checked["wrong_size"]] == [shortened.checksums.sha256.hex()]
    assert [one["sha256"] for one in checked["missing"]] == [missing.checksums.sha256.hex()]
    assert not checked["clean"]


# Clients that go away


def open_blobs(server: RunningServer) -> list[Path]:
    """Return what of the blob store the server process has open."""
    found = []
    for descriptor in Path(f"/proc/{server.pid}/fd").iterdir():
        try:
            target = descriptor.readlink()
        except FileNotFoundError:
            continue
        if target.is_relative_to(server.data / "blobs"):
            found.append(target)
    return found


@only_disk
def test_cancelled_downloads_leave_nothing_open(start_server: Start) -> None:
    """P17: when clients cancel downloads half-way, the server closes the files and gives the places back.

    One user may have 256 downloads open at once, so the 300th is refused if places are lost.
    """
    server = start_server()
    api = server.api()
    data = os.urandom(48 * MIB)
    file = by_stream(api, data, spec_of())
    calls = [api.files.ReadFile(pb.ReadFileRequest(file_id=file.id)) for _ in range(4)]
    for call in calls:
        next(call)
    assert open_blobs(server)
    for call in calls:
        call.cancel()
    until(lambda: not open_blobs(server))
    for _ in range(300):
        call = api.files.ReadFile(pb.ReadFileRequest(file_id=file.id))
        next(call)
        call.cancel()
    until(lambda: not open_blobs(server))
    assert read(api, file.id, offset=-100) == data[-100:]

"""Bytes coming in over a real server: digests, lengths, offsets, broken streams, slow clients, and what is kept."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import grpc
import pytest

from remora import Client
from remora.v1 import file_service_pb2 as pb
from remora.v1 import upload_ticket_pb2
from tests.combinations import only_disk
from tests.running import Api, RunningServer, refused, until
from tests.uploading import (
    KIB,
    MIB,
    WAYS,
    CuttingProxy,
    Stream,
    append,
    attached,
    by_append,
    by_stream,
    by_unary,
    cancel,
    checksums_of,
    create_file,
    direct,
    new_ticket,
    read,
    spec_of,
    ticket,
    upload,
)

Start = Callable[..., RunningServer]
every_way = pytest.mark.parametrize("way", WAYS)
every_digest = pytest.mark.parametrize("algorithm", ["md5", "sha256", "crc32c"])
INVALID, ABORTED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ABORTED
CLOSED = grpc.StatusCode.FAILED_PRECONDITION
FAILED, COMPLETED = (
    upload_ticket_pb2.UPLOAD_TICKET_STATE_FAILED,
    upload_ticket_pb2.UPLOAD_TICKET_STATE_COMPLETED,
)


def open_blob_files(server: RunningServer) -> list[str]:
    """Return what of the blob store the server process has open."""
    found = []
    for descriptor in Path(f"/proc/{server.pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if target.startswith(str(server.data / "blobs")):
            found.append(target)
    return found


# What is declared must be what comes.


@every_way
@every_digest
@pytest.mark.parametrize("when", ["before", "after"])
def test_content_with_another_digest_is_refused_and_not_stored(
    api: Api, server: RunningServer, new_issue: str, way: str, algorithm: str, when: str
) -> None:
    """P09: a digest that differs is CONTENT_CHECKSUM_MISMATCH and nothing is stored; with the right one it succeeds."""
    data = os.urandom(40 * KIB)
    wrong, right = checksums_of(os.urandom(10), algorithm), checksums_of(data, algorithm)
    before = set(server.blob_files())
    with refused(INVALID, "CONTENT_CHECKSUM_MISMATCH") as refusals:
        if when == "before":
            WAYS[way](api, data, spec_of(checksums=wrong), attach_to=new_issue)
        else:
            WAYS[way](api, data, spec_of(), wrong, attach_to=new_issue)
    assert refusals[0].info.metadata["algorithm"] == algorithm
    assert refusals[0].info.metadata["expected"] != refusals[0].info.metadata["actual"]
    assert not attached(api, new_issue)
    assert set(server.blob_files()) <= before
    file = WAYS[way](api, data, spec_of(checksums=right), right, attach_to=new_issue)
    assert file.checksums.sha256 == checksums_of(data).sha256
    assert read(api, file.id) == data


def test_one_right_digest_does_not_excuse_a_wrong_one(api: Api) -> None:
    """P09: with MD5 and SHA-256 declared, both must be right."""
    data = os.urandom(40 * KIB)
    for right, wrong in (("md5", "sha256"), ("sha256", "md5")):
        both = checksums_of(data, right)
        both.MergeFrom(checksums_of(b"other", wrong))
        for way in WAYS.values():
            with refused(INVALID, "CONTENT_CHECKSUM_MISMATCH") as refusals:
                way(api, data, spec_of(checksums=both))
            assert refusals[0].info.metadata["algorithm"] == wrong


def test_a_refused_upload_fails_its_ticket_for_good(api: Api, server: RunningServer) -> None:
    """P09: after a mismatch the ticket is FAILED, tells why, and its bytes are gone."""
    with Stream(api, spec=spec_of(checksums=checksums_of(b"other", "sha256"))) as stream:
        stream.ready()
        stream.send(os.urandom(40 * KIB))
        with refused(INVALID, "CONTENT_CHECKSUM_MISMATCH"):
            stream.finish()
    failed = ticket(api, stream.ticket_id)
    assert failed.state == FAILED
    assert failed.error.code == INVALID.value[0]
    assert not server.staged_bytes(stream.ticket_id)
    with refused(CLOSED, "UPLOAD_TICKET_CLOSED") as refusals, Stream(api, stream.ticket_id) as again:
        again.ready()
    assert refusals[0].info.metadata["state"] == "FAILED"


MALFORMED = [
    ("md5", checksums_of(b"").md5.hex().encode()),
    ("md5", b"1B2M2Y8AsgTpgAmY7PhCfg=="),
    ("md5", bytes(15)),
    ("md5", bytes(17)),
    ("md5", b"\n" + bytes(16)),
    ("sha256", checksums_of(b"").sha256.hex().encode()),
    ("sha256", bytes(31)),
    ("sha256", bytes(33)),
]
malformed = pytest.mark.parametrize(("algorithm", "digest"), MALFORMED)


@malformed
@every_way
def test_a_malformed_digest_is_refused_before_any_byte(api: Api, way: str, algorithm: str, digest: bytes) -> None:
    """P10: a digest as hex or base64 text, or of another length, is VALIDATION_FAILED and names its field."""
    spec = spec_of()
    setattr(spec.checksums, algorithm, digest)
    with refused(INVALID, "VALIDATION_FAILED") as refusals:
        WAYS[way](api, b"x", spec)
    assert refusals[0].fields == [f"spec.checksums.{algorithm}"]


@malformed
def test_a_malformed_digest_at_the_end_leaves_the_upload_as_it_was(api: Api, algorithm: str, digest: bytes) -> None:
    """P10: a malformed digest in Finish or CreateFile is VALIDATION_FAILED; the upload can still be finished."""
    data = os.urandom(100)
    late = checksums_of(data, "crc32c")
    setattr(late, algorithm, digest)
    with Stream(api) as stream:
        stream.ready()
        stream.send(data)
        with refused(INVALID, "VALIDATION_FAILED") as refusals:
            stream.finish(checksums=late)
    assert refusals[0].fields == [f"finish.checksums.{algorithm}"]
    with refused(INVALID, "VALIDATION_FAILED") as refusals:
        create_file(api, stream.ticket_id, checksums=late)
    assert refusals[0].fields == [f"checksums.{algorithm}"]
    file = create_file(api, stream.ticket_id, checksums=checksums_of(data)).file
    assert read(api, file.id) == data


@every_way
@pytest.mark.parametrize("too_many", [-1, 1])
def test_another_length_than_declared_is_refused(
    api: Api, server: RunningServer, new_issue: str, way: str, too_many: int
) -> None:
    """P11: with N bytes declared, N-1 and N+1 bytes are refused and nothing is stored."""
    data = os.urandom(MIB + 100)
    before = set(server.blob_files())
    if way == "append" and too_many < 0:
        ticket_id = new_ticket(api, spec_of(size_bytes=len(data) + 1), attach_to=new_issue).id
        append(api, ticket_id, 0, data)
        with refused(CLOSED, "UPLOAD_INCOMPLETE") as refusals:
            create_file(api, ticket_id)
        assert refusals[0].info.metadata["committed_size"] == str(len(data))
        cancel(api, ticket_id)
    else:
        with refused(INVALID, "SIZE_MISMATCH") as refusals:
            WAYS[way](api, data, spec_of(size_bytes=len(data) - too_many), attach_to=new_issue)
        assert refusals[0].info.metadata["expected"] == str(len(data) - too_many)
    assert not attached(api, new_issue)
    assert set(server.blob_files()) <= before


def test_a_stream_is_cut_off_at_its_declared_size(api: Api, server: RunningServer) -> None:
    """P11: the chunk that would pass the declared size is refused as it comes, and what came before it is removed."""
    with Stream(api, spec=spec_of(size_bytes=100 * KIB)) as stream:
        stream.ready()
        stream.send(bytes(100 * KIB))
        stream.flush()
        stream.send(b"!")
        stream.ask_flush()
        with refused(INVALID, "SIZE_MISMATCH") as refusals:
            stream.next()
    assert refusals[0].info.metadata == {"expected": str(100 * KIB), "actual": str(100 * KIB + 1)}
    assert not server.staged_bytes(stream.ticket_id)


@pytest.mark.parametrize("told", [99, 101, 0])
def test_finish_with_another_size_than_was_sent_is_refused(api: Api, told: int) -> None:
    """P11: the size in Finish is compared as well, whatever was declared before."""
    with Stream(api) as stream:
        stream.ready()
        stream.send(bytes(100))
        with refused(INVALID, "SIZE_MISMATCH") as refusals:
            stream.finish(told)
    assert refusals[0].info.metadata == {"expected": str(told), "actual": "100"}


CHUNK = MIB
LARGEST = 2 * MIB + 12_345
SIZES = [0, 1, 32 * KIB, 32 * KIB + 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, LARGEST - 1, LARGEST]


def test_sizes_at_the_edges(start_server: Start) -> None:
    """P12: 0, 1, chunk-1, chunk, chunk+1 and max bytes come back byte for byte; max+1 is FILE_TOO_LARGE."""
    server = start_server("--max-file-bytes", str(LARGEST))
    api = server.api()
    data = os.urandom(LARGEST + 1)
    for way in WAYS.values():
        for size in SIZES:
            file = way(api, data[:size], spec_of(f"{way.__name__}-{size}"), checksums_of(data[:size]))
            assert file.size_bytes == size
            assert read(api, file.id) == data[:size]
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "FILE_TOO_LARGE") as refusals:
            way(api, data, spec_of())
        assert refusals[0].info.metadata["limit"] == str(LARGEST)
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "FILE_TOO_LARGE"):
            way(api, data, spec_of(size_bytes=LARGEST + 1))
    checked = server.report("fsck")
    assert checked["clean"]


def test_a_unary_upload_holds_three_mebibytes(api: Api) -> None:
    """P12: UploadFile takes 3 MiB and answers FILE_TOO_LARGE to one byte more."""
    data = os.urandom(3 * MIB + 1)
    assert read(api, by_unary(api, data[:-1], spec_of()).id) == data[:-1]
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "FILE_TOO_LARGE"):
        by_unary(api, data, spec_of())


def test_a_chunk_above_the_limit_is_refused_and_the_upload_goes_on(api: Api) -> None:
    """A chunk may have 2 MiB; one byte more is VALIDATION_FAILED and changes nothing."""
    data = os.urandom(2 * MIB + 1)
    with Stream(api) as stream:
        assert stream.ready().limits.max_chunk_bytes == 2 * MIB
        with refused(INVALID, "VALIDATION_FAILED") as refusals:
            stream.send(data)
            stream.flush()
    assert refusals[0].fields == ["chunk.data.content"]
    with refused(INVALID, "VALIDATION_FAILED"):
        append(api, stream.ticket_id, 0, data)
    with Stream(api, stream.ticket_id) as again:
        assert again.ready().committed_size == 0
        again.send_all(data, chunk_bytes=2 * MIB)
        assert again.finish(checksums=checksums_of(data)).file.size_bytes == len(data)


# Breaking off and going on.


def test_an_upload_survives_a_line_that_breaks_every_64_kib(
    server: RunningServer, new_issue: str, tmp_path: Path
) -> None:
    """P13: 20 MiB over a connection cut after every 64 KiB arrive whole, and what was told as stored was on disk."""
    data = os.urandom(20 * MIB)
    others = set(server.staged_files())
    told: list[int] = []

    def look(progress: object) -> None:
        if getattr(progress, "phase", "") == "sending":
            told.append(getattr(progress, "done_bytes", 0))
            sizes = [path.stat().st_size for path in set(server.staged_files()) - others]
            assert told[-1] <= max(sizes, default=len(data))

    with (
        CuttingProxy(server.address, cut_after_bytes=64 * KIB) as proxy,
        Client(proxy.address, key=server.ready["key"], workspace="demo", state_folder=tmp_path / "state") as client,
    ):
        put = client.put(new_issue, BytesIO(data), name="video.bin", on_progress=look)
    assert proxy.cuts > len(data) // (64 * KIB)
    assert told == sorted(told)
    (file,) = attached(server.api(), new_issue)
    assert file.id == put.file.id
    assert file.checksums.sha256 == checksums_of(data).sha256
    assert read(server.api(), file.id) == data


def test_committed_offsets_never_go_back_nor_pass_what_is_safe(server: RunningServer) -> None:
    """P13: on a line that breaks every 64 KiB each Ready and Progress tells of bytes that are safe."""
    data = os.urandom(MIB)
    key = str(server.ready["key"])
    ticket_id = new_ticket(server.api()).id
    told = [0]
    with CuttingProxy(server.address, cut_after_bytes=64 * KIB) as proxy:
        while told[-1] < len(data):
            with direct(proxy.address, key) as api, Stream(api, ticket_id) as stream:
                try:
                    ready = stream.ready()
                    told.append(ready.committed_size)
                    start = ready.committed_size
                    assert ready.committed_checksums == checksums_of(data[:start], "crc32c")
                    while stream.offset < len(data):
                        stream.send(data[stream.offset : stream.offset + 32 * KIB])
                        told.append(stream.flush())
                        assert server.staged_bytes(ticket_id) >= told[-1]
                except grpc.RpcError as error:
                    assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017 - most streams break, not all
    assert told == sorted(told)
    file = create_file(server.api(), ticket_id, checksums=checksums_of(data)).file
    assert read(server.api(), file.id) == data


@pytest.mark.parametrize("start", [0, 49 * KIB, 51 * KIB, 10 * MIB])
def test_a_chunk_at_another_offset_is_refused(api: Api, start: int) -> None:
    """P14: a chunk before or after the stored offset is OFFSET_MISMATCH with the right one; the upload is unchanged."""
    data = os.urandom(100 * KIB)
    with Stream(api) as stream:
        stream.ready()
        stream.send(data[: 50 * KIB])
        assert stream.flush() == 50 * KIB
        with refused(ABORTED, "OFFSET_MISMATCH") as refusals:
            stream.send(data[50 * KIB :], offset=start)
            stream.ask_flush()
            stream.next()
    assert refusals[0].info.metadata["expected_offset"] == str(50 * KIB)
    with refused(ABORTED, "OFFSET_MISMATCH") as refusals:
        append(api, stream.ticket_id, start, data[50 * KIB :])
    assert refusals[0].info.metadata["expected_offset"] == str(50 * KIB)
    with Stream(api, stream.ticket_id) as again:
        ready = again.ready()
        assert ready.committed_size == 50 * KIB
        assert ready.committed_checksums == checksums_of(data[: 50 * KIB], "crc32c")
        again.send_all(data)
        assert again.finish(checksums=checksums_of(data)).file.size_bytes == len(data)


def test_a_damaged_chunk_is_dropped(api: Api) -> None:
    """A chunk whose CRC32C is wrong is CHUNK_CHECKSUM_MISMATCH; what came before it is kept and the upload goes on."""
    data = os.urandom(100 * KIB)
    with Stream(api) as stream:
        stream.ready()
        stream.send(data[: 50 * KIB])
        with refused(ABORTED, "CHUNK_CHECKSUM_MISMATCH") as refusals:
            stream.send(data[50 * KIB :], crc32c=1)
            stream.rest()
    assert refusals[0].info.metadata["expected_offset"] == str(50 * KIB)
    with Stream(api, stream.ticket_id) as again:
        assert again.ready().committed_size == 50 * KIB
        again.send_all(data)
        assert again.finish(checksums=checksums_of(data)).file.size_bytes == len(data)


def test_a_lost_answer_can_be_asked_for_again(api: Api, new_issue: str) -> None:
    """P15: opening a finished ticket, or calling CreateFile on it, returns the same file; there is exactly one."""
    data = os.urandom(40 * KIB)
    with Stream(api, spec=spec_of(), attach_to=new_issue) as stream:
        stream.ready()
        stream.send(data)
        stream.ask_finish()
        until(lambda: ticket(api, stream.ticket_id).state == COMPLETED)  # Nobody has read Done.
    with Stream(api, stream.ticket_id) as again:
        first = again.done()
    with Stream(api, stream.ticket_id) as again:
        assert again.done() == first
    created = create_file(api, stream.ticket_id, checksums=checksums_of(data))
    assert (created.file, created.attachment_id) == (first.file, first.attachment_id)
    assert [file.id for file in attached(api, new_issue)] == [first.file.id]
    assert first.outcome == pb.UPLOAD_OUTCOME_STORED
    assert read(api, attachment_id=first.attachment_id) == data


def test_a_repeated_create_file_returns_the_same_file(api: Api, new_issue: str) -> None:
    """P15: CreateFile after a ticket upload may be repeated, and answers alike."""
    ticket_id = new_ticket(api, attach_to=new_issue).id
    append(api, ticket_id, 0, b"once")
    first = create_file(api, ticket_id)
    assert create_file(api, ticket_id) == first
    assert [file.id for file in attached(api, new_issue)] == [first.file.id]


def test_a_repeated_unary_upload_returns_the_same_file(api: Api, new_issue: str) -> None:
    """P15: UploadFile with the request_id of an answered call makes no second file; other content is refused."""
    for data in (os.urandom(100), os.urandom(40 * KIB)):
        request_id = str(uuid4())
        first = upload(api, data, attach_to=new_issue, request_id=request_id)
        assert upload(api, data, attach_to=new_issue, request_id=request_id) == first
        with refused(INVALID, "REQUEST_ID_REUSED"):
            upload(api, data + b"!", attach_to=new_issue, request_id=request_id)
    assert len(attached(api, new_issue)) == 2


def test_a_repeated_open_finds_the_same_ticket(api: Api) -> None:
    """P15: Open with a spec and the same request_id finds the ticket that the lost Ready named."""
    request_id = str(uuid4())
    with Stream(api, spec=spec_of(), request_id=request_id) as stream:
        first = stream.ready()
    with Stream(api, spec=spec_of(), request_id=request_id) as stream:
        again = stream.ready()
    assert again.upload_ticket_id == first.upload_ticket_id
    assert again.writer_epoch > first.writer_epoch


def test_a_broken_stream_keeps_every_byte_that_arrived(api: Api) -> None:
    """P13: half-closing without Finish is UPLOAD_INCOMPLETE, and all bytes sent are committed."""
    data = os.urandom(300 * KIB)
    with Stream(api) as stream:
        stream.ready()
        stream.send_all(data, chunk_bytes=100 * KIB)
        stream.end()
        with refused(CLOSED, "UPLOAD_INCOMPLETE") as refusals:
            stream.rest()
    assert refusals[0].info.metadata["committed_size"] == str(len(data))
    assert ticket(api, stream.ticket_id).committed_size == len(data)
    assert ticket(api, stream.ticket_id).committed_checksums == checksums_of(data, "crc32c")


def test_a_newer_writer_fences_the_older_one(api: Api) -> None:
    """Opening a ticket again ends the older stream with WRITER_FENCED; only the newer one's bytes count."""
    data = os.urandom(200 * KIB)
    with Stream(api) as older:
        first = older.ready()
        older.send(data[: 100 * KIB])
        older.flush()
        with Stream(api, older.ticket_id) as newer:
            second = newer.ready()
            assert second.writer_epoch > first.writer_epoch
            assert second.committed_size == 100 * KIB
            older.send(b"never")
            with refused(ABORTED, "WRITER_FENCED") as refusals:
                older.rest()
            assert int(refusals[0].info.metadata["writer_epoch"]) == second.writer_epoch
            newer.send_all(data)
            done = newer.finish(checksums=checksums_of(data))
    assert read(api, done.file.id) == data


def test_a_unary_append_fences_a_stream(api: Api) -> None:
    """A unary append opens the ticket too, so an open stream ends with WRITER_FENCED."""
    with Stream(api) as stream:
        stream.ready()
        answer = append(api, stream.ticket_id, 0, b"mine")
        assert answer.committed_size == 4
        with refused(ABORTED, "WRITER_FENCED"):
            stream.rest()


def test_cancelling_a_ticket_stops_its_writer(api: Api, server: RunningServer) -> None:
    """CancelUploadTicket ends a running stream with ABORTED and removes the bytes."""
    with Stream(api) as stream:
        stream.ready()
        stream.send(bytes(100 * KIB))
        stream.flush()
        cancel(api, stream.ticket_id)
        with refused(ABORTED, "WRITER_FENCED"):
            stream.rest()
    assert not server.staged_bytes(stream.ticket_id)
    with refused(CLOSED, "UPLOAD_TICKET_CLOSED"), Stream(api, stream.ticket_id) as again:
        again.ready()


@pytest.mark.parametrize("kind", ["nothing", "chunk", "flush", "finish"])
def test_a_stream_begins_with_open(api: Api, kind: str) -> None:
    """Anything but Open as the first message is VALIDATION_FAILED."""
    with Stream(api, opening=False) as stream:
        if kind == "chunk":
            stream.send(b"x")
        elif kind == "flush":
            stream.ask_flush()
        elif kind == "finish":
            stream.ask_finish()
        else:
            stream.end()
        with refused(INVALID, "VALIDATION_FAILED"):
            stream.next()


def test_opening_a_ticket_twice_on_one_stream_is_refused(api: Api) -> None:
    """Open is the first message and only the first."""
    with Stream(api) as stream:
        stream.ready()
        with Stream(api, stream.ticket_id) as other:
            stream._requests.put(other._requests.get())
            with refused(INVALID, "VALIDATION_FAILED"):
                stream.rest()


# Telling of progress.


def test_flush_is_answered_with_what_is_stored(api: Api) -> None:
    """Each Flush is answered with Progress over everything sent before it, with its CRC32C."""
    data = os.urandom(300 * KIB)
    with Stream(api) as stream:
        stream.ready()
        for end in (100 * KIB, 200 * KIB, 300 * KIB):
            stream.send(data[end - 100 * KIB : end])
            stream.ask_flush()
            progress = stream.next().progress
            assert progress.committed_size == end
            assert progress.committed_checksums == checksums_of(data[:end], "crc32c")
            assert ticket(api, stream.ticket_id).committed_size == end


def test_bytes_are_stored_within_two_seconds_without_being_asked(api: Api) -> None:
    """A few bytes that nothing follows are committed and told of by themselves."""
    with Stream(api) as stream:
        stream.ready()
        stream.send(b"few")
        assert stream.committed(1) == 3


def test_every_eight_mebibytes_are_told_of(api: Api) -> None:
    """At most 8 MiB, announced as ack_interval_bytes, are ever under way without a word of them."""
    with Stream(api) as stream:
        interval = stream.ready().limits.ack_interval_bytes
        assert interval == 8 * MIB
        chunk = os.urandom(MIB)
        told = [0]
        while told[-1] < 24 * MIB:
            while stream.offset - told[-1] < interval:
                stream.send(chunk)
            told.append(stream.committed(told[-1] + 1))
        assert all(later - earlier <= interval for earlier, later in pairwise(told))
    cancel(api, stream.ticket_id)


# Slow, silent and gone clients.


def test_a_silent_stream_is_drained(start_server: Start) -> None:
    """P18: a client that sends nothing is sent Drain after the idle time, and goes on where it was."""
    api = start_server("--idle-timeout", "2").api()
    data = os.urandom(100 * KIB)
    with Stream(api) as empty, Stream(api) as begun:
        empty.ready()
        begun.ready()
        begun.send(data[: 60 * KIB])
        assert empty.drained().committed_size == 0
        assert begun.drained().committed_size == 60 * KIB
    with Stream(api, begun.ticket_id) as again:
        assert again.ready().committed_size == 60 * KIB
        again.send_all(data)
        assert again.finish(checksums=checksums_of(data)).file.size_bytes == len(data)


def test_a_stream_that_is_never_opened_is_drained(start_server: Start) -> None:
    """P18: a client that does not even open is sent Drain after the idle time, not an internal error."""
    api = start_server("--idle-timeout", "1").api()
    with Stream(api, opening=False) as stream:
        assert stream.drained().committed_size == 0


def test_slow_clients_are_cut_off_and_do_not_keep_others_waiting(start_server: Start) -> None:
    """P18: 50 clients slower than the minimum rate are drained with what they sent; another one works meanwhile."""
    server = start_server("--idle-timeout", "3", "--min-rate", "1KiB")
    api = server.api()
    streams = [Stream(api) for _ in range(50)]
    for stream in streams:
        stream.ready()
    drained: list[Stream] = []
    everybody = threading.Event()

    def trickle() -> None:
        while not everybody.wait(0.3):
            for stream in streams:
                stream.send(b".")

    trickling = threading.Thread(target=trickle)
    trickling.start()
    try:
        data = os.urandom(200 * KIB)
        file = by_stream(api, data, spec_of())
        assert read(api, file.id) == data
        for stream in streams:
            drain = stream.drained()
            assert 0 < drain.committed_size <= stream.offset
            assert ticket(api, stream.ticket_id).committed_size == drain.committed_size
            drained.append(stream)
    finally:
        everybody.set()
        trickling.join()
        for stream in streams:
            stream.cancel()
    assert len(drained) == 50
    until(lambda: not open_blob_files(server))


@only_disk
def test_a_client_that_goes_away_leaves_nothing_open(start_server: Start) -> None:
    """P17: cancelling an upload frees file and worker; the bytes stay for a resume until the ticket is cancelled."""
    server = start_server()
    api = server.api()
    data = os.urandom(300 * KIB)
    with Stream(api) as stream:
        stream.ready()
        stream.send(data)
        stream.flush()
        assert open_blob_files(server)
    until(lambda: not open_blob_files(server))
    assert ticket(api, stream.ticket_id).committed_size == len(data)
    assert server.staged_bytes(stream.ticket_id) == len(data)
    cancel(api, stream.ticket_id)
    assert not server.blob_files()


def test_cancelled_streams_give_their_places_back(start_server: Start) -> None:
    """P17: more streams than one user may have open at once can be opened and cancelled one after the other."""
    server = start_server()
    api = server.api()
    ticket_id = new_ticket(api).id
    for _ in range(300):
        with Stream(api, ticket_id) as stream:
            stream.ready()
    until(lambda: not open_blob_files(server))
    with Stream(api, ticket_id) as stream:
        stream.ready()
        stream.send(b"still")
        assert stream.finish().file.size_bytes == 5


def test_too_many_streams_of_one_user_are_refused_at_once(start_server: Start) -> None:
    """A user with 256 open streams is told TOO_MANY_STREAMS with a delay, and may go on once one has ended.

    P44: another tenant's stream is admitted all the while.
    """
    server = start_server()
    api = server.api()
    other = server.api(server.new_key("other", workspace="other"))
    streams = [Stream(api) for _ in range(256)]
    try:
        for stream in streams:
            stream.ready()
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS") as refusals, Stream(api) as more:
            more.ready()
        assert refusals[0].retry.retry_delay.ToTimedelta().total_seconds() > 0
        with Stream(other, workspace="other") as theirs:
            theirs.ready()
            theirs.send(b"theirs")
            assert theirs.finish().file.size_bytes == 6
        streams[0].send(b"x")
        streams[0].finish()
        with Stream(api) as another:
            another.ready()
    finally:
        for stream in streams:
            stream.cancel()


# Tickets outlive the server.


def test_an_upload_goes_on_after_the_server_was_killed(start_server: Start) -> None:
    """P13: after SIGKILL the ticket stands at what was committed; the bytes are read back to prove the digests."""
    server = start_server()
    data = os.urandom(5 * MIB + 17)
    with Stream(server.api()) as stream:
        stream.ready()
        stream.send_all(data[: 3 * MIB + 5], chunk_bytes=700 * KIB)
        committed = stream.flush()
        server.kill()
    server.start()
    with Stream(server.api(), stream.ticket_id) as again:
        ready = again.ready()
        assert ready.committed_size == committed == 3 * MIB + 5
        assert ready.committed_checksums == checksums_of(data[:committed], "crc32c")
        again.send_all(data)
        done = again.finish(checksums=checksums_of(data, "sha256"))
    assert done.file.checksums == checksums_of(data, "sha256", "crc32c")
    assert read(server.api(), done.file.id) == data


def test_verification_goes_on_when_the_stream_breaks(start_server: Start) -> None:
    """P15: a client that goes away while its bytes are read back finds the file when it opens the ticket again."""
    server = start_server()
    data = os.urandom(8 * MIB)
    with Stream(server.api()) as stream:
        stream.ready()
        stream.send_all(data)
        stream.flush()
        server.kill()
    server.start()
    api = server.api()
    verifying = upload_ticket_pb2.UPLOAD_TICKET_STATE_VERIFYING
    with Stream(api, stream.ticket_id) as again:
        again.ready()
        again.ask_finish(len(data), checksums_of(data, "sha256"))
        until(lambda: ticket(api, stream.ticket_id).state in {verifying, COMPLETED})
    until(lambda: ticket(api, stream.ticket_id).state == COMPLETED)
    with Stream(api, stream.ticket_id) as again:
        assert again.done().file.checksums == checksums_of(data, "sha256", "crc32c")


def test_read_back_bytes_that_differ_are_refused(start_server: Start) -> None:
    """P09: a wrong digest is found as well when the bytes had to be read back, by stream and by CreateFile."""
    server = start_server()
    data = os.urandom(MIB + 1)
    ticket_ids = []
    for _ in range(2):
        with Stream(server.api()) as stream:
            stream.ready()
            stream.send_all(data)
            stream.flush()
            ticket_ids.append(stream.ticket_id)
    server.kill()
    server.start()
    api = server.api()
    wrong = checksums_of(data[:-1], "sha256")
    with Stream(api, ticket_ids[0]) as again, refused(INVALID, "CONTENT_CHECKSUM_MISMATCH"):
        again.ready()
        again.finish(checksums=wrong)
    with refused(INVALID, "CONTENT_CHECKSUM_MISMATCH"):
        create_file(api, ticket_ids[1], checksums=wrong)
    assert not server.blob_files()


# Quota.


def test_a_workspace_cannot_keep_more_than_its_quota(start_server: Start) -> None:
    """Beyond the quota every way of uploading is QUOTA_EXCEEDED without a retry delay; deleting gives room back."""
    server = start_server("--quota-bytes", str(100 * KIB))
    api = server.api()
    first = upload(api, os.urandom(90 * KIB)).file
    more = os.urandom(20 * KIB)
    exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
    for way in WAYS.values():
        with refused(exhausted, "QUOTA_EXCEEDED") as refusals:
            way(api, more, spec_of())
        assert not refusals[0].retry.HasField("retry_delay")
    with refused(exhausted, "QUOTA_EXCEEDED"):
        new_ticket(api, spec_of(size_bytes=len(more)))
    with Stream(api) as stream:
        stream.ready()
        stream.send_all(more)
        with refused(exhausted, "QUOTA_EXCEEDED"):
            stream.finish()
    api.files.DeleteFile(pb.DeleteFileRequest(file_id=first.id))
    with Stream(api, stream.ticket_id) as again:
        again.ready()
        again.send_all(more)
        assert read(api, again.finish(checksums=checksums_of(more)).file.id) == more
    by_append(api, more, spec_of("b"))
    by_unary(api, more, spec_of("c"))


def test_concurrent_uploads_cannot_pass_the_quota(start_server: Start) -> None:
    """Of 20 uploads at once exactly those succeed that fit together."""
    api = start_server("--quota-bytes", str(100 * KIB)).api()
    calls = [
        api.files.UploadFile.future(
            pb.UploadFileRequest(workspace_id="demo", spec=spec_of(f"{number}"), data=os.urandom(20 * KIB))
        )
        for number in range(20)
    ]
    codes = [call.code() for call in calls]
    assert codes.count(grpc.StatusCode.OK) == 5
    assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 15

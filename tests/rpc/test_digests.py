"""Which digests an upload ends with: SHA-256 and CRC32C always, MD5 where somebody asked for it."""

from __future__ import annotations

import os

import grpc
import pytest

from remora.v1 import common_pb2
from remora.v1 import file_service_pb2 as pb
from tests.running import Api, RunningServer, refused
from tests.uploading import MIB, Stream, checksums_of, spec_of

DATA_BYTES = 2 * MIB + 5


def stream(
    api: Api, data: bytes, declared: common_pb2.Checksums, claimed: common_pb2.Checksums
) -> pb.WriteFileResponse.Done:
    """Upload by stream, with digests declared before the bytes and claimed after them."""
    with Stream(api, spec=spec_of(f"{os.urandom(4).hex()}.bin", len(data), declared)) as open_stream:
        open_stream.ready()
        open_stream.send_all(data)
        open_stream.ask_finish(len(data), claimed)
        return open_stream.done()


def test_a_stream_without_md5_is_proved_by_sha256(api: Api) -> None:
    """MD5 would take more than twice as long as SHA-256; it is left out unless it is declared."""
    data = os.urandom(DATA_BYTES)
    checksums = stream(api, data, common_pb2.Checksums(), common_pb2.Checksums()).file.checksums
    assert checksums == checksums_of(data, "crc32c", "sha256")


@pytest.mark.parametrize("when", ["declared before the bytes", "claimed after them"])
def test_an_md5_that_is_given_is_compared_and_kept(api: Api, when: str) -> None:
    """Whether it comes with the spec or with Finish: a right one is kept, a wrong one refused."""
    data = os.urandom(DATA_BYTES)
    right, wrong = checksums_of(data, "md5"), checksums_of(b"other", "md5")
    nothing = common_pb2.Checksums()
    first = when.startswith("declared")
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "CONTENT_CHECKSUM_MISMATCH") as seen:
        stream(api, data, *((wrong, nothing) if first else (nothing, wrong)))
    assert seen[0].info.metadata["algorithm"] == "md5"
    done = stream(api, data, *((right, nothing) if first else (nothing, right)))
    assert done.file.checksums == checksums_of(data)


def test_a_blob_learns_its_md5(server: RunningServer, api: Api) -> None:
    """Content that was first stored without an MD5 has one for all its files once somebody declared it."""
    other = server.api(server.new_key("who declares an MD5"))
    data = os.urandom(DATA_BYTES)
    first = stream(api, data, common_pb2.Checksums(), common_pb2.Checksums()).file
    file = stream(other, data, checksums_of(data, "md5"), common_pb2.Checksums()).file
    assert file.checksums == checksums_of(data)
    assert api.files.GetFile(pb.GetFileRequest(file_id=first.id)).file.checksums == checksums_of(data)


def test_every_flush_is_answered(api: Api) -> None:
    """Also one that brings nothing new: a client that waits for Progress after it is not left waiting."""
    data = os.urandom(MIB)
    with Stream(api, spec=spec_of("flushed.bin", len(data))) as open_stream:
        open_stream.ready()
        open_stream.send_all(data)
        assert open_stream.flush() == len(data)
        open_stream.ask_flush()
        assert open_stream.next().progress.committed_size == len(data)
        assert open_stream.finish(len(data)).file.size_bytes == len(data)

"""Uploads through a real socket: what is sent, what is not, and how each failure ends."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import threading
import time
from pathlib import Path

import grpc
import pytest

from remora import Client, Progress, errors
from remora.v1 import file_service_pb2
from tests.client.cutting_proxy import CuttingProxy
from tests.client.fake_server import KEY, FakeServer, Fault, Wanted

MIB = 1 << 20


def opens(fake: FakeServer) -> list[file_service_pb2.WriteFileRequest.Open]:
    """Give the Open of each stream."""
    return [call.open for call in fake.calls if isinstance(call, file_service_pb2.WriteFileRequest)]


def content_of(fake: FakeServer, file_id: str) -> bytes:
    """Give what the server stored."""
    return fake.files[file_id][1]


def state_files(kind: str) -> list[Path]:
    """Give the files that the client keeps."""
    folder = Path(os.environ["XDG_STATE_HOME"]) / "remora" / kind
    return sorted(folder.iterdir()) if folder.exists() else []


def test_a_small_file_goes_in_one_call(fake: FakeServer, client: Client, tmp_path: Path) -> None:
    """Below the threshold to ask first would take as long as to send."""
    path = tmp_path / "note.txt"
    path.write_bytes(b"hello")
    done = client.put("DEMO-1", path, metadata={"build": 7, "ratio": 0.5, "branch": "main"})
    (call,) = fake.calls
    assert isinstance(call, file_service_pb2.UploadFileRequest)
    assert call.request_id
    assert call.spec.size_bytes == 5
    assert call.spec.checksums.sha256 == hashlib.sha256(b"hello").digest()
    assert done.file.metadata == {"build": 7, "ratio": 0.5, "branch": "main"}
    assert (done.outcome, done.bytes_sent, done.resumed_at, done.name) == ("stored", 5, 0, "note.txt")
    assert done.file.sha256 == hashlib.sha256(b"hello").hexdigest()


def test_a_small_file_that_was_put_before_is_not_sent_again(fake: FakeServer, client: Client, tmp_path: Path) -> None:
    """The digest is remembered, so the server is asked first."""
    path = tmp_path / "note.txt"
    path.write_bytes(b"hello")
    os.utime(path, (1_700_000_000.5, 1_700_000_000.5))
    client.put("DEMO-1", path)
    again = client.put("DEMO-1", path)
    assert (again.outcome, again.bytes_sent) == ("already_exists", 0)
    assert len(opens(fake)) == 1


def test_a_large_file_is_streamed_and_known_the_second_time(fake: FakeServer, client: Client, big: Path) -> None:
    """Hash, announce, send; then announce only."""
    seen: list[Progress] = []
    done = client.put("DEMO-1", big, on_progress=seen.append)
    assert content_of(fake, done.file.id) == big.read_bytes()
    assert (done.outcome, done.bytes_sent) == ("stored", big.stat().st_size)
    assert [one for one in seen if one.phase == "hashing"][-1].percent == 100
    assert fake.chunks[0] == (0, MIB)
    again = client.put("DEMO-1", big)
    assert (again.outcome, again.bytes_sent, again.resumed_at) == ("already_exists", 0, 0)
    assert state_files("uploads") == []


def test_hashing_is_not_repeated_unless_the_file_changed(client: Client, big: Path) -> None:
    """The digest is kept by path, size, time and inode."""
    os.utime(big, (1_700_000_000.5, 1_700_000_000.5))
    client.put("DEMO-1", big)
    seen: list[Progress] = []
    client.put("DEMO-1", big, on_progress=seen.append)
    assert not [one for one in seen if one.phase == "hashing"]
    os.utime(big, (1_700_000_001.5, 1_700_000_001.5))
    client.put("DEMO-1", big, on_progress=seen.append)
    assert [one for one in seen if one.phase == "hashing"]


def test_a_file_changed_a_moment_ago_is_hashed_again(client: Client, big: Path) -> None:
    """It might change once more without getting another time."""
    now = time.time() + 10
    os.utime(big, (now, now))
    client.put("DEMO-1", big)
    assert state_files("digests") == []


@pytest.mark.parametrize("kind", ["cut", "drain", "close"])
def test_a_stream_that_ends_early_is_taken_up(fake: FakeServer, client: Client, big: Path, kind: str) -> None:
    """Whatever ended it, the upload completes; only a ticket that was closed costs bytes."""
    fake.faults.extend([Fault(kind, 2 * MIB), Fault(kind, MIB)])
    done = client.put("DEMO-1", big)
    assert content_of(fake, done.file.id) == big.read_bytes()
    assert len(opens(fake)) == 3
    if kind != "close":
        first, *others = opens(fake)
        assert first.HasField("spec")
        assert {other.upload_ticket_id for other in others} == set(fake.tickets)


def test_the_ticket_is_on_disk_before_the_first_byte(fake: FakeServer, big: Path, client: Client) -> None:
    """A run that is killed leaves a file that only its owner can read, and another run goes on from there."""
    fake.faults.append(Fault("quota", 2 * MIB))
    with pytest.raises(errors.QuotaExceededError):
        client.put("DEMO-1", big)
    (kept,) = state_files("uploads")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    upload = json.loads(kept.read_text())["upload"]
    assert upload["upload_ticket_id"] in fake.tickets
    assert upload["size_bytes"] == big.stat().st_size
    seen: list[Progress] = []
    with Client(fake.address, key=KEY, workspace="demo") as another:
        done = another.put("DEMO-1", big, on_progress=seen.append)
    assert (done.resumed_at, done.bytes_sent) == (2 * MIB, big.stat().st_size - 2 * MIB)
    assert seen[0].phase == "sending"
    assert content_of(fake, done.file.id) == big.read_bytes()


def test_another_issue_does_not_take_up_the_upload(fake: FakeServer, client: Client, big: Path) -> None:
    """A ticket says what its file will hang on."""
    fake.faults.append(Fault("quota", 2 * MIB))
    with pytest.raises(errors.QuotaExceededError):
        client.put("DEMO-1", big)
    assert client.put("DEMO-2", big).resumed_at == 0


def test_a_server_that_does_not_know_the_ticket_gives_a_new_one(fake: FakeServer, client: Client, big: Path) -> None:
    """State is not kept by address, so a ticket may be meant for another server."""
    fake.faults.append(Fault("quota", 2 * MIB))
    with pytest.raises(errors.QuotaExceededError):
        client.put("DEMO-1", big)
    fake.tickets.clear()
    done = client.put("DEMO-1", big)
    assert (done.resumed_at, done.bytes_sent) == (0, big.stat().st_size)


def test_a_prefix_of_other_content_is_cancelled(fake: FakeServer, client: Client, big: Path) -> None:
    """What the server has must be what we have."""
    fake.faults.append(Fault("quota", 2 * MIB))
    with pytest.raises(errors.QuotaExceededError):
        client.put("DEMO-1", big)
    (ticket,) = fake.tickets.values()
    ticket.data[5] ^= 1
    done = client.put("DEMO-1", big)
    assert ticket.id not in fake.tickets
    assert content_of(fake, done.file.id) == big.read_bytes()
    assert done.resumed_at == 0


def test_a_lost_done_comes_back(fake: FakeServer, client: Client, big: Path) -> None:
    """Opening the completed ticket again returns its file; nothing is stored twice."""
    fake.faults.append(Fault("lose_done"))
    done = client.put("DEMO-1", big)
    assert list(fake.files) == [done.file.id]
    assert done.bytes_sent == big.stat().st_size


def test_a_fenced_writer_stops(fake: FakeServer, client: Client, big: Path) -> None:
    """Two writers that both reopened would push each other out for ever."""
    fake.faults.append(Fault("acknowledge"))

    def fence(_: Progress) -> None:
        for ticket in fake.tickets.values():
            ticket.epoch = 9

    with pytest.raises(errors.WriterFencedError) as caught:
        client.put("DEMO-1", big, on_progress=fence)
    assert caught.value.metadata == {"writer_epoch": "9"}
    assert caught.value.code == "ABORTED"
    assert len(opens(fake)) == 1


@pytest.mark.parametrize(
    ("kind", "error"),
    [("damage", errors.ChunkChecksumMismatchError), ("offset", errors.OffsetMismatchError)],
)
def test_a_chunk_is_refused_three_times_at_most(
    fake: FakeServer, client: Client, big: Path, kind: str, error: type[errors.RemoraError]
) -> None:
    """Twice is bad luck."""
    fake.faults.extend([Fault(kind), Fault(kind)])
    done = client.put("DEMO-1", big)
    assert content_of(fake, done.file.id) == big.read_bytes()
    big.write_bytes(b"x" * (2 * MIB))
    fake.faults.extend([Fault(kind), Fault(kind), Fault(kind)])
    with pytest.raises(error):
        client.put("DEMO-1", big)


def test_a_busy_server_is_asked_again(fake: FakeServer, client: Client, big: Path) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo means later."""
    fake.faults.extend([Fault("busy"), Fault("busy")])
    assert client.put("DEMO-1", big).outcome == "stored"


def test_chunks_shrink_until_they_arrive_and_then_grow(fake: FakeServer, client: Client, big: Path) -> None:
    """A stream that stored nothing halves the size; one that stored several chunks doubles it."""
    fake.faults.extend([Fault("small_only", 128 << 10)] * 3)
    client.put("DEMO-1", big)
    sizes = [size for _, size in fake.chunks]
    assert sizes[:4] == [MIB, MIB // 2, MIB // 4, MIB // 8]
    assert MIB // 4 in sizes[4:]


def test_a_line_cut_after_every_64_kib_converges(fake: FakeServer, tmp_path: Path) -> None:
    """The real thing: TCP connections that end, so that chunks of more than 32 KiB never arrive."""
    path = tmp_path / "big.iso"
    path.write_bytes(os.urandom(2 * MIB))
    proxy = CuttingProxy(fake.port, 64 << 10)
    with Client(proxy.address, key=KEY, workspace="demo", patience=30) as client:
        done = client.put("DEMO-1", path)
    proxy.close()
    assert content_of(fake, done.file.id) == path.read_bytes()
    assert proxy.connections > 20


def test_a_file_that_changes_is_given_up(fake: FakeServer, client: Client, big: Path) -> None:
    """What was sent is neither the old nor the new content: the ticket goes, and the error says so."""
    fake.faults.append(Fault("acknowledge"))

    def touch(progress: Progress) -> None:
        if progress.phase == "sending":
            os.utime(big, (1, 1))

    with pytest.raises(errors.SourceChangedError, match=r"big\.iso changed while"):
        client.put("DEMO-1", big, on_progress=touch)
    assert fake.tickets == {}
    assert state_files("uploads") == []


def test_a_pipe_is_hashed_while_it_is_sent_and_survives_cuts(fake: FakeServer, client: Client) -> None:
    """What is not yet stored is kept and sent again."""
    content = os.urandom(5 * MIB + 3)
    fake.faults.extend([Fault("cut", MIB), Fault("lose"), Fault("drain", MIB)])
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(content)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading, "rb") as pipe:
        done = client.put("DEMO-1", pipe, name="piped.bin")
    writer.join()
    assert content_of(fake, done.file.id) == content
    assert done.file.sha256 == hashlib.sha256(content).hexdigest()
    assert not opens(fake)[0].spec.HasField("size_bytes")


def test_a_short_pipe_goes_in_one_call(fake: FakeServer, client: Client) -> None:
    """Its size is known before anything is sent."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    done = client.put("DEMO-1", Pipe(b"hello"), name="piped.txt")
    assert content_of(fake, done.file.id) == b"hello"
    assert opens(fake) == []


def test_a_seekable_stream_is_read_from_where_it_stands(fake: FakeServer, client: Client) -> None:
    """It can be hashed first, so it can be spared."""
    stream = io.BytesIO(b"x" * 10 + b"y" * MIB)
    stream.seek(10)
    done = client.put("DEMO-1", stream, name="y.bin")
    assert content_of(fake, done.file.id) == b"y" * MIB
    stream.seek(10)
    assert client.put("DEMO-1", stream, name="y.bin").outcome == "already_exists"
    assert not stream.closed


@pytest.mark.parametrize("known", [False, True])
def test_an_empty_file_can_be_put(fake: FakeServer, client: Client, tmp_path: Path, known: bool) -> None:  # noqa: FBT001
    """In one call or in a stream without chunks."""
    path = tmp_path / "empty"
    path.touch()
    os.utime(path, (1_700_000_000.5, 1_700_000_000.5))
    fake.dedup = False
    for _ in range(1 + known):
        assert client.put("DEMO-1", path).file.sha256 == hashlib.sha256().hexdigest()


def test_a_small_upload_falls_back_to_a_stream(fake: FakeServer, client: Client, tmp_path: Path) -> None:
    """A stream is more patient than a call."""
    path = tmp_path / "note.txt"
    path.write_bytes(b"hello")
    unavailable = Wanted(grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE", retry_after=0.01)
    fake.unary_failures.extend([unavailable] * 4)
    done = client.put("DEMO-1", path)
    assert content_of(fake, done.file.id) == b"hello"
    ids = {call.request_id for call in fake.calls if isinstance(call, file_service_pb2.UploadFileRequest)}
    assert len(ids) == 1


def test_a_server_that_comes_back_costs_only_time(big: Path) -> None:
    """The upload waits for it, and goes on with the ticket."""
    fake = FakeServer()
    port = fake.port
    fake.faults.append(Fault("acknowledge"))
    stopped = threading.Event()

    def stop_once(progress: Progress) -> None:
        if progress.phase == "sending" and progress.done_bytes >= MIB and not stopped.is_set():
            stopped.set()
            fake.stop()

    revived: list[FakeServer] = []

    def revive() -> None:
        stopped.wait()
        time.sleep(0.5)
        again = FakeServer(port)
        again.tickets = fake.tickets
        revived.append(again)

    thread = threading.Thread(target=revive)
    thread.start()
    with Client(fake.address, key=KEY, workspace="demo", patience=20) as client:
        done = client.put("DEMO-1", big, on_progress=stop_once)
    thread.join()
    assert content_of(revived[0], done.file.id) == big.read_bytes()
    revived[0].stop()


def test_a_server_that_is_not_there_is_given_up_soon(big: Path) -> None:
    """An address that is wrong should not take minutes to say so."""
    with Client("127.0.0.1:1", key=KEY, workspace="demo", connect_timeout=0.5) as client:
        began = time.monotonic()
        with pytest.raises(errors.ConnectionFailedError):
            client.put("DEMO-1", big)
        assert time.monotonic() - began < 5


def test_no_thread_is_left_behind(fake: FakeServer, big: Path) -> None:
    """Each stream has a thread that makes its requests; it ends with the stream."""
    before = set(threading.enumerate())
    fake.faults.extend([Fault("cut", MIB), Fault("drain", MIB), Fault("quota", MIB)])
    with (
        Client(fake.address, key=KEY, workspace="demo", patience=10) as client,
        pytest.raises(errors.QuotaExceededError),
    ):
        client.put("DEMO-1", big)
    deadline = time.monotonic() + 5
    while (left := [one for one in set(threading.enumerate()) - before if "ThreadPool" not in one.name]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.05)
    assert left == []

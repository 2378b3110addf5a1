"""Downloads: verified while they are read, taken up where they broke off."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from remora import Client, Progress, errors
from remora.v1 import common_pb2, file_pb2, file_service_pb2
from tests.client.fake_server import FakeServer, Fault

CONTENT = bytes(range(250)) * 40  # Ten pieces.


@pytest.fixture(autouse=True)
def stored(fake: FakeServer) -> str:
    """Put a file on DEMO-1, after an older one of the same name; return the id of the newer."""
    issue = common_pb2.Subject(type="issue", key="DEMO-1")
    fake.store(file_pb2.FileSpec(name="big.iso"), issue, b"older")
    newer, _ = fake.store(file_pb2.FileSpec(name="big.iso"), issue, CONTENT)
    fake.store(file_pb2.FileSpec(name="other"), issue, b"other")
    return newer.id


def reads(fake: FakeServer) -> list[file_service_pb2.ReadFileRequest]:
    """Give each read that was asked for."""
    return [call for call in fake.calls if isinstance(call, file_service_pb2.ReadFileRequest)]


def test_the_newest_of_a_name_is_taken(client: Client, stored: str, tmp_path: Path) -> None:
    """By issue and name."""
    got = client.get("DEMO-1", "big.iso", to=tmp_path / "copy")
    assert (got.file.id, got.bytes_received, got.resumed_at) == (stored, len(CONTENT), 0)
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert list(tmp_path.glob("*.part")) == []


def test_an_id_alone_is_enough(fake: FakeServer, client: Client, stored: str, tmp_path: Path) -> None:
    """Of the file or of its attachment; a folder gives the file its own name."""
    attachment = next(one.id for one in fake.attachments if one.file_id == stored)
    for given in (stored, attachment):
        got = client.get(given, to=tmp_path)
        assert got.path == tmp_path / "big.iso"
        assert got.path.read_bytes() == CONTENT


def test_a_name_does_not_lead_out_of_the_folder(fake: FakeServer, client: Client, tmp_path: Path) -> None:
    """A name is only for showing."""
    issue = common_pb2.Subject(type="issue", key="DEMO-1")
    file, _ = fake.store(file_pb2.FileSpec(name="../..\\evil"), issue, b"x")
    assert client.get(file.id, to=tmp_path).path == tmp_path / "evil"


def test_a_broken_stream_is_taken_up(fake: FakeServer, client: Client, tmp_path: Path) -> None:
    """From where it broke, and only of the same content."""
    fake.read_faults.extend([Fault("cut", 3000), Fault("damage", 2000), Fault("cut", 0)])
    seen: list[Progress] = []
    client.get("DEMO-1", "big.iso", to=tmp_path / "copy", on_progress=seen.append)
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert [read.offset for read in reads(fake)] == [0, 3000, 5000, 5000]
    assert {read.if_content_etag for read in reads(fake)} == {seen and reads(fake)[0].if_content_etag}
    assert [one.done_bytes for one in seen] == list(range(1000, 10001, 1000))


def test_a_piece_that_is_always_damaged_is_given_up(fake: FakeServer, client: Client, tmp_path: Path) -> None:
    """Three times at one place is no accident."""
    fake.read_faults.extend([Fault("damage", 2000), Fault("damage"), Fault("damage"), Fault("damage")])
    with pytest.raises(errors.DownloadCorruptError):
        client.get("DEMO-1", "big.iso", to=tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_another_run_goes_on_with_the_partial_file(fake: FakeServer, client: Client, tmp_path: Path) -> None:
    """What is there is hashed, not read again."""
    (tmp_path / "copy.part").write_bytes(CONTENT[:4000])
    got = client.get("DEMO-1", "big.iso", to=tmp_path / "copy")
    assert (got.resumed_at, got.bytes_received) == (4000, 6000)
    assert [read.offset for read in reads(fake)] == [4000]
    assert (tmp_path / "copy").read_bytes() == CONTENT


def test_a_complete_partial_file_is_only_renamed(fake: FakeServer, client: Client, tmp_path: Path) -> None:
    """A run may be killed between the last byte and the new name."""
    (tmp_path / "copy.part").write_bytes(CONTENT)
    assert client.get("DEMO-1", "big.iso", to=tmp_path / "copy").bytes_received == 0
    assert reads(fake) == []
    assert (tmp_path / "copy").read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"x" * 4000, b"x" * 20_000])
def test_a_partial_file_of_other_content_is_thrown_away(client: Client, tmp_path: Path, left: bytes) -> None:
    """Because it is too long, or because the whole turns out wrong."""
    (tmp_path / "copy.part").write_bytes(left)
    got = client.get("DEMO-1", "big.iso", to=tmp_path / "copy")
    assert got.resumed_at == 0
    assert (tmp_path / "copy").read_bytes() == CONTENT


def test_an_empty_file_can_be_got(fake: FakeServer, client: Client, tmp_path: Path) -> None:
    """It has a SHA-256 like any other."""
    file, _ = fake.store(file_pb2.FileSpec(name="empty"), common_pb2.Subject(type="issue", key="DEMO-1"), b"")
    client.get(file.id, to=tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b""


def test_a_part_is_read(client: Client, stored: str) -> None:
    """By offset, also from the end, and limit."""
    into = io.BytesIO()
    client.get(stored, to=into, offset=10, limit=5)
    assert into.getvalue() == CONTENT[10:15]
    assert b"".join(client.iter_download(stored, offset=-1500)) == CONTENT[-1500:]


def test_pieces_can_be_iterated_and_left(client: Client, stored: str) -> None:
    """Leaving early ends the call."""
    pieces = client.iter_download(stored)
    assert next(pieces) == CONTENT[:1000]
    del pieces
    assert b"".join(client.iter_download(stored)) == CONTENT


def test_content_that_is_not_what_was_announced_is_refused(fake: FakeServer, client: Client, stored: str) -> None:
    """Each piece may be sound and the whole still wrong."""
    file, _ = fake.files[stored]
    fake.files[stored] = (file, b"x" * len(CONTENT))
    with pytest.raises(errors.DownloadCorruptError):
        client.get(stored, to=io.BytesIO())


def test_what_is_not_there_is_not_found(client: Client) -> None:
    """By name here, by id as the service says."""
    with pytest.raises(errors.NotFoundError, match=r"DEMO-1 has no file 'nope'"):
        client.get("DEMO-1", "nope")
    with pytest.raises(errors.NotFoundError) as caught:
        client.get("fil_nope")
    assert (caught.value.reason, caught.value.code) == ("RESOURCE_NOT_FOUND", "NOT_FOUND")

"""What shows a file: verified and resumed like the file itself, waited for while it is made, named after its file."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from remora import Client, Preview, errors
from remora.cli.show import duration, looks
from remora.downloads import Download
from remora.model import Media, file_from_proto
from remora.renditions import name_of
from remora.v1 import common_pb2, file_pb2, file_service_pb2
from tests.client.fake_server import FakeServer, Fault
from tests.running import RunningServer

SMALL = bytes(range(250)) * 24  # Six pieces.
THUMBNAIL = file_service_pb2.RENDITION_THUMBNAIL


def stored(fake: FakeServer, state: file_pb2.PreviewState.ValueType = file_pb2.PREVIEW_STATE_READY) -> str:
    """Put a photo with a thumbnail on DEMO-1; return its id."""
    issue = common_pb2.Subject(type="issue", key="DEMO-1")
    file, _ = fake.store(file_pb2.FileSpec(name="photo.heic"), issue, b"the photo itself")
    file.preview.state = state
    fake.renditions[file.id, THUMBNAIL] = ("image/jpeg", SMALL)
    return file.id


def reads(fake: FakeServer) -> list[file_service_pb2.ReadFileRequest]:
    """Give each read that was asked for."""
    return [call for call in fake.calls if isinstance(call, file_service_pb2.ReadFileRequest)]


def looked(fake: FakeServer) -> int:
    """Count how often the file was looked at."""
    return sum(isinstance(call, file_service_pb2.GetFileRequest) for call in fake.calls)


def test_a_broken_stream_of_a_thumbnail_is_taken_up(fake: FakeServer, client: Client, tmp_path: Path) -> None:
    """From where it broke, and only of the same thumbnail: not that of the file itself."""
    file_id = stored(fake)
    fake.read_faults.extend([Fault("cut", 3000), Fault("damage", 1000)])
    got = client.get(file_id, to=tmp_path, rendition="thumbnail")
    assert got.path == tmp_path / "photo-thumbnail.jpg"
    assert got.path.read_bytes() == SMALL
    assert (got.content.content_type, got.content.size_bytes, got.bytes_received) == ("image/jpeg", 6000, 6000)
    assert (got.file.name, got.file.size_bytes) == ("photo.heic", 16)
    asked, *streams = reads(fake)
    assert (asked.limit, asked.if_content_etag) == (1, "")
    assert [one.offset for one in streams] == [0, 3000, 4000]
    assert {one.if_content_etag for one in streams} == {got.content.etag}
    assert {one.rendition for one in reads(fake)} == {THUMBNAIL}


def test_a_partial_thumbnail_is_taken_up(fake: FakeServer, client: Client, tmp_path: Path) -> None:
    """What an earlier run left is hashed, not read again; something else that lies there is thrown away."""
    file_id = stored(fake)
    partial = tmp_path / "photo-thumbnail.jpg.part"
    for left, resumed_at in ((SMALL[:4000], 4000), (b"something else", 0)):
        partial.write_bytes(left)
        got = client.get(file_id, to=tmp_path, rendition="thumbnail")
        assert got.resumed_at == resumed_at
        assert (tmp_path / "photo-thumbnail.jpg").read_bytes() == SMALL


def test_a_thumbnail_that_is_not_what_was_announced(fake: FakeServer, client: Client) -> None:
    """One that was made anew meanwhile is not mixed with the old one; the whole is compared with its own digest."""
    file_id = stored(fake)
    pieces = client.iter_download(file_id, rendition="thumbnail")
    fake.renditions[file_id, THUMBNAIL] = ("image/jpeg", SMALL[:-1] + b"?")
    with pytest.raises(errors.EtagMismatchError):
        list(pieces)
    announced = client.get(file_id, to=io.BytesIO(), rendition="thumbnail").content
    wrong = replace(announced, sha256=hashlib.sha256(SMALL).hexdigest())
    with pytest.raises(errors.DownloadCorruptError):
        list(Download(client._connection, wrong, client._patience()))


def test_a_pending_preview_is_waited_for(fake: FakeServer, client: Client) -> None:
    """Looks at the file now and then, no longer than was said; without a wait once, at once."""
    file_id = stored(fake, file_pb2.PREVIEW_STATE_PENDING)
    for seconds in (0.0, 0.3):
        with pytest.raises(errors.PreviewUnavailableError) as refusal:
            client.get(file_id, to=io.BytesIO(), rendition="thumbnail", wait_seconds=seconds)
        assert refusal.value.is_pending
    assert looked(fake) > 2
    fake.ready_after = 3
    into = io.BytesIO()
    client.get(file_id, to=into, rendition="thumbnail", wait_seconds=60)
    assert into.getvalue() == SMALL


@pytest.mark.parametrize("state", [file_pb2.PREVIEW_STATE_FAILED, file_pb2.PREVIEW_STATE_NONE])
def test_nobody_waits_for_what_will_not_come(
    fake: FakeServer, client: Client, state: file_pb2.PreviewState.ValueType
) -> None:
    """What failed, or is made for no such content, is refused at once."""
    file_id = stored(fake, state)
    fake.renditions.clear()
    with pytest.raises(errors.PreviewUnavailableError) as refusal:
        client.get(file_id, to=io.BytesIO(), rendition="preview", wait_seconds=60)
    assert not refusal.value.is_pending
    assert looked(fake) == 1


def test_a_rendition_that_does_not_exist(fake: FakeServer, client: Client) -> None:
    """A misspelt one is said so before anything is read."""
    file_id = stored(fake)
    with pytest.raises(ValueError, match="original, preview, thumbnail"):
        client.get(file_id, rendition="tumbnail")  # type: ignore[arg-type]
    assert reads(fake) == []


def test_names() -> None:
    """Stem, form and the ending of what it is; of an unknown type that of the original."""
    assert name_of("a.tar.gz", "preview", "text/plain; charset=utf-8") == "a.tar-preview.txt"
    assert name_of("../x/photo.HEIC", "thumbnail", "image/png") == "photo-thumbnail.png"
    assert name_of(".bashrc", "preview", "text/plain") == ".bashrc-preview.txt"
    assert name_of("a.bin", "preview", "image/jxl") == "a-preview.bin"


def test_how_a_file_looks() -> None:
    """Only what is known is said, in a few words."""
    film = file_pb2.File(media=file_pb2.FileMedia(width=640, height=480, duration_ms=3_723_000))
    film.preview.state = file_pb2.PREVIEW_STATE_PENDING
    assert looks(file_from_proto(film)) == "640 x 480, 1:02:03, preview pending"
    paper = file_pb2.File(media=file_pb2.FileMedia(page_count=1, alt_text="x"))
    paper.preview.CopyFrom(file_pb2.FilePreview(state=file_pb2.PREVIEW_STATE_FAILED, reason="it is locked"))
    assert looks(file_from_proto(paper)) == "1 page, no preview: it is locked"
    code = file_pb2.File(media=file_pb2.FileMedia(code_language="go"))
    code.preview.CopyFrom(
        file_pb2.FilePreview(
            available=True, kind=file_pb2.PREVIEW_KIND_TEXT, state=file_pb2.PREVIEW_STATE_READY, reason=""
        )
    )
    assert looks(file_from_proto(code)) == "go, preview"
    assert file_from_proto(code).preview == Preview(available=True, kind="text", state="ready")
    assert looks(file_from_proto(file_pb2.File())) == ""
    assert file_from_proto(file_pb2.File()).media == Media()
    assert [duration(ms) for ms in (40, 400, 59_600, 83_000)] == ["0.04 s", "0.4 s", "1:00", "1:23"]


def test_a_real_server(server: RunningServer, tmp_path: Path, new_issue: str) -> None:
    """A picture that was just uploaded shows up in both forms, and a text as its beginning."""
    picture = io.BytesIO()
    Image.effect_noise((1200, 900), 64).save(picture, "PNG")
    picture.seek(0)
    with Client(server.address, key=str(server.ready["key"]), workspace="demo") as client:
        file_id = client.put(new_issue, picture, name="noise.png").file.id
        for form, longest in (("preview", 1200), ("thumbnail", 512)):
            got = client.get(file_id, to=tmp_path, rendition=form, wait_seconds=60)  # type: ignore[arg-type]
            assert got.path == tmp_path / f"noise-{form}.jpg"
            with Image.open(got.path) as shown:
                assert (shown.format, shown.width) == ("JPEG", longest)
        file = client.find_file(file_id)
        assert (file.media.width, file.media.height, file.detected_content_type) == (1200, 900, "image/png")
        assert (file.preview.available, file.preview.kind, file.preview.state) == (True, "image", "ready")
        text_id = client.put(new_issue, io.BytesIO("x = 'ü'\n".encode()), name="a.py").file.id
        assert b"".join(client.iter_download(text_id, rendition="preview")).decode() == "x = 'ü'\n"
        with pytest.raises(errors.PreviewUnavailableError, match="read the original"):
            client.get(text_id, rendition="thumbnail", wait_seconds=60)

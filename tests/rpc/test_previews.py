"""What files are and how they look: real files of every kind, made by real encoders, through a real server."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import grpc
import httpx
import pillow_heif
import pytest
from PIL import Image, ImageDraw

from remora.v1 import file_pb2
from remora.v1 import file_service_pb2 as pb
from tests.media.making import encoded, film, half_and_half, pages, sound
from tests.previewing import (
    FAILED,
    NONE,
    PENDING,
    PREVIEW,
    READY,
    THUMBNAIL,
    keep,
    now,
    picture,
    rendition,
    settled,
    types_of,
)
from tests.running import Api, RunningServer, issue, refused
from tests.ticketing import TRANSPORTS, http_ticket, make_file, send
from tests.uploading import by_append, by_stream, read, upload

IMAGE, PDF = file_pb2.PREVIEW_KIND_IMAGE, file_pb2.PREVIEW_KIND_PDF
TEXT, VIDEO = file_pb2.PREVIEW_KIND_TEXT, file_pb2.PREVIEW_KIND_VIDEO
NOT_FOUND = grpc.StatusCode.NOT_FOUND
WIDE = (1200, 800)


def heif(image: Image.Image) -> bytes:
    """Return a HEIC file."""
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file)
    return file.getvalue()


def unique(name: str) -> Image.Image:
    """Return an image that no other test uploads."""
    image = half_and_half(*WIDE)
    ImageDraw.Draw(image).text((10, 10), name, fill="white")
    return image


IMAGES: Mapping[str, Callable[[Image.Image], bytes]] = {
    "image/jpeg": lambda image: encoded(image, "JPEG"),
    "image/png": lambda image: encoded(image, "PNG"),
    "image/gif": lambda image: encoded(image, "GIF"),
    "image/webp": lambda image: encoded(image, "WEBP"),
    "image/avif": lambda image: encoded(image, "AVIF"),
    "image/heic": heif,
    "image/tiff": lambda image: encoded(image, "TIFF", compression="tiff_lzw"),
    "image/bmp": lambda image: encoded(image, "BMP"),
}


@pytest.mark.parametrize("content_type", IMAGES)
def test_images(api: Api, content_type: str) -> None:
    """An image of any kind: its type and size are in the answer to the upload, its pictures follow and are told of."""
    data = IMAGES[content_type](unique(content_type))
    file = keep(api, data, "shot")
    assert (file.content_type, file.detected_content_type) == (content_type, content_type)
    assert file.type == file_pb2.FILE_TYPE_IMAGE
    assert (file.media.width, file.media.height) == WIDE
    assert (file.preview.state, file.preview.kind) == (PENDING, IMAGE)
    file = settled(api, file.id)
    assert (file.preview.state, file.preview.available, file.preview.reason) == (READY, True, "")
    assert (file.media.width, file.media.height) == WIDE
    assert len(file.media.blur_hash) > 6
    for wanted, size in ((PREVIEW, WIDE), (THUMBNAIL, (512, 341))):
        header, bytes_ = rendition(api, file.id, wanted)
        assert header.file.id == file.id
        image = picture(bytes_)
        assert image.size == size
        assert header.content_type == f"image/{str(image.format).lower()}"
        left, right = (image.convert("RGB").getpixel((x, size[1] // 2)) for x in (size[0] // 4, 3 * size[0] // 4))
        assert isinstance(left, tuple)
        assert isinstance(right, tuple)
        assert left[0] > left[2]
        assert right[2] > right[0]
    assert types_of(api, file.id) == ["file.created.v1", "file.previewed.v1"]
    assert read(api, file.id) == data


def test_what_others_drew(api: Api) -> None:
    """Pictures that come with the libraries of this installation are shown as large as they are."""
    found = [path for folder in sys.path if folder.endswith("site-packages") for path in Path(folder).rglob("*.png")]
    assert len(found) >= 3
    for path in found[:12]:
        data = path.read_bytes()
        file = settled(api, keep(api, data, path.name).id)
        size = Image.open(io.BytesIO(data)).size
        assert (file.preview.state, (file.media.width, file.media.height)) == (READY, size), path
        assert picture(rendition(api, file.id, PREVIEW)[1]).size == size


def test_a_photo(api: Api) -> None:
    """A photo that was taken upright has width and height as one sees it, and its place is nobody's business."""
    image = unique("upright")
    exif = Image.Exif()
    exif[0x0112] = 6  # Turned by a quarter.
    exif.get_ifd(0x8825)[2] = (Fraction(52), Fraction(31), Fraction(0))  # Its latitude.
    data = encoded(image, "JPEG", exif=exif)
    assert 0x8825 in Image.open(io.BytesIO(data)).getexif()
    file = keep(api, data, "photo.jpg")
    assert (file.media.width, file.media.height) == (800, 1200)
    settled(api, file.id)
    assert picture(rendition(api, file.id, PREVIEW)[1]).size == (800, 1200)
    assert picture(rendition(api, file.id, THUMBNAIL)[1]).size == (341, 512)


def test_what_can_be_seen_through(api: Api) -> None:
    """Transparency stays."""
    image = Image.new("RGBA", (300, 200), (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse((50, 50, 150, 150), fill=(0, 200, 0, 255))
    file = settled(api, keep(api, encoded(image, "PNG"), "logo.png").id)
    header, data = rendition(api, file.id, PREVIEW)
    assert header.content_type == "image/png"
    shown = picture(data).convert("RGBA")
    assert [shown.getpixel(at) for at in ((1, 1), (100, 100))] == [(0, 0, 0, 0), (0, 200, 0, 255)]


def test_a_pdf(api: Api) -> None:
    """Its first page is shown, its pages are counted."""
    data = pages(["0 0 300 400", "0 0 100 100"], "1 0 0 rg 50 50 200 300 re f")
    file = settled(api, keep(api, data, "report.pdf").id)
    assert (file.detected_content_type, file.type) == ("application/pdf", file_pb2.FILE_TYPE_DOCUMENT)
    assert (file.preview.state, file.preview.kind, file.media.page_count) == (READY, PDF, 2)
    image = picture(rendition(api, file.id, PREVIEW)[1]).convert("RGB")
    assert abs(image.width / image.height - 3 / 4) < 0.01
    middle = image.getpixel((image.width // 2, image.height // 2))
    assert isinstance(middle, tuple)
    assert middle[0] > 200 > middle[1]


@pytest.mark.parametrize(
    ("content_type", "container", "codec"),
    [("video/mp4", "mp4", "h264"), ("video/webm", "webm", "vp9"), ("video/quicktime", "mov", "mpeg4")],
)
def test_films(api: Api, content_type: str, container: str, codec: str) -> None:
    """One frame is shown; width, height and duration are known."""
    data = film(container, codec, [half_and_half(320, 240)] * 20)
    file = settled(api, keep(api, data, "clip").id)
    assert (file.detected_content_type, file.type) == (content_type, file_pb2.FILE_TYPE_VIDEO)
    assert (file.preview.state, file.preview.kind) == (READY, VIDEO)
    assert (file.media.width, file.media.height) == (320, 240)
    assert 1800 <= file.media.duration_ms <= 2200
    assert picture(rendition(api, file.id, THUMBNAIL)[1]).size == (320, 240)


def test_sound(api: Api) -> None:
    """It has a duration, and nothing to look at."""
    file = settled(api, keep(api, sound("flac", "flac"), "note.flac").id)
    assert (file.detected_content_type, file.type) == ("audio/flac", file_pb2.FILE_TYPE_AUDIO)
    assert (file.preview.state, file.media.duration_ms) == (NONE, 2000)
    with refused(NOT_FOUND, "PREVIEW_UNAVAILABLE"):
        rendition(api, file.id, THUMBNAIL)


def test_code(api: Api) -> None:
    """A text shows itself, at once, whatever it might do in a browser."""
    source = b"<script>alert(1)</script>\n" * 4000
    file = keep(api, b"def f():\n    pass\n", "tool.py")
    assert (file.type, file.media.code_language) == (file_pb2.FILE_TYPE_CODE, "python")
    assert (file.preview.state, file.preview.kind) == (READY, TEXT)
    page = keep(api, source, "page.html")
    assert page.detected_content_type == "text/html"
    header, data = rendition(api, page.id, PREVIEW)
    assert (header.content_type, data) == ("text/plain; charset=utf-8", source[: 64 * 1024])
    utf16 = keep(api, "grüße".encode("utf-16"), "hello.txt")
    assert rendition(api, utf16.id, PREVIEW)[1] == "grüße".encode()


def test_drawings_are_not_drawn(api: Api) -> None:
    """An SVG could run: it has no preview, and is saved, not shown (P36)."""
    drawing = b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    for name, content_type in (("a.svg", ""), ("a.png", "image/png")):
        file = keep(api, drawing, name, content_type=content_type)
        assert (file.content_type, file.preview.state) == ("image/svg+xml", NONE)
        with refused(NOT_FOUND, "PREVIEW_UNAVAILABLE"):
            rendition(api, file.id, PREVIEW)
        wanted = pb.GetFileDownloadUrlRequest(file_id=file.id, disposition=pb.DISPOSITION_INLINE)
        reply = httpx.get(api.files.GetFileDownloadUrl(wanted).url)
        assert reply.headers["content-disposition"].startswith("attachment")


def test_a_false_type_is_corrected(api: Api) -> None:
    """P36: what is declared to be a PNG and is a JPEG is called one."""
    file = keep(api, encoded(unique("false"), "JPEG"), "shot.png", content_type="image/png")
    assert file.content_type == "image/jpeg"
    again = keep(api, encoded(unique("false"), "JPEG"), "shot.png", content_type="image/png")
    assert again.id == file.id


def test_every_way_in(api: Api) -> None:
    """Whichever way a picture comes, its file has width and height from the first."""
    for way in (by_stream, by_append):
        data = encoded(unique(way.__name__), "PNG")
        file = way(api, data, file_pb2.FileSpec(name="shot.png"))
        assert (file.detected_content_type, file.media.width, file.media.height) == ("image/png", *WIDE)
        assert settled(api, file.id).preview.state == READY
    for name, transport in TRANSPORTS.items():
        data = encoded(unique(name), "PNG")
        ticket = http_ticket(api, transport, file_pb2.FileSpec(name="shot.png", size_bytes=len(data)))
        assert send(ticket.http, data).ok
        made = make_file(api, ticket.id)
        assert (made.media.width, made.media.height) == WIDE
        assert settled(api, made.id).preview.state == READY


def test_urls_of_renditions(api: Api) -> None:
    """A URL of a rendition needs no key, may be shown in a browser, and answers to ranges."""
    file = settled(api, keep(api, encoded(unique("urls"), "PNG"), "shot.png").id)
    for wanted in (PREVIEW, THUMBNAIL):
        _, data = rendition(api, file.id, wanted)
        request = pb.GetFileDownloadUrlRequest(file_id=file.id, rendition=wanted, disposition=pb.DISPOSITION_INLINE)
        url = api.files.GetFileDownloadUrl(request).url
        reply = httpx.get(url)
        assert (reply.status_code, reply.content) == (200, data)
        assert reply.headers["content-type"] in {"image/jpeg", "image/png"}
        assert reply.headers["content-disposition"].startswith("inline;")
        assert "shot-" in reply.headers["content-disposition"]
        part = httpx.get(url, headers={"Range": "bytes=2-5"})
        assert (part.status_code, part.content) == (206, data[2:6])


def test_ranges_and_etags_of_renditions(api: Api) -> None:
    """A rendition is read in parts like any content, and has an etag of its own."""
    file = settled(api, keep(api, encoded(unique("ranges"), "PNG"), "shot.png").id)
    header, data = rendition(api, file.id, PREVIEW)
    assert header.content_etag != file.content_etag
    request = pb.ReadFileRequest(file_id=file.id, rendition=PREVIEW, offset=-10, if_content_etag=header.content_etag)
    assert b"".join(one.chunk.data.content for one in list(api.files.ReadFile(request))[1:]) == data[-10:]
    request.if_content_etag = file.content_etag
    with refused(grpc.StatusCode.ABORTED, "ETAG_MISMATCH"):
        list(api.files.ReadFile(request))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED"):
        list(api.files.ReadFile(pb.ReadFileRequest(file_id=file.id, rendition=99)))  # type: ignore[arg-type]


def test_who_may_see_a_rendition(server: RunningServer, api: Api, new_issue: str) -> None:
    """Whoever may not read a file may not see it either; who may, may both."""
    other = server.api(server.new_key("previewer"))
    data = encoded(unique("whose"), "PNG")
    file = settled(api, keep(api, data, "shot.png").id)
    with refused(NOT_FOUND, "RESOURCE_NOT_FOUND"):
        rendition(other, file.id, THUMBNAIL)
    wanted = pb.GetFileDownloadUrlRequest(file_id=file.id, rendition=THUMBNAIL)
    with refused(NOT_FOUND, "RESOURCE_NOT_FOUND"):
        other.files.GetFileDownloadUrl(wanted)
    keep(api, data, "shot.png", new_issue)
    assert rendition(other, file.id, THUMBNAIL)[1]


def test_the_same_content_again(api: Api, server: RunningServer) -> None:
    """A second file on the same content, anybody's, has everything at once; it is decoded once."""
    data = encoded(unique("again"), "PNG")
    first = settled(api, keep(api, data, "one.png").id)
    second = keep(server.api(server.new_key("another")), data, "two.png")
    assert second.id != first.id
    assert (second.preview, second.media) == (first.preview, first.media)


def test_what_the_owner_says(api: Api) -> None:
    """What was measured stands; the rest is the owner's, and neither moves the etag that they hold."""
    data = encoded(unique("said"), "PNG")
    spec = file_pb2.FileSpec(name="said.png", media=file_pb2.FileMedia(width=1, height=2, alt_text="halves"))
    file = upload(api, data, spec=spec).file
    assert (file.media.width, file.media.height, file.media.alt_text) == (*WIDE, "halves")
    settled(api, file.id)
    change = file_pb2.File(id=file.id, etag=file.etag, media=file_pb2.FileMedia(width=7, alt_text="two halves"))
    updated = api.files.UpdateFile(pb.UpdateFileRequest(file=change)).file
    assert (updated.media.width, updated.media.alt_text) == (1200, "two halves")
    assert updated.media.blur_hash


def test_what_is_broken(api: Api) -> None:
    """A file that can't be decoded is kept, served, and says why it has no preview."""
    data = encoded(unique("broken"), "PNG")[:-5000]
    file = keep(api, data, "broken.png")
    found = settled(api, file.id)
    assert (found.preview.state, found.preview.available) == (FAILED, False)
    assert found.preview.reason
    assert (found.media.width, found.media.height) == WIDE
    assert read(api, file.id) == data
    with refused(NOT_FOUND, "PREVIEW_UNAVAILABLE") as seen:
        rendition(api, file.id, PREVIEW)
    assert found.preview.reason in seen[0].message
    assert types_of(api, file.id) == ["file.created.v1", "file.inspected.v1"]


def test_attachments_show_previews(api: Api, new_issue: str) -> None:
    """What a tracker lists has what it needs to show."""
    file = keep(api, encoded(unique("listed"), "PNG"), "shot.png", new_issue)
    settled(api, file.id)
    wanted = pb.ListFilesRequest(workspace_id="demo", subject=issue(new_issue))
    (listed,) = api.files.ListFiles(wanted).files
    assert listed.preview.state == READY
    assert listed == now(api, file.id)

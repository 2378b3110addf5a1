"""Previews of a real server, waited for and read."""

from __future__ import annotations

import io
import time

from PIL import Image

from remora.v1 import activity_service_pb2, file_pb2
from remora.v1 import file_service_pb2 as pb
from tests.running import Api, issue

PREVIEW, THUMBNAIL = pb.RENDITION_PREVIEW, pb.RENDITION_THUMBNAIL
NONE, PENDING = file_pb2.PREVIEW_STATE_NONE, file_pb2.PREVIEW_STATE_PENDING
READY, FAILED = file_pb2.PREVIEW_STATE_READY, file_pb2.PREVIEW_STATE_FAILED
WAIT_SECONDS = 60.0


def keep(api: Api, data: bytes, name: str, attach_to: str = "", content_type: str = "") -> file_pb2.File:
    """Upload a file in one call."""
    request = pb.UploadFileRequest(
        workspace_id="demo", spec=file_pb2.FileSpec(name=name, content_type=content_type), data=data
    )
    if attach_to:
        request.attach_to.CopyFrom(issue(attach_to))
    return api.files.UploadFile(request).file


def now(api: Api, file_id: str) -> file_pb2.File:
    """Return a file as it is now."""
    return api.files.GetFile(pb.GetFileRequest(file_id=file_id)).file


def settled(api: Api, file_id: str, seconds: float = WAIT_SECONDS) -> file_pb2.File:
    """Wait until the preview of a file is made, or can't be."""
    until = time.monotonic() + seconds
    while (file := now(api, file_id)).preview.state == PENDING:
        assert time.monotonic() < until, "its preview is still pending"
        time.sleep(0.05)
    return file


def rendition(api: Api, file_id: str, wanted: pb.Rendition.ValueType) -> tuple[pb.ReadFileResponse.Header, bytes]:
    """Read a rendition as a whole; return what was said of it, and its bytes."""
    answers = api.files.ReadFile(pb.ReadFileRequest(file_id=file_id, rendition=wanted))
    header = next(answers).header
    data = b"".join(one.chunk.data.content for one in answers)
    assert header.total_size == header.length == len(data)
    return header, data


def picture(data: bytes) -> Image.Image:
    """Decode a rendition, which is a whole JPEG or PNG without a word about where it was taken."""
    image = Image.open(io.BytesIO(data))
    assert image.format in {"JPEG", "PNG"}
    image.load()
    assert not image.getexif()
    assert not {"exif", "icc_profile", "xmp", "comment"} & image.info.keys()
    return image


def types_of(api: Api, file_id: str) -> list[str]:
    """Return what the log tells of a file, oldest first."""
    request = activity_service_pb2.ListActivitiesRequest(workspace_id="demo", page_size=1000)
    found = api.activity.ListActivities(request).activities
    return [one.type for one in reversed(found) if one.resource_id == file_id]

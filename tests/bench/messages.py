"""The requests that the unary benchmarks send: the n-th differs from the one before, so that each has work to do."""

from __future__ import annotations

import os

from remora.v1 import attachment_pb2, attachment_service_pb2, common_pb2, file_pb2, file_service_pb2

_RANDOM = os.urandom(64 * 1024)


def upsert_message(number: int, key: str = "BENCH-3") -> bytes:
    """Return an upsert of one of fifty URLs, with a new title."""
    attachment = attachment_pb2.Attachment(
        workspace_id="demo",
        subject=common_pb2.Subject(type="issue", key=key),
        url=f"https://ci.example.com/builds/{number % 50}",
        title=f"Build {number:08d}",
        subtitle="passed",
    )
    attachment.metadata["commit"].string_value = "3f1c9a7e"
    attachment.metadata["duration"].int_value = 125
    return attachment_service_pb2.UpsertAttachmentRequest(attachment=attachment).SerializeToString()


def upload_message(size_bytes: int, number: int) -> bytes:
    """Return a unary upload of content that was never there."""
    data = os.urandom(16) + _RANDOM[: size_bytes - 16]
    spec = file_pb2.FileSpec(name=f"log-{number}.txt", size_bytes=size_bytes)
    return file_service_pb2.UploadFileRequest(workspace_id="demo", spec=spec, data=data).SerializeToString()

"""The forms of a file: the original, and what shows it; what each consists of, and waiting for one being made."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import grpc

from remora import errors
from remora.connection import Connection
from remora.model import PENDING, File, file_from_proto
from remora.patience import Patience
from remora.silence import Silence
from remora.v1 import file_service_pb2

Rendition = Literal["original", "preview", "thumbnail"]

SHORTEST_SECONDS = 0.1
LONGEST_SECONDS = 2.0
# By content type; what a newer server may send besides keeps the ending of the original's name.
ENDINGS = {"image/jpeg": ".jpg", "image/png": ".png", "text/plain": ".txt"}
ON_THE_WIRE: dict[Rendition, file_service_pb2.Rendition.ValueType] = {
    "original": file_service_pb2.RENDITION_ORIGINAL,
    "preview": file_service_pb2.RENDITION_PREVIEW,
    "thumbnail": file_service_pb2.RENDITION_THUMBNAIL,
}


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of one form of a file, before they are read: what they must turn out to be."""

    file_id: str
    rendition: Rendition
    name: str
    content_type: str
    size_bytes: int
    sha256: str
    etag: str


def original(file: File) -> Content:
    """Give what the file itself consists of."""
    return Content(
        file_id=file.id,
        rendition="original",
        name=file.name,
        content_type=file.content_type,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        etag=file.content_etag,
    )


def find(
    connection: Connection, file: File, rendition: Rendition, patience: Patience, wait_seconds: float = 0.0
) -> Content:
    """Ask what a form of a file consists of; one that is being made is waited for, if it takes no longer than that.

    Raise PreviewUnavailableError if there is none, or none yet.
    """
    if rendition not in ON_THE_WIRE:
        raise ValueError(f"no rendition {rendition!r}: there are {', '.join(ON_THE_WIRE)}")
    if rendition == "original":
        return original(file)
    file = _wait(connection, file, wait_seconds)
    while True:
        try:
            return _described(connection, file, rendition)
        except errors.PreviewUnavailableError as error:
            error.is_pending = file.preview.state == PENDING
            raise
        except errors.RemoraError as error:
            patience.pause(error)


def name_of(name: str, rendition: Rendition, content_type: str) -> str:
    """Name a form after its file: `photo-thumbnail.jpg`."""
    path = PurePosixPath(name)
    return f"{path.stem}-{rendition}{ENDINGS.get(content_type.partition(';')[0], path.suffix)}"


def possible_names(name: str, rendition: Rendition) -> list[str]:
    """Give the names that a form may get, before its content type is known."""
    return [name_of(name, rendition, content_type) for content_type in ENDINGS]


def _wait(connection: Connection, file: File, seconds: float) -> File:
    """Look at a file until its preview is there or will not come, or time is up; return what was seen last."""
    until = time.monotonic() + seconds
    pause = SHORTEST_SECONDS
    while file.preview.state == PENDING and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, pause * random.uniform(0.5, 1.0)))  # noqa: S311 - Spreads callers; hides nothing.
        pause = min(2 * pause, LONGEST_SECONDS)
        asked = file_service_pb2.GetFileRequest(file_id=file.id)
        file = file_from_proto(connection.call(connection.files.GetFile, asked).file)
    return file


def _described(connection: Connection, file: File, rendition: Rendition) -> Content:
    """Take what a stream says before its bytes, and only that."""
    request = file_service_pb2.ReadFileRequest(file_id=file.id, rendition=ON_THE_WIRE[rendition], limit=1)
    call = connection.files.ReadFile(request, wait_for_ready=False)
    try:
        with Silence(call):
            for response in call:
                if response.WhichOneof("message") == "header":
                    connection.heard = True
                    return _content(file, rendition, response.header)
    except grpc.RpcError as error:
        raise connection.failure(error) from None
    raise errors.ConnectionFailedError("the stream ended early.", code="UNAVAILABLE")


def _content(file: File, rendition: Rendition, header: file_service_pb2.ReadFileResponse.Header) -> Content:
    return Content(
        file_id=file.id,
        rendition=rendition,
        name=name_of(file.name, rendition, header.content_type),
        content_type=header.content_type,
        size_bytes=header.total_size,
        sha256=header.checksums.sha256.hex(),
        etag=header.content_etag,
    )

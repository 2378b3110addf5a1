"""Downloads: streams that go on where the one before broke off, verified while they are read."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import google_crc32c
import grpc

from remora import errors
from remora.connection import Connection
from remora.model import File
from remora.patience import Patience
from remora.progress import OnProgress, Progress
from remora.renditions import ON_THE_WIRE, Content
from remora.silence import Silence
from remora.v1 import file_service_pb2

READ_BYTES = 1 << 20
TRIES_AT_ONE_OFFSET = 3


@dataclass(frozen=True, slots=True)
class Got:
    """What came of a download. `bytes_received` is what this run received, `resumed_at` where that began.

    `content` is what was read: the file's own, or that of another rendition of it.
    """

    file: File
    content: Content
    path: Path | None
    bytes_received: int
    resumed_at: int


class Download:
    """The content of a file in some form, or a part of it, as an iterable of its pieces.

    Every piece was compared with its crc32c. If it is the whole content, or the rest of it after `before`, the last
    piece is followed by DownloadCorruptError unless the whole has its SHA-256.
    """

    def __init__(
        self,
        connection: Connection,
        content: Content,
        patience: Patience,
        *,
        offset: int = 0,
        limit: int = 0,
        before: hashlib._Hash | None = None,
    ) -> None:
        self._connection = connection
        self._content = content
        self._patience = patience
        self._offset = max(content.size_bytes + offset, 0) if offset < 0 else offset
        self._end = min(self._offset + limit, content.size_bytes) if limit else content.size_bytes
        whole = self._end == content.size_bytes and (self._offset == 0 or before is not None)
        self._sha256 = (before or hashlib.sha256()) if whole else None
        self._damaged_at: tuple[int, int] = (-1, 0)  # An offset, and how often a chunk was damaged there.

    def __iter__(self) -> Generator[bytes]:
        # An offset behind the end must be refused by the service; an empty part needs no question.
        while self._offset != self._end or self._content.size_bytes == 0:
            try:
                yield from self._stream()
            except errors.DownloadCorruptError as error:
                last, count = self._damaged_at
                self._damaged_at = (self._offset, count + 1 if self._offset == last else 1)
                if self._damaged_at[1] >= TRIES_AT_ONE_OFFSET:
                    raise
                self._patience.pause(errors.ConnectionFailedError(error.message, code="UNAVAILABLE"))
            except errors.RemoraError as error:
                self._patience.pause(error)
            else:
                if self._offset == self._end:
                    break
                self._patience.pause(errors.ConnectionFailedError("the stream ended early.", code="UNAVAILABLE"))
        if self._sha256 is not None and self._sha256.hexdigest() != self._content.sha256:
            raise errors.DownloadCorruptError("what arrived does not have the SHA-256 of the file; read it again.")

    def _stream(self) -> Iterator[bytes]:
        request = file_service_pb2.ReadFileRequest(
            file_id=self._content.file_id,
            rendition=ON_THE_WIRE[self._content.rendition],
            offset=self._offset,
            limit=self._end - self._offset if self._end != self._content.size_bytes else 0,
            if_content_etag=self._content.etag,
        )
        call = self._connection.files.ReadFile(request, wait_for_ready=False)
        try:
            with Silence(call) as silence:
                for response in call:
                    silence.heard()
                    self._patience.heard()
                    self._connection.heard = True
                    if response.WhichOneof("message") == "chunk" and response.chunk.data.content:
                        yield self._piece(response.chunk)
        except grpc.RpcError as error:
            raise self._connection.failure(error) from None

    def _piece(self, chunk: file_service_pb2.ReadFileResponse.Chunk) -> bytes:
        content = chunk.data.content
        damaged = chunk.data.HasField("crc32c") and google_crc32c.value(content) != chunk.data.crc32c
        if damaged or chunk.offset != self._offset:
            raise errors.DownloadCorruptError("a piece was damaged on the way.")
        self._offset += len(content)
        if self._sha256 is not None:
            self._sha256.update(content)
        self._patience.progressed()
        return content


def save(
    connection: Connection,
    file: File,
    content: Content,
    path: Path,
    patience: Patience,
    on_progress: OnProgress | None,
) -> Got:
    """Read a form of a file into `path`, by way of `path`.part; what an earlier run left there is not read again."""
    partial = path.with_name(path.name + ".part")
    received = 0
    with partial.open("a+b") as into:
        resumed_at, before = _take_up(into, content, on_progress)
        while True:
            try:
                download = Download(connection, content, patience, offset=resumed_at, before=before)
                received += _copy(download, into, content, resumed_at, on_progress)
                break
            except errors.DownloadCorruptError:
                into.truncate(0)
                if resumed_at == 0:
                    raise
                # What lay there belonged to other content.
                resumed_at, before = 0, hashlib.sha256()
    partial.replace(path)
    return Got(file, content, path, received, resumed_at)


def copy(
    connection: Connection,
    file: File,
    content: Content,
    into: IO[bytes],
    patience: Patience,
    on_progress: OnProgress | None,
    *,
    offset: int = 0,
    limit: int = 0,
) -> Got:
    """Read a form of a file, or a part of it, into something that is open for writing."""
    download = Download(connection, content, patience, offset=offset, limit=limit)
    return Got(file, content, None, _copy(download, into, content, offset, on_progress), 0)


def _take_up(into: IO[bytes], content: Content, on_progress: OnProgress | None) -> tuple[int, hashlib._Hash]:
    """Hash what is there already; throw it away if it can't be the beginning of the content."""
    sha256 = hashlib.sha256()
    size = into.seek(0, os.SEEK_END)
    if size > content.size_bytes:
        into.truncate(0)
        return 0, sha256
    into.seek(0)
    offset = 0
    while data := into.read(READ_BYTES):
        sha256.update(data)
        offset += len(data)
        if on_progress is not None:
            on_progress(Progress(content.name, "hashing", offset, size))
    return offset, sha256


def _copy(
    download: Download, into: IO[bytes], content: Content, resumed_at: int, on_progress: OnProgress | None
) -> int:
    """Write the pieces as they come; return how many bytes came."""
    received = 0
    with contextlib.closing(iter(download)) as pieces:
        for piece in pieces:
            into.write(piece)
            received += len(piece)
            if on_progress is not None:
                on_progress(Progress(content.name, "receiving", resumed_at + received, content.size_bytes, resumed_at))
    return received

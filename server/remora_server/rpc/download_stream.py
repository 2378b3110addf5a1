"""One ReadFile stream: reads ahead by one chunk, checks every chunk's CRC32C, and proves a file that is read whole."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Executor
from dataclasses import dataclass

import google_crc32c
import grpc

from remora.v1 import common_pb2
from remora.v1 import file_service_pb2 as pb
from remora_server.core import errors
from remora_server.core.etags import content_etag_of
from remora_server.core.model import File
from remora_server.core.ports import BlobReader
from remora_server.rpc import convert

CHUNK_BYTES = 1024 * 1024
Context = grpc.aio.ServicerContext[pb.ReadFileRequest, pb.ReadFileResponse]


@dataclass(frozen=True, slots=True)
class Range:
    """Which bytes of a file to send."""

    offset: int
    length: int


def range_of(file: File, offset: int, limit: int) -> Range:
    """Return the range that a request names: a negative offset counts from the end, limit 0 reaches to it."""
    if limit < 0:
        raise errors.invalid("limit", "must not be negative; 0 reads to the end")
    size = file.size_bytes
    start = offset if offset >= 0 else max(0, size + offset)
    if start > size:
        raise errors.ReadOffsetTooLargeError(size)
    return Range(start, min(limit, size - start) if limit else size - start)


class DownloadStream:
    """Sends a range of a file's bytes."""

    def __init__(self, file: File, source: BlobReader | bytes, wanted: Range, readers: Executor) -> None:
        self._file = file
        self._source = source
        self._wanted = wanted
        self._readers = readers
        self._crc32c = 0
        self._reading = threading.Lock()
        self._is_closed = False
        self._is_whole = wanted.length == file.size_bytes

    async def serve(self, context: Context) -> None:
        """Send the header and the chunks; raise StoredContentCorruptError before the last byte of a damaged file."""
        loop = asyncio.get_running_loop()
        file, end = self._file, self._wanted.offset + self._wanted.length
        await context.write(
            pb.ReadFileResponse(
                header=pb.ReadFileResponse.Header(
                    file=convert.file_to_proto(file),
                    offset=self._wanted.offset,
                    length=self._wanted.length,
                    total_size=file.size_bytes,
                    checksums=convert.checksums_to_proto(file.checksums),
                    content_etag=content_etag_of(file.checksums.sha256),
                )
            )
        )
        offset = self._wanted.offset
        if offset == end:
            return
        ahead = loop.run_in_executor(self._readers, self._piece, offset, end)
        try:
            while offset < end:
                message, size = await ahead
                offset += size
                if offset < end:
                    ahead = loop.run_in_executor(self._readers, self._piece, offset, end)
                await context.write(message)
        finally:
            ahead.cancel()

    def close(self) -> None:
        """Let go of the bytes, after the piece that may be read ahead just now."""
        if not isinstance(self._source, bytes):
            self._readers.submit(self._close)

    def _close(self) -> None:
        with self._reading:
            self._is_closed = True
            if not isinstance(self._source, bytes):
                self._source.close()

    def _piece(self, offset: int, end: int) -> tuple[pb.ReadFileResponse, int]:
        with self._reading:
            if self._is_closed:
                raise asyncio.CancelledError
            return self._read_piece(offset, end)

    def _read_piece(self, offset: int, end: int) -> tuple[pb.ReadFileResponse, int]:
        wanted = min(CHUNK_BYTES, end - offset)
        source = self._source
        data = source[offset : offset + wanted] if isinstance(source, bytes) else source.read(offset, wanted)
        if len(data) != wanted:
            raise errors.StoredContentCorruptError
        crc32c = google_crc32c.value(data)
        if self._is_whole:
            self._crc32c = google_crc32c.extend(self._crc32c, data) if offset else crc32c
            if offset + wanted == end and self._crc32c != self._file.checksums.crc32c:
                raise errors.StoredContentCorruptError
        chunk = pb.ReadFileResponse.Chunk(offset=offset, data=common_pb2.ChecksummedData(content=data, crc32c=crc32c))
        return pb.ReadFileResponse(chunk=chunk), wanted

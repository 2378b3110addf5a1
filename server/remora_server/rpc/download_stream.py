"""One ReadFile stream: reads ahead by one chunk, checks every chunk's CRC32C, and proves a file that is read whole."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass

import grpc

from remora.v1 import common_pb2
from remora.v1 import file_service_pb2 as pb
from remora_server.core import errors
from remora_server.core.etags import content_etag_of
from remora_server.core.model import File
from remora_server.core.reading import Reading
from remora_server.rpc import convert

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
    """Sends a range of a form of a file."""

    def __init__(self, file: File, reading: Reading, readers: Executor) -> None:
        self._file = file
        self._reading = reading
        self._readers = readers

    async def serve(self, context: Context) -> None:
        """Send the header and the chunks; raise StoredContentCorruptError before the last byte of a damaged file."""
        loop = asyncio.get_running_loop()
        reading, file = self._reading, self._reading.file
        await context.write(
            pb.ReadFileResponse(
                header=pb.ReadFileResponse.Header(
                    file=convert.file_to_proto(self._file),
                    content_type=file.content_type,
                    offset=reading.offset,
                    length=reading.length,
                    total_size=file.size_bytes,
                    checksums=convert.checksums_to_proto(file.checksums),
                    content_etag=content_etag_of(file.checksums.sha256),
                )
            )
        )
        offset, end = reading.offset, reading.offset + reading.length
        if offset == end:
            return
        ahead = loop.run_in_executor(self._readers, self._piece)
        try:
            while offset < end:
                message, size = await ahead
                offset += size
                if offset < end:
                    ahead = loop.run_in_executor(self._readers, self._piece)
                await context.write(message)
        finally:
            ahead.cancel()

    def close(self) -> None:
        """Let go of the bytes, after the piece that may be read ahead just now."""
        if self._reading.needs_closing:
            self._readers.submit(self._reading.close)

    def _piece(self) -> tuple[pb.ReadFileResponse, int]:
        offset, data, crc32c = self._reading.next()
        if not data:
            raise asyncio.CancelledError
        chunk = pb.ReadFileResponse.Chunk(offset=offset, data=common_pb2.ChecksummedData(content=data, crc32c=crc32c))
        return pb.ReadFileResponse(chunk=chunk), len(data)

"""The requests of one WriteFile stream, made one by one as the server lets them go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import google_crc32c

from remora.errors import RemoraError
from remora.sources import Source
from remora.v1 import common_pb2, file_service_pb2, upload_ticket_pb2

LARGEST_CHUNK_BYTES = 1 << 20
SMALLEST_CHUNK_BYTES = 32 << 10
UNACKED_BYTES = 32 << 20
CHUNKS_BEFORE_GROWTH = 8


class Pace:
    """How large chunks are: halved when a stream achieved nothing, doubled when one has stored several.

    A chunk counts only when it has arrived whole. On a line that breaks after every few kilobytes large ones never do.
    """

    def __init__(self) -> None:
        self.chunk_bytes = LARGEST_CHUNK_BYTES

    @property
    def careful(self) -> bool:
        """Tell whether each chunk should be stored at once."""
        return self.chunk_bytes < LARGEST_CHUNK_BYTES

    def lost(self) -> bool:
        """Take note that a stream sent chunks and none was stored; tell whether the next will send smaller ones."""
        before = self.chunk_bytes
        self.chunk_bytes = max(before // 2, SMALLEST_CHUNK_BYTES)
        return self.chunk_bytes < before

    def stored(self, count: int) -> None:
        """Take note that the present stream has stored `count` bytes so far."""
        if self.careful and count >= CHUNKS_BEFORE_GROWTH * self.chunk_bytes:
            self.chunk_bytes *= 2


class Outgoing(Iterator[file_service_pb2.WriteFileRequest]):
    """What gRPC takes requests from, on a thread of its own: Open, then chunks from where `start` says, then Finish."""

    def __init__(self, opening: file_service_pb2.WriteFileRequest, source: Source, pace: Pace) -> None:
        self.failure: Exception | None = None
        self.sent_bytes = 0
        self.cancel: Callable[[], object] = lambda: None
        self._opening: file_service_pb2.WriteFileRequest | None = opening
        self._source = source
        self._pace = pace
        self._changed = threading.Condition()
        self._turn = threading.Lock()  # Held while a request is made.
        self._started = self._stopped = self._flush_due = self._finished = False
        self._offset = self._committed = 0
        self._largest_chunk = LARGEST_CHUNK_BYTES
        self._unacked = UNACKED_BYTES

    def start(self, committed_size: int, limits: upload_ticket_pb2.UploadLimits) -> None:
        """Let chunks go, from `committed_size` on."""
        with self._changed:
            self._offset = self._committed = committed_size
            self._largest_chunk = limits.max_chunk_bytes or LARGEST_CHUNK_BYTES
            self._unacked = max(limits.max_unacked_bytes or UNACKED_BYTES, self._largest_chunk)
            self._started = True
            self._changed.notify_all()

    def committed(self, size: int) -> None:
        """Take note that the server has stored the first `size` bytes."""
        with self._changed:
            self._committed = size
            self._changed.notify_all()

    def stop(self) -> None:
        """Make no more requests; when this returns the source is no longer read."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._source.wake()
        with self._turn:
            pass

    def __next__(self) -> file_service_pb2.WriteFileRequest:
        with self._turn:
            try:
                request = self._next()
            except (OSError, ValueError, RemoraError) as error:
                # gRPC would log it and tell nobody: it is raised where the answers are read.
                self.failure = error
                self.cancel()
                request = None
        if request is None:
            raise StopIteration
        return request

    def _next(self) -> file_service_pb2.WriteFileRequest | None:
        if self._opening is not None:
            opening, self._opening = self._opening, None
            return opening
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._started)
        if self._is_stopped() or self._finished:
            return None
        if self._flush_due:
            self._flush_due = False
            return file_service_pb2.WriteFileRequest(flush=file_service_pb2.WriteFileRequest.Flush())
        size = min(self._pace.chunk_bytes, self._largest_chunk)
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._offset + size - self._committed <= self._unacked)
        self._source.check()
        data = self._source.read_at(self._offset, size, self._is_stopped)
        if self._is_stopped():
            return None
        return self._chunk(data) if data else self._finish()

    def _chunk(self, data: bytes) -> file_service_pb2.WriteFileRequest:
        piece = common_pb2.ChecksummedData(content=data, crc32c=google_crc32c.value(data))
        chunk = file_service_pb2.WriteFileRequest.Chunk(offset=self._offset, data=piece)
        self._offset += len(data)
        self.sent_bytes += len(data)
        self._flush_due = self._pace.careful
        return file_service_pb2.WriteFileRequest(chunk=chunk)

    def _finish(self) -> file_service_pb2.WriteFileRequest:
        self._finished = True
        finish = file_service_pb2.WriteFileRequest.Finish(size_bytes=self._offset)
        if (digests := self._source.digests) is not None:
            finish.checksums.sha256 = digests.sha256
            finish.checksums.crc32c = digests.crc32c
        return file_service_pb2.WriteFileRequest(finish=finish)

    def _is_stopped(self) -> bool:
        return self._stopped

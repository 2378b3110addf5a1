"""One WriteFile stream: reads messages as fast as the upload takes them, tells of progress, and ends in order.

The loop is woken by a message, by the upload (progress, room, failure, fence), by the server (drain) and once a second.
Whatever ends the stream, the bytes received are committed and the ticket stays good, unless the upload is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import duration_pb2

from remora.v1 import common_pb2
from remora.v1 import file_service_pb2 as pb
from remora_server.core import errors, fields
from remora_server.core.intake import Taken
from remora_server.core.model import Caller
from remora_server.core.receiving import Receiving
from remora_server.rpc import convert
from remora_server.rpc.calls import Calls

TICK_SECONDS = 1.0
HEARTBEAT_SECONDS = 5.0
Context = grpc.aio.ServicerContext[pb.WriteFileRequest, pb.WriteFileResponse]


@dataclass(frozen=True, slots=True)
class Pace:
    """How slow a client may be, and how old a stream may grow, in seconds and bytes per second."""

    idle_seconds: float = 60.0
    min_bytes_per_second: float = 1024.0
    max_age_seconds: float = 600.0


class Draining:
    """Tells open streams that the server is about to stop; for use on the event loop only."""

    def __init__(self) -> None:
        self.announced = False  # Health is about to say so.
        self.started = False
        self._wakers: set[Callable[[], None]] = set()

    def start(self) -> None:
        """Wake every stream to end itself."""
        self.started = True
        for wake in tuple(self._wakers):
            wake()

    def join(self, wake: Callable[[], None]) -> None:
        """Have `wake` called when draining starts."""
        self._wakers.add(wake)

    def leave(self, wake: Callable[[], None]) -> None:
        """Take back `join`."""
        self._wakers.discard(wake)


class UploadStream:
    """Serves one stream after its ticket was opened."""

    def __init__(
        self,
        calls: Calls,
        receiving: Receiving,
        context: Context,
        pace: Pace,
        draining: Draining,
        check_again: Callable[[], Awaitable[Caller]],
    ) -> None:
        self._calls = calls
        self._receiving = receiving
        self._context = context
        self._pace = pace
        self._draining = draining
        self._check_again = check_again
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._told = receiving.ticket.committed_size
        self._began = self._heard = self._window_began = time.monotonic()
        self._window_bytes = 0
        self._owes_progress = False  # A flush is answered even if it brings nothing new.
        self._left = False
        self._ticking = self._loop.call_later(TICK_SECONDS, self._tick)
        self._reading = self._read()

    async def serve(self) -> None:
        """Take messages until the upload is done, drained or refused."""
        receiving = self._receiving
        receiving.listen(self._wake_from_thread)
        self._draining.join(self._wake.set)
        try:
            await self._run()
        except (errors.SizeMismatchError, errors.FileTooLargeError) as refusal:
            if not self._left:
                self._left = True
                await self._calls.wait(receiving.fail, refusal)
            raise
        except errors.RemoraError:
            await self._leave()
            raise
        except TimeoutError:
            # The client reads nothing of what it is sent; there is nobody to tell.
            await self._leave()
        finally:
            self._ticking.cancel()
            self._reading.cancel()
            self._draining.leave(self._wake.set)
            if not self._left:
                # Cancelled: the connection is gone. The bytes that came are committed without anybody waiting.
                self._left = True
                self._calls.behind(receiving.leave)

    async def _run(self) -> None:
        await self._send(ready=self._ready())
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._receiving.raise_if_broken()
            await self._tell_progress()
            delay = self._delay_to_drain()
            if delay is not None:
                await self._drain(delay)
                return
            while self._reading.done() and self._receiving.has_room():
                if await self._take(self._reading.result()):
                    return
                self._reading = self._read()

    async def _take(self, message: object) -> bool:
        """Act on a message, or on the end of the client's; tell whether the stream is over."""
        self._heard = time.monotonic()
        if not isinstance(message, pb.WriteFileRequest):
            raise errors.UploadIncompleteError(await self._leave())
        kind = message.WhichOneof("message")
        if kind == "finish":
            await self._finish(message.finish)
            return True
        if kind == "chunk":
            self._append(message.chunk)
        elif kind == "flush":
            self._receiving.flush()
            self._owes_progress = True
        else:
            raise errors.invalid("message", "must be chunk, flush or finish after open")
        return False

    def _wake_from_thread(self) -> None:
        # A lane may speak up when the server's loop has ended.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._wake.set)

    def _read(self) -> asyncio.Future[Any]:
        reading = asyncio.ensure_future(self._context.read())
        reading.add_done_callback(lambda _: self._wake.set())
        return reading

    def _tick(self) -> None:
        if not self._left:
            self._receiving.tick()
        self._wake.set()
        self._ticking = self._loop.call_later(TICK_SECONDS, self._tick)

    def _append(self, chunk: pb.WriteFileRequest.Chunk) -> None:
        data = chunk.data
        content = data.content
        self._receiving.append(chunk.offset, content, data.crc32c if data.HasField("crc32c") else None)
        self._window_bytes += len(content)

    def _delay_to_drain(self) -> float | None:
        """Return the delay after which the client may come back, or None while the stream may go on."""
        now = time.monotonic()
        if self._draining.started:
            return 1.0
        if now - self._began > self._pace.max_age_seconds:
            return 0.0
        if self._reading.done():
            self._heard = now
            if not self._receiving.has_room():
                # It is we who are slow.
                self._window_began, self._window_bytes = now, 0
        if now - self._heard > self._pace.idle_seconds:
            return 0.0
        if now - self._window_began > self._pace.idle_seconds:
            wanted = self._pace.min_bytes_per_second * (now - self._window_began)
            if self._window_bytes < wanted:
                return 0.0
            self._window_began, self._window_bytes = now, 0
        return None

    async def _tell_progress(self) -> None:
        ticket = self._receiving.ticket
        if ticket.committed_size > self._told or (
            self._owes_progress and ticket.committed_size == self._receiving.next_offset
        ):
            self._owes_progress = False
            self._told = ticket.committed_size
            checksums = common_pb2.Checksums(crc32c=ticket.committed_crc32c)
            await self._send(
                progress=pb.WriteFileResponse.Progress(committed_size=self._told, committed_checksums=checksums)
            )

    async def _finish(self, finish: pb.WriteFileRequest.Finish) -> None:
        caller = await self._check_again()
        claimed = convert.checksums_from_proto(finish.checksums)
        fields.checksums(claimed, "finish.checksums")
        self._left = True
        finishing = asyncio.ensure_future(self._calls.wait(self._receiving.finish, claimed, finish.size_bytes, caller))
        while True:
            await asyncio.wait({finishing}, timeout=HEARTBEAT_SECONDS)
            if finishing.done():
                break
            verified = pb.WriteFileResponse.Verifying(verified_size=self._receiving.verified_size)
            await self._send(verifying=verified)
        await self._send(done=done_to_proto(finishing.result()))

    async def _drain(self, retry_seconds: float) -> None:
        committed = await self._leave()
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(retry_seconds * 1000))
        await self._send(drain=pb.WriteFileResponse.Drain(committed_size=committed, retry_delay=delay))

    async def _leave(self) -> int:
        if not self._left:
            self._left = True
            return await self._calls.wait(self._receiving.leave)
        return self._receiving.ticket.committed_size

    async def _send(self, **message: Any) -> None:  # noqa: ANN401 - any one of the messages of the oneof
        # A client that never reads would otherwise hold the stream for good.
        await asyncio.wait_for(self._context.write(pb.WriteFileResponse(**message)), self._pace.idle_seconds)

    def _ready(self) -> pb.WriteFileResponse.Ready:
        ticket = self._receiving.ticket
        return pb.WriteFileResponse.Ready(
            upload_ticket_id=ticket.id,
            writer_epoch=ticket.writer_epoch,
            committed_size=ticket.committed_size,
            committed_checksums=common_pb2.Checksums(crc32c=ticket.committed_crc32c),
            limits=convert.limits_to_proto(self._receiving.limits),
            expire_time=convert.time_to_proto(ticket.expire_time),
        )


def done_to_proto(taken: Taken) -> pb.WriteFileResponse.Done:
    """Return what an upload came to."""
    return pb.WriteFileResponse.Done(
        file=convert.file_to_proto(taken.file),
        outcome=convert.UPLOAD_OUTCOMES[taken.outcome],
        attachment_id=taken.attachment_id,
    )

"""The bytes of a request: read as they come, given up when they come too slowly, and let run out after a refusal."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from remora_server.core import errors
from remora_server.core.receiving import Receiving
from remora_server.gateway.errors import TooSlowError

BLOCK_BYTES = 256 * 1024
TICK_SECONDS = 1.0
LINGER_SECONDS = 3.0
LINGER_BYTES = 16 * 1024 * 1024
FIRST_REFUSAL = 400


@dataclass(frozen=True, slots=True)
class Pace:
    """How slow a client may be, in seconds and bytes per second."""

    idle_seconds: float
    min_bytes_per_second: float


class Interrupts:
    """Ends the requests that can be taken up again, when the server is about to stop; for the event loop only."""

    def __init__(self) -> None:
        self._started = False
        self._bodies: set[Body] = set()

    def start(self) -> None:
        """End them, and those that come after."""
        self._started = True
        for body in tuple(self._bodies):
            body.interrupt(errors.ShuttingDownError())

    @contextlib.contextmanager
    def watching(self, body: Body) -> Iterator[None]:
        """Hold a body that may be ended half-way."""
        if self._started:
            raise errors.ShuttingDownError
        self._bodies.add(body)
        try:
            yield
        finally:
            self._bodies.discard(body)


class Body:
    """What a client sends after its headers."""

    def __init__(self, scope: Scope, receive: Receive, pace: Pace) -> None:
        self.headers = Headers(scope=scope)
        self.is_read = "transfer-encoding" not in self.headers and self.headers.get("content-length", "0") == "0"
        self._first = b""
        self._receive = receive
        self._pace = pace
        self._interrupted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._window_began = time.monotonic()
        self._window_bytes = 0

    @property
    def length(self) -> int | None:
        """How many bytes the client says it sends; None if it doesn't, and sends until it ends."""
        given = self.headers.get("content-length")
        return None if given is None else int(given)

    def interrupt(self, reason: Exception) -> None:
        """Raise `reason` where the body is read, at the next moment that nothing is there."""
        if not self._interrupted.done():
            self._interrupted.set_exception(reason)

    async def wait(self) -> None:
        """Wait for the first bytes, or the end: a client who is gone by then need not be served at all."""
        self._first = await self.next()

    async def next(self) -> bytes:
        """Return the next bytes; none at the end."""
        if self._first:
            data, self._first = self._first, b""
            return data
        while not self.is_read:
            message = await self._next_message()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            self.is_read = not message.get("more_body", False)
            data = bytes(message.get("body", b""))
            self._count(len(data))
            if data:
                return data
        return b""

    async def pause(self, seconds: float) -> None:
        """Let time pass; raise ClientDisconnect as soon as the client is gone. What it still sends is thrown away."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while (message := await self._receive())["type"] != "http.disconnect":
                    self.is_read = not message.get("more_body", False)
                raise ClientDisconnect

    def forgive(self) -> None:
        """Begin to count anew: it was not the client who was slow."""
        self._window_began, self._window_bytes = time.monotonic(), 0

    async def run_out(self) -> None:
        """Throw away what still comes, for a moment: a client that is cut off while it sends reads no answer."""
        left = LINGER_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while not self.is_read and left > 0:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        return
                    self.is_read = not message.get("more_body", False)
                    left -= len(message.get("body", b""))

    def close(self) -> None:
        """Let go of what could interrupt it."""
        if self._interrupted.done():
            self._interrupted.exception()
        else:
            self._interrupted.cancel()

    async def _next_message(self) -> Message:
        reading = asyncio.ensure_future(self._receive())
        try:
            either: set[asyncio.Future[Any]] = {reading, self._interrupted}
            await asyncio.wait(either, timeout=self._pace.idle_seconds, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                return reading.result()
        finally:
            reading.cancel()
        if self._interrupted.done():
            self._interrupted.result()
        raise TooSlowError

    def _count(self, size_bytes: int) -> None:
        self._window_bytes += size_bytes
        passed = time.monotonic() - self._window_began
        if passed > self._pace.idle_seconds:
            if self._window_bytes < self._pace.min_bytes_per_second * passed:
                raise TooSlowError
            self.forgive()


class Intake:
    """Puts bytes into an upload, as fast as that takes them."""

    def __init__(self, body: Body, receiving: Receiving) -> None:
        self._body = body
        self._receiving = receiving
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._gathered = bytearray()
        receiving.listen(self._wake_from_thread)
        self._ticking = self._loop.call_later(TICK_SECONDS, self._tick)

    async def put(self, data: bytes) -> None:
        """Take bytes; small ones are gathered for a while."""
        self._gathered += data
        if len(self._gathered) >= BLOCK_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Hand on what was gathered."""
        self._hand_on()
        while not self._receiving.has_room():
            await self._woken.wait()
            self._woken.clear()
            self._receiving.raise_if_broken()
            self._body.forgive()

    def close(self) -> None:
        """Do nothing more by the clock."""
        self._ticking.cancel()

    def _hand_on(self) -> None:
        data, self._gathered = bytes(self._gathered), bytearray()
        receiving, most = self._receiving, self._receiving.limits.max_chunk_bytes
        receiving.raise_if_broken()
        for start in range(0, len(data), most):
            receiving.append(receiving.next_offset, data[start : start + most], None)

    def _tick(self) -> None:
        """Have bytes made durable that waited for others, which come slowly."""
        self._ticking = self._loop.call_later(TICK_SECONDS, self._tick)
        try:
            self._hand_on()
            self._receiving.tick()
        except Exception as reason:  # noqa: BLE001 - whatever it is, it is raised where the body is read
            self._body.interrupt(reason)

    def _wake_from_thread(self) -> None:
        # A lane may speak up when the server's loop has ended.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._woken.set()
        try:
            self._receiving.raise_if_broken()
        except Exception as reason:  # noqa: BLE001 - as above
            self._body.interrupt(reason)


async def answer(response: Response, body: Body, scope: Scope, receive: Receive, send: Send) -> None:
    """Send an answer, also to a client that has not sent everything yet; its connection then ends."""
    if not body.is_read and response.status_code < FIRST_REFUSAL:
        # What was served brought more than it needed. The answer may be a stream, which is not begun before.
        await body.run_out()
    if body.is_read:
        await response(scope, receive, send)
        return
    response.headers["Connection"] = "close"
    if response.status_code < FIRST_REFUSAL:
        await response(scope, receive, send)
        return
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    await body.run_out()
    await send({"type": "http.response.body", "body": b"", "more_body": False})

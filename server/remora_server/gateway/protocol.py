"""HTTP/1.1 on one connection, as uvicorn speaks it, with bounds on what comes before a request is served."""

from __future__ import annotations

import asyncio
import http
from functools import partial

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MAX_HEAD_BYTES = 32 * 1024
HEAD_SECONDS = 20.0
TOO_LARGE = 431


class BoundedProtocol(HttpToolsProtocol):
    """Refuses requests whose line and headers are too long, or take too long to come.

    uvicorn bounds neither: it would gather headers for as long as they come, and wait for them for ever.
    """

    head_seconds = HEAD_SECONDS
    _head_bytes = 0
    _in_head = True  # Between requests too.
    _hurry: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._hurry = self.loop.call_later(self.head_seconds, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(TOO_LARGE)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        if self._hurry is None:
            self._hurry = self.loop.call_later(self.head_seconds, self._give_up)

    def on_headers_complete(self) -> None:
        """Serve the request."""
        self._stop_waiting()
        self._in_head = False
        self._head_bytes = 0
        scope = self.scope
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) <= MAX_HEAD_BYTES:
            super().on_headers_complete()
            scope["remora.abort"] = partial(self._abort, self.cycle)  # type: ignore[typeddict-unknown-key]
            return
        # All of it came in one packet, so that it could not be refused half-way.
        self.url = b"/"
        app, self.app = self.app, too_large
        try:
            super().on_headers_complete()
        finally:
            self.app = app

    def on_message_complete(self) -> None:
        """Wait for another request."""
        super().on_message_complete()
        self._in_head = True

    def _abort(self, cycle: RequestResponseCycle) -> None:
        cycle.disconnected = True  # Or uvicorn would log as a mistake that the answer has no end.
        self.transport.abort()

    def _give_up(self) -> None:
        self._hurry = None
        self._refuse(408)

    def _refuse(self, status: int) -> None:
        if self.transport.is_closing():
            return
        # Nothing is written between the parts of an answer that is on its way, or to somebody who asked nothing.
        if self._head_bytes and (self.cycle is None or self.cycle.response_complete):
            phrase = http.HTTPStatus(status).phrase
            head = f"HTTP/1.1 {status} {phrase}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            self.transport.write(head.encode())
        self.transport.close()

    def _stop_waiting(self) -> None:
        if self._hurry is not None:
            self._hurry.cancel()
            self._hurry = None


async def too_large(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Refuse a request with too long a line or headers."""
    head = [(b"connection", b"close"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": TOO_LARGE, "headers": head})
    await send({"type": "http.response.body"})


def bounded(idle_seconds: float) -> type[BoundedProtocol]:
    """Return the protocol with another bound, where clients may be silent for a shorter time."""
    return type("Bounded", (BoundedProtocol,), {"head_seconds": min(HEAD_SECONDS, idle_seconds)})

"""HTTP/1.1 on one connection, as uvicorn speaks it, with bounds on what comes before a request is served."""

from __future__ import annotations

import asyncio
import http

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 32 * 1024
HEAD_SECONDS = 20.0


class BoundedProtocol(HttpToolsProtocol):
    """Refuses requests whose line and headers are too long, or take too long to come.

    uvicorn bounds neither: it would gather headers for as long as they come, and wait for them for ever.
    """

    _head_bytes = 0
    _in_head = True  # Between requests too.
    _hurry: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._hurry = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        # One packet may hold a whole head and much of a body: only a head that is still not at its end is too long.
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        if self._hurry is None:
            self._hurry = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def on_headers_complete(self) -> None:
        """Serve the request."""
        self._stop_waiting()
        self._in_head = False
        self._head_bytes = 0
        self.scope["remora.abort"] = self.transport.abort  # type: ignore[typeddict-unknown-key]
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait for another request."""
        super().on_message_complete()
        self._in_head = True

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

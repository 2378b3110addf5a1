"""Downloads from signed URLs: whole or one range, with headers that let a browser save the file and run nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from functools import partial

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from remora_server.core import dispositions
from remora_server.core.admission import Admission
from remora_server.core.downloads import Downloads
from remora_server.core.errors import ReadOffsetTooLargeError, RemoraError, StoredContentCorruptError
from remora_server.core.etags import content_etag_of
from remora_server.core.file_types import content_type_of
from remora_server.core.model import File, Form, Shown
from remora_server.core.reading import Reading
from remora_server.core.renditions import Renditions
from remora_server.gateway import ranges
from remora_server.gateway.bodies import Body
from remora_server.gateway.calls import Calls
from remora_server.gateway.errors import response_of
from remora_server.gateway.signed_urls import SignedUrls

log = logging.getLogger(__name__)

SEND_BYTES = 64 * 1024
# Whatever a browser makes of the bytes, it is an origin of its own, without scripts and without a way out. The viewers
# of browsers refuse to show a PDF in a sandbox; what it holds runs in the viewer, not here.
SANDBOX = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; media-src 'self'; sandbox"
PDF_POLICY = "default-src 'none'; style-src 'unsafe-inline'; object-src 'self'"


@dataclass(frozen=True, slots=True)
class Shelf:
    """What every download needs."""

    calls: Calls
    urls: SignedUrls
    renditions: Renditions
    downloads: Downloads
    admission: Admission
    idle_seconds: float


async def get(shelf: Shelf, scope: Scope, body: Body) -> Response:
    """Send a file, or the range of it that is asked for."""
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    permission = shelf.urls.check(method, scope["raw_path"], scope["query_string"])
    reader = permission.query["reader"]
    file = await shelf.calls.read(shelf.downloads.file_of_holder, permission.workspace_id, reader, permission.id)
    shown = Shown(file)
    if "form" in permission.query:
        shown = await shelf.calls.fetch(shelf.renditions.of, file, Form(permission.query["form"]))
    wants_inline = permission.query["disposition"] == dispositions.INLINE
    return await lend(shelf, shown, reader, scope["method"], body.headers, wants_inline=wants_inline)


async def lend(
    shelf: Shelf, shown: Shown, reader: str, method: str, asked: Headers, *, wants_inline: bool = False
) -> Response:
    """Send a form of a file to `reader`, who may have it, or the range of it that the headers ask for."""
    file = shown.file
    kind = await shelf.calls.fetch(shelf.downloads.disposition, shown, wants_inline=wants_inline)
    headers = headers_of(file, kind)
    etag = headers["ETag"]
    if _matches(asked.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    wanted = None
    if asked.get("if-range", etag) == etag:
        try:
            wanted = ranges.wanted(asked.get("range"), file.size_bytes)
        except ReadOffsetTooLargeError as refusal:
            response = response_of(refusal)
            response.headers["Content-Range"] = f"bytes */{file.size_bytes}"
            return response
    offset, length = wanted or (0, file.size_bytes)
    headers["Content-Length"] = str(length)
    if wanted is not None:
        headers["Content-Range"] = f"bytes {offset}-{offset + length - 1}/{file.size_bytes}"
    status = 200 if wanted is None else 206
    if method == "HEAD":
        return Response(status_code=status, headers=headers)
    with contextlib.ExitStack() as held:
        held.enter_context(shelf.admission.stream(reader))
        reading = await shelf.calls.obtain(partial(shelf.renditions.reading, shown, offset, length), Reading.close)
        held.callback(shelf.calls.behind, reading.close)
        # Before anything is said: of a file that fits into one piece every byte is proved by then.
        first = (await shelf.calls.fetch(reading.next))[1] if length else b""
        return _Stream(shelf, reading, first, Response(status_code=status, headers=headers), held.pop_all())


def headers_of(file: File, kind: str) -> dict[str, str]:
    """Return what is said of a file with its bytes."""
    content_type = content_type_of(file.name, file.content_type)
    inline = kind == dispositions.INLINE
    is_pdf = content_type.startswith("application/pdf")
    return {
        "Content-Type": content_type,
        "Content-Disposition": dispositions.header(kind, file.name),
        "ETag": content_etag_of(file.checksums.sha256),
        "Accept-Ranges": "bytes",
        # A copy may be kept by its reader, who asks each time whether it still may be shown.
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": PDF_POLICY if inline and is_pdf else SANDBOX,
        # What is made to be shown may be shown on the pages of a tracker; nothing else may be drawn into a page.
        "Cross-Origin-Resource-Policy": "cross-origin" if inline else "same-origin",
        "Referrer-Policy": "no-referrer",
    }


class _Stream(Response):
    """The bytes, read one piece ahead of what is sent."""

    def __init__(
        self, shelf: Shelf, reading: Reading, first: bytes, head: Response, held: contextlib.ExitStack
    ) -> None:
        super().__init__(status_code=head.status_code)
        self.raw_headers = head.raw_headers
        self._shelf = shelf
        self._reading = reading
        self._first = first
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything; end the connection before its last byte if the file is found damaged."""
        leaving = asyncio.ensure_future(_disconnected(receive))
        sending = asyncio.ensure_future(self._send(send))
        with self._held:
            try:
                await asyncio.wait({leaving, sending}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                leaving.cancel()
                sending.cancel()
                _, outcome = await asyncio.gather(leaving, sending, return_exceptions=True)
        if isinstance(outcome, (RemoraError, TimeoutError)):
            # Whoever has fewer bytes than were announced knows that they are not all; what is unsent stays unsent.
            if not isinstance(outcome, StoredContentCorruptError):  # Core has told of that.
                log.warning("a download of %s was cut off: %s", self._reading.file.id, outcome or "nobody reads it")
            scope["remora.abort"]()
        elif isinstance(outcome, Exception):
            raise outcome

    async def _send(self, send: Send) -> None:
        reading, calls = self._reading, self._shelf.calls
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        data = self._first
        while data:
            ahead = asyncio.ensure_future(calls.fetch(reading.next))
            try:
                for start in range(0, len(data), SEND_BYTES):
                    part = data[start : start + SEND_BYTES]
                    # A client that never reads would otherwise hold the file for good.
                    async with asyncio.timeout(self._shelf.idle_seconds):
                        await send({"type": "http.response.body", "body": part, "more_body": True})
                _, data, _ = await ahead
            finally:
                ahead.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _matches(if_none_match: str | None, etag: str) -> bool:
    if if_none_match is None:
        return False
    return "*" in if_none_match or etag in (one.strip().removeprefix("W/") for one in if_none_match.split(","))

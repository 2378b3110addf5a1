"""Bytes out: the whole object or a range of it, with the headers that both APIs give."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tests.gcs.bucket import Stored
from tests.gcs.refusal import Refusal

PIECE = 256 * 1024
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def send_bytes(one: Stored, request: Request, **overrides: str) -> Response:
    """Send an object, or the one range of it that is asked for."""
    first, last = 0, one.size - 1
    found = RANGE.fullmatch(request.headers.get("range", ""))
    if found and (found[1] or found[2]):
        if found[1]:
            first, last = int(found[1]), min(int(found[2] or last), last)
        else:
            first = max(0, one.size - int(found[2]))
        if first > last or first >= one.size:
            raise Refusal(416, "The requested range cannot be satisfied.", code="InvalidRange")
    headers = {
        "Content-Length": str(last - first + 1),
        "Accept-Ranges": "bytes",
        "Last-Modified": formatdate(one.updated, usegmt=True),
        "ETag": f'"{one.md5.hex()}"',
        "x-goog-generation": str(one.generation),
        "x-goog-metageneration": str(one.metageneration),
        "x-goog-hash": f"crc32c={one.crc32c_text},md5={one.md5_text}",
        "x-goog-stored-content-length": str(one.size),
        "x-goog-stored-content-encoding": one.content_encoding or "identity",
        "Content-Type": one.content_type or "application/octet-stream",
        "Cache-Control": one.cache_control or "private, max-age=0",
    }
    if one.content_encoding:
        headers["Content-Encoding"] = one.content_encoding
    if one.content_disposition:
        headers["Content-Disposition"] = one.content_disposition
    status = 200
    if found:
        status, headers["Content-Range"] = 206, f"bytes {first}-{last}/{one.size}"
    headers |= {name.replace("_", "-"): value for name, value in overrides.items()}
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    # Opened now: an object that is deleted meanwhile is sent to its end.
    return StreamingResponse(_pieces(one.path.open("rb"), first, last - first + 1), status, headers)


async def _pieces(file: BinaryIO, first: int, size: int) -> AsyncIterator[bytes]:
    with file:
        file.seek(first)
        while size > 0 and (data := file.read(min(size, PIECE))):
            size -= len(data)
            yield data

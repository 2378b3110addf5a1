"""The protocol of resumable uploads, which both APIs share: Content-Range in, 308 with Range or the object out."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response

from tests.gcs.bucket import BLOCK, Bucket, Digests, Session, Stored
from tests.gcs.refusal import Refusal

RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|(\*))/(\d+|\*)")


def url_of(request: Request, session: Session) -> str:
    """Return the address of a session."""
    base = f"{request.url.scheme}://{request.headers['host']}"
    if session.is_xml:
        return f"{base}{request.scope['raw_path'].decode()}?upload_id={session.id}"
    return f"{base}{request.scope['raw_path'].decode()}?uploadType=resumable&upload_id={session.id}"


async def put(bucket: Bucket, session_id: str, request: Request) -> Response | Stored:
    """Take bytes, or tell how far the upload is."""
    session = bucket.session(session_id)
    offset, length, total = _read_range(request)
    if session.done is not None:
        return session.done
    if length is None:
        await _no_body(request.stream())
        if total is not None and total == session.incoming.size:
            return _finish(bucket, session, request, total)
        _require_total(session, total)
        return _incomplete(session)
    is_last = total is not None and offset + length == total
    _check_request(session, offset, length, total, is_last=is_last)
    rest = await _take(session, request, offset, length)
    if is_last and offset + length == session.incoming.size + len(rest):
        session.incoming.write(rest)
        return _finish(bucket, session, request, total)
    return _incomplete(session)


def cancel(bucket: Bucket, session_id: str) -> Response:
    """End a session."""
    bucket.end(bucket.session(session_id))
    return Response(status_code=499)


def _read_range(request: Request) -> tuple[int, int | None, int | None]:
    """Return where the bytes begin, how many come (None if only the state is asked for) and the whole size."""
    text = request.headers.get("content-range", "")
    declared = request.headers.get("content-length")
    if not text:
        if declared is None:
            raise Refusal(411, "Content-Length is required.", code="MissingContentLength")
        return 0, int(declared), int(declared)
    found = RANGE.fullmatch(text)
    if not found:
        raise Refusal(400, "Failed to parse Content-Range header.")
    total = None if found[4] == "*" else int(found[4])
    if found[3]:
        if declared not in {None, "0"}:
            raise Refusal(400, "A request for the state of an upload has no body.")
        return 0, None, total
    first, last = int(found[1]), int(found[2])
    if last < first or (total is not None and last >= total):
        raise Refusal(400, "Failed to parse Content-Range header.")
    if declared is not None and int(declared) != last - first + 1:
        raise Refusal(400, "Content-Range header does not match the Content-Length header.")
    return first, last - first + 1, total


def _require_total(session: Session, total: int | None) -> None:
    announced = session.about.size
    if total is not None and announced is not None and total != announced:
        raise Refusal(400, f"The upload was announced with {announced} bytes, not {total}.")


def _check_request(session: Session, offset: int, length: int, total: int | None, *, is_last: bool) -> None:
    _require_total(session, total)
    if session.about.size is not None and offset + length > session.about.size:
        raise Refusal(400, f"The upload was announced with {session.about.size} bytes.")
    if offset > session.incoming.size:
        raise Refusal(
            400,
            f"Invalid request. According to the Content-Range header, the upload offset is {offset} byte(s), which "
            f"exceeds already uploaded size of {session.incoming.size} byte(s).",
        )
    if not is_last and length % BLOCK:
        raise Refusal(
            400,
            f"Invalid request. The number of bytes uploaded is required to be equal or greater than {BLOCK}, except "
            f"for the final request (it's recommended to be the exact multiple of {BLOCK}). The received request "
            f"contained {length} bytes, which does not meet this requirement.",
        )


async def _take(session: Session, request: Request, offset: int, length: int) -> bytes:
    """Append what is new, and return what is less than a block; whole blocks stay even if the connection breaks."""
    session.turn += 1
    turn, rest = session.turn, bytearray()
    skip = session.incoming.size - offset
    came = 0
    dropping = "drop" in request.scope
    async for data in request.stream():
        if turn != session.turn:
            raise Refusal(503, "A later request has taken over.")
        came += len(data)
        new = data[skip:] if skip else data
        skip = max(0, skip - len(data))
        rest += new
        whole = len(rest) // BLOCK * BLOCK
        if whole and not (dropping and came > length // 2):
            session.incoming.write(bytes(rest[:whole]))
            del rest[:whole]
    if dropping:
        rest.clear()
    if came != length:
        raise Refusal(400, f"The request has {came} bytes, its Content-Range says {length}.")
    return bytes(rest)


async def _no_body(stream: AsyncIterator[bytes]) -> None:
    async for data in stream:
        if data:
            raise Refusal(400, "A request for the state of an upload has no body.")


def _finish(bucket: Bucket, session: Session, request: Request, total: int | None) -> Stored:
    about = session.about
    about.digests = (*about.digests, Digests.of(request.headers))
    _require_total(session, total)
    try:
        session.done = bucket.finish(about, session.incoming)
    except Refusal:
        session.ended = True
        raise
    return session.done


def _incomplete(session: Session) -> Response:
    size = session.incoming.size
    headers = {"Range": f"bytes=0-{size - 1}"} if size else {}
    return Response(status_code=308, headers=headers)

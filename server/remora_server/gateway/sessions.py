"""Uploads to signed URLs, in parts: the protocol of Cloud Storage's resumable sessions, spoken for one ticket.

A part is `Content-Range: bytes 0-262143/1000000` (`/*` while the size is not known), all but the last a multiple of
256 KiB. The answer is 308 with `Range: bytes=0-262143`, what is stored for good, and 200 after the last. `bytes */*`
with no body asks how far it is, DELETE gives the upload up. A part for another place than the next byte is refused with
409 and the same `Range`; Cloud Storage itself would skip what it has.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Scope

from remora_server.core import errors
from remora_server.core.model import Ticket
from remora_server.core.receiving import Receiving
from remora_server.gateway.bodies import Body, Intake
from remora_server.gateway.errors import HttpError, response_of
from remora_server.gateway.signed_urls import PART_MULTIPLE_BYTES
from remora_server.gateway.uploads import Receipt, arrived, require_identity

CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)", re.ASCII)
INCOMPLETE, CLIENT_CLOSED_REQUEST = 308, 499


@dataclass(frozen=True, slots=True)
class Part:
    """Which bytes a request brings; `length` and `total_bytes` are None where it does not say."""

    first: int
    length: int | None
    total_bytes: int | None
    is_last: bool
    is_query: bool = False

    def require_within(self, came: int) -> None:
        """Raise HttpError if more bytes came than the part has."""
        if self.length is not None and came > self.length:
            raise HttpError(f"more than {self.length} bytes came, as many as the Content-Range says.")


async def session(receipt: Receipt, scope: Scope, body: Body) -> Response:
    """Serve one request of a session."""
    method = "PUT" if scope["method"] == "DELETE" else scope["method"]
    permission = receipt.urls.check(method, scope["raw_path"], scope["query_string"])
    ticket, is_there = await receipt.calls.fetch(receipt.reception.progress, permission.workspace_id, permission.id)
    if scope["method"] == "DELETE":
        await receipt.calls.wait(receipt.reception.cancel, ticket)
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    require_identity(body)
    part = part_of(body)
    if is_there:
        if not part.is_query:
            raise errors.UploadTicketClosedError(ticket.state.value, has_arrived=True)
        return arrived(ticket)
    require_sizes(part, ticket, receipt.reception.limits.max_file_bytes)
    if part.is_query:
        if ticket.committed_size in {part.total_bytes, ticket.spec.size_bytes}:
            ticket = await receipt.calls.wait(receipt.reception.complete_parts, ticket)
            if await receipt.calls.fetch(receipt.reception.has_arrived, ticket):
                return arrived(ticket)
        return incomplete(body, ticket.committed_size)
    if part.first != ticket.committed_size:
        return refused(errors.OffsetMismatchError(ticket.committed_size), ticket.committed_size)
    return await receive_part(receipt, ticket, body, part)


def part_of(body: Body) -> Part:
    """Return what a request says that it brings; raise HttpError if that makes no sense."""
    header, length = body.headers.get("content-range"), body.length
    if header is None:
        return Part(0, length, length, is_last=True)
    found = CONTENT_RANGE.fullmatch(header.strip())
    if found is None:
        raise HttpError("the Content-Range must be as in `bytes 0-262143/1000000`, or `bytes */*` to ask.")
    total = None if found[3] == "*" else int(found[3])
    if found[1] is None:
        if not body.is_read:
            raise HttpError("a request with `bytes */...` asks how far the upload is, and has no body.")
        return Part(0, 0, total, is_last=False, is_query=True)
    first, end = int(found[1]), int(found[2]) + 1
    if end <= first or (total is not None and end > total):
        raise HttpError("the Content-Range ends before it begins, or after the whole.")
    if length is not None and length != end - first:
        raise HttpError(f"the Content-Range is {end - first} bytes long, the body {length}.")
    is_last = end == total
    if not is_last and (end - first) % PART_MULTIPLE_BYTES:
        raise HttpError(f"every part but the last must be a multiple of {PART_MULTIPLE_BYTES} bytes.")
    return Part(first, end - first, total, is_last)


def require_sizes(part: Part, ticket: Ticket, max_file_bytes: int) -> None:
    """Refuse a part that belongs to a file of another size than declared, or of one that is too large."""
    declared, end = ticket.spec.size_bytes, part.first + (part.length or 0)
    if max(end, part.total_bytes or 0) > max_file_bytes:
        raise errors.FileTooLargeError(max_file_bytes)
    if declared is not None and part.total_bytes not in {None, declared}:
        raise errors.SizeMismatchError(declared, part.total_bytes or 0)
    if declared is not None and end > declared:
        raise errors.SizeMismatchError(declared, end)


async def receive_part(receipt: Receipt, ticket: Ticket, body: Body, part: Part) -> Response:
    """Receive the bytes of a part; as many as came are kept, whatever ends it."""
    calls, reception = receipt.calls, receipt.reception
    with receipt.admission.stream(ticket.creator.id), receipt.interrupts.watching(body):
        await body.wait()
        receiving = await calls.obtain(lambda: reception.begin(ticket, whole=False), Receiving.leave)
        try:
            with contextlib.closing(Intake(body, receiving)) as intake:
                await fill(intake, body, part)
            # Nothing more can go wrong for the client: what came is kept also if it does not wait for the answer.
            left = await calls.wait(reception.leave, receiving, is_last=part.is_last)
        except (errors.RemoraError, HttpError) as refusal:
            return refused(refusal, await calls.wait(receiving.leave))
        except BaseException:
            calls.behind(receiving.leave)
            raise
    return arrived(left) if part.is_last else incomplete(body, left.committed_size)


async def fill(intake: Intake, body: Body, part: Part) -> None:
    """Put a part's bytes into the upload; what is too much is not taken, what came before the end of a line is."""
    came = 0
    try:
        while data := await body.next():
            came += len(data)
            part.require_within(came)
            await intake.put(data)
    except (ClientDisconnect, HttpError, errors.ShuttingDownError):
        await intake.flush()
        raise
    await intake.flush()
    if part.length is not None and came < part.length:
        raise HttpError(f"only {came} of {part.length} bytes came; go on after those that `Range` names.")


def incomplete(body: Body, committed_size: int) -> Response:
    """Say how many bytes are stored for good, and that more are to come."""
    # In a browser a 308 may be taken for a redirection; Cloud Storage spares it that if it is asked to.
    if body.headers.get("x-guploader-no-308", "").lower() == "yes":
        response = Response(headers={"X-Http-Status-Code-Override": str(INCOMPLETE)})
    else:
        response = Response(status_code=INCOMPLETE)
    return with_range(response, committed_size)


def refused(refusal: errors.RemoraError | HttpError, committed_size: int) -> Response:
    """Say why a part was refused, and where the next one begins."""
    return with_range(response_of(refusal), committed_size)


def with_range(response: Response, committed_size: int) -> Response:
    """Tell what is stored, which is nothing where the header is missing."""
    if committed_size:
        response.headers["Range"] = f"bytes=0-{committed_size - 1}"
    return response

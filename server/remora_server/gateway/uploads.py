"""Uploads to signed URLs, in one piece: a PUT of the raw bytes, or a POST of a form."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from remora_server.core import errors
from remora_server.core.admission import Admission
from remora_server.core.assets import Assets
from remora_server.core.model import Ticket
from remora_server.core.receiving import Receiving
from remora_server.core.reception import Reception
from remora_server.gateway.bodies import Body, Intake, Interrupts
from remora_server.gateway.calls import Calls
from remora_server.gateway.errors import HttpError, SignedUrlInvalidError
from remora_server.gateway.forms import OVERHEAD_BYTES, Form, FormError
from remora_server.gateway.signed_urls import SignedUrls, form_fields, put_headers

CREATE_FILE = "FileService.CreateFile"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What every upload to a signed URL needs."""

    calls: Calls
    urls: SignedUrls
    reception: Reception
    assets: Assets
    admission: Admission
    interrupts: Interrupts


async def put(receipt: Receipt, scope: Scope, body: Body) -> Response:
    """Take the bytes of a ticket in one PUT."""
    permission = receipt.urls.check(scope["method"], scope["raw_path"], scope["query_string"])
    ticket = await receipt.calls.fetch(receipt.reception.awaited, permission.workspace_id, permission.id)
    require_plain(body)
    for name, value in put_headers(ticket):
        if body.headers.getlist(name) != [value]:
            raise SignedUrlInvalidError(f"the header {name} must be sent as it was given: {value}")
    if body.length is not None:
        require_length(receipt, ticket, body.length)

    async def fill(intake: Intake) -> None:
        while data := await body.next():
            await intake.put(data)

    received = await receive_whole(receipt, ticket, body, fill)
    if received.is_asset:
        file = await receipt.calls.wait(receipt.assets.redeem, received.workspace_id, received.id)
        return JSONResponse({"upload_ticket_id": received.id, "file_id": file.id})
    return arrived(received)


async def post(receipt: Receipt, scope: Scope, body: Body) -> Response:
    """Take the bytes of a ticket as the last field of a form."""
    permission = receipt.urls.check(scope["method"], scope["raw_path"], scope["query_string"])
    ticket = await receipt.calls.fetch(receipt.reception.awaited, permission.workspace_id, permission.id)
    require_plain(body)
    form = Form(body.headers.get("content-type", ""), form_fields(ticket))
    if body.length is not None and body.length > receipt.reception.limits.max_file_bytes + OVERHEAD_BYTES:
        raise errors.FileTooLargeError(receipt.reception.limits.max_file_bytes)

    async def fill(intake: Intake) -> None:
        while data := await body.next():
            await intake.put(form.feed(data))
        if not form.is_complete:
            raise FormError("the form ended before its last field, the file.")

    await receive_whole(receipt, ticket, body, fill)
    return Response(status_code=204)


async def receive_whole(
    receipt: Receipt, ticket: Ticket, body: Body, fill: Callable[[Intake], Awaitable[None]]
) -> Ticket:
    """Receive all bytes of a ticket, or nothing."""
    calls, reception = receipt.calls, receipt.reception
    with receipt.admission.stream(ticket.creator.id):
        await body.wait()
        receiving = await calls.obtain(lambda: reception.begin(ticket, whole=True), Receiving.abandon)
        landing = False
        try:
            with contextlib.closing(Intake(body, receiving)) as intake:
                await fill(intake)
                await intake.flush()
            landing = True
            # Once all bytes are there they count, also if the client does not wait for the answer.
            await calls.wait(reception.land, receiving)
        finally:
            if not landing:
                calls.behind(receiving.abandon)
    return receiving.ticket


def require_identity(body: Body) -> None:
    """Refuse bytes that are packed: those that count are those that come."""
    if body.headers.get("content-encoding", "identity") != "identity":
        raise HttpError("the header Content-Encoding is not understood here; send the bytes as they are.")


def require_plain(body: Body) -> None:
    """Refuse anything but all bytes as they are."""
    require_identity(body)
    if "content-range" in body.headers:
        raise HttpError("the header Content-Range is not understood here; send all bytes in one piece.")


def require_length(receipt: Receipt, ticket: Ticket, length: int) -> None:
    """Refuse an announced length that can't be the right one, before any byte is read."""
    most, declared = receipt.reception.limits.max_file_bytes, ticket.spec.size_bytes
    if length > most:
        raise errors.FileTooLargeError(most)
    if declared is not None and length != declared:
        raise errors.SizeMismatchError(declared, length)


def arrived(ticket: Ticket) -> JSONResponse:
    """Say that the bytes are there, and what comes next."""
    return JSONResponse({"upload_ticket_id": ticket.id, "next": CREATE_FILE})

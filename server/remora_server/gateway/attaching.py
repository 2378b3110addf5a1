"""A file that comes as a form with a request of a dialect: streamed into a ticket of the server's own, or not kept."""

from __future__ import annotations

import contextlib
from functools import partial

from remora_server.core.errors import FileTooLargeError, RemoraError
from remora_server.core.intake import Purpose, Taken
from remora_server.core.model import Caller, Checksums, FileSpec, Subject
from remora_server.core.receiving import Receiving
from remora_server.core.tickets import Request
from remora_server.core.uploads import Uploads
from remora_server.gateway.bodies import Body, Intake
from remora_server.gateway.errors import HttpError
from remora_server.gateway.forms import OVERHEAD_BYTES, FileForm, FormError
from remora_server.gateway.route import Visit
from remora_server.gateway.uploads import require_identity

UNNAMED = "file"


class EmptyFileError(HttpError):
    """A file without a byte, where that is taken for a mistake."""

    status = 422

    def __init__(self) -> None:
        super().__init__("the file is empty, and nothing was stored; send the request again, with the whole file.")


async def take_file(visit: Visit, name: str, attach_to: Subject | None, most_bytes: int) -> Taken:
    """Take the one file of a form, a file of its own whatever is there already, and attach it, or keep it for later.

    What it is attached to is known, and the file temporary if it is nothing, in the change that makes the file.
    Nothing is asked of the database before the first byte of the file is there. Bytes are hashed and staged as they
    come, as those of a gRPC stream are, so a request holds a few megabytes whatever it brings.
    """
    require_identity(visit.body)
    form = FileForm(visit.headers.get("content-type", ""))
    length = visit.body.length
    if length is not None and length > most_bytes + OVERHEAD_BYTES:
        raise FileTooLargeError(most_bytes)
    with visit.core.uploading.stream(visit.caller.principal_id):
        first = await _first(form, visit.body)
        spec = FileSpec(name or form.filename.replace("\\", "/").rpartition("/")[2] or UNNAMED)
        request = Request(visit.caller.workspace_id, spec, attach_to=attach_to, registers_at_end=True)
        return await _receive(visit, form, first, request, most_bytes)


async def _first(form: FileForm, body: Body) -> bytes:
    while data := await body.next():
        if content := form.feed(data):
            return content
        if form.has_ended:
            raise EmptyFileError
    raise FormError("the form has no file, or ended before it: one part must have a filename.")


async def _receive(visit: Visit, form: FileForm, first: bytes, request: Request, most_bytes: int) -> Taken:
    calls, caller, core = visit.calls, visit.caller, visit.core
    ticket = (await calls.change(core.tickets.issue, caller, request)).ticket
    assert ticket is not None  # noqa: S101 - no digest was claimed by which an existing file could be found
    receiving: Receiving | None = None
    landing = False
    purpose = Purpose(as_new_file=True, is_temporary=request.attach_to is None)
    try:
        opened = await calls.change(core.tickets.open, caller, ticket.id)
        begin = partial(core.uploads.begin, caller, opened.ticket)
        receiving = await calls.obtain(begin, Receiving.abandon)
        with contextlib.closing(Intake(visit.body, receiving)) as intake:
            content, came = first, 0
            while True:
                came += len(content)
                if came > most_bytes:
                    raise FileTooLargeError(most_bytes)
                await intake.put(content)
                if not (data := await visit.body.next()):
                    break
                content = form.feed(data)
            if not form.is_complete:
                raise FormError("the form ended before its file did; nothing was stored.")
            await intake.flush()
        landing = True
        # Once all bytes are there they count, also if the client does not wait for the answer.
        return await calls.wait(partial(_finish, core.uploads, receiving, caller, purpose))
    finally:
        if not landing:
            calls.behind(partial(_give_up, core.uploads, caller, ticket.id, receiving))


def _finish(uploads: Uploads, receiving: Receiving, caller: Caller, purpose: Purpose) -> Taken:
    try:
        return receiving.finish(Checksums(), None, caller, purpose)
    except RemoraError:
        _give_up(uploads, caller, receiving.ticket.id, receiving)
        raise


def _give_up(uploads: Uploads, caller: Caller, ticket_id: str, receiving: Receiving | None) -> None:
    """Leave nothing of an upload: nobody else knows its ticket, so nobody can go on with it."""
    with contextlib.suppress(RemoraError):  # It may have ended already; and what can't be removed now is swept.
        if receiving is not None:
            receiving.abandon()
        uploads.cancel(caller, ticket_id)

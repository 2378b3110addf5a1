"""Yandex Tracker: attachments, temporary files, links and the changelog of issues, alike under /v2 and /v3."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response

from remora_server.core import errors, ids
from remora_server.core.errors import RemoraError
from remora_server.core.model import Attachment, File, Form, Issue, PreviewState, Subject
from remora_server.core.ports import AttachmentQuery
from remora_server.gateway.attaching import take_file
from remora_server.gateway.downloads import lend
from remora_server.gateway.errors import STATUSES, HttpError
from remora_server.gateway.route import Dialect, Route, Visit
from remora_server.gateway.tracker_shapes import Shapes

SOURCE = "yandex-tracker.md"
ISSUE = "/<version>/issues/<issue>"
TEMPORARY = "/<version>/attachments"
MOST_BYTES = 1024 * 1024 * 1024
LIST_SIZE = 1000
ID_DIGITS = 30  # An id has more digits than that, and a key fewer.
THUMBNAIL_SECONDS, THUMBNAIL_POLL_SECONDS = 10.0, 0.1
NOT_REPEATED = 424
ERRORS: Mapping[type[RemoraError], int] = {kind: status for kind, (status, _) in STATUSES.items()}


def credential(headers: Headers) -> str:
    """Return the key of `Authorization: OAuth` or `Bearer`, which alone names the workspace."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() not in {"oauth", "bearer"} or not token.strip():
        raise errors.TokenMissingError
    return token.strip()


def refusal(problem: RemoraError | HttpError) -> Response:
    """Write a refusal."""
    status = problem.status if isinstance(problem, HttpError) else ERRORS[type(problem)]
    return _told(status, problem.message)


def failure(number: str) -> Response:
    """Write that the mistake is ours."""
    return _told(500, f"internal error {number}; tell the operator this number.")


def reconsidered(method: str, path: str, response: Response) -> Response:
    """Give a refused upload a status after which the client does not send it again.

    The real client repeats a request up to ten times after a 5xx, and after 409 and 429 too if it was told to wait in
    between, without going back to the beginning of the file: what it sends then is an empty one. 424 says that
    something else failed which the request depends on, and the client raises it at once, message and all. Whoever
    calls may begin anew with the file.
    """
    is_upload = method == "POST" and path.rstrip("/").endswith("/attachments")
    if is_upload and (response.status_code >= 500 or response.status_code in {409, 429}):  # noqa: PLR2004
        return _told(NOT_REPEATED, *json.loads(bytes(response.body))["errorMessages"])
    return response


def _told(status: int, message: str) -> JSONResponse:
    told = {"errors": {}, "errorMessages": [message], "statusCode": status}
    return JSONResponse(told, status, headers={"Cache-Control": "no-store"})


async def attach(visit: Visit) -> Response:
    """Attach the file of a form to an issue."""
    given = visit.path["issue"]
    subject = Subject("issue", id=_id(ids.ISSUE, given, "issue")) if _is_id(given) else Subject("issue", key=given)
    taken = await take_file(visit, visit.asked("filename"), subject, MOST_BYTES)
    made = await visit.calls.read(visit.core.attachments.get, visit.caller, taken.attachment_id)
    issue = await _issue(visit)
    return JSONResponse(_shapes(visit).attachment(made, issue.key), 201)


async def list_attachments(visit: Visit) -> Response:
    """List the files on an issue, oldest first."""
    issue = await _issue(visit)
    query, token = AttachmentQuery(visit.caller.workspace_id, kinds=("FILE",)), ""
    found: list[Attachment] = []
    while True:
        page = await visit.calls.read(
            visit.core.attachments.list,
            visit.caller,
            query,
            Subject("issue", id=issue.id),
            page_size=LIST_SIZE,
            page_token=token,
        )
        found += page.items
        token = page.next_page_token
        if not token:
            break
    shapes = _shapes(visit)
    return JSONResponse([shapes.attachment(one, issue.key) for one in reversed(found)])


async def get_attachment(visit: Visit) -> Response:
    """Return one file on an issue."""
    found, issue = await _find_attachment(visit)
    return JSONResponse(_shapes(visit).attachment(found, issue.key))


async def get_content(visit: Visit) -> Response:
    """Send the bytes of a file on an issue, whatever name the path ends with."""
    found, _ = await _find_attachment(visit)
    file = await visit.calls.read(visit.core.files.readable, visit.caller, found.file_id)
    return await _lend(visit, file, Form.ORIGINAL)


async def get_thumbnail(visit: Visit) -> Response:
    """Send a small picture of an image on an issue; wait for one that is being made."""
    end = time.monotonic() + THUMBNAIL_SECONDS
    while True:
        found, _ = await _find_attachment(visit)
        file = await visit.calls.read(visit.core.files.readable, visit.caller, found.file_id)
        if file.preview.kind != "IMAGE":
            raise errors.PreviewUnavailableError
        if file.preview.state is not PreviewState.PENDING or time.monotonic() > end:
            return await _lend(visit, file, Form.THUMBNAIL)
        await asyncio.sleep(THUMBNAIL_POLL_SECONDS)


async def delete_attachment(visit: Visit) -> Response:
    """Remove a file from an issue."""
    found, _ = await _find_attachment(visit)
    await visit.calls.change(visit.core.attachments.delete, visit.caller, found.id)
    return Response(status_code=204)


ROUTES = (
    Route("POST", f"{ISSUE}/attachments", "FileService.UploadFile", attach, SOURCE),
    Route("GET", f"{ISSUE}/attachments", "AttachmentService.ListAttachments", list_attachments, SOURCE),
    Route("GET", f"{ISSUE}/attachments/<attachment>", "AttachmentService.GetAttachment", get_attachment, SOURCE),
    Route(
        "DELETE", f"{ISSUE}/attachments/<attachment>", "AttachmentService.DeleteAttachment", delete_attachment, SOURCE
    ),
    Route("GET", f"{ISSUE}/attachments/<attachment>/<name>", "FileService.ReadFile", get_content, SOURCE),
    Route("GET", f"{ISSUE}/thumbnails/<attachment>", "FileService.ReadFile", get_thumbnail, SOURCE),
)
YANDEX = Dialect(
    "yandex",
    ("/v2/", "/v3/"),
    ROUTES,
    credential,
    refusal,
    failure,
    ends_freely=True,
    reconsidered=reconsidered,
)


def _shapes(visit: Visit) -> Shapes:
    return Shapes(f"{visit.core.public_url}/{visit.path['version']}")


def _is_id(text: str) -> bool:
    return len(text) > ID_DIGITS and text.isascii() and text.isdigit()


def _id(prefix: str, text: str, noun: str) -> str:
    """Return the id of a path; what is no id is not there."""
    try:
        return ids.from_decimal(prefix, text, noun)
    except errors.ValidationFailedError as problem:
        raise errors.NotFoundError(noun, f"{noun}s/{text}") from problem


async def _issue(visit: Visit) -> Issue:
    """Return the issue of the path, which is there by id or key."""
    given, workspace_id = visit.path["issue"], visit.caller.workspace_id
    if _is_id(given):
        issue_id = _id(ids.ISSUE, given, "issue")
        return await visit.calls.read(visit.core.issues.get, visit.caller, workspace_id, issue_id=issue_id)
    return await visit.calls.read(visit.core.issues.get, visit.caller, workspace_id, key=given)


async def _find_attachment(visit: Visit) -> tuple[Attachment, Issue]:
    """Return the live file attachment of the path, if it is on the issue of the path."""
    issue = await _issue(visit)
    attachment_id = _id(ids.ATTACHMENT, visit.path["attachment"], "attachment")
    found = await visit.calls.read(visit.core.attachments.get, visit.caller, attachment_id)
    if found.delete_time is not None or found.file is None or found.subject.id != issue.id:
        raise errors.NotFoundError("attachment", f"attachments/{attachment_id}")
    return found, issue


async def _lend(visit: Visit, file: File, form: Form) -> Response:
    shown = await visit.calls.fetch(visit.core.renditions.of, file, form)
    reader = visit.caller.principal_id
    return await lend(visit.core.shelf, shown, reader, visit.method, visit.headers)

"""Yandex Tracker: attachments, temporary files, links and the changelog of issues, alike under /v2 and /v3."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlencode

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response

from remora_server.core import errors, ids
from remora_server.core.errors import RemoraError, invalid
from remora_server.core.links import LinkDraft
from remora_server.core.model import Attachment, File, Form, Issue, Link, Page, PreviewState, Subject
from remora_server.core.ports import ActivityQuery, AttachmentQuery, IssueQuery
from remora_server.core.values import replace
from remora_server.gateway.attaching import take_file
from remora_server.gateway.downloads import lend
from remora_server.gateway.errors import STATUSES, HttpError
from remora_server.gateway.route import Dialect, Route, Visit
from remora_server.gateway.tracker_shapes import CHANGES, Shapes

Item = TypeVar("Item")
SOURCE = "yandex-tracker.md"
ISSUE = "/<version>/issues/<issue>"
TEMPORARY = "/<version>/attachments"
MOST_BYTES = 1024 * 1024 * 1024
LIST_SIZE, CHANGES_SIZE = 1000, 50
IS_PARENT, IS_SUBTASK, RELATES = "is parent task for", "is subtask for", "RELATES"
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
    query = AttachmentQuery(visit.caller.workspace_id, kinds=("FILE",))

    async def more(token: str) -> Page[Attachment]:
        return await visit.calls.read(
            visit.core.attachments.list,
            visit.caller,
            query,
            Subject("issue", id=issue.id),
            page_size=LIST_SIZE,
            page_token=token,
        )

    shapes = _shapes(visit)
    return JSONResponse([shapes.attachment(one, issue.key) for one in reversed(await _all(more))])


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


async def keep_temporary(visit: Visit) -> Response:
    """Take the file of a form that is attached later, once, within a day."""
    taken = await take_file(visit, visit.asked("filename"), None, MOST_BYTES)
    kept = await visit.calls.change(visit.core.temporary.keep, visit.caller, taken.file.id)
    return JSONResponse(_shapes(visit).temporary(kept), 201)


async def get_temporary(visit: Visit) -> Response:
    """Return a temporary file."""
    return JSONResponse(_shapes(visit).temporary(await _find_temporary(visit)))


async def get_temporary_content(visit: Visit) -> Response:
    """Send the bytes of a temporary file."""
    return await _lend(visit, await _find_temporary(visit), Form.ORIGINAL)


async def get_issue(visit: Visit) -> Response:
    """Return an issue."""
    issue = await _issue(visit)
    return JSONResponse(_shapes(visit).issue(issue, await _parent(visit, issue)))


async def change_issue(visit: Visit) -> Response:
    """Attach temporary files to an issue: the only change of it that can be made here."""
    given = await visit.json()
    file_ids = given.pop("attachmentIds", [])
    if given:
        raise invalid("body", "may have attachmentIds only; an issue is changed where it is kept")
    if not isinstance(file_ids, list):
        raise invalid("attachmentIds", "must be a list")
    numbers = [ids.from_decimal(ids.FILE, str(one), "attachmentIds") for one in file_ids]
    subject = Subject("issue", id=(await _issue(visit)).id)
    await visit.calls.change(visit.core.temporary.attach, visit.caller, subject, numbers)
    return await get_issue(visit)


async def list_fields(visit: Visit) -> Response:
    """List the fields of issues, which the client asks for before it shows any."""
    return JSONResponse(_shapes(visit).fields())


async def list_changes(visit: Visit) -> Response:
    """List what happened to an issue, oldest first, behind the entry that `id` names if it names one."""
    issue, size = await _issue(visit), _size_of(visit)
    types = _types_of(visit)
    if not types:
        return JSONResponse([])
    behind = visit.asked("id")
    page = await visit.calls.read(
        visit.core.log.list,
        visit.caller,
        ActivityQuery(visit.caller.workspace_id, types=types, newest_first=False),
        Subject("issue", id=issue.id),
        page_size=size,
        behind=_id(ids.ACTIVITY, behind, "activity") if behind else "",
    )
    shapes = _shapes(visit)
    response = JSONResponse([shapes.change(one, issue) for one in page.items])
    links = [("first", "")]
    if page.next_page_token:
        links.append(("next", ids.to_decimal(page.items[-1].id)))
    response.headers["Link"] = ", ".join(
        f'<{shapes.changelog_url(issue.key, _query_from(visit, after))}>; rel="{rel}"' for rel, after in links
    )
    return response


async def get_change(visit: Visit) -> Response:
    """Return one thing that happened to an issue."""
    issue = await _issue(visit)
    found = await visit.calls.read(
        visit.core.log.get, visit.caller, _id(ids.ACTIVITY, visit.path["change"], "activity")
    )
    if found.subject is None or found.subject.id != issue.id or found.type not in CHANGES:
        raise errors.NotFoundError("activity", f"activities/{found.id}")
    return JSONResponse(_shapes(visit).change(found, issue))


async def list_links(visit: Visit) -> Response:
    """List the sub-issues of an issue, and the issue that it is one of."""
    issue = await _issue(visit)
    parent = await _parent(visit, issue)
    query = IssueQuery(visit.caller.workspace_id, parent_issue_id=issue.id, include_completed=True)

    async def more(token: str) -> Page[Issue]:
        return await visit.calls.read(
            visit.core.issues.list, visit.caller, query, page_size=LIST_SIZE, page_token=token
        )

    shapes = _shapes(visit)
    found = [] if parent is None else [shapes.link(issue, issue, parent, "inward")]
    return JSONResponse(found + [shapes.link(issue, one, one, "outward") for one in await _all(more)])


async def create_link(visit: Visit) -> Response:
    """Make an issue the sub-issue of another."""
    given, issue = await visit.json(), await _issue(visit)
    relationship, other = given.get("relationship"), given.get("issue")
    if isinstance(other, dict):
        other = other.get("key") or other.get("id")
    if relationship not in (IS_PARENT, IS_SUBTASK):
        raise invalid("relationship", f"must be {IS_PARENT!r} or {IS_SUBTASK!r}: no other is known here")
    if not isinstance(other, str) or not other or not other.isprintable():
        raise invalid("issue", "is required, as the key or id of an issue")
    found = await _issue(visit, other)
    parent, child = (issue, found) if relationship == IS_PARENT else (found, issue)
    await visit.calls.change(
        visit.core.issues.upsert, visit.caller, replace(child, parent_issue_id=parent.id), ("parent_issue_id",)
    )
    direction = "outward" if relationship == IS_PARENT else "inward"
    return JSONResponse(_shapes(visit).link(issue, child, found, direction), 201)


async def delete_link(visit: Visit) -> Response:
    """Make a sub-issue an issue of its own."""
    issue = await _issue(visit)
    child = await visit.calls.read(
        visit.core.issues.get,
        visit.caller,
        visit.caller.workspace_id,
        issue_id=_id(ids.ISSUE, visit.path["link"], "link"),
    )
    if not child.parent_issue_id or issue.id not in {child.id, child.parent_issue_id}:
        raise errors.NotFoundError("link", f"links/{visit.path['link']}")
    await visit.calls.change(
        visit.core.issues.upsert, visit.caller, replace(child, parent_issue_id=""), ("parent_issue_id",)
    )
    return Response(status_code=204)


async def list_remotelinks(visit: Visit) -> Response:
    """List the links of an issue."""
    issue = await _issue(visit)

    async def more(token: str) -> Page[Link]:
        return await visit.calls.read(
            visit.core.links.list,
            visit.caller,
            visit.caller.workspace_id,
            Subject("issue", id=issue.id),
            page_size=LIST_SIZE,
            page_token=token,
        )

    shapes = _shapes(visit)
    return JSONResponse([shapes.remotelink(one, issue.key) for one in reversed(await _all(more))])


async def create_remotelink(visit: Visit) -> Response:
    """Add a link: `key` is its URL, and `origin`, the application, is that URL's host whatever is sent."""
    given, issue = await visit.json(), await _issue(visit)
    if str(given.get("relationship", RELATES)).upper() != RELATES:
        raise invalid("relationship", f"must be {RELATES}: no other is known here")
    url = given.get("key")
    if not isinstance(url, str) or not url:
        raise invalid("key", "is required, as a URL")
    draft = LinkDraft(visit.caller.workspace_id, Subject("issue", id=issue.id), url)
    made, _ = await visit.calls.change(visit.core.links.create, visit.caller, draft)
    return JSONResponse(_shapes(visit).remotelink(made, issue.key), 201)


async def delete_remotelink(visit: Visit) -> Response:
    """Remove a link."""
    issue = await _issue(visit)
    link_id = _id(ids.LINK, visit.path["link"], "link")
    found = await visit.calls.read(visit.core.links.get, visit.caller, link_id)
    if found.subject.id != issue.id:
        raise errors.NotFoundError("link", f"links/{link_id}")
    await visit.calls.change(visit.core.links.delete, visit.caller, link_id)
    return Response(status_code=204)


async def get_user(visit: Visit) -> Response:
    """Return the user of the key; of others there is only what each thing says of who made it."""
    shapes = _shapes(visit)
    told = shapes.whole_user(visit.caller.actor)
    if visit.path.get("user", told["uid"]) != told["uid"]:
        raise errors.NotFoundError("user", f"users/{visit.path['user']}")
    return JSONResponse(told)


FILE_NAME = {"filename": "string"}
LENT = (200, 206, 304)
ROUTES = (
    Route(
        "POST", f"{ISSUE}/attachments", "FileService.UploadFile", attach, SOURCE,
        FILE_NAME, form=True, statuses=(201,),
    ),
    Route("GET", f"{ISSUE}/attachments", "AttachmentService.ListAttachments", list_attachments, SOURCE),
    Route("GET", f"{ISSUE}/attachments/<attachment>", "AttachmentService.GetAttachment", get_attachment, SOURCE),
    Route(
        "DELETE", f"{ISSUE}/attachments/<attachment>", "AttachmentService.DeleteAttachment", delete_attachment, SOURCE,
        statuses=(204,),
    ),
    Route(
        "GET", f"{ISSUE}/attachments/<attachment>/<name>", "FileService.ReadFile", get_content, SOURCE,
        statuses=LENT,
    ),
    Route("GET", f"{ISSUE}/thumbnails/<attachment>", "FileService.ReadFile", get_thumbnail, SOURCE, statuses=LENT),
    Route(
        "POST", TEMPORARY, "FileService.UploadFile", keep_temporary, SOURCE,
        FILE_NAME, form=True, statuses=(201,),
    ),
    Route("GET", f"{TEMPORARY}/<file>", "FileService.GetFile", get_temporary, SOURCE),
    Route(
        "GET", f"{TEMPORARY}/<file>/<name>", "FileService.ReadFile", get_temporary_content, SOURCE,
        statuses=LENT,
    ),
    Route("GET", ISSUE, "IssueService.GetIssue", get_issue, SOURCE),
    Route(
        "PATCH", ISSUE, "AttachmentService.CreateAttachment", change_issue, SOURCE,
        body={"attachmentIds": "strings"},
    ),
    Route("GET", "/<version>/fields", "IssueService.GetIssue", list_fields, SOURCE),
    Route(
        "GET", f"{ISSUE}/changelog", "ActivityService.ListActivities", list_changes, SOURCE,
        {"perPage": "integer", "id": "decimal", "type": "strings", "field": "strings"},
    ),
    Route("GET", f"{ISSUE}/changelog/<change>", "ActivityService.GetActivity", get_change, SOURCE),
    Route("GET", f"{ISSUE}/links", "IssueService.ListIssues", list_links, SOURCE),
    Route(
        "POST", f"{ISSUE}/links", "IssueService.UpsertIssue", create_link, SOURCE,
        body={"relationship*": f"{IS_PARENT}|{IS_SUBTASK}", "issue*": "issue"}, statuses=(201,),
    ),
    Route("DELETE", f"{ISSUE}/links/<link>", "IssueService.UpsertIssue", delete_link, SOURCE, statuses=(204,)),
    Route("GET", f"{ISSUE}/remotelinks", "LinkService.ListLinks", list_remotelinks, SOURCE),
    Route(
        "POST", f"{ISSUE}/remotelinks", "LinkService.CreateLink", create_remotelink, SOURCE,
        body={"relationship": f"{RELATES}|{RELATES.lower()}", "key*": "string", "origin": "string"}, statuses=(201,),
    ),
    Route(
        "DELETE", f"{ISSUE}/remotelinks/<link>", "LinkService.DeleteLink", delete_remotelink, SOURCE,
        statuses=(204,),
    ),
    Route("GET", "/<version>/myself", "CapabilityService.GetCapabilities", get_user, SOURCE),
    Route("GET", "/<version>/users/<user>", "CapabilityService.GetCapabilities", get_user, SOURCE),
)  # fmt: skip
YANDEX = Dialect(
    "yandex",
    ("/v2/", "/v3/"),
    ROUTES,
    credential,
    refusal,
    failure,
    ("oauth", "bearer", "token"),
    ends_freely=True,
    places={"version": "v2|v3", **dict.fromkeys(("attachment", "file", "change", "link", "user"), "decimal")},
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


async def _issue(visit: Visit, named: str = "") -> Issue:
    """Return an issue by id or key, that of the path unless another is named."""
    given, workspace_id = named or visit.path["issue"], visit.caller.workspace_id
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


async def _find_temporary(visit: Visit) -> File:
    file_id = _id(ids.FILE, visit.path["file"], "file")
    try:
        return await visit.calls.read(visit.core.temporary.get, visit.caller, file_id)
    except errors.ValidationFailedError as problem:
        raise errors.NotFoundError("file", f"files/{file_id}") from problem


async def _parent(visit: Visit, issue: Issue) -> Issue | None:
    if not issue.parent_issue_id:
        return None
    get, workspace_id = visit.core.issues.get, visit.caller.workspace_id
    with contextlib.suppress(errors.NotFoundError):  # It may have been deleted since.
        return await visit.calls.read(get, visit.caller, workspace_id, issue_id=issue.parent_issue_id)
    return None


async def _all(more: Callable[[str], Awaitable[Page[Item]]]) -> list[Item]:
    """Return the items of all pages."""
    page = await more("")
    found = list(page.items)
    while page.next_page_token:
        page = await more(page.next_page_token)
        found += page.items
    return found


def _size_of(visit: Visit) -> int:
    text = visit.asked("perPage", str(CHANGES_SIZE))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= LIST_SIZE:
        raise invalid("perPage", f"must be a whole number from 1 to {LIST_SIZE}")
    return int(text)


def _types_of(visit: Visit) -> Sequence[str]:
    """Return which activities are asked for, by the names of this system."""
    types, fields = visit.asked_all("type"), visit.asked_all("field")
    return tuple(
        name
        for name, (type_, field) in CHANGES.items()
        if (not types or type_ in types) and (not fields or field in fields)
    )


def _query_from(visit: Visit, after: str) -> str:
    """Return the query of this request, going on behind another entry."""
    kept = [(name, value) for name, value in visit.query if name != "id"]
    return urlencode([*kept, ("id", after)] if after else kept)


async def _lend(visit: Visit, file: File, form: Form) -> Response:
    shown = await visit.calls.fetch(visit.core.renditions.of, file, form)
    reader = visit.caller.principal_id
    return await lend(visit.core.shelf, shown, reader, visit.method, visit.headers)

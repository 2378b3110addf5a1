"""Yandex Tracker: attachments, temporary files, links and the changelog of issues, alike under /v2 and /v3."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import partial, update_wrapper

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response

from remora_server.core import errors, etags, ids
from remora_server.core.errors import RemoraError, invalid
from remora_server.core.links import LinkDraft
from remora_server.core.model import File, Form, PreviewState, Subject
from remora_server.core.ports import ActivityQuery, AttachmentQuery, IssueQuery
from remora_server.core.values import replace
from remora_server.gateway.attaching import take_file
from remora_server.gateway.downloads import lend
from remora_server.gateway.errors import STATUSES, HttpError, message_of
from remora_server.gateway.route import Dialect, Route, Visit
from remora_server.gateway.tracker_paths import (
    CHANGES_SIZE,
    IS_PARENT,
    IS_SUBTASK,
    LIST_SIZE,
    ORDERS,
    every,
    find_attachment,
    find_linked,
    find_temporary,
    id_of,
    is_id,
    is_newest_first,
    issue_of,
    not_temporary,
    parent_of,
    query_behind,
    relation,
    temporary_ids,
    types_of,
)
from remora_server.gateway.tracker_shapes import Shapes

SOURCE = "yandex-tracker.md"
ISSUE = "/<version>/issues/<issue>"
TEMPORARY = "/<version>/attachments"
RELATES = "RELATES"
THUMBNAIL_SECONDS, FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 10.0, 0.1, 1.0
NOT_REPEATED = 424
ERRORS: Mapping[type[RemoraError], int] = {kind: status for kind, (status, _) in STATUSES.items()}

# What core calls what clients send.
FIELD_NAMES = {
    "spec.name": "filename", "subject.id": "issue", "subject.key": "issue", "issue.parent_issue_id": "issue",
    "url": "key",
}  # fmt: skip


def credential(headers: Headers) -> str:
    """Return the key of `Authorization: OAuth` or `Bearer`, which alone names the workspace."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() not in {"oauth", "bearer"} or not token.strip():
        raise errors.TokenMissingError
    return token.strip()


def refusal(problem: RemoraError | HttpError) -> Response:
    """Write a refusal."""
    status = problem.status if isinstance(problem, HttpError) else ERRORS[type(problem)]
    return _told(status, message_of(problem, FIELD_NAMES))


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


async def attach(max_bytes: int, visit: Visit) -> Response:
    """Attach the file of a form to an issue."""
    given = visit.path["issue"]
    subject = Subject("issue", id=id_of(ids.ISSUE, given, "issue")) if is_id(given) else Subject("issue", key=given)
    taken = await take_file(visit, visit.asked("filename"), subject, max_bytes)
    made = taken.attachment
    assert made is not None  # noqa: S101 - it was taken for the issue
    # Nothing is read any more: whoever is told of a failure begins anew, and would have the file twice.
    return JSONResponse(_shapes(visit).attachment(made, made.subject.key), 201)


async def list_attachments(visit: Visit) -> Response:
    """List the files on an issue, oldest first."""
    issue = await issue_of(visit)
    query = AttachmentQuery(visit.caller.workspace_id, kinds=("FILE",))
    found = await every(visit, visit.core.attachments.list, query, Subject("issue", id=issue.id))
    shapes = _shapes(visit)
    return JSONResponse([shapes.attachment(one, issue.key) for one in reversed(found)])


async def get_attachment(visit: Visit) -> Response:
    """Return one file on an issue."""
    found, issue = await find_attachment(visit)
    return JSONResponse(_shapes(visit).attachment(found, issue.key))


async def get_content(visit: Visit) -> Response:
    """Send the bytes of a file on an issue, whatever name the path ends with."""
    found, _ = await find_attachment(visit)
    file = await visit.calls.read(visit.core.files.readable, visit.caller, found.file_id)
    return await _lend(visit, file, Form.ORIGINAL)


async def get_thumbnail(visit: Visit) -> Response:
    """Send a small picture of an image on an issue; wait for one that is being made."""
    found, _ = await find_attachment(visit)
    end, pause = time.monotonic() + THUMBNAIL_SECONDS, FIRST_PAUSE_SECONDS
    while True:
        file = await visit.calls.read(visit.core.files.readable, visit.caller, found.file_id)
        if file.preview.kind != "IMAGE":
            raise errors.PreviewUnavailableError
        left = end - time.monotonic()
        if file.preview.state is not PreviewState.PENDING or left <= 0:
            return await _lend(visit, file, Form.THUMBNAIL)
        await visit.body.pause(min(pause, left))
        pause = min(2 * pause, MOST_PAUSE_SECONDS)


async def delete_attachment(visit: Visit) -> Response:
    """Remove a file from an issue."""
    found, _ = await find_attachment(visit)
    await visit.calls.change(visit.core.attachments.delete, visit.caller, found.id)
    return Response(status_code=204)


async def keep_temporary(max_bytes: int, visit: Visit) -> Response:
    """Take the file of a form that is attached later, once, within a day."""
    taken = await take_file(visit, visit.asked("filename"), None, max_bytes)
    return JSONResponse(_shapes(visit).temporary(taken.file), 201)


async def get_temporary(visit: Visit) -> Response:
    """Return a temporary file."""
    return JSONResponse(_shapes(visit).temporary(await find_temporary(visit)))


async def get_temporary_content(visit: Visit) -> Response:
    """Send the bytes of a temporary file."""
    return await _lend(visit, await find_temporary(visit), Form.ORIGINAL)


async def get_issue(visit: Visit) -> Response:
    """Return an issue."""
    issue = await issue_of(visit)
    return JSONResponse(_shapes(visit).issue(issue, await parent_of(visit, issue)))


async def change_issue(visit: Visit) -> Response:
    """Attach temporary files to an issue: the only change of it that can be made here; `If-Match` names its version."""
    file_ids = temporary_ids(await visit.json())
    issue, wanted = await issue_of(visit), visit.headers.get("if-match", "")
    etag = "" if wanted == "*" else wanted
    try:
        await visit.calls.change(visit.core.temporary.attach, visit.caller, issue.id, file_ids, etag)
    except errors.NotFoundError as problem:
        raise not_temporary(problem) from problem
    return await get_issue(visit)


async def list_fields(visit: Visit) -> Response:
    """List the fields of issues, which the client asks for before it shows any."""
    return JSONResponse(_shapes(visit).fields())


async def list_changes(visit: Visit) -> Response:
    """List what happened to an issue, oldest first unless `sort` is `desc`, behind the entry that `id` names if any."""
    issue, size = await issue_of(visit), visit.asked_whole("perPage", CHANGES_SIZE, LIST_SIZE)
    types, newest_first = types_of(visit), is_newest_first(visit)
    if not types:
        return JSONResponse([])
    behind = visit.asked("id")
    page = await visit.calls.read(
        visit.core.log.list,
        visit.caller,
        ActivityQuery(visit.caller.workspace_id, types=types, newest_first=newest_first),
        Subject("issue", id=issue.id),
        page_size=size,
        behind=id_of(ids.ACTIVITY, behind, "activity") if behind else "",
    )
    shapes = _shapes(visit)
    response = JSONResponse([shapes.change(one, issue) for one in page.items])
    links = [("first", "")]
    if page.next_page_token:
        links.append(("next", ids.to_decimal(page.items[-1].id)))
    response.headers["Link"] = ", ".join(
        f'<{shapes.changelog_url(issue.key, query_behind(visit, after))}>; rel="{rel}"' for rel, after in links
    )
    return response


async def get_change(visit: Visit) -> Response:
    """Return one thing that happened to an issue."""
    issue = await issue_of(visit)
    found = await visit.calls.read(
        visit.core.log.get, visit.caller, id_of(ids.ACTIVITY, visit.path["change"], "activity")
    )
    if found.subject is None or found.subject.id != issue.id:
        raise errors.NotFoundError("activity", f"activities/{found.id}")
    return JSONResponse(_shapes(visit).change(found, issue))


async def list_links(visit: Visit) -> Response:
    """List the sub-issues of an issue, and the issue that it is one of."""
    issue = await issue_of(visit)
    parent = await parent_of(visit, issue)
    query = IssueQuery(visit.caller.workspace_id, parent_issue_id=issue.id, include_completed=True)
    children = await every(visit, visit.core.issues.list, query)
    shapes = _shapes(visit)
    found = [] if parent is None else [shapes.link(issue, issue, parent, "inward")]
    return JSONResponse(found + [shapes.link(issue, one, one, "outward") for one in children])


async def create_link(visit: Visit) -> Response:
    """Make an issue the sub-issue of another."""
    (relationship, other), issue = relation(await visit.json()), await issue_of(visit)
    found = await issue_of(visit, other)
    parent, child = (issue, found) if relationship == IS_PARENT else (found, issue)
    await visit.calls.change(
        visit.core.issues.upsert, visit.caller, replace(child, parent_issue_id=parent.id), ("parent_issue_id",)
    )
    direction = "outward" if relationship == IS_PARENT else "inward"
    return JSONResponse(_shapes(visit).link(issue, child, found, direction), 201)


async def get_link(visit: Visit) -> Response:
    """Return what an issue has to do with a sub-issue, or its own parent."""
    issue = await issue_of(visit)
    child, other = await find_linked(visit, issue)
    return JSONResponse(_shapes(visit).link(issue, child, other, "outward" if other is child else "inward"))


async def delete_link(visit: Visit) -> Response:
    """Make a sub-issue an issue of its own."""
    child, _ = await find_linked(visit, await issue_of(visit))
    await visit.calls.change(
        visit.core.issues.upsert, visit.caller, replace(child, parent_issue_id=""), ("parent_issue_id",),
        etags.etag_of(child.version),
    )  # fmt: skip
    return Response(status_code=204)


async def list_remotelinks(visit: Visit) -> Response:
    """List the links of an issue."""
    issue = await issue_of(visit)
    subject = Subject("issue", id=issue.id)
    found = await every(visit, visit.core.links.list, visit.caller.workspace_id, subject)
    shapes = _shapes(visit)
    return JSONResponse([shapes.remotelink(one, issue.key) for one in reversed(found)])


async def create_remotelink(visit: Visit) -> Response:
    """Add a link: `key` is its URL, and `origin`, the application, is that URL's host whatever is sent."""
    given, issue = await visit.json(), await issue_of(visit)
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
    issue = await issue_of(visit)
    link_id = id_of(ids.LINK, visit.path["link"], "link")
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
        {"perPage": "integer", "id": "decimal", "type": "strings", "field": "strings", "sort": "|".join(ORDERS)},
    ),
    Route("GET", f"{ISSUE}/changelog/<change>", "ActivityService.GetActivity", get_change, SOURCE),
    Route("GET", f"{ISSUE}/links", "IssueService.ListIssues", list_links, SOURCE),
    Route(
        "POST", f"{ISSUE}/links", "IssueService.UpsertIssue", create_link, SOURCE,
        body={"relationship*": f"{IS_PARENT}|{IS_SUBTASK}", "issue*": "issue"}, statuses=(201,),
    ),
    Route("GET", f"{ISSUE}/links/<link>", "IssueService.GetIssue", get_link, SOURCE),
    Route("DELETE", f"{ISSUE}/links/<link>", "IssueService.UpsertIssue", delete_link, SOURCE, statuses=(204,)),
    Route("GET", f"{ISSUE}/remotelinks", "LinkService.ListLinks", list_remotelinks, SOURCE),
    Route(
        "POST", f"{ISSUE}/remotelinks", "LinkService.CreateLink", create_remotelink, SOURCE,
        body={"relationship": "string", "key*": "string", "origin": "string"}, statuses=(201,),
    ),
    Route(
        "DELETE", f"{ISSUE}/remotelinks/<link>", "LinkService.DeleteLink", delete_remotelink, SOURCE,
        statuses=(204,),
    ),
    Route("GET", "/<version>/myself", "CapabilityService.GetCapabilities", get_user, SOURCE),
    Route("GET", "/<version>/users/<user>", "CapabilityService.GetCapabilities", get_user, SOURCE),
)  # fmt: skip


def yandex(max_bytes: int) -> Dialect:
    """Return the dialect with the setting that it has: how large a file may be."""
    uploads = tuple(
        Route(
            "POST", path, "FileService.UploadFile", update_wrapper(partial(take, max_bytes), take), SOURCE,
            FILE_NAME, form=True, statuses=(201,),
        )
        for path, take in ((f"{ISSUE}/attachments", attach), (TEMPORARY, keep_temporary))
    )  # fmt: skip
    return Dialect(
        "yandex",
        ("/v2/", "/v3/"),
        (*uploads, *ROUTES),
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


async def _lend(visit: Visit, file: File, form: Form) -> Response:
    shown = await visit.calls.fetch(visit.core.renditions.of, file, form)
    reader = visit.caller.principal_id
    return await lend(visit.core.shelf, shown, reader, visit.method, visit.headers)

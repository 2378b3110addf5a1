"""Quantify: activity, attachments, links and sub-issues of an issue, under /v1."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, RedirectResponse, Response

from remora_server.core import errors, ids
from remora_server.core.errors import RemoraError, invalid
from remora_server.core.links import LinkDraft
from remora_server.core.model import Activity, Assignee, Attachment, Form, Issue, Link, Micros, Page, Subject
from remora_server.core.ports import ActivityQuery, AttachmentQuery, IssueQuery
from remora_server.core.values import replace
from remora_server.gateway.errors import STATUSES, HttpError, message_of
from remora_server.gateway.route import Dialect, Route, Visit

SOURCE = "quantify.md"
ISSUE = "/v1/issues/<issue>"
MAX_PAGE_SIZE = 100
SECOND: Micros = 1_000_000
UTC = dt.UTC
COUNT = re.compile(r"\d{1,9}", re.ASCII)
BAD_CURSOR = errors.PageTokenInvalidError("cursor").message
# What there is to see, as numbers. The document has only that of a PDF.
PREVIEW_KINDS = {"": 0, "IMAGE": 1, "PDF": 2, "TEXT": 3, "VIDEO": 4, "AUDIO": 5}
PRINCIPAL_KINDS = {"USER": 0, "APP": 1, "SYSTEM": 2}
ICONS = {
    "attachment": "fa-regular fa-paperclip",
    "file": "fa-regular fa-file",
    "link": "fa-regular fa-link",
    "issue": "fa-regular fa-pen-to-square",
}
ANY_ICON = "fa-regular fa-clock"
VERBS = {
    "attachment.created": "attached {}",
    "attachment.updated": "updated the attachment {}",
    "attachment.archived": "archived the attachment {}",
    "attachment.unarchived": "brought back the attachment {}",
    "attachment.deleted": "removed the attachment {}",
    "attachment.undeleted": "restored the attachment {}",
    "link.created": "added the link {}",
    "link.updated": "changed the link {}",
    "link.deleted": "removed the link {}",
    "issue.created": "created the issue",
    "issue.updated": "updated the issue",
    "issue.deleted": "deleted the issue",
}

# The code of each status; 400 and 404 have their own words in the document.
CODES = {
    400: "validation_failed",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    412: "conflict",
    413: "too_large",
    429: "rate_limited",
    503: "unavailable",
}
ERRORS: Mapping[type[RemoraError], int] = {
    **{kind: status for kind, (status, _) in STATUSES.items()},
    errors.PageTokenInvalidError: 400,
}

FIELD_NAMES = {"subject.key": "issue"}  # What core calls what clients send.


def credential(headers: Headers) -> str:
    """Return the key that comes as `Authorization: Bearer`."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise errors.TokenMissingError
    return token.strip()


def widened(scopes: frozenset[str]) -> frozenset[str]:
    """Return what scopes mean here: `issues:read` covers all that is read, `issues:write` all that is written too."""
    read = {"attachments:read", "files:read", "links:read", "activity:read", "issues:read"}
    written = {"attachments:write", "files:write", "links:write", "issues:write"}
    if "issues:write" in scopes:
        return scopes | read | written
    return scopes | read if "issues:read" in scopes else scopes


def refusal(problem: RemoraError | HttpError) -> Response:
    """Write a refusal; the document has no body for any, only the word `not_found`."""
    status = problem.status if isinstance(problem, HttpError) else ERRORS[type(problem)]
    message = BAD_CURSOR if isinstance(problem, errors.PageTokenInvalidError) else message_of(problem, FIELD_NAMES)
    return _told(status, CODES.get(status, "error"), message)


def failure(number: str) -> Response:
    """Write that the mistake is ours."""
    return _told(500, "internal", f"internal error {number}; tell the operator this number.")


def _told(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers={"Cache-Control": "no-store"})


async def list_activity(visit: Visit) -> Response:
    """List what happened to an issue, newest first."""
    query = ActivityQuery(
        visit.caller.workspace_id,
        actor_ids=visit.asked_all("actor_user_account_id"),
        types=visit.asked_all("event_type"),
        occurred_from=_time(visit, "from_utc"),
        occurred_to=_time(visit, "to_utc"),
    )
    size, cursor = _page_of(visit)
    before, token = _counted(cursor)
    page = await visit.calls.read(
        visit.core.log.list,
        visit.caller,
        query,
        _issue(visit),
        page_size=size,
        page_token=token,
        include_total_size=True,
    )
    results = [_activity(one, place) for place, one in enumerate(page.items, before + 1)]
    if page.next_page_token:
        page = replace(page, next_page_token=f"{before + len(results)}.{page.next_page_token}")
    return _listed(visit, page, results)


async def list_attachments(visit: Visit) -> Response:
    """List the files on an issue."""
    query = AttachmentQuery(
        visit.caller.workspace_id,
        kinds=("FILE",),
        content_types=visit.asked_all("content_type"),
        created_by=visit.asked("created_by_user_account_id"),
    )
    size, cursor = _page_of(visit)
    page = await visit.calls.read(
        visit.core.attachments.list,
        visit.caller,
        query,
        _issue(visit),
        page_size=size,
        page_token=cursor,
        include_total_size=True,
    )
    return _listed(visit, page, [_attachment(one, visit.path["issue"]) for one in page.items])


async def get_attachment(visit: Visit) -> Response:
    """Return one file on an issue."""
    return JSONResponse(_attachment(await _find_attachment(visit), visit.path["issue"]))


async def get_content(visit: Visit) -> Response:
    """Redirect to a signed URL of a file's bytes."""
    return await _redirect(visit, Form.ORIGINAL)


async def get_preview(visit: Visit) -> Response:
    """Redirect to a signed URL of a file's preview."""
    return await _redirect(visit, Form.PREVIEW)


async def list_links(visit: Visit) -> Response:
    """List the links of an issue."""
    size, cursor = _page_of(visit)
    page = await visit.calls.read(
        visit.core.links.list,
        visit.caller,
        visit.caller.workspace_id,
        _issue(visit),
        page_size=size,
        page_token=cursor,
        include_total_size=True,
    )
    return _listed(visit, page, [_link(one) for one in page.items])


async def create_link(visit: Visit) -> Response:
    """Add a link: 201, or 200 with the one that is there, whatever its title."""
    given = await visit.json()
    draft = LinkDraft(visit.caller.workspace_id, _issue(visit), _text(given, "url"), _text(given, "title"))
    link, created = await visit.calls.change(visit.core.links.create, visit.caller, draft)
    return JSONResponse(_link(link), 201 if created else 200)


async def delete_link(visit: Visit) -> Response:
    """Remove a link."""
    link = await visit.calls.read(visit.core.links.get, visit.caller, _id(visit, ids.LINK, "link"))
    await _require_issue(visit, link.subject, "link", visit.path["link"])
    await visit.calls.change(visit.core.links.delete, visit.caller, link.id)
    return Response(status_code=204)


async def list_subissues(visit: Visit) -> Response:
    """List the sub-issues of an issue."""
    parent = await visit.calls.read(
        visit.core.issues.get, visit.caller, visit.caller.workspace_id, key=visit.path["issue"]
    )
    query = IssueQuery(
        visit.caller.workspace_id,
        parent_issue_id=parent.id,
        status_ids=visit.asked_all("status_id"),
        assignee_ids=visit.asked_all("assignee_user_account_id"),
        include_completed=_truth(visit, "include_completed", default=True),
    )
    size, cursor = _page_of(visit)
    page = await visit.calls.read(
        visit.core.issues.list, visit.caller, query, page_size=size, page_token=cursor, include_total_size=True
    )
    return _listed(visit, page, [_subissue(one) for one in page.items])


PAGE = {"cursor": "string", "page_size": "integer"}
ROUTES = (
    Route(
        "GET", f"{ISSUE}/activity", "ActivityService.ListActivities", list_activity, SOURCE,
        {**PAGE, "actor_user_account_id": "string", "event_type": "string", "from_utc": "time", "to_utc": "time"},
    ),
    Route(
        "GET", f"{ISSUE}/attachments", "AttachmentService.ListAttachments", list_attachments, SOURCE,
        {**PAGE, "content_type": "string", "created_by_user_account_id": "string"},
    ),
    Route("GET", f"{ISSUE}/attachments/<attachment>", "AttachmentService.GetAttachment", get_attachment, SOURCE),
    Route(
        "GET", f"{ISSUE}/attachments/<attachment>/content", "FileService.GetFileDownloadUrl", get_content, SOURCE,
        statuses=(302,),
    ),
    Route(
        "GET", f"{ISSUE}/attachments/<attachment>/preview", "FileService.GetFileDownloadUrl", get_preview, SOURCE,
        statuses=(302,),
    ),
    Route("GET", f"{ISSUE}/links", "LinkService.ListLinks", list_links, SOURCE, PAGE),
    Route(
        "POST", f"{ISSUE}/links", "LinkService.CreateLink", create_link, SOURCE,
        body={"url*": "string", "title*": "string"}, statuses=(200, 201),
    ),
    Route("DELETE", f"{ISSUE}/links/<link>", "LinkService.DeleteLink", delete_link, SOURCE, statuses=(204,)),
    Route(
        "GET", f"{ISSUE}/subissues", "IssueService.ListIssues", list_subissues, SOURCE,
        {**PAGE, "status_id": "strings", "assignee_user_account_id": "strings", "include_completed": "boolean"},
    ),
)  # fmt: skip
QUANTIFY = Dialect("quantify", ("/v1/",), ROUTES, credential, refusal, failure, ("bearer", "token"), widened)


def _issue(visit: Visit) -> Subject:
    return Subject("issue", key=visit.path["issue"])


def _id(visit: Visit, prefix: str, noun: str) -> str:
    """Return the id of the path; what is no id is not there."""
    try:
        return ids.parse(prefix, visit.path[noun], noun)
    except errors.ValidationFailedError as problem:
        raise errors.NotFoundError(noun, f"{noun}s/{visit.path[noun]}") from problem


async def _find_attachment(visit: Visit) -> Attachment:
    """Return the live file attachment of the path, if it is on the issue of the path."""
    attachment_id = _id(visit, ids.ATTACHMENT, "attachment")
    found = await visit.calls.read(visit.core.attachments.get, visit.caller, attachment_id)
    if found.delete_time is not None or found.file is None:
        raise errors.NotFoundError("attachment", f"attachments/{attachment_id}")
    await _require_issue(visit, found.subject, "attachment", attachment_id)
    return found


async def _require_issue(visit: Visit, subject: Subject, noun: str, id_: str) -> None:
    issue = await visit.calls.read(
        visit.core.issues.get, visit.caller, visit.caller.workspace_id, key=visit.path["issue"]
    )
    if subject.id != issue.id:
        raise errors.NotFoundError(noun, f"{noun}s/{id_}")


async def _redirect(visit: Visit, form: Form) -> Response:
    found = await _find_attachment(visit)
    made = await visit.calls.wait(visit.core.downloads.offer, visit.caller, found.file_id, form=form, from_here=True)
    return RedirectResponse(made.url, 302, headers={"Cache-Control": "no-store"})


def _page_of(visit: Visit) -> tuple[int, str]:
    """Return how many items are asked for, and after which."""
    return visit.asked_whole("page_size", MAX_PAGE_SIZE, MAX_PAGE_SIZE), visit.asked("cursor")


def _counted(cursor: str) -> tuple[int, str]:
    """Return how many activities came before a cursor, so that the next are counted on, and the token in it."""
    if not cursor:
        return 0, ""
    count, _, token = cursor.partition(".")
    if not COUNT.fullmatch(count) or not token:
        raise errors.PageTokenInvalidError("cursor")
    return int(count), token


def _listed(visit: Visit, page: Page[Any], results: list[dict[str, Any]]) -> Response:
    size, cursor = _page_of(visit)
    pagination = {
        "pageSize": size,
        "cursor": cursor,
        "nextCursor": page.next_page_token,
        "hasMore": bool(page.next_page_token),
        "returnedCount": len(results),
        "totalCount": page.total_size or 0,
    }
    return JSONResponse({"results": results, "pagination": pagination})


def _time(visit: Visit, name: str) -> Micros | None:
    text = visit.asked(name)
    if not text:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
        # A time without a zone is one of UTC, as the parameter's name says.
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * SECOND)
    except (ValueError, OverflowError) as problem:
        raise invalid(name, "must be a time such as 2026-01-02T03:04:05Z") from problem


def _truth(visit: Visit, name: str, *, default: bool) -> bool:
    text = visit.asked(name).lower()
    if text not in {"", "true", "false"}:
        raise invalid(name, "must be true or false")
    return default if not text else text == "true"


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise invalid(name, "is required, as a text")
    return value


def _utc(time: Micros) -> str:
    return dt.datetime.fromtimestamp(time // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _activity(one: Activity, place: int) -> dict[str, Any]:
    resource = one.type.partition(".")[0]
    told = VERBS.get(one.type.rpartition(".")[0], "changed this issue")
    thing = one.payload.get(resource)
    name = thing.get("title") or thing.get("name") or thing.get("url") or "" if isinstance(thing, dict) else ""
    who = one.actor.display_name or "Somebody"
    return {
        "id": one.id,
        "eventType": one.type,
        "actorUserAccountId": one.actor.id,
        "occurredUtc": _utc(one.occur_time),
        "sortOrder": place,
        "iconCss": ICONS.get(resource, ANY_ICON),
        "text": f"{who} {told.format(name)}".rstrip() + ".",
    }


def _attachment(one: Attachment, issue_key: str) -> dict[str, Any]:
    file = one.file
    if file is None:
        raise errors.NotFoundError("attachment", f"attachments/{one.id}")
    path = f"{ISSUE.replace('<issue>', issue_key)}/attachments/{one.id}"
    available = file.preview.state.value == "READY"
    return {
        "id": one.id,
        "fileName": file.name,
        "contentType": file.content_type,
        "sizeBytes": file.size_bytes,
        "uploadedByUserAccountId": file.creator.id,
        "uploadedByDisplayName": file.creator.display_name,
        "uploadedUtc": _utc(file.create_time),
        "downloadUrl": f"{path}/content",
        "previewUrl": f"{path}/preview",
        "isPreviewAvailable": available,
        "previewKind": PREVIEW_KINDS[file.preview.kind] if available else 0,
        "codeLanguage": file.media.code_language,
    }


def _link(one: Link) -> dict[str, Any]:
    return {"linkId": one.id, "id": one.id, "url": one.url, "title": one.title, "createdUtc": _utc(one.create_time)}


def _subissue(one: Issue) -> dict[str, Any]:
    first = one.assignees[0] if one.assignees else Assignee("")
    return {
        "issueId": one.id,
        "issueKey": one.key,
        "title": one.title,
        "detailsUrl": f"/issues/{one.key}",
        "statusId": one.status.id,
        "statusName": one.status.name,
        "statusColor": one.status.color,
        "isCompleted": one.completed,
        "primaryAssigneeUserAccountId": first.id,
        "primaryAssigneeDisplayName": first.display_name,
        "primaryAssigneeAvatarUrl": first.avatar_url,
        "primaryAssigneePrincipalKind": PRINCIPAL_KINDS.get(first.kind, 0),
    }

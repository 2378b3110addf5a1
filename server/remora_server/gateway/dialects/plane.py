"""Plane: attachments in three steps, links, activities and work items of a project, under /api/v1."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial, update_wrapper
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, RedirectResponse, Response

from remora_server.core import errors
from remora_server.core.errors import RemoraError
from remora_server.core.links import LinkDraft
from remora_server.core.model import Activity, Attachment, Checksums, Link, Page, Subject, Ticket
from remora_server.core.ports import ActivityQuery, AttachmentQuery
from remora_server.core.tickets import Request
from remora_server.gateway import plane_objects as objects
from remora_server.gateway.errors import STATUSES, HttpError, RouteNotFoundError
from remora_server.gateway.plane_bodies import PlaneError, Uploads, announced, link_title, link_url, told_of
from remora_server.gateway.plane_objects import Place
from remora_server.gateway.plane_pages import MAX_PAGE_SIZE, enveloped
from remora_server.gateway.plane_views import assignee, state, user, view
from remora_server.gateway.rates import Rate, RateExceededError
from remora_server.gateway.route import Dialect, Route, Visit

SOURCE = "plane.md"
WORKSPACE = "/api/v1/workspaces/<workspace>"
NEW = f"{WORKSPACE}/projects/<project>/work-items/<issue>/"
OLD = f"{WORKSPACE}/projects/<project>/issues/<issue>/"
OLD_FILES = "issue-attachments/"
FORM = "HTTP_POST_FORM"
UPLOAD = {
    "name*": "string", "type*": "string", "size*": "integer", "external_id": "string", "external_source": "string",
}  # fmt: skip
VIEW = {"fields": "string", "expand": "string"}
PAGE = {"per_page": "integer", "cursor": "string", "order_by": "created_at|-created_at", **VIEW}
PLACES = dict.fromkeys(("project", "issue", "attachment", "link", "activity"), "uuid")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
# Every other event of an issue is none of Plane's.
EVENTS = tuple(objects.EVENTS)

NO_KEY = {"detail": "Authentication credentials were not provided."}
BAD_KEY = {"detail": "Given API token is not valid"}
NOT_THERE = {"error": "The requested resource does not exist."}
NO_ACTIVITY = {"message": "Activity not found.", "code": "NOT_FOUND"}
NOT_UPLOADED = {"error": "The asset is not uploaded.", "status": False}
BAD_URL = {"url": ["Invalid URL format."]}
SAME_URL = {"error": "URL already exists for this Issue"}
SAME_REFERENCE = "Issue with the same external id and external source already exists"
# An upload that these end has not brought the file.
INCOMPLETE = (
    errors.UploadIncompleteError,
    errors.SizeMismatchError,
    errors.UploadTicketClosedError,
    errors.UploadTicketExpiredError,
)
RATE_EXCEEDED = {"error_code": 5900, "error_message": "RATE_LIMIT_EXCEEDED"}
ERRORS: Mapping[type[Exception], tuple[int, Mapping[str, Any]]] = {
    errors.TokenMissingError: (403, BAD_KEY),
    errors.TokenExpiredError: (403, BAD_KEY),
    errors.UrlNotAllowedError: (400, BAD_URL),
    errors.LinkUrlExistsError: (400, SAME_URL),
    RateExceededError: (429, RATE_EXCEEDED),
}
FAILED = "Something went wrong please try again later"


def credential(headers: Headers) -> str:
    """Return the key that comes as `X-Api-Key`, or as `Authorization: Bearer`."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    key = headers.get("x-api-key", "").strip() or (token.strip() if scheme.lower() == "bearer" else "")
    if not key:
        raise PlaneError(401, NO_KEY)
    return key


def refusal(problem: RemoraError | HttpError) -> Response:
    """Write a refusal, each kind in the form that Plane has for it."""
    if isinstance(problem, PlaneError):
        return _told(problem.status, problem.body)
    if isinstance(problem, errors.ExternalRefExistsError):
        return _told(409, {"error": SAME_REFERENCE, "id": objects.uuid(problem.metadata["attachment_id"])})
    if type(problem) in ERRORS:
        return _told(*ERRORS[type(problem)])
    if isinstance(problem, errors.ValidationFailedError):
        return _told(400, told_of(problem))
    status = problem.status if isinstance(problem, HttpError) else STATUSES[type(problem)][0]
    if status == HTTPStatus.NOT_FOUND:
        return _told(status, NOT_THERE)
    return _told(status, {"detail" if isinstance(problem, HttpError) else "error": problem.message})


def failure(number: str) -> Response:
    """Write that the mistake is ours."""
    return _told(500, {"error": f"{FAILED} ({number})"})


def _told(status: int, body: Mapping[str, Any]) -> JSONResponse:
    return JSONResponse(dict(body), status, headers={"Cache-Control": "no-store"})


async def create_attachment(uploads: Uploads, visit: Visit) -> Response:
    """Begin an upload: the form to send the bytes by, and the attachment that will be."""
    place = await _place(visit)
    spec = announced(await visit.json(), uploads)
    # Once more, and this time for good, when the bytes are there.
    await visit.calls.read(visit.core.attachments.require_new_ref, visit.caller, _subject(place), spec.external_ref)
    wanted = Request(visit.caller.workspace_id, spec, FORM, _subject(place), skip_existing_check=True)
    issued = await visit.calls.change(visit.core.tickets.issue, visit.caller, wanted)
    ticket = issued.ticket
    assert ticket is not None  # noqa: S101 - there was no looking for what is there already
    form = await visit.calls.wait(visit.core.transfers.offer_upload, ticket)
    attachment = objects.pending(place, ticket)
    path = visit.path
    return JSONResponse(
        {
            "upload_data": {
                "url": form.url,
                "fields": {name: value for name, value in form.form_data if value != "@file"},
            },
            "asset_id": attachment["id"],
            "asset_url": f"/api/assets/v2/workspaces/{path['workspace']}/projects/{attachment['project']}"
            f"/issues/{attachment['issue']}/attachments/{attachment['id']}/",
            "attachment": attachment,
        }
    )


async def complete_attachment(visit: Visit) -> Response:
    """Make an attachment of bytes that were uploaded; repeating it changes nothing."""
    place = await _place(visit)
    found = await visit.calls.read(_found, visit, place)
    if isinstance(found, Attachment):
        return Response(status_code=204)
    try:
        await visit.calls.wait(
            visit.core.arrivals.create_file, visit.caller, found.id, Checksums(), None, None, as_new_file=True
        )
    except INCOMPLETE as problem:
        raise PlaneError(400, NOT_UPLOADED) from problem
    return Response(status_code=204)


async def list_attachments(visit: Visit) -> Response:
    """List the files on a work item, newest first, all at once."""
    place = await _place(visit)
    return JSONResponse([objects.attachment(place, one) for one in await visit.calls.read(_all, visit, place)])


async def get_attachment(visit: Visit) -> Response:
    """Redirect to a signed URL of a file's bytes."""
    place = await _place(visit)
    found = await visit.calls.read(_found, visit, place)
    if isinstance(found, Ticket):
        raise PlaneError(400, NOT_UPLOADED)
    made = await visit.calls.wait(visit.core.downloads.offer, visit.caller, found.file_id, from_here=True)
    return RedirectResponse(made.url, 302, headers={"Cache-Control": "no-store"})


async def delete_attachment(visit: Visit) -> Response:
    """Remove a file from a work item, or give up its upload."""
    place = await _place(visit)
    found = await visit.calls.read(_found, visit, place)
    if isinstance(found, Attachment):
        await visit.calls.change(visit.core.attachments.delete, visit.caller, found.id)
    else:
        await visit.calls.wait(visit.core.uploads.cancel, visit.caller, found.id)
    return Response(status_code=204)


async def list_links(visit: Visit) -> Response:
    """List the links of a work item, newest first."""
    place = await _place(visit)

    def listing(size: int, token: str) -> Page[Link]:
        return visit.core.links.list(
            visit.caller,
            visit.caller.workspace_id,
            _subject(place),
            page_size=size,
            page_token=token,
            include_total_size=True,
        )

    is_ascending = visit.asked("order_by") == "created_at"
    return await enveloped(visit, listing, lambda one: _link_shown(visit, place, one), backwards=is_ascending)


async def create_link(visit: Visit) -> Response:
    """Add a link; a second one with the same URL is refused."""
    place = await _place(visit)
    given = await visit.json()
    draft = LinkDraft(visit.caller.workspace_id, _subject(place), link_url(given), link_title(given))
    link, created = await visit.calls.change(visit.core.links.create, visit.caller, draft)
    if not created:
        raise PlaneError(400, SAME_URL)
    return JSONResponse(objects.link(place, link), 201)


async def get_link(visit: Visit) -> Response:
    """Return a link."""
    place = await _place(visit)
    return JSONResponse(_link_shown(visit, place, await visit.calls.read(_link, visit, place)))


async def update_link(visit: Visit) -> Response:
    """Change a link's URL or title."""
    place = await _place(visit)
    given = await visit.json()
    link = await visit.calls.read(_link, visit, place)
    mask = [name for name in ("url", "title") if name in given]
    url = link_url(given) if "url" in given else ""
    draft = LinkDraft(visit.caller.workspace_id, link.subject, url, link_title(given))
    if mask:
        link = await visit.calls.change(visit.core.links.update, visit.caller, link.id, draft, mask)
    return JSONResponse(objects.link(place, link))


async def delete_link(visit: Visit) -> Response:
    """Remove a link."""
    place = await _place(visit)
    link = await visit.calls.read(_link, visit, place)
    await visit.calls.change(visit.core.links.delete, visit.caller, link.id)
    return Response(status_code=204)


async def list_activities(visit: Visit) -> Response:
    """List what happened to a work item, oldest first."""
    place = await _place(visit)
    is_newest_first = visit.asked("order_by") == "-created_at"
    query = ActivityQuery(visit.caller.workspace_id, types=EVENTS, newest_first=is_newest_first)

    def listing(size: int, token: str) -> Page[Activity]:
        return visit.core.log.list(
            visit.caller, query, _subject(place), page_size=size, page_token=token, include_total_size=True
        )

    return await enveloped(visit, listing, lambda one: _activity_shown(visit, place, one))


async def get_activity(visit: Visit) -> Response:
    """Return one thing that happened to a work item."""
    place = await _place(visit)
    try:
        found = await visit.calls.read(visit.core.log.get, visit.caller, _uuid(visit, "activity"))
    except errors.NotFoundError as problem:
        raise PlaneError(404, NO_ACTIVITY) from problem
    if found.type not in EVENTS or found.subject is None or found.subject.id != place.issue.id:
        raise PlaneError(404, NO_ACTIVITY)
    return JSONResponse(_activity_shown(visit, place, found))


async def get_work_item(visit: Visit) -> Response:
    """Return a work item by its id."""
    return JSONResponse(_work_item_shown(visit, await _place(visit)))


async def get_work_item_by_key(visit: Visit) -> Response:
    """Return a work item by its key, the project's and a number."""

    def find() -> Place:
        issue = visit.core.issues.get(visit.caller, visit.path["workspace"], key=visit.path["key"])
        return Place(visit.core.projects.of_issue(visit.caller, issue), issue)

    _require_workspace(visit)
    return JSONResponse(_work_item_shown(visit, await visit.calls.read(find)))


def routes(uploads: Uploads) -> tuple[Route, ...]:
    """Return all there is, each path under the two names that Plane has had for it."""
    files, links, log = f"{NEW}attachments/", f"{NEW}links/", f"{NEW}activities/"
    create = update_wrapper(partial(create_attachment, uploads), create_attachment)
    new = (
        Route("POST", files, "UploadTicketService.CreateUploadTicket", create, SOURCE, body=UPLOAD),
        Route("GET", files, "AttachmentService.ListAttachments", list_attachments, SOURCE),
        Route("PATCH", f"{files}<attachment>/", "FileService.CreateFile", complete_attachment, SOURCE, statuses=(204,)),
        Route(
            "GET", f"{files}<attachment>/", "FileService.GetFileDownloadUrl", get_attachment, SOURCE,
            statuses=(302,),
        ),
        Route(
            "DELETE", f"{files}<attachment>/", "AttachmentService.DeleteAttachment", delete_attachment, SOURCE,
            statuses=(204,),
        ),
        Route("GET", links, "LinkService.ListLinks", list_links, SOURCE, PAGE),
        Route(
            "POST", links, "LinkService.CreateLink", create_link, SOURCE,
            body={"url*": "string", "title": "string"}, statuses=(201,),
        ),
        Route("GET", f"{links}<link>/", "LinkService.GetLink", get_link, SOURCE, VIEW),
        Route(
            "PATCH", f"{links}<link>/", "LinkService.UpdateLink", update_link, SOURCE,
            body={"url": "string", "title": "string"},
        ),
        Route("DELETE", f"{links}<link>/", "LinkService.DeleteLink", delete_link, SOURCE, statuses=(204,)),
        Route("GET", log, "ActivityService.ListActivities", list_activities, SOURCE, PAGE),
        Route("GET", f"{log}<activity>/", "ActivityService.GetActivity", get_activity, SOURCE, VIEW),
        Route("GET", NEW, "IssueService.GetIssue", get_work_item, SOURCE, VIEW),
    )  # fmt: skip
    old = (replace(one, path=OLD + one.path.removeprefix(NEW).replace("attachments/", OLD_FILES)) for one in new)
    by_key = (
        Route("GET", f"{WORKSPACE}/{name}/<key>/", "IssueService.GetIssue", get_work_item_by_key, SOURCE, VIEW)
        for name in ("work-items", "issues")
    )
    return (*new, *old, *by_key)


def plane(max_bytes: int, types: frozenset[str], rate: Rate | None) -> Dialect:
    """Return the dialect with the settings that it has."""
    served = routes(Uploads(max_bytes, types))
    keys = ("apiKey", "bearer", "token")
    return Dialect(
        "plane", ("/api/v1/",), served, credential, refusal, failure, keys, ends_freely=True, places=PLACES, rate=rate
    )


async def _place(visit: Visit) -> Place:
    """Return the work item of the path, with the project that it has to be in."""
    project_id, issue_id = _uuid(visit, "project"), _uuid(visit, "issue")
    _require_workspace(visit)

    def find() -> Place:
        project = visit.core.projects.get(visit.caller, project_id)
        return Place(project, visit.core.projects.issue(visit.caller, project, issue_id))

    return await visit.calls.read(find)


def _require_workspace(visit: Visit) -> None:
    if visit.path["workspace"] != visit.caller.workspace_slug:
        raise errors.NotFoundError("workspace", f"workspaces/{visit.path['workspace']}")


def _uuid(visit: Visit, name: str) -> str:
    text = visit.path[name]
    if not UUID.fullmatch(text):
        raise RouteNotFoundError
    return text


def _subject(place: Place) -> Subject:
    return Subject("issue", place.issue.id)


def _found(visit: Visit, place: Place) -> Attachment | Ticket:
    """Return the attachment of the path, or the open ticket whose upload will make it."""
    id_ = _uuid(visit, "attachment")
    # The ticket first: what it comes to meanwhile is there when it is not open any more.
    with contextlib.suppress(errors.NotFoundError):
        ticket = visit.core.tickets.get(visit.caller, id_)
        if ticket.state.is_open and ticket.attach_to is not None and ticket.attach_to.id == place.issue.id:
            return ticket
    found = visit.core.attachments.get(visit.caller, id_)
    if found.delete_time is not None or found.file is None or found.subject.id != place.issue.id:
        raise errors.NotFoundError("attachment", f"attachments/{found.id}")
    return found


def _all(visit: Visit, place: Place) -> list[Attachment]:
    """Return all files on a work item."""
    query = AttachmentQuery(visit.caller.workspace_id, kinds=("FILE",), show_archived=True)
    found: list[Attachment] = []
    token = ""
    while True:
        page = visit.core.attachments.list(
            visit.caller, query, _subject(place), page_size=MAX_PAGE_SIZE, page_token=token
        )
        found += page.items
        token = page.next_page_token
        if not token:
            return found


def _link(visit: Visit, place: Place) -> Link:
    link = visit.core.links.get(visit.caller, _uuid(visit, "link"))
    if link.subject.id != place.issue.id:
        raise errors.NotFoundError("link", f"links/{link.id}")
    return link


def _link_shown(visit: Visit, place: Place, one: Link) -> dict[str, Any]:
    return view(visit, place, objects.link(place, one), created_by=lambda: user(one.creator))


def _activity_shown(visit: Visit, place: Place, one: Activity) -> dict[str, Any]:
    return view(visit, place, objects.activity(place, one), actor=lambda: user(one.actor))


def _work_item_shown(visit: Visit, place: Place) -> dict[str, Any]:
    return view(
        visit,
        place,
        objects.work_item(place),
        state=lambda: state(place.issue.status),
        assignees=lambda: [assignee(one) for one in place.issue.assignees],
    )

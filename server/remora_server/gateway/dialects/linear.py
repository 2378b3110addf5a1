"""Linear: attachments of issues by GraphQL, at /graphql."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from starlette.datastructures import Headers
from starlette.responses import Response

from remora_server.core import errors, ids
from remora_server.core.attachments import Draft
from remora_server.core.errors import RemoraError
from remora_server.core.model import Attachment, FileSpec, Micros, Subject
from remora_server.core.pages import Span
from remora_server.core.values import replace
from remora_server.gateway import graph_errors, linear_objects
from remora_server.gateway.assets import asset_of
from remora_server.gateway.errors import HttpError
from remora_server.gateway.graph import ANY_KEY, Field, Graph, routes_of, selected
from remora_server.gateway.graph_errors import Problem, problem_of
from remora_server.gateway.linear_filters import moment
from remora_server.gateway.linear_inputs import (
    NO_CHANGE,
    TITLE_CHARS,
    attachment_query,
    children_query,
    draft_of,
    is_id,
    json_object,
    json_value,
    mask_of,
    of_asset,
    of_url,
    on_issues,
    subject_of,
)
from remora_server.gateway.linear_loading import Info, begin
from remora_server.gateway.linear_objects import SECOND, Object
from remora_server.gateway.relay import connection, span_of
from remora_server.gateway.route import Dialect, Visit, whole

Result = TypeVar("Result")
SOURCE = "linear.md"
PATH = "/graphql"
CLIENT_FAULT = "invalid input"
# By reason of core or code of GraphQL: the type by which the SDK chooses its error, and the code.
ERRORS: Mapping[str, tuple[str, str]] = {
    "TOKEN_MISSING": ("authentication error", "AUTHENTICATION_ERROR"),
    "TOKEN_EXPIRED": ("authentication error", "AUTHENTICATION_ERROR"),
    "SCOPE_MISSING": ("forbidden", "FORBIDDEN"),
    "ACCESS_DENIED": ("forbidden", "FORBIDDEN"),
    "NOT_OFFERED": ("feature not accessible", "FEATURE_NOT_ACCESSIBLE"),
    "QUOTA_EXCEEDED": ("usage limit exceeded", "USAGE_LIMIT_EXCEEDED"),
    "TOO_MANY_STREAMS": ("ratelimited", "RATELIMITED"),
    "STORAGE_UNAVAILABLE": ("network error", "SERVICE_UNAVAILABLE"),
    "SHUTTING_DOWN": ("network error", "SERVICE_UNAVAILABLE"),
    "STORAGE_FULL": ("internal error", "STORAGE_FULL"),
    "STORED_CONTENT_CORRUPT": ("internal error", "STORED_CONTENT_CORRUPT"),
    graph_errors.PARSE_FAILED: ("graphql error", graph_errors.PARSE_FAILED),
    graph_errors.VALIDATION_FAILED: ("graphql error", graph_errors.VALIDATION_FAILED),
    graph_errors.INTERNAL: ("internal error", graph_errors.INTERNAL),
}
ANY_ERROR = (CLIENT_FAULT, "INPUT_ERROR")
OURS = 500
EXPIRES_IN = "public-file-urls-expire-in"  # The header that asks for URLs which need no key.
MAX_EXPIRES_SECONDS = 7 * 24 * 3600


class NotOfferedError(HttpError):
    """A field of the schema that this server has no means for."""

    reason = "NOT_OFFERED"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not offered by this server.")


def credential(headers: Headers) -> str:
    """Return the key that comes as `Authorization`, with the word `Bearer` or without."""
    given = headers.get("authorization", "").strip()
    scheme, _, token = given.partition(" ")
    key = token.strip() if scheme.lower() == "bearer" else given
    if not key:
        raise errors.TokenMissingError
    return key


def wording(problem: Problem) -> dict[str, Any]:
    """Return an error as the SDK reads it."""
    kind, code = ERRORS.get(problem.code, ANY_ERROR)
    message = presentable = problem.message
    if isinstance(problem.cause, errors.NotFoundError) and problem.cause.resource:
        noun = problem.cause.resource[0].title().replace(" ", "")
        message, presentable = f"Entity not found: {noun}", f"Could not find referenced {noun}."
    return {
        "message": message,
        "extensions": {
            "type": kind,
            "code": code,
            "statusCode": 400 if isinstance(problem.cause, errors.NotFoundError) else problem.status,
            "userError": problem.status < OURS,
            "userPresentableMessage": presentable,
        },
    }


def refusal(problem: RemoraError | HttpError) -> Response:
    """Write the refusal of a whole request."""
    return graph_errors.refused(wording, problem_of(problem))


def failure(number: str) -> Response:
    """Write that the mistake is ours."""
    return graph_errors.refused(wording, graph_errors.internal(number))


async def attachment(_root: object, info: Info, *, id: str) -> Object:  # noqa: A002 - as the schema has it
    """Find an attachment by its id or URL."""
    return linear_objects.attachment(await _read(info, _found, id))


async def attachment_issue(_root: object, info: Info, *, id: str) -> Object:  # noqa: A002 - as above
    """Find the issue of an attachment."""
    found = await _read(info, _found, id)
    return await _issue(info, found.subject)


async def attachments(_root: object, info: Info, **asked: Any) -> Object:  # noqa: ANN401 - checked by the schema
    """List attachments of all issues."""
    visit = info.context.visit
    window = await visit.calls.read(
        visit.core.attachments.window, visit.caller, attachment_query(visit, asked), span_of(asked)
    )
    return connection(window, linear_objects.attachment)


async def attachments_for_url(_root: object, info: Info, *, url: str, **asked: Any) -> Object:  # noqa: ANN401 - as above
    """List attachments of a URL."""
    visit = info.context.visit
    query = of_url(visit, attachment_query(visit, asked), url)
    window = await visit.calls.read(visit.core.attachments.window, visit.caller, query, span_of(asked))
    return connection(window, linear_objects.attachment)


async def issue(_root: object, info: Info, *, id: str) -> Object:  # noqa: A002 - as above
    """Find an issue by its id or identifier."""
    visit, subject = info.context.visit, subject_of(id)
    found = await visit.calls.read(
        visit.core.issues.get, visit.caller, visit.caller.workspace_id, issue_id=subject.id, key=subject.key
    )
    return linear_objects.issue(found, visit.core.public_url)


def viewer(_root: object, info: Info) -> Object:
    """Tell whose key it is."""
    caller = info.context.visit.caller
    return linear_objects.user(caller.actor, caller.principal_id)


async def attachment_create(_root: object, info: Info, *, input: Mapping[str, Any]) -> Object:  # noqa: A002 - as above
    """Attach a URL to an issue, or change the attachment that it has there."""
    visit = info.context.visit
    draft = draft_of(visit, input, subject_of(input["issueId"]), input["url"], input.get("id"))
    return await _upserted(visit, draft, mask_of(input))


async def attachment_link_url(
    _root: object,
    info: Info,
    *,
    issueId: str,  # noqa: N803 - as above
    url: str,
    **given: Any,  # noqa: ANN401 - as above
) -> Object:
    """Attach a URL to an issue, under its own name unless another is given."""
    visit = info.context.visit
    titled = {**given, "title": given.get("title") or url[:TITLE_CHARS]}
    draft = draft_of(visit, titled, subject_of(issueId), url, given.get("id"))
    mask = mask_of(given) if given.get("title") else NO_CHANGE
    return await _upserted(visit, draft, mask)


async def attachment_update(_root: object, info: Info, *, id: str, input: Mapping[str, Any]) -> Object:  # noqa: A002 - as above
    """Change what an attachment says."""
    visit = info.context.visit

    def update() -> Attachment:
        found = _found(visit, id)
        draft = draft_of(visit, input, found.subject)
        return visit.core.attachments.update(visit.caller, found.id, draft, mask_of(input))

    return _payload(await visit.calls.change(update))


async def attachment_delete(_root: object, info: Info, *, id: str) -> Object:  # noqa: A002 - as above
    """Delete an attachment."""
    visit = info.context.visit

    def delete() -> Attachment:
        found = _found(visit, id)
        return visit.core.attachments.delete(visit.caller, found.id) or found

    gone = await visit.calls.change(delete)
    return {**_done(gone.update_time), "entityId": linear_objects.uuid(gone.id)}


async def file_upload(
    _root: object,
    info: Info,
    *,
    contentType: str,  # noqa: N803 - as above
    filename: str,
    size: int,
    makePublic: bool | None = None,  # noqa: N803 - as above
    metaData: object = None,  # noqa: N803 - as above
) -> Object:
    """Begin an upload, which ends by itself when all bytes are there."""
    visit = info.context.visit
    if makePublic:
        raise NotOfferedError("makePublic")
    spec = FileSpec(filename, size, contentType)
    ticket = await visit.calls.change(visit.core.assets.issue, visit.caller, spec)
    upload = await visit.calls.wait(visit.core.transfers.offer_upload, ticket)
    file = {
        "uploadUrl": upload.url,
        "assetUrl": _asset_url(visit, ticket.id),
        "filename": filename,
        "contentType": contentType,
        "size": size,
        "metaData": metaData if isinstance(metaData, dict) else None,
        "headers": [{"key": name, "value": value} for name, value in upload.headers],
    }
    return {**_done(ticket.create_time), "uploadFile": file}


def not_offered(_root: object, info: Info, **_given: object) -> Object:
    """Refuse what this server does not do."""
    raise NotOfferedError(info.field_name)


def url_of(source: Object, info: Info) -> str:
    """Return the URL of an attachment: as it was given, or where its file can be read."""
    one: Attachment = source["one"]
    return _asset_url(info.context.visit, one.file_id) if one.file_id else one.url


def creator_of(source: Object, info: Info) -> Object:
    """Return who made an attachment."""
    return linear_objects.user(source["one"].creator, info.context.visit.caller.principal_id)


async def issue_of(source: Object, info: Info) -> Object:
    """Return the issue of an attachment."""
    return await _issue(info, source["one"].subject)


async def parent_of(source: Object, info: Info) -> Object | None:
    """Return the issue that an issue is a part of."""
    return await _issue(info, Subject("issue", source["parent_id"])) if source["parent_id"] else None


async def attachments_of(source: Object, info: Info, **asked: Any) -> Object:  # noqa: ANN401 - as above
    """List the attachments of an issue."""
    query = attachment_query(info.context.visit, asked)
    window = await info.context.attachments.load((query, span_of(asked), source["issue_id"]))
    assert window is not None  # noqa: S101 - every issue has one, if an empty one
    return connection(window, linear_objects.attachment)


async def children_of(source: Object, info: Info, **asked: Any) -> Object:  # noqa: ANN401 - as above
    """List the sub-issues of an issue."""
    visit = info.context.visit
    query = children_query(visit, asked)
    window = await info.context.children.load((query, span_of(asked), source["issue_id"]))
    assert window is not None  # noqa: S101 - as above
    return connection(window, lambda one: linear_objects.issue(one, visit.core.public_url))


OTHER_LINKS = [
    *("Discord", "Front", "GitHubIssue", "GitHubPR", "GitLabMR"),
    *("Intercom", "JiraIssue", "Salesforce", "Slack", "Zendesk"),
]
FIELDS: Mapping[str, Field] = {
    "Query.attachment": Field(attachment, "AttachmentService.GetAttachment"),
    "Query.attachmentIssue": Field(attachment_issue, "AttachmentService.GetAttachment"),
    "Query.attachments": Field(attachments, "AttachmentService.ListAttachments"),
    "Query.attachmentsForURL": Field(attachments_for_url, "AttachmentService.LookupAttachments"),
    "Query.issue": Field(issue, "IssueService.GetIssue"),
    "Query.viewer": Field(viewer, ANY_KEY),
    "Mutation.attachmentCreate": Field(attachment_create, "AttachmentService.UpsertAttachment"),
    "Mutation.attachmentLinkURL": Field(attachment_link_url, "AttachmentService.UpsertAttachment"),
    "Mutation.attachmentUpdate": Field(attachment_update, "AttachmentService.UpdateAttachment"),
    "Mutation.attachmentDelete": Field(attachment_delete, "AttachmentService.DeleteAttachment"),
    "Mutation.fileUpload": Field(file_upload, "UploadTicketService.CreateUploadTicket"),
    "Mutation.imageUploadFromUrl": Field(not_offered, "UploadTicketService.CreateUploadTicket"),
    "Mutation.attachmentSyncToSlack": Field(not_offered, "AttachmentService.UpdateAttachment"),
    **{
        f"Mutation.attachmentLink{one}": Field(not_offered, "AttachmentService.UpsertAttachment") for one in OTHER_LINKS
    },
    "Attachment.url": Field(url_of),
    "Attachment.creator": Field(creator_of),
    "Attachment.issue": Field(issue_of),
    "Issue.parent": Field(parent_of),
    "Issue.attachments": Field(attachments_of, "AttachmentService.ListAttachments"),
    "Issue.children": Field(children_of, "IssueService.ListIssues"),
}


def linear() -> Dialect:
    """Return the dialect, with its schema."""
    scalars = {"JSON": json_value, "JSONObject": json_object, "DateTimeOrDuration": moment}
    routes = routes_of(Graph("linear", FIELDS, begin, wording, scalars=scalars), PATH, SOURCE)
    return Dialect("linear", (PATH,), routes, credential, refusal, failure, ("plain", "bearer", "token"))


def _payload(one: Attachment) -> Object:
    return {**_done(one.update_time), "attachment": linear_objects.attachment(one)}


def _done(time: Micros) -> Object:
    return {"success": True, "lastSyncId": float(time)}


def _asset_url(visit: Visit, id_: str) -> str:
    """Return the URL of a file, or of one to be; signed for so many seconds as the request's header says."""
    asked = visit.headers.get(EXPIRES_IN)
    lifetime = None if asked is None else whole(EXPIRES_IN, asked, MAX_EXPIRES_SECONDS) * SECOND
    return visit.core.shelf.urls.asset(visit.caller, linear_objects.uuid(id_), lifetime)


async def _upserted(visit: Visit, draft: Draft, mask: Sequence[str]) -> Object:
    """Attach a URL, or the file that one of our own stands for; what there is of it on the issue is changed."""
    core, caller = visit.core, visit.caller
    asset = asset_of(draft.url, core.public_url)
    if not asset:
        done = await visit.calls.change(core.attachments.upsert, caller, draft, mask)
        return _payload(done.attachment)
    file = await visit.calls.wait(core.assets.file, caller, asset)

    def attach() -> Attachment:
        there = core.attachments.create(caller, replace(draft, url="", file_id=file.id))
        return core.attachments.update(caller, there.id, draft, mask)

    return _payload(await visit.calls.change(attach))


async def _read(info: Info, call: Callable[[Visit, str], Result], named: str) -> Result:
    visit = info.context.visit
    return await visit.calls.read(call, visit, named)


def _found(visit: Visit, named: str) -> Attachment:
    """Return a live attachment by its id, or by its URL the one of an issue that was changed last."""
    core, caller = visit.core, visit.caller
    one: Attachment | None = None
    if is_id(named, ids.ATTACHMENT):
        one = core.attachments.get(caller, named)
        if one.delete_time is not None or one.subject.type != "issue":
            one = None
    elif asset := asset_of(named, core.public_url):
        query = replace(of_asset(on_issues(visit), asset), order="UPDATE_TIME_DESC")
        one = next(iter(core.attachments.window(caller, query, Span(1)).items), None)
    elif "://" in named:
        one = core.attachments.latest_of_url(caller, on_issues(visit), named)
    if one is None:
        raise errors.NotFoundError("attachment", "attachments/-")
    return one


async def _issue(info: Info, subject: Subject) -> Object:
    """Return an issue, looked up only if more is asked for than what is known."""
    visit = info.context.visit
    known = {"__typename", "id", "identifier"} if subject.key else {"__typename", "id"}
    if selected(info) <= known:
        return linear_objects.issue_of(subject, visit.core.public_url)
    visit.require("IssueService.GetIssue")
    found = await info.context.issues.load(subject.id)
    # What is attached to an issue stays, also when that was taken out of the registry.
    if found is None:
        return linear_objects.issue_of(subject, visit.core.public_url)
    return linear_objects.issue(found, visit.core.public_url)

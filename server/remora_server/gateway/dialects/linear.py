"""Linear: attachments of issues by GraphQL, at /graphql."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from graphql import GraphQLError, GraphQLResolveInfo
from starlette.datastructures import Headers
from starlette.responses import Response

from remora_server.core import errors, ids
from remora_server.core.attachments import Draft
from remora_server.core.errors import RemoraError, invalid
from remora_server.core.model import Attachment, Issue, Metadata, Micros, Subject
from remora_server.core.pages import Span, Window
from remora_server.core.ports import AttachmentQuery, IssueQuery
from remora_server.core.values import replace
from remora_server.gateway import graph_errors, linear_objects
from remora_server.gateway.errors import HttpError
from remora_server.gateway.graph import ANY_KEY, Field, Graph, routes_of, selected
from remora_server.gateway.graph_errors import Problem, problem_of
from remora_server.gateway.linear_filters import Filters, moment
from remora_server.gateway.linear_objects import RICH, Object
from remora_server.gateway.loading import Loader
from remora_server.gateway.relay import connection, span_of
from remora_server.gateway.route import Calls, Dialect, Visit

Item = TypeVar("Item")
Query = TypeVar("Query", AttachmentQuery, IssueQuery)
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
ORDERS = {None: "CREATE_TIME_DESC", "createdAt": "CREATE_TIME_DESC", "updatedAt": "UPDATE_TIME_DESC"}
WRITTEN = {
    "title": "title",
    "subtitle": "subtitle",
    "metadata": "metadata",
    "iconUrl": "icon_url",
    "groupBySource": "group_key",
}
NO_CHANGE = ("url",)  # A mask of what can't be changed.
TITLE_CHARS, GROUP_CHARS = 1024, 255
INT64 = 2**63


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
    if not key or " " in key:
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


@dataclass(frozen=True, slots=True)
class LinearVisit:
    """One request, with what its resolvers load together."""

    visit: Visit
    issues: Loader[str, Issue]
    attachments: Loader[tuple[AttachmentQuery, Span, str], Window[Attachment]]
    children: Loader[tuple[IssueQuery, Span, str], Window[Issue]]


Info = GraphQLResolveInfo[LinearVisit]


def begin(visit: Visit) -> LinearVisit:
    """Return what the resolvers of a request share."""
    core, calls, caller = visit.core, visit.calls, visit.caller

    async def issues(wanted: Sequence[str]) -> Mapping[str, Issue]:
        return await calls.read(core.issues.get_many, caller, wanted)

    async def attachments(
        wanted: Sequence[tuple[AttachmentQuery, Span, str]],
    ) -> Mapping[tuple[AttachmentQuery, Span, str], Window[Attachment]]:
        return await _by_listing(calls, partial(core.attachments.windows, caller), wanted)

    async def children(
        wanted: Sequence[tuple[IssueQuery, Span, str]],
    ) -> Mapping[tuple[IssueQuery, Span, str], Window[Issue]]:
        return await _by_listing(calls, partial(core.issues.children, caller), wanted)

    return LinearVisit(visit, Loader(issues), Loader(attachments), Loader(children))


async def _by_listing(
    calls: Calls,
    list_: Callable[[Query, Sequence[str], Span], Mapping[str, Window[Item]]],
    wanted: Sequence[tuple[Query, Span, str]],
) -> Mapping[tuple[Query, Span, str], Window[Item]]:
    """Make one call for all issues of which the same is asked."""
    found: dict[tuple[Query, Span, str], Window[Item]] = {}
    for query, span in dict.fromkeys(one[:2] for one in wanted):
        of = [issue_id for asked, part, issue_id in wanted if (asked, part) == (query, span)]
        windows = await calls.read(list_, query, of, span)
        found.update({(query, span, issue_id): window for issue_id, window in windows.items()})
    return found


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
        visit.core.attachments.window, visit.caller, _attachment_query(visit, asked), span_of(asked)
    )
    return connection(window, linear_objects.attachment)


async def attachments_for_url(_root: object, info: Info, *, url: str, **asked: Any) -> Object:  # noqa: ANN401 - as above
    """List attachments of a URL."""
    visit = info.context.visit
    query = _of_url(visit, _attachment_query(visit, asked), url)
    window = await visit.calls.read(visit.core.attachments.window, visit.caller, query, span_of(asked))
    return connection(window, linear_objects.attachment)


async def issue(_root: object, info: Info, *, id: str) -> Object:  # noqa: A002 - as above
    """Find an issue by its id or identifier."""
    visit, subject = info.context.visit, _subject(id)
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
    draft = _draft(visit, input, _subject(input["issueId"]), input["url"], input.get("id"))
    done = await visit.calls.change(visit.core.attachments.upsert, visit.caller, draft, _mask(input))
    return _payload(done.attachment)


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
    draft = _draft(visit, titled, _subject(issueId), url, given.get("id"))
    mask = _mask(given) if given.get("title") else NO_CHANGE
    done = await visit.calls.change(visit.core.attachments.upsert, visit.caller, draft, mask)
    return _payload(done.attachment)


async def attachment_update(_root: object, info: Info, *, id: str, input: Mapping[str, Any]) -> Object:  # noqa: A002 - as above
    """Change what an attachment says."""
    visit = info.context.visit

    def update() -> Attachment:
        found = _found(visit, id)
        draft = _draft(visit, input, found.subject)
        return visit.core.attachments.update(visit.caller, found.id, draft, _mask(input))

    return _payload(await visit.calls.change(update))


async def attachment_delete(_root: object, info: Info, *, id: str) -> Object:  # noqa: A002 - as above
    """Delete an attachment."""
    visit = info.context.visit

    def delete() -> Attachment:
        found = _found(visit, id)
        return visit.core.attachments.delete(visit.caller, found.id) or found

    gone = await visit.calls.change(delete)
    return {**_done(gone.update_time), "entityId": linear_objects.uuid(gone.id)}


def not_offered(_root: object, info: Info, **_given: object) -> Object:
    """Refuse what this server does not do."""
    raise NotOfferedError(info.field_name)


def url_of(source: Object, _info: Info) -> str:
    """Return the URL of an attachment."""
    one: Attachment = source["one"]
    return one.url


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
    query = _attachment_query(info.context.visit, asked)
    window = await info.context.attachments.load((query, span_of(asked), source["issue_id"]))
    assert window is not None  # noqa: S101 - every issue has one, if an empty one
    return connection(window, linear_objects.attachment)


async def children_of(source: Object, info: Info, **asked: Any) -> Object:  # noqa: ANN401 - as above
    """List the sub-issues of an issue."""
    visit = info.context.visit
    order, filters = ORDERS[asked.get("orderBy")], Filters(ids.ISSUE, visit.caller.principal_id, visit.core.clock.now())
    where = filters.read(asked.get("filter"))
    query = IssueQuery(visit.caller.workspace_id, include_completed=True, order=order, where=where)
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
    "Mutation.fileUpload": Field(not_offered, "UploadTicketService.CreateUploadTicket"),
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
    scalars = {"JSONObject": _object, "DateTimeOrDuration": moment}
    routes = routes_of(Graph("linear", FIELDS, begin, wording, scalars=scalars), PATH, SOURCE)
    return Dialect("linear", (PATH,), routes, credential, refusal, failure, ("plain", "bearer", "token"))


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise GraphQLError("JSONObject must be an object.")
    return value


def _payload(one: Attachment) -> Object:
    return {**_done(one.update_time), "attachment": linear_objects.attachment(one)}


def _done(time: Micros) -> Object:
    return {"success": True, "lastSyncId": float(time)}


def _is_id(text: str, prefix: str) -> bool:
    with contextlib.suppress(ValueError):
        return text.startswith(f"{prefix}_") or bool(UUID(text))
    return False


def _subject(text: str) -> Subject:
    """Return an issue by what names it: an id, or an identifier."""
    return Subject("issue", id=text) if _is_id(text, ids.ISSUE) else Subject("issue", key=text)


def _on_issues(visit: Visit) -> AttachmentQuery:
    return AttachmentQuery(visit.caller.workspace_id, subject_type="issue")


def _attachment_query(visit: Visit, asked: Mapping[str, Any]) -> AttachmentQuery:
    filters = Filters(ids.ATTACHMENT, visit.caller.principal_id, visit.core.clock.now())
    return replace(
        _on_issues(visit),
        show_archived=bool(asked.get("includeArchived")),
        order=ORDERS[asked.get("orderBy")],
        where=filters.read(asked.get("filter")),
    )


def _of_url(visit: Visit, query: AttachmentQuery, url: str) -> AttachmentQuery:
    return visit.core.attachments.url_query(query, url)


async def _read(info: Info, call: Callable[[Visit, str], Result], named: str) -> Result:
    visit = info.context.visit
    return await visit.calls.read(call, visit, named)


def _found(visit: Visit, named: str) -> Attachment:
    """Return a live attachment by its id, or by its URL the one of an issue that was changed last."""
    core, caller = visit.core, visit.caller
    one: Attachment | None
    if _is_id(named, ids.ATTACHMENT):
        one = core.attachments.get(caller, named)
        if one.delete_time is not None or one.subject.type != "issue":
            one = None
    else:
        one = core.attachments.latest_of_url(caller, _on_issues(visit), named)
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


def _draft(visit: Visit, given: Mapping[str, Any], subject: Subject, url: str = "", id_: str | None = None) -> Draft:
    """Return an attachment as it is written."""
    return Draft(
        visit.caller.workspace_id,
        subject,
        url=url,
        title=given["title"],
        subtitle=given.get("subtitle") or "",
        icon_url=given.get("iconUrl") or "",
        group_key=(urlsplit(url).hostname or "")[:GROUP_CHARS] if given.get("groupBySource") else "",
        metadata=_metadata(given.get("metadata") or {}),
        id=id_ or "",
    )


def _mask(given: Mapping[str, Any]) -> Sequence[str]:
    """Return which fields are written: null clears one, absence leaves it."""
    return [ours for theirs, ours in WRITTEN.items() if theirs in given]


def _metadata(given: Mapping[str, Any]) -> Metadata:
    kept: dict[str, str | int | float] = {}
    for name, value in given.items():
        field = f"metadata.{name[:100]}"
        if name in RICH and isinstance(value, (list, dict)):
            kept[name] = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        elif isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise invalid(field, "must be a text or a number")
        elif isinstance(value, int) and not -INT64 <= value < INT64:
            raise invalid(field, "is a whole number of more than 64 bits; send it as a text")
        else:
            kept[name] = value
    return kept

"""Linear: attachments of issues by GraphQL, at /graphql."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from graphql import GraphQLResolveInfo
from starlette.datastructures import Headers
from starlette.responses import Response

from remora_server.core import errors, ids
from remora_server.core.attachments import Draft
from remora_server.core.errors import RemoraError, invalid
from remora_server.core.model import Attachment, Issue, Metadata, Subject
from remora_server.gateway import graph_errors, linear_objects
from remora_server.gateway.errors import HttpError
from remora_server.gateway.graph import Field, Graph, routes_of, selected
from remora_server.gateway.graph_errors import Problem, problem_of
from remora_server.gateway.linear_objects import Object
from remora_server.gateway.loading import Loader
from remora_server.gateway.route import Dialect, Visit

SOURCE = "linear.md"
PATH = "/graphql"
CLIENT_FAULT = "invalid input"
# By reason of core or code of GraphQL: the type by which the SDK chooses its error, and the code.
ERRORS: Mapping[str, tuple[str, str]] = {
    "TOKEN_MISSING": ("authentication error", "AUTHENTICATION_ERROR"),
    "TOKEN_EXPIRED": ("authentication error", "AUTHENTICATION_ERROR"),
    "SCOPE_MISSING": ("forbidden", "FORBIDDEN"),
    "ACCESS_DENIED": ("forbidden", "FORBIDDEN"),
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


def begin(visit: Visit) -> LinearVisit:
    """Return what the resolvers of a request share."""

    async def issues(wanted: Sequence[str]) -> Mapping[str, Issue]:
        found: Mapping[str, Issue] = await visit.calls.read(visit.core.issues.get_many, visit.caller, wanted)
        return found

    return LinearVisit(visit, Loader(issues))


async def attachment(_root: object, info: GraphQLResolveInfo[LinearVisit], *, id: str) -> Object:  # noqa: A002 - as the schema has it
    """Find an attachment by its id or URL."""
    return linear_objects.attachment(await _found(info.context.visit, id))


async def attachment_create(
    _root: object,
    info: GraphQLResolveInfo[LinearVisit],
    *,
    input: Mapping[str, Any],  # noqa: A002 - as the schema has it
) -> Object:
    """Attach a URL to an issue, or change what its attachment has."""
    visit: Visit = info.context.visit
    draft, mask = _draft(visit, input)
    done = await visit.calls.change(visit.core.attachments.upsert, visit.caller, draft, mask)
    return _payload(done.attachment)


async def issue_of(source: Object, info: GraphQLResolveInfo[LinearVisit]) -> Object:
    """Return the issue of an attachment, looked up only if more is asked for than what the attachment says of it."""
    subject: Subject = source["subject"]
    if selected(info) <= {"__typename", "id", "identifier"}:
        return linear_objects.issue_of(subject)
    info.context.visit.require("IssueService.GetIssue")
    found = await info.context.issues.load(subject.id)
    # What is attached to an issue stays, also when that was taken out of the registry.
    return linear_objects.issue_of(subject) if found is None else linear_objects.issue(found)


FIELDS: Mapping[str, Field] = {
    "Query.attachment": Field(attachment, "AttachmentService.GetAttachment"),
    "Mutation.attachmentCreate": Field(attachment_create, "AttachmentService.UpsertAttachment"),
    "Attachment.issue": Field(issue_of),
}


def linear() -> Dialect:
    """Return the dialect, with its schema."""
    routes = routes_of(Graph("linear", FIELDS, begin, wording, scalars={"JSONObject": _object}), PATH, SOURCE)
    return Dialect("linear", (PATH,), routes, credential, refusal, failure, ("plain", "bearer", "token"))


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid("JSONObject", "must be a JSON object")
    return value


def _payload(one: Attachment) -> Object:
    return {"success": True, "lastSyncId": float(one.update_time), "attachment": linear_objects.attachment(one)}


def _is_id(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(UUID(text))
    return False


def _subject(text: str) -> Subject:
    """Return an issue by what names it: an id, or an identifier."""
    is_id = _is_id(text) or text.startswith(f"{ids.ISSUE}_")
    return Subject("issue", id=text) if is_id else Subject("issue", key=text)


async def _found(visit: Visit, named: str) -> Attachment:
    """Return a live attachment by its id, or by its URL the one of an issue that was changed last."""
    if _is_id(named):
        one = await visit.calls.read(visit.core.attachments.get, visit.caller, named)
        if one.delete_time is None and one.subject.type == "issue":
            return one
    else:
        page = await visit.calls.read(
            visit.core.attachments.lookup, visit.caller, visit.caller.workspace_id, named, page_size=1
        )
        if page.items:
            return page.items[0]
    raise errors.NotFoundError("attachment", "attachments/-")


def _draft(visit: Visit, given: Mapping[str, Any]) -> tuple[Draft, Sequence[str]]:
    """Return an attachment as it is written, and which of its fields are: null clears one, absence leaves it."""
    names = {"title": "title", "subtitle": "subtitle", "metadata": "metadata", "iconUrl": "icon_url"}
    draft = Draft(
        visit.caller.workspace_id,
        _subject(given["issueId"]),
        url=given["url"],
        title=given["title"],
        subtitle=given.get("subtitle") or "",
        icon_url=given.get("iconUrl") or "",
        metadata=_metadata(given.get("metadata") or {}),
        id=given.get("id") or "",
    )
    return draft, [ours for theirs, ours in names.items() if theirs in given]


def _metadata(given: Mapping[str, Any]) -> Metadata:
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise invalid(f"metadata.{name[:100]}", "must be a text or a number")
    return given

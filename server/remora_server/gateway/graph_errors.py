"""What is told of an error at a GraphQL door: each has a code, and none shows how the server works inside."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import GraphQLError, GraphQLSyntaxError
from starlette.responses import JSONResponse, Response

from remora_server.core.errors import RemoraError
from remora_server.gateway.errors import STATUSES, HttpError, tell_wait
from remora_server.gateway.json_values import writable

log = logging.getLogger(__name__)

PARSE_FAILED = "GRAPHQL_PARSE_FAILED"
VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED"
BAD_INPUT = "BAD_USER_INPUT"
TOO_COMPLEX = "QUERY_TOO_COMPLEX"
INTERNAL = "INTERNAL_SERVER_ERROR"


@dataclass(frozen=True, slots=True)
class Problem:
    """An error before a dialect puts it into its own words."""

    message: str
    code: str  # the reason of core or of HTTP, or one of the above
    status: int  # what HTTP would say of it
    cause: RemoraError | HttpError | None = None


Told = Mapping[str, Any]  # an entry of `errors`, without place and path
Wording = Callable[[Problem], Told]


def problem_of(cause: RemoraError | HttpError) -> Problem:
    """Return what a refusal comes to."""
    if isinstance(cause, HttpError):
        return Problem(cause.message, cause.reason, cause.status, cause)
    return Problem(cause.message, cause.reason, STATUSES[type(cause)][0], cause)


def problem_at(error: GraphQLError, where: str) -> Problem:
    """Return what an error of an execution comes to; a mistake of ours goes to the log, and only its number out."""
    cause: BaseException | None = error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    if isinstance(cause, (RemoraError, HttpError)):
        return problem_of(cause)
    if isinstance(cause, GraphQLError):
        code = PARSE_FAILED if isinstance(error, GraphQLSyntaxError) else BAD_INPUT
        return Problem(error.message, str((error.extensions or {}).get("code", code)), 400)
    number = secrets.token_hex(8)
    log.error("internal error %s in %s", number, where, exc_info=cause)
    return internal(number)


def internal(number: str) -> Problem:
    """Return what is told of a mistake of ours."""
    return Problem(f"internal error {number}; tell the operator this number.", INTERNAL, 500)


def refused(wording: Wording, problem: Problem) -> Response:
    """Write a refusal of a whole request."""
    return answered({"errors": [dict(wording(problem))]}, problem.status, problem)


def answered(body: Mapping[str, Any], status: int, *problems: Problem) -> Response:
    """Write an answer, with the time to wait if one of its problems will pass."""
    headers = {"Cache-Control": "no-store"}
    try:
        response = JSONResponse(dict(body), status, headers=headers)
    except (ValueError, RecursionError):  # What was changed is changed, and whoever asked for it is to hear of it.
        log.exception("an answer holds what can't be written as JSON")
        response = JSONResponse(writable(body), status, headers=headers)
    waits = [one.cause.retry_after_seconds for one in problems if isinstance(one.cause, RemoraError)]
    tell_wait(response, max((seconds for seconds in waits if seconds is not None), default=None))
    return response

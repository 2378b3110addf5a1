"""The error table of HTTP: which refusal gets which status, and how it is written."""

from __future__ import annotations

import math
from collections.abc import Mapping

from starlette.responses import JSONResponse, Response

from remora_server.core import errors
from remora_server.core.errors import RemoraError


class HttpError(Exception):
    """A refusal that only HTTP knows."""

    status = 400
    code = "INVALID_ARGUMENT"
    reason = "VALIDATION_FAILED"
    retry_after_seconds: float | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class SignedUrlInvalidError(HttpError):
    """A URL, or what has to come with it, that nobody signed like this."""

    status = 403
    code = "PERMISSION_DENIED"
    reason = "SIGNED_URL_INVALID"

    def __init__(
        self, message: str = "the URL was altered or is used in another way than it was made for; ask for a new one."
    ) -> None:
        super().__init__(message)


class SignedUrlExpiredError(HttpError):
    """A URL whose time is up."""

    status = 403
    code = "PERMISSION_DENIED"
    reason = "SIGNED_URL_EXPIRED"

    def __init__(self) -> None:
        super().__init__("the URL has expired; ask for a new one.")


class RouteNotFoundError(HttpError):
    """A path that leads nowhere."""

    status = 404
    code = "NOT_FOUND"
    reason = "RESOURCE_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("there is nothing at this path.")


class MethodNotAllowedError(HttpError):
    """A method that a path does not know."""

    status = 405
    code = "INVALID_ARGUMENT"


class TooSlowError(HttpError):
    """Bytes came so slowly that they were given up."""

    status = 408
    code = "DEADLINE_EXCEEDED"
    reason = "TOO_SLOW"

    def __init__(self) -> None:
        super().__init__("too few bytes came for too long; send the request again.")


STATUSES: Mapping[type[RemoraError], tuple[int, str]] = {
    errors.ValidationFailedError: (400, "INVALID_ARGUMENT"),
    errors.UrlNotAllowedError: (400, "INVALID_ARGUMENT"),
    errors.RequestIdReusedError: (409, "INVALID_ARGUMENT"),
    errors.PageTokenInvalidError: (400, "INVALID_ARGUMENT"),
    errors.DuplicateInBatchError: (400, "INVALID_ARGUMENT"),
    errors.SizeMismatchError: (400, "INVALID_ARGUMENT"),
    errors.ContentChecksumMismatchError: (400, "INVALID_ARGUMENT"),
    errors.EtagMismatchError: (412, "ABORTED"),
    errors.OffsetMismatchError: (409, "ABORTED"),
    errors.ChunkChecksumMismatchError: (409, "ABORTED"),
    errors.WriterFencedError: (409, "ABORTED"),
    errors.NotFoundError: (404, "NOT_FOUND"),
    errors.PreviewUnavailableError: (404, "NOT_FOUND"),
    errors.AttachmentUrlExistsError: (409, "ALREADY_EXISTS"),
    errors.LinkUrlExistsError: (409, "ALREADY_EXISTS"),
    errors.ExternalRefExistsError: (409, "ALREADY_EXISTS"),
    errors.NotDeletedError: (409, "ALREADY_EXISTS"),
    errors.UploadTicketExpiredError: (409, "FAILED_PRECONDITION"),
    errors.UploadTicketClosedError: (409, "FAILED_PRECONDITION"),
    errors.FileQuarantinedError: (403, "FAILED_PRECONDITION"),
    errors.FileInUseError: (409, "FAILED_PRECONDITION"),
    errors.UploadIncompleteError: (409, "FAILED_PRECONDITION"),
    errors.TransportUnavailableError: (409, "FAILED_PRECONDITION"),
    errors.ReadOffsetTooLargeError: (416, "OUT_OF_RANGE"),
    errors.CursorCompactedError: (410, "OUT_OF_RANGE"),
    errors.QuotaExceededError: (429, "RESOURCE_EXHAUSTED"),
    errors.TooManyStreamsError: (429, "RESOURCE_EXHAUSTED"),
    errors.FileTooLargeError: (413, "RESOURCE_EXHAUSTED"),
    errors.StorageFullError: (507, "RESOURCE_EXHAUSTED"),
    errors.TokenMissingError: (401, "UNAUTHENTICATED"),
    errors.TokenExpiredError: (401, "UNAUTHENTICATED"),
    errors.ScopeMissingError: (403, "PERMISSION_DENIED"),
    errors.AccessDeniedError: (403, "PERMISSION_DENIED"),
    errors.StorageUnavailableError: (503, "UNAVAILABLE"),
    errors.ShuttingDownError: (503, "UNAVAILABLE"),
    errors.StoredContentCorruptError: (500, "DATA_LOSS"),
}


def response_of(error: RemoraError | HttpError) -> JSONResponse:
    """Return the answer that a refusal is told by."""
    if isinstance(error, HttpError):
        return _told(error.status, error.code, error.reason, error.message)
    status, code = STATUSES[type(error)]
    response = _told(status, code, error.reason, error.message, error.metadata)
    tell_wait(response, error.retry_after_seconds)
    return response


def message_of(problem: RemoraError | HttpError, names: Mapping[str, str]) -> str:
    """Return what a refusal says; `names` tells what a dialect calls the fields of core that it calls otherwise."""
    if isinstance(problem, RemoraError) and problem.violations:
        return "; ".join(f"{names.get(one.field, one.field)}: {one.description}" for one in problem.violations)
    return problem.message


def tell_wait(response: Response, seconds: float | None) -> None:
    """Say when to try again, if that may help."""
    if seconds is not None:
        response.headers["Retry-After"] = str(math.ceil(seconds))


def internal_response(request_id: str) -> JSONResponse:
    """Return the answer for a mistake of ours: nothing but a number to find it by in the log."""
    return _told(500, "INTERNAL", "INTERNAL", f"internal error {request_id}; tell the operator this number.")


def _told(status: int, code: str, reason: str, message: str, metadata: Mapping[str, str] | None = None) -> JSONResponse:
    told: dict[str, object] = {"code": code, "reason": reason, "message": message}
    if metadata:
        told["metadata"] = dict(metadata)
    return JSONResponse({"error": told}, status, headers={"Cache-Control": "no-store"})

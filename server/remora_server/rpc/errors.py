"""The error table: which core error becomes which gRPC status, and how its details are told."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from remora_server.core import errors
from remora_server.core.errors import RemoraError

DOMAIN = "remora"
# A client throws an answer away whose trailers pass 8 KiB, so what a caller sent is not echoed at any length.
TEXT_BYTES = 512
VIOLATIONS_BYTES = 2048

CODES: Mapping[type[RemoraError], grpc.StatusCode] = {
    errors.ValidationFailedError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UrlNotAllowedError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.RequestIdReusedError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.PageTokenInvalidError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.DuplicateInBatchError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.SizeMismatchError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ContentChecksumMismatchError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.EtagMismatchError: grpc.StatusCode.ABORTED,
    errors.OffsetMismatchError: grpc.StatusCode.ABORTED,
    errors.ChunkChecksumMismatchError: grpc.StatusCode.ABORTED,
    errors.WriterFencedError: grpc.StatusCode.ABORTED,
    errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.PreviewUnavailableError: grpc.StatusCode.NOT_FOUND,
    errors.AttachmentUrlExistsError: grpc.StatusCode.ALREADY_EXISTS,
    errors.LinkUrlExistsError: grpc.StatusCode.ALREADY_EXISTS,
    errors.ExternalRefExistsError: grpc.StatusCode.ALREADY_EXISTS,
    errors.NotDeletedError: grpc.StatusCode.ALREADY_EXISTS,
    errors.UploadTicketExpiredError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UploadTicketClosedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.FileQuarantinedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.FileInUseError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UploadIncompleteError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.TransportUnavailableError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ReadOffsetTooLargeError: grpc.StatusCode.OUT_OF_RANGE,
    errors.CursorCompactedError: grpc.StatusCode.OUT_OF_RANGE,
    errors.QuotaExceededError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TooManyStreamsError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.FileTooLargeError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.StorageFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TokenMissingError: grpc.StatusCode.UNAUTHENTICATED,
    errors.TokenExpiredError: grpc.StatusCode.UNAUTHENTICATED,
    errors.ScopeMissingError: grpc.StatusCode.PERMISSION_DENIED,
    errors.AccessDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.StorageUnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.ShuttingDownError: grpc.StatusCode.UNAVAILABLE,
    errors.StoredContentCorruptError: grpc.StatusCode.DATA_LOSS,
}


def status_of(error: RemoraError) -> status_pb2.Status:
    """Return the rich status of a core error, each kind of detail at most once."""
    status = status_pb2.Status(code=_number(CODES[type(error)]), message=_short(error.message))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    _add(status, info)
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for violation in error.violations:
            bad.field_violations.add(field=violation.field, description=violation.description)
            if len(bad.field_violations) > 1 and bad.ByteSize() > VIOLATIONS_BYTES:
                del bad.field_violations[-1]
                break
        _add(status, bad)
    if error.retry_after_seconds is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(error.retry_after_seconds * 1000))
        _add(status, error_details_pb2.RetryInfo(retry_delay=delay))
    if error.resource is not None:
        type_, name = error.resource
        _add(status, error_details_pb2.ResourceInfo(resource_type=type_, resource_name=_short(name)))
    if error.quota_subject:
        failure = error_details_pb2.QuotaFailure()
        failure.violations.add(subject=f"workspaces/{error.quota_subject}", description="bytes stored")
        _add(status, failure)
    return status


def status_of_reason(reason: str, message: str) -> status_pb2.Status:
    """Return the status of an error that was stored by its reason and message."""
    code = next(code for kind, code in CODES.items() if kind.reason == reason)
    status = status_pb2.Status(code=_number(code), message=message)
    _add(status, error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))
    return status


def internal_status(request_id: str) -> status_pb2.Status:
    """Return the status of a mistake of ours: nothing but a number to find it by in the log."""
    message = f"internal error {request_id}; tell the operator this number."
    status = status_pb2.Status(code=_number(grpc.StatusCode.INTERNAL), message=message)
    _add(status, error_details_pb2.ErrorInfo(reason="INTERNAL", domain=DOMAIN, metadata={"request_id": request_id}))
    return status


def _short(text: str) -> str:
    encoded = text.encode()
    return text if len(encoded) <= TEXT_BYTES else encoded[:TEXT_BYTES].decode(errors="ignore") + "…"


def _number(code: grpc.StatusCode) -> int:
    number: int = code.value[0]
    return number


def _add(status: status_pb2.Status, detail: object) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)  # type: ignore[arg-type] # google.rpc's stubs do not say that their classes are messages
    status.details.append(packed)

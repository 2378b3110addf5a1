"""Why a call failed: one class for each reason that the service gives, and those that only a client can have.

Every error has the `reason` of the contract, the name of the gRPC `code`, and the `metadata` listed in
`error_reason.proto`. A reason that this version does not know arrives as a plain RemoraError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    import grpc

DOMAIN = "remora"


class RemoraError(Exception):
    """A call that failed."""

    default_reason: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        code: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        violations: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.code = code
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after  # Seconds; None: the service did not say that trying again helps.
        self.violations = tuple(violations)  # Field and description.


# What only a client can have.


class ConnectionFailedError(RemoraError):
    """The server could not be reached, or the connection broke."""

    default_reason = "CONNECTION_FAILED"


class NotServedError(ConnectionFailedError):
    """Something answers at the address, but does not serve this client; the message says why, and what to do."""


class SourceChangedError(RemoraError):
    """The file changed while it was read, so what was sent is neither the old nor the new content."""

    default_reason = "SOURCE_CHANGED"


class DownloadCorruptError(RemoraError):
    """The bytes that arrived are not those that the service announced."""

    default_reason = "DOWNLOAD_CORRUPT"


class LocalServerError(RemoraError):
    """A server of one's own could not be started."""

    default_reason = "LOCAL_SERVER_FAILED"


# What the service says, in the order of error_reason.proto.


class ValidationFailedError(RemoraError):
    """A field is missing, malformed or out of its limits; `violations` names each."""

    default_reason = "VALIDATION_FAILED"


class UrlNotAllowedError(RemoraError):
    """The URL is of a kind that can't be attached or linked."""

    default_reason = "URL_NOT_ALLOWED"


class RequestIdReusedError(RemoraError):
    """The request id stands for a request with other parameters."""

    default_reason = "REQUEST_ID_REUSED"


class PageTokenInvalidError(RemoraError):
    """The page token was altered, has expired, or was made for another list."""

    default_reason = "PAGE_TOKEN_INVALID"


class DuplicateInBatchError(RemoraError):
    """An earlier item of the batch is about the same thing."""

    default_reason = "DUPLICATE_IN_BATCH"


class SizeMismatchError(RemoraError):
    """More or fewer bytes arrived than were declared; nothing was stored."""

    default_reason = "SIZE_MISMATCH"


class ContentChecksumMismatchError(RemoraError):
    """The bytes that arrived do not have the declared digest; nothing was stored."""

    default_reason = "CONTENT_CHECKSUM_MISMATCH"


class EtagMismatchError(RemoraError):
    """The resource changed since its etag was read."""

    default_reason = "ETAG_MISMATCH"


class OffsetMismatchError(RemoraError):
    """A chunk does not start where the upload stands."""

    default_reason = "OFFSET_MISMATCH"


class ChunkChecksumMismatchError(RemoraError):
    """A chunk was damaged on the way."""

    default_reason = "CHUNK_CHECKSUM_MISMATCH"


class WriterFencedError(RemoraError):
    """Another writer has opened the same upload."""

    default_reason = "WRITER_FENCED"


class RequestInProgressError(RemoraError):
    """A request with the same id is still being worked on."""

    default_reason = "REQUEST_IN_PROGRESS"


class NotFoundError(RemoraError):
    """There is no such thing, or none that this key may see."""

    default_reason = "RESOURCE_NOT_FOUND"


class PreviewUnavailableError(RemoraError):
    """The file has no such rendition, or not yet: then `is_pending`, if the client that raised it looked."""

    default_reason = "PREVIEW_UNAVAILABLE"
    is_pending = False


class AttachmentUrlExistsError(RemoraError):
    """The subject already shows this URL."""

    default_reason = "ATTACHMENT_URL_EXISTS"


class LinkUrlExistsError(RemoraError):
    """The subject already has a link to this URL."""

    default_reason = "LINK_URL_EXISTS"


class ExternalRefExistsError(RemoraError):
    """The subject already has a file with this external reference."""

    default_reason = "EXTERNAL_REF_EXISTS"


class NotDeletedError(RemoraError):
    """There is nothing to undelete."""

    default_reason = "NOT_DELETED"


class UploadTicketExpiredError(RemoraError):
    """Nothing arrived for the upload for too long."""

    default_reason = "UPLOAD_TICKET_EXPIRED"


class UploadTicketClosedError(RemoraError):
    """The upload came to its end before."""

    default_reason = "UPLOAD_TICKET_CLOSED"


class FileQuarantinedError(RemoraError):
    """The file was found harmful and can't be read."""

    default_reason = "FILE_QUARANTINED"


class FileInUseError(RemoraError):
    """Live attachments show the file."""

    default_reason = "FILE_IN_USE"


class UploadIncompleteError(RemoraError):
    """Bytes of the upload are missing."""

    default_reason = "UPLOAD_INCOMPLETE"


class TransportUnavailableError(RemoraError):
    """The server does not offer this way of sending content."""

    default_reason = "TRANSPORT_UNAVAILABLE"


class ReadOffsetTooLargeError(RemoraError):
    """The read begins behind the end of the content."""

    default_reason = "READ_OFFSET_TOO_LARGE"


class CursorCompactedError(RemoraError):
    """The log no longer reaches back to the cursor."""

    default_reason = "CURSOR_COMPACTED"


class QuotaExceededError(RemoraError):
    """The workspace has no room for so many bytes more."""

    default_reason = "QUOTA_EXCEEDED"


class RateLimitedError(RemoraError):
    """Too many requests in a short time."""

    default_reason = "RATE_LIMITED"


class TooManyStreamsError(RemoraError):
    """As many streams are open as the server admits."""

    default_reason = "TOO_MANY_STREAMS"


class FileTooLargeError(RemoraError):
    """The content is larger than the server takes."""

    default_reason = "FILE_TOO_LARGE"


class StorageFullError(RemoraError):
    """The server's disk is full."""

    default_reason = "STORAGE_FULL"


class TokenMissingError(RemoraError):
    """No key was sent, or one that does not exist."""

    default_reason = "TOKEN_MISSING"


class TokenExpiredError(RemoraError):
    """The key has expired or was revoked."""

    default_reason = "TOKEN_EXPIRED"


class ScopeMissingError(RemoraError):
    """The key was not given the needed scope."""

    default_reason = "SCOPE_MISSING"


class AccessDeniedError(RemoraError):
    """The key may see this but not do this to it."""

    default_reason = "ACCESS_DENIED"


class StorageUnavailableError(RemoraError):
    """The server's database or storage does not answer."""

    default_reason = "STORAGE_UNAVAILABLE"


class ShuttingDownError(RemoraError):
    """The server is about to stop."""

    default_reason = "SHUTTING_DOWN"


class StoredContentCorruptError(RemoraError):
    """Stored bytes no longer match their digest."""

    default_reason = "STORED_CONTENT_CORRUPT"


class InternalServerError(RemoraError):
    """A defect of the server; `metadata` holds the request id under which it was logged."""

    default_reason = "INTERNAL"


BY_REASON: Mapping[str, type[RemoraError]] = {
    kind.default_reason: kind
    for kind in (
        ValidationFailedError,
        UrlNotAllowedError,
        RequestIdReusedError,
        PageTokenInvalidError,
        DuplicateInBatchError,
        SizeMismatchError,
        ContentChecksumMismatchError,
        EtagMismatchError,
        OffsetMismatchError,
        ChunkChecksumMismatchError,
        WriterFencedError,
        RequestInProgressError,
        NotFoundError,
        PreviewUnavailableError,
        AttachmentUrlExistsError,
        LinkUrlExistsError,
        ExternalRefExistsError,
        NotDeletedError,
        UploadTicketExpiredError,
        UploadTicketClosedError,
        FileQuarantinedError,
        FileInUseError,
        UploadIncompleteError,
        TransportUnavailableError,
        ReadOffsetTooLargeError,
        CursorCompactedError,
        QuotaExceededError,
        RateLimitedError,
        TooManyStreamsError,
        FileTooLargeError,
        StorageFullError,
        TokenMissingError,
        TokenExpiredError,
        ScopeMissingError,
        AccessDeniedError,
        StorageUnavailableError,
        ShuttingDownError,
        StoredContentCorruptError,
        InternalServerError,
    )
}


def from_call(error: grpc.RpcError) -> RemoraError:
    """Turn what gRPC raised into the error that the service meant."""
    call = cast("grpc.Call", error)  # What gRPC raises is the call that failed.
    details = call.details() or ""
    status = status_pb2.Status()
    for key, value in call.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            status.MergeFromString(value)
    status.message = details
    return from_status(status, call.code().name)


def from_status(status: status_pb2.Status, code: str) -> RemoraError:
    """Turn a google.rpc.Status into the error of its reason."""
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    request = error_details_pb2.BadRequest()
    for detail in status.details:
        for message in (info, retry, request):
            _unpack(detail, message)
    if info.domain != DOMAIN:
        if connection_broke(code, status.message):
            return ConnectionFailedError(status.message, code=code)
        return RemoraError(status.message or code, reason=code, code=code)
    kind = BY_REASON.get(info.reason, RemoraError)
    return kind(
        status.message,
        reason=info.reason,
        code=code,
        metadata=info.metadata,
        retry_after=retry.retry_delay.ToTimedelta().total_seconds() if retry.HasField("retry_delay") else None,
        violations=[(one.field, one.description) for one in request.field_violations],
    )


def connection_broke(code: str, details: str) -> bool:
    """Tell whether a status without a reason of the service means that the way to it broke."""
    # A stopping server cancels its calls; a proxy that goes away resets the stream.
    return code in {"UNAVAILABLE", "CANCELLED"} or (code == "INTERNAL" and "RST_STREAM" in details)


def worth_retrying(error: RemoraError) -> bool:
    """Tell whether the same request may succeed after a pause."""
    if isinstance(error, ConnectionFailedError) or error.code == "UNAVAILABLE":
        return True
    # Without RetryInfo RESOURCE_EXHAUSTED means that something is too large, for ever.
    return error.code in {"RESOURCE_EXHAUSTED", "ABORTED"} and error.retry_after is not None


def _unpack(
    detail: any_pb2.Any, into: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo | error_details_pb2.BadRequest
) -> None:
    if detail.TypeName() == into.DESCRIPTOR.full_name:
        detail.Unpack(into)

"""Every error a caller may see: one class for each thing a caller can act on.

`reason` is the name in `error_reason.proto` (without its prefix), `metadata` its documented keys. Messages are one
sentence that says what was wrong and what to do. Fronts map classes to status codes in one table each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from remora_server.core.values import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a request that can't be accepted, named as in the proto."""

    field: str
    description: str


class RemoraError(Exception):
    """A refusal that the caller can act on."""

    reason: ClassVar[str]

    def __init__(self, message: str, *, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})
        self.violations: Sequence[Violation] = ()
        self.retry_after_seconds: float | None = None
        self.resource: tuple[str, str] | None = None  # type and name, for ResourceInfo
        self.quota_subject = ""


class ValidationFailedError(RemoraError):
    """A field has a value that can't be accepted."""

    reason = "VALIDATION_FAILED"

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(f"{one.field}: {one.description}" for one in violations))
        self.violations = tuple(violations)


def invalid(field: str, description: str) -> ValidationFailedError:
    """Make the error for one bad field."""
    return ValidationFailedError([Violation(field, description)])


class UrlNotAllowedError(RemoraError):
    """A URL that can't become an attachment or a link: another scheme, a user name in it, not a URL at all."""

    reason = "URL_NOT_ALLOWED"

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.violations = (Violation(field, description),)


class RequestIdReusedError(RemoraError):
    """The request_id already stands for a call with other parameters."""

    reason = "REQUEST_ID_REUSED"

    def __init__(self) -> None:
        super().__init__("request_id was used within 24 h for a call with other parameters; send a new one.")


class PageTokenInvalidError(RemoraError):
    """A page token or cursor that this call did not hand out."""

    reason = "PAGE_TOKEN_INVALID"

    def __init__(self, what: str = "page_token") -> None:
        super().__init__(f"{what} is not valid for this call: altered, expired, or made for another; begin anew.")


class DuplicateInBatchError(RemoraError):
    """Two items of one batch are about the same thing."""

    reason = "DUPLICATE_IN_BATCH"

    def __init__(self) -> None:
        super().__init__("an earlier item of this batch is about the same thing; send each once.")


class SizeMismatchError(RemoraError):
    """More or fewer bytes came than were declared."""

    reason = "SIZE_MISMATCH"

    def __init__(self, expected: int, actual: int) -> None:
        came = "more" if actual > expected else str(actual)  # Nobody reads on to learn how many more.
        super().__init__(
            f"declared {expected} bytes, but {came} came, and nothing was stored; "
            "send exactly as many as were declared, or declare what you send.",
            metadata={"expected": str(expected), "actual": str(actual)},
        )


class ContentChecksumMismatchError(RemoraError):
    """The bytes are not those that a declared digest was made of."""

    reason = "CONTENT_CHECKSUM_MISMATCH"

    def __init__(self, algorithm: str, expected: str, actual: str) -> None:
        super().__init__(
            f"the {algorithm} of the received bytes is {actual}, declared was {expected}; upload again.",
            metadata={"algorithm": algorithm, "expected": expected, "actual": actual},
        )


class EtagMismatchError(RemoraError):
    """The resource changed since the caller read it."""

    reason = "ETAG_MISMATCH"

    def __init__(self, current_etag: str) -> None:
        super().__init__(
            "the resource has changed since this etag was read; read it again and repeat.",
            metadata={"current_etag": current_etag},
        )


class OffsetMismatchError(RemoraError):
    """Bytes for another place than the next expected one."""

    reason = "OFFSET_MISMATCH"

    def __init__(self, expected_offset: int) -> None:
        super().__init__(
            f"the next byte expected is at offset {expected_offset}; continue from there.",
            metadata={"expected_offset": str(expected_offset)},
        )


class ChunkChecksumMismatchError(RemoraError):
    """A chunk was damaged on the way; it was dropped."""

    reason = "CHUNK_CHECKSUM_MISMATCH"

    def __init__(self, expected_offset: int) -> None:
        super().__init__(
            f"the crc32c of the chunk does not match its bytes; send it again from offset {expected_offset}.",
            metadata={"expected_offset": str(expected_offset)},
        )


class WriterFencedError(RemoraError):
    """Another writer opened the same ticket later."""

    reason = "WRITER_FENCED"

    def __init__(self, writer_epoch: int) -> None:
        super().__init__(
            "a newer writer has opened this upload ticket; leave the upload to it.",
            metadata={"writer_epoch": str(writer_epoch)},
        )


class NotFoundError(RemoraError):
    """Not there, or not for this caller: the answer is the same."""

    reason = "RESOURCE_NOT_FOUND"

    def __init__(self, resource_type: str, name: str) -> None:
        super().__init__(f"{resource_type} not found; check the id and the workspace of the key.")
        self.resource = (resource_type, name)


class PreviewUnavailableError(RemoraError):
    """There is no such rendition of this file, or not yet."""

    reason = "PREVIEW_UNAVAILABLE"

    def __init__(self, state: str = "NONE", why: str = "") -> None:
        message = "this file has no such rendition; read the original."
        if state == "PENDING":
            message = "the preview is being made; ask again in a moment, or wait for the activity file.previewed.v1."
        elif state == "FAILED":
            message = f"there is no preview ({why}); read the original."
        super().__init__(message)


class AttachmentUrlExistsError(RemoraError):
    """The subject already has a live attachment for this URL."""

    reason = "ATTACHMENT_URL_EXISTS"

    def __init__(self, attachment_id: str) -> None:
        super().__init__(
            "the subject already has an attachment with this URL; use or update that one.",
            metadata={"attachment_id": attachment_id},
        )
        self.resource = ("attachment", f"attachments/{attachment_id}")


class ExternalRefExistsError(RemoraError):
    """The subject already has a live file under this external reference, where there may be only one."""

    reason = "EXTERNAL_REF_EXISTS"

    def __init__(self, attachment_id: str) -> None:
        super().__init__(
            "the subject already has a file with this external reference; use that one.",
            metadata={"attachment_id": attachment_id},
        )
        self.resource = ("attachment", f"attachments/{attachment_id}")


class LinkUrlExistsError(RemoraError):
    """The subject already has another link with this URL."""

    reason = "LINK_URL_EXISTS"

    def __init__(self, link_id: str) -> None:
        super().__init__(
            "the subject already has another link with this URL; use that one.", metadata={"link_id": link_id}
        )
        self.resource = ("link", f"links/{link_id}")


class NotDeletedError(RemoraError):
    """Nothing to undelete."""

    reason = "NOT_DELETED"

    def __init__(self) -> None:
        super().__init__("the resource is not deleted; there is nothing to undo.")


class UploadTicketExpiredError(RemoraError):
    """The ticket ran out before the upload was complete."""

    reason = "UPLOAD_TICKET_EXPIRED"

    def __init__(self) -> None:
        super().__init__("the upload ticket has expired; ask for a new one.")


class UploadTicketClosedError(RemoraError):
    """The ticket came to its end before."""

    reason = "UPLOAD_TICKET_CLOSED"

    def __init__(self, state: str, *, has_arrived: bool = False) -> None:
        told = "has all its bytes; make the file with CreateFile" if has_arrived else f"is {state}; ask for a new one"
        super().__init__(f"the upload ticket {told}.", metadata={"state": state})


class FileQuarantinedError(RemoraError):
    """The file was found harmful and can't be read."""

    reason = "FILE_QUARANTINED"

    def __init__(self) -> None:
        super().__init__("the file is quarantined and can't be read.")


class FileInUseError(RemoraError):
    """Live attachments hold the file."""

    reason = "FILE_IN_USE"

    def __init__(self) -> None:
        super().__init__("live attachments hold this file; delete them first, or set detach.")


class UploadIncompleteError(RemoraError):
    """The file was asked for before all its bytes had come."""

    reason = "UPLOAD_INCOMPLETE"

    def __init__(self, committed_size: int) -> None:
        super().__init__(
            f"only {committed_size} bytes have been uploaded; send the rest first.",
            metadata={"committed_size": str(committed_size)},
        )


class TransportUnavailableError(RemoraError):
    """Bytes can't be moved that way on this server."""

    reason = "TRANSPORT_UNAVAILABLE"

    def __init__(self, transport: str, *, of_ticket: str = "") -> None:
        offered = f"transport {transport} is not offered by this server; GetCapabilities lists those that are."
        issued = f"this upload ticket was issued for {of_ticket}; send its bytes that way, or ask for another ticket."
        super().__init__(issued if of_ticket else offered)


class ReadOffsetTooLargeError(RemoraError):
    """The range begins behind the end of the file."""

    reason = "READ_OFFSET_TOO_LARGE"

    def __init__(self, size: int) -> None:
        super().__init__(f"the file has only {size} bytes; ask for an offset within it.", metadata={"size": str(size)})


class CursorCompactedError(RemoraError):
    """The log no longer reaches back to this cursor."""

    reason = "CURSOR_COMPACTED"

    def __init__(self, earliest_cursor: str) -> None:
        super().__init__(
            "the activity log no longer reaches back to this cursor; continue from earliest_cursor.",
            metadata={"earliest_cursor": earliest_cursor},
        )


class QuotaExceededError(RemoraError):
    """The workspace may not hold that many bytes."""

    reason = "QUOTA_EXCEEDED"

    def __init__(
        self, workspace_id: str, *, requested_bytes: int, used_bytes: int, reserved_bytes: int, limit_bytes: int
    ) -> None:
        super().__init__(
            f"{requested_bytes} bytes more do not fit: of its {limit_bytes} bytes the workspace has used {used_bytes}, "
            f"and open uploads hold {reserved_bytes}; delete files, end uploads, or ask the operator for more.",
            metadata={
                "requested_bytes": str(requested_bytes),
                "used_bytes": str(used_bytes + reserved_bytes),
                "limit_bytes": str(limit_bytes),
            },
        )
        self.quota_subject = workspace_id


class TooManyStreamsError(RemoraError):
    """As many streams are open as the server admits."""

    reason = "TOO_MANY_STREAMS"

    def __init__(self) -> None:
        super().__init__("too many streams are open; retry after the given delay.")
        self.retry_after_seconds = 1.0


class FileTooLargeError(RemoraError):
    """The file is larger than this server accepts."""

    reason = "FILE_TOO_LARGE"

    def __init__(self, limit: int) -> None:
        super().__init__(f"files may have at most {limit} bytes here.", metadata={"limit": str(limit)})


class StorageFullError(RemoraError):
    """No room left where the bytes are kept."""

    reason = "STORAGE_FULL"

    def __init__(self) -> None:
        super().__init__("the server's storage is full and nothing was stored; tell its operator, then upload again.")


class TokenMissingError(RemoraError):
    """No credential, or one that is not known."""

    reason = "TOKEN_MISSING"

    def __init__(self) -> None:
        super().__init__(
            "no key came with the call, or one that is not known; send a good one as `authorization: Bearer <key>`."
        )


class TokenExpiredError(RemoraError):
    """The key was good once."""

    reason = "TOKEN_EXPIRED"

    def __init__(self) -> None:
        super().__init__("the key has expired or was revoked; ask the operator for a new one.")


class ScopeMissingError(RemoraError):
    """The key does not allow this call."""

    reason = "SCOPE_MISSING"

    def __init__(self, scope: str) -> None:
        super().__init__(f"the key lacks the scope {scope}; use one that has it.", metadata={"scope": scope})


class AccessDeniedError(RemoraError):
    """The caller may see this, but not change it."""

    reason = "ACCESS_DENIED"

    def __init__(self) -> None:
        super().__init__("only the creator or an admin key may change this.")


class StorageUnavailableError(RemoraError):
    """The database or the blob store does not answer."""

    reason = "STORAGE_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("storage does not answer at the moment; retry.")
        self.retry_after_seconds = 1.0


class ShuttingDownError(RemoraError):
    """The server is about to stop."""

    reason = "SHUTTING_DOWN"

    def __init__(self) -> None:
        super().__init__("the server is shutting down; retry, it or another one will answer.")
        self.retry_after_seconds = 1.0


class StoredContentCorruptError(RemoraError):
    """Stored bytes are not what was once acknowledged."""

    reason = "STORED_CONTENT_CORRUPT"

    def __init__(self) -> None:
        super().__init__("the stored bytes do not match their checksum; tell the operator to run `remora-server fsck`.")

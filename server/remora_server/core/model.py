"""The nouns of the contract as immutable values: what core decides about and every store and front passes on.

Times are whole microseconds since the Unix epoch in UTC (`Micros`): both databases keep them exactly, and they compare
and page without time zones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from typing import Generic, TypeVar

from remora_server.core.values import dataclass

Micros = int
MetadataValue = str | int | float
Metadata = Mapping[str, MetadataValue]

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did something, as others see them."""

    id: str
    kind: str  # USER, APP or SYSTEM
    display_name: str
    icon_url: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """The principal behind a call and what its key allows."""

    workspace_id: str
    workspace_slug: str
    actor: Actor
    scopes: frozenset[str]
    expire_time: Micros | None = None
    request_id: str = ""  # of the call that is served, for the log of changes
    key_id: str = ""  # of the key itself, also where a token stands for it

    @property
    def principal_id(self) -> str:
        """The user's id; two keys of one user are one principal."""
        return self.actor.id

    @property
    def is_admin(self) -> bool:
        """Whether the key may act on what other principals created."""
        return "admin" in self.scopes


@dataclass(frozen=True, slots=True)
class Subject:
    """What something is attached to; `id` is empty until it is resolved."""

    type: str
    id: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class ExternalRef:
    """The name of the same thing in another system."""

    source: str = ""
    id: str = ""


NO_REF = ExternalRef()


@dataclass(frozen=True, slots=True)
class ShownCreator:
    """Whom a program names as the maker of what it makes; nothing follows from it."""

    name: str = ""
    icon_url: str = ""


NOBODY_SHOWN = ShownCreator()


@dataclass(frozen=True, slots=True)
class Checksums:
    """Digests of some bytes; empty or None where unknown."""

    crc32c: int | None = None
    md5: bytes = b""
    sha256: bytes = b""


@dataclass(frozen=True, slots=True)
class Media:
    """What is known of a file's contents beyond its type; zero and empty mean unknown."""

    width: int = 0
    height: int = 0
    blur_hash: str = ""
    duration_ms: int = 0
    page_count: int = 0
    code_language: str = ""
    alt_text: str = ""


class PreviewState(StrEnum):
    """How far the making of a preview is; all but PENDING are final."""

    NONE = "NONE"
    PENDING = "PENDING"
    READY = "READY"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Preview:
    """What a preview shows, as PreviewKind without prefix, and how far it is."""

    kind: str = ""
    state: PreviewState = PreviewState.NONE
    reason: str = ""  # why there is none, if it is FAILED


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is known of some content by now, from looking at it."""

    detected_content_type: str = ""
    media: Media = Media()
    preview: Preview = Preview()
    is_quarantined: bool = False


@dataclass(frozen=True, slots=True)
class MediaJob:
    """The decoding and scanning of one blob, to be done or done; its findings hold for every file on the blob."""

    blob_id: str
    workspace_id: str
    content_type: str  # as sniffed; decides who decodes it
    is_done: bool
    is_scanned: bool
    finding: str  # what a scanner calls that which it found; empty if it found nothing
    preview: Preview
    media: Media
    attempts: int
    epoch: int  # raised by whoever takes it; what an earlier one comes to counts no more
    due_time: Micros  # from when on it may be taken; taking it moves this ahead
    create_time: Micros


@dataclass(frozen=True, slots=True)
class Rendition:
    """Bytes that show a blob: a blob themselves."""

    blob_id: str
    name: str  # PREVIEW or THUMBNAIL
    shown_blob_id: str
    content_type: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Blob:
    """Stored bytes; several files of one workspace may share one. `location` is where a blob store keeps them."""

    id: str
    workspace_id: str
    key: str
    checksums: Checksums
    size_bytes: int
    location: str
    create_time: Micros

    @property
    def is_inline(self) -> bool:
        """Whether the bytes lie in the database instead of the blob store."""
        return not self.location


NO_MEDIA = Media()
NO_PREVIEW = Preview()


class FileState(StrEnum):
    """Whether a file can be read."""

    ACTIVE = "ACTIVE"
    QUARANTINED = "QUARANTINED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class FileSpec:
    """What a caller says about a file before its bytes are known."""

    name: str
    size_bytes: int | None = None
    content_type: str = ""
    checksums: Checksums = Checksums()
    media: Media = Media()
    metadata: Metadata = field(default_factory=dict)
    external_ref: ExternalRef = NO_REF


@dataclass(frozen=True, slots=True)
class File:
    """Bytes with a name, an owner and a lifetime of their own."""

    id: str
    workspace_id: str
    blob_id: str
    name: str
    content_type: str
    detected_content_type: str
    size_bytes: int
    checksums: Checksums
    type: str
    state: FileState
    media: Media
    metadata: Metadata
    external_ref: ExternalRef
    creator: Actor
    create_time: Micros
    update_time: Micros
    delete_time: Micros | None
    detach_time: Micros | None  # since when nothing live holds a file that was once attached
    was_attached: bool
    version: int
    preview: Preview = NO_PREVIEW


class Form(StrEnum):
    """Which form of a file is meant."""

    ORIGINAL = "ORIGINAL"
    PREVIEW = "PREVIEW"
    THUMBNAIL = "THUMBNAIL"


@dataclass(frozen=True, slots=True)
class Shown:
    """A form of a file: `file` has its content, size, digests, type and name in place of the original's."""

    file: File
    form: Form = Form.ORIGINAL
    data: bytes | None = None  # the bytes, where they are made only when they are asked for


class TicketState(StrEnum):
    """Where an upload stands; the last four are final."""

    PENDING = "PENDING"
    UPLOADING = "UPLOADING"
    VERIFYING = "VERIFYING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"

    @property
    def is_open(self) -> bool:
        """Whether the upload may still come to a file."""
        return self in OPEN_STATES


STREAMED = "GRPC"  # The transport whose bytes all pass through us.
OPEN_STATES = (TicketState.PENDING, TicketState.UPLOADING, TicketState.VERIFYING)


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to upload one file, and how far that upload has come."""

    id: str
    workspace_id: str
    state: TicketState
    spec: FileSpec
    transport: str
    attach_to: Subject | None
    skip_existing_check: bool
    committed_size: int
    committed_crc32c: int
    writer_epoch: int
    append_offset: int  # where the last unary append began; -1 before the first
    append_crc32c: int
    file_id: str
    attachment_id: str
    outcome: str
    error_reason: str
    error_message: str
    creator: Actor
    create_time: Micros
    expire_time: Micros
    staged_removed: bool = False
    reserved_bytes: int = 0  # what it holds of its workspace's quota
    is_asset: bool = False  # its file has its number, and needs no last step
    verify_until: Micros = 0  # until then whoever reads the bytes back is taken to be alive

    @property
    def is_direct(self) -> bool:
        """Whether the bytes come over HTTP, as one object under the ticket's id, instead of by gRPC."""
        return self.transport != STREAMED


@dataclass(frozen=True, slots=True)
class Lease:
    """Who alone may do something, and until when."""

    name: str
    holder: str
    expire_time: Micros


@dataclass(frozen=True, slots=True)
class HttpUpload:
    """How to send a ticket's bytes over HTTP; the URL itself is the permission."""

    method: str
    url: str
    headers: Sequence[tuple[str, str]]
    form_data: Sequence[tuple[str, str]]  # in this order; the value `@file` marks the part that takes the bytes
    expire_time: Micros
    chunk_multiple_bytes: int = 0


@dataclass(frozen=True, slots=True)
class HttpDownload:
    """How to read a file's bytes over HTTP; the URL itself is the permission."""

    url: str
    headers: Sequence[tuple[str, str]]
    expire_time: Micros


@dataclass(frozen=True, slots=True)
class Attachment:
    """A URL or a file on a subject; exactly one of `url` and `file_id` is set."""

    id: str
    workspace_id: str
    subject: Subject
    url: str
    normalized_url: str
    url_key: str
    file_id: str
    title: str
    subtitle: str
    icon_url: str
    group_key: str
    metadata: Metadata
    external_ref: ExternalRef
    sequence_number: int | None
    creator: Actor
    updater: Actor
    create_time: Micros
    update_time: Micros
    archive_time: Micros | None
    delete_time: Micros | None
    purge_time: Micros | None
    version: int
    file: File | None = None
    shown_creator: ShownCreator = NOBODY_SHOWN


@dataclass(frozen=True, slots=True)
class Link:
    """A plain reference from a subject to a URL."""

    id: str
    workspace_id: str
    subject: Subject
    url: str
    normalized_url: str
    url_key: str
    title: str
    creator: Actor
    create_time: Micros
    version: int


@dataclass(frozen=True, slots=True)
class IssueStatus:
    """The state of an issue as its tracker names it."""

    id: str = ""
    name: str = ""
    color: str = ""
    category: str = ""


@dataclass(frozen=True, slots=True)
class Assignee:
    """A person or program that an issue is assigned to."""

    id: str
    display_name: str = ""
    avatar_url: str = ""
    kind: str = "USER"


@dataclass(frozen=True, slots=True)
class Issue:
    """What attachments need to know about an issue of a foreign tracker."""

    id: str
    workspace_id: str
    key: str
    external_refs: Sequence[ExternalRef]
    project_id: str
    title: str
    parent_issue_id: str
    status: IssueStatus
    assignees: Sequence[Assignee]
    completed: bool
    metadata: Metadata
    create_time: Micros
    update_time: Micros
    delete_time: Micros | None
    version: int


@dataclass(frozen=True, slots=True)
class Activity:
    """One recorded change. `seq` orders the log; `visible_to` names its only reader where not everybody may see it."""

    seq: int
    id: str
    type: str
    workspace_id: str
    subject: Subject | None
    actor: Actor
    occur_time: Micros
    resource_id: str
    changed_fields: Sequence[str]
    payload: Mapping[str, object]
    request_id: str
    visible_to: str


class WebhookFormat(StrEnum):
    """In which form an endpoint gets what happened."""

    STANDARD = "STANDARD"
    LINEAR = "LINEAR"


class DisabledReason(StrEnum):
    """Why nothing is sent to an endpoint."""

    NONE = ""
    REQUESTED = "REQUESTED"
    FAILING = "FAILING"
    GONE = "GONE"


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """Where the activities of a workspace are sent, and how far that has come.

    Whoever sends raises `epoch`, which ends what an earlier one comes to, and is alone at it until `claim_time`.
    """

    id: str
    workspace_id: str
    url: str
    types: Sequence[str]
    subjects: Sequence[Subject]
    format: WebhookFormat
    description: str
    disabled_reason: DisabledReason
    secret: bytes  # sealed
    previous_secret: bytes  # sealed; empty if there is none
    previous_secret_expire_time: Micros | None
    creator: Actor
    reader_id: str  # whose private things it is told: of the one who last said where they go
    create_time: Micros
    update_time: Micros
    version: int
    cursor: int  # all up to this number of the log was sent, or is not for it
    attempts: int  # so many of what is next have failed
    failing_since: Micros | None
    due_time: Micros  # what failed is not tried again before
    claim_time: Micros
    epoch: int

    @property
    def enabled(self) -> bool:
        """Whether anything is sent."""
        return self.disabled_reason is DisabledReason.NONE


class DeliveryState(StrEnum):
    """How far a delivery is."""

    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """The sending of one activity to one endpoint, with all its attempts."""

    id: str
    workspace_id: str
    endpoint_id: str
    activity_id: str
    activity_type: str
    state: DeliveryState
    attempts: int
    status: int  # of the last answer; 0 if there was none
    error: str
    duration: Micros
    create_time: Micros
    attempt_time: Micros
    next_time: Micros | None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be posted to a URL."""

    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    workspace_id: str = ""  # whose message it is


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of posting it."""

    status: int = 0  # of the answer; 0 if there was none
    error: str = ""
    duration: Micros = 0

    @property
    def succeeded(self) -> bool:
        """Whether the receiver took it."""
        return not self.error


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page of a listing; `next_page_token` is empty on the last."""

    items: Sequence[Item]
    next_page_token: str = ""
    total_size: int | None = None


@dataclass(frozen=True, slots=True)
class Workspace:
    """A tenant: nothing is ever shared between two of them."""

    id: str
    slug: str
    name: str
    create_time: Micros


@dataclass(frozen=True, slots=True)
class Project:
    """A group of issues that share the letters of their keys."""

    id: str
    workspace_id: str
    key: str
    create_time: Micros


class Outcome(StrEnum):
    """What an upsert did."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    UNCHANGED = "UNCHANGED"
    STALE = "STALE"


class UploadOutcome(StrEnum):
    """Whether an upload's bytes were taken in, or found among what the caller may read."""

    STORED = "STORED"
    ALREADY_EXISTS = "ALREADY_EXISTS"

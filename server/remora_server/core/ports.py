"""What core needs of the outside, as Protocols: a metadata store, a blob store, a clock, and the one place that writes.

Stores implement these, `app.py` hands them over. Calls are synchronous. Whatever changes rows runs inside one
transaction on the writer (`Changes.run`); reads run anywhere. Stores raise StorageUnavailableError or StorageFullError
from `core/errors.py`, never their driver's errors.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from remora_server.core.conditions import Condition
from remora_server.core.model import (
    NO_REF,
    Activity,
    Actor,
    Attachment,
    Blob,
    Caller,
    Checksums,
    DeliveryState,
    ExternalRef,
    File,
    Form,
    HttpDownload,
    HttpUpload,
    Issue,
    Lease,
    Link,
    Media,
    MediaJob,
    Micros,
    Outgoing,
    Project,
    Rendition,
    Sent,
    Ticket,
    TicketState,
    WebhookDelivery,
    WebhookEndpoint,
    Workspace,
)
from remora_server.core.values import dataclass

Result = TypeVar("Result")
Position = tuple[int | str, ...]  # the sort values of the last item of the page before


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> Micros:
        """Return microseconds since the epoch, UTC."""
        ...


class Changes(Protocol):
    """The one place that writes: calls run one after the other, several in one durable commit."""

    def run(self, call: Callable[[], Result]) -> Result:
        """Run `call` in a transaction and return its result once that is durable. Not from the event loop.

        Called inside a change it runs at once, in a savepoint of its own: if it raises, only what it did is undone.
        """
        ...


@dataclass(frozen=True, slots=True)
class Key:
    """A credential as it is kept: only its hash, never itself."""

    id: str
    key_hash: bytes
    workspace_id: str
    workspace_slug: str
    principal: Actor
    scopes: frozenset[str]
    create_time: Micros
    expire_time: Micros | None
    revoke_time: Micros | None


@dataclass(frozen=True, slots=True)
class Repeat:
    """The stored answer to a request_id."""

    fingerprint: bytes
    answer: bytes
    create_time: Micros


@dataclass(frozen=True, slots=True)
class Tally:
    """The two counters of a workspace's quota, each beside the sum of the rows that it stands for."""

    workspace_id: str
    used_bytes: int
    file_bytes: int
    reserved_bytes: int
    ticket_bytes: int


@dataclass(frozen=True, slots=True)
class Sweepable:
    """How many rows of each kind a sweep would remove, or expire, and how large the blobs among them are."""

    closed_tickets: int
    due_tickets: int
    attachments: int
    files: int
    blobs: int
    blob_bytes: int
    repeats: int


# What a condition may compare: texts, but for the times.
ATTACHMENT_FIELDS = (
    "id", "url", "title", "subtitle", "source", "creator_id", "creator_name", "create_time", "update_time",
)  # fmt: skip
ISSUE_FIELDS = ("id", "key", "title", "create_time", "update_time")


@dataclass(frozen=True, slots=True)
class AttachmentQuery:
    """Which attachments to list; empty fields don't restrict. A subject_type may stand alone."""

    workspace_id: str
    subject_type: str = ""
    subject_id: str = ""
    url_key: str = ""
    kinds: Sequence[str] = ()
    content_types: Sequence[str] = ()
    created_by: str = ""
    file_id: str = ""
    external_ref: ExternalRef = NO_REF
    show_archived: bool = False
    show_deleted: bool = False
    order: str = "CREATE_TIME_DESC"
    where: Condition | None = None  # over ATTACHMENT_FIELDS


@dataclass(frozen=True, slots=True)
class FileQuery:
    """Which files to list; `reader` sees its own and those that hang on a live attachment, empty sees all."""

    workspace_id: str
    reader: str = ""
    subject_type: str = ""
    subject_id: str = ""
    content_types: Sequence[str] = ()
    created_by: str = ""
    created_from: Micros | None = None
    created_to: Micros | None = None
    show_deleted: bool = False


@dataclass(frozen=True, slots=True)
class TicketQuery:
    """Which upload tickets to list."""

    workspace_id: str
    states: Sequence[TicketState] = ()
    created_by: str = ""


@dataclass(frozen=True, slots=True)
class LinkQuery:
    """Which links to list; empty fields don't restrict."""

    workspace_id: str
    subject_type: str = ""
    subject_id: str = ""


@dataclass(frozen=True, slots=True)
class IssueQuery:
    """Which issues to list."""

    workspace_id: str
    parent_issue_id: str = ""
    status_ids: Sequence[str] = ()
    assignee_ids: Sequence[str] = ()
    include_completed: bool = False
    order: str = "CREATE_TIME_ASC"
    where: Condition | None = None  # over ISSUE_FIELDS


@dataclass(frozen=True, slots=True)
class ActivityQuery:
    """Which activities to list; `reader` sees those meant for all and its own, empty sees all."""

    workspace_id: str
    reader: str = ""
    subjects: Sequence[tuple[str, str]] = ()  # (type, id)
    actor_ids: Sequence[str] = ()
    types: Sequence[str] = ()
    occurred_from: Micros | None = None
    occurred_to: Micros | None = None
    newest_first: bool = True


@dataclass(frozen=True, slots=True)
class DeliveryQuery:
    """Which deliveries of webhooks to list; `reader` sees those of activities that it may see, empty sees all."""

    endpoint_id: str
    states: Sequence[DeliveryState] = ()
    reader: str = ""


class MetadataStore(Protocol):
    """Rows. `find_or_add_*` is how something unique comes into being: the unique index decides, never a look first."""

    # Tenants and credentials

    def find_or_add_workspace(self, new: Workspace) -> tuple[Workspace, bool]:
        """Return the workspace with this slug and whether it is new."""
        ...

    def workspace(self, id_or_slug: str) -> Workspace | None:
        """Find a workspace by either name."""
        ...

    def list_workspaces(self) -> Sequence[Workspace]:
        """Return all, oldest first."""
        ...

    def find_or_add_user(self, workspace_id: str, new: Actor, create_time: Micros) -> Actor:
        """Return the user with this display name in the workspace."""
        ...

    def add_key(self, key: Key) -> None:
        """Keep a credential."""
        ...

    def key_by_hash(self, key_hash: bytes) -> Key | None:
        """Find a credential by the SHA-256 of its text, revoked and expired ones too."""
        ...

    def key_by_id(self, key_id: str) -> Key | None:
        """Find a credential by its id, revoked and expired ones too."""
        ...

    def list_keys(self, workspace_id: str) -> Sequence[Key]:
        """Return the workspace's keys, oldest first."""
        ...

    def revoke_key(self, key_id: str, revoke_time: Micros) -> bool:
        """Mark a key as revoked; False if there is none."""
        ...

    def find_or_add_project(self, new: Project) -> tuple[Project, bool]:
        """Return the project with this key in its workspace and whether it is new."""
        ...

    def list_projects(self, workspace_id: str) -> Sequence[Project]:
        """Return the workspace's projects, oldest first."""
        ...

    # Issues

    def issue(self, workspace_id: str, issue_id: str) -> Issue | None:
        """Find a live issue by id."""
        ...

    def issues(self, workspace_id: str, issue_ids: Collection[str]) -> Sequence[Issue]:
        """Return those of some live issues that are there."""
        ...

    def issue_by_key(self, workspace_id: str, key: str) -> Issue | None:
        """Find a live issue by key."""
        ...

    def issue_id_by_key(self, workspace_id: str, key: str) -> str | None:
        """Find the id of a live issue by key; most calls need no more of it."""
        ...

    def find_or_add_issue(self, new: Issue) -> tuple[Issue, bool]:
        """Return the live issue with this key and whether it is `new`; a deleted one becomes it, under its old id."""
        ...

    def update_issue(self, changed: Issue) -> None:
        """Write all fields of an issue."""
        ...

    def list_issues(self, query: IssueQuery, after: Position | None, limit: int) -> Sequence[Issue]:
        """Return live issues by (create_time, id) upwards."""
        ...

    def list_issues_by_parent(
        self, query: IssueQuery, parent_ids: Collection[str], after: Position | None, limit: int
    ) -> Mapping[str, Sequence[Issue]]:
        """Return what list_issues would for each of some parents."""
        ...

    def count_issues(self, query: IssueQuery) -> int:
        """Count what list_issues would return in all."""
        ...

    # Attachments

    def attachment(self, workspace_id: str, attachment_id: str) -> Attachment | None:
        """Find an attachment by id, deleted ones too, with its file."""
        ...

    def live_attachment_by_url(
        self, workspace_id: str, subject_type: str, subject_id: str, url_key: str
    ) -> Attachment | None:
        """Find the one live attachment of a subject for a URL key."""
        ...

    def live_attachment_by_file(self, subject_type: str, subject_id: str, file_id: str) -> Attachment | None:
        """Find the one live attachment of a subject for a file."""
        ...

    def find_or_add_attachment(self, new: Attachment) -> tuple[Attachment, bool]:
        """Return the live attachment of the same subject and target, and whether it is `new`."""
        ...

    def attachment_id_taken(self, attachment_id: str) -> bool:
        """Tell whether any workspace has an attachment with this id."""
        ...

    def update_attachment(self, changed: Attachment) -> None:
        """Write what an edit may change: all mutable fields but the URL, and when it was deleted and is purged."""
        ...

    def place_attachment(self, changed: Attachment) -> bool:
        """Write all mutable fields; False if a live one with the same subject and target stands in the way."""
        ...

    def list_attachments(self, query: AttachmentQuery, after: Position | None, limit: int) -> Sequence[Attachment]:
        """Return attachments in the query's order, each with its file."""
        ...

    def list_attachments_by_subject(
        self, query: AttachmentQuery, subject_ids: Collection[str], after: Position | None, limit: int
    ) -> Mapping[str, Sequence[Attachment]]:
        """Return what list_attachments would for each of some subjects of one type."""
        ...

    def count_attachments(self, query: AttachmentQuery) -> int:
        """Count what list_attachments would return in all."""
        ...

    # Files and blobs

    def file(self, workspace_id: str, file_id: str) -> File | None:
        """Find a file by id, deleted ones too."""
        ...

    def add_file(self, new: File) -> None:
        """Insert a file; its blob must have a row already."""
        ...

    def update_file(self, changed: File) -> None:
        """Write all mutable fields."""
        ...

    def list_files(self, query: FileQuery, after: Position | None, limit: int) -> Sequence[File]:
        """Return files by (create_time, id) downwards."""
        ...

    def count_files(self, query: FileQuery) -> int:
        """Count what list_files would return in all."""
        ...

    def file_with_content(
        self, blob_key: str, reader: str, *, own_only: bool, name: str = "", content_type: str = ""
    ) -> File | None:
        """Find an ACTIVE file on this content that `reader` may read; with `name`, its own of that name and type."""
        ...

    def file_with_md5(self, workspace_id: str, md5: bytes, size_bytes: int, creator: str) -> File | None:
        """Find an ACTIVE file of this creator by MD5 and size, rather one that is not detached."""
        ...

    def learn_md5(self, blob_id: str, md5: bytes) -> None:
        """Note the MD5 of a blob that was stored without one, and of its files."""
        ...

    def live_attachments_of_file(self, file_id: str) -> Sequence[Attachment]:
        """Return the live attachments that hold a file."""
        ...

    def find_or_add_blob(self, new: Blob, inline: bytes | None) -> tuple[Blob, bool]:
        """Return the blob under `new.key` and whether it is `new`; `inline` holds the bytes of one without location.

        An MD5 that a blob had not yet is taken over from `new`.
        """
        ...

    def blob(self, blob_id: str) -> Blob | None:
        """Find a blob by id."""
        ...

    def inline_bytes(self, blob_id: str) -> bytes | None:
        """Return the bytes of a blob that lies in the database."""
        ...

    # Quota

    def charge(self, workspace_id: str, delta_bytes: int, limit_bytes: int) -> bool:
        """Add to the bytes that a workspace uses; False, and nothing is added, if that would pass a limit above 0.

        What its tickets hold counts as well.
        """
        ...

    def used_bytes(self, workspace_id: str) -> int:
        """Return the bytes charged to a workspace."""
        ...

    def reserve(self, ticket_id: str, reserved_bytes: int, limit_bytes: int) -> bool:
        """Have a ticket hold so many bytes of its workspace instead of those that it holds.

        False, and nothing changes, if more than before would pass a limit above 0.
        """
        ...

    def reserved_bytes(self, workspace_id: str) -> int:
        """Return the bytes that a workspace's tickets hold."""
        ...

    # Upload tickets

    def add_ticket(self, new: Ticket) -> None:
        """Insert a ticket; it holds nothing yet."""
        ...

    def ticket(self, workspace_id: str, ticket_id: str) -> Ticket | None:
        """Find a ticket by id."""
        ...

    def update_ticket(self, changed: Ticket, *, if_state: Sequence[TicketState], if_epoch: int | None) -> bool:
        """Write a ticket if it still is in one of these states and has this writer epoch; tell whether it did."""
        ...

    def writer_epochs(self, ticket_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the writer epoch of each of these tickets that there is."""
        ...

    def list_tickets(self, query: TicketQuery, after: Position | None, limit: int) -> Sequence[Ticket]:
        """Return tickets by (create_time, id) downwards."""
        ...

    # Links

    def link(self, workspace_id: str, link_id: str) -> Link | None:
        """Find a link by id."""
        ...

    def find_or_add_link(self, new: Link) -> tuple[Link, bool]:
        """Return the subject's link for this URL key and whether it is `new`."""
        ...

    def update_link(self, changed: Link) -> bool:
        """Write a link; False if another of its subject has the same URL key."""
        ...

    def delete_link(self, link_id: str) -> None:
        """Remove a link for good."""
        ...

    def count_links(self, query: LinkQuery) -> int:
        """Count what list_links would return in all."""
        ...

    def list_links(self, query: LinkQuery, after: Position | None, limit: int) -> Sequence[Link]:
        """Return links by (create_time, id) downwards."""
        ...

    # Activity

    def add_activity(self, new: Activity) -> None:
        """Append to the log; the store gives the sequence number."""
        ...

    def activity(self, workspace_id: str, activity_id: str) -> Activity | None:
        """Find one entry."""
        ...

    def list_activities(self, query: ActivityQuery, after: Position | None, limit: int) -> Sequence[Activity]:
        """Return entries by sequence number, in the query's direction."""
        ...

    def count_activities(self, query: ActivityQuery) -> int:
        """Count what list_activities would return in all."""
        ...

    def workspaces_active_after(self, seq: int) -> Collection[str]:
        """Return the workspaces that have entries after a sequence number."""
        ...

    def activity_bounds(self) -> tuple[int, int]:
        """Return the sequence numbers of the last entry that was removed (0 if none) and of the newest one."""
        ...

    def count_activities_behind(self, query: ActivityQuery, seq: int, limit: int) -> int:
        """Count entries after a sequence number, up to a limit."""
        ...

    # Webhooks

    def add_webhook_endpoint(self, new: WebhookEndpoint) -> None:
        """Insert an endpoint."""
        ...

    def webhook_endpoint(self, workspace_id: str, endpoint_id: str) -> WebhookEndpoint | None:
        """Find an endpoint by id."""
        ...

    def update_webhook_endpoint(self, changed: WebhookEndpoint) -> None:
        """Write all mutable fields of an endpoint."""
        ...

    def delete_webhook_endpoint(self, endpoint_id: str) -> None:
        """Remove an endpoint and its deliveries for good."""
        ...

    def list_webhook_endpoints(
        self, workspace_id: str, after: Position | None, limit: int
    ) -> Sequence[WebhookEndpoint]:
        """Return endpoints by (create_time, id) downwards."""
        ...

    def count_webhook_endpoints(self, workspace_id: str) -> int:
        """Count what list_webhook_endpoints would return in all."""
        ...

    def enabled_webhook_endpoints(self) -> Sequence[WebhookEndpoint]:
        """Return the endpoints of all workspaces that are enabled."""
        ...

    def count_given_up_webhook_endpoints(self) -> int:
        """Count the endpoints of all workspaces that the service disabled, since they failed or said they are gone."""
        ...

    def has_enabled_webhook_endpoint(self) -> bool:
        """Tell whether there is any of them, quickly."""
        ...

    def add_webhook_delivery(self, new: WebhookDelivery) -> None:
        """Insert a delivery."""
        ...

    def update_webhook_delivery(self, changed: WebhookDelivery) -> None:
        """Write all mutable fields of a delivery."""
        ...

    def webhook_delivery(self, workspace_id: str, delivery_id: str) -> WebhookDelivery | None:
        """Find a delivery by id."""
        ...

    def webhook_delivery_of(self, endpoint_id: str, activity_id: str) -> WebhookDelivery | None:
        """Find the delivery of an activity to an endpoint."""
        ...

    def list_webhook_deliveries(
        self, query: DeliveryQuery, after: Position | None, limit: int
    ) -> Sequence[WebhookDelivery]:
        """Return deliveries by (create_time, id) downwards."""
        ...

    def delete_webhook_deliveries(self, before: Micros, limit: int) -> int:
        """Forget deliveries that were last tried before a time, at most so many; return how many."""
        ...

    # Repeats

    def repeat(self, key: str) -> Repeat | None:
        """Find a stored answer."""
        ...

    def add_repeat(self, key: str, repeat: Repeat) -> None:
        """Keep an answer; one under the same key is replaced."""
        ...

    # Sweeping and checking

    def tickets_to_expire(self, now: Micros, limit: int, workspace_id: str = "") -> Sequence[Ticket]:
        """Return open tickets whose time is up, of one workspace or of all."""
        ...

    def assets_to_redeem(self, now: Micros, limit: int) -> Sequence[Ticket]:
        """Return open tickets of assets whose time is up; tickets_to_expire leaves them out."""
        ...

    def tickets_to_clear(self, limit: int) -> Sequence[Ticket]:
        """Return closed tickets whose staged bytes were not removed yet."""
        ...

    def tickets_closed_before(self, time: Micros, limit: int) -> Sequence[str]:
        """Return ids of cleared tickets that expired before `time`."""
        ...

    def delete_tickets(self, ticket_ids: Sequence[str]) -> None:
        """Remove tickets for good."""
        ...

    def purge_attachments(self, deleted_before: Micros, limit: int) -> int:
        """Remove attachments that were deleted before a time; return how many."""
        ...

    def purge_files(self, gone_before: Micros, limit: int) -> int:
        """Remove files deleted, or without any attachment again, before a time; return how many."""
        ...

    def unreferenced_blobs(self, created_before: Micros, limit: int) -> Sequence[Blob]:
        """Return blobs that no file row names."""
        ...

    def delete_blob_if_unreferenced(self, blob_id: str) -> bool:
        """Remove a blob's row unless a file names it by now."""
        ...

    def delete_repeats(self, before: Micros) -> int:
        """Forget answers older than a time."""
        ...

    def count_sweepable(self, before: Micros, now: Micros, repeats_before: Micros) -> Sweepable:
        """Count, without a lock, what the removals above would find one after the other.

        Blobs that only such files name as would be purged count as unreferenced.
        """
        ...

    def condemn(self, locations: Sequence[str], time: Micros) -> None:
        """Note that bytes which no row names are being removed, so that none names them later."""
        ...

    def is_condemned(self, location: str) -> bool:
        """Tell whether bytes are being removed, or were."""
        ...

    def forget_condemned(self, before: Micros) -> int:
        """Forget what was condemned before a time; return how many."""
        ...

    def take_lease(self, wanted: Lease, now: Micros) -> Lease:
        """Take or renew a lease, unless another's has not run out; return the one that holds now."""
        ...

    def drop_lease(self, name: str, holder: str) -> None:
        """Give back a lease, if it is this holder's."""
        ...

    def store_id(self) -> str:
        """Return the identity that the database got when it was made."""
        ...

    def blobs_after(self, blob_id: str, limit: int) -> Sequence[Blob]:
        """Return blobs by id upwards, for a walk over all of them."""
        ...

    def known_locations(self, locations: Sequence[str]) -> set[str]:
        """Return those locations that a blob row names."""
        ...

    def has_stored_blobs(self) -> bool:
        """Tell whether any blob lies in the blob store."""
        ...

    def open_tickets_among(self, ticket_ids: Sequence[str]) -> set[str]:
        """Return those tickets that are open."""
        ...

    def counts(self) -> dict[str, int]:
        """Return the numbers of rows by noun."""
        ...

    def dangling_files(self) -> Sequence[str]:
        """Return ids of files whose blob has no row."""
        ...

    def add_media_job(self, new: MediaJob) -> None:
        """Note that a blob has to be looked at; its row must be there already."""
        ...

    def media_job(self, blob_id: str) -> MediaJob | None:
        """Find the job of a blob, done or not."""
        ...

    def has_due_media_job(self, now: Micros) -> bool:
        """Tell whether a job can be taken."""
        ...

    def due_media_job(self, now: Micros) -> MediaJob | None:
        """Return the job that has been due for longest."""
        ...

    def update_media_job(self, changed: MediaJob) -> None:
        """Write all mutable fields of a job."""
        ...

    def count_media_jobs(self) -> dict[str, int]:
        """Count jobs by the state of their previews; `WAITING` counts those that are not done."""
        ...

    def count_waiting_media_jobs(self) -> int:
        """Count the jobs that are not done, quickly."""
        ...

    def failed_media_jobs(self) -> Mapping[str, int]:
        """Count the jobs whose previews failed by reason."""
        ...

    def media_jobs_after(self, blob_id: str, limit: int) -> Sequence[MediaJob]:
        """Return jobs by blob id upwards, for a walk over all of them."""
        ...

    def add_rendition(self, new: Rendition) -> None:
        """Note what shows a blob; one of that name is replaced. Both blobs must have rows already."""
        ...

    def rendition(self, blob_id: str, name: str) -> Rendition | None:
        """Find what shows a blob."""
        ...

    def renditions_by(self, shown_blob_id: str) -> Sequence[Rendition]:
        """Return what a blob shows."""
        ...

    def files_on_blob(self, blob_id: str) -> Sequence[File]:
        """Return the files on a blob, deleted ones too, oldest first."""
        ...

    def tallies(self) -> Sequence[Tally]:
        """Count each workspace's quota anew, all as of one moment."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """Something found in a blob store, known or not; staged bytes have no location yet."""

    name: str
    location: str
    size_bytes: int
    modify_time: Micros


@dataclass(frozen=True, slots=True)
class Session:
    """An upload into a store that takes bytes in large blocks only: where they go, and the tail that waits here."""

    name: str  # of the staged bytes
    url: str  # where blocks are sent; empty until there was one. Whoever knows it may send, so it is never logged
    epoch: int  # of the writer that has it; one of a lower epoch moves it on no more
    is_direct: bool  # the uploader itself sends to the URL
    sent_bytes: int  # confirmed by the store
    tail: bytes  # what follows those
    location: str  # of the bytes, once they are sealed; empty while more can be sent
    create_time: Micros
    update_time: Micros

    @property
    def size_bytes(self) -> int:
        """How many bytes are safe."""
        return self.sent_bytes + len(self.tail)


class Sessions(Protocol):
    """What a blob store elsewhere keeps in the database about unfinished uploads. Writes belong inside a change."""

    def session(self, name: str) -> Session | None:
        """Find a session."""
        ...

    def keep_session(self, changed: Session) -> bool:
        """Keep a session, unless its ticket has ended or a higher epoch, or one of a higher epoch is kept; tell so.

        A late writer would otherwise bring back the row of an upload that is over, which says that a blob is staged.
        """
        ...

    def delete_session(self, name: str) -> None:
        """Forget a session."""
        ...

    def list_sessions(self, after: str, limit: int) -> Sequence[Stored]:
        """Return what is staged in sessions, by name upwards."""
        ...

    def sealed_among(self, names: Sequence[str]) -> set[str]:
        """Return those names whose sessions have come to a location: what lies there is staged yet, no blob."""
        ...


class Staged(Protocol):
    """Bytes on their way in. One writer at a time."""

    @property
    def size_bytes(self) -> int:
        """How many bytes were written so far, durable or not."""
        ...

    def write(self, data: bytes) -> None:
        """Append."""
        ...

    def sync(self) -> None:
        """Make everything written so far durable."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Read back what was written."""
        ...

    def close(self) -> None:
        """Let go of it; the bytes stay staged."""
        ...


class BlobReader(Protocol):
    """Committed bytes."""

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes; fewer only at the end."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class DirectTransfers(Protocol):
    """Bytes over HTTP straight to and from where they are kept; whoever has the URL needs no key.

    Both calls may ask the outside, so neither belongs inside a change.
    """

    @property
    def transports(self) -> Sequence[str]:
        """Which transports of `Transport`, without prefix, uploads may take."""
        ...

    @property
    def unseen(self) -> Sequence[str]:
        """Those of them whose parts come one by one, and by no server of ours."""
        ...

    def offer_upload(self, ticket: Ticket) -> HttpUpload:
        """Say how to send the bytes of an open ticket; repeating it is harmless, and each answer works."""
        ...

    def offer_download(
        self, reader: Caller, file: File, blob: Blob, disposition: str, lifetime: Micros, form: Form = Form.ORIGINAL
    ) -> HttpDownload:
        """Say how to read a form of a file in `reader`'s right; `disposition` is `attachment` or `inline`.

        `file` has the type, size and name of that form, and `blob` its bytes, unless they are made when they are read.

        Whoever asks for `inline` has seen that the bytes are what the content type says, and that it does no harm.
        """
        ...


class BlobStore(Protocol):
    """Bytes. Names are made by core from ids, never from what callers send.

    A writer has an epoch, and the database lets in one writer for each. On a store that several servers share, a writer
    that was overtaken, here or elsewhere, changes nothing that one of a higher epoch has, whenever it wakes up.
    """

    def stage(self, name: str, keep_bytes: int, epoch: int = 0) -> Staged:
        """Open staged bytes for appending after the first `keep_bytes`; what lies behind them is dropped.

        Raise StoredContentCorruptError if fewer than `keep_bytes` are there, WriterFencedError if a writer of a higher
        epoch was here. Bytes that a crash left committed under this name, without a row, are taken back.
        """
        ...

    def commit(self, name: str, content: Checksums, size_bytes: int, epoch: int = 0) -> str:
        """Turn the synced staged bytes of a writer into a blob, durably; return its location.

        Repeating it is harmless. StoredContentCorruptError is raised if they are gone, such as to a later writer.

        A store that keeps digests of its own compares them with `content` first, and raises StoredContentCorruptError
        if they differ.
        """
        ...

    def arrived(self, name: str) -> Stored | None:
        """Return the blob that came whole under a name without us, by a direct upload; None if there is none."""
        ...

    def put(self, name: str, data: bytes) -> str:
        """Keep bytes that came in one piece as a blob, durably, without staging; return its location."""
        ...

    def discard(self, name: str, *, arrived: bool = False) -> None:
        """Remove staged bytes, if there are any.

        With `arrived`, also what came whole under this name: for a ticket that is closed without a file, so that no
        blob's row can name it.
        """
        ...

    def open(self, location: str) -> BlobReader:
        """Open a blob; raise StoredContentCorruptError if it is gone."""
        ...

    def delete(self, location: str) -> None:
        """Remove a blob, if it is there."""
        ...

    def owner(self) -> str:
        """Return the identity of the database that this store belongs to, by its marker; empty if there is none."""
        ...

    def claim(self, store_id: str) -> str:
        """Leave a marker for this database, unless there is one; return whom the store belongs to now."""
        ...

    def list_blobs(self) -> Iterator[Stored]:
        """Walk over everything committed."""
        ...

    def list_staged(self) -> Iterator[Stored]:
        """Walk over everything staged."""
        ...

    def probe(self) -> None:
        """Raise StorageUnavailableError unless the store answers now."""
        ...


@dataclass(frozen=True, slots=True)
class Picture:
    """A rendition as it was made."""

    rendition: str  # PREVIEW or THUMBNAIL
    content_type: str
    width: int
    height: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Look:
    """What was found out about some content by decoding it, and what it looks like."""

    media: Media
    pictures: Sequence[Picture] = ()


class PreviewRefusedError(Exception):
    """Content can't be shown, now or later; the message says why, in a short sentence for its owner."""

    def __init__(self, reason: str, media: Media | None = None) -> None:
        super().__init__(reason)
        self.media = media or Media()  # What could be found out nevertheless.


class PreviewerMissingError(PreviewRefusedError):
    """What decodes such content is not installed; once it is, it can be tried again."""

    MARK = "need the extra `media` of the server"

    def __init__(self, content_type: str) -> None:
        super().__init__(f"previews of {content_type} {self.MARK}: pip install 'remora[server,media]'")

    @classmethod
    def is_reason(cls, reason: str) -> bool:
        """Tell whether a reason that was kept is that of this error."""
        return cls.MARK in reason


class PreviewerLostError(Exception):
    """Whoever decoded died or did not answer; another time it may go well."""


class Previewer(Protocol):
    """Decodes content, elsewhere than in this process: it may be hostile. Any thread may call."""

    def measure(self, content_type: str, source: BlobReader) -> Media | None:
        """Return what the beginning of small content tells, such as width and height; None if not within a second."""
        ...

    def render(self, content_type: str, source: BlobReader) -> Look:
        """Decode content; raise PreviewRefusedError or PreviewerLostError. What `source` raises comes through."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a scanner says of some content."""

    is_clean: bool
    finding: str = ""  # The scanner's own name for what it found, at most 200 printable characters.


class ScannerUnavailableError(Exception):
    """It was not decided: ask again later. The message says what is wrong, for the operator's log."""


class Scanner(Protocol):
    """Tells whether content is dangerous. Any thread may call."""

    def scan(self, source: BlobReader) -> Verdict:
        """Decide, or raise ScannerUnavailableError. What `source` raises comes through."""
        ...


class LandingStore(BlobStore, Protocol):
    """A blob store into which uploads over HTTP come through us."""

    def land(self, name: str, epoch: int) -> bool:
        """Turn the synced staged bytes of a writer into what `arrived` finds, durably.

        False, and nothing changes, if something has arrived under this name before. WriterFencedError is raised if the
        bytes are gone, to a later writer or with their ticket.
        """
        ...


class WebhookSender(Protocol):
    """Posts messages to URLs of others."""

    def send(self, outgoing: Outgoing) -> Sent:
        """Post a message and return what came of it, whatever that was. Not from the event loop."""
        ...

"""Core's values to messages, and back. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from functools import lru_cache
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from remora.v1 import (
    activity_pb2,
    attachment_pb2,
    attachment_service_pb2,
    common_pb2,
    file_pb2,
    file_service_pb2,
    issue_pb2,
    link_pb2,
    upload_ticket_pb2,
)
from remora_server.core.attachments import Draft, UpsertMode
from remora_server.core.errors import invalid
from remora_server.core.etags import content_etag_of, etag_of
from remora_server.core.model import (
    NO_MEDIA,
    NO_PREVIEW,
    NO_REF,
    Activity,
    Actor,
    Assignee,
    Attachment,
    Checksums,
    ExternalRef,
    File,
    FileSpec,
    FileState,
    Form,
    HttpUpload,
    Issue,
    IssueStatus,
    Link,
    Media,
    Metadata,
    MetadataValue,
    Micros,
    Outcome,
    Preview,
    PreviewState,
    Subject,
    Ticket,
    UploadOutcome,
)
from remora_server.core.receiving import Limits
from remora_server.rpc.errors import status_of_reason

MICROS = 1_000_000
NANOS = 1_000_000_000
MIN_SECONDS, MAX_SECONDS = -62_135_596_800, 253_402_300_799
Known = TypeVar("Known")
OUTCOMES = {outcome: common_pb2.Outcome.Value(f"OUTCOME_{outcome}") for outcome in Outcome}
UPLOAD_OUTCOMES = {
    outcome: file_service_pb2.UploadOutcome.Value(f"UPLOAD_OUTCOME_{outcome}") for outcome in UploadOutcome
}
UPSERT_MODES = {common_pb2.UpsertMode.Value(f"UPSERT_MODE_{mode}"): mode for mode in UpsertMode}
ORDERS: Mapping[int, str] = {
    attachment_service_pb2.ATTACHMENT_ORDER_UNSPECIFIED: "CREATE_TIME_DESC",
    attachment_service_pb2.ATTACHMENT_ORDER_CREATE_TIME_DESC: "CREATE_TIME_DESC",
    attachment_service_pb2.ATTACHMENT_ORDER_CREATE_TIME_ASC: "CREATE_TIME_ASC",
    attachment_service_pb2.ATTACHMENT_ORDER_UPDATE_TIME_DESC: "UPDATE_TIME_DESC",
}
KINDS: Mapping[int, str] = {attachment_pb2.ATTACHMENT_KIND_URL: "URL", attachment_pb2.ATTACHMENT_KIND_FILE: "FILE"}
ACTOR_KINDS = {
    "USER": common_pb2.ACTOR_KIND_USER,
    "APP": common_pb2.ACTOR_KIND_APP,
    "SYSTEM": common_pb2.ACTOR_KIND_SYSTEM,
}
TRANSPORTS = {value: name.removeprefix("TRANSPORT_") for name, value in upload_ticket_pb2.Transport.items()}
FILE_TYPES = {name.removeprefix("FILE_TYPE_"): value for name, value in file_pb2.FileType.items()}
FILE_STATES = {state: file_pb2.FileState.Value(f"FILE_STATE_{state}") for state in FileState}
PREVIEW_STATES = {state: file_pb2.PreviewState.Value(f"PREVIEW_STATE_{state}") for state in PreviewState}
PREVIEW_KINDS = {name.removeprefix("PREVIEW_KIND_"): value for name, value in file_pb2.PreviewKind.items()}
FORMS: Mapping[int, Form] = {
    file_service_pb2.RENDITION_UNSPECIFIED: Form.ORIGINAL,
    **{file_service_pb2.Rendition.Value(f"RENDITION_{form}"): form for form in Form},
}


def time_to_proto(time: Micros) -> Timestamp:
    """Return microseconds as a Timestamp."""
    seconds, micros = divmod(time, MICROS)
    return Timestamp(seconds=seconds, nanos=micros * 1000)


def fill_time(message: Timestamp, time: Micros) -> None:
    """Write microseconds into a Timestamp of a message."""
    seconds, micros = divmod(time, MICROS)
    message.seconds = seconds
    message.nanos = micros * 1000


def optional_time_to_proto(time: Micros | None) -> Timestamp | None:
    """Return a Timestamp, or None for no time."""
    return None if time is None else time_to_proto(time)


def time_from_proto(time: Timestamp, field: str) -> Micros:
    """Return a Timestamp as microseconds; one outside the years 1 to 9999 is none."""
    if not MIN_SECONDS <= time.seconds <= MAX_SECONDS or not 0 <= time.nanos < NANOS:
        raise invalid(field, "is not a time between the years 1 and 9999")
    return time.seconds * MICROS + time.nanos // 1000


def duration_from_proto(duration: Duration, field: str) -> Micros:
    """Return a Duration as microseconds; one of more than ten thousand years is none."""
    if not -MAX_SECONDS <= duration.seconds <= MAX_SECONDS or not -NANOS < duration.nanos < NANOS:
        raise invalid(field, "is not a duration")
    return duration.seconds * MICROS + duration.nanos // 1000


def duration_to_proto(duration: Micros) -> Duration:
    """Return a span of time."""
    return Duration(seconds=duration // 1_000_000, nanos=duration % 1_000_000 * 1000)


def range_from_proto(wanted: common_pb2.TimeRange, field: str) -> tuple[Micros | None, Micros | None]:
    """Return the ends of a time range, None where it is open."""
    return (
        time_from_proto(wanted.start_time, f"{field}.start_time") if wanted.HasField("start_time") else None,
        time_from_proto(wanted.end_time, f"{field}.end_time") if wanted.HasField("end_time") else None,
    )


def known(given: Iterable[int], table: Mapping[int, Known], field: str) -> tuple[Known, ...]:
    """Return what values of an enum stand for; one that means nothing is refused, not overlooked."""
    wanted = tuple(given)
    if not all(value in table for value in wanted):
        raise invalid(field, "is not a known value")
    return tuple(table[value] for value in wanted)


@lru_cache(maxsize=4096)
def actor_to_proto(actor: Actor) -> common_pb2.Actor:
    """Return who did something, as a message that callers share and don't change."""
    return common_pb2.Actor(
        id=actor.id,
        kind=ACTOR_KINDS.get(actor.kind, common_pb2.ACTOR_KIND_UNSPECIFIED),
        display_name=actor.display_name,
        icon_url=actor.icon_url,
    )


@lru_cache(maxsize=4096)
def subject_to_proto(subject: Subject) -> common_pb2.Subject:
    """Return what something is attached to, as a message that callers share and don't change."""
    return common_pb2.Subject(type=subject.type, id=subject.id, key=subject.key)


def fill_actor(message: common_pb2.Actor, actor: Actor) -> None:
    """Write who did something into a message."""
    message.id = actor.id
    message.kind = ACTOR_KINDS.get(actor.kind, common_pb2.ACTOR_KIND_UNSPECIFIED)
    message.display_name = actor.display_name
    message.icon_url = actor.icon_url


def fill_subject(message: common_pb2.Subject, subject: Subject) -> None:
    """Write what something is attached to into a message."""
    message.type = subject.type
    message.id = subject.id
    message.key = subject.key


def subject_from_proto(subject: common_pb2.Subject) -> Subject:
    """Return what a caller names as a subject."""
    return Subject(subject.type, subject.id, subject.key)


def optional_subject_from_proto(subject: common_pb2.Subject, *, given: bool) -> Subject | None:
    """Return a subject, or None where none was given."""
    return subject_from_proto(subject) if given else None


def ref_to_proto(ref: ExternalRef) -> common_pb2.ExternalRef | None:
    """Return an external reference, None for an empty one."""
    return common_pb2.ExternalRef(source=ref.source, id=ref.id) if ref.source or ref.id else None


def ref_from_proto(ref: common_pb2.ExternalRef) -> ExternalRef:
    """Return an external reference."""
    return ExternalRef(ref.source, ref.id) if ref.source or ref.id else NO_REF


def fill_metadata(target: MutableMapping[str, common_pb2.MetadataValue], metadata: Metadata) -> None:
    """Write metadata into a message's map."""
    for key, value in metadata.items():
        if isinstance(value, str):
            target[key].string_value = value
        elif isinstance(value, int):
            target[key].int_value = value
        else:
            target[key].double_value = value


def metadata_from_proto(given: MutableMapping[str, common_pb2.MetadataValue]) -> dict[str, MetadataValue]:
    """Return a message's map as metadata; a value of no kind counts as an empty string."""
    result: dict[str, MetadataValue] = {}
    for key, value in given.items():
        kind = value.WhichOneof("kind")
        result[key] = getattr(value, kind) if kind else ""
    return result


def checksums_to_proto(checksums: Checksums) -> common_pb2.Checksums:
    """Return digests."""
    message = common_pb2.Checksums()
    fill_checksums(message, checksums)
    return message


def fill_checksums(message: common_pb2.Checksums, checksums: Checksums) -> None:
    """Write digests into a message, which then is there even if none is known."""
    message.SetInParent()
    if checksums.crc32c is not None:
        message.crc32c = checksums.crc32c
    message.md5 = checksums.md5
    message.sha256 = checksums.sha256


def checksums_from_proto(checksums: common_pb2.Checksums) -> Checksums:
    """Return digests that a caller claims."""
    crc32c = checksums.crc32c if checksums.HasField("crc32c") else None
    return Checksums(crc32c, checksums.md5, checksums.sha256)


def media_to_proto(media: Media) -> file_pb2.FileMedia:
    """Return what is known of a file's contents."""
    return file_pb2.FileMedia(
        width=media.width,
        height=media.height,
        blur_hash=media.blur_hash,
        duration_ms=media.duration_ms,
        page_count=media.page_count,
        code_language=media.code_language,
        alt_text=media.alt_text,
    )


def media_from_proto(media: file_pb2.FileMedia) -> Media:
    """Return what a caller says of a file's contents."""
    return Media(
        media.width,
        media.height,
        media.blur_hash,
        media.duration_ms,
        media.page_count,
        media.code_language,
        media.alt_text,
    )


def preview_to_proto(preview: Preview) -> file_pb2.FilePreview:
    """Return how far a preview is."""
    return file_pb2.FilePreview(
        available=preview.state is PreviewState.READY,
        kind=PREVIEW_KINDS.get(preview.kind, file_pb2.PREVIEW_KIND_UNSPECIFIED),
        state=PREVIEW_STATES[preview.state],
        reason=preview.reason,
    )


def form_from_proto(rendition: int) -> Form:
    """Return which form of a file is meant."""
    return known([rendition], FORMS, "rendition")[0]


def spec_from_proto(spec: file_pb2.FileSpec) -> FileSpec:
    """Return what a caller says of a file."""
    return FileSpec(
        name=spec.name,
        size_bytes=spec.size_bytes if spec.HasField("size_bytes") else None,
        content_type=spec.content_type,
        checksums=checksums_from_proto(spec.checksums),
        media=media_from_proto(spec.media),
        metadata=metadata_from_proto(spec.metadata),
        external_ref=ref_from_proto(spec.external_ref),
    )


def spec_to_proto(spec: FileSpec) -> file_pb2.FileSpec:
    """Return what a caller said of a file."""
    message = file_pb2.FileSpec(
        name=spec.name,
        size_bytes=spec.size_bytes,
        content_type=spec.content_type,
        checksums=checksums_to_proto(spec.checksums),
        media=media_to_proto(spec.media) if spec.media != NO_MEDIA else None,
        external_ref=ref_to_proto(spec.external_ref),
    )
    fill_metadata(message.metadata, spec.metadata)
    return message


def file_to_proto(file: File) -> file_pb2.File:
    """Return a file."""
    message = file_pb2.File()
    fill_file(message, file)
    return message


def fill_file(message: file_pb2.File, file: File) -> None:
    """Write a file into a message."""
    message.id = file.id
    message.workspace_id = file.workspace_id
    message.name = file.name
    message.content_type = file.content_type
    message.size_bytes = file.size_bytes
    fill_checksums(message.checksums, file.checksums)
    message.type = FILE_TYPES[file.type]
    message.state = FILE_STATES[file.state]
    if file.media is not NO_MEDIA and file.media != NO_MEDIA:
        message.media.CopyFrom(media_to_proto(file.media))
    preview = file.preview
    if preview is NO_PREVIEW or preview == NO_PREVIEW:
        message.preview.state = file_pb2.PREVIEW_STATE_NONE
    else:
        message.preview.CopyFrom(preview_to_proto(preview))
    message.etag = etag_of(file.version)
    message.content_etag = content_etag_of(file.checksums.sha256)
    fill_actor(message.creator, file.creator)
    fill_time(message.create_time, file.create_time)
    fill_time(message.update_time, file.update_time)
    if file.delete_time is not None:
        fill_time(message.delete_time, file.delete_time)
    message.detected_content_type = file.detected_content_type
    ref = file.external_ref
    if ref.source or ref.id:
        message.external_ref.source, message.external_ref.id = ref.source, ref.id
    fill_metadata(message.metadata, file.metadata)


def file_from_proto(file: file_pb2.File) -> FileSpec:
    """Return the changeable fields of a file."""
    return FileSpec(
        name=file.name,
        content_type=file.content_type,
        media=media_from_proto(file.media),
        metadata=metadata_from_proto(file.metadata),
        external_ref=ref_from_proto(file.external_ref),
    )


def attachment_to_proto(attachment: Attachment) -> attachment_pb2.Attachment:
    """Return an attachment; a deleted one no longer shows its file."""
    message = attachment_pb2.Attachment()
    fill_attachment(message, attachment)
    return message


def fill_attachment(message: attachment_pb2.Attachment, attachment: Attachment) -> None:
    """Write an attachment into a message; a deleted one no longer shows its file.

    Field by field and in place: each message that is made first and then put into another one is copied once more.
    """
    message.id = attachment.id
    message.workspace_id = attachment.workspace_id
    fill_subject(message.subject, attachment.subject)
    message.title = attachment.title
    message.subtitle = attachment.subtitle
    message.icon_url = attachment.icon_url
    fill_metadata(message.metadata, attachment.metadata)
    ref = attachment.external_ref
    if ref.source or ref.id:
        message.external_ref.source, message.external_ref.id = ref.source, ref.id
    if attachment.sequence_number is not None:
        message.sequence_number = attachment.sequence_number
    if attachment.url:
        message.url = attachment.url
    else:
        message.file_id = attachment.file_id
    if attachment.file is not None and attachment.delete_time is None:
        fill_file(message.file, attachment.file)
    message.etag = etag_of(attachment.version)
    fill_time(message.create_time, attachment.create_time)
    fill_time(message.update_time, attachment.update_time)
    message.normalized_url = attachment.normalized_url
    message.group_key = attachment.group_key
    fill_actor(message.creator, attachment.creator)
    fill_actor(message.updater, attachment.updater)
    if attachment.archive_time is not None:
        fill_time(message.archive_time, attachment.archive_time)
    if attachment.delete_time is not None:
        fill_time(message.delete_time, attachment.delete_time)
    if attachment.purge_time is not None:
        fill_time(message.purge_time, attachment.purge_time)


def draft_from_proto(attachment: attachment_pb2.Attachment, attachment_id: str = "") -> Draft:
    """Return an attachment as a caller writes it."""
    return Draft(
        workspace_id=attachment.workspace_id,
        subject=subject_from_proto(attachment.subject),
        url=attachment.url,
        file_id=attachment.file_id,
        title=attachment.title,
        subtitle=attachment.subtitle,
        icon_url=attachment.icon_url,
        group_key=attachment.group_key,
        metadata=metadata_from_proto(attachment.metadata),
        external_ref=ref_from_proto(attachment.external_ref),
        sequence_number=attachment.sequence_number if attachment.HasField("sequence_number") else None,
        id=attachment_id,
    )


def mode_from_proto(mode: common_pb2.UpsertMode.ValueType) -> UpsertMode | None:
    """Return what an upsert may do, unset means both; None for a value that is not known."""
    return UPSERT_MODES.get(mode) if mode else UpsertMode.UPSERT


def ticket_to_proto(ticket: Ticket, limits: Limits) -> upload_ticket_pb2.UploadTicket:
    """Return an upload ticket."""
    return upload_ticket_pb2.UploadTicket(
        id=ticket.id,
        workspace_id=ticket.workspace_id,
        state=upload_ticket_pb2.UploadTicketState.Value(f"UPLOAD_TICKET_STATE_{ticket.state}"),
        spec=spec_to_proto(ticket.spec),
        committed_size=ticket.committed_size,
        committed_checksums=common_pb2.Checksums(crc32c=ticket.committed_crc32c),
        transport=upload_ticket_pb2.Transport.Value(f"TRANSPORT_{ticket.transport}"),
        limits=limits_to_proto(limits),
        attach_to=subject_to_proto(ticket.attach_to) if ticket.attach_to else None,
        file_id=ticket.file_id,
        attachment_id=ticket.attachment_id,
        error=status_of_reason(ticket.error_reason, ticket.error_message) if ticket.error_reason else None,
        creator=actor_to_proto(ticket.creator),
        create_time=time_to_proto(ticket.create_time),
        expire_time=time_to_proto(ticket.expire_time),
    )


def http_upload_to_proto(http: HttpUpload) -> upload_ticket_pb2.HttpUpload:
    """Return how to send a ticket's bytes over HTTP."""
    return upload_ticket_pb2.HttpUpload(
        method=http.method,
        url=http.url,
        headers=[common_pb2.HttpHeader(name=name, value=value) for name, value in http.headers],
        form_data=[common_pb2.FormField(name=name, value=value) for name, value in http.form_data],
        expire_time=time_to_proto(http.expire_time),
        chunk_multiple_bytes=http.chunk_multiple_bytes,
    )


def limits_to_proto(limits: Limits) -> upload_ticket_pb2.UploadLimits:
    """Return how an upload is to be cut."""
    return upload_ticket_pb2.UploadLimits(
        max_chunk_bytes=limits.max_chunk_bytes,
        max_size_bytes=limits.max_file_bytes,
        ack_interval_bytes=limits.ack_interval_bytes,
        max_unacked_bytes=limits.max_unacked_bytes,
    )


def link_to_proto(link: Link) -> link_pb2.Link:
    """Return a link."""
    return link_pb2.Link(
        id=link.id,
        workspace_id=link.workspace_id,
        subject=subject_to_proto(link.subject),
        url=link.url,
        normalized_url=link.normalized_url,
        title=link.title,
        creator=actor_to_proto(link.creator),
        create_time=time_to_proto(link.create_time),
        etag=etag_of(link.version),
    )


def issue_to_proto(issue: Issue) -> issue_pb2.Issue:
    """Return an issue."""
    message = issue_pb2.Issue(
        id=issue.id,
        workspace_id=issue.workspace_id,
        key=issue.key,
        external_refs=[common_pb2.ExternalRef(source=ref.source, id=ref.id) for ref in issue.external_refs],
        project_id=issue.project_id,
        title=issue.title,
        parent_issue_id=issue.parent_issue_id,
        assignees=[
            issue_pb2.IssueAssignee(
                id=one.id,
                display_name=one.display_name,
                avatar_url=one.avatar_url,
                kind=ACTOR_KINDS.get(one.kind, common_pb2.ACTOR_KIND_UNSPECIFIED),
            )
            for one in issue.assignees
        ],
        completed=issue.completed,
        etag=etag_of(issue.version),
        create_time=time_to_proto(issue.create_time),
        update_time=time_to_proto(issue.update_time),
        delete_time=optional_time_to_proto(issue.delete_time),
    )
    status = issue.status
    if status != IssueStatus():
        message.status.CopyFrom(
            issue_pb2.IssueStatus(id=status.id, name=status.name, color=status.color, category=status.category)
        )
    fill_metadata(message.metadata, issue.metadata)
    return message


def issue_from_proto(issue: issue_pb2.Issue) -> Issue:
    """Return an issue as a host system writes it; core sets what it keeps to itself."""
    kinds = {value: name for name, value in ACTOR_KINDS.items()}
    return Issue(
        id="",
        workspace_id=issue.workspace_id,
        key=issue.key,
        external_refs=tuple(ref_from_proto(ref) for ref in issue.external_refs),
        project_id=issue.project_id,
        title=issue.title,
        parent_issue_id=issue.parent_issue_id,
        status=IssueStatus(issue.status.id, issue.status.name, issue.status.color, issue.status.category),
        assignees=tuple(
            Assignee(one.id, one.display_name, one.avatar_url, kinds.get(one.kind, "USER")) for one in issue.assignees
        ),
        completed=issue.completed,
        metadata=metadata_from_proto(issue.metadata),
        create_time=0,
        update_time=0,
        delete_time=None,
        version=0,
    )


def activity_to_proto(activity: Activity, cursor: str, *, include_payload: bool = True) -> activity_pb2.Activity:
    """Return an entry of the log; its payload shows the resource as it was then."""
    message = activity_pb2.Activity(
        id=activity.id,
        cursor=cursor,
        type=activity.type,
        workspace_id=activity.workspace_id,
        subject=subject_to_proto(activity.subject) if activity.subject else None,
        actor=actor_to_proto(activity.actor),
        occur_time=time_to_proto(activity.occur_time),
        resource_id=activity.resource_id,
        changed_fields=activity.changed_fields,
        request_id=activity.request_id,
    )
    if include_payload:
        for noun, summary in activity.payload.items():
            if isinstance(summary, dict):
                PAYLOADS[noun](message, summary)
    return message


def _attachment_payload(message: activity_pb2.Activity, summary: dict[str, str]) -> None:
    shown = message.attachment
    shown.id, shown.title, shown.subtitle = summary["id"], summary["title"], summary["subtitle"]
    if "url" in summary:
        shown.url = summary["url"]
    else:
        shown.file_id = shown.file.id = summary["file_id"]
        shown.file.name = summary["name"]


def _file_payload(message: activity_pb2.Activity, summary: dict[str, str]) -> None:
    message.file.CopyFrom(
        file_pb2.File(
            id=summary["id"],
            name=summary["name"],
            content_type=summary["content_type"],
            size_bytes=int(summary["size_bytes"]),
        )
    )


def _link_payload(message: activity_pb2.Activity, summary: dict[str, str]) -> None:
    message.link.CopyFrom(link_pb2.Link(id=summary["id"], url=summary["url"], title=summary["title"]))


def _ticket_payload(message: activity_pb2.Activity, summary: dict[str, str]) -> None:
    message.upload_ticket.CopyFrom(
        upload_ticket_pb2.UploadTicket(
            id=summary["id"],
            spec=file_pb2.FileSpec(name=summary["name"]),
            state=upload_ticket_pb2.UploadTicketState.Value(f"UPLOAD_TICKET_STATE_{summary['state']}"),
        )
    )


def _issue_payload(message: activity_pb2.Activity, summary: dict[str, str]) -> None:
    message.issue.CopyFrom(
        issue_pb2.Issue(
            id=summary["id"],
            key=summary["key"],
            title=summary["title"],
            status=issue_pb2.IssueStatus(name=summary["status"]),
        )
    )


PAYLOADS: dict[str, Callable[[activity_pb2.Activity, dict[str, str]], None]] = {
    "attachment": _attachment_payload,
    "file": _file_payload,
    "link": _link_payload,
    "upload_ticket": _ticket_payload,
    "issue": _issue_payload,
}

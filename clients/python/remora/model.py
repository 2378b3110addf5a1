"""What the service keeps, as plain frozen objects: digests are hex, times are datetimes, metadata is a dict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from remora.v1 import activity_pb2, attachment_pb2, common_pb2, file_pb2, link_pb2, upload_ticket_pb2

MetadataValue = str | int | float
Outcome = Literal["created", "updated", "unchanged", "stale"]

PENDING = "pending"

_ISSUE_ID = re.compile(r"iss_[0-9a-z]{26}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class Subject:
    """What something is attached to."""

    type: str
    id: str
    key: str

    def __str__(self) -> str:
        name = self.key or self.id
        return name if self.type == "issue" else f"{self.type}:{name}"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did something."""

    id: str
    kind: str
    display_name: str
    icon_url: str


@dataclass(frozen=True, slots=True)
class Media:
    """What is known of a file's contents beyond their type; zero and empty mean unknown."""

    width: int = 0
    height: int = 0
    blur_hash: str = ""
    duration_ms: int = 0
    page_count: int = 0
    code_language: str = ""
    alt_text: str = ""


@dataclass(frozen=True, slots=True)
class Preview:
    """What shows a file: `state` is none, pending, ready or failed, and `reason` says why it failed."""

    available: bool = False
    kind: str = ""
    state: str = "none"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """Content under a name."""

    id: str
    name: str
    content_type: str
    detected_content_type: str
    size_bytes: int
    sha256: str
    crc32c: int
    state: str
    media: Media
    preview: Preview
    metadata: Mapping[str, MetadataValue]
    etag: str
    content_etag: str
    creator: Actor
    create_time: datetime | None
    delete_time: datetime | None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A card on a subject that shows a URL or a file."""

    id: str
    subject: Subject
    kind: Literal["url", "file"]
    url: str
    file_id: str
    file: File | None
    title: str
    subtitle: str
    metadata: Mapping[str, MetadataValue]
    sequence_number: int | None
    etag: str
    creator: Actor
    create_time: datetime | None
    update_time: datetime | None
    delete_time: datetime | None
    purge_time: datetime | None

    @property
    def name(self) -> str:
        """Give what to show as its heading."""
        return self.title or (self.file.name if self.file else "") or self.url or self.file_id


@dataclass(frozen=True, slots=True)
class Attached:
    """An attachment as it is stored now, and what the upsert did."""

    attachment: Attachment
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Link:
    """A titled URL on a subject."""

    id: str
    subject: Subject
    url: str
    title: str
    etag: str
    creator: Actor
    create_time: datetime | None


@dataclass(frozen=True, slots=True)
class Activity:
    """One change in the log."""

    id: str
    cursor: str
    type: str
    subject: Subject | None
    actor: Actor
    occur_time: datetime | None
    resource_id: str
    changed_fields: tuple[str, ...]
    request_id: str
    name: str = ""  # what changed, as people call it: a title, a file's name, a URL, an issue's key


@dataclass(frozen=True, slots=True)
class Ticket:
    """An upload in progress."""

    id: str
    name: str
    state: str
    committed_size: int
    size_bytes: int | None
    subject: Subject | None
    create_time: datetime | None
    expire_time: datetime | None


def subject_from_text(text: str) -> common_pb2.Subject:
    """Read `DEMO-1`, an issue's id or UUID, or `comment:42` for another kind of subject."""
    kind, colon, rest = text.partition(":")
    if colon:
        return common_pb2.Subject(type=kind, id=rest)
    if _ISSUE_ID.fullmatch(text):
        return common_pb2.Subject(type="issue", id=text)
    return common_pb2.Subject(type="issue", key=text)


def metadata_to_proto(values: Mapping[str, MetadataValue]) -> dict[str, common_pb2.MetadataValue]:
    """Give each value its type on the wire."""
    return {key: _value_to_proto(value) for key, value in values.items()}


def file_from_proto(file: file_pb2.File) -> File:
    """Take over a file."""
    return File(
        id=file.id,
        name=file.name,
        content_type=file.content_type,
        detected_content_type=file.detected_content_type,
        size_bytes=file.size_bytes,
        sha256=file.checksums.sha256.hex(),
        crc32c=file.checksums.crc32c,
        state=_word(file_pb2.FileState.DESCRIPTOR, file.state),
        media=_media(file.media),
        preview=_preview(file.preview),
        metadata=_metadata(file.metadata),
        etag=file.etag,
        content_etag=file.content_etag,
        creator=_actor(file.creator),
        create_time=_time(file.create_time) if file.HasField("create_time") else None,
        delete_time=_time(file.delete_time) if file.HasField("delete_time") else None,
    )


def attachment_from_proto(attachment: attachment_pb2.Attachment) -> Attachment:
    """Take over an attachment."""
    return Attachment(
        id=attachment.id,
        subject=_subject(attachment.subject),
        kind="file" if attachment.WhichOneof("target") == "file_id" else "url",
        url=attachment.url,
        file_id=attachment.file_id,
        file=file_from_proto(attachment.file) if attachment.HasField("file") else None,
        title=attachment.title,
        subtitle=attachment.subtitle,
        metadata=_metadata(attachment.metadata),
        sequence_number=attachment.sequence_number if attachment.HasField("sequence_number") else None,
        etag=attachment.etag,
        creator=_actor(attachment.creator),
        create_time=_time(attachment.create_time) if attachment.HasField("create_time") else None,
        update_time=_time(attachment.update_time) if attachment.HasField("update_time") else None,
        delete_time=_time(attachment.delete_time) if attachment.HasField("delete_time") else None,
        purge_time=_time(attachment.purge_time) if attachment.HasField("purge_time") else None,
    )


def link_from_proto(link: link_pb2.Link) -> Link:
    """Take over a link."""
    return Link(
        id=link.id,
        subject=_subject(link.subject),
        url=link.url,
        title=link.title,
        etag=link.etag,
        creator=_actor(link.creator),
        create_time=_time(link.create_time) if link.HasField("create_time") else None,
    )


def activity_from_proto(activity: activity_pb2.Activity) -> Activity:
    """Take over an activity."""
    return Activity(
        id=activity.id,
        cursor=activity.cursor,
        type=activity.type,
        subject=_subject(activity.subject) if activity.HasField("subject") else None,
        actor=_actor(activity.actor),
        occur_time=_time(activity.occur_time) if activity.HasField("occur_time") else None,
        resource_id=activity.resource_id,
        changed_fields=tuple(activity.changed_fields),
        request_id=activity.request_id,
        name=_name_of_changed(activity),
    )


def _name_of_changed(activity: activity_pb2.Activity) -> str:
    match activity.WhichOneof("payload"):
        case "attachment":
            shown = activity.attachment
            return shown.title or shown.file.name or shown.url
        case "file":
            return activity.file.name
        case "link":
            return activity.link.title or activity.link.url
        case "upload_ticket":
            return activity.upload_ticket.spec.name
        case "issue":
            return activity.issue.key
        case _:
            return ""


def ticket_from_proto(ticket: upload_ticket_pb2.UploadTicket) -> Ticket:
    """Take over an upload ticket."""
    return Ticket(
        id=ticket.id,
        name=ticket.spec.name,
        state=_word(upload_ticket_pb2.UploadTicketState.DESCRIPTOR, ticket.state),
        committed_size=ticket.committed_size,
        size_bytes=ticket.spec.size_bytes if ticket.spec.HasField("size_bytes") else None,
        subject=_subject(ticket.attach_to) if ticket.HasField("attach_to") else None,
        create_time=_time(ticket.create_time) if ticket.HasField("create_time") else None,
        expire_time=_time(ticket.expire_time) if ticket.HasField("expire_time") else None,
    )


def outcome_from_proto(outcome: common_pb2.Outcome.ValueType) -> Outcome:
    """Take over what an upsert did."""
    outcomes: dict[int, Outcome] = {
        common_pb2.OUTCOME_CREATED: "created",
        common_pb2.OUTCOME_UPDATED: "updated",
        common_pb2.OUTCOME_STALE: "stale",
    }
    return outcomes.get(outcome, "unchanged")


def _value_to_proto(value: MetadataValue) -> common_pb2.MetadataValue:
    if isinstance(value, str):
        return common_pb2.MetadataValue(string_value=value)
    if isinstance(value, int):
        return common_pb2.MetadataValue(int_value=value)
    return common_pb2.MetadataValue(double_value=value)


def _metadata(values: Mapping[str, common_pb2.MetadataValue]) -> dict[str, MetadataValue]:
    taken: dict[str, MetadataValue] = {}
    for key, value in values.items():
        kind = value.WhichOneof("kind")
        if kind == "string_value":
            taken[key] = value.string_value
        elif kind == "int_value":
            taken[key] = value.int_value
        elif kind == "double_value":
            taken[key] = value.double_value
    return taken


def _media(media: file_pb2.FileMedia) -> Media:
    return Media(
        width=media.width,
        height=media.height,
        blur_hash=media.blur_hash,
        duration_ms=media.duration_ms,
        page_count=media.page_count,
        code_language=media.code_language,
        alt_text=media.alt_text,
    )


def _preview(preview: file_pb2.FilePreview) -> Preview:
    return Preview(
        available=preview.available,
        kind=_word(file_pb2.PreviewKind.DESCRIPTOR, preview.kind) if preview.kind else "",
        state=_word(file_pb2.PreviewState.DESCRIPTOR, preview.state) if preview.state else "none",
        reason=preview.reason,
    )


def _subject(subject: common_pb2.Subject) -> Subject:
    return Subject(type=subject.type, id=subject.id, key=subject.key)


def _actor(actor: common_pb2.Actor) -> Actor:
    return Actor(
        id=actor.id,
        kind=_word(common_pb2.ActorKind.DESCRIPTOR, actor.kind),
        display_name=actor.display_name,
        icon_url=actor.icon_url,
    )


def _time(moment: Timestamp) -> datetime:
    return moment.ToDatetime(tzinfo=UTC)


def _word(kind: EnumDescriptor, value: int) -> str:
    """Write `FILE_STATE_ACTIVE` as `active`."""
    named = kind.values_by_number.get(value)
    if named is None:
        return str(value)  # A newer server may send values that this version has no name for.
    unset = kind.values_by_number[0].name  # Like all of them it begins with the name of the enum.
    return named.name.removeprefix(unset.removesuffix("UNSPECIFIED")).lower()

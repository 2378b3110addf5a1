"""One table with every RPC of every service: how to call it on prepared things, and what a second user may expect."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from remora.v1 import activity_service_pb2 as activity
from remora.v1 import attachment_pb2, common_pb2, file_pb2, issue_pb2, link_pb2, webhook_pb2
from remora.v1 import attachment_service_pb2 as attachment
from remora.v1 import capability_service_pb2 as capability
from remora.v1 import file_service_pb2 as file
from remora.v1 import issue_service_pb2 as issue
from remora.v1 import link_service_pb2 as link
from remora.v1 import upload_ticket_service_pb2 as ticket
from remora.v1 import webhook_service_pb2 as webhook
from remora_server.core import ids
from remora_server.rpc.server import SERVICES
from tests.running import Api, Refusal, until

STUBS = {
    "UploadTicketService": "tickets",
    "FileService": "files",
    "AttachmentService": "attachments",
    "LinkService": "links",
    "ActivityService": "activity",
    "IssueService": "issues",
    "WebhookService": "webhooks",
    "CapabilityService": "capabilities",
}
METHODS: Mapping[str, MethodDescriptor] = {
    f"{service.name}.{method.name}": method for service in SERVICES for method in service.methods
}
CONTENT = b"hello"
ALWAYS = common_pb2.TimeRange(start_time=Timestamp(seconds=1), end_time=Timestamp(seconds=2**36, nanos=1))
NOWHERE, KEPT = "https://2130706433/hook", "kept"
_numbers = itertools.count(1)
_deliveries: dict[str, str] = {}


@dataclass(frozen=True)
class Names:
    """The names of one user's things, as requests carry them."""

    workspace: str
    issue: str
    card: str
    deleted_card: str
    file_card: str
    hung_file: str
    loose_file: str
    deleted_file: str
    ticket: str
    full_ticket: str
    link: str
    shown_activity: str
    hidden_activity: str
    endpoint: str
    delivery: str

    @property
    def subject(self) -> common_pb2.Subject:
        """The issue, as a subject."""
        return common_pb2.Subject(type="issue", id=self.issue)

    @property
    def secrets(self) -> Sequence[str]:
        """What only their creator may know of."""
        return (self.loose_file, self.deleted_file, self.ticket, self.full_ticket, self.hidden_activity)

    @property
    def all(self) -> Sequence[str]:
        """Every name but that of the workspace."""
        return [getattr(self, one.name) for one in fields(self) if one.name != "workspace"]

    def missing(self, *, keep: Sequence[str] = ()) -> Names:
        """Return names of the same form that nobody has."""
        made = {
            one.name: ids.new_id(getattr(self, one.name).partition("_")[0])
            for one in fields(self)
            if one.name not in {"workspace", *keep}
        }
        nowhere = f"no{next(_numbers)}".ljust(len(self.workspace), "x")
        workspace = {} if "workspace" in keep else {"workspace": nowhere}
        return replace(self, **made, **workspace)

    def hidden_in(self, text: str) -> str:
        """Return a text with names replaced by what they name, so that two answers can be compared."""
        for one in fields(self):
            text = text.replace(getattr(self, one.name), f"<{one.name}>")
        return text


def prepare(api: Api, workspace: str) -> Names:
    """Make one of each thing."""
    key = f"EVERY-{next(_numbers)}-{os.urandom(3).hex()}"
    subject = common_pb2.Subject(type="issue", key=key)

    def upload(name: str, **options: Any) -> file.UploadFileResponse:
        spec = file_pb2.FileSpec(name=name)
        request = file.UploadFileRequest(workspace_id=workspace, spec=spec, data=os.urandom(8), **options)
        return api.files.UploadFile(request)

    def card(url: str) -> attachment_pb2.Attachment:
        wanted = attachment_pb2.Attachment(workspace_id=workspace, subject=subject, url=url)
        return api.attachments.CreateAttachment(attachment.CreateAttachmentRequest(attachment=wanted)).attachment

    def pending() -> str:
        spec = file_pb2.FileSpec(name="t")
        request = ticket.CreateUploadTicketRequest(workspace_id=workspace, spec=spec)
        return api.tickets.CreateUploadTicket(request).upload_ticket.id

    shown = card("https://example.com/shown")
    deleted = card("https://example.com/deleted")
    api.attachments.DeleteAttachment(attachment.DeleteAttachmentRequest(attachment_id=deleted.id))
    hung = upload("hung.txt", attach_to=subject)
    loose, gone = upload("loose.txt").file, upload("gone.txt").file
    api.files.DeleteFile(file.DeleteFileRequest(file_id=gone.id))
    full = pending()
    data = common_pb2.ChecksummedData(content=CONTENT)
    api.tickets.AppendUploadTicket(ticket.AppendUploadTicketRequest(upload_ticket_id=full, data=data))
    made = api.links.CreateLink(
        link.CreateLinkRequest(workspace_id=workspace, subject=subject, url="https://example.com/link")
    ).link
    empty = pending()
    log = api.activity.ListActivities(activity.ListActivitiesRequest(workspace_id=workspace, page_size=50)).activities
    return Names(
        workspace=workspace,
        issue=shown.subject.id,
        card=shown.id,
        deleted_card=deleted.id,
        file_card=hung.attachment_id,
        hung_file=hung.file.id,
        loose_file=loose.id,
        deleted_file=gone.id,
        ticket=empty,
        full_ticket=full,
        link=made.id,
        shown_activity=next(one.id for one in log if one.resource_id == shown.id),
        hidden_activity=next(one.id for one in log if one.resource_id == empty),
        endpoint=_endpoint(api, workspace, enabled=False),
        delivery=_delivery(api, workspace),
    )


def _endpoint(api: Api, workspace: str, *, enabled: bool) -> str:
    """Make an endpoint that nothing reaches: its host is the number of 127.0.0.1, which is found out when sending."""
    listing = webhook.ListWebhookEndpointsRequest(workspace_id=workspace)
    if len(old := api.webhooks.ListWebhookEndpoints(listing).webhook_endpoints) > 50:
        for one in old:
            if one.description != KEPT:
                api.webhooks.DeleteWebhookEndpoint(webhook.DeleteWebhookEndpointRequest(webhook_endpoint_id=one.id))
    wanted = webhook_pb2.WebhookEndpoint(
        workspace_id=workspace, url=NOWHERE, enabled=enabled, description=KEPT if enabled else ""
    )
    request = webhook.CreateWebhookEndpointRequest(webhook_endpoint=wanted)
    return api.webhooks.CreateWebhookEndpoint(request).webhook_endpoint.id


def _delivery(api: Api, workspace: str) -> str:
    """Return a delivery; there is one for each workspace, since only a process that sends makes any."""
    if api.address + workspace not in _deliveries:
        endpoint = _endpoint(api, workspace, enabled=True)
        subject = common_pb2.Subject(type="issue", key="HOOK-1")
        url = f"https://example.com/{next(_numbers)}"
        api.links.CreateLink(link.CreateLinkRequest(workspace_id=workspace, subject=subject, url=url))
        listing = webhook.ListWebhookDeliveriesRequest(workspace_id=workspace, webhook_endpoint_id=endpoint)
        until(lambda: api.webhooks.ListWebhookDeliveries(listing).webhook_deliveries, 30.0)
        paused = webhook_pb2.WebhookEndpoint(id=endpoint, enabled=False)
        api.webhooks.UpdateWebhookEndpoint(webhook.UpdateWebhookEndpointRequest(webhook_endpoint=paused))
        made = api.webhooks.ListWebhookDeliveries(listing).webhook_deliveries[0].id
        _deliveries[api.address + workspace] = made
    return _deliveries[api.address + workspace]


Second = Literal["may", "finds nothing", "is denied"]
Request = Message | Sequence[Message]


@dataclass(frozen=True)
class Row:
    """One way to call an RPC; `second` says what a second user of the same workspace may expect of it."""

    rpc: str
    make: Callable[[Names], Request]
    second: Second = "may"
    about: str = ""

    @property
    def method(self) -> MethodDescriptor:
        """What the proto says of the RPC."""
        return METHODS[self.rpc]

    def __str__(self) -> str:
        return f"{self.rpc}({self.about})"


NOTHING: Second = "finds nothing"
DENIED: Second = "is denied"


def _spec() -> file_pb2.FileSpec:
    return file_pb2.FileSpec(
        name=f"new-{next(_numbers)}.txt",
        content_type="text/plain",
        metadata={"a": common_pb2.MetadataValue(int_value=1)},
    )


def _wanted(names: Names, **fields: Any) -> attachment_pb2.Attachment:
    target = {"url": f"https://example.com/{next(_numbers)}"} if "file_id" not in fields else {}
    return attachment_pb2.Attachment(
        workspace_id=names.workspace, subject=names.subject, title="t", **{**target, **fields}
    )


def _upsert(names: Names) -> attachment.UpsertAttachmentRequest:
    return attachment.UpsertAttachmentRequest(attachment=_wanted(names), mode=common_pb2.UPSERT_MODE_UPSERT)


def _link(names: Names) -> link.CreateLinkRequest:
    url = f"https://example.com/{next(_numbers)}"
    return link.CreateLinkRequest(workspace_id=names.workspace, subject=names.subject, url=url, title="t")


def _ticket(names: Names) -> ticket.CreateUploadTicketRequest:
    return ticket.CreateUploadTicketRequest(workspace_id=names.workspace, spec=_spec(), attach_to=names.subject)


def _push(names: Names) -> issue.UpsertIssueRequest:
    wanted = issue_pb2.Issue(
        workspace_id=names.workspace, key=f"NEW-{next(_numbers)}", title="t", parent_issue_id=names.issue
    )
    return issue.UpsertIssueRequest(issue=wanted)


def _write(opening: file.WriteFileRequest.Open, size: int) -> Sequence[Message]:
    finish = file.WriteFileRequest.Finish(size_bytes=size)
    return [file.WriteFileRequest(open=opening), file.WriteFileRequest(finish=finish)]


ROWS = (
    Row("UploadTicketService.CreateUploadTicket", _ticket),
    Row(
        "UploadTicketService.BatchCreateUploadTickets",
        lambda n: ticket.BatchCreateUploadTicketsRequest(workspace_id=n.workspace, requests=[_ticket(n)]),
    ),
    Row(
        "UploadTicketService.GetUploadTicket",
        lambda n: ticket.GetUploadTicketRequest(upload_ticket_id=n.ticket),
        NOTHING,
    ),
    Row("UploadTicketService.ListUploadTickets", lambda n: ticket.ListUploadTicketsRequest(workspace_id=n.workspace)),
    Row(
        "UploadTicketService.AppendUploadTicket",
        lambda n: ticket.AppendUploadTicketRequest(
            upload_ticket_id=n.ticket, data=common_pb2.ChecksummedData(content=CONTENT)
        ),
        NOTHING,
    ),
    Row(
        "UploadTicketService.CancelUploadTicket",
        lambda n: ticket.CancelUploadTicketRequest(upload_ticket_id=n.ticket),
        NOTHING,
    ),
    Row(
        "FileService.UploadFile",
        lambda n: file.UploadFileRequest(
            workspace_id=n.workspace, spec=_spec(), data=os.urandom(8), attach_to=n.subject
        ),
    ),
    Row(
        "FileService.WriteFile",
        lambda n: _write(file.WriteFileRequest.Open(upload_ticket_id=n.full_ticket), len(CONTENT)),
        NOTHING,
        "a ticket",
    ),
    Row(
        "FileService.WriteFile",
        lambda n: _write(file.WriteFileRequest.Open(workspace_id=n.workspace, spec=_spec(), attach_to=n.subject), 0),
        about="a new file",
    ),
    Row("FileService.CreateFile", lambda n: file.CreateFileRequest(upload_ticket_id=n.full_ticket), NOTHING),
    Row("FileService.GetFile", lambda n: file.GetFileRequest(file_id=n.loose_file), NOTHING, "loose"),
    Row("FileService.GetFile", lambda n: file.GetFileRequest(file_id=n.hung_file), about="hung"),
    Row("FileService.GetFile", lambda n: file.GetFileRequest(file_id=n.deleted_file), NOTHING, "deleted"),
    Row("FileService.BatchGetFiles", lambda n: file.BatchGetFilesRequest(file_ids=[n.loose_file]), NOTHING, "loose"),
    Row("FileService.BatchGetFiles", lambda n: file.BatchGetFilesRequest(file_ids=[n.hung_file]), about="hung"),
    Row(
        "FileService.ListFiles",
        lambda n: file.ListFilesRequest(workspace_id=n.workspace, show_deleted=True, create_time=ALWAYS),
        about="workspace",
    ),
    Row(
        "FileService.ListFiles",
        lambda n: file.ListFilesRequest(workspace_id=n.workspace, subject=n.subject),
        about="subject",
    ),
    Row(
        "FileService.UpdateFile",
        lambda n: file.UpdateFileRequest(file=file_pb2.File(id=n.loose_file, name="b.txt")),
        NOTHING,
        "loose",
    ),
    Row(
        "FileService.UpdateFile",
        lambda n: file.UpdateFileRequest(file=file_pb2.File(id=n.hung_file, name="b.txt")),
        DENIED,
        "hung",
    ),
    Row("FileService.DeleteFile", lambda n: file.DeleteFileRequest(file_id=n.loose_file), NOTHING, "loose"),
    Row("FileService.DeleteFile", lambda n: file.DeleteFileRequest(file_id=n.hung_file, detach=True), DENIED, "hung"),
    Row("FileService.UndeleteFile", lambda n: file.UndeleteFileRequest(file_id=n.deleted_file), NOTHING),
    Row("FileService.ReadFile", lambda n: file.ReadFileRequest(file_id=n.loose_file), NOTHING, "loose"),
    Row("FileService.ReadFile", lambda n: file.ReadFileRequest(file_id=n.hung_file), about="hung"),
    Row("FileService.ReadFile", lambda n: file.ReadFileRequest(attachment_id=n.file_card), about="card"),
    Row("FileService.BatchReadFiles", lambda n: file.BatchReadFilesRequest(file_ids=[n.loose_file]), NOTHING, "loose"),
    Row("FileService.BatchReadFiles", lambda n: file.BatchReadFilesRequest(file_ids=[n.hung_file]), about="hung"),
    Row(
        "FileService.GetFileDownloadUrl",
        lambda n: file.GetFileDownloadUrlRequest(file_id=n.loose_file),
        NOTHING,
        "loose",
    ),
    Row("FileService.GetFileDownloadUrl", lambda n: file.GetFileDownloadUrlRequest(file_id=n.hung_file), about="hung"),
    Row(
        "AttachmentService.CreateAttachment",
        lambda n: attachment.CreateAttachmentRequest(attachment=_wanted(n)),
        about="url",
    ),
    Row(
        "AttachmentService.CreateAttachment",
        lambda n: attachment.CreateAttachmentRequest(attachment=_wanted(n, file_id=n.loose_file)),
        NOTHING,
        "loose",
    ),
    Row(
        "AttachmentService.CreateAttachment",
        lambda n: attachment.CreateAttachmentRequest(attachment=_wanted(n, file_id=n.hung_file)),
        about="hung",
    ),
    Row("AttachmentService.UpsertAttachment", _upsert),
    Row(
        "AttachmentService.BatchUpsertAttachments",
        lambda n: attachment.BatchUpsertAttachmentsRequest(workspace_id=n.workspace, requests=[_upsert(n)]),
    ),
    Row("AttachmentService.GetAttachment", lambda n: attachment.GetAttachmentRequest(attachment_id=n.card)),
    Row(
        "AttachmentService.GetAttachment",
        lambda n: attachment.GetAttachmentRequest(attachment_id=n.deleted_card),
        about="deleted",
    ),
    Row(
        "AttachmentService.BatchGetAttachments",
        lambda n: attachment.BatchGetAttachmentsRequest(attachment_ids=[n.card, n.file_card]),
    ),
    Row(
        "AttachmentService.LookupAttachments",
        lambda n: attachment.LookupAttachmentsRequest(workspace_id=n.workspace, url="https://example.com/shown"),
    ),
    Row(
        "AttachmentService.ListAttachments",
        lambda n: attachment.ListAttachmentsRequest(workspace_id=n.workspace, subject=n.subject, show_deleted=True),
    ),
    Row(
        "AttachmentService.UpdateAttachment",
        lambda n: attachment.UpdateAttachmentRequest(attachment=attachment_pb2.Attachment(id=n.card, title="t")),
    ),
    Row("AttachmentService.ArchiveAttachment", lambda n: attachment.ArchiveAttachmentRequest(attachment_id=n.card)),
    Row("AttachmentService.UnarchiveAttachment", lambda n: attachment.UnarchiveAttachmentRequest(attachment_id=n.card)),
    Row("AttachmentService.DeleteAttachment", lambda n: attachment.DeleteAttachmentRequest(attachment_id=n.card)),
    Row(
        "AttachmentService.DeleteAttachment",
        lambda n: attachment.DeleteAttachmentRequest(attachment_id=n.card, allow_missing=True),
        about="allow_missing",
    ),
    Row(
        "AttachmentService.UndeleteAttachment",
        lambda n: attachment.UndeleteAttachmentRequest(attachment_id=n.deleted_card),
    ),
    Row("LinkService.CreateLink", _link),
    Row(
        "LinkService.BatchCreateLinks",
        lambda n: link.BatchCreateLinksRequest(workspace_id=n.workspace, requests=[_link(n)]),
    ),
    Row("LinkService.GetLink", lambda n: link.GetLinkRequest(link_id=n.link)),
    Row("LinkService.ListLinks", lambda n: link.ListLinksRequest(workspace_id=n.workspace, subject=n.subject)),
    Row("LinkService.UpdateLink", lambda n: link.UpdateLinkRequest(link=link_pb2.Link(id=n.link, title="t"))),
    Row("LinkService.DeleteLink", lambda n: link.DeleteLinkRequest(link_id=n.link)),
    Row(
        "ActivityService.ListActivities",
        lambda n: activity.ListActivitiesRequest(workspace_id=n.workspace, subject=n.subject),
        about="subject",
    ),
    Row(
        "ActivityService.ListActivities",
        lambda n: activity.ListActivitiesRequest(workspace_id=n.workspace, page_size=1000, occur_time=ALWAYS),
        about="workspace",
    ),
    Row(
        "ActivityService.GetActivity",
        lambda n: activity.GetActivityRequest(activity_id=n.shown_activity),
        about="of a card",
    ),
    Row(
        "ActivityService.GetActivity",
        lambda n: activity.GetActivityRequest(activity_id=n.hidden_activity),
        NOTHING,
        "of a ticket",
    ),
    Row(
        "ActivityService.GetActivityCursors",
        lambda n: activity.GetActivityCursorsRequest(workspace_id=n.workspace),
    ),
    Row(
        "ActivityService.WatchActivities",
        lambda n: activity.WatchActivitiesRequest(workspace_id=n.workspace, subjects=[n.subject]),
    ),
    Row("IssueService.UpsertIssue", _push),
    Row(
        "IssueService.BatchUpsertIssues",
        lambda n: issue.BatchUpsertIssuesRequest(workspace_id=n.workspace, requests=[_push(n)]),
    ),
    Row("IssueService.GetIssue", lambda n: issue.GetIssueRequest(issue_id=n.issue)),
    Row(
        "IssueService.ListIssues",
        lambda n: issue.ListIssuesRequest(workspace_id=n.workspace, parent_issue_id=n.issue),
    ),
    Row("IssueService.DeleteIssue", lambda n: issue.DeleteIssueRequest(issue_id=n.issue)),
    Row(
        "WebhookService.CreateWebhookEndpoint",
        lambda n: webhook.CreateWebhookEndpointRequest(
            webhook_endpoint=webhook_pb2.WebhookEndpoint(
                workspace_id=n.workspace, url=NOWHERE, types=["link.created.v1"], subjects=[n.subject], enabled=False
            )
        ),
    ),
    Row(
        "WebhookService.GetWebhookEndpoint",
        lambda n: webhook.GetWebhookEndpointRequest(webhook_endpoint_id=n.endpoint),
    ),
    Row(
        "WebhookService.ListWebhookEndpoints",
        lambda n: webhook.ListWebhookEndpointsRequest(workspace_id=n.workspace),
    ),
    Row(
        "WebhookService.UpdateWebhookEndpoint",
        lambda n: webhook.UpdateWebhookEndpointRequest(
            webhook_endpoint=webhook_pb2.WebhookEndpoint(id=n.endpoint, description="new")
        ),
    ),
    Row(
        "WebhookService.DeleteWebhookEndpoint",
        lambda n: webhook.DeleteWebhookEndpointRequest(webhook_endpoint_id=n.endpoint),
    ),
    Row(
        "WebhookService.RotateWebhookSecret",
        lambda n: webhook.RotateWebhookSecretRequest(webhook_endpoint_id=n.endpoint),
    ),
    Row(
        "WebhookService.TestWebhookEndpoint",
        lambda n: webhook.TestWebhookEndpointRequest(webhook_endpoint_id=n.endpoint),
    ),
    Row(
        "WebhookService.ListWebhookDeliveries",
        lambda n: webhook.ListWebhookDeliveriesRequest(workspace_id=n.workspace, webhook_endpoint_id=n.endpoint),
    ),
    Row(
        "WebhookService.RedeliverWebhook",
        lambda n: webhook.RedeliverWebhookRequest(webhook_delivery_id=n.delivery),
    ),
    Row("CapabilityService.GetCapabilities", lambda _: capability.GetCapabilitiesRequest()),
)


@dataclass(frozen=True)
class Answer:
    """How a call ended, as a text that holds everything the caller was told."""

    code: grpc.StatusCode
    reason: str
    text: str


def ask(api: Api, row: Row, request: Request, *, seconds: float = 60.0) -> Answer:
    """Make a call; of a watch only the first message counts."""
    call = getattr(getattr(api, STUBS[row.method.containing_service.name]), row.method.name)
    given = iter(request) if row.method.client_streaming else request  # type: ignore[arg-type]
    try:
        if row.method.server_streaming:
            stream = call(given, timeout=seconds)
            told = str(next(iter(stream)) if row.rpc.endswith("WatchActivities") else list(stream))
            stream.cancel()
        else:
            told = str(call(given, timeout=seconds))
    except grpc.RpcError as error:
        refusal = Refusal(error)
        details = sorted(f"{detail.type_url} {detail.value!r}" for detail in refusal.details)
        return Answer(refusal.code, refusal.reason, f"{refusal.message} {details}")
    return Answer(grpc.StatusCode.OK, "", told)


def parts(message: Message) -> Iterator[Message]:
    """Walk over a message and those within it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for one in value if field.is_repeated else [value]:
                yield from parts(one)

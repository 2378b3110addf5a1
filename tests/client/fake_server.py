"""A server on a real socket that keeps files in memory and fails on demand, to see what the client makes of it."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NoReturn

import google_crc32c
import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from remora.v1 import (
    activity_pb2,
    activity_service_pb2,
    activity_service_pb2_grpc,
    attachment_pb2,
    attachment_service_pb2,
    attachment_service_pb2_grpc,
    common_pb2,
    file_pb2,
    file_service_pb2,
    file_service_pb2_grpc,
    link_pb2,
    link_service_pb2,
    link_service_pb2_grpc,
    upload_ticket_pb2,
    upload_ticket_service_pb2,
    upload_ticket_service_pb2_grpc,
)

WriteFileResponse = file_service_pb2.WriteFileResponse
KEY = "rk_test"


@dataclass
class Ticket:
    """An upload in progress."""

    id: str
    spec: file_pb2.FileSpec
    subject: common_pb2.Subject
    data: bytearray = field(default_factory=bytearray)
    epoch: int = 0
    file_id: str = ""


@dataclass
class Fault:
    """What goes wrong in one stream, once `after` bytes of it have been stored."""

    kind: str
    after: int = 0


@dataclass
class Wanted:
    """How a call is to be refused."""

    code: grpc.StatusCode
    reason: str
    metadata: dict[str, str] = field(default_factory=dict)
    retry_after: float | None = None


class FakeServer:
    """The services of the contract, as far as the client calls them."""

    def __init__(self, port: int = 0) -> None:
        self.tickets: dict[str, Ticket] = {}
        self.files: dict[str, tuple[file_pb2.File, bytes]] = {}
        # Content type and bytes by file and rendition.
        self.renditions: dict[tuple[str, file_service_pb2.Rendition.ValueType], tuple[str, bytes]] = {}
        self.ready_after: int | None = None  # So many looks at a file until its pending preview is ready.
        self.attachments: list[attachment_pb2.Attachment] = []
        self.links: list[link_pb2.Link] = []
        self.faults: deque[Fault] = deque()
        self.read_faults: deque[Fault] = deque()
        self.watches: deque[list[activity_service_pb2.WatchActivitiesResponse]] = deque()
        self.calls: list[Any] = []  # Each unary request, and the Open of each stream.
        self.chunks: list[tuple[int, int]] = []  # Offset and size of each.
        self.user_agents: set[str] = set()
        self.dedup = True
        self.unary_failures: deque[Wanted] = deque()
        self._ids = itertools.count(1)
        self._server = grpc.server(ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
        # What the client never calls is left out of them: the generated classes answer UNIMPLEMENTED.
        file_service_pb2_grpc.add_FileServiceServicer_to_server(Files(self), self._server)  # type: ignore[abstract]
        attachment_service_pb2_grpc.add_AttachmentServiceServicer_to_server(Attachments(self), self._server)  # type: ignore[abstract]
        upload_ticket_service_pb2_grpc.add_UploadTicketServiceServicer_to_server(Tickets(self), self._server)  # type: ignore[abstract]
        link_service_pb2_grpc.add_LinkServiceServicer_to_server(Links(self), self._server)  # type: ignore[abstract]
        activity_service_pb2_grpc.add_ActivityServiceServicer_to_server(Activities(self), self._server)  # type: ignore[abstract]
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.address = f"127.0.0.1:{self.port}"
        self._server.start()

    def stop(self) -> None:
        """Stop at once."""
        self._server.stop(None).wait()

    def new_id(self, prefix: str) -> str:
        """Make an id."""
        return f"{prefix}_{next(self._ids):026d}"

    def enter(self, request: object, context: grpc.ServicerContext) -> None:
        """Check the key, as every call does, and fail if that is wanted."""
        self.calls.append(request)
        metadata = {key: str(value) for key, value in context.invocation_metadata()}
        self.user_agents.add(metadata.get("user-agent", "").split(" ")[0])
        if metadata.get("authorization") != f"Bearer {KEY}":
            refuse(context, Wanted(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"))
        if self.unary_failures and not isinstance(request, file_service_pb2.WriteFileRequest):
            refuse(context, self.unary_failures.popleft())

    def store(self, spec: file_pb2.FileSpec, subject: common_pb2.Subject, data: bytes) -> tuple[file_pb2.File, str]:
        """Keep content as a file on a subject."""
        sha256 = hashlib.sha256(data).digest()
        file = file_pb2.File(
            id=self.new_id("fil"),
            name=spec.name,
            content_type=spec.content_type,
            size_bytes=len(data),
            checksums=_checksums(data),
            metadata=spec.metadata,
            content_etag=f'"{sha256.hex()}"',
        )
        file.create_time.GetCurrentTime()
        self.files[file.id] = (file, data)
        attachment = attachment_pb2.Attachment(
            id=self.new_id("att"), subject=subject, file_id=file.id, title=spec.name, file=file
        )
        self.attachments.insert(0, attachment)
        return file, attachment.id

    def existing(self, spec: file_pb2.FileSpec) -> file_pb2.File | None:
        """Find content that is here already."""
        for file, _ in self.files.values():
            if self.dedup and spec.checksums.sha256 == file.checksums.sha256:
                return file
        return None


class Files(file_service_pb2_grpc.FileServiceServicer):
    """Content."""

    def __init__(self, fake: FakeServer) -> None:
        self._fake = fake

    def UploadFile(  # noqa: N802
        self, request: file_service_pb2.UploadFileRequest, context: grpc.ServicerContext
    ) -> file_service_pb2.UploadFileResponse:
        """Store small content."""
        self._fake.enter(request, context)
        known = self._fake.existing(request.spec) is not None
        file, attachment_id = self._fake.store(request.spec, request.attach_to, request.data)
        outcome = file_service_pb2.UPLOAD_OUTCOME_ALREADY_EXISTS if known else file_service_pb2.UPLOAD_OUTCOME_STORED
        return file_service_pb2.UploadFileResponse(file=file, outcome=outcome, attachment_id=attachment_id)

    def GetFile(  # noqa: N802
        self, request: file_service_pb2.GetFileRequest, context: grpc.ServicerContext
    ) -> file_service_pb2.GetFileResponse:
        """Return a file."""
        self._fake.enter(request, context)
        if request.file_id not in self._fake.files:
            refuse(context, Wanted(grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"))
        file, _ = self._fake.files[request.file_id]
        if self._fake.ready_after is not None:
            self._fake.ready_after -= 1
            if self._fake.ready_after == 0:
                file.preview.CopyFrom(file_pb2.FilePreview(available=True, state=file_pb2.PREVIEW_STATE_READY))
        return file_service_pb2.GetFileResponse(file=file)

    def DeleteFile(  # noqa: N802
        self, request: file_service_pb2.DeleteFileRequest, context: grpc.ServicerContext
    ) -> file_service_pb2.DeleteFileResponse:
        """Delete a file."""
        self._fake.enter(request, context)
        return file_service_pb2.DeleteFileResponse(file=self._fake.files.pop(request.file_id)[0])

    def ReadFile(  # noqa: N802
        self, request: file_service_pb2.ReadFileRequest, context: grpc.ServicerContext
    ) -> Iterator[file_service_pb2.ReadFileResponse]:
        """Give content in small pieces."""
        self._fake.enter(request, context)
        file, data = self._fake.files[request.file_id]
        content_type, checksums = file.content_type, file.checksums
        shows = request.rendition not in {file_service_pb2.RENDITION_UNSPECIFIED, file_service_pb2.RENDITION_ORIGINAL}
        if shows:
            shown = self._fake.renditions.get((request.file_id, request.rendition))
            if shown is None or file.preview.state == file_pb2.PREVIEW_STATE_PENDING:
                refuse(context, Wanted(grpc.StatusCode.NOT_FOUND, "PREVIEW_UNAVAILABLE"))
            content_type, data = shown
            checksums = _checksums(data)
        etag = f'"{checksums.sha256.hex()}"'
        if request.if_content_etag not in {"", etag}:
            refuse(context, Wanted(grpc.StatusCode.ABORTED, "ETAG_MISMATCH"))
        asks_only = shows and request.limit == 1
        fault = self._fake.read_faults.popleft() if self._fake.read_faults and not asks_only else Fault("none")
        end = min(request.offset + request.limit, len(data)) if request.limit else len(data)
        header = file_service_pb2.ReadFileResponse.Header(
            file=file,
            offset=request.offset,
            total_size=len(data),
            checksums=checksums,
            content_etag=etag,
            content_type=content_type,
        )
        yield file_service_pb2.ReadFileResponse(header=header)
        for offset in range(request.offset, end, 1000):
            if fault.kind == "cut" and offset - request.offset >= fault.after:
                refuse(context, Wanted(grpc.StatusCode.UNAVAILABLE, ""))
            content = data[offset : min(offset + 1000, end)]
            crc32c = google_crc32c.value(content)
            if fault.kind == "damage" and offset - request.offset >= fault.after:
                content = bytes([content[0] ^ 1]) + content[1:]
            piece = common_pb2.ChecksummedData(content=content, crc32c=crc32c)
            chunk = file_service_pb2.ReadFileResponse.Chunk(offset=offset, data=piece)
            yield file_service_pb2.ReadFileResponse(chunk=chunk)

    def WriteFile(  # noqa: N802
        self, request_iterator: Iterator[file_service_pb2.WriteFileRequest], context: grpc.ServicerContext
    ) -> Iterator[WriteFileResponse]:
        """Take content in a stream, and fail as planned."""
        fake = self._fake
        opening = next(request_iterator)
        fake.enter(opening, context)
        fault = fake.faults.popleft() if fake.faults else Fault("none")
        ticket, done = self._open(opening.open, fault, context)
        if done is not None:
            yield done
            return
        assert ticket is not None
        ticket.epoch += 1
        epoch = ticket.epoch
        yield WriteFileResponse(ready=_ready(ticket))
        began = len(ticket.data)
        for request in request_iterator:
            if ticket.epoch != epoch:
                refuse(context, Wanted(grpc.StatusCode.ABORTED, "WRITER_FENCED", {"writer_epoch": str(ticket.epoch)}))
            kind = request.WhichOneof("message")
            if kind == "finish":
                yield from self._finish(ticket, request.finish, fault, context)
                return
            if kind == "chunk":
                self._chunk(ticket, request.chunk, fault, context)
            progress = WriteFileResponse.Progress(
                committed_size=len(ticket.data), committed_checksums=_crc32c(bytes(ticket.data))
            )
            if kind == "flush" or len(ticket.data) % (8 << 20) == 0 or fault.kind == "acknowledge":
                yield WriteFileResponse(progress=progress)
            if len(ticket.data) - began >= fault.after:
                if fault.kind == "drain":
                    yield WriteFileResponse(drain=WriteFileResponse.Drain(committed_size=len(ticket.data)))
                    return
                self._fail(ticket, fault, context)

    def _fail(self, ticket: Ticket, fault: Fault, context: grpc.ServicerContext) -> None:
        if fault.kind == "cut":
            refuse(context, Wanted(grpc.StatusCode.UNAVAILABLE, ""))
        if fault.kind == "quota":
            refuse(context, Wanted(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED"))
        if fault.kind == "close":
            del self._fake.tickets[ticket.id]
            refuse(context, Wanted(grpc.StatusCode.FAILED_PRECONDITION, "UPLOAD_TICKET_CLOSED"))
        if fault.kind == "hang":
            while context.is_active():
                time.sleep(0.02)

    def _open(
        self, opening: file_service_pb2.WriteFileRequest.Open, fault: Fault, context: grpc.ServicerContext
    ) -> tuple[Ticket | None, WriteFileResponse | None]:
        fake = self._fake
        if fault.kind == "busy":
            refuse(context, Wanted(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", retry_after=0.05))
        if not opening.upload_ticket_id:
            if (file := fake.existing(opening.spec)) is not None:
                done = WriteFileResponse.Done(
                    file=file, outcome=file_service_pb2.UPLOAD_OUTCOME_ALREADY_EXISTS, attachment_id="att_old"
                )
                return None, WriteFileResponse(done=done)
            ticket = Ticket(fake.new_id("upl"), opening.spec, opening.attach_to)
            fake.tickets[ticket.id] = ticket
            return ticket, None
        if opening.upload_ticket_id not in fake.tickets:
            refuse(context, Wanted(grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"))
        ticket = fake.tickets[opening.upload_ticket_id]
        if ticket.file_id:
            file = fake.files[ticket.file_id][0]
            done = WriteFileResponse.Done(
                file=file, outcome=file_service_pb2.UPLOAD_OUTCOME_STORED, attachment_id="att_old"
            )
            return None, WriteFileResponse(done=done)
        return ticket, None

    def _chunk(
        self,
        ticket: Ticket,
        chunk: file_service_pb2.WriteFileRequest.Chunk,
        fault: Fault,
        context: grpc.ServicerContext,
    ) -> None:
        content, offset = chunk.data.content, len(ticket.data)
        self._fake.chunks.append((chunk.offset, len(content)))
        expected = {"expected_offset": str(offset)}
        if chunk.offset != offset or fault.kind == "offset":
            refuse(context, Wanted(grpc.StatusCode.ABORTED, "OFFSET_MISMATCH", expected))
        if google_crc32c.value(content) != chunk.data.crc32c or fault.kind == "damage":
            refuse(context, Wanted(grpc.StatusCode.ABORTED, "CHUNK_CHECKSUM_MISMATCH", expected))
        if fault.kind == "lose":  # The chunk arrives in part only.
            refuse(context, Wanted(grpc.StatusCode.UNAVAILABLE, ""))
        if fault.kind == "small_only" and len(content) > fault.after:
            refuse(context, Wanted(grpc.StatusCode.UNAVAILABLE, ""))
        ticket.data += content

    def _finish(
        self,
        ticket: Ticket,
        finish: file_service_pb2.WriteFileRequest.Finish,
        fault: Fault,
        context: grpc.ServicerContext,
    ) -> Iterator[WriteFileResponse]:
        data = bytes(ticket.data)
        if finish.size_bytes != len(data):
            refuse(context, Wanted(grpc.StatusCode.INVALID_ARGUMENT, "SIZE_MISMATCH"))
        if finish.checksums.sha256 != hashlib.sha256(data).digest():
            refuse(context, Wanted(grpc.StatusCode.INVALID_ARGUMENT, "CONTENT_CHECKSUM_MISMATCH"))
        yield WriteFileResponse(verifying=WriteFileResponse.Verifying(verified_size=len(data)))
        file, attachment_id = self._fake.store(ticket.spec, ticket.subject, data)
        ticket.file_id = file.id
        if fault.kind == "lose_done":
            refuse(context, Wanted(grpc.StatusCode.UNAVAILABLE, ""))
        done = WriteFileResponse.Done(
            file=file, outcome=file_service_pb2.UPLOAD_OUTCOME_STORED, attachment_id=attachment_id
        )
        yield WriteFileResponse(done=done)


class Attachments(attachment_service_pb2_grpc.AttachmentServiceServicer):
    """Cards."""

    def __init__(self, fake: FakeServer) -> None:
        self._fake = fake

    def UpsertAttachment(  # noqa: N802
        self, request: attachment_service_pb2.UpsertAttachmentRequest, context: grpc.ServicerContext
    ) -> attachment_service_pb2.UpsertAttachmentResponse:
        """Create a card, or find it."""
        self._fake.enter(request, context)
        for attachment in self._fake.attachments:
            if attachment.url == request.attachment.url:
                return attachment_service_pb2.UpsertAttachmentResponse(
                    attachment=attachment, outcome=common_pb2.OUTCOME_UNCHANGED
                )
        request.attachment.id = self._fake.new_id("att")
        request.attachment.create_time.GetCurrentTime()
        self._fake.attachments.insert(0, request.attachment)
        return attachment_service_pb2.UpsertAttachmentResponse(
            attachment=request.attachment, outcome=common_pb2.OUTCOME_CREATED
        )

    def ListAttachments(  # noqa: N802
        self, request: attachment_service_pb2.ListAttachmentsRequest, context: grpc.ServicerContext
    ) -> attachment_service_pb2.ListAttachmentsResponse:
        """List one card a page, so that paging is used."""
        self._fake.enter(request, context)
        found = [
            one
            for one in self._fake.attachments
            if one.subject.key == request.subject.key and (not request.kinds or one.file_id)
        ]
        index = int(request.page_token or 0)
        more = str(index + 1) if index + 1 < len(found) else ""
        return attachment_service_pb2.ListAttachmentsResponse(
            attachments=found[index : index + 1], next_page_token=more
        )

    def GetAttachment(  # noqa: N802
        self, request: attachment_service_pb2.GetAttachmentRequest, context: grpc.ServicerContext
    ) -> attachment_service_pb2.GetAttachmentResponse:
        """Return a card."""
        self._fake.enter(request, context)
        found = next(one for one in self._fake.attachments if one.id == request.attachment_id)
        return attachment_service_pb2.GetAttachmentResponse(attachment=found)

    def DeleteAttachment(  # noqa: N802
        self, request: attachment_service_pb2.DeleteAttachmentRequest, context: grpc.ServicerContext
    ) -> attachment_service_pb2.DeleteAttachmentResponse:
        """Delete a card."""
        self._fake.enter(request, context)
        found = next(one for one in self._fake.attachments if one.id == request.attachment_id)
        self._fake.attachments.remove(found)
        return attachment_service_pb2.DeleteAttachmentResponse(attachment=found)


class Tickets(upload_ticket_service_pb2_grpc.UploadTicketServiceServicer):
    """Uploads in progress."""

    def __init__(self, fake: FakeServer) -> None:
        self._fake = fake

    def CancelUploadTicket(  # noqa: N802
        self, request: upload_ticket_service_pb2.CancelUploadTicketRequest, context: grpc.ServicerContext
    ) -> upload_ticket_service_pb2.CancelUploadTicketResponse:
        """Forget a ticket."""
        self._fake.enter(request, context)
        self._fake.tickets.pop(request.upload_ticket_id, None)
        return upload_ticket_service_pb2.CancelUploadTicketResponse()

    def ListUploadTickets(  # noqa: N802
        self, request: upload_ticket_service_pb2.ListUploadTicketsRequest, context: grpc.ServicerContext
    ) -> upload_ticket_service_pb2.ListUploadTicketsResponse:
        """List the tickets that are not completed."""
        self._fake.enter(request, context)
        tickets = []
        for ticket in self._fake.tickets.values():
            if not ticket.file_id:
                shown = upload_ticket_pb2.UploadTicket(
                    id=ticket.id, spec=ticket.spec, committed_size=len(ticket.data), attach_to=ticket.subject
                )
                shown.expire_time.FromSeconds(1_800_000_000)
                tickets.append(shown)
        return upload_ticket_service_pb2.ListUploadTicketsResponse(upload_tickets=tickets)


class Links(link_service_pb2_grpc.LinkServiceServicer):
    """Links."""

    def __init__(self, fake: FakeServer) -> None:
        self._fake = fake

    def CreateLink(  # noqa: N802
        self, request: link_service_pb2.CreateLinkRequest, context: grpc.ServicerContext
    ) -> link_service_pb2.CreateLinkResponse:
        """Create a link, or find it."""
        self._fake.enter(request, context)
        for link in self._fake.links:
            if link.url == request.url:
                return link_service_pb2.CreateLinkResponse(link=link)
        link = link_pb2.Link(id=self._fake.new_id("lnk"), subject=request.subject, url=request.url, title=request.title)
        self._fake.links.append(link)
        return link_service_pb2.CreateLinkResponse(link=link, created=True)

    def ListLinks(  # noqa: N802
        self, request: link_service_pb2.ListLinksRequest, context: grpc.ServicerContext
    ) -> link_service_pb2.ListLinksResponse:
        """List links."""
        self._fake.enter(request, context)
        return link_service_pb2.ListLinksResponse(links=self._fake.links)

    def DeleteLink(  # noqa: N802
        self, request: link_service_pb2.DeleteLinkRequest, context: grpc.ServicerContext
    ) -> link_service_pb2.DeleteLinkResponse:
        """Delete a link."""
        self._fake.enter(request, context)
        link = next(one for one in self._fake.links if one.id == request.link_id)
        self._fake.links.remove(link)
        return link_service_pb2.DeleteLinkResponse(link=link)


class Activities(activity_service_pb2_grpc.ActivityServiceServicer):
    """The log."""

    def __init__(self, fake: FakeServer) -> None:
        self._fake = fake

    def ListActivities(  # noqa: N802
        self, request: activity_service_pb2.ListActivitiesRequest, context: grpc.ServicerContext
    ) -> activity_service_pb2.ListActivitiesResponse:
        """List two entries."""
        self._fake.enter(request, context)
        return activity_service_pb2.ListActivitiesResponse(activities=[activity(2), activity(1)])

    def WatchActivities(  # noqa: N802
        self, request: activity_service_pb2.WatchActivitiesRequest, context: grpc.ServicerContext
    ) -> Iterator[activity_service_pb2.WatchActivitiesResponse]:
        """Give what was planned for this stream, then break it."""
        self._fake.enter(request, context)
        if not self._fake.watches:
            wanted = Wanted(grpc.StatusCode.OUT_OF_RANGE, "CURSOR_COMPACTED", {"earliest_cursor": "c0"})
            refuse(context, wanted)
        yield from self._fake.watches.popleft()
        refuse(context, Wanted(grpc.StatusCode.UNAVAILABLE, ""))


def activity(number: int) -> activity_pb2.Activity:
    """Make an entry of the log."""
    actor = common_pb2.Actor(id="usr_1", kind=common_pb2.ACTOR_KIND_USER, display_name="Ada")
    return activity_pb2.Activity(id=f"act_{number}", cursor=f"c{number}", type="file.created.v1", actor=actor)


def refuse(context: grpc.ServicerContext, wanted: Wanted) -> NoReturn:
    """End a call as the service does; without a reason, as a broken connection does."""
    if not wanted.reason:
        context.abort(wanted.code, "Socket closed")
    status = status_pb2.Status(code=wanted.code.value[0], message=f"refused: {wanted.reason}.")
    details: list[Any] = [error_details_pb2.ErrorInfo(domain="remora", reason=wanted.reason, metadata=wanted.metadata)]
    if wanted.retry_after is not None:
        delay = duration_pb2.Duration(nanos=int(wanted.retry_after * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("abort raises")


def _checksums(data: bytes) -> common_pb2.Checksums:
    return common_pb2.Checksums(sha256=hashlib.sha256(data).digest(), crc32c=google_crc32c.value(data))


def _ready(ticket: Ticket) -> WriteFileResponse.Ready:
    limits = upload_ticket_pb2.UploadLimits(max_chunk_bytes=2 << 20, max_unacked_bytes=32 << 20)
    return WriteFileResponse.Ready(
        upload_ticket_id=ticket.id,
        writer_epoch=ticket.epoch,
        committed_size=len(ticket.data),
        committed_checksums=_crc32c(bytes(ticket.data)),
        limits=limits,
    )


def _crc32c(data: bytes) -> common_pb2.Checksums:
    return common_pb2.Checksums(crc32c=google_crc32c.value(data))

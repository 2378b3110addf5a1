"""UploadTicketService: translates, and calls core."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from remora.v1 import common_pb2, upload_ticket_pb2, upload_ticket_service_pb2_grpc
from remora.v1 import upload_ticket_service_pb2 as pb
from remora_server.core import batches, errors
from remora_server.core.model import OPEN_STATES, HttpUpload, TicketState
from remora_server.core.ports import Changes, DirectTransfers, TicketQuery
from remora_server.core.tickets import Issued, Request, Tickets
from remora_server.core.uploads import Uploads
from remora_server.rpc import convert
from remora_server.rpc.calls import Calls, caller
from remora_server.rpc.errors import status_of

STATES: Mapping[int, TicketState] = {
    upload_ticket_pb2.UploadTicketState.Value(f"UPLOAD_TICKET_STATE_{state}"): state for state in TicketState
}


class UploadTicketService(upload_ticket_service_pb2_grpc.UploadTicketServiceServicer):
    """The RPCs of upload tickets."""

    def __init__(
        self, calls: Calls, tickets: Tickets, uploads: Uploads, changes: Changes, transfers: DirectTransfers
    ) -> None:
        self._transfers = transfers
        self._calls = calls
        self._tickets = tickets
        self._uploads = uploads
        self._changes = changes

    async def CreateUploadTicket(
        self, request: pb.CreateUploadTicketRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.CreateUploadTicketResponse:
        who, wanted = caller(), request_from_proto(request)

        def answer() -> pb.CreateUploadTicketResponse:
            return self.issued_to_proto(self._tickets.issue(who, wanted))

        made = await self._calls.once("CreateUploadTicket", request, answer, pb.CreateUploadTicketResponse.FromString)
        await self._show_http([made.upload_ticket] if made.HasField("upload_ticket") else [])
        return made

    async def BatchCreateUploadTickets(
        self, request: pb.BatchCreateUploadTicketsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.BatchCreateUploadTicketsResponse:
        who, workspace = caller(), request.workspace_id
        if any(item.request_id for item in request.requests):
            raise errors.invalid("requests.request_id", "must be empty in a batch; set the batch's own")

        def answer() -> pb.BatchCreateUploadTicketsResponse:
            results = batches.each(
                self._changes,
                request.requests,
                lambda item: self._tickets.issue(who, request_from_proto(item, workspace)),
            )
            return pb.BatchCreateUploadTicketsResponse(results=map(self._result, results))

        made = await self._calls.once(
            "BatchCreateUploadTickets",
            request,
            answer,
            pb.BatchCreateUploadTicketsResponse.FromString,
            writes_many=True,
        )
        await self._show_http([result.upload_ticket for result in made.results if result.HasField("upload_ticket")])
        return made

    async def GetUploadTicket(
        self, request: pb.GetUploadTicketRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetUploadTicketResponse:
        found = await self._calls.read(self._tickets.get, caller(), request.upload_ticket_id)
        shown = convert.ticket_to_proto(found, self._uploads.limits)
        await self._show_http([shown])
        return pb.GetUploadTicketResponse(upload_ticket=shown)

    async def ListUploadTickets(
        self, request: pb.ListUploadTicketsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListUploadTicketsResponse:
        states = convert.known(request.states, STATES, "states")
        page = await self._calls.read(
            self._tickets.list,
            caller(),
            TicketQuery(request.workspace_id, states, request.created_by),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        limits = self._uploads.limits
        return pb.ListUploadTicketsResponse(
            upload_tickets=[convert.ticket_to_proto(one, limits) for one in page.items],
            next_page_token=page.next_page_token,
        )

    async def AppendUploadTicket(
        self, request: pb.AppendUploadTicketRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.AppendUploadTicketResponse:
        data = request.data
        ticket = await self._calls.wait(
            self._uploads.append,
            caller(),
            request.upload_ticket_id,
            request.offset,
            data.content,
            data.crc32c if data.HasField("crc32c") else None,
            request.writer_epoch if request.HasField("writer_epoch") else None,
        )
        return pb.AppendUploadTicketResponse(
            committed_size=ticket.committed_size,
            committed_checksums=common_pb2.Checksums(crc32c=ticket.committed_crc32c),
            writer_epoch=ticket.writer_epoch,
            state=upload_ticket_pb2.UploadTicketState.Value(f"UPLOAD_TICKET_STATE_{ticket.state}"),
        )

    async def CancelUploadTicket(
        self, request: pb.CancelUploadTicketRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.CancelUploadTicketResponse:
        cancelled = await self._calls.wait(self._uploads.cancel, caller(), request.upload_ticket_id)
        return pb.CancelUploadTicketResponse(upload_ticket=convert.ticket_to_proto(cancelled, self._uploads.limits))

    async def _show_http(self, tickets: Sequence[upload_ticket_pb2.UploadTicket]) -> None:
        """Say in open tickets how their bytes are to be sent, if that is over HTTP.

        Stored answers of repeated calls do not hold it, and it may take asking the blob store: so it comes after them.
        """
        who = caller()

        def offer(ticket_id: str) -> HttpUpload | None:
            ticket = self._tickets.get(who, ticket_id)
            return self._transfers.offer_upload(ticket) if ticket.state in OPEN_STATES else None

        shown = [one for one in tickets if one.transport != upload_ticket_pb2.TRANSPORT_GRPC]
        offers = await asyncio.gather(*(self._calls.wait(offer, one.id) for one in shown))
        for one, http in zip(shown, offers, strict=True):
            if http is not None:
                one.http.CopyFrom(convert.http_upload_to_proto(http))

    def issued_to_proto(self, issued: Issued) -> pb.CreateUploadTicketResponse:
        """Return a ticket, or the file that makes one unnecessary."""
        if issued.existing is not None:
            return pb.CreateUploadTicketResponse(
                existing_file=convert.file_to_proto(issued.existing.file), attachment_id=issued.existing.attachment_id
            )
        ticket = issued.ticket
        return pb.CreateUploadTicketResponse(
            upload_ticket=convert.ticket_to_proto(ticket, self._uploads.limits) if ticket else None
        )

    def _result(self, one: Issued | errors.RemoraError) -> pb.BatchCreateUploadTicketsResult:
        if isinstance(one, errors.RemoraError):
            return pb.BatchCreateUploadTicketsResult(error=status_of(one))
        single = self.issued_to_proto(one)
        if single.HasField("existing_file"):
            return pb.BatchCreateUploadTicketsResult(
                existing_file=single.existing_file, attachment_id=single.attachment_id
            )
        return pb.BatchCreateUploadTicketsResult(upload_ticket=single.upload_ticket)


def request_from_proto(request: pb.CreateUploadTicketRequest, workspace: str = "") -> Request:
    """Return what a caller wants to upload."""
    transport = convert.TRANSPORTS.get(request.transport)
    if transport is None:
        raise errors.invalid("transport", "is not a known value")
    return Request(
        workspace_id=request.workspace_id or workspace,
        spec=convert.spec_from_proto(request.spec),
        transport="GRPC" if transport == "UNSPECIFIED" else transport,
        attach_to=convert.optional_subject_from_proto(request.attach_to, given=request.HasField("attach_to")),
        skip_existing_check=request.skip_existing_check,
    )

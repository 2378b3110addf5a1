"""AttachmentService: translates, and calls core."""

from __future__ import annotations

from typing import Any

import grpc

from remora.v1 import attachment_pb2, attachment_service_pb2_grpc
from remora.v1 import attachment_service_pb2 as pb
from remora_server.core import batches, errors
from remora_server.core.attachments import Attachments, Upserted, Wanted
from remora_server.core.model import Attachment
from remora_server.core.ports import AttachmentQuery, Changes
from remora_server.rpc import convert
from remora_server.rpc.calls import Calls, caller
from remora_server.rpc.errors import status_of


class AttachmentService(attachment_service_pb2_grpc.AttachmentServiceServicer):
    """The RPCs of attachments."""

    def __init__(self, calls: Calls, attachments: Attachments, changes: Changes) -> None:
        self._calls = calls
        self._attachments = attachments
        self._changes = changes

    async def CreateAttachment(
        self, request: pb.CreateAttachmentRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.CreateAttachmentResponse:
        who, draft = caller(), convert.draft_from_proto(request.attachment, request.attachment_id)

        def answer() -> pb.CreateAttachmentResponse:
            return pb.CreateAttachmentResponse(
                attachment=convert.attachment_to_proto(self._attachments.create(who, draft))
            )

        return await self._calls.once("CreateAttachment", request, answer, pb.CreateAttachmentResponse.FromString)

    async def UpsertAttachment(
        self, request: pb.UpsertAttachmentRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.UpsertAttachmentResponse:
        who, wanted = caller(), _wanted(request)
        if not request.request_id:
            upserted = await self._calls.change(
                self._attachments.upsert, who, wanted.draft, wanted.mask, wanted.mode, wanted.etag
            )
            return _upserted(upserted)

        def answer() -> pb.UpsertAttachmentResponse:
            return _upserted(self._attachments.upsert(who, wanted.draft, wanted.mask, wanted.mode, wanted.etag))

        return await self._calls.once("UpsertAttachment", request, answer, pb.UpsertAttachmentResponse.FromString)

    async def BatchUpsertAttachments(
        self, request: pb.BatchUpsertAttachmentsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.BatchUpsertAttachmentsResponse:
        who, items = caller(), [_wanted(item) for item in request.requests]
        if any(item.request_id for item in request.requests):
            raise errors.invalid("requests.request_id", "must be empty in a batch; set the batch's own")

        def answer() -> pb.BatchUpsertAttachmentsResponse:
            results = self._attachments.upsert_many(who, request.workspace_id, items, self._changes)
            return pb.BatchUpsertAttachmentsResponse(results=[_upsert_result(one) for one in results])

        return await self._calls.once(
            "BatchUpsertAttachments", request, answer, pb.BatchUpsertAttachmentsResponse.FromString, writes_many=True
        )

    async def GetAttachment(
        self, request: pb.GetAttachmentRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetAttachmentResponse:
        found = await self._calls.read(self._attachments.get, caller(), request.attachment_id)
        return pb.GetAttachmentResponse(attachment=convert.attachment_to_proto(found))

    async def BatchGetAttachments(
        self, request: pb.BatchGetAttachmentsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.BatchGetAttachmentsResponse:
        who = caller()
        results = await self._calls.read(
            batches.each_read, request.attachment_ids, lambda one: self._attachments.get(who, one), "attachment_ids"
        )
        return pb.BatchGetAttachmentsResponse(results=[_get_result(one) for one in results])

    async def LookupAttachments(
        self, request: pb.LookupAttachmentsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.LookupAttachmentsResponse:
        page = await self._calls.read(
            self._attachments.lookup,
            caller(),
            request.workspace_id,
            request.url,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.LookupAttachmentsResponse(
            attachments=map(convert.attachment_to_proto, page.items), next_page_token=page.next_page_token
        )

    async def ListAttachments(
        self, request: pb.ListAttachmentsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListAttachmentsResponse:
        query = AttachmentQuery(
            workspace_id=request.workspace_id,
            kinds=convert.known(request.kinds, convert.KINDS, "kinds"),
            content_types=tuple(request.content_types),
            created_by=request.created_by,
            external_ref=convert.ref_from_proto(request.external_ref),
            show_archived=request.show_archived,
            show_deleted=request.show_deleted,
            order=convert.known([request.order], convert.ORDERS, "order")[0],
        )
        page = await self._calls.read(
            self._attachments.list,
            caller(),
            query,
            convert.optional_subject_from_proto(request.subject, given=request.HasField("subject")),
            page_size=request.page_size,
            page_token=request.page_token,
            include_total_size=request.include_total_size,
        )
        return pb.ListAttachmentsResponse(
            attachments=map(convert.attachment_to_proto, page.items),
            next_page_token=page.next_page_token,
            total_size=page.total_size or 0,
        )

    async def UpdateAttachment(
        self, request: pb.UpdateAttachmentRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.UpdateAttachmentResponse:
        given = request.attachment
        updated = await self._calls.change(
            self._attachments.update,
            caller(),
            given.id,
            convert.draft_from_proto(given),
            tuple(request.update_mask.paths),
            given.etag,
        )
        return pb.UpdateAttachmentResponse(attachment=convert.attachment_to_proto(updated))

    async def ArchiveAttachment(
        self, request: pb.ArchiveAttachmentRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ArchiveAttachmentResponse:
        changed = await self._calls.change(self._attachments.archive, caller(), request.attachment_id, request.etag)
        return pb.ArchiveAttachmentResponse(attachment=convert.attachment_to_proto(changed))

    async def UnarchiveAttachment(
        self, request: pb.UnarchiveAttachmentRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.UnarchiveAttachmentResponse:
        changed = await self._calls.change(self._attachments.unarchive, caller(), request.attachment_id, request.etag)
        return pb.UnarchiveAttachmentResponse(attachment=convert.attachment_to_proto(changed))

    async def DeleteAttachment(
        self, request: pb.DeleteAttachmentRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DeleteAttachmentResponse:
        deleted = await self._calls.change(
            self._attachments.delete,
            caller(),
            request.attachment_id,
            request.etag,
            allow_missing=request.allow_missing,
        )
        return pb.DeleteAttachmentResponse(attachment=_optional(deleted))

    async def UndeleteAttachment(
        self, request: pb.UndeleteAttachmentRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.UndeleteAttachmentResponse:
        changed = await self._calls.change(
            self._attachments.undelete,
            caller(),
            request.attachment_id,
            request.etag,
            allow_missing=request.allow_missing,
        )
        return pb.UndeleteAttachmentResponse(attachment=_optional(changed))


def _wanted(request: pb.UpsertAttachmentRequest) -> Wanted:
    return Wanted(
        convert.draft_from_proto(request.attachment, request.attachment_id),
        tuple(request.update_mask.paths),
        convert.mode_from_proto(request.mode),
        request.etag,
    )


def _upserted(upserted: Upserted) -> pb.UpsertAttachmentResponse:
    response = pb.UpsertAttachmentResponse(outcome=convert.OUTCOMES[upserted.outcome])
    convert.fill_attachment(response.attachment, upserted.attachment)
    return response


def _upsert_result(one: Upserted | errors.RemoraError) -> pb.BatchUpsertAttachmentsResult:
    if isinstance(one, errors.RemoraError):
        return pb.BatchUpsertAttachmentsResult(error=status_of(one))
    return pb.BatchUpsertAttachmentsResult(
        attachment=convert.attachment_to_proto(one.attachment), outcome=convert.OUTCOMES[one.outcome]
    )


def _get_result(one: Attachment | errors.RemoraError) -> pb.BatchGetAttachmentsResult:
    if isinstance(one, errors.RemoraError):
        return pb.BatchGetAttachmentsResult(error=status_of(one))
    return pb.BatchGetAttachmentsResult(attachment=convert.attachment_to_proto(one))


def _optional(attachment: Attachment | None) -> attachment_pb2.Attachment | None:
    return convert.attachment_to_proto(attachment) if attachment else None

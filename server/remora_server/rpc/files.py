"""FileService: translates, and calls core; the two kinds of streams have files of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from typing import Any

import grpc

from remora.v1 import common_pb2, file_service_pb2_grpc, upload_ticket_service_pb2
from remora.v1 import file_service_pb2 as pb
from remora_server.core import batches, errors, fields
from remora_server.core.admission import Admission
from remora_server.core.arrivals import Arrivals
from remora_server.core.deletion import Deletion
from remora_server.core.downloads import Downloads
from remora_server.core.files import Files
from remora_server.core.intake import Content, Taken
from remora_server.core.model import Caller, File
from remora_server.core.ports import FileQuery
from remora_server.core.renditions import Renditions
from remora_server.core.tickets import Request, Tickets
from remora_server.core.uploads import Uploads
from remora_server.core.values import dataclass, replace
from remora_server.rpc import convert
from remora_server.rpc.calls import Calls, caller, obtain
from remora_server.rpc.download_stream import DownloadStream, range_of
from remora_server.rpc.errors import status_of
from remora_server.rpc.upload_stream import HEARTBEAT_SECONDS, Draining, Pace, UploadStream, done_to_proto

BATCH_BYTES = 3 * 1024 * 1024
# Longer than a killed server's claim to be verifying lasts, so that few callers ever hear of one.
CREATE_WAIT_SECONDS = 15.0

CheckAgain = Callable[[grpc.aio.ServicerContext[Any, Any]], Awaitable[Caller]]


@dataclass(frozen=True, slots=True)
class Streams:
    """What the two kinds of streams are held to."""

    uploading: Admission
    downloading: Admission
    pace: Pace
    draining: Draining
    check_again: CheckAgain


class FileService(file_service_pb2_grpc.FileServiceServicer):
    """The RPCs of files."""

    def __init__(
        self,
        calls: Calls,
        files: Files,
        deletion: Deletion,
        tickets: Tickets,
        uploads: Uploads,
        arrivals: Arrivals,
        downloads: Downloads,
        renditions: Renditions,
        readers: Executor,
        streams: Streams,
    ) -> None:
        self._arrivals = arrivals
        self._downloads = downloads
        self._renditions = renditions
        self._calls = calls
        self._files = files
        self._deletion = deletion
        self._tickets = tickets
        self._uploads = uploads
        self._readers = readers
        self._streams = streams

    async def UploadFile(
        self, request: pb.UploadFileRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.UploadFileResponse:
        data, uploads = request.data, self._uploads
        wanted = Request(
            workspace_id=request.workspace_id,
            spec=convert.spec_from_proto(request.spec),
            attach_to=convert.optional_subject_from_proto(request.attach_to, given=request.HasField("attach_to")),
        )
        uploads.admit_whole(caller(), wanted, data)
        if uploads.is_inline(data):
            # Hashing a few kilobytes takes less time than handing them to another thread.
            content, _ = uploads.keep_whole(wanted.spec, data)
            if uploads.is_glanced(content):
                content = await self._calls.wait(uploads.glance, content, data)
            return await self._record(request, wanted, content, inline=data)
        # Once bytes lie in the blob store they get their row or are removed, also when the caller has gone away.
        return await asyncio.shield(asyncio.ensure_future(self._keep(request, wanted)))

    async def _keep(self, request: pb.UploadFileRequest, wanted: Request) -> pb.UploadFileResponse:
        content, location = await self._calls.wait(self._uploads.keep_whole, wanted.spec, request.data)
        if self._uploads.is_glanced(content):
            content = await self._calls.wait(self._uploads.glance, content, request.data)
        return await self._record(request, wanted, content, location=location)

    async def _record(
        self,
        request: pb.UploadFileRequest,
        wanted: Request,
        content: Content,
        *,
        location: str = "",
        inline: bytes | None = None,
    ) -> pb.UploadFileResponse:
        who, uploads = caller(), self._uploads
        taken: Taken | None = None

        def answer() -> pb.UploadFileResponse:
            nonlocal taken
            taken = uploads.record_whole(who, wanted, content, location, inline)
            response = pb.UploadFileResponse(
                outcome=convert.UPLOAD_OUTCOMES[taken.outcome], attachment_id=taken.attachment_id
            )
            convert.fill_file(response.file, taken.file)
            return response

        parameters = None
        if request.request_id:
            bare = pb.UploadFileRequest(workspace_id=request.workspace_id, spec=request.spec)
            if request.HasField("attach_to"):
                bare.attach_to.CopyFrom(request.attach_to)
            parameters = bare.SerializeToString(deterministic=True) + content.checksums.sha256
        try:
            return await self._calls.once("UploadFile", request, answer, pb.UploadFileResponse.FromString, parameters)
        except errors.StorageFullError:
            taken = None  # Whatever was made was not committed, for certain.
            raise
        finally:
            if location and (taken is None or not taken.blob_is_new):
                self._calls.behind(lambda: uploads.drop_unused(location))

    async def WriteFile(  # type: ignore[override] # the stubs know no coroutine that writes to its context
        self, request_iterator: AsyncIterator[pb.WriteFileRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        who = caller()
        with self._streams.uploading.stream(who.principal_id):
            try:
                first = await asyncio.wait_for(context.read(), self._streams.pace.idle_seconds)
            except TimeoutError:
                await context.write(pb.WriteFileResponse(drain=pb.WriteFileResponse.Drain()))
                return
            if not isinstance(first, pb.WriteFileRequest) or first.WhichOneof("message") != "open":
                raise errors.invalid("message", "must be open first")
            fields.request_id(first.open.request_id)
            who = replace(who, request_id=first.open.request_id)
            ticket_id, done = await self._ticket_of(who, first.open)
            if done is not None:
                await context.write(pb.WriteFileResponse(done=done))
                return
            attach_to = convert.optional_subject_from_proto(
                first.open.attach_to, given=first.open.HasField("attach_to") and bool(first.open.upload_ticket_id)
            )
            if self._uploads.is_finishing(ticket_id):
                await self._join(context, who, ticket_id)
                return
            opened = await self._calls.change(self._tickets.open, who, ticket_id, attach_to)
            while opened.is_verified_elsewhere:
                await context.write(pb.WriteFileResponse(verifying=pb.WriteFileResponse.Verifying()))
                await self._calls.wait(self._uploads.once_verified, who, ticket_id, HEARTBEAT_SECONDS)
                opened = await self._calls.change(self._tickets.open, who, ticket_id, attach_to)
            if opened.done is not None:
                await context.write(pb.WriteFileResponse(done=done_to_proto(opened.done)))
                return
            receiving = await obtain(
                self._calls.wait(self._uploads.begin, who, opened.ticket),
                lambda late: self._calls.behind(late.leave),
            )
            stream = UploadStream(
                self._calls,
                receiving,
                context,
                self._streams.pace,
                self._streams.draining,
                lambda: self._streams.check_again(context),
            )
            await stream.serve()

    async def _join(self, context: grpc.aio.ServicerContext[Any, Any], who: Caller, ticket_id: str) -> None:
        """Wait with the client for the end of an upload that another stream began to finish."""
        joining = asyncio.ensure_future(self._calls.wait(self._uploads.join, who, ticket_id))
        while not (await asyncio.wait({joining}, timeout=HEARTBEAT_SECONDS))[0]:
            await context.write(pb.WriteFileResponse(verifying=pb.WriteFileResponse.Verifying()))
        taken = joining.result()
        if taken is None:
            opened = await self._calls.change(self._tickets.open, who, ticket_id, None)
            taken = opened.done
        if taken is None:
            raise errors.StorageUnavailableError
        await context.write(pb.WriteFileResponse(done=done_to_proto(taken)))

    async def CreateFile(
        self, request: pb.CreateFileRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.CreateFileResponse:
        who = caller()
        finishing = asyncio.ensure_future(
            self._calls.wait(
                self._arrivals.create_file,
                who,
                request.upload_ticket_id,
                convert.checksums_from_proto(request.checksums),
                request.size_bytes if request.HasField("size_bytes") else None,
                convert.optional_subject_from_proto(request.attach_to, given=request.HasField("attach_to")),
            )
        )
        # Reading back many gigabytes takes longer than a call should; it goes on, and a repeat finds its result.
        await asyncio.wait({finishing}, timeout=CREATE_WAIT_SECONDS)
        if not finishing.done():
            ticket = await self._calls.read(self._tickets.get, who, request.upload_ticket_id)
            return pb.CreateFileResponse(upload_ticket=convert.ticket_to_proto(ticket, self._uploads.limits))
        taken = finishing.result()
        return pb.CreateFileResponse(file=convert.file_to_proto(taken.file), attachment_id=taken.attachment_id)

    async def GetFile(
        self, request: pb.GetFileRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetFileResponse:
        found = await self._calls.read(self._files.get, caller(), request.file_id)
        return pb.GetFileResponse(file=convert.file_to_proto(found))

    async def BatchGetFiles(
        self, request: pb.BatchGetFilesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.BatchGetFilesResponse:
        who = caller()
        results = await self._calls.read(
            batches.each_read, request.file_ids, lambda one: self._files.get(who, one), "file_ids"
        )
        return pb.BatchGetFilesResponse(results=map(_get_result, results))

    async def ListFiles(
        self, request: pb.ListFilesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListFilesResponse:
        created_from, created_to = convert.range_from_proto(request.create_time, "create_time")
        query = FileQuery(
            workspace_id=request.workspace_id,
            content_types=tuple(request.content_types),
            created_by=request.created_by,
            created_from=created_from,
            created_to=created_to,
            show_deleted=request.show_deleted,
        )
        page = await self._calls.read(
            self._files.list,
            caller(),
            query,
            convert.optional_subject_from_proto(request.subject, given=request.HasField("subject")),
            page_size=request.page_size,
            page_token=request.page_token,
            include_total_size=request.include_total_size,
        )
        return pb.ListFilesResponse(
            files=map(convert.file_to_proto, page.items),
            next_page_token=page.next_page_token,
            total_size=page.total_size or 0,
        )

    async def UpdateFile(
        self, request: pb.UpdateFileRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.UpdateFileResponse:
        given = request.file
        updated = await self._calls.change(
            self._files.update,
            caller(),
            given.id,
            convert.file_from_proto(given),
            tuple(request.update_mask.paths),
            given.etag,
        )
        return pb.UpdateFileResponse(file=convert.file_to_proto(updated))

    async def DeleteFile(
        self, request: pb.DeleteFileRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DeleteFileResponse:
        deleted = await self._calls.change_many(
            self._deletion.delete_file, caller(), request.file_id, request.etag, detach=request.detach
        )
        return pb.DeleteFileResponse(file=convert.file_to_proto(deleted))

    async def UndeleteFile(
        self, request: pb.UndeleteFileRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.UndeleteFileResponse:
        restored = await self._calls.change(self._files.undelete, caller(), request.file_id, request.etag)
        return pb.UndeleteFileResponse(file=convert.file_to_proto(restored))

    async def ReadFile(  # type: ignore[override] # the stubs know no coroutine that writes to its context
        self, request: pb.ReadFileRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        who = caller()
        with self._streams.downloading.stream(who.principal_id):
            stream = await obtain(self._calls.fetch(self._open, who, request), DownloadStream.close)
            try:
                await stream.serve(context)
            finally:
                stream.close()

    async def BatchReadFiles(
        self, request: pb.BatchReadFilesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.BatchReadFilesResponse:
        who = caller()
        room = BATCH_BYTES

        def read(file_id: str) -> tuple[bytes, int | None]:
            nonlocal room
            file = self._files.readable(who, file_id)
            if file.size_bytes > room:
                raise errors.FileTooLargeError(BATCH_BYTES)
            room -= file.size_bytes
            return self._files.read_whole(file), file.checksums.crc32c

        results = await self._calls.fetch(batches.each_read, request.file_ids, read, "file_ids")
        return pb.BatchReadFilesResponse(results=map(_read_result, results))

    async def GetFileDownloadUrl(
        self, request: pb.GetFileDownloadUrlRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetFileDownloadUrlResponse:
        if request.disposition not in pb.Disposition.values():
            raise errors.invalid("disposition", "is not a known value")
        made = await self._calls.wait(
            self._downloads.offer,
            caller(),
            request.file_id,
            form=convert.form_from_proto(request.rendition),
            wants_inline=request.disposition == pb.DISPOSITION_INLINE,
            lifetime=convert.duration_from_proto(request.ttl, "ttl") if request.HasField("ttl") else None,
        )
        return pb.GetFileDownloadUrlResponse(
            url=made.url,
            headers=[common_pb2.HttpHeader(name=name, value=value) for name, value in made.headers],
            expire_time=convert.time_to_proto(made.expire_time),
        )

    async def _ticket_of(
        self, who: Caller, wanted: pb.WriteFileRequest.Open
    ) -> tuple[str, pb.WriteFileResponse.Done | None]:
        """Return the ticket that an Open names, or makes by its spec; or what makes one unnecessary."""
        if wanted.WhichOneof("target") == "upload_ticket_id":
            return wanted.upload_ticket_id, None
        request = Request(
            workspace_id=wanted.workspace_id,
            spec=convert.spec_from_proto(wanted.spec),
            attach_to=convert.optional_subject_from_proto(wanted.attach_to, given=wanted.HasField("attach_to")),
        )

        def answer() -> upload_ticket_service_pb2.CreateUploadTicketResponse:
            issued = self._tickets.issue(who, request)
            if issued.existing is not None:
                return upload_ticket_service_pb2.CreateUploadTicketResponse(
                    existing_file=convert.file_to_proto(issued.existing.file),
                    attachment_id=issued.existing.attachment_id,
                )
            ticket = convert.ticket_to_proto(issued.ticket, self._uploads.limits) if issued.ticket else None
            return upload_ticket_service_pb2.CreateUploadTicketResponse(upload_ticket=ticket)

        made = await self._calls.once(
            "WriteFile", wanted, answer, upload_ticket_service_pb2.CreateUploadTicketResponse.FromString
        )
        if not made.HasField("existing_file"):
            return made.upload_ticket.id, None
        done = pb.WriteFileResponse.Done(
            file=made.existing_file, outcome=pb.UPLOAD_OUTCOME_ALREADY_EXISTS, attachment_id=made.attachment_id
        )
        return "", done

    def _open(self, who: Caller, request: pb.ReadFileRequest) -> DownloadStream:
        form = convert.form_from_proto(request.rendition)
        if request.WhichOneof("source") == "attachment_id":
            file = self._files.of_attachment(who, request.attachment_id)
        else:
            file = self._files.readable(who, request.file_id)
        shown = self._renditions.of(file, form)
        self._files.require_content(shown.file, request.if_content_etag)
        wanted = range_of(shown.file, request.offset, request.limit)
        return DownloadStream(file, self._renditions.reading(shown, wanted.offset, wanted.length), self._readers)


def _get_result(one: File | errors.RemoraError) -> pb.BatchGetFilesResult:
    if isinstance(one, errors.RemoraError):
        return pb.BatchGetFilesResult(error=status_of(one))
    return pb.BatchGetFilesResult(file=convert.file_to_proto(one))


def _read_result(one: tuple[bytes, int | None] | errors.RemoraError) -> pb.BatchReadFilesResult:
    if isinstance(one, errors.RemoraError):
        return pb.BatchReadFilesResult(error=status_of(one))
    content, crc32c = one
    return pb.BatchReadFilesResult(data=common_pb2.ChecksummedData(content=content, crc32c=crc32c))

"""The bare servers that ours is held against: same library, loop and messages, but nothing done."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import uvloop

from remora.v1 import attachment_service_pb2, file_service_pb2
from remora_server.process import tune_allocator


async def _serve() -> None:
    upserted = attachment_service_pb2.UpsertAttachmentResponse.FromString(sys.stdin.buffer.read())
    stored = file_service_pb2.UploadFileResponse()
    stored.file.CopyFrom(upserted.attachment.file)

    async def upsert(_request: Any, _context: Any) -> attachment_service_pb2.UpsertAttachmentResponse:
        return attachment_service_pb2.UpsertAttachmentResponse.FromString(upserted.SerializeToString())

    async def upload(_request: Any, _context: Any) -> file_service_pb2.UploadFileResponse:
        return stored

    async def discard(_requests: Any, context: Any) -> None:
        received = 0
        while isinstance(message := await context.read(), file_service_pb2.WriteFileRequest):
            received += len(message.chunk.data.content)
        progress = file_service_pb2.WriteFileResponse.Progress(committed_size=received)
        await context.write(file_service_pb2.WriteFileResponse(progress=progress))

    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    attachments = attachment_service_pb2.DESCRIPTOR.services_by_name["AttachmentService"].full_name
    files = file_service_pb2.DESCRIPTOR.services_by_name["FileService"].full_name
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                attachments,
                {
                    "UpsertAttachment": grpc.unary_unary_rpc_method_handler(
                        upsert,
                        attachment_service_pb2.UpsertAttachmentRequest.FromString,
                        attachment_service_pb2.UpsertAttachmentResponse.SerializeToString,
                    )
                },
            ),
            grpc.method_handlers_generic_handler(
                files,
                {
                    "UploadFile": grpc.unary_unary_rpc_method_handler(
                        upload,
                        file_service_pb2.UploadFileRequest.FromString,
                        file_service_pb2.UploadFileResponse.SerializeToString,
                    ),
                    "WriteFile": grpc.stream_stream_rpc_method_handler(
                        discard,
                        file_service_pb2.WriteFileRequest.FromString,
                        file_service_pb2.WriteFileResponse.SerializeToString,
                    ),
                },
            ),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    tune_allocator()
    uvloop.run(_serve())

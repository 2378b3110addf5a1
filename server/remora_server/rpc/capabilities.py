"""CapabilityService: what this server can do and where its limits are."""

from __future__ import annotations

from typing import Any

import grpc

from remora.v1 import capability_service_pb2 as pb
from remora.v1 import capability_service_pb2_grpc, upload_ticket_pb2
from remora_server.core import fields, pages, urls
from remora_server.core.dedup import DedupMode
from remora_server.core.receiving import Limits

API_VERSION = "v1"
FEATURES = ("resumable-upload", "url-upsert", "request-id", "watch")
BATCH_BYTES = 3 * 1024 * 1024


class CapabilityService(capability_service_pb2_grpc.CapabilityServiceServicer):
    """The RPC that tells what to expect."""

    def __init__(self, limits: Limits, mode: DedupMode, transports: tuple[str, ...]) -> None:
        self._answer = pb.GetCapabilitiesResponse(
            api_version=API_VERSION,
            limits=pb.CapabilityLimits(
                max_file_size=limits.max_file_bytes,
                max_unary_upload=limits.max_unary_bytes,
                max_batch_bytes=BATCH_BYTES,
                max_chunk_bytes=limits.max_chunk_bytes,
                ack_interval_bytes=limits.ack_interval_bytes,
                max_unacked_bytes=limits.max_unacked_bytes,
                max_batch_items=fields.MAX_BATCH,
                max_page_size=pages.MAX_PAGE_SIZE,
                metadata=pb.MetadataLimits(
                    max_keys=fields.METADATA_MAX_KEYS,
                    max_key_bytes=fields.METADATA_MAX_KEY_BYTES,
                    max_string_bytes=fields.METADATA_MAX_STRING_BYTES,
                    max_total_bytes=fields.METADATA_MAX_BYTES,
                ),
            ),
            digest_kinds=[pb.DIGEST_KIND_CRC32C, pb.DIGEST_KIND_MD5, pb.DIGEST_KIND_SHA256],
            transports=[upload_ticket_pb2.Transport.Value(f"TRANSPORT_{name}") for name in transports],
            dedup_mode=pb.DedupMode.Value(f"DEDUP_MODE_{mode}"),
            features=FEATURES,
            url_normalization_version=urls.VERSION,
            require_chunk_crc32c=False,
        )

    async def GetCapabilities(
        self, request: pb.GetCapabilitiesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetCapabilitiesResponse:
        return self._answer

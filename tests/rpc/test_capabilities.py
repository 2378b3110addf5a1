"""CapabilityService over a real server: what is announced is what holds."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from remora.v1 import capability_service_pb2 as pb
from remora.v1 import file_pb2, upload_ticket_pb2
from remora.v1 import file_service_pb2 as file_pb
from tests.rpc.asking import WORKSPACE, second_user, upsert, values
from tests.running import Api, RunningServer, refused

CODE = grpc.StatusCode


def capabilities(api: Api) -> pb.GetCapabilitiesResponse:
    """Ask."""
    return api.capabilities.GetCapabilities(pb.GetCapabilitiesRequest())


def test_what_is_announced(api: Api) -> None:
    """Limits, digests, transports and the dedup mode of a server with default settings (D19, D24)."""
    found = capabilities(api)
    mib = 1024 * 1024
    assert found.api_version == "v1"
    assert found.limits == pb.CapabilityLimits(
        max_file_size=5 * 1024 * mib,
        max_unary_upload=3 * mib,
        max_batch_bytes=3 * mib,
        max_chunk_bytes=2 * mib,
        ack_interval_bytes=8 * mib,
        max_unacked_bytes=32 * mib,
        max_batch_items=100,
        max_page_size=1000,
        metadata=pb.MetadataLimits(max_keys=50, max_key_bytes=128, max_string_bytes=4096, max_total_bytes=8192),
    )
    assert found.digest_kinds == [pb.DIGEST_KIND_CRC32C, pb.DIGEST_KIND_MD5, pb.DIGEST_KIND_SHA256]
    assert list(found.transports) == [
        upload_ticket_pb2.TRANSPORT_GRPC,
        upload_ticket_pb2.TRANSPORT_HTTP_PUT,
        upload_ticket_pb2.TRANSPORT_HTTP_POST_FORM,
        upload_ticket_pb2.TRANSPORT_HTTP_RESUMABLE,
    ]
    assert found.dedup_mode == pb.DEDUP_MODE_READABLE
    assert found.url_normalization_version == 1
    assert not found.require_chunk_crc32c
    assert len(set(found.features)) == len(found.features) > 0


def test_settings_show(start_server: Callable[..., RunningServer]) -> None:
    """The largest file and the dedup mode are those that the operator set, and they hold."""
    api = start_server("--max-file-bytes", "1000", "--dedup-mode", "OFF").api()
    found = capabilities(api)
    assert (found.limits.max_file_size, found.dedup_mode) == (1000, pb.DEDUP_MODE_OFF)
    spec = file_pb2.FileSpec(name="a.txt")
    api.files.UploadFile(file_pb.UploadFileRequest(workspace_id=WORKSPACE, spec=spec, data=bytes(1000)))
    with refused(CODE.RESOURCE_EXHAUSTED, "FILE_TOO_LARGE") as seen:
        api.files.UploadFile(file_pb.UploadFileRequest(workspace_id=WORKSPACE, spec=spec, data=bytes(1001)))
    assert seen[0].info.metadata["limit"] == "1000"


def test_metadata_limits_hold(api: Api, new_issue: str) -> None:
    """Metadata exactly at the announced limits is taken, one beyond any of them is not."""
    limits = capabilities(api).limits.metadata
    url = "https://example.com/"
    keys, key, text = limits.max_keys, "k" * limits.max_key_bytes, "x" * limits.max_string_bytes
    rest = "y" * (limits.max_total_bytes - limits.max_string_bytes - 2)
    for taken in ({f"{n:03}": n for n in range(keys)}, {key: 1}, {"a": text}, {"a": text, "b": rest}):
        assert upsert(api, new_issue, url, metadata=values(**taken)).attachment.metadata
    for refusal in (
        {f"{n:03}": n for n in range(keys + 1)},
        {f"{key}k": 1},
        {"a": f"{text}x"},
        {"a": text, "b": f"{rest}y"},
    ):
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            upsert(api, new_issue, url, metadata=values(**refusal))


def test_needs_a_key_but_no_scope(server: RunningServer) -> None:
    """Any valid key will do, none will not (P43)."""
    assert capabilities(second_user(server, scopes="webhooks:manage")).api_version == "v1"
    with refused(CODE.UNAUTHENTICATED, "TOKEN_MISSING"):
        capabilities(server.api(""))

"""What a refusal tells, over a real server: one code, one ErrorInfo, each detail at most once."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from remora.v1 import activity_service_pb2 as activity_pb
from remora.v1 import attachment_service_pb2 as pb
from remora.v1 import common_pb2, error_reason_pb2, file_pb2, link_pb2, upload_ticket_pb2
from remora.v1 import file_service_pb2 as file_pb
from remora.v1 import issue_service_pb2 as issue_pb
from remora.v1 import link_service_pb2 as link_pb
from remora.v1 import upload_ticket_service_pb2 as ticket_pb
from tests.rpc.asking import WORKSPACE, attach, create, delete, second_user, upload, upsert, values
from tests.running import Api, Refusal, RunningServer, issue

CODE = grpc.StatusCode
URL = "https://example.com/1"
ATT = "att_01m7yggyheeq5rqe7req2vftaj"
Provoke = Callable[[Api, str], object]


def refusal_of(call: Callable[[], object]) -> Refusal:
    """Return how a call that must fail fails."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return Refusal(raised.value)


def well_formed(refusal: Refusal) -> None:
    """Hold a refusal to the contract's error model."""
    kinds = [detail.type_url for detail in refusal.details]
    assert len(kinds) == len(set(kinds))
    assert sum(kind.endswith("/google.rpc.ErrorInfo") for kind in kinds) == 1
    assert refusal.info.domain == "remora"
    assert f"ERROR_REASON_{refusal.reason}" in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name
    assert refusal.message
    assert not any(word in refusal.message for word in ("Traceback", "SELECT", "sqlite", "/data", 'File "'))


def _reused(api: Api, key: str) -> object:
    request_id = str(uuid.uuid4())
    create(api, key, URL, request_id=request_id)
    return create(api, key, f"{URL}/2", request_id=request_id)


def _twice(api: Api, key: str) -> object:
    create(api, key, URL)
    return create(api, key, URL)


def _undelete_live(api: Api, key: str) -> object:
    request = pb.UndeleteAttachmentRequest(attachment_id=create(api, key, URL).id)
    return api.attachments.UndeleteAttachment(request)


def _links_collide(api: Api, key: str) -> object:
    for url in (URL, f"{URL}/2"):
        made = api.links.CreateLink(link_pb.CreateLinkRequest(workspace_id=WORKSPACE, subject=issue(key), url=url))
    return api.links.UpdateLink(link_pb.UpdateLinkRequest(link=link_pb2.Link(id=made.link.id, url=URL)))


def _file_in_use(api: Api, key: str) -> object:
    file = upload(api, key=key)
    return api.files.DeleteFile(file_pb.DeleteFileRequest(file_id=file.id))


def _upload(api: Api, data: bytes = b"x", **spec: Any) -> object:
    wanted = file_pb2.FileSpec(name="a.txt", **spec)
    return api.files.UploadFile(file_pb.UploadFileRequest(workspace_id=WORKSPACE, spec=wanted, data=data))


def _ticket(api: Api, transport: upload_ticket_pb2.Transport.ValueType = upload_ticket_pb2.TRANSPORT_GRPC) -> str:
    spec = file_pb2.FileSpec(name="a.txt", size_bytes=5)
    request = ticket_pb.CreateUploadTicketRequest(workspace_id=WORKSPACE, spec=spec, transport=transport)
    made = api.tickets.CreateUploadTicket(request)
    return made.upload_ticket.id


def _append(
    api: Api,
    offset: int,
    content: bytes,
    crc32c: int | None = None,
    transport: upload_ticket_pb2.Transport.ValueType = upload_ticket_pb2.TRANSPORT_GRPC,
) -> object:
    data = common_pb2.ChecksummedData(content=content, crc32c=crc32c)
    return api.tickets.AppendUploadTicket(
        ticket_pb.AppendUploadTicketRequest(upload_ticket_id=_ticket(api, transport), offset=offset, data=data)
    )


def _cancelled(api: Api) -> object:
    pending = _ticket(api)
    api.tickets.CancelUploadTicket(ticket_pb.CancelUploadTicketRequest(upload_ticket_id=pending))
    return api.files.CreateFile(file_pb.CreateFileRequest(upload_ticket_id=pending, size_bytes=0))


def _read(api: Api, **fields: Any) -> object:
    return list(api.files.ReadFile(file_pb.ReadFileRequest(file_id=upload(api).id, **fields)))


# How to meet each reason, its code, and the metadata keys and details that error_reason.proto promises.
PROVOKED: dict[str, tuple[Provoke, grpc.StatusCode, set[str], set[str]]] = {
    "VALIDATION_FAILED": (
        lambda api, key: upsert(api, key, URL, title="x" * 2000), CODE.INVALID_ARGUMENT, set(), {"BadRequest"}),
    "URL_NOT_ALLOWED": (lambda api, key: upsert(api, key, "ftp://x/"), CODE.INVALID_ARGUMENT, set(), {"BadRequest"}),
    "REQUEST_ID_REUSED": (_reused, CODE.INVALID_ARGUMENT, set(), set()),
    "PAGE_TOKEN_INVALID": (
        lambda api, _: api.attachments.ListAttachments(
            pb.ListAttachmentsRequest(workspace_id=WORKSPACE, page_token="x")),
        CODE.INVALID_ARGUMENT, set(), set()),
    "SIZE_MISMATCH": (lambda api, _: _upload(api, size_bytes=2), CODE.INVALID_ARGUMENT, {"expected", "actual"}, set()),
    "CONTENT_CHECKSUM_MISMATCH": (
        lambda api, _: _upload(api, checksums=common_pb2.Checksums(md5=bytes(16))),
        CODE.INVALID_ARGUMENT, {"algorithm", "expected", "actual"}, set()),
    "ETAG_MISMATCH": (
        lambda api, key: (create(api, key, URL), upsert(api, key, URL, title="t", etag='"9"')),
        CODE.ABORTED, {"current_etag"}, set()),
    "OFFSET_MISMATCH": (lambda api, _: _append(api, 3, b"x"), CODE.ABORTED, {"expected_offset"}, set()),
    "CHUNK_CHECKSUM_MISMATCH": (lambda api, _: _append(api, 0, b"x", 1), CODE.ABORTED, {"expected_offset"}, set()),
    "RESOURCE_NOT_FOUND": (
        lambda api, _: api.attachments.GetAttachment(pb.GetAttachmentRequest(attachment_id=ATT)),
        CODE.NOT_FOUND, set(), {"ResourceInfo"}),
    "PREVIEW_UNAVAILABLE": (
        lambda api, _: _read(api, rendition=file_pb.RENDITION_PREVIEW), CODE.NOT_FOUND, set(), set()),
    "ATTACHMENT_URL_EXISTS": (_twice, CODE.ALREADY_EXISTS, {"attachment_id"}, {"ResourceInfo"}),
    "LINK_URL_EXISTS": (_links_collide, CODE.ALREADY_EXISTS, {"link_id"}, {"ResourceInfo"}),
    "NOT_DELETED": (_undelete_live, CODE.ALREADY_EXISTS, set(), set()),
    "UPLOAD_TICKET_CLOSED": (lambda api, _: _cancelled(api), CODE.FAILED_PRECONDITION, {"state"}, set()),
    "FILE_IN_USE": (_file_in_use, CODE.FAILED_PRECONDITION, set(), set()),
    "UPLOAD_INCOMPLETE": (
        lambda api, _: api.files.CreateFile(file_pb.CreateFileRequest(upload_ticket_id=_ticket(api))),
        CODE.FAILED_PRECONDITION, {"committed_size"}, set()),
    "TRANSPORT_UNAVAILABLE": (
        lambda api, _: _append(api, 0, b"x", transport=upload_ticket_pb2.TRANSPORT_HTTP_PUT),
        CODE.FAILED_PRECONDITION, set(), set()),
    "READ_OFFSET_TOO_LARGE": (lambda api, _: _read(api, offset=99), CODE.OUT_OF_RANGE, {"size"}, set()),
    "FILE_TOO_LARGE": (
        lambda api, _: _upload(api, bytes(3 * 1024 * 1024 + 1)), CODE.RESOURCE_EXHAUSTED, {"limit"}, set()),
}  # fmt: skip


@pytest.mark.parametrize("reason", PROVOKED)
def test_reasons(api: Api, new_issue: str, reason: str) -> None:
    """Each reason comes with its code and exactly the metadata and details that the proto promises."""
    provoke, code, keys, details = PROVOKED[reason]
    refusal = refusal_of(lambda: provoke(api, new_issue))
    well_formed(refusal)
    assert (refusal.reason, refusal.code) == (reason, code)
    assert set(refusal.info.metadata) == keys
    assert {detail.type_url.rpartition(".")[2] for detail in refusal.details} == {"ErrorInfo", *details}


def test_credentials(server: RunningServer, api: Api) -> None:
    """No key, an unknown one, one in another form, and one without the scope: the key comes before any field (D26)."""
    request = pb.GetAttachmentRequest(attachment_id="nonsense")
    for key in ("", "rk_unknown", "x" * 5000, "ä"[:0] + " "):
        refusal = refusal_of(lambda key=key: server.api(key).attachments.GetAttachment(request))  # type: ignore[misc]
        well_formed(refusal)
        assert (refusal.code, refusal.reason) == (CODE.UNAUTHENTICATED, "TOKEN_MISSING")
    stub = server.api("").attachments.GetAttachment
    for value in ("Basic abc", "Bearer", str(server.ready["key"]), "Bearer  "):
        refusal = refusal_of(lambda value=value: stub(request, metadata=(("authorization", value),)))  # type: ignore[misc]
        assert (refusal.code, refusal.reason) == (CODE.UNAUTHENTICATED, "TOKEN_MISSING")
    refusal = refusal_of(lambda: second_user(server, scopes="links:read").attachments.GetAttachment(request))
    well_formed(refusal)
    assert (refusal.code, refusal.reason) == (CODE.PERMISSION_DENIED, "SCOPE_MISSING")
    assert dict(refusal.info.metadata) == {"scope": "attachments:read"}
    assert refusal_of(lambda: api.attachments.GetAttachment(request)).reason == "VALIDATION_FAILED"


def test_access_denied(server: RunningServer, api: Api, new_issue: str) -> None:
    """What one may see but not change is told apart from what is not there (contract 4.1)."""
    file = upload(api)
    attach(api, new_issue, file.id)
    refusal = refusal_of(
        lambda: second_user(server).files.DeleteFile(file_pb.DeleteFileRequest(file_id=file.id, detach=True))
    )
    well_formed(refusal)
    assert (refusal.code, refusal.reason) == (CODE.PERMISSION_DENIED, "ACCESS_DENIED")


def test_all_that_is_wrong_is_told_at_once(api: Api, new_issue: str) -> None:
    """One BadRequest names every field that can't be accepted."""
    refusal = refusal_of(
        lambda: upsert(
            api,
            new_issue,
            URL,
            title="x" * 2000,
            group_key="x" * 2000,
            metadata=values(a=float("nan")),
            external_ref=common_pb2.ExternalRef(source="x" * 2000, id="x" * 2000),
        )
    )
    well_formed(refusal)
    wanted = {"title", "group_key", "metadata.a", "external_ref.source", "external_ref.id"}
    assert set(refusal.fields) == {f"attachment.{name}" for name in wanted}
    assert all(one.description for one in refusal.bad_request.field_violations)


@pytest.mark.parametrize(
    ("provoke", "reason"),
    [
        (
            lambda api: api.attachments.ListAttachments(pb.ListAttachmentsRequest(workspace_id="ä" * 1_000_000)),
            "RESOURCE_NOT_FOUND",
        ),
        (
            lambda api: api.issues.GetIssue(
                issue_pb.GetIssueRequest(workspace_id=WORKSPACE, key="\U0001f600" * 300_000)
            ),
            "RESOURCE_NOT_FOUND",
        ),
        (
            lambda api: upsert(api, "A-1", URL, metadata=values(**{f"\U0001f600{n}" * 40: "\0" for n in range(2000)})),
            "VALIDATION_FAILED",
        ),
        (lambda api: upsert(api, "A-1", URL, mask=["\u202e" * 500] * 500), "VALIDATION_FAILED"),
        (lambda api: upsert(api, "A-1", "x" * 1_000_000), "URL_NOT_ALLOWED"),
        (
            lambda api: api.attachments.GetAttachment(pb.GetAttachmentRequest(attachment_id="x" * 1_000_000)),
            "VALIDATION_FAILED",
        ),
    ],
)
def test_a_refusal_is_short_whatever_was_sent(api: Api, provoke: Callable[[Api], object], reason: str) -> None:
    """What a caller sent is not echoed at any length: trailers that are too long would be dropped on the way (P41)."""
    refusal = refusal_of(lambda: provoke(api))
    well_formed(refusal)
    assert refusal.reason == reason
    assert sum(len(detail.value) for detail in refusal.details) < 6000
    assert len(refusal.message) < 1000


def test_items_of_a_batch(api: Api, new_issue: str) -> None:
    """An item that fails carries the same status that the single call would have had."""
    gone = create(api, new_issue, URL)
    delete(api, gone.id)
    single = refusal_of(lambda: api.attachments.GetAttachment(pb.GetAttachmentRequest(attachment_id=ATT)))
    results = api.attachments.BatchGetAttachments(pb.BatchGetAttachmentsRequest(attachment_ids=[ATT])).results
    assert results[0].error.code == single.code.value[0]
    assert results[0].error.message == single.message
    assert list(results[0].error.details) == single.details


def test_too_many_streams(server: RunningServer) -> None:
    """Where no more streams are admitted, RetryInfo says that trying again helps; closing one makes room (D32)."""
    api = second_user(server)
    request = activity_pb.WatchActivitiesRequest(workspace_id=WORKSPACE)
    streams = []
    try:
        for _ in range(256):
            stream = api.activity.WatchActivities(request)
            streams.append(stream)
        for stream in streams:
            assert next(iter(stream)).HasField("started")
        refusal = refusal_of(lambda: next(iter(api.activity.WatchActivities(request))))
        well_formed(refusal)
        assert (refusal.code, refusal.reason) == (CODE.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
        assert refusal.retry.retry_delay.ToMilliseconds() > 0
    finally:
        for stream in streams:
            stream.cancel()


def test_quota(start_server: Callable[..., RunningServer]) -> None:
    """A used-up quota is told with QuotaFailure and never with RetryInfo, since waiting does not help."""
    api = start_server("--quota-bytes", "10").api()
    refusal = refusal_of(lambda: _upload(api, bytes(11)))
    well_formed(refusal)
    assert (refusal.code, refusal.reason) == (CODE.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
    kinds = {detail.type_url.rpartition(".")[2] for detail in refusal.details}
    assert kinds == {"ErrorInfo", error_details_pb2.QuotaFailure.DESCRIPTOR.name}


def test_an_unknown_method(server: RunningServer) -> None:
    """A call of something that is not there is UNIMPLEMENTED."""
    with grpc.insecure_channel(server.address) as channel:
        call: Any = channel.unary_unary("/remora.v1.AttachmentService/Nonsense")
        with pytest.raises(grpc.RpcError) as raised:
            call(b"")
    assert raised.value.code() is CODE.UNIMPLEMENTED

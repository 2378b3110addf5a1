"""Short ways to ask a server for what many tests need, and to ask it many things at once."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2

from remora.v1 import (
    activity_pb2,
    attachment_pb2,
    common_pb2,
    file_pb2,
)
from remora.v1 import activity_service_pb2 as activity_pb
from remora.v1 import attachment_service_pb2 as pb
from remora.v1 import file_service_pb2 as file_pb
from remora.v1 import issue_service_pb2 as issue_pb
from tests.running import Api, RunningServer, issue

WORKSPACE = "demo"
Result = TypeVar("Result")
_users = itertools.count(1)


def at_once(count: int, call: Callable[[int], Result]) -> list[Result]:
    """Run a call in many threads that start together; return the results in the order of their numbers."""
    barrier = Barrier(count)

    def run(number: int) -> Result:
        barrier.wait()
        return call(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def outcome_of(call: Callable[[], object]) -> grpc.StatusCode:
    """Make a call of which some are expected to fail; return how it ended."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def reason_of(status: Any) -> str:
    """Return the reason of a failed item of a batch."""
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "remora"
    return str(info.reason)


def second_user(server: RunningServer, *, workspace: str = WORKSPACE, scopes: str = "") -> Api:
    """Return stubs of a user that nobody else is."""
    return server.api(server.new_key(f"user {next(_users)}", workspace=workspace, scopes=scopes))


def values(**metadata: str | float) -> dict[str, common_pb2.MetadataValue]:
    """Return metadata as the wire carries it."""
    made = {}
    for key, value in metadata.items():
        if isinstance(value, str):
            made[key] = common_pb2.MetadataValue(string_value=value)
        elif isinstance(value, int):
            made[key] = common_pb2.MetadataValue(int_value=value)
        else:
            made[key] = common_pb2.MetadataValue(double_value=value)
    return made


def card(key: str, url: str, **fields: Any) -> attachment_pb2.Attachment:
    """Return an attachment of a URL to an issue, as a caller writes it."""
    return attachment_pb2.Attachment(**{"workspace_id": WORKSPACE, "subject": issue(key), "url": url, **fields})


def upsert_request(
    key: str,
    url: str,
    *,
    mask: Iterable[str] = (),
    **fields: Any,
) -> pb.UpsertAttachmentRequest:
    """Return the request that wants a URL on an issue; fields of the request and of the attachment alike."""
    own = {name: fields.pop(name) for name in ("mode", "etag", "attachment_id", "request_id") if name in fields}
    return pb.UpsertAttachmentRequest(
        attachment=card(key, url, **fields), update_mask=FieldMask(paths=list(mask)) if mask else None, **own
    )


def upsert(
    api: Api,
    key: str,
    url: str,
    *,
    mask: Iterable[str] = (),
    **fields: Any,
) -> pb.UpsertAttachmentResponse:
    """Upsert a URL on an issue."""
    return api.attachments.UpsertAttachment(upsert_request(key, url, mask=mask, **fields))


def create(api: Api, key: str, url: str, **fields: Any) -> attachment_pb2.Attachment:
    """Create an attachment of a URL."""
    own = {name: fields.pop(name) for name in ("attachment_id", "request_id") if name in fields}
    request = pb.CreateAttachmentRequest(attachment=card(key, url, **fields), **own)
    return api.attachments.CreateAttachment(request).attachment


def attach(api: Api, key: str, file_id: str, **fields: Any) -> attachment_pb2.Attachment:
    """Hang a file on an issue."""
    wanted = attachment_pb2.Attachment(workspace_id=WORKSPACE, subject=issue(key), file_id=file_id, **fields)
    return api.attachments.CreateAttachment(pb.CreateAttachmentRequest(attachment=wanted)).attachment


def get(api: Api, attachment_id: str) -> attachment_pb2.Attachment:
    """Read an attachment."""
    return api.attachments.GetAttachment(pb.GetAttachmentRequest(attachment_id=attachment_id)).attachment


def delete(api: Api, attachment_id: str) -> attachment_pb2.Attachment:
    """Delete an attachment."""
    return api.attachments.DeleteAttachment(pb.DeleteAttachmentRequest(attachment_id=attachment_id)).attachment


def listed(api: Api, key: str, **options: Any) -> Sequence[attachment_pb2.Attachment]:
    """Return one page of an issue's attachments."""
    request = pb.ListAttachmentsRequest(workspace_id=WORKSPACE, subject=issue(key), **options)
    return api.attachments.ListAttachments(request).attachments


def upload(api: Api, name: str = "a.txt", data: bytes | None = None, key: str = "") -> file_pb2.File:
    """Upload a small file that is like no other, attached to an issue if one is named."""
    data = os.urandom(16) if data is None else data
    request = file_pb.UploadFileRequest(workspace_id=WORKSPACE, spec=file_pb2.FileSpec(name=name), data=data)
    if key:
        request.attach_to.CopyFrom(issue(key))
    return api.files.UploadFile(request).file


def events(api: Api, key: str = "", **options: Any) -> list[activity_pb2.Activity]:
    """Return all activities, of one issue if it is named, oldest first."""
    request = activity_pb.ListActivitiesRequest(
        workspace_id=WORKSPACE, order=activity_pb.ACTIVITY_ORDER_OCCUR_TIME_ASC, **options
    )
    if key:
        request.subject.CopyFrom(issue(key))
    return list(_pages(api, request))


def _pages(api: Api, request: activity_pb.ListActivitiesRequest) -> Iterator[activity_pb2.Activity]:
    while True:
        page = api.activity.ListActivities(request)
        yield from page.activities
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def types(found: Iterable[activity_pb2.Activity]) -> list[str]:
    """Return what happened, without the version."""
    return [one.type.removesuffix(".v1") for one in found]


def me(api: Api, key: str) -> str:
    """Return the id of the user that an API calls as, by what it leaves on an issue."""
    return upsert(api, key, "https://example.com/me").attachment.updater.id


def known(api: Api, key: str) -> issue_pb.GetIssueResponse:
    """Read an issue by its key."""
    return api.issues.GetIssue(issue_pb.GetIssueRequest(workspace_id=WORKSPACE, key=key))

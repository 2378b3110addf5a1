"""FileService but for its streams: what a file is, who may change it, and how it goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from remora.v1 import attachment_service_pb2, common_pb2, file_pb2, file_service_pb2
from remora.v1 import file_service_pb2 as pb
from tests.running import Api, RunningServer, issue, refused

UNKNOWN = "fil_01m7yggyheeq5rqe7req2vftaj"


def upload(api: Api, name: str, data: bytes, key: str = "") -> pb.UploadFileResponse:
    """Upload in one call, attached to an issue if a key is given."""
    request = pb.UploadFileRequest(workspace_id="demo", spec=file_pb2.FileSpec(name=name), data=data)
    if key:
        request.attach_to.CopyFrom(issue(key))
    return api.files.UploadFile(request)


def test_a_file_tells_what_it_is(api: Api, new_issue: str) -> None:
    """Type, size, digests and both etags are there; no path and no count of references is."""
    file = upload(api, "shot.png", b"not really an image", new_issue).file
    got = api.files.GetFile(pb.GetFileRequest(file_id=file.id)).file
    assert got.content_type == "image/png"
    assert got.type == file_pb2.FILE_TYPE_IMAGE
    assert got.size_bytes == 19
    assert got.content_etag == f'"{got.checksums.sha256.hex()}"'
    assert got.state == file_pb2.FILE_STATE_ACTIVE
    assert {field.name for field in file_pb2.File.DESCRIPTOR.fields}.isdisjoint({"path", "location", "references"})


def test_an_update_changes_what_the_mask_names(api: Api, new_issue: str) -> None:
    """Name and one metadata key change; the rest and the bytes stay; the etag moves and guards the next change."""
    file = upload(api, "a.txt", b"update me " + new_issue.encode()).file
    change = file_pb2.File(id=file.id, name="b.txt", content_type="application/json", etag=file.etag)
    change.metadata["build"].int_value = 7
    request = pb.UpdateFileRequest(file=change)
    request.update_mask.paths.extend(["name", "metadata.build"])
    updated = api.files.UpdateFile(request).file
    assert (updated.name, updated.content_type, updated.metadata["build"].int_value) == ("b.txt", "text/plain", 7)
    assert updated.content_etag == file.content_etag
    with refused(grpc.StatusCode.ABORTED, "ETAG_MISMATCH") as seen:
        api.files.UpdateFile(request)
    assert seen[0].info.metadata["current_etag"] == updated.etag


def test_an_unknown_path_of_a_mask_is_refused(api: Api, new_issue: str) -> None:
    """Output-only paths are ignored, paths that name nothing are an error."""
    file = upload(api, "mask.txt", b"mask " + new_issue.encode()).file
    request = pb.UpdateFileRequest(file=file_pb2.File(id=file.id, size_bytes=1))
    request.update_mask.paths.append("size_bytes")
    assert api.files.UpdateFile(request).file.etag == file.etag
    request.update_mask.paths.append("colour")
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
        api.files.UpdateFile(request)
    assert seen[0].fields == ["update_mask"]


def test_a_file_in_use_is_deleted_only_with_its_attachments(api: Api, new_issue: str) -> None:
    """FILE_IN_USE protects what people see; `detach` deletes the attachments too; undelete brings the file back."""
    uploaded = upload(api, "used.txt", b"in use " + new_issue.encode(), new_issue)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "FILE_IN_USE"):
        api.files.DeleteFile(pb.DeleteFileRequest(file_id=uploaded.file.id))
    deleted = api.files.DeleteFile(pb.DeleteFileRequest(file_id=uploaded.file.id, detach=True)).file
    assert deleted.state == file_pb2.FILE_STATE_DELETED
    listed = api.attachments.ListAttachments(
        attachment_service_pb2.ListAttachmentsRequest(workspace_id="demo", subject=issue(new_issue))
    )
    assert not listed.attachments
    with refused(grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
        list(api.files.ReadFile(pb.ReadFileRequest(file_id=uploaded.file.id)))
    restored = api.files.UndeleteFile(pb.UndeleteFileRequest(file_id=uploaded.file.id)).file
    assert restored.state == file_pb2.FILE_STATE_ACTIVE
    with refused(grpc.StatusCode.ALREADY_EXISTS, "NOT_DELETED"):
        api.files.UndeleteFile(pb.UndeleteFileRequest(file_id=uploaded.file.id))


def test_only_its_creator_changes_a_file(server: RunningServer, api: Api, new_issue: str) -> None:
    """Others read what hangs on an issue, and are refused to change it."""
    file = upload(api, "mine.txt", b"mine " + new_issue.encode(), new_issue).file
    other = server.api(server.new_key(f"other of {new_issue}"))
    assert other.files.GetFile(pb.GetFileRequest(file_id=file.id)).file.id == file.id
    with refused(grpc.StatusCode.PERMISSION_DENIED, "ACCESS_DENIED"):
        other.files.DeleteFile(pb.DeleteFileRequest(file_id=file.id, detach=True))
    with refused(grpc.StatusCode.PERMISSION_DENIED, "ACCESS_DENIED"):
        other.files.UpdateFile(pb.UpdateFileRequest(file=file_pb2.File(id=file.id, name="yours.txt")))


def test_a_list_shows_what_the_caller_may_read(server: RunningServer, api: Api, new_issue: str) -> None:
    """By subject, type and creator; another user's unattached files are not in it; totals only on request."""
    attached = upload(api, "page.html", b"<p>" + new_issue.encode(), new_issue).file
    loose = upload(api, "loose.txt", b"loose " + new_issue.encode()).file
    other = server.api(server.new_key(f"lister of {new_issue}"))
    of_issue = pb.ListFilesRequest(workspace_id="demo", subject=issue(new_issue), include_total_size=True)
    answer = other.files.ListFiles(of_issue)
    assert ([file.id for file in answer.files], answer.total_size) == ([attached.id], 1)
    typed = pb.ListFilesRequest(workspace_id="demo", subject=issue(new_issue), content_types=["text/*"])
    assert [file.id for file in other.files.ListFiles(typed).files] == [attached.id]
    everything = other.files.ListFiles(pb.ListFilesRequest(workspace_id="demo", page_size=1000))
    assert loose.id not in {file.id for file in everything.files}  # Other tests' files may be, on the same server.
    assert everything.total_size == 0


def test_a_batch_answers_item_by_item(api: Api, new_issue: str) -> None:
    """BatchGetFiles and BatchReadFiles keep the order; one bad id harms only its own place."""
    first = upload(api, "one.txt", b"one " + new_issue.encode()).file
    second = upload(api, "two.bin", bytes(40_000) + new_issue.encode()).file
    got = api.files.BatchGetFiles(pb.BatchGetFilesRequest(file_ids=[first.id, UNKNOWN, second.id]))
    assert [one.WhichOneof("result") for one in got.results] == ["file", "error", "file"]
    assert got.results[1].error.code == grpc.StatusCode.NOT_FOUND.value[0]
    read = api.files.BatchReadFiles(pb.BatchReadFilesRequest(file_ids=[second.id, UNKNOWN, first.id]))
    assert [one.WhichOneof("result") for one in read.results] == ["data", "error", "data"]
    assert read.results[0].data.content == bytes(40_000) + new_issue.encode()
    assert read.results[2].data.content == b"one " + new_issue.encode()


def test_a_download_url(api: Api, new_issue: str) -> None:
    """It works for an hour unless another time is asked for, a week at most; a rendition must be there."""
    file = upload(api, "url.txt", b"url " + new_issue.encode()).file

    def seconds_left(**options: Any) -> float:
        url = api.files.GetFileDownloadUrl(pb.GetFileDownloadUrlRequest(file_id=file.id, **options))
        assert not url.headers
        return url.expire_time.ToDatetime(UTC).timestamp() - time.time()

    assert 3500 < seconds_left() < 3601
    assert 0 < seconds_left(ttl=Duration(seconds=60)) < 61
    assert 7 * 86400 - 100 < seconds_left(ttl=Duration(seconds=10**9)) < 7 * 86400 + 1
    for ttl in (Duration(), Duration(seconds=-1), Duration(seconds=2**62)):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            seconds_left(ttl=ttl)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED"):
        seconds_left(disposition=99)
    preview = pb.GetFileDownloadUrlRequest(file_id=file.id, rendition=file_service_pb2.RENDITION_THUMBNAIL)
    with refused(grpc.StatusCode.NOT_FOUND, "PREVIEW_UNAVAILABLE"):
        api.files.GetFileDownloadUrl(preview)


def test_a_quota_is_charged_and_given_back(start_server: Callable[..., RunningServer]) -> None:
    """The workspace pays for every live file; deleting gives the bytes back; the refusal has no RetryInfo."""
    api = start_server("--quota-bytes", "100000").api()
    first = upload(api, "first.bin", bytes(60_000)).file
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED") as seen:
        upload(api, "second.bin", b"\1" * 60_000)
    assert not seen[0].retry.HasField("retry_delay")
    api.files.DeleteFile(pb.DeleteFileRequest(file_id=first.id))
    assert upload(api, "second.bin", b"\1" * 60_000).file.size_bytes == 60_000


def test_a_file_on_its_last_attachment_is_paid_for_until_that_goes(start_server: Callable[..., RunningServer]) -> None:
    """Deleting the last attachment of a file frees its bytes at once; undeleting it charges them again."""
    api = start_server("--quota-bytes", "100000").api()
    attached = upload(api, "held.bin", bytes(60_000), "DEMO-1")
    delete = attachment_service_pb2.DeleteAttachmentRequest(attachment_id=attached.attachment_id)
    api.attachments.DeleteAttachment(delete)
    upload(api, "next.bin", b"\1" * 60_000)
    undelete = attachment_service_pb2.UndeleteAttachmentRequest(attachment_id=attached.attachment_id)
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED"):
        api.attachments.UndeleteAttachment(undelete)


def test_a_subject_of_another_kind_stands_for_itself(api: Api, new_issue: str) -> None:
    """A comment needs no registry: its id is the scope."""
    subject = common_pb2.Subject(type="comment", id=f"c-{new_issue}")
    spec = file_pb2.FileSpec(name="c.txt")
    data = b"comment " + new_issue.encode()
    request = pb.UploadFileRequest(workspace_id="demo", spec=spec, data=data, attach_to=subject)
    assert api.files.UploadFile(request).attachment_id
    listed = api.files.ListFiles(pb.ListFilesRequest(workspace_id="demo", subject=subject))
    assert [file.name for file in listed.files] == ["c.txt"]


def test_a_file_on_its_way_out_is_not_handed_out_again(start_server: Callable[..., RunningServer]) -> None:
    """A file whose last attachment is gone is swept; the same upload made meanwhile is a file of its own and stays."""
    server = start_server()
    api = server.api()
    attached = upload(api, "again.txt", b"once more", "DEMO-1")
    delete = attachment_service_pb2.DeleteAttachmentRequest(attachment_id=attached.attachment_id)
    api.attachments.DeleteAttachment(delete)
    again = upload(api, "again.txt", b"once more")
    assert again.file.id != attached.file.id
    server.report("gc", "--grace", "0")
    assert api.files.GetFile(pb.GetFileRequest(file_id=again.file.id)).file.name == "again.txt"
    with refused(grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
        api.files.GetFile(pb.GetFileRequest(file_id=attached.file.id))


def test_an_undeleted_file_is_not_swept(start_server: Callable[..., RunningServer]) -> None:
    """Whatever became of its attachments before, bringing a file back keeps it."""
    server = start_server()
    api = server.api()
    attached = upload(api, "back.txt", b"bring me back", "DEMO-1")
    api.files.DeleteFile(pb.DeleteFileRequest(file_id=attached.file.id, detach=True))
    api.files.UndeleteFile(pb.UndeleteFileRequest(file_id=attached.file.id))
    server.report("gc", "--grace", "0")
    assert api.files.GetFile(pb.GetFileRequest(file_id=attached.file.id)).file.state == file_pb2.FILE_STATE_ACTIVE


def test_a_request_id_that_is_none_is_refused_by_every_call(api: Api) -> None:
    """What is not a UUID never reaches the log of changes, where everybody would have to read it."""
    request = pb.CreateFileRequest(upload_ticket_id="upl_01m7yggyheeq5rqe7req2vftaj", request_id="x" * 100_000)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
        api.files.CreateFile(request)
    assert seen[0].fields == ["request_id"]

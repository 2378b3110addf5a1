"""The client: what one does with attachments, and beneath it the stubs of all services."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO, Protocol, Self, TypeVar

from remora import downloads, errors, renditions, watching
from remora.addresses import DEFAULT_ADDRESS, require_address
from remora.connection import Connection, new_request_id
from remora.downloads import Download, Got
from remora.local import LocalServer
from remora.model import (
    Activity,
    Attached,
    Attachment,
    File,
    Link,
    MetadataValue,
    Ticket,
    activity_from_proto,
    attachment_from_proto,
    file_from_proto,
    link_from_proto,
    metadata_to_proto,
    outcome_from_proto,
    subject_from_text,
    ticket_from_proto,
)
from remora.patience import Patience
from remora.progress import OnProgress
from remora.renditions import Rendition
from remora.sources import FileSource, PipeSource, SeekableSource, Source
from remora.state import State
from remora.uploads import Put, Target, Upload
from remora.v1 import (
    activity_service_pb2,
    attachment_pb2,
    attachment_service_pb2,
    file_pb2,
    file_service_pb2,
    link_service_pb2,
    upload_ticket_pb2,
    upload_ticket_service_pb2,
)

PATIENCE_SECONDS = 300.0
CONNECT_SECONDS = 5.0
NO_METADATA: Mapping[str, MetadataValue] = {}


class _Listed(Protocol):
    """A page of a list."""

    next_page_token: str


class _Lists(Protocol):
    """A request for a page."""

    page_token: str


_Page = TypeVar("_Page", bound=_Listed)
_Listing = TypeVar("_Listing", bound=_Lists)


class Client:
    """A connection to a server as one user, in one workspace. Threads may share it.

    What is not given is taken from REMORA_ADDRESS (localhost:7460), REMORA_KEY, REMORA_WORKSPACE, REMORA_CA and
    REMORA_CERT. `ca` names a file of certificates; giving one turns TLS on. `cert` names a file with a certificate and
    its key, for servers that ask their clients for one. A transfer that gets nowhere is given up after
    `patience` seconds, or `connect_timeout` if the server was never reached.

    The attributes files, attachments, upload_tickets, links, activities, issues and capabilities are the stubs of the
    services; errors of calls through them are grpc.RpcError, which `remora.errors.from_call` translates.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        key: str | None = None,
        workspace: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        patience: float = PATIENCE_SECONDS,
        connect_timeout: float = CONNECT_SECONDS,
        state_folder: Path | None = None,
    ) -> None:
        self.address = address or os.environ.get("REMORA_ADDRESS") or DEFAULT_ADDRESS
        require_address(self.address)
        self.workspace = workspace or os.environ.get("REMORA_WORKSPACE", "")
        if not self.workspace:
            raise ValueError("no workspace: pass workspace=... or set REMORA_WORKSPACE")
        ca = ca or os.environ.get("REMORA_CA") or None
        cert = cert or os.environ.get("REMORA_CERT") or None
        if cert is not None and ca is None:
            raise ValueError("a certificate is shown over TLS only: pass ca=... or set REMORA_CA")
        self._patience_seconds = patience
        self._connect_seconds = connect_timeout
        self._state = State(state_folder)
        self._server: LocalServer | None = None
        self._connection = Connection(
            self.address,
            os.environ.get("REMORA_KEY", "") if key is None else key,
            ca,
            cert,
        )
        self.files = self._connection.files
        self.attachments = self._connection.attachments
        self.upload_tickets = self._connection.upload_tickets
        self.links = self._connection.links
        self.activities = self._connection.activities
        self.issues = self._connection.issues
        self.capabilities = self._connection.capabilities

    @classmethod
    def local(cls) -> Self:
        """Start a server of one's own, with an empty demo workspace; it stops with the client."""
        server = LocalServer()  # Before any channel exists: gRPC and new processes do not mix well.
        client = cls(server.address, key=server.key, workspace=server.workspace)
        client._server = server
        return client

    def close(self) -> None:
        """Close the connection, and stop the server if it is this client's own."""
        self._connection.close()
        if self._server is not None:
            self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def put(
        self,
        issue: str,
        source: str | os.PathLike[str] | BinaryIO,
        *,
        name: str | None = None,
        content_type: str = "",
        metadata: Mapping[str, MetadataValue] = NO_METADATA,
        on_progress: OnProgress | None = None,
    ) -> Put:
        """Upload a file, or what a stream gives, and attach it to an issue.

        A file that was uploaded in part, by this or an earlier run, goes on from there; content that is stored already
        is not sent. A broken connection or a server that restarts only costs time.
        """
        opened, own_name = _open(source)
        # A file system may hold names that are no text; the service takes text only.
        text = (name or own_name).encode(errors="surrogateescape").decode(errors="replace")
        spec = file_pb2.FileSpec(name=text, content_type=content_type, metadata=metadata_to_proto(metadata))
        target = Target(self.workspace, subject_from_text(issue), issue, spec)
        try:
            return Upload(self._connection, opened, target, self._state, self._patience(), on_progress).run()
        finally:
            opened.close()

    def get(
        self,
        issue_or_id: str,
        name: str | None = None,
        *,
        to: str | os.PathLike[str] | IO[bytes] | None = None,
        offset: int = 0,
        limit: int = 0,
        rendition: Rendition = "original",
        wait_seconds: float = 0.0,
        on_progress: OnProgress | None = None,
    ) -> Got:
        """Download a file, by issue and name or by the id of the file or attachment, and verify it.

        `to` is a path, a folder, or something open for writing; without it the file gets its own name in the current
        folder. Until a path is complete it has `.part` after its name, and another run goes on from there. With
        `offset` or `limit` only that part is read, at once and not resumed later.

        A `rendition` shows the file, and is verified just so: a preview fits a page, a thumbnail is small. Where there
        is none PreviewUnavailableError is raised; one that is still being made is waited for up to `wait_seconds`.
        """
        file = self.find_file(issue_or_id, name)
        content = renditions.find(self._connection, file, rendition, self._patience(), wait_seconds)
        if to is not None and not isinstance(to, str | os.PathLike):
            return downloads.copy(
                self._connection, file, content, to, self._patience(), on_progress, offset=offset, limit=limit
            )
        path = Path(to) if to is not None else Path()
        if path.is_dir():
            # A name is only for showing: what it says about folders is not followed.
            path /= Path(content.name.replace("\\", "/")).name or file.id
        if offset or limit:
            with path.open("wb") as into:
                return downloads.copy(
                    self._connection, file, content, into, self._patience(), on_progress, offset=offset, limit=limit
                )
        return downloads.save(self._connection, file, content, path, self._patience(), on_progress)

    def iter_download(
        self,
        issue_or_id: str,
        name: str | None = None,
        *,
        offset: int = 0,
        limit: int = 0,
        rendition: Rendition = "original",
        wait_seconds: float = 0.0,
    ) -> Iterator[bytes]:
        """Give the content of a file piece by piece, across broken connections; the whole is verified at its end."""
        file = self.find_file(issue_or_id, name)
        content = renditions.find(self._connection, file, rendition, self._patience(), wait_seconds)
        return iter(Download(self._connection, content, self._patience(), offset=offset, limit=limit))

    def find_file(self, issue_or_id: str, name: str | None = None) -> File:
        """Find a file by its id, by the id of its attachment, or by issue and name: the newest of that name."""
        if issue_or_id.startswith("fil_"):
            file_request = file_service_pb2.GetFileRequest(file_id=issue_or_id)
            return file_from_proto(self._connection.call(self.files.GetFile, file_request).file)
        if issue_or_id.startswith("att_"):
            request = attachment_service_pb2.GetAttachmentRequest(attachment_id=issue_or_id)
            found = attachment_from_proto(self._connection.call(self.attachments.GetAttachment, request).attachment)
            if found.file is not None:
                return found.file
            raise errors.NotFoundError("this attachment shows no file that you may read.", code="NOT_FOUND")
        if name is None:
            raise ValueError("which file of the issue? Give its name")
        for attachment in self._attachments(issue_or_id, attachment_pb2.ATTACHMENT_KIND_FILE):
            if attachment.file is not None and name in {attachment.file.name, attachment.title}:
                return attachment.file
        raise errors.NotFoundError(f"{issue_or_id} has no file {name!r}.", code="NOT_FOUND")

    def attach(
        self,
        issue: str,
        url: str,
        *,
        title: str = "",
        subtitle: str = "",
        metadata: Mapping[str, MetadataValue] = NO_METADATA,
        sequence_number: int | None = None,
    ) -> Attached:
        """Make sure that an issue shows a URL with these fields. Fields that are left out stay as they are."""
        attachment = attachment_pb2.Attachment(
            workspace_id=self.workspace,
            subject=subject_from_text(issue),
            url=url,
            title=title,
            subtitle=subtitle,
            metadata=metadata_to_proto(metadata),
            sequence_number=sequence_number,
        )
        request = attachment_service_pb2.UpsertAttachmentRequest(attachment=attachment, request_id=new_request_id())
        response = self._connection.call(self.attachments.UpsertAttachment, request)
        return Attached(attachment_from_proto(response.attachment), outcome_from_proto(response.outcome))

    def ls(self, issue: str) -> list[Attachment]:
        """List the attachments of an issue, newest first."""
        return list(self._attachments(issue))

    def rm(self, issue_or_id: str, name: str | None = None) -> Attachment | File:
        """Delete an attachment, by its id or by issue and name or URL; or a file by its id, with its attachments.

        Either can be undeleted for a while. A file whose attachment is deleted stays stored.
        """
        if issue_or_id.startswith("fil_"):
            request = file_service_pb2.DeleteFileRequest(file_id=issue_or_id, detach=True)
            return file_from_proto(self._connection.call(self.files.DeleteFile, request).file)
        attachment_id = issue_or_id
        if not issue_or_id.startswith("att_"):
            if name is None:
                raise ValueError("which attachment of the issue? Give its name or URL")
            attachment_id = self._attachment_named(issue_or_id, name).id
        deletion = attachment_service_pb2.DeleteAttachmentRequest(attachment_id=attachment_id)
        return attachment_from_proto(self._connection.call(self.attachments.DeleteAttachment, deletion).attachment)

    def undelete(self, attachment_or_file_id: str) -> Attachment | File:
        """Bring a deleted attachment or file back, by its id, while it can be undeleted."""
        if attachment_or_file_id.startswith("fil_"):
            of_file = file_service_pb2.UndeleteFileRequest(file_id=attachment_or_file_id)
            return file_from_proto(self._connection.call(self.files.UndeleteFile, of_file).file)
        request = attachment_service_pb2.UndeleteAttachmentRequest(attachment_id=attachment_or_file_id)
        return attachment_from_proto(self._connection.call(self.attachments.UndeleteAttachment, request).attachment)

    def add_link(self, issue: str, url: str, *, title: str = "") -> tuple[Link, bool]:
        """Make sure that an issue has a link to a URL; tell also whether it was created now."""
        request = link_service_pb2.CreateLinkRequest(
            workspace_id=self.workspace,
            subject=subject_from_text(issue),
            url=url,
            title=title,
            request_id=new_request_id(),
        )
        response = self._connection.call(self.links.CreateLink, request)
        return link_from_proto(response.link), response.created

    def list_links(self, issue: str) -> list[Link]:
        """List the links of an issue, newest first."""
        request = link_service_pb2.ListLinksRequest(workspace_id=self.workspace, subject=subject_from_text(issue))
        pages = self._pages(self.links.ListLinks, request)
        return [link_from_proto(link) for page in pages for link in page.links]

    def remove_link(self, link_id: str) -> Link:
        """Delete a link for good."""
        request = link_service_pb2.DeleteLinkRequest(link_id=link_id)
        return link_from_proto(self._connection.call(self.links.DeleteLink, request).link)

    def activity(self, issue: str | None = None) -> Iterator[Activity]:
        """Give what happened on an issue, or in the whole workspace, newest first."""
        request = activity_service_pb2.ListActivitiesRequest(
            workspace_id=self.workspace, subject=subject_from_text(issue) if issue is not None else None
        )
        for page in self._pages(self.activities.ListActivities, request):
            yield from map(activity_from_proto, page.activities)

    def watch(self, issue: str | None = None, cursor: str | None = None) -> Iterator[Activity]:
        """Give what happens on an issue, or in the whole workspace, from now on or after an activity's cursor."""
        request = activity_service_pb2.WatchActivitiesRequest(
            workspace_id=self.workspace,
            start_cursor=cursor or "",
            subjects=[subject_from_text(issue)] if issue is not None else [],
            include_payload=True,
        )
        return watching.watch(self._connection, request, self._patience())

    def tickets(self) -> list[Ticket]:
        """List one's unfinished uploads, newest first."""
        request = upload_ticket_service_pb2.ListUploadTicketsRequest(
            workspace_id=self.workspace,
            states=[
                upload_ticket_pb2.UPLOAD_TICKET_STATE_PENDING,
                upload_ticket_pb2.UPLOAD_TICKET_STATE_UPLOADING,
                upload_ticket_pb2.UPLOAD_TICKET_STATE_VERIFYING,
            ],
        )
        pages = self._pages(self.upload_tickets.ListUploadTickets, request)
        return [ticket_from_proto(ticket) for page in pages for ticket in page.upload_tickets]

    def _attachments(
        self, issue: str, kind: attachment_pb2.AttachmentKind.ValueType | None = None
    ) -> Iterator[Attachment]:
        request = attachment_service_pb2.ListAttachmentsRequest(
            workspace_id=self.workspace,
            subject=subject_from_text(issue),
            kinds=[kind] if kind is not None else [],
        )
        for page in self._pages(self.attachments.ListAttachments, request):
            yield from map(attachment_from_proto, page.attachments)

    def _attachment_named(self, issue: str, name: str) -> Attachment:
        for attachment in self._attachments(issue):
            if name in {attachment.file.name if attachment.file else "", attachment.title, attachment.url}:
                return attachment
        raise errors.NotFoundError(f"{issue} has no attachment {name!r}.", code="NOT_FOUND")

    def _pages(self, method: Callable[[_Listing], _Page], request: _Listing) -> Iterator[_Page]:
        while True:
            page = self._connection.call(method, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def _patience(self) -> Patience:
        return Patience(self._patience_seconds, self._connect_seconds, heard=self._connection.heard)


def _open(source: str | os.PathLike[str] | BinaryIO) -> tuple[Source, str]:
    """Open what was given to be uploaded, and find the name that it has."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if stat.S_ISREG(path.stat().st_mode):
            return FileSource(path), path.name
        return PipeSource(path.open("rb")), path.name
    name = getattr(source, "name", "")
    own_name = Path(name).name if isinstance(name, str) and name else "unnamed"
    return (SeekableSource(source) if source.seekable() else PipeSource(source)), own_name

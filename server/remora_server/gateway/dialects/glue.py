"""Glue: files by upload ticket, and messages that carry them, by GraphQL at /public/graphql."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import GraphQLResolveInfo
from starlette.datastructures import Headers
from starlette.responses import Response

from remora_server.core import dispositions, downloads, errors, ids
from remora_server.core.errors import RemoraError, invalid
from remora_server.core.messages import Message
from remora_server.core.model import Checksums, File, FileSpec, FileState, HttpUpload, Media, PreviewState, Ticket
from remora_server.core.tickets import Request
from remora_server.gateway import graph_errors
from remora_server.gateway.errors import HttpError, message_of
from remora_server.gateway.graph import Field, Graph, routes_of
from remora_server.gateway.graph_errors import Problem, problem_of
from remora_server.gateway.route import Dialect, Visit

SOURCE = "glue.md"
PATH = "/public/graphql"
TRANSPORTS = {"put": "HTTP_PUT", "form": "HTTP_POST_FORM"}
LENGTH = re.compile(r"0|[1-9][0-9]{0,17}")
MD5_BYTES = 16
NO_FILE, NO_TICKET, NO_MESSAGE = "file", "upload ticket", "message"
# By reason of core: the code; every other reason is its own code.
ERRORS: Mapping[str, str] = {
    "TOKEN_MISSING": "UNAUTHENTICATED",
    "TOKEN_EXPIRED": "UNAUTHENTICATED",
    "SCOPE_MISSING": "FORBIDDEN",
    "ACCESS_DENIED": "FORBIDDEN",
    "VALIDATION_FAILED": graph_errors.BAD_INPUT,
    "RESOURCE_NOT_FOUND": "NOT_FOUND",
    "UPLOAD_TICKET_EXPIRED": "TICKET_EXPIRED",
    "UPLOAD_TICKET_CLOSED": "TICKET_CLOSED",
}
# What core calls the fields of an input.
FIELD_NAMES = {
    "spec.name": "name",
    "spec.content_type": "contentType",
    "spec.media.width": "metadata.width",
    "spec.media.height": "metadata.height",
}
Object = dict[str, Any]


def credential(headers: Headers) -> str:
    """Return the key that comes as `Authorization: Bearer`."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise errors.TokenMissingError
    return token.strip()


def wording(problem: Problem) -> dict[str, Any]:
    """Return an error with its code."""
    message = problem.message if problem.cause is None else message_of(problem.cause, FIELD_NAMES)
    return {"message": message, "extensions": {"code": ERRORS.get(problem.code, problem.code)}}


def refusal(problem: RemoraError | HttpError) -> Response:
    """Write the refusal of a whole request."""
    return graph_errors.refused(wording, problem_of(problem))


def failure(number: str) -> Response:
    """Write that the mistake is ours."""
    return graph_errors.refused(wording, graph_errors.internal(number))


@dataclass(frozen=True, slots=True)
class GlueVisit:
    """One request, with what its resolvers share."""

    visit: Visit
    transport: str
    md5s: dict[str, bytes] = field(default_factory=dict)  # by blob
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)  # One file at a time is read for its MD5.


async def upload_ticket(
    _root: object,
    info: GraphQLResolveInfo[GlueVisit],
    *,
    input: Mapping[str, Any],  # noqa: A002 - as the schema has it
) -> Object:
    """Begin an upload, unless the caller has a file with the same content."""
    visit: Visit = info.context.visit
    wanted = Request(visit.caller.workspace_id, _spec(input), info.context.transport, takes_existing=True)
    issued = await visit.calls.change(visit.core.tickets.issue, visit.caller, wanted)
    if issued.existing is not None:
        return _file(issued.existing.file)
    assert issued.ticket is not None  # noqa: S101 - it is one or the other
    return _ticket(issued.ticket, await visit.calls.wait(visit.core.transfers.offer_upload, issued.ticket))


async def create_file(
    _root: object,
    info: GraphQLResolveInfo[GlueVisit],
    *,
    input: Mapping[str, Any],  # noqa: A002 - as the schema has it
) -> Object:
    """Make a file of what was uploaded; repeating it returns the same file."""
    visit: Visit = info.context.visit
    ticket_id = _id(ids.TICKET, input["uploadTicketID"], NO_TICKET)
    taken = await visit.calls.wait(visit.core.arrivals.create_file, visit.caller, ticket_id, Checksums(), None, None)
    return _file(taken.file)


async def send_message(
    _root: object,
    info: GraphQLResolveInfo[GlueVisit],
    *,
    input: Mapping[str, Any],  # noqa: A002 - as the schema has it
) -> Object:
    """Send a text with files, all of it or nothing."""
    visit: Visit = info.context.visit
    visit.require("IssueService.UpsertIssue")
    file_ids = [_id(ids.FILE, one, NO_FILE) for one in input["attachments"]]
    quoted = input.get("quotedMessageID") or ""
    return _message(await visit.calls.change(visit.core.messages.send, visit.caller, input["text"], file_ids, quoted))


async def node(_root: object, info: GraphQLResolveInfo[GlueVisit], *, id: str) -> Object | None:  # noqa: A002 - as above
    """Return the file or the message with an id; what is not there, or not for the caller, is null."""
    visit: Visit = info.context.visit
    try:
        if id.startswith(f"{ids.MESSAGE}_"):
            visit.require("IssueService.GetIssue")
            visit.require("AttachmentService.ListAttachments")
            return _message(await visit.calls.read(visit.core.messages.get, visit.caller, id))
        if id.startswith(f"{ids.FILE}_"):
            found = await visit.calls.read(visit.core.files.get, visit.caller, _id(ids.FILE, id, NO_FILE))
            return None if found.state is FileState.DELETED else _file(found)
    except errors.NotFoundError:
        pass
    return None


async def content_md5(source: Object, info: GraphQLResolveInfo[GlueVisit]) -> str:
    """Return the MD5 of a file; a file that came by a stream may have none until now."""
    context: GlueVisit = info.context
    file: File = source["file"]
    async with context.reading:
        if file.blob_id not in context.md5s:
            calls, digests = context.visit.calls, context.visit.core.digests
            context.md5s[file.blob_id] = file.checksums.md5 or await calls.wait(digests.md5_of, file)
    return base64.b64encode(context.md5s[file.blob_id]).decode()


def url(source: Object, info: GraphQLResolveInfo[GlueVisit]) -> str:
    """Return a URL of our own origin, so that a client which sends its key along sends it to nobody else."""
    visit: Visit = info.context.visit
    urls = visit.core.shelf.urls
    return urls.download(visit.caller, source["file"], dispositions.ATTACHMENT, downloads.DEFAULT_LIFETIME).url


FIELDS: Mapping[str, Field] = {
    "Query.node": Field(node, "FileService.GetFile"),
    "Mutation.uploadTicket": Field(upload_ticket, "UploadTicketService.CreateUploadTicket"),
    "Mutation.createFile": Field(create_file, "FileService.CreateFile"),
    "Mutation.sendMessage": Field(send_message, "AttachmentService.CreateAttachment"),
    "File.contentMD5": Field(content_md5),
    "File.url": Field(url, "FileService.GetFileDownloadUrl"),
}


def glue(tickets: str) -> Dialect:
    """Return the dialect; `tickets` tells how bytes are to be sent: `put` or `form`."""

    def begin(visit: Visit) -> GlueVisit:
        return GlueVisit(visit, TRANSPORTS[tickets])

    graph = Graph("glue", FIELDS, begin, wording, refused_status=200)
    return Dialect("glue", (PATH,), routes_of(graph, PATH, SOURCE), credential, refusal, failure, ("bearer", "token"))


def _id(prefix: str, text: str, noun: str) -> str:
    """Return an id; what can't be one names nothing."""
    try:
        return ids.parse(prefix, text, "id")
    except errors.ValidationFailedError:
        raise errors.NotFoundError(noun, "-") from None


def _spec(given: Mapping[str, Any]) -> FileSpec:
    if not LENGTH.fullmatch(given["contentLength"]):
        raise invalid("contentLength", "must be the number of bytes, in decimal digits")
    size = given.get("metadata") or {}
    return FileSpec(
        given["name"],
        int(given["contentLength"]),
        _present("contentType", given["contentType"]),
        Checksums(md5=_md5(given["contentMD5"])),
        Media(size.get("width") or 0, size.get("height") or 0),
    )


def _present(name: str, text: str) -> str:
    if not text:
        raise invalid(name, "is required")
    return text


def _md5(text: str) -> bytes:
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    # Decoders forgive what encoders never write.
    if len(digest) != MD5_BYTES or base64.b64encode(digest).decode() != text:
        raise invalid("contentMD5", f"must be the {MD5_BYTES} bytes of the digest in base64")
    return digest


def _ticket(ticket: Ticket, how: HttpUpload) -> Object:
    return {
        "__typename": "UploadTicket",
        "id": ticket.id,
        "url": how.url,
        "headers": _pairs(how.headers),
        "formData": _pairs(how.form_data) if how.form_data else None,
    }


def _pairs(given: Any) -> list[Object]:  # noqa: ANN401 - pairs of texts
    return [{"name": name, "value": value} for name, value in given]


def _message(one: Message) -> Object:
    return {
        "__typename": "Message",
        "id": one.id,
        "text": one.text,
        "attachments": [_file(file) for file in one.files],
    }


def _file(one: File) -> Object:
    media = one.media
    known = {"width": media.width or None, "height": media.height or None, "blurHash": media.blur_hash or None}
    return {
        "__typename": "File",
        "id": one.id,
        "fileType": "DOCUMENT" if one.type == "CODE" else one.type,
        "name": one.name,
        "contentLength": str(one.size_bytes),
        "contentType": one.content_type,
        "metadata": known if any(known.values()) else None,
        "previewable": None if one.preview.state is PreviewState.PENDING else one.preview.state is PreviewState.READY,
        "file": one,
    }

"""LinkService: translates, and calls core."""

from __future__ import annotations

from typing import Any

import grpc

from remora.v1 import link_service_pb2 as pb
from remora.v1 import link_service_pb2_grpc
from remora_server.core import errors
from remora_server.core.links import LinkDraft, Links
from remora_server.core.model import Link
from remora_server.core.ports import Changes
from remora_server.rpc import convert
from remora_server.rpc.calls import Calls, caller
from remora_server.rpc.errors import status_of


class LinkService(link_service_pb2_grpc.LinkServiceServicer):
    """The RPCs of links."""

    def __init__(self, calls: Calls, links: Links, changes: Changes) -> None:
        self._calls = calls
        self._links = links
        self._changes = changes

    async def CreateLink(
        self, request: pb.CreateLinkRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.CreateLinkResponse:
        who, draft = caller(), _draft(request)

        def answer() -> pb.CreateLinkResponse:
            link, created = self._links.create(who, draft)
            return pb.CreateLinkResponse(link=convert.link_to_proto(link), created=created)

        return await self._calls.once("CreateLink", request, answer, pb.CreateLinkResponse.FromString)

    async def BatchCreateLinks(
        self, request: pb.BatchCreateLinksRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.BatchCreateLinksResponse:
        who = caller()
        drafts = [_draft(item, request.workspace_id) for item in request.requests]
        if any(item.request_id for item in request.requests):
            raise errors.invalid("requests.request_id", "must be empty in a batch; set the batch's own")

        def answer() -> pb.BatchCreateLinksResponse:
            results = self._links.create_many(who, request.workspace_id, drafts, self._changes)
            return pb.BatchCreateLinksResponse(results=map(_result, results))

        return await self._calls.once(
            "BatchCreateLinks", request, answer, pb.BatchCreateLinksResponse.FromString, writes_many=True
        )

    async def GetLink(
        self, request: pb.GetLinkRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetLinkResponse:
        found = await self._calls.read(self._links.get, caller(), request.link_id)
        return pb.GetLinkResponse(link=convert.link_to_proto(found))

    async def ListLinks(
        self, request: pb.ListLinksRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListLinksResponse:
        page = await self._calls.read(
            self._links.list,
            caller(),
            request.workspace_id,
            convert.optional_subject_from_proto(request.subject, given=request.HasField("subject")),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListLinksResponse(links=map(convert.link_to_proto, page.items), next_page_token=page.next_page_token)

    async def UpdateLink(
        self, request: pb.UpdateLinkRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.UpdateLinkResponse:
        given = request.link
        draft = LinkDraft(given.workspace_id, convert.subject_from_proto(given.subject), given.url, given.title)
        updated = await self._calls.change(
            self._links.update, caller(), given.id, draft, tuple(request.update_mask.paths), given.etag
        )
        return pb.UpdateLinkResponse(link=convert.link_to_proto(updated))

    async def DeleteLink(
        self, request: pb.DeleteLinkRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DeleteLinkResponse:
        deleted = await self._calls.change(
            self._links.delete, caller(), request.link_id, request.etag, allow_missing=request.allow_missing
        )
        return pb.DeleteLinkResponse(link=convert.link_to_proto(deleted) if deleted else None)


def _draft(request: pb.CreateLinkRequest, workspace: str = "") -> LinkDraft:
    subject = convert.subject_from_proto(request.subject)
    return LinkDraft(request.workspace_id or workspace, subject, request.url, request.title)


def _result(one: tuple[Link, bool] | errors.RemoraError) -> pb.BatchCreateLinksResult:
    if isinstance(one, errors.RemoraError):
        return pb.BatchCreateLinksResult(error=status_of(one))
    link, created = one
    return pb.BatchCreateLinksResult(link=convert.link_to_proto(link), created=created)

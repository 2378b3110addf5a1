"""IssueService: translates, and calls core."""

from __future__ import annotations

from typing import Any

import grpc

from remora.v1 import issue_service_pb2 as pb
from remora.v1 import issue_service_pb2_grpc
from remora_server.core import errors
from remora_server.core.issues import Issues, UpsertedIssue
from remora_server.core.ports import Changes, IssueQuery
from remora_server.core.values import replace
from remora_server.rpc import convert
from remora_server.rpc.calls import Calls, caller
from remora_server.rpc.errors import status_of


class IssueService(issue_service_pb2_grpc.IssueServiceServicer):
    """The RPCs of issues."""

    def __init__(self, calls: Calls, issues: Issues, changes: Changes) -> None:
        self._calls = calls
        self._issues = issues
        self._changes = changes

    async def UpsertIssue(
        self, request: pb.UpsertIssueRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.UpsertIssueResponse:
        who, wanted = caller(), convert.issue_from_proto(request.issue)

        def answer() -> pb.UpsertIssueResponse:
            done = self._issues.upsert(who, wanted, tuple(request.update_mask.paths), request.issue.etag)
            return pb.UpsertIssueResponse(
                issue=convert.issue_to_proto(done.issue), outcome=convert.OUTCOMES[done.outcome]
            )

        return await self._calls.once("UpsertIssue", request, answer, pb.UpsertIssueResponse.FromString)

    async def BatchUpsertIssues(
        self, request: pb.BatchUpsertIssuesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.BatchUpsertIssuesResponse:
        who = caller()
        items = []
        for item in request.requests:
            issue = convert.issue_from_proto(item.issue)
            mask = tuple(item.update_mask.paths)
            if not issue.workspace_id:
                issue = replace(issue, workspace_id=request.workspace_id)
            items.append((issue, mask, item.issue.etag))
        if any(item.request_id for item in request.requests):
            raise errors.invalid("requests.request_id", "must be empty in a batch; set the batch's own")

        def answer() -> pb.BatchUpsertIssuesResponse:
            results = self._issues.upsert_many(who, request.workspace_id, items, self._changes)
            return pb.BatchUpsertIssuesResponse(results=map(_result, results))

        return await self._calls.once(
            "BatchUpsertIssues", request, answer, pb.BatchUpsertIssuesResponse.FromString, writes_many=True
        )

    async def GetIssue(
        self, request: pb.GetIssueRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetIssueResponse:
        found = await self._calls.read(
            self._issues.get, caller(), request.workspace_id, issue_id=request.issue_id, key=request.key
        )
        return pb.GetIssueResponse(issue=convert.issue_to_proto(found))

    async def ListIssues(
        self, request: pb.ListIssuesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListIssuesResponse:
        query = IssueQuery(
            request.workspace_id,
            request.parent_issue_id,
            tuple(request.status_ids),
            tuple(request.assignee_ids),
            request.include_completed,
        )
        page = await self._calls.read(
            self._issues.list,
            caller(),
            query,
            page_size=request.page_size,
            page_token=request.page_token,
            include_total_size=request.include_total_size,
        )
        return pb.ListIssuesResponse(
            issues=map(convert.issue_to_proto, page.items),
            next_page_token=page.next_page_token,
            total_size=page.total_size or 0,
        )

    async def DeleteIssue(
        self, request: pb.DeleteIssueRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DeleteIssueResponse:
        deleted = await self._calls.change(
            self._issues.delete, caller(), request.issue_id, request.etag, allow_missing=request.allow_missing
        )
        return pb.DeleteIssueResponse(issue=convert.issue_to_proto(deleted) if deleted else None)


def _result(one: UpsertedIssue | errors.RemoraError) -> pb.BatchUpsertIssuesResult:
    if isinstance(one, errors.RemoraError):
        return pb.BatchUpsertIssuesResult(error=status_of(one))
    return pb.BatchUpsertIssuesResult(issue=convert.issue_to_proto(one.issue), outcome=convert.OUTCOMES[one.outcome])

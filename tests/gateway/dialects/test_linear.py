"""Linear's door: the documents of its page, and everything else that its clients ask for."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx

from remora.v1 import issue_pb2, issue_service_pb2
from remora_server.core import ids
from tests.gateway.exchanging import Replay, exchanges_of
from tests.running import Api, RunningServer

EXCHANGES = exchanges_of("linear")


def push(api: Api, key: str, workspace: str = "demo", **fields: Any) -> issue_pb2.Issue:
    """Push an issue as a tracker does."""
    issue = issue_pb2.Issue(workspace_id=workspace, key=key, **fields)
    return api.issues.UpsertIssue(issue_service_pb2.UpsertIssueRequest(issue=issue)).issue


def test_the_document(server: RunningServer) -> None:
    """Every request of the document gets the answer of the document, field by field."""
    workspace = f"linear-{uuid4().hex[:8]}"
    key = server.new_key("alex", workspace=workspace)
    issue = push(server.api(key), "ENG-123", workspace, title="Exception in production")
    replay = Replay(server.ready["http"], {"Authorization": key}, issue=str(ids.to_uuid(issue.id)))
    for exchange in EXCHANGES:
        replay.play(exchange)


def test_both_forms_of_a_key(server: RunningServer) -> None:
    """A key comes with the word Bearer or without; anything else is none."""
    key = str(server.ready["key"])
    expected = {key: 200, f"Bearer {key}": 200, f"bearer  {key}": 200, f"OAuth {key}": 401, "Bearer": 401, "": 401}
    for given, status in expected.items():
        url = f"{server.ready['http']}/graphql"
        reply = httpx.post(url, json={"query": "{__typename}"}, headers={"Authorization": given})
        assert reply.status_code == status, given

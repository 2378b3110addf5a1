"""Linear's door: the documents of its page, and everything else that its clients ask for."""

# ruff: noqa: UP031 - braces are GraphQL's own, so that texts are put in by the other way

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
from starlette.datastructures import Headers

from remora.v1 import attachment_pb2, attachment_service_pb2, issue_pb2, issue_service_pb2
from remora_server.core import ids
from remora_server.core.attachments import Attachments, Draft
from remora_server.core.issues import Issues
from remora_server.core.model import Issue, IssueStatus, Subject
from remora_server.gateway.dialects.linear import FIELDS, wording
from remora_server.gateway.graph import Graph
from remora_server.gateway.linear_loading import begin
from remora_server.gateway.route import Visit
from tests.core.world import SetClock, World
from tests.gateway.exchanging import Replay, exchanges_of
from tests.running import Api, RunningServer, issue
from tests.uploading import upload

EXCHANGES = exchanges_of("linear")
CREATE = "mutation($i:AttachmentCreateInput!){attachmentCreate(input:$i){success attachment{id}}}"
WHOLE = "{attachment(id:%s){id title subtitle url metadata groupBySource source creator{id} issue{identifier}}}"
Ask = Callable[..., Any]
_urls = (f"https://example.com/{uuid4()}" for _ in itertools.count())


def at(server: RunningServer, key: str) -> Ask:
    """Return what asks at this door with a key, and gets data, or the errors."""

    def ask(query: str, headers: Mapping[str, str] | None = None, /, **variables: Any) -> Any:
        reply = httpx.post(
            f"{server.ready['http']}/graphql",
            json={"query": query, "variables": variables},
            headers={**({"Authorization": key} if key else {}), **(headers or {})},
            timeout=30,
        )
        assert reply.headers["content-type"] == "application/json"
        told = reply.json()
        return told["errors"] if "errors" in told else told["data"]

    return ask


@pytest.fixture
def ask(server: RunningServer) -> Ask:
    """Ask at the shared server with the development key."""
    return at(server, str(server.ready["key"]))


def refused(errors: Any) -> tuple[str, str]:
    """Return type and code of the only error, which has everything that the client reads."""
    (error,) = errors
    told = error["extensions"]
    assert set(told) == {"type", "code", "statusCode", "userError", "userPresentableMessage"}
    assert told["userError"] is (told["statusCode"] < 500)
    return told["type"], told["code"]


INVALID = ("invalid input", "INPUT_ERROR")


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


def test_what_an_upsert_leaves(ask: Ask, new_issue: str) -> None:
    """What is given is written, what is absent stays, null clears, and metadata is replaced as a whole."""
    url, full = next(_urls), {"subtitle": "s", "iconUrl": "https://e.org/i.png", "groupBySource": True}
    given = {"issueId": new_issue, "title": "t", "url": url, "metadata": {"a": 1, "b": "x"}, **full}
    made = ask(CREATE, i=given)["attachmentCreate"]["attachment"]["id"]

    def now(**fields: Any) -> dict[str, Any]:
        again = ask(CREATE, i={"issueId": new_issue, "title": "t2", "url": url, **fields})["attachmentCreate"]
        assert again == {"success": True, "attachment": {"id": made}}
        shown: dict[str, Any] = ask(WHOLE % f'"{made}"')["attachment"]
        return shown

    first = now()
    assert (first["title"], first["subtitle"], first["metadata"]) == ("t2", "s", {"a": 1, "b": "x"})
    assert (first["groupBySource"], first["issue"]) == (True, {"identifier": new_issue})
    assert now(metadata={"c": 2.5})["metadata"] == {"c": 2.5}
    cleared = now(subtitle=None, metadata=None, groupBySource=False)
    assert (cleared["subtitle"], cleared["metadata"], cleared["groupBySource"]) == (None, {}, False)
    update = "mutation($u:String!,$i:AttachmentUpdateInput!){attachmentUpdate(id:$u,input:$i){attachment{id subtitle}}}"
    for subtitle, expected in (("new", "new"), (None, None)):
        told = ask(update, u=url, i={"title": "t3", "subtitle": subtitle})["attachmentUpdate"]["attachment"]
        assert told == {"id": made, "subtitle": expected}
    assert ask(update, u=made, i={"title": "t4"})["attachmentUpdate"]["attachment"]["id"] == made


@pytest.mark.parametrize("value", [True, None, [1], {"a": 1}, 2**63, -(2**63) - 1])
def test_metadata_that_is_none(ask: Ask, new_issue: str, value: object) -> None:
    """Values are texts and numbers; nothing else is stored."""
    url = next(_urls)
    given = {"issueId": new_issue, "title": "t", "url": url, "metadata": {"good": 1, "bad": value}}
    assert refused(ask(CREATE, i=given)) == INVALID
    assert ask('{attachmentsForURL(url:"%s"){nodes{id}}}' % url)["attachmentsForURL"] == {"nodes": []}


def test_metadata_that_is_rich(ask: Ask, new_issue: str) -> None:
    """Lists may stand where Linear shows them; whole numbers that JavaScript would round come as texts."""
    rich = {"title": "T", "attributes": [{"name": "Priority", "value": 1}], "messages": [{"body": "Hello"}]}
    plain = {"n": -3, "r": 0.5, "exact": 2**53, "long": 2**62, "text": "[no list]"}
    given = {"issueId": new_issue, "title": "t", "url": next(_urls), "metadata": {**rich, **plain}}
    made = ask(CREATE, i=given)["attachmentCreate"]["attachment"]["id"]
    assert ask(WHOLE % f'"{made}"')["attachment"]["metadata"] == {**rich, **plain, "long": str(2**62)}


NO_JSON = (
    "[NaN]",
    "[1e999]",
    '{"a":-Infinity}',
    '["\\ud800"]',
    '{"\\udc00":1}',
    "[" * 500 + "]" * 500,
    "[" * 4000,
    "[",
)


def test_metadata_that_no_answer_can_hold(ask: Ask, api: Api, new_issue: str) -> None:
    """Lists that came as texts by gRPC, and are none that JSON has, are shown as they came; all is listed."""
    url = next(_urls)
    for number, text in enumerate(NO_JSON):
        one = attachment_pb2.Attachment(subject=issue(new_issue), url=f"{url}/{number}", title="t")
        one.metadata["messages"].string_value = text
        one.workspace_id = "demo"
        api.attachments.CreateAttachment(attachment_service_pb2.CreateAttachmentRequest(attachment=one))
    listed = ask('{issue(id:"%s"){attachments{nodes{metadata}}}}' % new_issue)["issue"]["attachments"]["nodes"]
    assert [one["metadata"]["messages"] for one in reversed(listed)] == list(NO_JSON)


def test_numbers_that_are_not_finite(server: RunningServer, new_issue: str) -> None:
    """What JSON has no number for, or no end, is refused before anything is made, as a literal and as a variable."""
    ask, url = at(server, str(server.ready["key"])), next(_urls)
    create = 'mutation{attachmentCreate(input:{issueId:"%s",title:"t",url:"%s",metadata:%s}){success}}'
    upload = 'mutation{fileUpload(contentType:"a/b",filename:"a",size:1,metaData:%s){uploadFile{metaData}}}'
    before = server.sql("SELECT COUNT(*) FROM tickets")
    deep = "[" * 100 + "]" * 100
    for value in ("{a:1e999}", "{messages:[-1e999]}", "{messages:[[{a:1e999}]]}", "{attributes:%s}" % deep, "[1e999]"):
        for query in (create % (new_issue, url, value), upload % value):
            (error, *_) = ask(query)
            assert error["extensions"]["statusCode"] == 400, query
    variable = "mutation($m:JSON){fileUpload(contentType:%s,filename:%s,size:1,metaData:$m){success}}" % (
        ('"a/b"',) * 2
    )
    for value in ("NaN", '{"a":1e999}', '{"a":"\\ud800"}', '{"a":%s}' % deep):
        reply = httpx.post(
            f"{server.ready['http']}/graphql",
            content='{"query":%s,"variables":{"m":%s}}' % (json.dumps(variable), value),
            headers={"Authorization": str(server.ready["key"])},
        )
        assert reply.status_code == 400, value
    assert ask('{attachmentsForURL(url:"%s"){nodes{id}}}' % url)["attachmentsForURL"] == {"nodes": []}
    assert server.sql("SELECT COUNT(*) FROM tickets") == before


def test_ids_of_their_own(ask: Ask, new_issue: str) -> None:
    """A client may bring the id of what it makes; the issue may be named by its id too."""
    wanted = str(uuid4())
    given = {"issueId": new_issue, "title": "t", "url": next(_urls), "id": wanted}
    assert ask(CREATE, i=given)["attachmentCreate"]["attachment"]["id"] == wanted
    assert refused(ask(CREATE, i={**given, "url": next(_urls)})) == INVALID
    issue = ask("{issue(id:%s){id identifier number}}" % f'"{new_issue}"')["issue"]
    assert (issue["identifier"], issue["number"]) == (new_issue, float(new_issue.rpartition("-")[2]))
    by_id = ask(CREATE, i={"issueId": issue["id"], "title": "t", "url": given["url"]})
    assert by_id["attachmentCreate"]["attachment"]["id"] == wanted


def test_links(ask: Ask, new_issue: str) -> None:
    """A link without a title is called by its URL, and keeps the name that it has; it may show another maker."""
    url = next(_urls)
    link = "mutation($u:String!,$t:String){attachmentLinkURL(issueId:%s,url:$u,title:$t,createAsUser:%s){%s}}"
    query = link % (f'"{new_issue}"', '"Bot"', "attachment{id title source}")
    told = [ask(query, u=url, t=title)["attachmentLinkURL"]["attachment"] for title in (None, "Named", None)]
    assert [one["title"] for one in told] == [url, "Named", "Named"]
    assert {one["id"] for one in told} == {told[0]["id"]}
    assert told[0]["source"] == {"userDisplayName": "Bot"}


def test_one_url_at_once(server: RunningServer, new_issue: str) -> None:
    """64 callers that create the attachment of one URL get one id, and one of them has the last word (P25)."""
    ask, url = at(server, str(server.ready["key"])), next(_urls)

    def create(number: int) -> str:
        text = str(number)
        given = {"issueId": new_issue, "title": text, "subtitle": text, "url": url, "metadata": {"n": text}}
        return str(ask(CREATE, i=given)["attachmentCreate"]["attachment"]["id"])

    with ThreadPoolExecutor(64) as pool:
        found = set(pool.map(create, range(64)))
    (made,) = found
    (row,) = ask('{attachmentsForURL(url:"%s"){nodes{id title subtitle metadata}}}' % url)["attachmentsForURL"]["nodes"]
    assert row["id"] == made
    assert {row["title"], row["subtitle"], row["metadata"]["n"]} == {row["title"]}
    assert server.sql("SELECT COUNT(*) FROM attachments WHERE url = ?", url) == [(1,)]


def test_filters(ask: Ask, new_issue: str) -> None:
    """Comparators of each kind, joined; what is no id, and what nobody made, is found nowhere."""
    urls = [next(_urls) for _ in range(3)]
    for number, url in enumerate(urls):
        given = {"issueId": new_issue, "title": f"T{number}", "url": url, "subtitle": "s" if number else None}
        ask(CREATE, i=given)
    listing = (
        "query($f:AttachmentFilter){issue(id:%s){attachments(filter:$f){nodes{id title createdAt}}}}" % f'"{new_issue}"'
    )

    def titles(**asked: Any) -> str:
        nodes = ask(listing, f=asked)["issue"]["attachments"]["nodes"]
        return "".join(one["title"][1:] for one in reversed(nodes))

    nodes = list(reversed(ask(listing, f=None)["issue"]["attachments"]["nodes"]))
    first, second = nodes[0], nodes[1]
    me = ask("{viewer{id name}}")["viewer"]
    expected: Mapping[str, list[dict[str, Any]]] = {
        "012": [{}, {"title": {"startsWith": "T"}}, {"and": []}, {"createdAt": {"gt": "-P1DT1H"}}, {"creator": {}},
                {"creator": {"id": {"eq": me["id"]}}}, {"creator": {"isMe": {"neq": False}}},
                {"creator": {"null": False, "name": {"eqIgnoreCase": me["name"].upper()}}}, {"sourceType": {"eq": ""}},
                {"id": {"nin": ["no id"]}}, {"updatedAt": {"lte": "P1Y"}}, {"title": None},
                {"title": {"eq": None, "neq": None}}, {"title": {"contains": None, "in": None, "notStartsWith": None}},
                {"creator": {"isMe": {"eq": None}}}, {"creator": {"isMe": {"neq": None, "eq": True}}},
                {"creator": {"isMe": None, "null": None}}, {"id": {"eq": None}}, {"createdAt": {"gt": None}}],
        "": [{"or": []}, {"id": {"eq": "no id"}}, {"creator": {"null": True}}, {"createdAt": {"lt": "-P2W"}},
             {"creator": {"isMe": {"eq": False}}}, {"title": {"in": []}}, {"title": {"contains": "%"}}],
        "0": [{"id": {"eq": first["id"]}}, {"subtitle": {"null": True}}, {"title": {"in": ["T0", "X"]}},
              {"createdAt": {"lt": second["createdAt"]}}, {"url": {"eq": urls[0]}},
              {"or": [{"title": {"eq": "T0"}}, {"title": {"eq": "t1"}}]}],
        "12": [{"subtitle": {"eq": "s"}}, {"title": {"neq": "T0"}}, {"createdAt": {"gte": second["createdAt"]}},
               {"subtitle": {"null": False}, "and": [{"title": {"notContains": "x"}}]}],
        "1": [{"title": {"endsWith": "1"}}, {"title": {"eqIgnoreCase": "t1"}},
              {"createdAt": {"eq": second["createdAt"]}}, {"url": {"containsIgnoreCase": urls[1][20:]}},
              {"title": {"startsWithIgnoreCase": "t1", "notEndsWith": "2"}}],
    }  # fmt: skip
    for found, filters in expected.items():
        for asked in filters:
            assert titles(**asked) == found, asked
    wrong: list[dict[str, Any]] = [
        {"createdAt": {"gt": "yesterday"}}, {"createdAt": {"gt": 5}},
        {"createdAt": {"gt": "-P1000000D"}}, {"createdAt": {"gt": "PT0000001S"}},
        {"title": {"like": "x"}}, {"nothing": {}},
    ]  # fmt: skip
    for bad in wrong:
        (error, *_) = ask(listing, f=bad)
        assert error["extensions"]["type"] == "invalid input"
    deep: dict[str, Any] = {}
    for _ in range(150):
        deep = {"and": [deep]}
    assert refused(ask(listing, f=deep))[0] == "invalid input"
    assert refused(ask(listing, f={"or": [{"title": {"eq": "x"}}] * 200})) == INVALID


@pytest.mark.parametrize(
    "arguments",
    ["first:0", "first:251", "last:-1", "first:1,last:1", 'after:"x"', 'before:"x"', "first:1,before:CURSOR",
     "last:1,after:CURSOR", "after:CURSOR,before:CURSOR", "first:99999999999"],
)  # fmt: skip
def test_bad_pages(ask: Ask, new_issue: str, arguments: str) -> None:
    """A page that can't be is refused."""
    ask(CREATE, i={"issueId": new_issue, "title": "t", "url": next(_urls)})
    cursor = ask("{attachments(first:1){pageInfo{endCursor}}}")["attachments"]["pageInfo"]["endCursor"]
    (error,) = ask("{attachments(%s){nodes{id}}}" % arguments.replace("CURSOR", f'"{cursor}"'))
    assert error["extensions"]["type"] in {"invalid input", "graphql error"}
    assert error["extensions"]["statusCode"] == 400


def test_what_is_not_there(ask: Ask, api: Api, new_issue: str) -> None:
    """Unknown ids, URLs and issues, and what was deleted, are not found, each in the same words."""
    url = next(_urls)
    made = ask(CREATE, i={"issueId": new_issue, "title": "t", "url": url})["attachmentCreate"]["attachment"]["id"]
    assert ask('mutation{attachmentDelete(id:"%s"){success entityId}}' % url)["attachmentDelete"]["entityId"] == made
    update = 'mutation{attachmentUpdate(id:"%s",input:{title:"x"}){success}}'
    for query in (
        '{attachment(id:"%s"){id}}',
        '{attachmentIssue(id:"%s"){id}}',
        'mutation{attachmentDelete(id:"%s"){success}}',
        update,
    ):
        for name in (made, url, str(uuid4()), "https://example.com/never"):
            errors = ask(query % name)
            assert refused(errors) == INVALID
            assert errors[0]["message"] == "Entity not found: Attachment"
    for name in ("NONE-1", str(uuid4())):
        assert ask('{issue(id:"%s"){id}}' % name)[0]["message"] == "Entity not found: Issue"
    for name in ("", "neither", "ftp://example.com/", "iss_00000000000000000000000000"):
        assert refused(ask('{attachment(id:"%s"){id}}' % name)) == INVALID
    del api


def test_issues_of_the_tracker(ask: Ask, api: Api, new_issue: str) -> None:
    """An issue has what its tracker told; one that was taken out of the registry is still what things hang on."""
    parent = push(api, new_issue, title="Whole")
    child = issue_pb2.Issue(
        workspace_id="demo", key=f"{new_issue}00001", title="Part", parent_issue_id=parent.id, completed=True,
        status=issue_pb2.IssueStatus(id="s1", name="Done", color="#0f0", category="completed"),
    )  # fmt: skip
    child.assignees.add(id="usr_1", display_name="Sam Patel", avatar_url="https://e.org/sam.png")
    made = api.issues.UpsertIssue(issue_service_pb2.UpsertIssueRequest(issue=child)).issue
    fields = (
        "identifier title branchName completedAt state{id name type} parent{id title} assignee{displayName initials}"
    )
    told = ask('{issue(id:"%s"){children{nodes{%s children{nodes{id}}}}}}' % (new_issue, fields))
    (part,) = told["issue"]["children"]["nodes"]
    assert part.pop("completedAt").endswith("Z")
    assert part == {
        "identifier": f"{new_issue}00001", "title": "Part", "branchName": f"{new_issue}00001-part".lower(),
        "state": {"id": "s1", "name": "Done", "type": "completed"},
        "assignee": {"displayName": "Sam Patel", "initials": "SP"},
        "parent": {"id": str(ids.to_uuid(parent.id)), "title": "Whole"},
        "children": {"nodes": []},
    }  # fmt: skip
    url = next(_urls)
    ask(CREATE, i={"issueId": f"{new_issue}00001", "title": "t", "url": url})
    api.issues.DeleteIssue(issue_service_pb2.DeleteIssueRequest(issue_id=made.id))
    left = ask('{attachment(id:"%s"){issue{id identifier title trashed state{name} team{key}}}}' % url)["attachment"]
    assert left["issue"]["id"] == str(ids.to_uuid(made.id))
    assert (left["issue"]["title"], left["issue"]["trashed"]) == ("", True)


def test_files_of_other_doors(ask: Ask, server: RunningServer, api: Api, new_issue: str) -> None:
    """A file that came otherwise is an attachment here too, at a URL where it can be read."""
    data = uuid4().bytes
    upload(api, data, name="raw.bin", attach_to=new_issue)
    (one,) = ask('{issue(id:"%s"){attachments{nodes{id title url}}}}' % new_issue)["issue"]["attachments"]["nodes"]
    assert one["title"] == "raw.bin"
    key = {"Authorization": str(server.ready["key"])}
    assert httpx.get(one["url"], headers=key).content == data
    assert httpx.get(one["url"]).status_code == 401
    assert ask('{attachment(id:"%s"){id}}' % one["url"])["attachment"]["id"] == one["id"]
    (signed,) = ask('{attachmentsForURL(url:"%s"){nodes{url}}}' % one["url"], {"public-file-urls-expire-in": "60"})[
        "attachmentsForURL"
    ]["nodes"]
    assert httpx.get(signed["url"]).content == data
    for bad in ("0", "x", "-1", "1e3", "99999999", "0000000019999999", "000000001" + "9" * 5000):
        assert refused(ask('{attachment(id:"%s"){url}}' % one["id"], {"public-file-urls-expire-in": bad})) == INVALID
    elsewhere = f"{new_issue}00009"
    made = ask(CREATE, i={"issueId": elsewhere, "title": "Again", "url": one["url"]})["attachmentCreate"]["attachment"]
    assert ask('{attachmentIssue(id:"%s"){identifier}}' % made["id"])["attachmentIssue"]["identifier"] == elsewhere
    assert len(ask('{attachmentsForURL(url:"%s"){nodes{id}}}' % one["url"])["attachmentsForURL"]["nodes"]) == 2


def test_uploads_that_can_not_be(ask: Ask) -> None:
    """What could never be a file gets no URL."""
    begin = (
        "mutation($n:String!,$s:Int!,$t:String!,$p:Boolean)"
        "{fileUpload(filename:$n,size:$s,contentType:$t,makePublic:$p){success}}"
    )
    good = {"n": "a.txt", "s": 1, "t": "text/plain", "p": False}
    assert ask(begin, **good) == {"fileUpload": {"success": True}}
    for bad in ({"n": "../a"}, {"n": ""}, {"s": -1}, {"t": "no type"}, {"s": 2**31}):
        (error,) = ask(begin, **{**good, **bad})
        assert error["extensions"]["type"] == "invalid input"
    assert refused(ask(begin, **{**good, "p": True})) == ("feature not accessible", "FEATURE_NOT_ACCESSIBLE")


# One document for each field of the root, and what a second user of the workspace may do with it.
MATRIX: Mapping[str, str] = {
    "Query.attachment": '{attachment(id:"%(attachment)s"){id}}',
    "Query.attachmentIssue": '{attachmentIssue(id:"%(attachment)s"){id}}',
    "Query.attachments": '{attachments(filter:{id:{eq:"%(attachment)s"}}){nodes{id}}}',
    "Query.attachmentsForURL": '{attachmentsForURL(url:"%(url)s"){nodes{id}}}',
    "Query.issue": '{issue(id:"%(issue)s"){id attachments{nodes{id}} children{nodes{id}}}}',
    "Query.viewer": "{viewer{isMe}}",
    "Mutation.attachmentCreate": (
        'mutation{attachmentCreate(input:{issueId:"%(issue)s",title:"x",url:"%(url)s"}){attachment{id}}}'
    ),
    "Mutation.attachmentLinkURL": 'mutation{attachmentLinkURL(issueId:"%(issue)s",url:"%(url)s"){attachment{id}}}',
    "Mutation.attachmentUpdate": 'mutation{attachmentUpdate(id:"%(attachment)s",input:{title:"x"}){attachment{id}}}',
    "Mutation.attachmentDelete": 'mutation{attachmentDelete(id:"%(attachment)s"){entityId}}',
    "Mutation.fileUpload": 'mutation{fileUpload(filename:"a",size:1,contentType:"text/plain"){success}}',
}
NOT_OFFERED = {place for place, field in FIELDS.items() if field.resolve.__name__ == "not_offered"}
FREE = {"Query.viewer"}
OWN = {*FREE, "Mutation.fileUpload"}  # What names nothing of others.


def test_every_root_field_has_its_row() -> None:
    """A field that nobody put into the matrix is not proved to keep tenants apart."""
    roots = {place for place in FIELDS if place.startswith(("Query.", "Mutation."))}
    assert set(MATRIX) == roots - NOT_OFFERED


@pytest.mark.parametrize("place", sorted(MATRIX))
def test_whose_is_whose(server: RunningServer, place: str) -> None:
    """Whoever asks for what is not theirs hears what they would hear if it did not exist (P43)."""
    here, elsewhere = "linear-here", "linear-elsewhere"
    owner = at(server, server.new_key("owner", workspace=here))
    issue_key = f"OWN-{uuid4().hex[:8]}"
    url = next(_urls)
    made = owner(CREATE, i={"issueId": issue_key, "title": "mine", "url": url})["attachmentCreate"]["attachment"]["id"]
    issue_id = owner('{issue(id:"%s"){id}}' % issue_key)["issue"]["id"]
    things = {"attachment": made, "url": url, "issue": issue_id}
    missing = {"attachment": str(uuid4()), "url": next(_urls), "issue": str(uuid4())}

    def answers(key: str) -> tuple[str, str]:
        ask = at(server, key)
        told = []
        for names in (missing, things):
            text = str(ask(MATRIX[place] % names))
            for name, value in names.items():
                text = text.replace(value, name)
            told.append(text)
        return told[0], told[1]

    absent, stranger = answers(server.new_key("owner", workspace=elsewhere))
    assert stranger == absent
    for key, kind in (
        ("", "authentication error"),
        (server.new_key("owner", workspace=here, expires_in=0.001), "authentication error"),
        (server.new_key("owner", workspace=here, scopes="webhooks:manage"), "forbidden"),
    ):
        absent, told = answers(key)
        assert told == absent
        assert (kind in told) is (place not in FREE or kind != "forbidden"), told
    # Everybody in the workspace reads and changes what hangs on its issues.
    _, second = answers(server.new_key("second", workspace=here))
    assert "extensions" not in second, second


@pytest.mark.parametrize(
    ("scopes", "query", "allowed"),
    [
        ("attachments:read", "{attachments{nodes{id issue{id identifier}}}}", True),
        ("attachments:read", "{attachments{nodes{id issue{title}}}}", False),
        ("attachments:read,issues:read", "{attachments{nodes{id issue{title}}}}", True),
        ("issues:write", '{issue(id:"%s"){attachments{nodes{id}}}}', True),
    ],
)
def test_scopes_of_what_lies_behind(
    server: RunningServer, new_issue: str, scopes: str, query: str, *, allowed: bool
) -> None:
    """What leads on from one thing to another asks for the scope of that, too."""
    ask = at(server, str(server.ready["key"]))
    ask(CREATE, i={"issueId": new_issue, "title": "t", "url": next(_urls)})
    told = at(server, server.new_key("reader", scopes=scopes))(query % new_issue if "%s" in query else query)
    assert isinstance(told, dict) is allowed
    if not allowed:
        assert told[0]["extensions"]["type"] == "forbidden"


@dataclass
class Rules:
    """As much of the rules as listings need."""

    attachments: Attachments
    issues: Issues
    clock: SetClock
    public_url: str = ""


class Counting:
    """Calls that run where they are made, and are counted."""

    def __init__(self, world: World) -> None:
        self.calls = 0
        self._world = world

    async def read(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run and count."""
        self.calls += 1
        return call(*args, **kwargs)


def _pushed(world: World, key: str, parent: str = "") -> Issue:
    new = Issue("", "acme", key, (), "", key, parent, IssueStatus(), (), completed=False, metadata={}, create_time=0,
                update_time=0, delete_time=None, version=0)  # fmt: skip
    return world.do(world.issues.upsert, world.jo, new, ()).issue


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Make core without a server."""
    made = World(tmp_path)
    yield made
    made.close()


def test_no_query_for_each_row(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many issues there are, what is asked of each is asked of the store at once."""
    top = _pushed(world, "ENG-1")

    def add(start: int, end: int) -> None:
        for number in range(start, end):
            part = _pushed(world, f"ENG-1{number}", top.id)
            _pushed(world, f"ENG-2{number}", part.id)
            for place in range(2):
                draft = Draft("acme", Subject("issue", key=part.key), url=f"https://e.org/{place}", title="t")
                world.do(world.attachments.upsert, world.jo, draft)

    queries: list[str] = []
    asked: set[str] = set()
    select, row, rows = world.database.select, world.database.row, world.database.rows
    for name, real in (("select", select), ("row", row), ("rows", rows)):

        def counted(*args: Any, _real: Callable[..., Any] = real, _name: str = name) -> Any:
            queries.append(_name)
            return _real(*args)

        monkeypatch.setattr(world.database, name, counted)
    graph = Graph("linear", FIELDS, begin, wording)
    query = """{
      issue(id: "ENG-1") { children(first: 50) { nodes { title parent { title }
        attachments(first: 5) { nodes { id creator { id name } issue { title parent { title } } } }
        children(first: 5) { nodes { title attachments(first: 1) { nodes { id } } } } } } }
    }"""

    def run() -> tuple[int, int, int]:
        calls = Counting(world)
        core = cast("Any", Rules(world.attachments, world.issues, world.clock))
        nothing = cast("Any", None)
        visit = Visit(core, cast("Any", calls), world.jo, "POST", {}, (), Headers(), nothing, asked.add)
        queries.clear()
        reply = asyncio.run(graph.answer(visit, query, None, None))
        text = bytes(reply.body).decode()
        assert "errors" not in text, text
        return text.count("ENG-1"), calls.calls, len(queries)

    add(0, 2)
    run()  # Users are remembered.
    small, *few = run()
    add(2, 9)
    large, *many = run()
    assert large > 3 * small
    assert few == many
    assert many[1] <= 10
    # And each kind of thing asks for its own scope.
    assert asked == {"IssueService.GetIssue", "IssueService.ListIssues", "AttachmentService.ListAttachments"}

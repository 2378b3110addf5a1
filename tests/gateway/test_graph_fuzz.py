"""Documents made from the schemas of the GraphQL doors: no answer is a mistake of ours, or tells of the inside (P42).

This is a short run, always with the same documents. Names of things that are there are put into most of them.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import httpx
import hypothesis
import pytest
import schemathesis
from graphql import FloatValueNode, NameNode, ObjectFieldNode, ValueNode
from hypothesis import strategies as st
from schemathesis.graphql import nodes

from tests.gateway.fuzzing import ODD, TRACES, failures_in
from tests.gateway.test_graph import DOORS, ask
from tests.running import Api, RunningServer
from tests.uploading import upload

EXAMPLES = 3
# See test_fuzz.py.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the .random. module inside strategies")
OURS = {"INTERNAL_SERVER_ERROR"}
# Texts that GraphQL takes as they are; of the odd ones a few have lone halves of characters.
TEXTS = st.sampled_from([text for text in ODD if "\\" not in text and text.isprintable() and '"' not in text])
FLOATS = st.one_of(st.floats(allow_nan=False, allow_infinity=False).map(repr), st.sampled_from(["1e999", "-1e999"]))
NAMES = st.sampled_from(["a", "title", "messages", "attributes"])


def _object(found: Mapping[str, ValueNode]) -> ValueNode:
    return nodes.Object([ObjectFieldNode(name=NameNode(value=name), value=value) for name, value in found.items()])


PLAIN = st.one_of(
    TEXTS.map(nodes.String), st.integers().map(nodes.Int), FLOATS.map(lambda text: FloatValueNode(value=text))
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(nodes.List), st.dictionaries(NAMES, inner, max_size=3).map(_object)
    ),
    max_leaves=6,
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=3).map(_object)
MOMENTS = st.sampled_from(["2026-01-02T03:04:05.678Z", "-P2W", "P", "PT1S", "9999-12-31T23:59:59Z", "x", ""])
SCALARS = {
    "DateTime": MOMENTS.map(nodes.String),
    "DateTimeOrDuration": st.one_of(MOMENTS, TEXTS).map(nodes.String),
    "JSON": VALUES,
    "JSONObject": OBJECTS,
    "TimelessDate": TEXTS.map(nodes.String),
}
# Variables as the text of a body, with what Python's own parser takes beyond JSON.
RAW = st.recursive(
    st.one_of(
        st.sampled_from(["NaN", "Infinity", "-1e999", "1e400", "null", "true", "-0.0", "250.0", "2.5", "9" * 400]),
        st.sampled_from(['"\\ud800"', '"\\u0000"', "[" * 300 + "]" * 300]),
        st.sampled_from(ODD).map(json.dumps),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda found: f"[{','.join(found)}]"),
        st.dictionaries(NAMES, inner, max_size=3).map(
            lambda found: "{" + ",".join(f'"{name}":{value}' for name, value in found.items()) + "}"
        ),
    ),
    max_leaves=4,
)
CREATE = 'mutation($v:%s){attachmentCreate(input:{issueId:"%s",title:"t",url:"https://e.org/%s",metadata:%s}){success}}'
TICKET = (
    'mutation($v:%s){uploadTicket(input:{name:"a",contentLength:"1",contentMD5:"x",contentType:"a/b",metadata:$v}){%s}}'
)
# By the path of a door: documents with a variable of each of its types.
WITH_VARIABLES: Mapping[str, Sequence[str]] = {
    "/graphql": [
        'mutation($v:JSON){fileUpload(contentType:"a/b",filename:"a",size:1,metaData:$v){uploadFile{metaData}}}',
        'mutation($v:JSON){fileUpload(contentType:"a/b",filename:"a",size:1,metaData:{a:[$v]}){uploadFile{metaData}}}',
        CREATE % ("JSONObject!", "ISSUE", "a", "$v"),
        CREATE % ("JSON", "ISSUE", "b", "{messages:[$v],attributes:$v}"),
        CREATE % ("Float", "ISSUE", "c", "{a:$v}"),
        "query($v:Int){attachments(first:$v){nodes{metadata}}}",
        "query($v:AttachmentFilter){attachments(filter:$v){nodes{metadata}}}",
        "query($v:DateTimeOrDuration){attachments(filter:{createdAt:{gt:$v}}){nodes{metadata}}}",
    ],
    "/public/graphql": [
        "query($v:ID!){node(id:$v){__typename}}",
        TICKET % ("UploadMetadata", "__typename"),
    ],
}
NAMED = re.compile(r'\b((?:id|issueId|url|attachments|uploadTicketID): )"(?:[^"\\]|\\.)*"')


@pytest.mark.parametrize("path", DOORS)
def test_no_document_brings_it_down(server: RunningServer, path: str) -> None:
    """Every field of the root is asked for with arguments and selections of all sorts."""
    key = server.new_key(f"fuzz-{uuid4()}")
    names = _things(server.api(key), f"FUZZ-{uuid4().hex[:6]}")
    before = len(server.log())
    codes: Counter[str] = Counter()
    told = httpx.get(f"{server.ready['http']}{path}/schema", headers={"Authorization": f"Bearer {key}"})
    for name, strategy in SCALARS.items():
        schemathesis.graphql.scalar(name, strategy)
    schema = schemathesis.graphql.from_file(io.StringIO(told.text))

    def send(query: str, data: st.DataObject) -> None:
        query = NAMED.sub(lambda found: f'{found[1]}"{data.draw(st.sampled_from(names))}"', query)
        reply = ask(server, path, query, key)
        what = f"{query:.600}\n{reply.status_code} {reply.text:.300}"
        assert reply.status_code in {200, 400}, what
        assert not TRACES.search(reply.text), what
        for error in reply.json().get("errors", ()):
            codes[error["extensions"]["code"]] += 1
            assert error["extensions"]["code"] not in OURS, what

    count = 0
    for result in schema.get_all_operations():
        operation = result.ok()  # type: ignore[union-attr]
        count += 1

        @hypothesis.seed(0)
        @hypothesis.settings(
            max_examples=EXAMPLES,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(), data=st.data())
        def asked(case: schemathesis.Case[Any], data: st.DataObject) -> None:
            send(str(case.body), data)

        asked()
    assert count > 3
    assert codes.total() > count
    assert failures_in(server.log()[before:]) == []


@pytest.mark.parametrize("path", DOORS)
def test_no_variables_bring_it_down(server: RunningServer, path: str) -> None:
    """Variables of all sorts are answered, and nothing that they leave is in the way of a listing."""
    key = server.new_key(f"fuzz-{uuid4()}")
    issue = _things(server.api(key), f"FUZZ-{uuid4().hex[:6]}")[0]
    before = len(server.log())
    statuses: Counter[int] = Counter()

    @hypothesis.seed(0)
    @hypothesis.settings(
        max_examples=EXAMPLES * 20,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(query=st.sampled_from(WITH_VARIABLES[path]), value=RAW)
    def asked(query: str, value: str) -> None:
        document = json.dumps(query.replace("ISSUE", issue))
        reply = httpx.post(
            server.ready["http"] + path,
            content=f'{{"query":{document},"variables":{{"v":{value}}}}}',
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
        )
        what = f"{query} {value:.300}\n{reply.status_code} {reply.text:.300}"
        assert reply.status_code in {200, 400}, what
        assert not TRACES.search(reply.text), what
        assert not OURS & {error["extensions"]["code"] for error in reply.json().get("errors", ())}, what
        statuses[reply.status_code] += 1

    asked()
    assert len(statuses) == 2 or path == "/public/graphql"
    if path == "/graphql":
        listed = ask(server, path, '{issue(id:"%s"){attachments{nodes{metadata}}}}' % issue, key)  # noqa: UP031 - braces
        assert "errors" not in listed.json()
    assert failures_in(server.log()[before:]) == []


def _things(api: Api, issue: str) -> list[str]:
    """Return names that lead somewhere, in all spellings, and one that does not."""
    file = upload(api, b"some", name="a.txt", attach_to=issue)
    return [issue, file.attachment_id, file.file.id, "https://example.com/", str(uuid4()), "x"]

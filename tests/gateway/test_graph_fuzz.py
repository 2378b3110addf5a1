"""Documents made from the schemas of the GraphQL doors: no answer is a mistake of ours, or tells of the inside (P42).

This is a short run, always with the same documents. Names of things that are there are put into most of them.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from typing import Any
from uuid import uuid4

import httpx
import hypothesis
import pytest
import schemathesis
from graphql import NameNode, ObjectFieldNode
from hypothesis import strategies as st
from schemathesis.graphql import nodes

from tests.gateway.fuzzing import ODD, TRACES, failures_in
from tests.gateway.test_graph import DOORS, ask
from tests.running import Api, RunningServer
from tests.uploading import upload

EXAMPLES = 3
OURS = {"INTERNAL_SERVER_ERROR"}
# Texts that GraphQL takes as they are; of the odd ones a few have lone halves of characters.
TEXTS = st.sampled_from([text for text in ODD if "\\" not in text and text.isprintable() and '"' not in text])
VALUES = st.one_of(TEXTS.map(nodes.String), st.integers().map(nodes.Int), st.floats().map(nodes.Float))
OBJECTS = st.dictionaries(st.sampled_from(["a", "title", "messages"]), VALUES, max_size=3).map(
    lambda found: nodes.Object(
        [ObjectFieldNode(name=NameNode(value=name), value=value) for name, value in found.items()]
    )
)
MOMENTS = st.sampled_from(["2026-01-02T03:04:05.678Z", "-P2W", "P", "PT1S", "9999-12-31T23:59:59Z", "x", ""])
SCALARS = {
    "DateTime": MOMENTS.map(nodes.String),
    "DateTimeOrDuration": st.one_of(MOMENTS, TEXTS).map(nodes.String),
    "JSON": VALUES,
    "JSONObject": OBJECTS,
    "TimelessDate": TEXTS.map(nodes.String),
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


def _things(api: Api, issue: str) -> list[str]:
    """Return names that lead somewhere, in all spellings, and one that does not."""
    file = upload(api, b"some", name="a.txt", attach_to=issue)
    return [issue, file.attachment_id, file.file.id, "https://example.com/", str(uuid4()), "x"]

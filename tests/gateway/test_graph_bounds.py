"""What a GraphQL document may cost: each limit by itself, at its edge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from graphql import build_schema, get_operation_ast, parse, validate

from remora_server.gateway.graph_bounds import Bounds, TooComplexError, require_affordable, require_bounded

# By limit: what bounds it to four, and a document with so many of it.
LIMITED: Mapping[str, tuple[Bounds, Callable[[int], str]]] = {
    "depth": (Bounds(depth=4), lambda n: "{a" * n + "}" * n),
    "depth through fragments": (
        Bounds(depth=4),
        lambda n: "{...F1}"
        + "".join(f"fragment F{i} on T{{a{{...F{i + 1}}}}}" for i in range(1, n))
        + f"fragment F{n} on T{{a}}",
    ),
    "introspection_depth": (Bounds(introspection_depth=4), lambda n: "{__schema" + "{a" * (n - 1) + "}" * n),
    "introspection_aliases": (
        Bounds(introspection_aliases=4),
        lambda n: "{a:__schema{b:a ...F}} fragment F on T{" + " ".join(f"a{i}:b" for i in range(n - 1)) + "}",
    ),
    "introspections": (Bounds(introspections=4), lambda n: "{" + " ".join(f"a{i}:__type" for i in range(n)) + "}"),
    "selections": (Bounds(selections=4), lambda n: "{" + " ".join(f"a{i}" for i in range(n)) + "}"),
    "selections through fragments": (
        Bounds(selections=4),
        lambda n: "{a{...F}}" + "fragment F on T{" + " ".join(f"a{i}" for i in range(n - 2)) + "}",
    ),
    "repeats": (Bounds(repeats=4), lambda n: "{" + "a " * n + "}"),
    "repeats by alias": (Bounds(repeats=4), lambda n: "{" + "a:b " * n + "}"),
    "aliases": (Bounds(aliases=4), lambda n: "{" + " ".join(f"a{i}:b" for i in range(n)) + "}"),
    "aliases nobody uses": (
        Bounds(aliases=4), lambda n: "{a} fragment F on T{" + " ".join(f"a{i}:b" for i in range(n)) + "}"
    ),
    "directives": (Bounds(directives=4), lambda n: "{a " + "@d " * n + "}"),
    "levels": (Bounds(), lambda n: "{" + "... on T{" * (n + 95) + "a" + "}" * (n + 96)),
}  # fmt: skip
SCHEMA = build_schema(
    """
    type Query { one: Thing, many(first: Int, last: Int): ThingConnection, either: Both, shown: Shown }
    type Thing implements Shown { name: String, one: Thing, many(first: Int, last: Int): ThingConnection }
    type ThingConnection { nodes: [Thing!]! }
    interface Shown { name: String }
    union Both = Thing | Other
    type Other { thing: Thing }
    """
)


@pytest.mark.parametrize("limit", LIMITED)
def test_each_limit(limit: str) -> None:
    """Up to a limit a document passes, beyond it not."""
    bounds, document = LIMITED[limit]
    require_bounded(parse(document(4)), bounds)
    with pytest.raises(TooComplexError):
        require_bounded(parse(document(5)), bounds)


@pytest.mark.parametrize(
    "document", ["{...A} fragment A on T{...A}", "{...A} fragment A on T{b{...B}} fragment B on T{...A}"]
)
def test_fragments_in_themselves(document: str) -> None:
    """A circle is told by its name, before anything is counted to its end."""
    with pytest.raises(TooComplexError, match="within itself"):
        require_bounded(parse(document), Bounds())


def test_what_is_not_there_is_for_the_validation() -> None:
    """A spread of nothing is no matter of cost."""
    require_bounded(parse("{...Nowhere}"), Bounds())


@pytest.mark.parametrize(
    ("query", "variables", "objects"),
    [
        ("{one{name}}", {}, 1),
        ("{one{one{name}}}", {}, 2),
        ("{many{nodes{name}}}", {}, 1 + 50),
        ("{many(first:3){nodes{name}}}", {}, 1 + 3),
        ("{many(last:3){nodes{name}}}", {}, 1 + 3),
        ("query($n:Int){many(first:$n){nodes{name}}}", {"n": 7}, 1 + 7),
        ("query($n:Int){many(first:$n){nodes{name}}}", {}, 1 + 50),
        ("query($n:Int){many(first:$n){nodes{name}}}", {"n": None}, 1 + 50),
        ("query($n:Int){many(first:$n){nodes{name}}}", {"n": 70.0}, 1 + 70),
        ("query($n:Int=70){many(first:$n){nodes{name}}}", {}, 1 + 70),
        ("query($n:Int=70){many(last:$n){nodes{name}}}", {"n": 3}, 1 + 3),
        ("{many(first:-5){nodes{name}}}", {}, 1 + 1),
        ("{many(first:3){nodes{one{name} many(first:2){nodes{name}}}}}", {}, 1 + 3 * (1 + 1 + 1 + 2)),
        ("{...F ...F} fragment F on Query{one{name}}", {}, 2),
        ("{either{... on Thing{one{name}} ... on Other{thing{name}} ... {__typename}}}", {}, 3),
        ("{shown{name ... on Thing{one{name}}}}", {}, 2),
        ("{__schema{types{name}} __typename}", {}, 0),
    ],
)
def test_what_is_billed(query: str, variables: dict[str, Any], objects: int) -> None:
    """Objects count as often as the pages around them can hold them."""
    document = parse(query)
    assert validate(SCHEMA, document) == []
    operation = get_operation_ast(document)
    assert operation is not None
    require_affordable(SCHEMA, document, operation, variables, Bounds(objects=objects))
    if objects:
        with pytest.raises(TooComplexError, match="smaller pages"):
            require_affordable(SCHEMA, document, operation, variables, Bounds(objects=objects - 1))


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("{__typename}", 1),
        ("{one{name}}", 2),
        ("{many(first:3){nodes{name n:name ...F}}} fragment F on Thing{name}", 1 + 3 * (1 + 3)),
        ("{many(first:3){nodes{one{name}}} __schema{types{name}}}", 1 + 3 * (1 + 1 + 1) + 1),
    ],
)
def test_how_many_values_are_billed(query: str, values: int) -> None:
    """Fields that are no objects count too: an object of many aliases takes as long as many objects."""
    document = parse(query)
    assert validate(SCHEMA, document) == []
    operation = get_operation_ast(document)
    assert operation is not None
    require_affordable(SCHEMA, document, operation, {}, Bounds(values=values))
    with pytest.raises(TooComplexError, match="fewer fields"):
        require_affordable(SCHEMA, document, operation, {}, Bounds(values=values - 1))


def test_variables_that_are_wrong_cost_nothing() -> None:
    """What they come to is for whoever runs the document: it refuses them."""
    document = parse("query($n:Int!){many(first:$n){nodes{name}}}")
    operation = get_operation_ast(document)
    assert operation is not None
    for variables in ({"n": "x"}, {"n": 2.5}, {}, {"n": 2**40}):
        require_affordable(SCHEMA, document, operation, variables, Bounds(objects=0))

"""Routes say what their handlers do: which fields they read, which scope they ask for, which document they follow."""

from __future__ import annotations

import re

import pytest

from remora_server.gateway.route import Dialect, Route
from tests.gateway.routes import DIALECTS, ROUTES, fields_read, name_of

# What a document has and clients send, and what changes nothing here.
UNREAD = {"POST /<version>/issues/<issue>/remotelinks": {"origin"}}

each = pytest.mark.parametrize(("dialect", "route"), ROUTES, ids=[name_of(route) for _, route in ROUTES])


@each
def test_what_a_handler_reads_is_told(dialect: Dialect, route: Route) -> None:
    """Every parameter and every field of the body that a handler asks for is in its route, and no other."""
    del dialect
    asked, given = fields_read(route.handler)
    assert set(route.query) == asked
    assert {name.rstrip("*") for name in route.body} - UNREAD.get(name_of(route), set()) == given


@each
def test_what_a_route_says_can_be(dialect: Dialect, route: Route) -> None:
    """A body goes with methods that have one, statuses are of success, types of parts of paths are of parts."""
    assert not (route.body or route.form) or route.method in {"POST", "PATCH", "PUT"}
    assert not (route.body and route.form)
    assert route.statuses
    assert all(200 <= status < 400 for status in route.statuses)
    assert route.path.startswith(tuple(dialect.prefixes)) or route.path.startswith("/<version>/")


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_parts_that_have_types_are_there(dialect: Dialect) -> None:
    """No type is told of a part that no path has."""
    assert set(dialect.places) <= {part for one in dialect.routes for part in re.findall(r"<(\w+)>", one.path)}


def test_readers_are_found() -> None:
    """The walk through the handlers finds what they read by other functions, else it would prove nothing."""
    found = {name_of(route): fields_read(route.handler) for _, route in ROUTES}
    assert found["GET /v1/issues/<issue>/links"] == ({"cursor", "page_size"}, set())
    assert {"from_utc", "event_type"} <= found["GET /v1/issues/<issue>/activity"][0]
    assert found["POST /v1/issues/<issue>/links"][1] == {"url", "title"}
    assert {"per_page", "cursor", "order_by", "fields", "expand"} in [asked for asked, _ in found.values()]

"""The OpenAPI document that the server serves."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from tests.gateway.routes import DIALECTS, ROUTES
from tests.running import RunningServer

KINDS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture
def told(server: RunningServer) -> dict[str, Any]:
    """Fetch the document, without a key."""
    reply = httpx.get(f"{server.ready['http']}/openapi.json")
    assert reply.status_code == 200
    document: dict[str, Any] = reply.json()
    return document


def test_every_route_is_in_it(told: dict[str, Any]) -> None:
    """Each path and method of each dialect, told in a sentence, with the RPC that it stands for and its scope."""
    assert told["openapi"].startswith("3.1")
    assert {one["name"] for one in told["tags"]} == {"own", *(dialect.name for dialect in DIALECTS)}
    for dialect, route in ROUTES:
        operation = told["paths"][re.sub(r"<(\w+)>", r"{\1}", route.path)][route.method.lower()]
        assert route.rpc in operation["description"]
        assert operation["summary"].endswith(".")
        assert {str(status) for status in route.statuses} <= operation["responses"].keys()
        assert {one["name"] for one in operation["parameters"] if one["in"] == "query"} == set(route.query)
        assert [one for each in operation["security"] for one in each] == list(dialect.security)
        assert ("requestBody" in operation) == bool(route.body or route.form)


def test_it_is_sound(told: dict[str, Any]) -> None:
    """Operations have names of their own, and every part of a path is a parameter."""
    names = []
    for path, operations in told["paths"].items():
        assert operations.keys() <= KINDS
        for operation in operations.values():
            names.append(operation["operationId"])
            places = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
            assert places == set(re.findall(r"{(\w+)}", path))
            for scheme in operation["security"]:
                assert scheme.keys() <= told["components"]["securitySchemes"].keys()
    assert len(names) == len(set(names))


def test_the_servers_own_paths_are_in_it(told: dict[str, Any], server: RunningServer) -> None:
    """The token and the signed URLs are told of, with the methods that they have, and need no other key."""
    own = {
        (path, method)
        for path, operations in told["paths"].items()
        for method, operation in operations.items()
        if operation["tags"] == ["own"]
    }
    assert own == {
        ("/oauth/token", "post"),
        ("/uploads/{ticket}", "put"),
        ("/uploads/{ticket}/form", "post"),
        ("/uploads/{ticket}/session", "put"),
        ("/uploads/{ticket}/session", "delete"),
        ("/downloads/{file}", "get"),
        ("/assets/{asset}", "get"),
    }
    for path, method in own:
        assert (told["paths"][path][method]["security"] == []) is (path != "/assets/{asset}")
        filled = re.sub(r"{\w+}", "x", path)
        # Whoever comes without a permission is refused in the way that is told.
        reply = httpx.request(method, server.ready["http"] + filled)
        assert str(reply.status_code) in told["paths"][path][method]["responses"], (method, path, reply.text)


def test_a_bad_request_at_each_of_its_paths(server: RunningServer, told: dict[str, Any]) -> None:
    """No path answers a mistake of its caller with one of ours, whatever stands in it (P42)."""
    key = str(server.ready["key"])
    odd = ("0", "x" * 300, "%00", "..%2f..", "%F0%9F%98%80", "-1", "' OR 1=1 --", "%ff")
    with httpx.Client(
        base_url=server.ready["http"], headers={"X-Api-Key": key, "Authorization": f"Bearer {key}"}
    ) as client:
        for path, operations in told["paths"].items():
            for number, method in enumerate(operations):
                value = odd[(len(path) + number) % len(odd)]
                filled = "".join(value if place % 2 else part for place, part in enumerate(re.split(r"{(\w+)}", path)))
                for body in (b"", b"{", b"[]", b"null", b'{"url": 7}'):
                    reply = client.request(method, filled, content=body, params={"page_size": value, "per_page": value})
                    assert reply.status_code < 500, (method, filled, body, reply.text)

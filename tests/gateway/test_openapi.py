"""The OpenAPI document that the server serves."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from remora_server.gateway.dialects.quantify import ROUTES
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
    assert {one["name"] for one in told["tags"]} == {"quantify", "plane", "yandex"}
    for route in ROUTES:
        operation = told["paths"][re.sub(r"<(\w+)>", r"{\1}", route.path)][route.method.lower()]
        assert route.rpc in operation["description"]
        assert operation["summary"].endswith(".")
        assert {str(status) for status in route.statuses} <= operation["responses"].keys()
        assert {one["name"] for one in operation["parameters"] if one["in"] == "query"} == set(route.query)


def test_it_is_sound(told: dict[str, Any]) -> None:
    """Operations have names of their own, and every part of a path is a parameter."""
    names = []
    for path, operations in told["paths"].items():
        assert operations.keys() <= KINDS
        for operation in operations.values():
            names.append(operation["operationId"])
            places = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
            assert places == set(re.findall(r"{(\w+)}", path))
    assert len(names) == len(set(names))


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

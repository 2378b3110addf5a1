"""The OpenAPI document of everything that the gateway serves, made from the routes of the dialects."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from remora_server.gateway.own_paths import TAG, own_paths
from remora_server.gateway.route import Dialect, Route

TYPES: Mapping[str, Mapping[str, Any]] = {
    "string": {"type": "string"},
    "strings": {"type": "array", "items": {"type": "string"}},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "time": {"type": "string", "format": "date-time"},
    "uuid": {"type": "string", "format": "uuid"},
    "decimal": {"type": "string", "pattern": "^[0-9]+$"},
    "object": {"type": "object"},
    "issue": {
        "anyOf": [
            {"type": "string"},
            {"type": "object", "properties": {"key": {"type": "string"}, "id": {"type": "string"}}},
        ]
    },
}
SCHEMES: Mapping[str, Mapping[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
    "plain": {"type": "apiKey", "in": "header", "name": "Authorization", "description": "The key, and nothing else."},
    "oauth": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "The word OAuth, a space, and the key.",
    },
}
REFUSALS = {
    400: "Something in the request can't be accepted.",
    401: "There is no good key.",
    403: "The key may not do this.",
    404: "There is no such thing, or not for this key.",
}


def document(dialects: Sequence[Dialect], scopes: Mapping[str, str], base_path: str) -> dict[str, Any]:
    """Return the document, for a server whose public URL has this path."""
    paths: dict[str, dict[str, Any]] = {}
    for dialect in dialects:
        for route in dialect.routes:
            operations = paths.setdefault(_template(route.path), {})
            operations[route.method.lower()] = _operation(dialect, route, scopes[route.rpc])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Remora",
            "version": version("remora"),
            "description": "What clients of other systems find here. Every path is one of the system that tags it, "
            "or the server's own.",
        },
        "servers": [{"url": base_path or "/"}],
        "tags": [*({"name": dialect.name} for dialect in dialects), {"name": TAG}],
        "paths": dict(sorted({**paths, **own_paths()}.items())),
        "components": {
            "securitySchemes": {
                **SCHEMES,
                "token": {
                    "type": "oauth2",
                    "flows": {"clientCredentials": {"tokenUrl": f"{base_path}/oauth/token", "scopes": _scopes(scopes)}},
                },
            }
        },
    }


def _operation(dialect: Dialect, route: Route, scope: str) -> dict[str, Any]:
    places = [
        {"name": name, "in": "path", "required": True, "schema": _part(dialect.places.get(name, "string"))}
        for name in re.findall(r"<(\w+)>", route.path)
    ]
    asked = [{"name": name, "in": "query", "schema": _schema(kind)} for name, kind in route.query.items()]
    asks = f"the scope `{scope}`" if scope else "any key"
    operation: dict[str, Any] = {
        "operationId": f"{dialect.name}.{_word(route)}",
        "summary": (inspect.getdoc(route.handler) or "").partition("\n")[0],
        "description": f"As {route.rpc}, with {asks}. Source: {route.source}.",
        "tags": [dialect.name],
        "parameters": [*places, *asked],
        "security": [{name: [scope] if name == "token" and scope else []} for name in dialect.security],
        "responses": {
            **{str(status): {"description": "Done."} for status in route.statuses},
            **{str(status): {"description": told} for status, told in REFUSALS.items()},
            "default": {"description": "Another refusal, in this system's own words."},
        },
    }
    if route.body or route.form:
        operation["requestBody"] = {"required": True, "content": _content(route)}
    return operation


def _content(route: Route) -> dict[str, Any]:
    if route.form:
        schema = {
            "type": "object",
            "properties": {"file": {"type": "string", "format": "binary"}},
            "required": ["file"],
        }
        return {"multipart/form-data": {"schema": schema}}
    fields = {name.rstrip("*"): _schema(kind) for name, kind in route.body.items()}
    required = [name.rstrip("*") for name in route.body if name.endswith("*")]
    return {"application/json": {"schema": {"type": "object", "properties": fields, "required": required}}}


def _schema(kind: str) -> Mapping[str, Any]:
    """Return the schema of a type: one of TYPES, or words to choose from with bars between them."""
    return {"type": "string", "enum": kind.split("|")} if "|" in kind else TYPES[kind]


def _part(kind: str) -> Mapping[str, Any]:
    """Return the schema of a part of a path, which is never empty."""
    return {**_schema(kind), "minLength": 1}


def _template(path: str) -> str:
    return re.sub(r"<(\w+)>", r"{\1}", path)


def _word(route: Route) -> str:
    """Return a name that no other operation of the dialect has: that of the place, and of what is done there."""
    place = re.sub(r"\W+", "-", _template(route.path)).strip("-")
    return f"{route.method.lower()}-{place}"


def _scopes(scopes: Mapping[str, str]) -> dict[str, str]:
    told: dict[str, str] = {}
    for rpc, scope in sorted(scopes.items()):
        if scope:
            told[scope] = f"{told[scope]}, {rpc}" if scope in told else rpc
    return told

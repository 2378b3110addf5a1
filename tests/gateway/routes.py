"""The dialects as a server has them, with every route, and which fields of a request each handler reads."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from remora_server.gateway.dialects.glue import glue
from remora_server.gateway.dialects.linear import linear
from remora_server.gateway.dialects.plane import plane
from remora_server.gateway.dialects.quantify import QUANTIFY
from remora_server.gateway.dialects.yandex import yandex
from remora_server.gateway.route import Dialect, Route

DIALECTS: tuple[Dialect, ...] = (
    QUANTIFY,
    plane(5 * 1024 * 1024, frozenset(), None),
    yandex(1024**3),
    linear(),
    glue("put"),
)
ROUTES: tuple[tuple[Dialect, Route], ...] = tuple((dialect, route) for dialect in DIALECTS for route in dialect.routes)
QUERY, BODY = "visit", "given"  # What handlers call a request, and the object that was its body.
ROOM = "remora_server.gateway"


def name_of(route: Route) -> str:
    """Return a route as a test is called."""
    return f"{route.method} {route.path}"


def fields_read(handler: Callable[..., Any]) -> tuple[set[str], set[str]]:
    """Return which parameters of the query, and which fields of its body, a handler and what it calls read by name."""
    asked: set[str] = set()
    given: set[str] = set()
    for function in _reached(inspect.unwrap(handler), set()):
        for node in ast.walk(_tree(function)):
            asked |= set(_asked(node, function))
            given |= set(_given(node))
    return asked, given


def _asked(node: ast.AST, function: FunctionType) -> Iterator[str]:
    """`visit.asked("name")`, or the same by a function that is given the visit and the name."""
    if not isinstance(node, ast.Call):
        return
    names = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    if isinstance(node.func, ast.Attribute) and node.func.attr in {"asked", "asked_all", "asked_whole"}:
        yield from names[:1]
    elif isinstance(node.func, ast.Name) and names and _is(node.args[0], QUERY):
        called = function.__globals__.get(node.func.id)
        if isinstance(called, FunctionType) and "visit.asked(name" in inspect.getsource(called):
            yield from names[:1]


def _given(node: ast.AST) -> Iterator[str]:
    """`given.get("name")`, `given["name"]`, `"name" in given`, or a function that is given the body and the name."""
    found: list[ast.expr] = []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in {"get", "pop"}:
        found = node.args[:1] if _is(node.func.value, BODY) else []
    elif isinstance(node, ast.Call) and node.args and _is(node.args[0], BODY):
        found = node.args[1:2]
    elif isinstance(node, ast.Subscript) and _is(node.value, BODY):
        found = [node.slice]
    elif isinstance(node, ast.Compare) and _is(node.comparators[0], BODY):
        found = [node.left]
    yield from (one.value for one in found if isinstance(one, ast.Constant) and isinstance(one.value, str))


def _is(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _tree(function: FunctionType) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def _reached(function: Any, seen: set[Any]) -> Iterator[FunctionType]:
    """Walk over a function of the gateway and those of it that it names."""
    if not isinstance(function, FunctionType) or function in seen or not function.__module__.startswith(ROOM):
        return
    seen.add(function)
    yield function
    for node in ast.walk(_tree(function)):
        if isinstance(node, ast.Name):
            yield from _reached(inspect.unwrap(function.__globals__.get(node.id, None) or _nothing), seen)


def _nothing() -> None: ...

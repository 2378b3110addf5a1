"""One table with every route of every REST door: how to ask at it for prepared things, and what others may expect."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

import httpx

from remora_server.gateway.route import Route
from tests.gateway import routes
from tests.gateway.things import Things, part, spelled

Second = Literal["may", "finds nothing"]
Stranger = Literal["finds nothing", "makes their own", "may"]
NOTHING: Second = "finds nothing"
REST = ("quantify", "plane", "yandex")
ROUTES: Mapping[str, tuple[str, Route]] = {
    routes.name_of(route): (dialect.name, route) for dialect, route in routes.ROUTES if dialect.name in REST
}
CHANGING = {"date", "content-length", "connection"}
_numbers = count(1)
Given = Callable[[Things], Mapping[str, Any]]


def _nothing(_things: Things) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Row:
    """One way to ask at a route; `given` is what comes besides the path, from things that it may name."""

    name: str
    given: Given = _nothing
    second: Second = "may"
    stranger: Stranger = "finds nothing"
    parts: Mapping[str, Callable[[Things], str]] = field(default_factory=dict)  # where they are not the usual ones
    names_things: bool = False  # whether `given` names some
    about: str = ""

    @property
    def dialect(self) -> str:
        """The name of the dialect."""
        return ROUTES[self.name][0]

    @property
    def route(self) -> Route:
        """The route."""
        return ROUTES[self.name][1]

    @property
    def places(self) -> Sequence[str]:
        """The parts of the path that are names of things, from left to right."""
        return [one for one in re.findall(r"<(\w+)>", self.route.path) if one not in {"version", "name"}]

    @property
    def reads(self) -> bool:
        """Whether it leaves everything as it is."""
        return self.route.method == "GET"

    def __str__(self) -> str:
        return f"{self.name}({self.about})"

    def path(self, things: Things, others: Things | None = None, of_others: Collection[int] = ()) -> str:
        """Return a path to things, but for the names at some places, which are those of others."""
        path = self.route.path.replace("<version>", "v2").replace("<name>", "a.png")
        for place, name in enumerate(self.places):
            whose = others if others is not None and place in of_others else things
            value = spelled(self.dialect, self.parts[name](whose)) if name in self.parts else None
            path = path.replace(f"<{name}>", part(self.dialect, name, whose) if value is None else value)
        return path


@dataclass(frozen=True)
class Answer:
    """What was answered, with all headers that do not change by themselves, or with the body of a request."""

    status: int
    headers: Mapping[str, str]
    text: str

    def hidden(self, *things: Things) -> Answer:
        """Return it with names replaced by what they name."""
        text, headers = self.text, str(dict(self.headers))
        for one in things:
            text, headers = one.hidden_in(text), one.hidden_in(headers)
        return Answer(self.status, {"": headers}, text)


def ask(client: httpx.Client, row: Row, path: str, given: Mapping[str, Any]) -> Answer:
    """Ask at a route."""
    reply = client.request(row.route.method, path, **given)
    kept = {name: value for name, value in reply.headers.items() if name not in CHANGING}
    return Answer(reply.status_code, kept, reply.content.decode("latin-1"))


def _file(_things: Things) -> Mapping[str, Any]:
    return {"files": {"file": ("file", b"content")}, "params": {"filename": f"new-{next(_numbers)}.txt"}}


def _json(**fields: Any) -> Given:
    return lambda _things: {"json": fields}


def _new_url(_things: Things, name: str = "url", **more: str) -> Mapping[str, Any]:
    return {"json": {name: f"https://example.com/new/{next(_numbers)}", **more}}


def _quantify() -> Sequence[Row]:
    issue = "/v1/issues/<issue>"
    file = f"{issue}/attachments/<attachment>"
    return (
        Row(f"GET {issue}/activity"),
        Row(f"GET {issue}/attachments"),
        Row(f"GET {file}"),
        Row(f"GET {file}/content"),
        Row(f"GET {file}/preview"),
        Row(f"GET {issue}/links"),
        Row(f"POST {issue}/links", lambda n: _new_url(n, title="t"), stranger="makes their own"),
        Row(f"DELETE {issue}/links/<link>"),
        Row(f"GET {issue}/subissues"),
    )


def _plane(issues: str, attachments: str) -> Sequence[Row]:
    workspace = "/api/v1/workspaces/<workspace>"
    issue = f"{workspace}/projects/<project>/{issues}/<issue>/"
    files, links, log = f"{issue}{attachments}/", f"{issue}links/", f"{issue}activities/"
    pending = {"attachment": lambda one: one.pending}
    begun: dict[str, Any] = {"second": NOTHING, "parts": pending, "about": "begun"}
    return (
        Row(f"POST {files}", _json(name="n.png", type="image/png", size=3)),
        Row(f"GET {files}"),
        Row(f"PATCH {files}<attachment>/", _json(is_uploaded=True)),
        Row(f"PATCH {files}<attachment>/", _json(is_uploaded=True), **begun),
        Row(f"GET {files}<attachment>/"),
        Row(f"GET {files}<attachment>/", **begun),
        Row(f"DELETE {files}<attachment>/"),
        Row(f"DELETE {files}<attachment>/", **begun),
        Row(f"GET {links}"),
        Row(f"POST {links}", lambda n: _new_url(n, title="t")),
        Row(f"GET {links}<link>/"),
        Row(f"PATCH {links}<link>/", _json(title="other")),
        Row(f"DELETE {links}<link>/"),
        Row(f"GET {log}"),
        Row(f"GET {log}<activity>/"),
        Row(f"GET {issue}"),
        Row(f"GET {workspace}/{issues}/<key>/"),
    )


def _yandex() -> Sequence[Row]:
    issue, kept = "/<version>/issues/<issue>", "/<version>/attachments"
    file = f"{issue}/attachments/<attachment>"
    child = {"link": lambda one: one.child}

    def temporary(things: Things) -> Mapping[str, Any]:
        return {"json": {"attachmentIds": [spelled("yandex", things.temporary)]}}

    def parent(things: Things) -> Mapping[str, Any]:
        return {"json": {"relationship": "is subtask for", "issue": spelled("yandex", things.other)}}

    return (
        Row(f"POST {issue}/attachments", _file, stranger="makes their own"),
        Row(f"GET {issue}/attachments"),
        Row(f"GET {file}"),
        Row(f"DELETE {file}"),
        Row(f"GET {file}/<name>"),
        Row(f"GET {issue}/thumbnails/<attachment>"),
        Row(f"POST {kept}", _file, stranger="may"),
        Row(f"GET {kept}/<file>", second=NOTHING),
        Row(f"GET {kept}/<file>/<name>", second=NOTHING),
        Row(f"GET {issue}"),
        Row(f"PATCH {issue}", temporary, second=NOTHING, names_things=True),
        Row("GET /<version>/fields", stranger="may"),
        Row(f"GET {issue}/changelog"),
        Row(f"GET {issue}/changelog/<change>"),
        Row(f"GET {issue}/links"),
        Row(f"POST {issue}/links", parent, names_things=True),
        Row(f"GET {issue}/links/<link>", parts=child),
        Row(f"DELETE {issue}/links/<link>", parts=child),
        Row(f"GET {issue}/remotelinks"),
        Row(f"POST {issue}/remotelinks", lambda n: _new_url(n, "key", relationship="RELATES")),
        Row(f"DELETE {issue}/remotelinks/<link>"),
        Row("GET /<version>/myself", stranger="may"),
        Row("GET /<version>/users/<user>", second=NOTHING),
    )


ROWS: Sequence[Row] = (
    *_quantify(),
    *_plane("work-items", "attachments"),
    *_plane("issues", "issue-attachments"),
    *_yandex(),
)

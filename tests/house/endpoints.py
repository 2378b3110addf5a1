"""The tables of endpoints in `server/docs`, made from the routes of the dialects; run by `scripts/gen`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from remora_server.gateway.route import Dialect, Route
from remora_server.rpc.server import scopes_by_rpc
from tests.gateway.routes import DIALECTS

DOCS = Path(__file__).parents[2] / "server" / "docs"
BEGIN, END = "<!-- from the routes: scripts/gen writes this table -->", "<!-- until here -->"
HEAD = ("| Request | Stands for | Scope | Answers | What it does |", "|---|---|---|---|---|")


@dataclass(frozen=True)
class Page:
    """A page with a table, and what its prose has said of every path below, which is written as dots."""

    name: str
    base: str = ""


PAGES: Mapping[str, Page] = {
    "quantify": Page("quantify.md"),
    "plane": Page("plane.md", "/api/v1/workspaces/<workspace>/projects/<project>/work-items/<issue>/"),
    "yandex": Page("yandex-tracker.md"),
}


def table(dialect: Dialect, base: str) -> str:
    """Return a line for each route; on a page with a base, of the spellings of one path only the first."""
    scopes, told, lines = scopes_by_rpc(), set(), []
    for route in dialect.routes:
        handler = inspect.unwrap(route.handler)
        if not base or (route.method, handler) not in told:
            told.add((route.method, handler))
            lines.append(_line(route, base, scopes[route.rpc]))
    return "\n".join([BEGIN, *HEAD, *lines, END])


def _line(route: Route, base: str, scope: str) -> str:
    path = re.sub(r"<(\w+)>", r"{\1}", f"…/{route.path.removeprefix(base)}" if _is_below(route, base) else route.path)
    answers = ", ".join(str(status) for status in route.statuses)
    sentence = (inspect.getdoc(route.handler) or "").partition("\n")[0].removesuffix(".")
    what = sentence[:1].lower() + sentence[1:]
    right = f"`{scope}`" if scope else "any"
    return f"| {route.method} `{path}` | {route.rpc} | {right} | {answers} | {what} |"


def _is_below(route: Route, base: str) -> bool:
    return bool(base) and route.path.startswith(base)


def written(dialect: Dialect) -> tuple[Path, str, str]:
    """Return the page of a dialect, what it says, and what it should say."""
    page = PAGES[dialect.name]
    path = DOCS / page.name
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise LookupError(f"{path.name} has no place for its table: {BEGIN} and {END}")
    return path, text, before + table(dialect, page.base) + after


def main() -> int:
    """Write the tables."""
    for dialect in DIALECTS:
        if dialect.name in PAGES:
            path, _, text = written(dialect)
            path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Exchanges as the documents of the imitated systems show them, replayed against a real server.

An exchange is a JSON file: a request, and the answer to it. Where the document has an id or a time of its own stands a
name in braces, `{attachment}`. The first time that a name is met in an answer it takes the value there; from then on it
stands for that value, in requests too. `{*}` stands for any value. Every field has to be there, and none besides.

A request may bring a `file`, by name, in a form of its own; or `upload` one with the form that an answer told last, to
whoever keeps files. An answer may be a `file` too, or any `bytes`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

EXCHANGES = Path(__file__).parent / "exchanges"
ANYTHING = "{*}"
NAME = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Exchange:
    """A request and the answer that is expected."""

    name: str
    request: Mapping[str, Any]
    response: Mapping[str, Any]


def exchanges_of(dialect: str) -> list[Exchange]:
    """Return the exchanges of a dialect in their order."""
    found = []
    for path in sorted((EXCHANGES / dialect).glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        found.append(Exchange(path.stem, content["request"], content["response"]))
    assert found, f"no exchanges of {dialect}"
    return found


class Replay:
    """Sends requests to a server, and holds its answers to those that are expected."""

    def __init__(
        self, base_url: str, headers: Mapping[str, str], files: Mapping[str, bytes] | None = None, **known: str
    ) -> None:
        self.known = dict(known)
        self._files = files or {}
        self._form: dict[str, Any] = {}
        self._base_url = base_url
        self._headers = headers

    def play(self, exchange: Exchange) -> httpx.Response:
        """Make one exchange."""
        request, expected = exchange.request, exchange.response
        if "upload" in request:
            reply = self.upload(request["upload"])
            assert (expected["status"], reply.is_success) == ("2xx", True), (exchange.name, reply.text)
            return reply
        reply = self.ask(request)
        assert reply.status_code == expected["status"], (exchange.name, reply.text)
        for name, value in expected.get("headers", {}).items():
            self._compare(f"{exchange.name}: header {name}", value, reply.headers[name])
        if "body" in expected:
            assert reply.headers["content-type"].startswith("application/json")
            self._compare(exchange.name, expected["body"], reply.json())
        elif "file" in expected:
            assert reply.content == self._files[expected["file"]], exchange.name
        elif expected.get("bytes") == ANYTHING:
            assert reply.content, exchange.name
        else:
            assert reply.content == b"", exchange.name
        return reply

    def ask(self, request: Mapping[str, Any]) -> httpx.Response:
        """Send one request."""
        reply = httpx.request(
            request["method"],
            self._base_url + self.filled(request["path"]),
            headers={**self._headers, **self._filled_in(request.get("headers", {}))},
            json=self._filled_in(request["json"]) if "json" in request else None,
            files={"file": ("file", self._files[request["file"]])} if "file" in request else None,
            timeout=60,
        )
        if request["method"] == "POST" and reply.is_success and "upload_data" in reply.json():
            self._form = reply.json()["upload_data"]
        return reply

    def upload(self, name: str) -> httpx.Response:
        """Send a file by the form of the last answer that had one."""
        files = {"file": (name, self._files[name], "image/png")}
        return httpx.post(self._form["url"], data=self._form["fields"], files=files, timeout=60)

    def filled(self, text: str) -> str:
        """Put what is known into a text."""
        # What nobody knows stays: braces have their own meaning in GraphQL.
        return NAME.sub(lambda found: self.known.get(found[1], found[0]), text)

    def _filled_in(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.filled(value)
        if isinstance(value, list):
            return [self._filled_in(one) for one in value]
        return {name: self._filled_in(one) for name, one in value.items()} if isinstance(value, dict) else value

    def _compare(self, where: str, expected: Any, actual: Any) -> None:
        if expected == ANYTHING:
            return
        if isinstance(expected, dict):
            assert isinstance(actual, dict), (where, actual)
            assert list(actual) == list(expected), where
            for name, value in expected.items():
                self._compare(f"{where}.{name}", value, actual[name])
        elif isinstance(expected, list):
            assert isinstance(actual, list), (where, actual)
            assert len(actual) == len(expected), (where, actual)
            for place, value in enumerate(expected):
                self._compare(f"{where}[{place}]", value, actual[place])
        elif isinstance(expected, str) and NAME.search(expected):
            assert isinstance(actual, str), (where, actual)
            self._take(where, expected, actual)
        else:
            assert (type(actual), actual) == (type(expected), expected), where

    def _take(self, where: str, expected: str, actual: str) -> None:
        pattern, names = "", []
        for place, part in enumerate(NAME.split(expected)):
            if place % 2 == 0:
                pattern += re.escape(part)
            elif part in self.known:
                pattern += re.escape(self.known[part])
            else:
                pattern += "(.+)"
                names.append(part)
        found = re.fullmatch(pattern, actual)
        assert found is not None, (where, expected, actual)
        self.known.update(zip(names, found.groups(), strict=True))

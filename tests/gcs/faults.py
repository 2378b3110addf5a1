"""Planned faults: what goes wrong with the next requests that match.

- status: answered with an error, at once or after some bytes of the body
- reset: the connection is reset, at once or after some bytes, those of the body or those of the answer
- stall: nothing more happens for a while, at once or after some bytes, then the connection is reset
- lost: the request has its effect, its answer is lost with the connection
- drop: half of a chunk is not kept, and the answer says so
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.gcs.refusal import Refusal

Kind = Literal["status", "reset", "stall", "lost", "drop"]


@dataclass
class Fault:
    """One plan. It strikes `times` times (-1 is always), at requests whose "METHOD /path?query" matches."""

    kind: Kind
    match: str = ""
    status: int = 503
    after_bytes: int = 0
    seconds: float = 60.0
    times: int = 1
    struck: int = 0


class ResetError(Exception):
    """The connection is to be reset."""


@dataclass
class Faults:
    """Plans, and a record of what was asked for."""

    plans: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def next_for(self, line: str) -> Fault | None:
        """Return the plan that strikes now, if any."""
        self.requests.append(line)
        for plan in self.plans:
            if plan.times and re.search(plan.match, line):
                plan.times -= plan.times > 0
                plan.struck += 1
                return plan
        return None


class Striking:
    """Wraps an ASGI app so that plans strike."""

    def __init__(self, app: ASGIApp, faults: Faults, refuse: Any) -> None:
        self._app = app
        self._faults = faults
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or break it."""
        if scope["type"] != "http" or scope["path"].startswith("/_fake/"):
            await self._app(scope, receive, send)
            return
        query = scope["query_string"].decode()
        line = unquote(f"{scope['method']} {scope['raw_path'].decode()}" + (f"?{query}" if query else ""))
        plan = self._faults.next_for(line)
        if plan is None:
            await self._app(scope, receive, send)
            return
        try:
            await _Strike(plan, scope, receive, send).run(self._app, self._refuse)
        except ResetError:
            _reset(send)


class _Strike:
    def __init__(self, plan: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        self._plan = plan
        self._scope = scope
        self._receive = receive
        self._send = send
        self._came = self._sent = 0
        self._has_body = scope["method"] in {"PUT", "POST", "PATCH"}

    async def run(self, app: ASGIApp, refuse: Any) -> None:
        plan = self._plan
        if plan.kind == "drop":
            self._scope["drop"] = True
            await app(self._scope, self._receive, self._send)
        elif plan.kind == "lost":
            await app(self._scope, self._receive, self._lose)
        else:
            try:
                if not plan.after_bytes:
                    await self._strike()
                await app(self._scope, self._take, self._give)
            except Refusal as refusal:
                response = refuse(Request(self._scope), refusal)
                response.headers["Connection"] = "close"
                await response(self._scope, self._receive, self._send)

    async def _strike(self) -> None:
        if self._plan.kind == "status":
            raise Refusal(self._plan.status, "As planned.")
        if self._plan.kind == "stall":
            await asyncio.sleep(self._plan.seconds)
        raise ResetError

    async def _take(self) -> Message:
        if self._has_body and self._came >= self._plan.after_bytes:
            await self._strike()
        message = await self._receive()
        if message["type"] == "http.request" and self._has_body:
            room = self._plan.after_bytes - self._came
            body = message.get("body", b"")
            self._came += len(body)
            if len(body) >= room:
                message = {**message, "body": body[:room], "more_body": True}
        return message

    async def _give(self, message: Message) -> None:
        if message["type"] == "http.response.body" and not self._has_body:
            body = message.get("body", b"")
            room = self._plan.after_bytes - self._sent
            if len(body) >= room:
                await self._send({"type": "http.response.body", "body": body[:room], "more_body": True})
                await asyncio.sleep(0.05)  # The bytes before the break arrive.
                await self._strike()
            self._sent += len(body)
        await self._send(message)

    async def _lose(self, _: Message) -> None:
        raise ResetError


def _reset(send: Any) -> None:
    """Break the connection so that the other side sees a reset; uvicorn's own `send` knows the transport."""
    transport = send.__self__.transport
    if transport.is_closing():
        return
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()

"""What stands around every handler of the gateway: refusals become answers, and a mistake of ours only a number."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from remora_server.core.errors import RemoraError
from remora_server.gateway.bodies import Body, Pace, answer
from remora_server.gateway.errors import (
    HttpError,
    RouteNotFoundError,
    SignedUrlInvalidError,
    internal_response,
    response_of,
)

log = logging.getLogger(__name__)
Serve = Callable[[Scope, Body], Awaitable[Response]]


class Endpoint:
    """Serves requests of any method to one path."""

    def __init__(self, serve: Serve, pace: Pace) -> None:
        self._serve = serve
        self._pace = pace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        body = Body(scope, receive, self._pace)
        try:
            response = await self._serve(scope, body)
        except (RemoraError, HttpError) as refusal:
            response = response_of(refusal)
        except ClientDisconnect:
            return
        except Exception:
            number = secrets.token_hex(8)
            log.exception("internal error %s in %s %s", number, scope["method"], scope["path"])
            response = internal_response(number)
        finally:
            body.close()
        await answer(response, body, scope, receive, send)


async def nowhere(scope: Scope, body: Body) -> Response:
    """Refuse a path that leads nowhere; one that was signed was altered."""
    del body
    if b"signature=" in scope["query_string"] or b"expires=" in scope["query_string"]:
        raise SignedUrlInvalidError
    raise RouteNotFoundError


class Prefixed:
    """Takes the path of the public URL off, whether or not a proxy in front has done so."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        raw = self._prefix.encode()
        if raw and scope["type"] == "http" and scope["raw_path"].startswith(raw + b"/"):
            path = scope["path"].removeprefix(self._prefix)
            scope = {**scope, "raw_path": scope["raw_path"].removeprefix(raw), "path": path}
        await self._app(scope, receive, send)

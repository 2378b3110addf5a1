"""What stands around every handler of the gateway: refusals become answers, and a mistake of ours only a number."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from remora_server.core.errors import RemoraError
from remora_server.core.forwarding import Proxies
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
ORIGIN = "remora.origin"  # The address that a request comes from, for the log.


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
            if isinstance(refusal, SignedUrlInvalidError):
                log.info("%s in %s %s from %s", refusal.reason, scope["method"], scope["path"], scope[ORIGIN])
            response = response_of(refusal)
        except ClientDisconnect:
            return
        except Exception:
            number = secrets.token_hex(8)
            log.exception("internal error %s in %s %s from %s", number, scope["method"], scope["path"], scope[ORIGIN])
            response = internal_response(number)
        finally:
            body.close()
        await answer(response, body, scope, receive, send)


async def nowhere(scope: Scope, body: Body) -> Response:
    """Refuse a path that leads nowhere; one that was signed was altered."""
    del body
    sent = scope["raw_path"] + scope["query_string"]
    if b"signature=" in sent or b"expires=" in sent:
        raise SignedUrlInvalidError
    raise RouteNotFoundError


class Proxied:
    """Notes from where a request comes, as far as trusted proxies say."""

    def __init__(self, app: ASGIApp, proxies: Proxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        host, _ = scope.get("client") or ("", 0)
        headers = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        origin = self._proxies.origin(host, headers)
        await self._app({**scope, ORIGIN: origin.address, "scheme": origin.scheme or scope["scheme"]}, receive, send)


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

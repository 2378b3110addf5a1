"""The doors of the dialects: a key is checked before anything else, and refusals come in the dialect's own words."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Mapping, Sequence

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from remora_server.core.access import require_scope
from remora_server.core.errors import RemoraError, ShuttingDownError, invalid
from remora_server.core.values import replace
from remora_server.gateway.bodies import Body, Pace, answer
from remora_server.gateway.endpoints import ORIGIN
from remora_server.gateway.errors import HttpError, MethodNotAllowedError, RouteNotFoundError, tell_wait
from remora_server.gateway.rates import RateExceededError
from remora_server.gateway.route import Calls, Core, Dialect, Keys, Route, Visit, query_of

log = logging.getLogger(__name__)


class Door:
    """Serves every path of one dialect."""

    def __init__(
        self, dialect: Dialect, core: Core, calls: Calls, keys: Keys, scopes: Mapping[str, str], pace: Pace
    ) -> None:
        self.dialect = dialect
        self._core = core
        self._calls = calls
        self._keys = keys
        self.scopes = scopes
        self._pace = pace
        self._routes: dict[str, tuple[re.Pattern[str], dict[str, Route]]] = {}
        for route in dialect.routes:
            if route.rpc not in scopes:
                raise LookupError(f"{dialect.name}: {route.method} {route.path} names no RPC: {route.rpc}")
            if unknown := {place: rpc for place, rpc in route.fields.items() if rpc not in scopes}:
                raise LookupError(f"{dialect.name}: {route.method} {route.path} names no RPC: {unknown}")
            pattern = _pattern(route.path, dialect.ends_freely)
            self._routes.setdefault(route.path, (pattern, {}))[1][route.method] = route

    def serves(self, path: str) -> bool:
        """Tell whether a path is one of this dialect's, whether or not it leads anywhere."""
        return path.startswith(tuple(self.dialect.prefixes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        body = Body(scope, receive, self._pace)
        counted: dict[str, str] = {}
        try:
            response = await self._serve(scope, body, counted)
        except (RemoraError, HttpError) as refusal:
            response = self._refused(scope, refusal)
        except ClientDisconnect:
            return
        except asyncio.CancelledError:
            # The server ends, and nobody else answers this but with a 500, after which some clients try again.
            response = self._refused(scope, ShuttingDownError())
        except Exception:
            number = secrets.token_hex(8)
            log.exception("internal error %s in %s %s from %s", number, scope["method"], scope["path"], scope[ORIGIN])
            response = self._reconsidered(scope, self.dialect.failure(number))
        finally:
            body.close()
        response.headers.update(counted)
        await answer(response, body, scope, receive, send)

    def _refused(self, scope: Scope, problem: RemoraError | HttpError) -> Response:
        response = self.dialect.refusal(problem)
        tell_wait(response, problem.retry_after_seconds)
        return self._reconsidered(scope, response)

    def _reconsidered(self, scope: Scope, response: Response) -> Response:
        return self.dialect.reconsidered(scope["method"], scope["path"], response)

    async def _serve(self, scope: Scope, body: Body, counted: dict[str, str]) -> Response:
        token = self.dialect.credential(body.headers)
        caller = self._keys.recent(token) or await self._keys.caller(token)
        self._count(caller.key_id, counted)
        path: str = scope["path"]
        if "\0" in path:
            raise RouteNotFoundError
        route, found = self._route(path, scope["method"])
        allowed = replace(caller, scopes=self.dialect.widened(caller.scopes))

        def require(rpc: str) -> None:
            require_scope(allowed, self.scopes[rpc])

        require(route.rpc)
        try:
            query = query_of(scope["query_string"])
        except ValueError as problem:
            raise invalid("query", "has too many parameters") from problem
        return await route.handler(
            Visit(self._core, self._calls, caller, scope["method"], found, query, body.headers, body, require)
        )

    def _count(self, key_id: str, counted: dict[str, str]) -> None:
        """Count a request of a key, or of a token of it, where a dialect limits them; tell how many are left."""
        if self.dialect.rate is None:
            return
        allowance = self.dialect.rate.take(key_id)
        counted["X-RateLimit-Remaining"] = str(allowance.remaining)
        counted["X-RateLimit-Reset"] = str(allowance.reset_seconds)
        if not allowance.is_good:
            raise RateExceededError(allowance.wait_seconds)

    def _route(self, path: str, method: str) -> tuple[Route, Mapping[str, str]]:
        for pattern, routes in self._routes.values():
            found = pattern.fullmatch(path)
            if found is None:
                continue
            # Whoever asks for the head of an answer gets what GET answers; the body stays behind on the way out.
            route = routes.get("GET" if method == "HEAD" else method)
            if route is None:
                raise MethodNotAllowedError(f"use one of {', '.join(sorted(routes))}.")
            return route, found.groupdict()
        raise RouteNotFoundError


class Elsewhere:
    """Sends what is no path of our own to the door that it belongs to: no path belongs to two."""

    def __init__(self, doors: Sequence[Door], nowhere: ASGIApp) -> None:
        self._doors = doors
        self._nowhere = nowhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        path = scope.get("path", "")
        app = next((door for door in self._doors if door.serves(path)), self._nowhere)
        await app(scope, receive, send)


def _pattern(path: str, ends_freely: bool) -> re.Pattern[str]:  # noqa: FBT001 - private
    parts = re.split(r"<(\w+)>", path.rstrip("/") if ends_freely else path)
    made = "".join(f"(?P<{part}>[^/]+)" if place % 2 else re.escape(part) for place, part in enumerate(parts))
    return re.compile(f"{made}/?" if ends_freely else made)

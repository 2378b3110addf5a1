"""Assets over HTTP: files at URLs that stay, for whoever has a key that may read them, or a signed form of the URL."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from remora_server.core import errors
from remora_server.core.access import require_scope
from remora_server.core.assets import Assets
from remora_server.core.downloads import ADMIN
from remora_server.core.model import Caller, Shown
from remora_server.gateway.bodies import Body
from remora_server.gateway.calls import Calls
from remora_server.gateway.downloads import Shelf, lend
from remora_server.gateway.errors import MethodNotAllowedError, RouteNotFoundError
from remora_server.gateway.route import Keys
from remora_server.gateway.signed_urls import ASSETS, DOWNLOADS, SIGNATURE

RPC = "FileService.ReadFile"


@dataclass(frozen=True, slots=True)
class Lending:
    """What reading an asset needs."""

    calls: Calls
    assets: Assets
    shelf: Shelf
    keys: Keys
    scope: str  # of RPC


async def get(lending: Lending, scope: Scope, body: Body) -> Response:
    """Send a file, or the range of it that is asked for."""
    method: str = scope["method"]
    query: bytes = scope["query_string"]
    if SIGNATURE in query:
        permission = lending.shelf.urls.check("GET" if method == "HEAD" else method, scope["raw_path"], query)
        reader = permission.query["reader"]
        call, who = lending.assets.file_of_holder, (permission.workspace_id, reader)
        file = await lending.calls.wait(call, *who, permission.id)
    else:
        caller = await _caller(lending, body.headers)
        if method not in {"GET", "HEAD"}:
            raise MethodNotAllowedError("use GET.")
        reader = ADMIN if caller.is_admin else caller.principal_id
        try:
            file = await lending.calls.wait(lending.assets.file, caller, scope["path"].removeprefix(f"{ASSETS}/"))
        except errors.ValidationFailedError:
            raise RouteNotFoundError from None
    return await lend(lending.shelf, Shown(file), reader, method, body.headers)


async def _caller(lending: Lending, headers: Headers) -> Caller:
    """Return who asks, by a key in any form that a door takes."""
    given = headers.get("authorization", "").strip()
    scheme, _, rest = given.partition(" ")
    key = rest.strip() if scheme.lower() in {"bearer", "oauth"} else given
    token = key or headers.get("x-api-key", "").strip()
    if not token:
        raise errors.TokenMissingError
    caller = lending.keys.recent(token) or await lending.keys.caller(token)
    require_scope(caller, lending.scope)
    return caller


def asset_of(url: str, public_url: str) -> str:
    """Return the id in a URL of an asset or a download of this server, nothing if it is none."""
    for path in (ASSETS, DOWNLOADS):
        begin = f"{public_url}{path}/"
        if url.startswith(begin):
            return url.removeprefix(begin).partition("?")[0].partition("#")[0]
    return ""

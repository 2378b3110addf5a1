"""The HTTP side: signed uploads and downloads, and whether the server is well."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import uvicorn
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Scope

from remora_server.core.admission import Admission
from remora_server.core.assets import Assets
from remora_server.core.downloads import Downloads
from remora_server.core.forwarding import Proxies
from remora_server.core.reception import Reception
from remora_server.core.renditions import Renditions
from remora_server.gateway import assets
from remora_server.gateway.bodies import Body, Interrupts, Pace
from remora_server.gateway.calls import Calls
from remora_server.gateway.doors import Door, Elsewhere
from remora_server.gateway.downloads import Shelf, get
from remora_server.gateway.endpoints import Endpoint, Prefixed, Proxied, nowhere
from remora_server.gateway.health import Health
from remora_server.gateway.oauth import Grants, token
from remora_server.gateway.openapi import document
from remora_server.gateway.protocol import bounded
from remora_server.gateway.route import Keys
from remora_server.gateway.sessions import session
from remora_server.gateway.signed_urls import ASSETS, DOWNLOADS, FORM, SESSION, UPLOADS, SignedUrls
from remora_server.gateway.uploads import Receipt, post, put

MAX_STREAMS = 512
MAX_STREAMS_PER_PRINCIPAL = 256
KEEP_ALIVE_SECONDS = 30
CORS_SECONDS = 600
EXPOSED = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Location",
    "Range",
    "Retry-After",
    "X-Http-Status-Code-Override",
)


@dataclass(frozen=True, slots=True)
class Rules:
    """Core, as the gateway needs it."""

    renditions: Renditions
    downloads: Downloads
    reception: Reception
    assets: Assets
    urls: SignedUrls


@dataclass(frozen=True, slots=True)
class Bounds:
    """What clients are held to, and which pages may be among them."""

    pace: Pace
    drain_seconds: float
    cors_origins: Sequence[str] = ()
    proxies: Proxies = field(default_factory=Proxies)


def _no_doors(_shelf: Shelf, _uploading: Admission) -> Sequence[Door]:
    return ()


class Gateway:
    """Serves HTTP on one port, in the event loop that is running."""

    def __init__(
        self,
        rules: Rules,
        calls: Calls,
        health: Health,
        bound: socket.socket,
        url_path: str,
        bounds: Bounds,
        *,
        doors: Callable[[Shelf, Admission], Sequence[Door]] = _no_doors,
        grants: Grants | None = None,
        keys: Keys | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._health = health
        self._bound = bound
        self._stopping = False
        self._serving: asyncio.Task[None] | None = None
        self._interrupts = Interrupts()
        self._kinds = [Admission(MAX_STREAMS, MAX_STREAMS_PER_PRINCIPAL) for _ in range(2)]
        uploading, downloading = self._kinds
        receipt = Receipt(calls, rules.urls, rules.reception, rules.assets, uploading, self._interrupts)
        shelf = Shelf(calls, rules.urls, rules.renditions, rules.downloads, downloading, bounds.pace.idle_seconds)

        def endpoint(serve: Callable[[Scope, Body], Awaitable[Response]]) -> Endpoint:
            return Endpoint(serve, bounds.pace)

        all_doors = doors(shelf, uploading)
        told = document([door.dialect for door in all_doors], all_doors[0].scopes if all_doors else {}, url_path)

        scope = all_doors[0].scopes[assets.RPC] if all_doors else ""
        lending = [] if keys is None else [assets.Lending(calls, rules.assets, shelf, keys, scope)]

        async def openapi(_request: Request) -> JSONResponse:
            return JSONResponse(told)

        app: ASGIApp = Router(
            routes=[
                Route("/healthz", self._healthz, methods=["GET"]),
                Route("/openapi.json", openapi, methods=["GET"]),
                Route(f"{UPLOADS}/{{ticket}}", endpoint(partial(put, receipt))),
                Route(f"{UPLOADS}/{{ticket}}/{FORM}", endpoint(partial(post, receipt))),
                Route(f"{UPLOADS}/{{ticket}}/{SESSION}", endpoint(partial(session, receipt))),
                Route(f"{DOWNLOADS}/{{file}}", endpoint(partial(get, shelf))),
                *(Route(f"{ASSETS}/{{asset}}", endpoint(partial(assets.get, one))) for one in lending),
                *([] if grants is None else [Route("/oauth/token", endpoint(partial(token, grants)))]),
            ],
            redirect_slashes=False,
            default=Elsewhere(all_doors, endpoint(nowhere)),
        )
        if bounds.cors_origins:
            app = cross_origin(app, bounds.cors_origins)
        self._server = _Quiet(
            uvicorn.Config(
                Proxied(Prefixed(app, url_path), bounds.proxies),
                http=bounded(bounds.pace.idle_seconds),
                ws="none",
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                date_header=True,
                # Only REMORA_PUBLIC_URL says how this server is reached, and no header of a request; see `Proxied`.
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=max(1, round(bounds.drain_seconds)),
                ssl_context_factory=None if tls is None else lambda _config, _default: tls,
            )
        )

    async def start(self) -> None:
        """Begin to serve."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._bound]))
        while not self._server.started and not self._serving.done():  # noqa: ASYNC110 - uvicorn sets a flag and tells nobody
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Say so by health, answer what is under way, and end."""
        self._stopping = True
        for kind in self._kinds:
            kind.close()
        self._interrupts.start()
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving

    async def _healthz(self, _request: Request) -> JSONResponse:
        failing, facts = await asyncio.gather(self._health.failing(), self._health.facts())
        if not self._stopping and not failing:
            return JSONResponse({"status": "ok", **facts})
        return JSONResponse({"status": "unavailable", "failing": list(failing)}, status_code=503)


class _Quiet(uvicorn.Server):
    """Leaves signals to the program: one handler drains both fronts."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def] # noqa: ANN202 - as in uvicorn
        yield


def cross_origin(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Let pages of some web origins call an app, and read of its answers what uploads and downloads need."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
        allow_headers=("*",),
        expose_headers=EXPOSED,
        max_age=CORS_SECONDS,
    )


def bind(listen: str, port: int, *, share_port: bool = False) -> socket.socket:
    """Take a port, which the system chooses for port 0."""
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if share_port:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((listen, port))
    except OSError as problem:
        bound.close()
        raise cannot_listen(listen, port, "HTTP", problem) from problem
    return bound


def cannot_listen(listen: str, port: int, name: str, problem: OSError) -> OSError:
    """Return an error that says which of the two to change, the port or the address."""
    is_of_port = problem.errno in {errno.EADDRINUSE, errno.EACCES}
    flag = f"--{name.lower()}-port" if is_of_port else "--listen"
    return OSError(f"can't listen on {listen}:{port} for {name}: {problem.strerror}; choose another with {flag}.")

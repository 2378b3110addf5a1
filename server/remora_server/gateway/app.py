"""The HTTP side: for now it only tells whether the server is well."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

CheckStores = Callable[[], Awaitable[bool]]


class Gateway:
    """Serves HTTP on one port, in the event loop that is running."""

    def __init__(self, is_well: CheckStores) -> None:
        self._is_well = is_well
        self._serving: asyncio.Task[None] | None = None
        app = Starlette(routes=[Route("/healthz", self._healthz, methods=["GET"])])
        self._server = _Quiet(
            uvicorn.Config(
                app, log_config=None, access_log=False, lifespan="off", server_header=False, date_header=True
            )
        )

    async def start(self, listen: str, port: int, *, share_port: bool = False) -> int:
        """Begin to serve; return the port, which the system chooses for port 0."""
        family = socket.AF_INET6 if ":" in listen else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            bound.bind((listen, port))
        except OSError as problem:
            bound.close()
            raise OSError(
                f"can't listen on {listen}:{port} for HTTP: {problem.strerror}; choose another with --http-port."
            ) from problem
        self._serving = asyncio.create_task(self._server.serve(sockets=[bound]))
        while not self._server.started and not self._serving.done():  # noqa: ASYNC110 - uvicorn sets a flag and tells nobody
            await asyncio.sleep(0.005)
        chosen: int = bound.getsockname()[1]
        return chosen

    async def stop(self) -> None:
        """Answer what is under way, and end."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving

    async def _healthz(self, _request: Request) -> JSONResponse:
        if await self._is_well():
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "unavailable"}, status_code=503)


class _Quiet(uvicorn.Server):
    """Leaves signals to the program: one handler drains both fronts."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def] # noqa: ANN202 - as in uvicorn
        yield

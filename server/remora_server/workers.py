"""Several processes on one host that share both ports: a parent starts them, replaces those that die, and ends them.

Each is a fresh interpreter, since gRPC does not survive a fork. All listen with SO_REUSEPORT, and the system spreads
connections over them; the parent only holds the ports, so that port 0 works, and so that another server is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence

FIRST_DELAY_SECONDS = 0.1
MOST_DELAY_SECONDS = 10.0
STEADY_SECONDS = 60.0  # Whoever lived that long is replaced without delay.
CLOSING_SECONDS = 30.0  # What ending takes beside the drain.
BIND_SECONDS = 2.0  # Workers of a parent that was killed take a moment to go.
READY = b"ready"

log = logging.getLogger(__name__)


def reserve(host: str, port: int) -> socket.socket:
    """Hold a port, which our own workers may share, and nobody else; raise OSError if it is taken."""
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Connections that have ended are no reason to refuse, other servers are.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(held, host, port)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except BaseException:
        held.close()
        raise
    return held


def _bind(held: socket.socket, host: str, port: int) -> None:
    until = time.monotonic() + BIND_SECONDS
    while True:
        try:
            held.bind((host, port))
        except OSError as problem:
            if problem.errno != errno.EADDRINUSE or time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return


class Parent:
    """A worker's line to its parent: it tells when it accepts calls, and ends when the parent does, however."""

    def __init__(self, descriptor: int) -> None:
        self._line = socket.socket(fileno=descriptor)
        # A thread, so that nothing the worker is busy with delays it. The ports must be free for the next server.
        threading.Thread(target=self._end_with, name="parent", daemon=True).start()

    def tell_ready(self) -> None:
        """Tell that both ports accept calls."""
        with contextlib.suppress(OSError):
            self._line.sendall(READY)

    def _end_with(self) -> None:
        with contextlib.suppress(OSError):
            self._line.recv(1)
        os._exit(1)


class Workers:
    """A number of processes that run `command`, with the descriptor of their line to us as its last argument."""

    def __init__(self, command: Sequence[str], count: int, drain_seconds: float) -> None:
        self._command = command
        self._count = count
        self._drain_seconds = drain_seconds
        self._stopping = asyncio.Event()
        self._running: set[asyncio.subprocess.Process] = set()
        self._ready = 0
        self._all_ready = asyncio.Event()
        self._failure = 0

    async def run(self, on_ready: Callable[[], None]) -> int:
        """Keep the workers running until SIGTERM or SIGINT; return 0, or the code of one that could not start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        keeping = [asyncio.create_task(self._keep(number)) for number in range(1, self._count + 1)]
        for event in (self._all_ready, self._stopping):
            starting = [asyncio.create_task(one.wait()) for one in {event, self._stopping}]
            await asyncio.wait(starting, return_when=asyncio.FIRST_COMPLETED)
            for one in starting:
                one.cancel()
            if event is self._all_ready and event.is_set():
                on_ready()
        self._send(signal.SIGTERM)
        _, late = await asyncio.wait(keeping, timeout=self._drain_seconds + CLOSING_SECONDS)
        if late:
            log.error("%d workers did not end in time and are killed", len(late))
            self._send(signal.SIGKILL)
        for result in await asyncio.gather(*keeping, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        return self._failure or int(bool(late))

    async def _keep(self, number: int) -> None:
        """Run one worker after the other, until told to stop."""
        delay = FIRST_DELAY_SECONDS
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            if not self._all_ready.is_set():
                log.error("worker %d ended with code %d before it was ready", number, code)
                self._failure = code if code > 0 else 1
                self._stopping.set()
                return
            if time.monotonic() - began > STEADY_SECONDS:
                delay = FIRST_DELAY_SECONDS
            log.error("worker %d ended with code %d; the next one starts in %.1f s", number, code, delay)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)
            delay = min(delay * 2, MOST_DELAY_SECONDS)

    async def _run_once(self) -> int:
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)  # noqa: FBT003 - its name says what it sets
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    str(theirs.fileno()),
                    pass_fds=[theirs.fileno()],
                    stdout=asyncio.subprocess.DEVNULL,  # Ours tells when all are ready, and ends when we do.
                )
            self._running.add(process)
            if self._stopping.is_set():
                process.send_signal(signal.SIGTERM)
            hearing = asyncio.create_task(self._hear(ours, process.pid))
            try:
                return await process.wait()
            finally:
                self._running.discard(process)
                hearing.cancel()

    async def _hear(self, line: socket.socket, pid: int) -> None:
        with contextlib.suppress(OSError):
            if await asyncio.get_running_loop().sock_recv(line, len(READY)) != READY:
                return
            log.info("process %d serves", pid)
            self._ready += 1
            if self._ready >= self._count:
                self._all_ready.set()

    def _send(self, number: signal.Signals) -> None:
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

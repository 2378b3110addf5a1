"""Names of receivers that are looked up: by threads that nobody waits for, none twice at once, few for one workspace.

The system's resolver can't be interrupted: a name whose servers don't answer holds its thread longer than any message
is waited for. So a name that hangs is not asked for again meanwhile, and of one workspace only a few may hang.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import httpcore

from remora_server.core.threads import Threads

LookUp = Callable[[str, int], Sequence[str]]

MOST, MOST_OF_ONE = 256, 16


class LookupsBusyError(Exception):
    """As many names are looked up as there may be, which is no fault of the one that was to come next."""


class TooManyLookupsError(httpcore.ConnectError):
    """As many names are looked up for a workspace as there may be."""


def look_up(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host, each once; raise OSError if there is none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Lookups:
    """Looks names up; for use from any event loop."""

    def __init__(self, look_up: LookUp = look_up, *, most: int = MOST, most_of_one: int = MOST_OF_ONE) -> None:
        self._look_up = look_up
        self._most = most
        self._most_of_one = most_of_one
        # Their threads end with the program, whatever they wait for.
        self._threads = Threads(most, "resolver")
        self._lock = threading.Lock()
        self._running: dict[tuple[str, int], Future[Sequence[str]]] = {}
        self._of_one: Counter[str] = Counter()

    async def find(self, host: str, port: int, workspace_id: str) -> Sequence[str]:
        """Return the addresses of a host; raise OSError or UnicodeError if there is none."""
        running = self._begun((host, port), workspace_id)
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def tell(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # Who waited has gone, with their event loop.
                loop.call_soon_threadsafe(ended.set)

        running.add_done_callback(tell)
        await ended.wait()
        return running.result()

    def close(self) -> None:
        """Look nothing up any more; what hangs is left alone."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begun(self, name: tuple[str, int], workspace_id: str) -> Future[Sequence[str]]:
        with self._lock:
            running = self._running.get(name)
            if running is not None:
                return running
            if self._of_one[workspace_id] >= self._most_of_one:
                raise TooManyLookupsError(f"{self._most_of_one} hosts of this workspace are being looked up in vain")
            if len(self._running) >= self._most:
                raise LookupsBusyError
            running = self._running[name] = self._threads.submit(self._look_up, *name)
            self._of_one[workspace_id] += 1

        def end(_: object) -> None:
            with self._lock:
                del self._running[name]
                self._of_one[workspace_id] -= 1
                if not self._of_one[workspace_id]:
                    del self._of_one[workspace_id]

        # Not under the lock: what has ended by now calls back at once.
        running.add_done_callback(end)
        return running

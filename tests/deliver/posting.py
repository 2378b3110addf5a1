"""Ways to post a message from a test, and sockets that answer badly."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from remora_server.core.destinations import Destinations
from remora_server.core.model import Outgoing, Sent
from remora_server.deliver.lookups import Lookups
from remora_server.deliver.lookups import look_up as system_look_up
from remora_server.deliver.sender import Sender

LOOPBACK = Destinations([ipaddress.ip_network("127.0.0.0/8")])


def post(
    *urls: str,
    destinations: Destinations = LOOPBACK,
    look_up: Callable[[str, int], Sequence[str]] = system_look_up,
    timeout_seconds: float = 5.0,
) -> list[Sent]:
    """Post to each URL in turn, by one sender."""

    async def run() -> list[Sent]:
        async with Sender(destinations, Lookups(look_up), timeout_seconds=timeout_seconds) as sender:
            return [await sender.send(Outgoing(url, (("x-test", "1"),), b"{}")) for url in urls]

    return asyncio.run(run())


@contextmanager
def answering(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """Listen, and have each connection answered as raw bytes."""

    def work() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=_serve, args=(connection, answer), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=work, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def _serve(connection: socket.socket, answer: Callable[[socket.socket], object]) -> None:
    try:
        with connection:
            connection.recv(65536)
            answer(connection)
    except OSError:
        return

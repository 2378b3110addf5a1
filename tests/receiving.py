"""Receivers of webhooks on real sockets: they keep what comes, and answer as they are told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.running import until

LOOPBACK = "127.0.0.0/8,::1/128"


@dataclass(frozen=True)
class Received:
    """One request."""

    headers: Mapping[str, str]
    body: bytes
    path: str

    @property
    def id(self) -> str:
        """The `webhook-id`."""
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        """What the body says."""
        return json.loads(self.body)

    @property
    def type(self) -> str:
        """The type of the activity."""
        return str(self.json["type"])


class Receiver:
    """Answers 204 unless `answer` says otherwise; it gets the number of the request, from 0, and may wait."""

    def __init__(self, answer: Callable[[int], int] = lambda _: 204, headers: Mapping[str, str] | None = None) -> None:
        self.received: list[Received] = []
        self.answer = answer
        ours, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            """One connection."""

            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                """Keep the request and answer."""
                body = self.rfile.read(int(self.headers["content-length"]))
                with lock:
                    number = len(ours.received)
                    found = {name.lower(): value for name, value in self.headers.items()}
                    ours.received.append(Received(found, body, self.path))
                self.send_response(ours.answer(number))
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Where it receives."""
        return f"http://127.0.0.1:{self.port}/hook?of=remora"

    @property
    def types(self) -> list[str]:
        """What was told, in order."""
        return [one.type for one in self.received]

    def wait(self, count: int, seconds: float = 20.0) -> list[Received]:
        """Return the requests once there are so many."""
        until(lambda: len(self.received) >= count, seconds)
        return list(self.received)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def receiving(answer: Callable[[int], int] = lambda _: 204, **options: Any) -> Iterator[Receiver]:
    """Run a receiver."""
    receiver = Receiver(answer, **options)
    try:
        yield receiver
    finally:
        receiver.close()

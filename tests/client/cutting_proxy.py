"""A TCP proxy that closes each connection after a number of bytes."""

from __future__ import annotations

import contextlib
import select
import socket
import threading


class CuttingProxy:
    """Passes connections on to a server, and cuts each once `limit` bytes have come from the client."""

    def __init__(self, target_port: int, limit: int) -> None:
        self._target_port = target_port
        self._limit = limit
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """Stop listening and wait for the connections to end."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._pass_on, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._target_port)) as server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            left = self._limit
            while left > 0:
                readable, _, _ = select.select([client, server], [], [], 10)
                if not readable:
                    return
                for source, sink in ((server, client), (client, server)):
                    if source in readable:
                        data = source.recv(min(65536, left) if source is client else 65536)
                        if not data:
                            return
                        sink.sendall(data)
                        left -= len(data) if source is client else 0

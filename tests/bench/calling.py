"""Unary calls as fast as one thread can make them: HTTP/2 frames over plain sockets, one call at a time on each.

A Python gRPC client costs more than the server that it would measure. Here a call costs some 40 microseconds, so the
server is what is seen. Every answer's grpc-status is read; anything but 0 ends the run.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
LARGE_WINDOW = 2**30
RECEIVE_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Calls:
    """What one run of calls came to."""

    per_second: float
    p50_ms: float
    p99_ms: float
    count: int


class _Connection:
    """One socket, and the one call on it."""

    def __init__(self, address: tuple[str, int], path: str, key: str) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._decoder = hpack.Decoder()
        self._buffer = b""
        self._stream = 1
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", f"{address[0]}:{address[1]}"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ]
        if key:
            headers.append(("authorization", f"Bearer {key}"))
        # Encoded without the dynamic table, so that the same bytes serve every call.
        self._headers = b"".join(_literal(name.encode(), value.encode()) for name, value in headers)
        settings = struct.pack(">HI", 4, LARGE_WINDOW)
        window = struct.pack(">I", LARGE_WINDOW)
        self.socket.sendall(PREFACE + _frame(SETTINGS, 0, 0, settings) + _frame(WINDOW_UPDATE, 0, 0, window))
        self.sent_at = 0.0

    def send(self, message: bytes) -> None:
        """Send one call."""
        body = b"\0" + struct.pack(">I", len(message)) + message
        frames = [_frame(HEADERS, END_HEADERS, self._stream, self._headers)]
        for start in range(0, len(body), 16384):
            piece = body[start : start + 16384]
            frames.append(_frame(DATA, END_STREAM if start + 16384 >= len(body) else 0, self._stream, piece))
        self.sent_at = time.perf_counter()
        self.socket.sendall(b"".join(frames))
        self._stream += 2

    def receive(self) -> bool:
        """Take what has come; tell whether the call is answered, and raise unless its status is OK."""
        came = self.socket.recv(RECEIVE_BYTES)
        if not came:
            raise ConnectionError("the server closed the connection")
        self._buffer += came
        answered = False
        while len(self._buffer) >= 9:
            length = int.from_bytes(self._buffer[:3], "big")
            kind, flags = self._buffer[3], self._buffer[4]
            if len(self._buffer) < 9 + length:
                break
            payload, self._buffer = self._buffer[9 : 9 + length], self._buffer[9 + length :]
            if kind == HEADERS:
                fields = {str(name): str(value) for name, value in self._decoder.decode(payload)}
                if flags & END_STREAM:
                    if fields.get("grpc-status") != "0":
                        raise RuntimeError(f"a call failed: {fields}")
                    answered = True
            elif kind == PING and not flags & ACK:
                self.socket.sendall(_frame(PING, ACK, 0, payload))
            elif kind == SETTINGS and not flags & ACK:
                self.socket.sendall(_frame(SETTINGS, ACK, 0, b""))
            elif kind in {GOAWAY, RST_STREAM}:
                raise RuntimeError("the server gave a call up")
        return answered


def call_for(
    go_on: Callable[[float], bool], address: str, path: str, key: str, connections: int, make: Callable[[int], bytes]
) -> Calls:
    """Keep `connections` calls in flight while `go_on` says so; `make` returns the message of the n-th call.

    `go_on` is asked after each answer, with the seconds since the beginning.
    """
    host, _, port = address.rpartition(":")
    chooser = selectors.DefaultSelector()
    opened = [_Connection((host, int(port)), path, key) for _ in range(connections)]
    latencies: list[float] = []
    number = 0
    began = time.perf_counter()
    for connection in opened:
        chooser.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(make(number))
        number += 1
    in_flight = connections
    while in_flight:
        for event, _ in chooser.select():
            connection = event.data
            if not connection.receive():
                continue
            now = time.perf_counter()
            latencies.append(now - connection.sent_at)
            if go_on(now - began):
                connection.send(make(number))
                number += 1
            else:
                in_flight -= 1
    took = time.perf_counter() - began
    for connection in opened:
        connection.socket.close()
    latencies.sort()
    count = len(latencies)
    return Calls(count / took, latencies[count // 2] * 1000, latencies[count * 99 // 100] * 1000, count)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """Encode a header as a literal that is never indexed (RFC 7541, 6.2.3), without Huffman coding."""
    return b"\x10" + _length(name) + name + _length(value) + value


def _length(text: bytes) -> bytes:
    if len(text) < 127:
        return bytes((len(text),))
    return b"\x7f" + bytes((len(text) - 127,))

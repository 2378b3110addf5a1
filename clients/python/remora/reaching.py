"""Why a server that answers at an address does not serve this client."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from typing import NamedTuple

import grpc

from remora.addresses import DEFAULT_PORT, host_and_port

LOOK_SECONDS = 2.0
# What begins a connection of HTTP/2: its preface and empty settings. An answer begins with settings, too.
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
KIND_AT, SETTINGS_FRAME = 3, b"\x04"  # Where a frame says what it is, and what settings say.
NOT_SERVING = b"\x08\x02"  # A HealthCheckResponse with that status.


class Way(NamedTuple):
    """The way to a server: its address, the file of certificates if it is TLS, and the client's own certificate."""

    address: str
    ca: str | os.PathLike[str] | None = None
    cert: str | os.PathLike[str] | None = None


def explain(way: Way, channel: grpc.Channel) -> str:
    """Look at the address once, and say why who answers there serves nobody; return nothing if the look tells nothing.

    The channel is used to ask about health; unlike the client's own, it must not wait for good health.
    """
    host, port = host_and_port(way.address)
    if not port:
        return ""
    look = _Look(host, port)
    try:
        found = _over_tls(look, way) if way.ca is not None else _plainly(look, way)
    except OSError:
        return ""  # Nobody answers, which gRPC says as well.
    return found if found is not None else _health(look, way, channel)


def _plainly(look: _Look, way: Way) -> str | None:
    """Return what is wrong with a way without TLS, or None."""
    answer = look.plain_answer()
    if _is_http1(answer):
        return _http_port(way)
    if _is_http2(answer):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # Nothing is sent: whose certificate it is does not matter.
    try:
        look.tls_answer(context)
    except ssl.SSLError:
        return ""
    return f"the server at {way.address} speaks TLS; give its certificate with --ca."


def _over_tls(look: _Look, way: Way) -> str | None:
    """Return what is wrong with a way over TLS, or None."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(way.ca)
        if way.cert is not None:
            context.load_cert_chain(way.cert)
    except ssl.SSLError:
        own = "" if way.cert is None else f", or {way.cert} no certificate with its key"
        return f"{way.ca} holds no certificate in PEM{own}."
    try:
        answer = look.tls_answer(context)
    except ssl.SSLCertVerificationError as problem:
        reason = problem.verify_message.rstrip(".")
        return (
            f"the certificate of {way.address} is not trusted by {way.ca}, or is for another name ({reason}). "
            "Name the right file with --ca."
        )
    except ssl.SSLError:
        answer = look.plain_answer()
        if _is_http2(answer):
            return f"the server at {way.address} does not speak TLS; leave out --ca."
        return _http_port(way) if _is_http1(answer) else ""
    if not answer:
        return _hung_up(way)
    return _http_port(way) if _is_http1(answer) else None


def _hung_up(way: Way) -> str:
    # Over TLS 1.3 a server that wants a certificate says so only after the handshake, by hanging up.
    asking = (
        "if it asks its clients for a certificate, give one with --cert."
        if way.cert is None
        else f"does it trust the certificate in {way.cert}?"
    )
    return f"the server at {way.address} hung up after the TLS handshake; {asking}"


def _health(look: _Look, way: Way, channel: grpc.Channel) -> str:
    check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
    with contextlib.suppress(grpc.RpcError):
        if check(b"", timeout=look.seconds_left()) == NOT_SERVING:
            return (
                f"the server at {way.address} was reached, but says that it can't serve now (health NOT_SERVING): its "
                "database or storage does not answer, or it is about to stop. Try again soon; its log tells more."
            )
    return ""


def _http_port(way: Way) -> str:
    return (
        f"{way.address} is an HTTP port; name that of gRPC, which is {DEFAULT_PORT} unless a server was told another."
    )


def _is_http1(answer: bytes) -> bool:
    return answer.startswith(b"HTTP/1.")


def _is_http2(answer: bytes) -> bool:
    return answer[KIND_AT : KIND_AT + 1] == SETTINGS_FRAME


class _Look:
    """Connections that only ask who answers, all of them within one limit of time."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._until = time.monotonic() + LOOK_SECONDS

    def seconds_left(self) -> float:
        """Return how long the look may still take."""
        return max(self._until - time.monotonic(), 0.01)

    def plain_answer(self) -> bytes:
        """Return how a server answers a greeting without TLS: nothing if it hangs up."""
        with self._connected() as connected:
            return self._greet(connected)

    def tls_answer(self, context: ssl.SSLContext) -> bytes:
        """Return how a server answers a greeting over TLS; raise ssl.SSLError where there is none to speak of."""
        context.set_alpn_protocols(["h2"])
        with self._connected() as connected:
            try:
                wrapped = context.wrap_socket(connected, server_hostname=self._host)
            except ConnectionError as problem:
                raise ssl.SSLError(*problem.args) from problem  # It hung up on the handshake.
            with wrapped:
                return self._greet(wrapped)

    def _connected(self) -> socket.socket:
        return socket.create_connection((self._host, self._port), self.seconds_left())

    def _greet(self, connected: socket.socket) -> bytes:
        connected.settimeout(self.seconds_left())
        try:
            connected.sendall(GREETING)
            return connected.recv(64)
        except (ConnectionError, ssl.SSLError):
            return b""

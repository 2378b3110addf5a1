"""One message out: posted to a URL, with a bound on everything that its receiver decides about."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
import uuid
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpcore

from remora_server.core import urls
from remora_server.core.model import Micros, Outgoing, Sent
from remora_server.deliver.lookups import Lookups, LookupsBusyError
from remora_server.deliver.network import AddressRefusedError, CheckedNetwork, Destinations, workspace_sending

MOST_BODY_BYTES = 64 * 1024  # Of an answer; what it says is not looked at.
MOST_CONNECTIONS, IDLE_CONNECTIONS, IDLE_SECONDS = 256, 64, 30.0

log = logging.getLogger(__name__)


class Sender:
    """Posts messages over connections that are kept for a while; for use on one event loop."""

    def __init__(self, destinations: Destinations, lookups: Lookups, *, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        context = ssl.create_default_context()
        self._pools = {
            scheme: httpcore.AsyncConnectionPool(
                ssl_context=context,
                max_connections=MOST_CONNECTIONS,
                max_keepalive_connections=IDLE_CONNECTIONS,
                keepalive_expiry=IDLE_SECONDS,
                # No proxy from the environment, and no redirect, is ever followed: this pool knows neither.
                network_backend=CheckedNetwork(destinations, lookups, is_secure=scheme == "https"),
            )
            for scheme in ("https", "http")
        }

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        for pool in self._pools.values():
            await pool.aclose()

    async def send(self, outgoing: Outgoing) -> Sent:
        """Post a message and return what came of it, whatever that was; raise LookupsBusyError if nothing was tried."""
        began = time.monotonic()
        status, error = 0, ""
        workspace_sending.set(outgoing.workspace_id)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                status = await self._post(outgoing)
        except TimeoutError:
            error = f"no answer within {self._timeout_seconds:g} seconds"
        except AddressRefusedError as problem:
            error = f"not sent: {problem}"
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, ssl.SSLError) as problem:
            error = f"no answer: {_told(problem)}"
        except LookupsBusyError:
            raise
        except Exception as problem:  # noqa: BLE001 - whatever it is, the next message must have its turn.
            error = unexpected(problem)
        else:
            error = _refusal(status)
        return Sent(status, error, _micros_since(began))

    async def _post(self, outgoing: Outgoing) -> int:
        parts = urlsplit(urls.normalize(outgoing.url))
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        url = httpcore.URL(
            scheme=parts.scheme.encode(), host=(parts.hostname or "").encode(), port=parts.port, target=target.encode()
        )
        headers = [("host", parts.netloc), ("content-length", str(len(outgoing.body))), *outgoing.headers]
        seconds = self._timeout_seconds
        timeouts = {"connect": seconds, "read": seconds, "write": seconds, "pool": seconds}
        pool = self._pools[parts.scheme]
        async with pool.stream(
            "POST", url, headers=headers, content=outgoing.body, extensions={"timeout": timeouts}
        ) as response:
            taken = 0
            async for chunk in response.aiter_stream():
                taken += len(chunk)
                if taken > MOST_BODY_BYTES:
                    break  # Which closes the connection.
            return int(response.status)


class BlockingSender:
    """Posts a message from a thread that may wait, over a connection of its own."""

    def __init__(self, destinations: Destinations, lookups: Lookups, *, timeout_seconds: float) -> None:
        self._destinations = destinations
        self._lookups = lookups
        self._timeout_seconds = timeout_seconds

    def send(self, outgoing: Outgoing) -> Sent:
        """Post a message and return what came of it, whatever that was. Not from the event loop."""
        return asyncio.run(self._send(outgoing))

    async def _send(self, outgoing: Outgoing) -> Sent:
        async with Sender(self._destinations, self._lookups, timeout_seconds=self._timeout_seconds) as sender:
            try:
                return await sender.send(outgoing)
            except LookupsBusyError:
                return Sent(error="not sent: too many hosts are being looked up; ask again later")


def unexpected(problem: Exception) -> str:
    """Say of a failure that nobody has thought of where to read about it; to be called where it is handled."""
    number = uuid.uuid4().hex[:8]
    log.error("a message was not sent (%s)", number, exc_info=problem)
    return f"not sent: {type(problem).__name__}, number {number} in the server's log"


def _refusal(status: int) -> str:
    if 200 <= status < 300:  # noqa: PLR2004 - every 2xx.
        return ""
    if 300 <= status < 400:  # noqa: PLR2004 - every 3xx.
        return f"it answered {status}; redirects are not followed, set the URL that it leads to"
    return f"it answered {status}"


def _told(problem: Exception) -> str:
    """Return what a failure says of itself; the names of exceptions are better than nothing."""
    return str(problem)[:200] or type(problem).__name__


def _micros_since(began: float) -> Micros:
    return int((time.monotonic() - began) * 1_000_000)

"""Connections to hosts that others name: resolved once, each address checked, and only such an address connected to.

Between the check and the connection no name is looked up again, so a name can't stand for another address by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import Protocol

import httpcore

from remora_server.deliver.lookups import Lookups

# Of whoever's message a connection is made for; httpcore hands nothing of the kind on.
workspace_sending: ContextVar[str] = ContextVar("workspace_sending", default="")


class Destinations(Protocol):
    """Which addresses may be reached."""

    def may_reach(self, text: str, *, is_secure: bool) -> bool:
        """Tell whether a connection to an address may be made."""
        ...


class AddressRefusedError(httpcore.ConnectError):
    """A host has an address that this service may not reach."""


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Opens the connections of one kind of request, with TLS or without."""

    def __init__(self, destinations: Destinations, lookups: Lookups, *, is_secure: bool) -> None:
        self._destinations = destinations
        self._lookups = lookups
        self._is_secure = is_secure
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the backends of httpcore have it.
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of a host that answers, if all of them may be reached."""
        addresses = await self._resolve(host, port)
        if not all(self._destinations.may_reach(one, is_secure=self._is_secure) for one in addresses):
            raise AddressRefusedError("its host has an address that this service may not reach")
        problem: Exception = httpcore.ConnectError("its host has no address")
        # The limit in `timeout` is for each; who sends has one for all.
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                problem = failed
        raise problem

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def _resolve(self, host: str, port: int) -> Sequence[str]:
        try:
            return await self._lookups.find(host, port, workspace_sending.get())
        except (OSError, UnicodeError) as problem:
            raise httpcore.ConnectError("its host has no address") from problem

"""Names of receivers that are looked up, also those whose servers don't answer."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence

import pytest

from remora_server.core.model import Outgoing, Sent
from remora_server.deliver.lookups import Lookups, LookupsBusyError
from remora_server.deliver.sender import BlockingSender, Sender
from tests.deliver.posting import LOOPBACK
from tests.receiving import receiving

GOOD = "good.example"
HANGING_AT_THE_END = """
import asyncio, time
from remora_server.core.destinations import Destinations
from remora_server.core.model import Outgoing
from remora_server.deliver.lookups import Lookups
from remora_server.deliver.sender import Sender

async def main():
    lookups = Lookups(lambda host, port: time.sleep(120))
    async with Sender(Destinations(), lookups, timeout_seconds=0.1) as sender:
        print((await sender.send(Outgoing("https://example.test/", (), b""))).error)
    lookups.close()

asyncio.run(main())
"""


class Names:
    """A resolver of which only one name's servers answer, until it is told to let go."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.let_go = threading.Event()

    def __call__(self, host: str, _port: int) -> Sequence[str]:
        """Look a name up."""
        self.asked.append(host)
        if host != GOOD:
            self.let_go.wait(60)
        return ["127.0.0.1"]


@pytest.fixture
def names() -> Iterator[Names]:
    """Let go in the end."""
    made = Names()
    yield made
    made.let_go.set()


def sending(lookups: Lookups, work: Callable[[Callable[[str, str], Awaitable[Sent]]], Awaitable[None]]) -> None:
    """Send with little patience."""

    async def run() -> None:
        async with Sender(LOOPBACK, lookups, timeout_seconds=0.2) as sender:
            await work(lambda url, owner: sender.send(Outgoing(url, (), b"{}", owner)))

    asyncio.run(run())


def test_a_name_that_hangs_is_not_looked_up_again(names: Names) -> None:
    """However often it is sent to meanwhile; afterwards it is, and found (P40)."""
    lookups = Lookups(names)

    async def work(send: Callable[[str, str], Awaitable[Sent]]) -> None:
        for _ in range(3):
            assert (await send("http://hangs.example/", "one")).error == "no answer within 0.2 seconds"
        assert names.asked == ["hangs.example"]
        names.let_go.set()
        await send("http://hangs.example/", "one")

    sending(lookups, work)
    assert not lookups._running
    assert not lookups._of_one


def test_one_workspaces_names_delay_no_others(names: Names) -> None:
    """What is too much for one workspace fails there, and there alone (P40)."""

    async def work(send: Callable[[str, str], Awaitable[Sent]]) -> None:
        for number in range(2):
            await send(f"http://hangs{number}.example/", "one")
        refused = await send("http://hangs2.example/", "one")
        assert "2 hosts of this workspace are being looked up" in refused.error
        assert (await send(f"http://{GOOD}:{receiver.port}/", "another")).succeeded
        assert names.asked == ["hangs0.example", "hangs1.example", GOOD]

    with receiving() as receiver:
        sending(Lookups(names, most_of_one=2), work)


def test_no_room_is_no_receivers_failure(names: Names) -> None:
    """Nothing was tried, so nothing has failed (P40)."""
    lookups = Lookups(names, most=1)

    async def work(send: Callable[[str, str], Awaitable[Sent]]) -> None:
        await send("http://hangs.example/", "one")
        with pytest.raises(LookupsBusyError):
            await send(f"http://{GOOD}/", "another")

    sending(lookups, work)
    told = BlockingSender(LOOPBACK, lookups, timeout_seconds=1).send(Outgoing(f"http://{GOOD}/", (), b""))
    assert "ask again later" in told.error


def test_a_program_ends_though_a_name_hangs() -> None:
    """Nobody waits for a resolver at the end."""
    done = subprocess.run(
        [sys.executable, "-c", HANGING_AT_THE_END], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "no answer within 0.1 seconds\n"

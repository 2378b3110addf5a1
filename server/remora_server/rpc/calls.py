"""The two verbs of a front, change and read, and what stands around every call: who calls, and repeats."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextvars import ContextVar
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

from google.protobuf.message import Message

from remora_server.core import fields
from remora_server.core.model import Caller
from remora_server.core.repeats import Repeats

P = ParamSpec("P")
Result = TypeVar("Result")
Response = TypeVar("Response", bound=Message)

_CALLER: ContextVar[Caller] = ContextVar("caller")


class Writer(Protocol):
    """Runs changes one after the other."""

    def submit_to(
        self, call: Callable[[], Result], loop: asyncio.AbstractEventLoop, future: asyncio.Future[Result]
    ) -> None:
        """Queue a change; `future`, of `loop`, gets its outcome once that is durable."""
        ...


class Traffic:
    """How many unary calls are on their way."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0

    def is_single(self) -> bool:
        """Tell whether no call but the one that asks is on its way."""
        return self.calls <= 1


async def obtain(making: Awaitable[Result], give_back: Callable[[Result], object]) -> Result:
    """Wait for something that must be given back, and do that here if whoever wants it goes away meanwhile."""
    made = asyncio.ensure_future(making)
    try:
        return await asyncio.shield(made)
    except asyncio.CancelledError:
        made.add_done_callback(lambda late: late.cancelled() or late.exception() or give_back(late.result()))
        raise


def set_caller(caller: Caller) -> None:
    """Note who makes the call that this task serves."""
    _CALLER.set(caller)


def caller() -> Caller:
    """Return who makes the call that this task serves."""
    return _CALLER.get()


class Calls:
    """Takes core calls off the event loop."""

    def __init__(
        self,
        writer: Writer,
        patient_writer: Writer,
        readers: Executor,
        fetchers: Executor,
        waiters: Executor,
        repeats: Repeats,
    ) -> None:
        self._writer = writer
        self._patient_writer = patient_writer
        self._readers = readers
        self._fetchers = fetchers
        self._waiters = waiters
        self._repeats = repeats

    async def read(self, call: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Run a core call that changes nothing, on a reader thread."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, partial(call, *args, **kwargs))

    async def fetch(self, call: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Run a core call that reads contents of files: from a store that is away, it may take long."""
        return await asyncio.get_running_loop().run_in_executor(self._fetchers, partial(call, *args, **kwargs))

    async def wait(self, call: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Run a core call that waits for bytes or for the writer, on a thread of its own; to its end, once begun."""
        # Unshielded, a caller that goes away would take a call with it that still waits for its thread, such as one
        # that lets go of a file.
        return await asyncio.shield(
            asyncio.get_running_loop().run_in_executor(self._waiters, partial(call, *args, **kwargs))
        )

    async def obtain(
        self, make: Callable[P, Result], give_back: Callable[[Result], object], *args: P.args, **kwargs: P.kwargs
    ) -> Result:
        """Run a core call as `wait` does; if whoever wants its result goes away meanwhile, have it given back."""
        return await obtain(self.wait(make, *args, **kwargs), lambda late: self.behind(partial(give_back, late)))

    def behind(self, call: Callable[[], object]) -> None:
        """Run a core call that nobody waits for, except the end of the server."""
        self._waiters.submit(call)

    async def change(self, call: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Run a core call inside a transaction on the writer; return when its effect is durable."""
        return await self._submit(partial(call, *args, **kwargs), self._writer)

    async def change_many(self, call: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Run a core call that may write many rows, on the writer's own thread."""
        return await self._submit(partial(call, *args, **kwargs), self._patient_writer)

    async def once(
        self,
        method: str,
        request: Message,
        answer: Callable[[], Response],
        make: Callable[[bytes], Response],
        parameters: bytes | None = None,
        *,
        writes_many: bool = False,
    ) -> Response:
        """Run a change that answers a repeated request_id as it did the first time.

        `answer` runs inside a change. `parameters` stands for the request where that is too large to be compared whole.
        """
        request_id: str = getattr(request, "request_id", "")
        if not request_id:
            return await self._submit(answer, self._patient_writer if writes_many else self._writer)
        fields.request_id(request_id)
        if parameters is None:
            bare = type(request)()
            bare.CopyFrom(request)
            bare.ClearField("request_id")
            parameters = bare.SerializeToString(deterministic=True)
        call = partial(
            self._repeats.once, caller(), method, request_id, parameters, lambda: answer().SerializeToString()
        )
        return make(await self._submit(call, self._patient_writer if writes_many else self._writer))

    def _submit(self, call: Callable[[], Result], writer: Writer) -> asyncio.Future[Result]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        writer.submit_to(call, loop, future)
        return future

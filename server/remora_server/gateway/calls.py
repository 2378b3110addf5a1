"""How the gateway calls core: off the event loop, by the verbs that `app.py` hands it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")


class Calls(Protocol):
    """Takes core calls off the event loop."""

    async def read(self, call: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Run a core call that changes nothing and reads no blob store: rows are read by few threads."""
        ...

    async def fetch(self, call: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Run a core call that changes nothing and may ask the blob store, which may be slow to answer."""
        ...

    async def wait(self, call: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Run a core call that waits for bytes or for the writer; to its end, once begun."""
        ...

    async def obtain(
        self, make: Callable[P, Result], give_back: Callable[[Result], object], *args: P.args, **kwargs: P.kwargs
    ) -> Result:
        """Run a core call as `wait` does; if whoever wants its result goes away meanwhile, have it given back."""
        ...

    def behind(self, call: Callable[[], object]) -> None:
        """Run a core call that nobody waits for, except the end of the server."""
        ...

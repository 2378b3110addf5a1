"""What a dialect is made of: routes that each stand for an RPC, and how it reads keys and writes refusals."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol, TypeVar
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.responses import Response

from remora_server.core.activity import ActivityLog
from remora_server.core.admission import Admission
from remora_server.core.arrivals import Arrivals
from remora_server.core.assets import Assets
from remora_server.core.attachments import Attachments
from remora_server.core.digests import Digests
from remora_server.core.downloads import Downloads
from remora_server.core.errors import RemoraError, invalid
from remora_server.core.files import Files
from remora_server.core.issues import Issues
from remora_server.core.links import Links
from remora_server.core.messages import Messages
from remora_server.core.model import Caller
from remora_server.core.ports import Clock, DirectTransfers
from remora_server.core.projects import Projects
from remora_server.core.renditions import Renditions
from remora_server.core.temporary import Temporary
from remora_server.core.tickets import Tickets
from remora_server.core.uploads import Uploads
from remora_server.gateway import calls
from remora_server.gateway.bodies import Body
from remora_server.gateway.downloads import Shelf
from remora_server.gateway.errors import HttpError
from remora_server.gateway.rates import Rate

P = ParamSpec("P")
Result = TypeVar("Result")
MAX_JSON_BYTES = 1024 * 1024
MOST_DIGITS = 9


class Calls(calls.Calls, Protocol):
    """Takes core calls off the event loop, those too that change something."""

    async def change(self, call: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Run a core call inside a transaction on the writer; return when its effect is durable."""
        ...


class Keys(Protocol):
    """Tells whom a key stands for."""

    def recent(self, token: str) -> Caller | None:
        """Return the caller if the key was looked up a moment ago."""
        ...

    async def caller(self, token: str) -> Caller:
        """Return the caller as of now, or raise TokenMissingError or TokenExpiredError."""
        ...


@dataclass(frozen=True, slots=True)
class Core:
    """The rules, as dialects call them."""

    attachments: Attachments
    files: Files
    downloads: Downloads
    links: Links
    issues: Issues
    log: ActivityLog
    renditions: Renditions
    tickets: Tickets
    uploads: Uploads
    temporary: Temporary
    shelf: Shelf
    uploading: Admission
    public_url: str  # How the server is reached, without a slash at the end.
    projects: Projects
    arrivals: Arrivals
    transfers: DirectTransfers
    clock: Clock
    messages: Messages
    digests: Digests
    assets: Assets


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of a caller who may make it."""

    core: Core
    calls: Calls
    caller: Caller
    method: str  # HEAD also where the route says GET
    path: Mapping[str, str]  # what stood for the parts of the path in angle brackets
    query: Sequence[tuple[str, str]]
    headers: Headers
    body: Body
    require: Callable[[str], None]  # raises ScopeMissingError unless the caller's key opens the RPC of this name

    def asked(self, name: str, default: str = "") -> str:
        """Return a parameter of the query; of several of one name, the last."""
        return next((value for given, value in reversed(self.query) if given == name), default)

    def asked_all(self, name: str) -> tuple[str, ...]:
        """Return every value of a parameter of the query."""
        return tuple(value for given, value in self.query if given == name and value)

    def asked_whole(self, name: str, default: int, most: int) -> int:
        """Return a parameter of the query that is a whole number from 1 on."""
        return whole(name, self.asked(name, str(default)), most)

    async def json(self) -> dict[str, Any]:
        """Return the body, which must be a JSON object of at most a mebibyte."""
        data = bytearray()
        while piece := await self.body.next():
            data += piece
            if len(data) > MAX_JSON_BYTES:
                raise invalid("body", f"has more than {MAX_JSON_BYTES} bytes")
        try:
            value = json.loads(data)
            # Half a surrogate pair can be escaped in JSON, but never be stored as UTF-8; NaN and 1e999 are no numbers.
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError) as problem:
            raise invalid("body", "is not JSON") from problem
        if not isinstance(value, dict):
            raise invalid("body", "must be a JSON object")
        return value


Handler = Callable[[Visit], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One path and method, the RPC whose scope it asks for, and the document that it follows."""

    method: str
    path: str  # parts in angle brackets stand for one segment each
    rpc: str  # such as `LinkService.CreateLink`
    handler: Handler
    source: str
    query: Mapping[str, str] = field(default_factory=dict)  # parameters and their types, which `openapi.py` knows
    body: Mapping[str, str] = field(default_factory=dict)  # fields of a JSON object; required ones end in an asterisk
    form: bool = False  # whether the body is a multipart form with a file
    statuses: Sequence[int] = (200,)  # of success
    fields: Mapping[str, str] = field(default_factory=dict)  # of a GraphQL schema: those that ask for an RPC each


def _as_it_is(_method: str, _path: str, response: Response) -> Response:
    return response


@dataclass(frozen=True, slots=True)
class Dialect:
    """A system whose clients are served."""

    name: str
    prefixes: Sequence[str]  # of its paths, also of those that lead nowhere
    routes: Sequence[Route]
    credential: Callable[[Headers], str]  # raises TokenMissingError
    refusal: Callable[[RemoraError | HttpError], Response]
    failure: Callable[[str], Response]  # for a mistake of ours, by its number in the log
    security: Sequence[str]  # in which forms a key may come, as in SCHEMES of `openapi.py`
    widened: Callable[[frozenset[str]], frozenset[str]] = frozenset  # what a key's scopes mean at this door
    ends_freely: bool = False  # whether a path may end with a slash or not
    places: Mapping[str, str] = field(default_factory=dict)  # types of the parts of paths; others are texts
    # The last word on a refusal, by method and path of its request.
    reconsidered: Callable[[str, str, Response], Response] = _as_it_is
    rate: Rate | None = None  # how many requests a key may make; None is no limit


def whole(name: str, text: str, most: int) -> int:
    """Return the number that a text spells in decimal digits, which must be from 1 on."""
    # More digits are no number that anybody means, and could be more than Python reads.
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else 0
    if not 1 <= number <= most:
        raise invalid(name, f"must be a whole number from 1 to {most}")
    return number


def query_of(query_string: bytes) -> Sequence[tuple[str, str]]:
    """Return the parameters of a query; bytes that are no UTF-8 are marked."""
    return parse_qsl(query_string.decode("latin-1"), keep_blank_values=True, errors="replace", max_num_fields=100)

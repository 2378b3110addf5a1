"""Page tokens and cursors: positions in a listing that only this service can have written.

A token carries a position and the time it ends, sealed with HMAC-SHA256 under the signing key together with what it
belongs to: the call, its filters, the workspace. It grants nothing; every page is read with the caller's own rights.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from remora_server.core.errors import PageTokenInvalidError, invalid
from remora_server.core.model import Micros, Page
from remora_server.core.ports import Clock, Position
from remora_server.core.values import dataclass

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
LIFETIME: Micros = 3 * 24 * 3600 * 1_000_000
MAC_BYTES = 16
MAX_TOKEN_CHARS = 2048
# The orders that listings have, each with that which reads it from its end.
REVERSED = {
    "CREATE_TIME_DESC": "CREATE_TIME_ASC",
    "CREATE_TIME_ASC": "CREATE_TIME_DESC",
    "UPDATE_TIME_DESC": "UPDATE_TIME_ASC",
    "UPDATE_TIME_ASC": "UPDATE_TIME_DESC",
}

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Span:
    """Which part of a listing is wanted: the first items after a cursor, or the last before one."""

    size: int
    after: str = ""
    before: str = ""
    from_end: bool = False


@dataclass(frozen=True, slots=True)
class Window(Generic[Item]):
    """A part of a listing, with a cursor to each item, and whether more lies on either side."""

    items: Sequence[Item]
    cursors: Sequence[str]
    has_previous: bool
    has_next: bool


class Pages:
    """Seals and opens page tokens and cursors."""

    def __init__(self, signing_key: bytes, clock: Clock) -> None:
        self._key = signing_key
        self._clock = clock

    def token(self, belongs_to: str, position: Position, *, lifetime: Micros | None = LIFETIME) -> str:
        """Seal a position; `lifetime=None` makes one that does not end, as cursors of a log need."""
        ends = 0 if lifetime is None else self._clock.now() + lifetime
        body = json.dumps([ends, *position], separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._mac(belongs_to, body) + body).decode().rstrip("=")

    def position(self, belongs_to: str, token: str, what: str = "page_token") -> Position:
        """Open a token; raise PageTokenInvalidError if it was not made by `token` for the same thing."""
        try:
            if len(token) > MAX_TOKEN_CHARS:
                raise PageTokenInvalidError(what)
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as problem:
            raise PageTokenInvalidError(what) from problem
        mac, body = sealed[:MAC_BYTES], sealed[MAC_BYTES:]
        # Re-encoding catches the unused bits of the last character, which decoding would let through.
        canonical = base64.urlsafe_b64encode(sealed).decode().rstrip("=")
        if canonical != token or not hmac.compare_digest(mac, self._mac(belongs_to, body)):
            raise PageTokenInvalidError(what)
        ends, *position = json.loads(body)
        if ends and ends < self._clock.now():
            raise PageTokenInvalidError(what)
        return tuple(position)

    def page(
        self,
        belongs_to: Sequence[object],
        page_size: int,
        page_token: str,
        fetch: Callable[[Position | None, int], Sequence[Item]],
        position_of: Callable[[Item], Position],
    ) -> Page[Item]:
        """Fetch one page, and a token for the next if there is more."""
        size = checked_size(page_size)
        sealed_for = repr(belongs_to)
        after = self.position(sealed_for, page_token) if page_token else None
        items = fetch(after, size + 1)
        if len(items) <= size:
            return Page(items)
        items = items[:size]
        return Page(items, self.token(sealed_for, position_of(items[-1])))

    def start(self, belongs_to: Sequence[object], span: Span) -> Position | None:
        """Return where a span begins, None for an end of the listing."""
        cursor, name = (span.before, "before") if span.from_end else (span.after, "after")
        return self.position(repr(belongs_to), cursor, name) if cursor else None

    def window(
        self,
        belongs_to: Sequence[object],
        span: Span,
        fetched: Sequence[Item],
        position_of: Callable[[Item], Position],
    ) -> Window[Item]:
        """Make a window of what was fetched from the start of a span on, one item more than its size if there are."""
        sealed_for = repr(belongs_to)
        has_more, items = len(fetched) > span.size, fetched[: span.size]
        if span.from_end:
            items = items[::-1]
        cursors = [self.token(sealed_for, position_of(item)) for item in items]
        # What a cursor names lies on its other side.
        is_behind = bool(span.before if span.from_end else span.after)
        before, behind = (has_more, is_behind) if span.from_end else (is_behind, has_more)
        return Window(items, cursors, before, behind)

    def _mac(self, belongs_to: str, body: bytes) -> bytes:
        return hmac.digest(self._key, belongs_to.encode() + b"\0" + body, hashlib.sha256)[:MAC_BYTES]


def checked_size(page_size: int) -> int:
    """Return the number of items to give: 0 asks for the default, more than the maximum is cut, less than 0 refused."""
    if page_size < 0:
        raise invalid("page_size", "must not be negative")
    return min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)

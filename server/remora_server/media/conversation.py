"""The server's side of one job: it answers what the child that decodes asks, and believes little of what it says."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

from remora_server.core.model import Media
from remora_server.core.ports import BlobReader, Picture
from remora_server.media import frames
from remora_server.media.frames import HEAD, LENGTH, Kind, NonsenseError
from remora_server.media.limits import Limits

MOST_FACTS = 32  # Far more often than any decoder finds out something.
LEAST_COUNTED_BYTES = 64 * 1024  # Of a question for content, since each costs the blob store a call.


class SourceFailedError(Exception):
    """The content could not be read; its cause is for whoever wanted it decoded."""


class Deadline:
    """Until when an answer has to come."""

    def __init__(self, seconds: float, stopped_seconds: float = 0.0) -> None:
        self._until = time.monotonic() + seconds
        self._allowed = self._stoppable = stopped_seconds

    def left(self) -> float:
        """Return how many seconds are left; raise TimeoutError if none are."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    @property
    def is_worn_out(self) -> bool:
        """Whether the server itself took longer than this deadline allows."""
        return self._allowed > 0 and self._stoppable <= 0

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the clock while the server itself is busy, as far as this deadline allows."""
        began = time.monotonic()
        try:
            yield
        finally:
            spent = min(time.monotonic() - began, self._stoppable)
            self._stoppable -= spent
            self._until += spent


class Conversation:
    """One job's line. `media` and `pictures` are what was said so far, also when the child ended before it was done."""

    def __init__(self, line: socket.socket, source: BlobReader, deadline: Deadline, limits: Limits) -> None:
        self._line = line
        self._source = source
        self._deadline = deadline
        self._left_bytes = limits.read_bytes + 2 * frames.MOST_READ_BYTES
        self.media = Media()
        self.pictures: list[Picture] = []
        self.refusal = ""
        self.missing = False
        self.done = False
        self.has_asked = False  # So somebody is there.
        self._facts = 0

    def hold(self) -> None:
        """Answer until the child is done or gone.

        TimeoutError is raised at the deadline, NonsenseError if it says what no decoder says, SourceFailedError if the
        content could not be read.
        """
        with contextlib.suppress(EOFError, ConnectionError):
            while not self.done:
                kind, length = frames.checked_head(self._receive(HEAD.size))
                self._take(kind, self._receive(length))

    def _take(self, kind: Kind, body: bytes) -> None:
        if kind is Kind.READ:
            self.has_asked = True
            self._answer(*frames.checked_read(body, self._source.size_bytes))
        elif kind is Kind.FACTS:
            self._facts += 1
            if self._facts > MOST_FACTS:
                raise NonsenseError
            self.media = frames.checked_facts(body)
        elif kind is Kind.PICTURE:
            self._keep(frames.checked_picture(body))
        elif kind is Kind.REFUSED:
            self.refusal = frames.checked_text(body)
        elif kind is Kind.MISSING:
            self.missing = True
        else:
            self.done = True

    def _keep(self, picture: Picture) -> None:
        if any(one.rendition == picture.rendition for one in self.pictures):
            raise NonsenseError
        self.pictures.append(picture)

    def _answer(self, offset: int, size: int) -> None:
        self._left_bytes -= max(size, LEAST_COUNTED_BYTES)
        if self._left_bytes < 0:
            raise NonsenseError  # A child of ours counts as well, and tells before.
        with self._deadline.stopped():
            try:
                data = self._source.read(offset, size)
            except Exception as problem:
                raise SourceFailedError from problem
        self._line.settimeout(self._deadline.left())
        self._line.sendall(LENGTH.pack(len(data)))
        self._line.sendall(data)

    def _receive(self, size_bytes: int) -> bytes:
        """Return exactly so many bytes; a child that sends them one by one gets no more time for it."""
        body = bytearray(size_bytes)
        view = memoryview(body)
        while view:
            self._line.settimeout(self._deadline.left())
            count = self._line.recv_into(view)
            if count == 0:
                raise EOFError
            view = view[count:]
        return bytes(body)

"""Bytes to another program and its answers: both at once, in bounds, until a deadline.

Nobody there is trusted to be quick, to read what it is sent, or to say little.
"""

from __future__ import annotations

import functools
import os
import selectors
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

HEARD_BYTES = 64 * 1024
ANSWER_BYTES = 4096
LOOK_SECONDS = 0.1  # How soon it is seen that a program ended whose children keep its output open.


class TooSlowError(Exception):
    """The deadline has passed; a TimeoutError might as well be the source's own."""


class Channel(Protocol):
    """One direction: a pipe, or a socket."""

    def fileno(self) -> int:
        """Return its descriptor."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Exchange:
    """Bytes go out and answers come in, each as fast as the other side goes."""

    def __init__(self, out: Channel, answers: Sequence[tuple[Channel, bytearray]], seconds: float) -> None:
        self.is_all_sent = False
        self._out = out
        self._answers = answers
        self._until = time.monotonic() + seconds
        self._left = memoryview(b"")

    def run(self, pieces: Iterator[bytes], is_over: Callable[[], bool]) -> None:
        """Send while somebody takes it and hear while somebody speaks, unless it `is_over`; raise TooSlowError."""
        with selectors.DefaultSelector() as ready:
            self._register(ready, self._out, selectors.EVENT_WRITE, functools.partial(self._send, pieces))
            for channel, answer in self._answers:
                self._register(ready, channel, selectors.EVENT_READ, functools.partial(_hear, channel, answer))
            while ready.get_map():
                over = is_over()  # Asked before the last look, so that nothing is missed which was said by then.
                for key, _ in ready.select(0 if over else LOOK_SECONDS):
                    if not key.data():
                        ready.unregister(key.fileobj)
                        if key.fileobj is self._out:
                            self._out.close()
                if over:
                    return
                if time.monotonic() > self._until:
                    raise TooSlowError

    @staticmethod
    def _register(ready: selectors.BaseSelector, channel: Channel, event: int, take_turn: Callable[[], bool]) -> None:
        os.set_blocking(channel.fileno(), False)
        ready.register(channel, event, take_turn)

    def _send(self, pieces: Iterator[bytes]) -> bool:
        """Send some, and have more ready; tell whether there is more, and somebody who takes it."""
        try:
            self._left = self._left[os.write(self._out.fileno(), self._left) :]
        except BlockingIOError:
            return True
        except OSError:  # Nobody reads any more; whether that is right, the answer says.
            return False
        self._left = self._left or memoryview(next(pieces, b""))
        self.is_all_sent = not self._left
        return not self.is_all_sent


def _hear(channel: Channel, answer: bytearray) -> bool:
    """Keep what is said, up to a bound, beyond which it is dropped; tell whether more can come."""
    try:
        said = os.read(channel.fileno(), HEARD_BYTES)
    except BlockingIOError:
        return True
    except OSError:
        return False
    answer += said[: ANSWER_BYTES - len(answer)]
    return bool(said)

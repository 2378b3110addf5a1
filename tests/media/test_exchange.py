"""What a scanner's tests can't bring about by themselves: something is said at the very moment at which it is over."""

from __future__ import annotations

import os

from remora_server.media.exchange import Exchange


def test_what_was_said_by_the_end_is_heard() -> None:
    """Once it is over nobody waits, but what lies there is taken along."""
    incoming, theirs = os.pipe()
    taken, outgoing = os.pipe()
    with os.fdopen(incoming, "rb") as heard, os.fdopen(outgoing, "wb", 0) as out, os.fdopen(taken), os.fdopen(theirs):
        os.write(theirs, b"Bad\n")
        answer = bytearray()
        Exchange(out, [(heard, answer)], 20).run(iter([b"x"]), lambda: True)
    assert answer == b"Bad\n"

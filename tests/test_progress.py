"""How far a long command has come."""

from __future__ import annotations

import io
import sys

import pytest

from remora_server import progress
from remora_server.progress import CLEAR, Progress


class Terminal(io.StringIO):
    """Somebody watches."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line is rewritten, not too often, and is gone in the end."""
    stream = Terminal()
    with Progress(stream) as shown:
        shown.show(lambda: "1 of 3")
        shown.show(lambda: "2 of 3")
        monkeypatch.setattr(progress, "REWRITE_SECONDS", 0.0)
        shown._next = 0.0
        shown.show(lambda: "3 of 3")
    assert stream.getvalue() == f"{CLEAR}1 of 3{CLEAR}3 of 3{CLEAR}"


def test_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short run says nothing; a long one plain lines."""
    stream = io.StringIO()
    with Progress(stream) as shown:
        shown.show(lambda: sys.exit("nobody asked"))
        monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
        shown._next = 0.0
        for number in range(2):
            shown.show(lambda number=number: f"{number} of 3")  # type: ignore[misc]
    assert stream.getvalue() == "0 of 3\n1 of 3\n"

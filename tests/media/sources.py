"""Content for the tests of media, as a blob store would give it."""

from __future__ import annotations

import threading


class Bytes:
    """A blob in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""
        return len(self.data)

    def read(self, offset: int, size: int) -> bytes:
        """Return some of them."""
        return self.data[offset : offset + size]

    def close(self) -> None:
        """Hold nothing."""


class Gated(Bytes):
    """A blob whose reader waits until the gate is opened: its job is under way for so long."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.asked = threading.Event()
        self.gate = threading.Event()

    def read(self, offset: int, size: int) -> bytes:
        """Return some of the bytes, once that is allowed."""
        self.asked.set()
        assert self.gate.wait(30)
        return super().read(offset, size)


class Broken(Bytes):
    """A blob that can't be read."""

    def __init__(self, error: Exception) -> None:
        super().__init__(b"x" * 1000)
        self.error = error

    def read(self, offset: int, size: int) -> bytes:  # noqa: ARG002 - the port's
        """Raise what was given."""
        raise self.error

"""How far a transfer is, as told to the caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Phase = Literal["hashing", "sending", "verifying", "receiving"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer is. While sending, `done_bytes` is what the server has stored for good."""

    name: str
    phase: Phase
    done_bytes: int
    total_bytes: int | None
    resumed_at: int = 0

    @property
    def percent(self) -> int | None:
        """Give the whole percents done; None while the size is not known."""
        if self.total_bytes is None:
            return None
        return 100 if self.total_bytes == 0 else self.done_bytes * 100 // self.total_bytes

    def __str__(self) -> str:
        share = f"{self.done_bytes} bytes" if self.percent is None else f"{self.percent} %"
        return f"{self.name}: {self.phase} {share}"


OnProgress = Callable[[Progress], object]

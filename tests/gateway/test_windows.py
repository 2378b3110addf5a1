"""Pages by number."""

from __future__ import annotations

import pytest

from remora_server.core.model import Page
from remora_server.gateway import windows


@pytest.mark.parametrize("total", [0, 1, 5, 6])
@pytest.mark.parametrize("backwards", [False, True])
def test_windows(monkeypatch: pytest.MonkeyPatch, total: int, *, backwards: bool) -> None:
    """Every window is the one of the whole listing, from either end, however the listing is cut."""
    monkeypatch.setattr(windows, "STEP", 2)
    asked: list[str] = []

    def listing(size: int, token: str) -> Page[int]:
        asked.append(token)
        start = int(token or "0")
        ends = start + size >= total
        return Page(range(start, min(start + size, total)), "" if ends else str(start + size), total)

    whole = list(range(total))[::-1] if backwards else list(range(total))
    for offset in range(total + 3):
        for size in (1, 2, 3, 10):
            expected = (whole[offset : offset + size], total)
            found, told = windows.window(listing, offset, size, backwards=backwards)
            assert (list(found), told) == expected, (offset, size)
    asked.clear()
    windows.window(listing, 0, 2)
    assert asked == [""]

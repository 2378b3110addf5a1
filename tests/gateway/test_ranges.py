"""Which range of a file a download asks for."""

from __future__ import annotations

import pytest

from remora_server.core.errors import ReadOffsetTooLargeError
from remora_server.gateway.ranges import wanted


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-9", (0, 10)),
        ("bytes=5-", (5, 5)),
        ("bytes=9-9", (9, 1)),
        ("bytes=3-100", (3, 7)),
        ("bytes=-3", (7, 3)),
        ("bytes=-100", (0, 10)),
        (" bytes=0-0 ", (0, 1)),
        (None, None),
        ("", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=5-4", None),
        ("bytes=0-0,2-2", None),
        ("bytes=0-0," * 1000 + "0-0", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
        ("bytes=0-0x", None),
        ("bytes=\u0660-\u0661", None),
        ("bytes=" + "9" * 20 + "-", None),
    ],
)
def test_of_ten_bytes(header: str | None, found: tuple[int, int] | None) -> None:
    """One range is answered, more than one or none that is understood by the whole (P42)."""
    assert wanted(header, 10) == found


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=10-", 10), ("bytes=10-11", 10), ("bytes=-0", 10), ("bytes=0-", 0)]
)
def test_none_of_it(header: str, size: int) -> None:
    """A range that holds no byte can't be answered."""
    with pytest.raises(ReadOffsetTooLargeError):
        wanted(header, size)

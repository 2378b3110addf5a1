"""The Range of a download: at most one, since many would cost more than the file and nobody needs them."""

from __future__ import annotations

import re

from remora_server.core.errors import ReadOffsetTooLargeError

ONE_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)


def wanted(header: str | None, size_bytes: int) -> tuple[int, int] | None:
    """Return offset and length of the one range that is asked for; None for the whole file.

    As RFC 9110 allows, everything but a single range of bytes is answered with the whole file. Raise
    ReadOffsetTooLargeError for one that holds no byte of it.
    """
    found = ONE_RANGE.fullmatch((header or "").strip())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        length = min(int(found[2]), size_bytes)
        if not length:
            raise ReadOffsetTooLargeError(size_bytes)
        return size_bytes - length, length
    first = int(found[1])
    last = min(int(found[2]), size_bytes - 1) if found[2] else size_bytes - 1
    if found[2] and int(found[2]) < first:
        return None
    if first >= size_bytes:
        raise ReadOffsetTooLargeError(size_bytes)
    return first, last - first + 1

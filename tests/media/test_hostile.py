"""Hostile content: whatever it is, a job ends within its limits, with an answer, and the next one works."""

from __future__ import annotations

import os
import re
import time

import pytest

from remora_server.media.limits import Limits
from remora_server.media.pool import Pool
from tests.media.bombs import BOMBS
from tests.media.making import encoded, half_and_half
from tests.media.malformed import malformed, outcome

REASONS = (
    r"has (\d+ x \d+ pixels, more than [\d.]+ million|more than \d+ million pixels)",
    r"needs more than 512 MiB of memory",
    r"takes more than 10 seconds to decode",
    r"has no frame that can be decoded",
    r"is damaged, or not what it seems",
)
SHOWN = {
    "PNG, as large as is shown, see-through",
    "GIF, 10,000 frames",
    "JPEG, 19,000 pixels each way",
    "PDF, 10,000 pages",
    "PDF, a huge page",
    "PDF, 100,000 objects",
    "PDF, a huge image",
    "PDF, a line of billions of dashes",
}
LOADED_KIB = 100 * 1024  # What a worker has loaded before it decodes.
IN_BETWEEN = ("image/png", encoded(half_and_half(64, 32), "PNG"))


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb(pool: Pool, name: str) -> None:
    """It is shown, or refused for a reason that says what it takes; it never has more memory than its limit."""
    content_type, make = BOMBS[name]
    data = make()
    began = time.monotonic()
    became = outcome(pool, content_type, data)
    assert time.monotonic() - began < Limits().wall_seconds + 2
    if name in SHOWN:
        assert became == "ready"
    else:
        assert any(re.fullmatch(f"refused: {reason}", became) for reason in REASONS), became
    ending = pool._rendering._lanes[0].last
    assert ending is not None
    assert ending.peak_kib < LOADED_KIB + Limits().memory_bytes // 1024
    assert outcome(pool, *IN_BETWEEN) == "ready"


@pytest.mark.timeout(3600)
def test_malformed_files(pool: Pool) -> None:
    """A damaged file is shown or refused; its decoder does not crash, and is never waited for in vain.

    `scripts/torture` sets REMORA_TEST_MALFORMED and so tries more.
    """
    count = int(os.environ.get("REMORA_TEST_MALFORMED", "200"))
    became = {seed: outcome(pool, content_type, data) for seed, content_type, data in malformed(count)}
    assert {seed: one for seed, one in became.items() if one.startswith("lost")} == {}
    kinds = {one.partition(":")[0] for one in became.values()}
    assert kinds == {"ready", "refused"}
    assert outcome(pool, *IN_BETWEEN) == "ready"

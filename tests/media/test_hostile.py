"""Hostile content: whatever it is, a job ends within its limits, with an answer, and the next one works."""

from __future__ import annotations

import os
import time

import pytest

from remora_server.media.limits import Limits
from remora_server.media.pool import Pool
from tests.media.bombs import BOMBS
from tests.media.making import encoded, half_and_half
from tests.media.malformed import malformed, outcome

MEMORY, DAMAGED = "refused: needs more than 512 MiB of memory", "refused: is damaged, or not what it seems"
EXPECTED = {
    "PNG, 30,000 pixels each way": "refused: has 30000 x 30000 pixels, more than 64 million",
    "PNG, as large as is shown, see-through": "ready",
    "PNG, 2 billion pixels each way": "refused: has 2147483647 x 2147483647 pixels, more than 64 million",
    "PNG, an enormous comment": DAMAGED,
    "GIF, 30,000 pixels each way": "refused: has 30000 x 30000 pixels, more than 64 million",
    "GIF, 10,000 frames": "ready",
    "JPEG, 65,500 pixels each way": "refused: has 65500 x 65500 pixels, more than 400 million",
    "JPEG, 19,000 pixels each way": "ready",
    "JPEG, progressive": "refused: has 19000 x 19000 pixels, more than 89.48 million",
    "BMP, 30,000 pixels each way": "refused: has 30000 x 30000 pixels, more than 64 million",
    "BMP, 4 billion pixels wide": "refused: has 4294967295 x 64 pixels, more than 64 million",
    "TIFF, 30,000 pixels each way": "refused: has 30000 x 30000 pixels, more than 64 million",
    "TIFF, 30,000 pixels each way, all there": "refused: has 30000 x 30000 pixels, more than 64 million",
    "WebP, 16,383 pixels each way": "refused: has more than 64 million pixels",
    "PDF, 10,000 pages": "ready",
    "PDF, a huge page": "ready",
    "PDF, 100,000 objects": "ready",
    "PDF, forms in forms": MEMORY,
    "PDF, a huge image": "ready",
    "PDF, 170 MB of drawing": MEMORY,
    "PDF, a line of billions of dashes": "ready",
    "PDF, arrays in arrays": DAMAGED,
    "film, 65,500 pixels each way": "refused: has no frame that can be decoded",
    "film, 16,000 pixels each way": "refused: has no frame that can be decoded",
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
    assert became == EXPECTED[name]
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

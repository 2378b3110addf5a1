"""One pool for all tests that only decode; those that break its processes make their own."""

from __future__ import annotations

from collections.abc import Iterator

import pillow_heif
import pytest

from remora_server.media.pool import Pool

pillow_heif.register_heif_opener()  # So that tests can write such files.


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    """Return a pool with the limits that a server has."""
    pool = Pool()
    yield pool
    pool.close()

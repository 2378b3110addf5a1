"""Fixtures for tests of core: no server, no network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.core.receiving import SMALL
from tests.core.world import World


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Make worlds with settings of the test's own."""
    made: list[World] = []

    def make(**options: Any) -> World:
        path = tmp_path / f"world{len(made)}"
        path.mkdir()
        made.append(World(path, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """Make a world with usual settings."""
    return make_world()


@pytest.fixture
def small(make_world: Callable[..., World]) -> World:
    """Make a world that cuts uploads small."""
    return make_world(limits=SMALL)

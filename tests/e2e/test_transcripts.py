"""The pages that are printed by demonstrations: they begin as these would print them now."""

from __future__ import annotations

from pathlib import Path

from tests.e2e import demo_cluster, readme

PAGE = Path(__file__).parents[2] / "server" / "docs" / "two-servers.md"


def test_two_servers() -> None:
    """Its reader is told first what to install, and where its commands are found; that is what the script does too."""
    assert PAGE.read_text().startswith(demo_cluster.INTRODUCTION)
    (block,) = readme.blocks("bash", PAGE)
    setup, path = block.splitlines()
    assert setup in (PAGE.parents[2] / "scripts" / "demo-cluster").read_text().splitlines()
    assert path == 'export PATH="$PWD/.venv/bin:$PATH"'

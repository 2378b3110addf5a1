"""A fake server for each test, and a client of it whose state is its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from remora import Client
from tests.client.fake_server import KEY, FakeServer


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """Start a server that fails on demand."""
    server = FakeServer()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of whoever runs the tests gets into them."""
    for name in ("REMORA_ADDRESS", "REMORA_KEY", "REMORA_WORKSPACE", "REMORA_CA", "REMORA_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def client(fake: FakeServer) -> Iterator[Client]:
    """Make a client of the fake server."""
    with Client(fake.address, key=KEY, workspace="demo", patience=10, connect_timeout=2) as made:
        yield made


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """Write a file of several chunks."""
    path = tmp_path / "big.iso"
    path.write_bytes(bytes(range(256)) * 4 * 4096 + b"tail")  # 4 MiB and a little.
    os.utime(path, (1_700_000_000.5, 1_700_000_000.5))
    return path

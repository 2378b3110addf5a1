"""The blob contract in memory."""

from __future__ import annotations

import pytest

from remora_server.core.ports import LandingStore
from remora_server.stores.blobs_memory import MemoryBlobs
from tests.stores.blob_contract import BlobContract, LandingContract


class TestMemoryBlobs(BlobContract, LandingContract):
    """Memory keeps the contract."""

    @pytest.fixture
    def blobs(self) -> LandingStore:
        """Make an empty store."""
        return MemoryBlobs()

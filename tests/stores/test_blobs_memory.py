"""The blob contract in memory."""

from __future__ import annotations

import pytest

from remora_server.core.ports import BlobStore
from remora_server.stores.blobs_memory import MemoryBlobs
from tests.stores.blob_contract import BlobContract


class TestMemoryBlobs(BlobContract):
    """Memory keeps the contract."""

    @pytest.fixture
    def blobs(self) -> BlobStore:
        """Make an empty store."""
        return MemoryBlobs()

"""Secrets that must be read again."""

from __future__ import annotations

import pytest

from remora_server.core.sealing import Seal, SealBrokenError


def test_what_is_sealed_is_opened_for_the_same_thing_only() -> None:
    """Not by another key, not for another thing, not altered, and never readable as it lies."""
    seal = Seal(b"key")
    sealed = seal.seal("whsec_x", "whk_1")
    assert seal.open(sealed, "whk_1") == "whsec_x"
    assert Seal(b"key").open(sealed, "whk_1") == "whsec_x"
    assert b"whsec_x" not in sealed
    assert seal.seal("whsec_x", "whk_1") != sealed
    altered = bytes([*sealed[:-1], sealed[-1] ^ 1])
    for broken, belongs_to, other in (
        (sealed, "whk_2", seal),
        (sealed, "whk_1", Seal(b"other")),
        (altered, "whk_1", seal),
        (b"", "whk_1", seal),
    ):
        with pytest.raises(SealBrokenError):
            other.open(broken, belongs_to)

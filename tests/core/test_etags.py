"""Etags."""

from __future__ import annotations

import pytest

from remora_server.core import etags
from remora_server.core.errors import EtagMismatchError


def test_form() -> None:
    """Etags are quoted, as HTTP wants them."""
    assert etags.etag_of(7) == '"7"'
    assert etags.content_etag_of(b"\xab\x01") == '"ab01"'


def test_require() -> None:
    """No etag skips the check; another is refused with the right one."""
    etags.require("", 7)
    etags.require('"7"', 7)
    for wrong in ('"6"', "7", '"07"', 'W/"7"', "*"):
        with pytest.raises(EtagMismatchError) as refused:
            etags.require(wrong, 7)
        assert refused.value.metadata == {"current_etag": '"7"'}

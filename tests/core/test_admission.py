"""How many streams may be open."""

from __future__ import annotations

import pytest

from remora_server.core.admission import Admission
from remora_server.core.errors import ShuttingDownError, TooManyStreamsError


def test_places() -> None:
    """There are so many in all and for one principal, and a place that is left is free again."""
    admission = Admission(3, 2)
    with admission.stream("jo"), admission.stream("jo"):
        with pytest.raises(TooManyStreamsError), admission.stream("jo"):
            pass
        with admission.stream("kim"), pytest.raises(TooManyStreamsError), admission.stream("lee"):
            pass
        with admission.stream("lee"):
            pass
    with admission.stream("jo"), admission.stream("jo"):
        pass


def test_the_end() -> None:
    """Who is in stays, nobody else is admitted."""
    admission = Admission(3, 2)
    with admission.stream("jo"):
        admission.close()
        with pytest.raises(ShuttingDownError), admission.stream("kim"):
            pass

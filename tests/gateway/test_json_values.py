"""Values that an answer can't hold are told from those that it can."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from remora_server.gateway.json_values import MAX_LEVELS, is_writable, writable


def nested(levels: int) -> Any:
    """Return a list that is so deep, of objects and lists by turns."""
    made: Any = []
    for level in range(levels - 1):
        made = {"a": made} if level % 2 else [made]
    return made


GOOD = {
    "plain": {"a": [1, -0.5, True, None, "é\U0001f600", ""]},
    "a tuple": (1, 2),
    "a long number": 10**2000,
    "deep": nested(MAX_LEVELS),
}
BAD: dict[str, tuple[Any, Any]] = {
    "no number": ({"a": math.nan}, {"a": None}),
    "infinity": ([1, [-math.inf]], [1, [None]]),
    "half a character": (["\ud800x"], ["?x"]),
    "half a character as a name": ({"\udc00": 1}, {"?": 1}),
    "a number without end": ([10**5000], [None]),
    "no JSON": ([{1}], [None]),
    "too deep": ([nested(MAX_LEVELS)], None),
}


@pytest.mark.parametrize("what", GOOD)
def test_what_can_be_written(what: str) -> None:
    """What is of JSON stays as it is."""
    assert is_writable(GOOD[what])
    assert json.dumps(writable(GOOD[what])) == json.dumps(GOOD[what])


@pytest.mark.parametrize("what", BAD)
def test_what_can_not_be_written(what: str) -> None:
    """What is not is found wherever it is, and nothing but that is left out."""
    value, left = BAD[what]
    assert not is_writable(value)
    kept = writable(value)
    assert is_writable(kept)
    assert json.dumps(kept, allow_nan=False, ensure_ascii=False).encode()
    assert left is None or kept == left

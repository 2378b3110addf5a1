"""Conditions: how much of them a listing takes."""

from __future__ import annotations

import pytest

from remora_server.core.conditions import (
    MAX_CHARS,
    MAX_COMPARISONS,
    MAX_DEPTH,
    MAX_VALUES,
    Both,
    Comparison,
    Condition,
    Either,
    Not,
    Operator,
    require_bounded,
)
from remora_server.core.errors import ValidationFailedError

ONE = Comparison("title", Operator.EQUAL, "t")


def nested(depth: int) -> Condition:
    """Return a condition so deep."""
    made: Condition = ONE
    for _ in range(depth):
        made = Not(made)
    return made


def within(*values: str) -> Condition:
    """Return a comparison with several values."""
    return Comparison("title", Operator.IN, values)


def test_what_is_taken() -> None:
    """Conditions up to each limit pass."""
    require_bounded(ONE)
    require_bounded(Comparison("create_time", Operator.LESS, 2**62))
    require_bounded(nested(MAX_DEPTH))
    require_bounded(Either((Both(()), Not(ONE))))
    require_bounded(Both((ONE,) * (MAX_COMPARISONS - 1)))
    require_bounded(within(*["x" * MAX_CHARS] * MAX_VALUES))


@pytest.mark.parametrize(
    "condition",
    [
        nested(MAX_DEPTH + 1),
        Both((ONE,) * MAX_COMPARISONS),
        Either((Both((ONE,) * 50), Both((ONE,) * 50))),
        within(*["x"] * (MAX_VALUES + 1)),
        within("x" * (MAX_CHARS + 1)),
        Comparison("title", Operator.CONTAINS, "a\0b"),
    ],
    ids=["depth", "width", "sum", "values", "characters", "NUL"],
)
def test_what_is_refused(condition: Condition) -> None:
    """Beyond a limit a statement would become too large."""
    with pytest.raises(ValidationFailedError, match="filter"):
        require_bounded(condition)

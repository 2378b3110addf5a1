"""What a listing is narrowed by: comparisons of fields, joined by and, or and not."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from remora_server.core.errors import invalid
from remora_server.core.values import dataclass

MAX_COMPARISONS = 100
MAX_VALUES = 100
MAX_DEPTH = 8
MAX_CHARS = 2048


class Operator(StrEnum):
    """How a field is compared; case is that of the letters A to Z."""

    EQUAL = "="
    LESS = "<"
    AT_LEAST = ">="
    IN = "in"
    CONTAINS = "contains"
    STARTS = "starts"
    ENDS = "ends"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field against a value, or for IN against several."""

    field: str
    operator: Operator
    value: str | int | tuple[str | int, ...]
    ignores_case: bool = False


@dataclass(frozen=True, slots=True)
class Both:
    """All of these hold; without any, nothing is asked."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """One of these holds; without any, none does."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Its part does not hold."""

    part: Condition


Condition = Comparison | Both | Either | Not


def require_bounded(condition: Condition, field: str = "filter") -> None:
    """Refuse a condition that a statement should not carry."""
    left = [MAX_COMPARISONS]

    def look(one: Condition, depth: int) -> None:
        left[0] -= 1
        if left[0] < 0 or depth > MAX_DEPTH:
            raise invalid(field, f"holds more than {MAX_COMPARISONS} comparisons, or more than {MAX_DEPTH} levels")
        if isinstance(one, Comparison):
            values: Sequence[str | int] = one.value if isinstance(one.value, tuple) else (one.value,)
            if len(values) > MAX_VALUES:
                raise invalid(field, f"compares with more than {MAX_VALUES} values at once")
            if any(isinstance(value, str) and (len(value) > MAX_CHARS or "\0" in value) for value in values):
                raise invalid(field, f"compares with more than {MAX_CHARS} characters, or with a NUL")
        elif isinstance(one, Not):
            look(one.part, depth + 1)
        else:
            for part in one.parts:
                look(part, depth + 1)

    look(condition, 0)

"""Conditions of core as expressions: the same on both databases, whatever their LIKE thinks of case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import eq, ge, lt
from typing import Any

import peewee
from peewee import fn

from remora_server.core.conditions import Comparison, Condition, Either, Not, Operator
from remora_server.stores.metadata.rows import any_of

UPPER, LOWER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
TO_LOWER = str.maketrans(UPPER, LOWER)  # As both databases do it; other letters stay.
ALWAYS, NEVER = peewee.SQL("(1 = 1)"), peewee.SQL("(1 = 0)")


def expression(condition: Condition, columns: Mapping[str, Any]) -> Any:  # noqa: ANN401 - Peewee's expressions
    """Return a condition over columns, by the names that core has for fields."""
    if isinstance(condition, Comparison):
        return _compared(columns[condition.field], condition)
    if isinstance(condition, Not):
        return ~_grouped(expression(condition.part, columns))
    parts = [_grouped(expression(part, columns)) for part in condition.parts]
    if isinstance(condition, Either):
        return any_of(parts) if parts else NEVER
    joined: Any = ALWAYS
    for part in parts:
        joined = joined & part
    return joined


def _grouped(test: Any) -> Any:  # noqa: ANN401 - as above
    return peewee.NodeList((peewee.SQL("("), test, peewee.SQL(")")), glue="")


def _compared(column: Any, one: Comparison) -> Any:  # noqa: ANN401 - as above
    value: Any = one.value
    if one.ignores_case:
        column = fn.LOWER(column)
        value = tuple(_lowered(each) for each in value) if isinstance(value, tuple) else _lowered(value)
    return TESTS[one.operator](column, value)


def _in(column: Any, values: tuple[Any, ...]) -> Any:  # noqa: ANN401 - as above
    return column.in_(list(values)) if values else NEVER


def _contains(column: Any, part: str) -> Any:  # noqa: ANN401 - as above
    # Neither INSTR nor STRPOS is known to both.
    return fn.LENGTH(fn.REPLACE(column, part, "")) < fn.LENGTH(column) if part else ALWAYS


def _starts(column: Any, part: str) -> Any:  # noqa: ANN401 - as above
    return fn.SUBSTR(column, 1, len(part)) == part if part else ALWAYS


def _ends(column: Any, part: str) -> Any:  # noqa: ANN401 - as above
    begins = fn.LENGTH(column) - (len(part) - 1)
    return (begins >= 1) & (fn.SUBSTR(column, begins, len(part)) == part) if part else ALWAYS


TESTS: Mapping[Operator, Callable[[Any, Any], Any]] = {
    Operator.EQUAL: eq,
    Operator.LESS: lt,
    Operator.AT_LEAST: ge,
    Operator.IN: _in,
    Operator.CONTAINS: _contains,
    Operator.STARTS: _starts,
    Operator.ENDS: _ends,
}


def _lowered(value: object) -> object:
    return value.translate(TO_LOWER) if isinstance(value, str) else value

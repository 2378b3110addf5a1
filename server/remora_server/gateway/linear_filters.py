"""The filters of Linear's clients as conditions of core."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from graphql import GraphQLError

from remora_server.core import ids
from remora_server.core.conditions import Both, Comparison, Condition, Either, Not, Operator
from remora_server.core.model import Micros

SECOND: Micros = 1_000_000
MILLISECOND: Micros = 1000
DURATION = re.compile(
    r"(?P<sign>-?)P(?=.)(?:(?P<years>\d+)Y)?(?:(?P<months>\d+)M)?(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?=.)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)S)?)?",
    re.ASCII,
)
MAX_DIGITS = 6
DAYS = {"years": 365, "months": 30, "weeks": 7, "days": 1}
NO_SUCH_ID = "-"  # What is no id belongs to nothing, which is no mistake of whoever asks.
# By the word of a comparator: how it compares, whether case matters not, whether it is turned around.
TEXTS: Mapping[str, tuple[Operator, bool, bool]] = {
    "eq": (Operator.EQUAL, False, False),
    "neq": (Operator.EQUAL, False, True),
    "in": (Operator.IN, False, False),
    "nin": (Operator.IN, False, True),
    "eqIgnoreCase": (Operator.EQUAL, True, False),
    "neqIgnoreCase": (Operator.EQUAL, True, True),
    "contains": (Operator.CONTAINS, False, False),
    "notContains": (Operator.CONTAINS, False, True),
    "containsIgnoreCase": (Operator.CONTAINS, True, False),
    "notContainsIgnoreCase": (Operator.CONTAINS, True, True),
    "containsIgnoreCaseAndAccent": (Operator.CONTAINS, True, False),
    "startsWith": (Operator.STARTS, False, False),
    "notStartsWith": (Operator.STARTS, False, True),
    "startsWithIgnoreCase": (Operator.STARTS, True, False),
    "endsWith": (Operator.ENDS, False, False),
    "notEndsWith": (Operator.ENDS, False, True),
}
Moment = Micros | dt.timedelta  # The latter from now on.


def moment(value: object) -> Moment:
    """Read a DateTimeOrDuration."""
    if not isinstance(value, str):
        raise GraphQLError("DateTimeOrDuration must be a text.")
    if found := DURATION.fullmatch(value):
        numbers = {name: number for name, number in found.groupdict().items() if name != "sign" and number}
        if any(len(number) > MAX_DIGITS for number in numbers.values()):
            raise GraphQLError(f"{value[:50]!r} has a number of more than {MAX_DIGITS} digits.")
        given = {name: int(number) for name, number in numbers.items()}
        days = sum(DAYS[name] * number for name, number in given.items() if name in DAYS)
        rest = {name: number for name, number in given.items() if name not in DAYS}
        length = dt.timedelta(days=min(days, 100_000), **rest)
        return -length if found["sign"] else length
    try:
        read = dt.datetime.fromisoformat(value)
        seconds = (read if read.tzinfo else read.replace(tzinfo=dt.UTC)).timestamp()
    except (ValueError, OverflowError) as problem:
        raise GraphQLError(
            f"{value[:50]!r} is neither a moment such as 2026-01-02T03:04:05Z nor a duration."
        ) from problem
    return round(seconds * 1000) * MILLISECOND


class Filters:
    """Reads filters, for whoever asks now."""

    def __init__(self, prefix: str, principal_id: str, now: Micros) -> None:
        """Read ids as those of `prefix`."""
        self._prefix = prefix
        self._principal_id = principal_id
        self._now = now
        self._fields: Mapping[str, Callable[[Mapping[str, Any]], Condition]] = {
            "id": lambda asked: _ids("id", prefix, asked),
            "url": lambda asked: _texts("url", asked),
            "title": lambda asked: _texts("title", asked),
            "subtitle": lambda asked: _texts("subtitle", asked),
            "sourceType": lambda asked: _texts("source", asked),
            "creator": self._creator,
            "createdAt": lambda asked: self._times("create_time", asked),
            "updatedAt": lambda asked: self._times("update_time", asked),
        }

    def read(self, asked: Mapping[str, Any] | None) -> Condition | None:
        """Return what a filter asks for, None if nothing."""
        return self._joined(asked, self._fields) if asked else None

    def _joined(self, asked: Mapping[str, Any], fields: Mapping[str, Callable[[Any], Condition]]) -> Condition:
        parts: list[Condition] = []
        for name, value in asked.items():
            if value is None:
                continue
            if name == "and":
                parts += [self._joined(one, fields) for one in value]
            elif name == "or":
                parts.append(Either(tuple(self._joined(one, fields) for one in value)))
            else:
                parts.append(fields[name](value))
        return Both(tuple(parts))

    def _creator(self, asked: Mapping[str, Any]) -> Condition:
        me = Comparison("creator_id", Operator.EQUAL, self._principal_id)
        nobody = Comparison("creator_id", Operator.EQUAL, "")
        return self._joined(
            asked,
            {
                "id": lambda wanted: _ids("creator_id", ids.USER, wanted),
                "name": lambda wanted: _texts("creator_name", wanted),
                "displayName": lambda wanted: _texts("creator_name", wanted),
                "isMe": lambda wanted: Both(
                    tuple(
                        me if (word == "eq") is is_so else Not(me)
                        for word, is_so in wanted.items()
                        if is_so is not None
                    )
                ),
                "null": lambda wanted: nobody if wanted else Not(nobody),
            },
        )

    def _times(self, field: str, asked: Mapping[str, Any]) -> Condition:
        """Compare times as they are shown, to the millisecond."""
        made = []
        for word, value in asked.items():
            if value is not None:
                given = value if isinstance(value, list) else [value]
                made.append(_at(field, word, [self._time(one) for one in given]))
        return Both(tuple(made))

    def _time(self, given: Moment) -> Micros:
        if isinstance(given, dt.timedelta):
            return self._now + given // dt.timedelta(microseconds=1)
        return given


def _at(field: str, word: str, times: Sequence[Micros]) -> Condition:
    def before(time: Micros) -> Condition:
        return Comparison(field, Operator.LESS, time)

    def since(time: Micros) -> Condition:
        return Comparison(field, Operator.AT_LEAST, time)

    one_of = Either(tuple(Both((since(time), before(time + MILLISECOND))) for time in times))
    if word in {"eq", "in"}:
        return one_of
    if word in {"neq", "nin"}:
        return Not(one_of)
    (time,) = times
    return {
        "lt": before(time),
        "lte": before(time + MILLISECOND),
        "gt": since(time + MILLISECOND),
        "gte": since(time),
    }[word]


def _texts(field: str, asked: Mapping[str, Any]) -> Condition:
    parts: list[Condition] = []
    for word, value in asked.items():
        if value is None:
            continue
        if word == "null":
            none = Comparison(field, Operator.EQUAL, "")
            parts.append(none if value else Not(none))
            continue
        operator, ignores_case, is_turned = TEXTS[word]
        wanted: Any = tuple(value) if isinstance(value, list) else value
        one = Comparison(field, operator, wanted, ignores_case)
        parts.append(Not(one) if is_turned else one)
    return Both(tuple(parts))


def _ids(field: str, prefix: str, asked: Mapping[str, Any]) -> Condition:
    respelled = {
        word: [_id(prefix, one) for one in value] if isinstance(value, list) else _id(prefix, value)
        for word, value in asked.items()
        if value is not None
    }
    return _texts(field, respelled)


def _id(prefix: str, text: str) -> str:
    try:
        return ids.from_uuid(prefix, UUID(text))
    except ValueError:
        return text if text.startswith(f"{prefix}_") else NO_SUCH_ID

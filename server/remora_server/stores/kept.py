"""Kept SQL: statements that Peewee builds once and that then run with values bound by position.

Building a statement takes twenty times as long as running it, so what runs on every call is written as

    @kept
    def issue_by_key(workspace_id: Slot, key: Slot) -> Query:
        return Issues.select(...).where(Issues.workspace_id == workspace_id, Issues.key == key)

and run as `database.row(issue_by_key, "wks_...", "ENG-1")`. The text is made on first use, once for each kind of
database.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import peewee

Query = peewee.BaseQuery
Arrange = Callable[[tuple[Any, ...]], tuple[Any, ...]]


class Slot(peewee.Value):
    """Where a value will be bound, by its place among the arguments."""

    def __init__(self, place: int) -> None:
        super().__init__(_Place(place), unpack=False)

    def __sql__(self, ctx: peewee.Context) -> peewee.Context:
        """Add itself as a parameter, past the converter of the field it is compared with."""
        made: peewee.Context = ctx.value(self.value, _as_is)
        return made


@dataclass(frozen=True, slots=True)
class _Place:
    """Stands among the parameters of a built statement for the value to come."""

    index: int


def _as_is(value: object) -> object:
    return value


@dataclass(frozen=True, slots=True)
class Text:
    """The SQL of a statement, and how to put given values in its order (None: they are in it)."""

    sql: str
    arrange: Arrange | None


class Kept:
    """A statement that is built once."""

    __slots__ = ("_build", "_slots", "texts")

    def __init__(self, build: Callable[..., Query], slots: int) -> None:
        self._build = build
        self._slots = slots
        self.texts: dict[type[peewee.Database], Text] = {}

    def text_for(self, database: peewee.Database) -> Text:
        """Return the statement as `database` wants it, built if it wasn't yet."""
        query = self._build(*map(Slot, range(self._slots)))
        sql, parameters = query.bind(database).sql()
        text = Text(sql, _arrangement(parameters, self._slots))
        self.texts[type(database)] = text
        return text


def kept(build: Callable[..., Query]) -> Kept:
    """Keep the statement that `build` returns for one slot per parameter."""
    return Kept(build, len(inspect.signature(build).parameters))


def kept_insert(model: type[peewee.Model], columns: Sequence[peewee.Field], *, or_nothing: bool = False) -> Kept:
    """Keep an INSERT of these columns; with `or_nothing` it yields to a row that is there already."""

    def build(*slots: Slot) -> Query:
        query = model.insert(dict(zip(columns, slots, strict=True)))
        return query.on_conflict("nothing") if or_nothing else query

    return Kept(build, len(columns))


def kept_update(model: type[peewee.Model], columns: Sequence[peewee.Field], where: peewee.Field) -> Kept:
    """Keep an UPDATE of these columns; the last value says which row."""

    def build(*slots: Slot) -> Query:
        return model.update(dict(zip(columns, slots[:-1], strict=True))).where(where == slots[-1])

    return Kept(build, len(columns) + 1)


def _arrangement(parameters: Sequence[object], slots: int) -> Arrange | None:
    constants: list[object] = []
    order: list[int] = []
    for parameter in parameters:
        if isinstance(parameter, _Place):
            order.append(parameter.index)
        else:
            order.append(slots + len(constants))
            constants.append(parameter)
    if order == list(range(slots)):
        return None
    behind = tuple(constants)
    if len(order) == 1:
        only = order[0]
        return lambda values: ((values + behind)[only],)
    pick = itemgetter(*order)
    return lambda values: pick(values + behind)

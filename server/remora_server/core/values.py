"""Immutable values that are cheap to make: frozen for mypy, plain for Python.

A frozen dataclass sets each field through `object.__setattr__`, which makes a value cost about three times as much, and
a small call makes a dozen of them. So `dataclass` and `replace` are those of the standard library where types are
checked, which is where a change of a frozen value is refused; at run time the one leaves the guard out, and the other
copies the fields in one step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache, partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass, replace
else:

    def dataclass(*, slots: bool, frozen: bool = False) -> Callable[[type], type]:
        """Make a class of fields; a frozen one is hashed by them."""
        return partial(dataclasses.dataclass, slots=slots, unsafe_hash=frozen)

    def replace(value: object, /, **changes: object) -> object:
        """Return a copy of a value with some fields changed."""
        fields_of, places = _shape(type(value))
        fields = list(fields_of(value))
        for name, changed in changes.items():
            fields[places[name]] = changed
        return type(value)(*fields)


__all__ = ["dataclass", "replace"]


@cache
def _shape(kind: type[Any]) -> tuple[Callable[[object], tuple[object, ...]], dict[str, int]]:
    """Return what reads all fields of a value at once, and the places of their names."""
    names = [field.name for field in dataclasses.fields(kind)]
    first = names[0]
    fields_of = attrgetter(*names) if len(names) > 1 else lambda value: (getattr(value, first),)
    return fields_of, {name: place for place, name in enumerate(names)}

"""Answers kept for calls that are made again."""

from __future__ import annotations

from remora_server.core.model import Micros
from remora_server.core.ports import Repeat
from remora_server.stores.kept import Query, Slot, kept
from remora_server.stores.metadata.rows import Rows
from remora_server.stores.tables import Repeats

ANSWER = (Repeats.fingerprint, Repeats.answer, Repeats.create_time)


@kept
def _repeat_by_key(key: Slot) -> Query:
    return Repeats.select(*ANSWER).where(Repeats.key == key)


@kept
def _add_or_replace(key: Slot, fingerprint: Slot, answer: Slot, create_time: Slot) -> Query:
    values = (key, fingerprint, answer, create_time)
    added = Repeats.insert(dict(zip((Repeats.key, *ANSWER), values, strict=True)))
    return added.on_conflict(conflict_target=[Repeats.key], preserve=ANSWER)


class RepeatRows(Rows):
    """Stored answers."""

    def repeat(self, key: str) -> Repeat | None:
        """Find a stored answer."""
        row = self._db.row(_repeat_by_key, key)
        return None if row is None else Repeat(*row)

    def add_repeat(self, key: str, repeat: Repeat) -> None:
        """Keep an answer; one under the same key is replaced."""
        self._db.write(_add_or_replace, key, repeat.fingerprint, repeat.answer, repeat.create_time)

    def delete_repeats(self, before: Micros) -> int:
        """Forget answers older than a time."""
        return self._db.execute(Repeats.delete().where(Repeats.create_time < before))

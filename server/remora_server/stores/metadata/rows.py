"""What the resources' modules share: how values lie in columns, and who the people behind ids are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import orjson
import peewee

from remora_server.core.errors import StorageUnavailableError
from remora_server.core.model import Actor, Micros, Subject
from remora_server.stores.database import Database
from remora_server.stores.kept import Kept, Query, Slot, kept, kept_insert
from remora_server.stores.tables import Users

Item = TypeVar("Item")

IN_LIMIT = 500  # Values in one statement; SQLite and PostgreSQL both take many more.
ACTORS_LIMIT = 100_000  # About 30 MB.

decode_json = orjson.loads

USER = (Users.id, Users.workspace_id, Users.kind, Users.display_name, Users.icon_url, Users.create_time)
ADD_USER = kept_insert(Users, USER, or_nothing=True)


@kept
def user_by_id(user_id: Slot) -> Query:
    """Find a user."""
    return Users.select(Users.kind, Users.display_name, Users.icon_url).where(Users.id == user_id)


@kept
def user_by_name(workspace_id: Slot, display_name: Slot) -> Query:
    """Find a user by name."""
    return Users.select(Users.id, Users.kind, Users.icon_url).where(
        Users.workspace_id == workspace_id, Users.display_name == display_name
    )


class Actors:
    """Users by id, kept in memory since they never change."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, Actor] = {}

    def __getitem__(self, user_id: str) -> Actor:
        """Return a user; an id that no user has is that of the service itself."""
        return self._known.get(user_id) or self._load(user_id)

    def prepare(self, user_ids: Iterable[str]) -> None:
        """Load many at once, so that a page does not load them one by one."""
        missing = set(user_ids).difference(self._known)
        for some in portions(sorted(missing)):
            query = Users.select(Users.id, Users.kind, Users.display_name, Users.icon_url).where(Users.id.in_(some))
            self._remember(Actor(*row) for row in self._database.select(query))

    def _load(self, user_id: str) -> Actor:
        row = self._database.row(user_by_id, user_id)
        if row is None:
            return Actor(user_id, "SYSTEM", "")
        found = Actor(user_id, *row)
        self._remember([found])
        return found

    def _remember(self, found: Iterable[Actor]) -> None:
        if len(self._known) >= ACTORS_LIMIT:
            self._known = {}
        self._known.update((one.id, one) for one in found)


class Rows:
    """A part of the metadata store: the database, and the people in it."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._actors = Actors(database)

    def _find_or_add(self, find: Kept, key: Sequence[object], add: Kept, values: Sequence[object]) -> tuple[Any, bool]:
        """Return the row that `find` finds, or None and True if there was none and `values` were added.

        The first look spares an INSERT that would change nothing; it is the unique index that decides.
        """
        row = self._db.row(find, *key)
        return self._add_or_find(find, key, add, values) if row is None else (row, False)

    def _add_or_find(self, find: Kept, key: Sequence[object], add: Kept, values: Sequence[object]) -> tuple[Any, bool]:
        """Do as `_find_or_add`, but without the first look, for rows that are nearly always new."""
        if self._db.change(add, *values):
            return None, True
        row = self._db.row(find, *key)
        if row is None:
            # Something else stood in the way, such as an id that was taken a moment ago. Another try will see it.
            raise StorageUnavailableError
        return row, False

    def _count(self, query: Query) -> int:
        return int(self._db.select(query)[0][0])


def portions(values: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Cut a sequence into parts that fit into one statement."""
    for start in range(0, len(values), IN_LIMIT):
        yield values[start : start + IN_LIMIT]


def place(columns: Sequence[peewee.Field], column: peewee.Field) -> int:
    """Return where a column stands; `index` can't, since comparing two fields makes an expression, which is true."""
    return next(index for index, one in enumerate(columns) if one is column)


def subject_of(type_: str, id_: str, key: str) -> Subject | None:
    """Return a subject, or None where there is none."""
    return Subject(type_, id_, key) if type_ else None


def columns_of(subject: Subject | None) -> tuple[str, str, str]:
    """Return the columns of a subject that may be missing."""
    return (subject.type, subject.id, subject.key) if subject else ("", "", "")


def encode_json(value: object) -> str:
    """Write JSON, compactly."""
    return orjson.dumps(value).decode()


def encode_metadata(metadata: Any) -> str:  # noqa: ANN401 - whatever JSON can hold.
    """Write a mapping or list as JSON; an empty one as nothing."""
    return encode_json(metadata) if metadata else ""


def of_type(field: peewee.Field, content_types: Collection[str]) -> peewee.Expression:
    """Match a content type against a list that may hold whole kinds, such as `image/*`; parameters don't matter."""
    lowered = peewee.fn.LOWER(field)
    tests = []
    for wanted in content_types:
        name = wanted.lower()
        if name.endswith("/*"):
            tests.append(peewee.fn.SUBSTR(lowered, 1, len(name) - 1) == name[:-1])
        else:
            tests.append((lowered == name) | (peewee.fn.SUBSTR(lowered, 1, len(name) + 1) == name + ";"))
    return any_of(tests)


def any_of(tests: Sequence[peewee.Expression]) -> peewee.Expression:
    """Join expressions with OR."""
    joined = tests[0]
    for test in tests[1:]:
        joined = joined | test
    return joined


def before(time: peewee.Field, id_: peewee.Field, after: Sequence[object]) -> peewee.Expression:
    """Select what follows a position when the newest comes first."""
    test: peewee.Expression = peewee.Tuple(time, id_) < peewee.Tuple(*after)
    return test


def behind(time: peewee.Field, id_: peewee.Field, after: Sequence[object]) -> peewee.Expression:
    """Select what follows a position when the oldest comes first."""
    test: peewee.Expression = peewee.Tuple(time, id_) > peewee.Tuple(*after)
    return test


def within(field: peewee.Field, start: Micros | None, end: Micros | None) -> list[peewee.Expression]:
    """Restrict a time to a half-open range."""
    tests = []
    if start is not None:
        tests.append(field >= start)
    if end is not None:
        tests.append(field < end)
    return tests

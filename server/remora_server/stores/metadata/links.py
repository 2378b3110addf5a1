"""Links."""

from __future__ import annotations

from collections.abc import Sequence

import peewee

from remora_server.core.model import Link, Subject
from remora_server.core.ports import LinkQuery, Position
from remora_server.stores.database import Row
from remora_server.stores.kept import Query, Slot, kept, kept_insert, kept_update
from remora_server.stores.metadata.rows import Rows, before, place
from remora_server.stores.tables import Links

LINK = (
    Links.id,
    Links.workspace_id,
    Links.subject_type,
    Links.subject_id,
    Links.subject_key,
    Links.url,
    Links.normalized_url,
    Links.url_key,
    Links.title,
    Links.creator_id,
    Links.create_time,
    Links.version,
)
CREATOR = place(LINK, Links.creator_id)
ADD_LINK = kept_insert(Links, LINK, or_nothing=True)
UPDATE_LINK = kept_update(Links, (Links.url, Links.normalized_url, Links.url_key, Links.title, Links.version), Links.id)


@kept
def _link_by_id(workspace_id: Slot, link_id: Slot) -> Query:
    return Links.select(*LINK).where(Links.id == link_id, Links.workspace_id == workspace_id)


@kept
def _link_by_url(workspace_id: Slot, subject_type: Slot, subject_id: Slot, url_key: Slot) -> Query:
    return Links.select(*LINK).where(
        Links.workspace_id == workspace_id,
        Links.subject_type == subject_type,
        Links.subject_id == subject_id,
        Links.url_key == url_key,
    )


class LinkRows(Rows):
    """Links, of which a subject has one for each URL."""

    def link(self, workspace_id: str, link_id: str) -> Link | None:
        """Find a link by id."""
        row = self._db.row(_link_by_id, workspace_id, link_id)
        return None if row is None else self._link(row)

    def find_or_add_link(self, new: Link) -> tuple[Link, bool]:
        """Return the subject's link for this URL key and whether it is `new`."""
        subject = new.subject
        values = (
            new.id,
            new.workspace_id,
            subject.type,
            subject.id,
            subject.key,
            new.url,
            new.normalized_url,
            new.url_key,
            new.title,
            new.creator.id,
            new.create_time,
            new.version,
        )
        key = (new.workspace_id, subject.type, subject.id, new.url_key)
        row, added = self._find_or_add(_link_by_url, key, ADD_LINK, values)
        return (new, True) if added else (self._link(row), False)

    def update_link(self, changed: Link) -> bool:
        """Write a link; False if another of its subject has the same URL key."""
        values = (changed.url, changed.normalized_url, changed.url_key, changed.title, changed.version)
        return self._db.try_change(UPDATE_LINK, *values, changed.id)

    def delete_link(self, link_id: str) -> None:
        """Remove a link for good."""
        self._db.execute(Links.delete().where(Links.id == link_id))

    def list_links(self, query: LinkQuery, after: Position | None, limit: int) -> Sequence[Link]:
        """Return links by (create_time, id) downwards."""
        tests = _tests(query)
        if after is not None:
            tests.append(before(Links.create_time, Links.id, after))
        newest_first = (Links.create_time.desc(), Links.id.desc())
        rows = self._db.select(Links.select(*LINK).where(*tests).order_by(*newest_first).limit(limit))
        self._actors.prepare(row[CREATOR] for row in rows)
        return [self._link(row) for row in rows]

    def count_links(self, query: LinkQuery) -> int:
        """Count what list_links would return in all."""
        return self._count(Links.select(peewee.fn.COUNT(Links.id)).where(*_tests(query)))

    def _link(self, row: Row) -> Link:
        # fmt: off
        (
            id_, workspace_id, subject_type, subject_id, subject_key, url, normalized_url, url_key, title,
            creator_id, create_time, version,
        ) = row
        # fmt: on
        return Link(
            id=id_,
            workspace_id=workspace_id,
            subject=Subject(subject_type, subject_id, subject_key),
            url=url,
            normalized_url=normalized_url,
            url_key=url_key,
            title=title,
            creator=self._actors[creator_id],
            create_time=create_time,
            version=version,
        )


def _tests(query: LinkQuery) -> list[peewee.Expression]:
    tests = [Links.workspace_id == query.workspace_id]
    if query.subject_type:
        tests += [Links.subject_type == query.subject_type, Links.subject_id == query.subject_id]
    return tests

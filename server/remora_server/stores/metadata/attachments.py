"""Attachments, each with the file that it holds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache

import peewee

from remora_server.core.model import NOBODY_SHOWN, Attachment, ExternalRef, ShownCreator, Subject
from remora_server.core.ports import AttachmentQuery, Position
from remora_server.core.values import replace
from remora_server.stores.database import Row
from remora_server.stores.kept import Kept, Query, Slot, kept, kept_insert, kept_update
from remora_server.stores.metadata.conditions import expression
from remora_server.stores.metadata.files import FILE, FILE_CREATOR, FileRows, file_from
from remora_server.stores.metadata.rows import (
    before,
    behind,
    decode_json,
    encode_json,
    encode_metadata,
    of_type,
    place,
    portions,
)
from remora_server.stores.tables import EMPTY, Attachments, Files, Users

EDITED = (
    Attachments.title,
    Attachments.subtitle,
    Attachments.icon_url,
    Attachments.group_key,
    Attachments.metadata,
    Attachments.external_source,
    Attachments.external_id,
    Attachments.sequence_number,
    Attachments.updater_id,
    Attachments.update_time,
    Attachments.archive_time,
    Attachments.version,
)
# What the unique indexes look at, and what goes with it.
PLACED = (
    Attachments.url,
    Attachments.normalized_url,
    Attachments.url_key,
    Attachments.delete_time,
    Attachments.purge_time,
)
ATTACHMENT = (
    Attachments.id,
    Attachments.workspace_id,
    Attachments.subject_type,
    Attachments.subject_id,
    Attachments.subject_key,
    Attachments.file_id,
    Attachments.creator_id,
    Attachments.create_time,
    Attachments.shown_creator,
    *EDITED,
    *PLACED,
)
WIDTH = len(ATTACHMENT)
CREATOR, UPDATER = place(ATTACHMENT, Attachments.creator_id), place(ATTACHMENT, Attachments.updater_id)
ADD_ATTACHMENT = kept_insert(Attachments, ATTACHMENT, or_nothing=True)
# A column that is named is written in every index that has it, changed or not.
UPDATE_ATTACHMENT = kept_update(Attachments, EDITED, Attachments.id)
PLACE_ATTACHMENT = kept_update(Attachments, (*EDITED, *PLACED), Attachments.id)
CONDITIONS = {
    "id": Attachments.id,
    "url": Attachments.url,
    "title": Attachments.title,
    "subtitle": Attachments.subtitle,
    "source": Attachments.external_source,
    "creator_id": Attachments.creator_id,
    "creator_name": peewee.fn.COALESCE(Users.select(Users.display_name).where(Users.id == Attachments.creator_id), ""),
    "create_time": Attachments.create_time,
    "update_time": Attachments.update_time,
}
IS_LIVE_URL = (Attachments.delete_time.is_null(), Attachments.url_key != EMPTY)
IS_LIVE_FILE = (Attachments.delete_time.is_null(), Attachments.file_id != EMPTY)


@kept
def _attachment_by_id(workspace_id: Slot, attachment_id: Slot) -> Query:
    return _with_files().where(Attachments.id == attachment_id, Attachments.workspace_id == workspace_id)


@kept
def _live_by_url(workspace_id: Slot, subject_type: Slot, subject_id: Slot, url_key: Slot) -> Query:
    return Attachments.select(*ATTACHMENT).where(
        Attachments.workspace_id == workspace_id,
        Attachments.url_key == url_key,
        Attachments.subject_type == subject_type,
        Attachments.subject_id == subject_id,
        *IS_LIVE_URL,
    )


@kept
def _live_by_file(subject_type: Slot, subject_id: Slot, file_id: Slot) -> Query:
    return _with_files().where(
        Attachments.file_id == file_id,
        Attachments.subject_type == subject_type,
        Attachments.subject_id == subject_id,
        *IS_LIVE_FILE,
    )


@kept
def _live_of_file(file_id: Slot) -> Query:
    return _with_files().where(Attachments.file_id == file_id, *IS_LIVE_FILE).order_by(Attachments.id)


@kept
def _id_taken(attachment_id: Slot) -> Query:
    return Attachments.select(Attachments.id).where(Attachments.id == attachment_id)


def _with_files() -> peewee.ModelSelect[Attachments]:
    on = Files.id == Attachments.file_id
    return Attachments.select(*ATTACHMENT, *FILE).join(Files, peewee.JOIN.LEFT_OUTER, on=on)


class AttachmentRows(FileRows):
    """Attachments; among the live ones of a subject each URL and each file occurs once."""

    def attachment(self, workspace_id: str, attachment_id: str) -> Attachment | None:
        """Find an attachment by id, deleted ones too, with its file."""
        row = self._db.row(_attachment_by_id, workspace_id, attachment_id)
        return None if row is None else self._attachment(row)

    def live_attachment_by_url(
        self, workspace_id: str, subject_type: str, subject_id: str, url_key: str
    ) -> Attachment | None:
        """Find the one live attachment of a subject for a URL key."""
        row = self._db.row(_live_by_url, workspace_id, subject_type, subject_id, url_key)
        return None if row is None else self._attachment(row)

    def live_attachment_by_file(self, subject_type: str, subject_id: str, file_id: str) -> Attachment | None:
        """Find the one live attachment of a subject for a file."""
        row = self._db.row(_live_by_file, subject_type, subject_id, file_id)
        return None if row is None else self._attachment(row)

    def find_or_add_attachment(self, new: Attachment) -> tuple[Attachment, bool]:
        """Return the live attachment of the same subject and target, and whether it is `new`."""
        subject = new.subject
        values = (
            new.id,
            new.workspace_id,
            subject.type,
            subject.id,
            subject.key,
            new.file_id,
            new.creator.id,
            new.create_time,
            _shown_text(new.shown_creator),
            *_edited(new),
            *_placed(new),
        )
        find, key = _live_by_file, [subject.type, subject.id, new.file_id]
        if not new.file_id:
            find, key = _live_by_url, [new.workspace_id, subject.type, subject.id, new.url_key]
        row, added = self._find_or_add(find, key, ADD_ATTACHMENT, values)
        if not added:
            return self._attachment(row), False
        return self._with_file(new), True

    def attachment_id_taken(self, attachment_id: str) -> bool:
        """Tell whether any workspace has an attachment with this id."""
        return self._db.row(_id_taken, attachment_id) is not None

    def update_attachment(self, changed: Attachment) -> None:
        """Write what an edit may change: all mutable fields but the URL, and when it was deleted and is purged."""
        self._db.write(UPDATE_ATTACHMENT, *_edited(changed), changed.id)

    def place_attachment(self, changed: Attachment) -> bool:
        """Write all mutable fields; False if a live one with the same subject and target stands in the way."""
        return self._db.try_change(PLACE_ATTACHMENT, *_edited(changed), *_placed(changed), changed.id)

    def list_attachments(self, query: AttachmentQuery, after: Position | None, limit: int) -> Sequence[Attachment]:
        """Return attachments in the query's order, each with its file."""
        is_rare = query.where is not None or query.file_id or (query.subject_type and not query.subject_id)
        if is_rare or query.kinds or query.content_types or query.created_by or query.external_ref != ExternalRef():
            rows = self._db.select(_page(_tests(query), query.order, after, limit))
        else:
            shape = (bool(query.subject_type), bool(query.url_key), query.show_archived, query.show_deleted)
            values: list[object] = [query.workspace_id]
            values += [query.subject_type, query.subject_id] if query.subject_type else []
            values += [query.url_key] if query.url_key else []
            rows = self._db.rows(_kept_page(shape, query.order, after is not None), *values, *(after or ()), limit)
        return self._attachments(rows)

    def list_attachments_by_subject(
        self, query: AttachmentQuery, subject_ids: Collection[str], after: Position | None, limit: int
    ) -> Mapping[str, Sequence[Attachment]]:
        """Return what list_attachments would for each of some subjects of one type."""
        order, place = _order(query.order), peewee.fn.ROW_NUMBER()
        found: dict[str, list[Attachment]] = {}
        for some in portions(sorted(subject_ids)):
            tests = [*_tests(query), Attachments.subject_id.in_(some), *_after(query.order, after)]
            numbered = Attachments.select(
                Attachments.id, place.over(partition_by=[Attachments.subject_id], order_by=order).alias("place")
            ).where(*tests)
            first = peewee.Select((numbered,), (numbered.c.id,)).where(numbered.c.place <= limit)
            rows = self._db.select(_with_files().where(Attachments.id.in_(first)).order_by(*order))
            for one in self._attachments(rows):
                found.setdefault(one.subject.id, []).append(one)
        return found

    def _attachments(self, rows: Sequence[Row]) -> Sequence[Attachment]:
        self._actors.prepare(
            person for row in rows for person in (row[CREATOR], row[UPDATER], row[WIDTH + FILE_CREATOR]) if person
        )
        return [self._attachment(row) for row in rows]

    def count_attachments(self, query: AttachmentQuery) -> int:
        """Count what list_attachments would return in all."""
        counted = Attachments.select(peewee.fn.COUNT(Attachments.id))
        if query.content_types:
            counted = counted.join(Files, on=Files.id == Attachments.file_id)
        return self._count(counted.where(*_tests(query)))

    def live_attachments_of_file(self, file_id: str) -> Sequence[Attachment]:
        """Return the live attachments that hold a file."""
        return [self._attachment(row) for row in self._db.rows(_live_of_file, file_id)]

    def _with_file(self, new: Attachment) -> Attachment:
        if new.file is not None or not new.file_id:
            return new
        return replace(new, file=self.file(new.workspace_id, new.file_id))

    def _attachment(self, row: Row) -> Attachment:
        """Make an attachment of the columns `ATTACHMENT`, and `FILE` where they follow."""
        # fmt: off
        (
            id_, workspace_id, subject_type, subject_id, subject_key, file_id, creator_id, create_time,
            shown_creator,
            title, subtitle, icon_url, group_key, metadata, source, external_id,
            sequence_number, updater_id, update_time, archive_time, version,
            url, normalized_url, url_key, delete_time, purge_time, *file,
        ) = row
        # fmt: on
        return Attachment(
            id=id_,
            workspace_id=workspace_id,
            subject=Subject(subject_type, subject_id, subject_key),
            url=url,
            normalized_url=normalized_url,
            url_key=url_key,
            file_id=file_id,
            title=title,
            subtitle=subtitle,
            icon_url=icon_url,
            group_key=group_key,
            metadata=decode_json(metadata) if metadata else {},
            external_ref=ExternalRef(source, external_id),
            sequence_number=sequence_number,
            creator=self._actors[creator_id],
            updater=self._actors[updater_id],
            create_time=create_time,
            update_time=update_time,
            archive_time=archive_time,
            delete_time=delete_time,
            purge_time=purge_time,
            version=version,
            file=file_from(file, self._actors) if file_id and file[0] is not None else None,
            shown_creator=ShownCreator(*decode_json(shown_creator)) if shown_creator else NOBODY_SHOWN,
        )


Shape = tuple[bool, bool, bool, bool]  # by subject, by URL, show_archived, show_deleted


@cache
def _kept_page(shape: Shape, order: str, follows: bool) -> Kept:  # noqa: FBT001 - as the other parts of its cache key.
    """Return the listing without the rarer filters; there are under a hundred of these."""
    by_subject, by_url, show_archived, show_deleted = shape

    def build(*slots: Slot) -> Query:
        following = iter(slots)
        tests = [Attachments.workspace_id == next(following)]
        if by_subject:
            tests += [Attachments.subject_type == next(following), Attachments.subject_id == next(following)]
        if by_url:
            tests += [Attachments.url_key == next(following), Attachments.url_key != EMPTY]
        tests += _visible(show_archived=show_archived, show_deleted=show_deleted)
        after = (next(following), next(following)) if follows else None
        return _page(tests, order, after, next(following))

    return Kept(build, 2 + 2 * by_subject + by_url + 2 * follows)


def _page(
    tests: Sequence[peewee.Expression], order: str, after: Sequence[object] | None, limit: object
) -> peewee.ModelSelect[Attachments]:
    return _with_files().where(*tests, *_after(order, after)).order_by(*_order(order)).limit(limit)


def _time(order: str) -> peewee.Field:
    return Attachments.update_time if order.startswith("UPDATE") else Attachments.create_time


def _order(order: str) -> list[peewee.Node]:
    columns = (_time(order), Attachments.id)
    return [one if order.endswith("ASC") else one.desc() for one in columns]


def _after(order: str, after: Sequence[object] | None) -> list[peewee.Expression]:
    if after is None:
        return []
    follows = behind if order.endswith("ASC") else before
    return [follows(_time(order), Attachments.id, after)]


def _visible(*, show_archived: bool, show_deleted: bool) -> list[peewee.Expression]:
    tests = [] if show_archived else [Attachments.archive_time.is_null()]
    return tests if show_deleted else [*tests, Attachments.delete_time.is_null()]


def _tests(query: AttachmentQuery) -> list[peewee.Expression]:
    tests = [Attachments.workspace_id == query.workspace_id]
    tests += _visible(show_archived=query.show_archived, show_deleted=query.show_deleted)
    equal = {
        Attachments.subject_type: query.subject_type,
        Attachments.subject_id: query.subject_id,
        Attachments.creator_id: query.created_by,
        Attachments.file_id: query.file_id,
        Attachments.external_source: query.external_ref.source,
        Attachments.external_id: query.external_ref.id,
    }
    tests += [column == value for column, value in equal.items() if value]
    if query.url_key:
        tests += [Attachments.url_key == query.url_key, Attachments.url_key != EMPTY]
    if query.where is not None:
        tests.append(expression(query.where, CONDITIONS))
    if query.kinds and "URL" not in query.kinds:
        tests.append(Attachments.file_id != EMPTY)
    if query.kinds and "FILE" not in query.kinds:
        tests.append(Attachments.file_id == EMPTY)
    if query.content_types:
        tests.append(of_type(Files.content_type, query.content_types))
    return tests


def _shown_text(shown: ShownCreator) -> str:
    return encode_json([shown.name, shown.icon_url]) if shown != NOBODY_SHOWN else ""


def _edited(attachment: Attachment) -> tuple[object, ...]:
    return (
        attachment.title,
        attachment.subtitle,
        attachment.icon_url,
        attachment.group_key,
        encode_metadata(attachment.metadata),
        attachment.external_ref.source,
        attachment.external_ref.id,
        attachment.sequence_number,
        attachment.updater.id,
        attachment.update_time,
        attachment.archive_time,
        attachment.version,
    )


def _placed(attachment: Attachment) -> tuple[object, ...]:
    return (
        attachment.url,
        attachment.normalized_url,
        attachment.url_key,
        attachment.delete_time,
        attachment.purge_time,
    )

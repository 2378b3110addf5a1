"""Files, and what a reader may find of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import peewee

from remora_server.core.model import (
    NO_MEDIA,
    NO_PREVIEW,
    Checksums,
    ExternalRef,
    File,
    FileState,
    Media,
    Preview,
    PreviewState,
)
from remora_server.core.ports import FileQuery, Position
from remora_server.stores.database import Row
from remora_server.stores.kept import Query, Slot, kept, kept_insert, kept_update
from remora_server.stores.metadata.rows import (
    Actors,
    Rows,
    before,
    decode_json,
    encode_json,
    encode_metadata,
    of_type,
    place,
    within,
)
from remora_server.stores.tables import EMPTY, Attachments, Blobs, Files

MUTABLE = (
    Files.name,
    Files.content_type,
    Files.detected_content_type,
    Files.type,
    Files.state,
    Files.media,
    Files.metadata,
    Files.external_source,
    Files.external_id,
    Files.update_time,
    Files.delete_time,
    Files.detach_time,
    Files.was_attached,
    Files.version,
    Files.preview,
)
FILE = (
    Files.id,
    Files.workspace_id,
    Files.blob_id,
    Files.size_bytes,
    Files.crc32c,
    Files.md5,
    Files.sha256,
    Files.creator_id,
    Files.create_time,
    *MUTABLE,
)
FILE_CREATOR = place(FILE, Files.creator_id)
ADD_FILE = kept_insert(Files, FILE)
UPDATE_FILE = kept_update(Files, MUTABLE, Files.id)
ACTIVE = peewee.SQL("'ACTIVE'")


def is_attached() -> peewee.ColumnBase:
    """Tell of a row of files whether something live holds it."""
    return peewee.fn.EXISTS(
        Attachments.select(peewee.SQL("1")).where(
            Attachments.file_id == Files.id, Attachments.delete_time.is_null(), Attachments.file_id != EMPTY
        )
    )


@kept
def _file_by_id(workspace_id: Slot, file_id: Slot) -> Query:
    return Files.select(*FILE).where(Files.id == file_id, Files.workspace_id == workspace_id)


@kept
def _own_with_content(blob_key: Slot, creator_id: Slot) -> Query:
    return _with_content(blob_key).where(Files.creator_id == creator_id).limit(1)


@kept
def _own_with_name(blob_key: Slot, creator_id: Slot, name: Slot) -> Query:
    return _held_with_name(blob_key, creator_id, name).limit(1)


@kept
def _own_with_type(blob_key: Slot, creator_id: Slot, name: Slot, content_type: Slot) -> Query:
    return _held_with_name(blob_key, creator_id, name).where(Files.content_type == content_type).limit(1)


def _held_with_name(blob_key: Slot, creator_id: Slot, name: Slot) -> peewee.ModelSelect[Files]:
    """Leave out files that lost their last attachment: they are on their way out, and nobody may be handed one."""
    return _with_content(blob_key).where(
        Files.creator_id == creator_id, Files.name == name, Files.detach_time.is_null()
    )


@kept
def _attached_with_content(blob_key: Slot) -> Query:
    return _with_content(blob_key).where(is_attached()).limit(1)


@kept
def _own_with_md5(md5: Slot, workspace_id: Slot, size_bytes: Slot, creator_id: Slot) -> Query:
    return (
        Files.select(*FILE)
        .join(Blobs, on=Files.blob_id == Blobs.id)
        .where(Blobs.md5 == md5, Blobs.workspace_id == workspace_id, Blobs.size_bytes == size_bytes)
        .where(Files.creator_id == creator_id, Files.state == ACTIVE)
        .order_by(Files.detach_time.is_null(is_null=False), Files.id)
        .limit(1)
    )


def _with_content(blob_key: Slot) -> peewee.ModelSelect[Files]:
    joined = Files.select(*FILE).join(Blobs, on=Files.blob_id == Blobs.id)
    return joined.where(Blobs.key == blob_key, Files.state == ACTIVE).order_by(Files.id)


class FileRows(Rows):
    """Files."""

    def file(self, workspace_id: str, file_id: str) -> File | None:
        """Find a file by id, deleted ones too."""
        return self._file(self._db.row(_file_by_id, workspace_id, file_id))

    def add_file(self, new: File) -> None:
        """Insert a file; its blob must have a row already."""
        sums = new.checksums
        self._db.write(
            ADD_FILE,
            new.id,
            new.workspace_id,
            new.blob_id,
            new.size_bytes,
            sums.crc32c,
            sums.md5 or None,
            sums.sha256 or None,
            new.creator.id,
            new.create_time,
            *_mutable(new),
        )

    def update_file(self, changed: File) -> None:
        """Write all mutable fields."""
        self._db.write(UPDATE_FILE, *_mutable(changed), changed.id)

    def files_on_blob(self, blob_id: str) -> Sequence[File]:
        """Return the files on a blob, deleted ones too, oldest first."""
        rows = self._db.select(Files.select(*FILE).where(Files.blob_id == blob_id).order_by(Files.id))
        self._actors.prepare(row[FILE_CREATOR] for row in rows)
        return [file_from(row, self._actors) for row in rows]

    def list_files(self, query: FileQuery, after: Position | None, limit: int) -> Sequence[File]:
        """Return files by (create_time, id) downwards."""
        tests = _tests(query)
        if after is not None:
            tests.append(before(Files.create_time, Files.id, after))
        wanted = Files.select(*FILE).where(*tests).order_by(Files.create_time.desc(), Files.id.desc()).limit(limit)
        rows = self._db.select(wanted)
        self._actors.prepare(row[FILE_CREATOR] for row in rows)
        return [file_from(row, self._actors) for row in rows]

    def count_files(self, query: FileQuery) -> int:
        """Count what list_files would return in all."""
        return self._count(Files.select(peewee.fn.COUNT(Files.id)).where(*_tests(query)))

    def file_with_content(
        self, blob_key: str, reader: str, *, own_only: bool, name: str = "", content_type: str = ""
    ) -> File | None:
        """Find an ACTIVE file on this content that `reader` may read; with `name` only its own of that name and type.

        Without a `content_type` any type will do. The reader's own come first, then the oldest.
        """
        if name and content_type:
            return self._file(self._db.row(_own_with_type, blob_key, reader, name, content_type))
        if name:
            return self._file(self._db.row(_own_with_name, blob_key, reader, name))
        row = self._db.row(_own_with_content, blob_key, reader)
        if row is None and not own_only:
            row = self._db.row(_attached_with_content, blob_key)
        return self._file(row)

    def file_with_md5(self, workspace_id: str, md5: bytes, size_bytes: int, creator: str) -> File | None:
        """Find an ACTIVE file of this creator by MD5 and size."""
        return self._file(self._db.row(_own_with_md5, md5, workspace_id, size_bytes, creator))

    def _file(self, row: Row | None) -> File | None:
        return None if row is None else file_from(row, self._actors)


def _tests(query: FileQuery) -> list[peewee.Expression]:
    tests = [Files.workspace_id == query.workspace_id]
    if query.reader:
        tests.append((Files.creator_id == query.reader) | is_attached())
    if query.subject_type or query.subject_id:
        held = Attachments.select(Attachments.file_id).where(
            Attachments.workspace_id == query.workspace_id,
            Attachments.delete_time.is_null(),
            Attachments.file_id != EMPTY,
            Attachments.subject_type == query.subject_type,
            Attachments.subject_id == query.subject_id,
        )
        tests.append(Files.id.in_(held))
    if query.content_types:
        tests.append(of_type(Files.content_type, query.content_types))
    if query.created_by:
        tests.append(Files.creator_id == query.created_by)
    if not query.show_deleted:
        tests.append(Files.delete_time.is_null())
    return tests + within(Files.create_time, query.created_from, query.created_to)


def _mutable(file: File) -> tuple[object, ...]:
    return (
        file.name,
        file.content_type,
        file.detected_content_type,
        file.type,
        file.state.value,
        encode_media(file.media),
        encode_metadata(file.metadata),
        file.external_ref.source,
        file.external_ref.id,
        file.update_time,
        file.delete_time,
        file.detach_time,
        file.was_attached,
        file.version,
        encode_preview(file.preview),
    )


def encode_media(media: Media) -> str:
    """Write what is known of a file's contents as JSON; nothing as nothing."""
    if media == NO_MEDIA:
        return ""
    known = (media.width, media.height, media.blur_hash, media.duration_ms, media.page_count, media.code_language)
    return encode_json([*known, media.alt_text])


def decode_media(text: str) -> Media:
    """Read what `encode_media` wrote."""
    return Media(*decode_json(text)) if text else NO_MEDIA


def encode_preview(preview: Preview) -> str:
    """Write how far a preview is as JSON; none as nothing."""
    return "" if preview == NO_PREVIEW else encode_json([preview.kind, preview.state.value, preview.reason])


def decode_preview(text: str) -> Preview:
    """Read what `encode_preview` wrote."""
    if not text:
        return NO_PREVIEW
    kind, state, reason = decode_json(text)
    return Preview(kind, PreviewState(state), reason)


def file_from(row: Sequence[Any], actors: Actors) -> File:
    """Make a file of the columns `FILE`."""
    # fmt: off
    (
        id_, workspace_id, blob_id, size_bytes, crc32c, md5, sha256, creator_id, create_time,
        name, content_type, detected, type_, state, media, metadata, source, external_id,
        update_time, delete_time, detach_time, was_attached, version, preview,
    ) = row
    # fmt: on
    return File(
        id=id_,
        workspace_id=workspace_id,
        blob_id=blob_id,
        name=name,
        content_type=content_type,
        detected_content_type=detected,
        size_bytes=size_bytes,
        checksums=Checksums(crc32c, md5 or b"", sha256 or b""),
        type=type_,
        state=FileState(state),
        media=decode_media(media),
        metadata=decode_json(metadata) if metadata else {},
        external_ref=ExternalRef(source, external_id),
        creator=actors[creator_id],
        create_time=create_time,
        update_time=update_time,
        delete_time=delete_time,
        detach_time=detach_time,
        was_attached=bool(was_attached),
        version=version,
        preview=decode_preview(preview),
    )

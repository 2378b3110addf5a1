"""Files: bytes with a name, an owner and a lifetime. Add, read, list, change, and what holds them alive.

A workspace pays for a file while it is ACTIVE and not detached, that is: until it is deleted, or the last attachment
that held it is. After the grace period the sweep removes it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial

import google_crc32c

from remora_server.core import access, errors, etags, fields, ids
from remora_server.core.activity import ActivityLog
from remora_server.core.file_types import content_type_of, type_of
from remora_server.core.inspection import Inspections, overlaid
from remora_server.core.model import (
    Actor,
    Blob,
    Caller,
    ExternalRef,
    File,
    FileSpec,
    FileState,
    Inspection,
    Media,
    Page,
    PreviewState,
    Subject,
)
from remora_server.core.pages import Pages
from remora_server.core.ports import BlobReader, BlobStore, Clock, FileQuery, MetadataStore
from remora_server.core.quota import Quota
from remora_server.core.reading import Reading
from remora_server.core.subjects import Subjects
from remora_server.core.values import replace

MUTABLE = ("name", "content_type", "media", "metadata", "external_ref")
OUTPUT_ONLY = (
    "id", "workspace_id", "detected_content_type", "size_bytes", "checksums", "type", "state", "preview", "creator",
    "create_time", "update_time", "delete_time", "purge_time", "etag", "content_etag",
)  # fmt: skip
EMPTY = {"name": "", "content_type": "", "media": Media(), "metadata": {}, "external_ref": ExternalRef()}
SERVICE = Actor("remora", "SYSTEM", "Remora")  # Nobody's call: what the service does by itself.
Damaged = Callable[[str, str], None]


def _nobody(file_id: str, location: str) -> None:
    del file_id, location


class Files:
    """The rules of files over a metadata store and a blob store.

    `damaged` hears of each file whose bytes a read finds missing or other than they were, and of where these should be.
    """

    def __init__(
        self,
        store: MetadataStore,
        blobs: BlobStore,
        subjects: Subjects,
        log: ActivityLog,
        pages: Pages,
        clock: Clock,
        *,
        quota: Quota,
        inspections: Inspections,
        damaged: Damaged = _nobody,
    ) -> None:
        self._inspections = inspections
        self._store = store
        self._blobs = blobs
        self._subjects = subjects
        self._log = log
        self._pages = pages
        self._clock = clock
        self._quota = quota
        self._damaged = damaged

    def add(
        self,
        caller: Caller,
        spec: FileSpec,
        blob: Blob,
        inspection: Inspection,
        file_id: str = "",
        *,
        is_temporary: bool = False,
    ) -> File:
        """Make a file of the caller's on a stored blob, of which `inspection` is known by now.

        A temporary one is as if its attachment had been deleted: not charged, where there is room for it.
        """
        if is_temporary:
            self._quota.require_room(caller.workspace_id, blob.size_bytes)
        else:
            self._quota.charge(caller.workspace_id, blob.size_bytes)
        now = self._clock.now()
        detected = inspection.detected_content_type
        language = self._inspections.language_of(spec.name, detected)
        media = overlaid(spec.media, inspection.media)
        if language and not media.code_language:
            media = replace(media, code_language=language)
        file = File(
            id=file_id or ids.new_id(ids.FILE),
            workspace_id=caller.workspace_id,
            blob_id=blob.id,
            name=spec.name,
            content_type=spec.content_type,
            detected_content_type=detected,
            size_bytes=blob.size_bytes,
            checksums=blob.checksums,
            type=type_of(spec.content_type, language),
            state=FileState.QUARANTINED if inspection.is_quarantined else FileState.ACTIVE,
            media=media,
            metadata=spec.metadata,
            external_ref=spec.external_ref,
            creator=caller.actor,
            create_time=now,
            update_time=now,
            delete_time=None,
            detach_time=now if is_temporary else None,
            was_attached=False,
            version=1,
            preview=inspection.preview,
        )
        self._store.add_file(file)
        self._record(caller, "created", file)
        if file.state is FileState.QUARANTINED:
            self._record(_service(file.workspace_id), "quarantined", file, ["state"])
        return file

    def get(self, caller: Caller, file_id: str, field: str = "file_id") -> File:
        """Return a file that the caller may see; its owner sees a deleted one until it is purged."""
        found = self._store.file(caller.workspace_id, ids.parse(ids.FILE, file_id, field))
        if found is None or not access.may_read_file(self._store, caller, found):
            raise errors.NotFoundError("file", f"files/{file_id}")
        return found

    def readable(self, caller: Caller, file_id: str, field: str = "file_id") -> File:
        """Return a file whose bytes the caller may read now."""
        file = self.get(caller, file_id, field)
        if file.state is FileState.DELETED:
            raise errors.NotFoundError("file", f"files/{file_id}")
        if file.state is FileState.QUARANTINED:
            raise errors.FileQuarantinedError
        return file

    def of_attachment(self, caller: Caller, attachment_id: str) -> File:
        """Return the file of a live attachment, readable."""
        found = self._store.attachment(caller.workspace_id, ids.parse(ids.ATTACHMENT, attachment_id, "attachment_id"))
        if found is None or found.delete_time is not None or not found.file_id:
            raise errors.NotFoundError("attachment", f"attachments/{attachment_id}")
        return self.readable(caller, found.file_id)

    def open(self, file: File) -> BlobReader | bytes:
        """Open the bytes of a file: a reader, or the bytes themselves where the database holds them."""
        try:
            return self._open(file)
        except errors.StoredContentCorruptError:
            self._tell_damage(file)
            raise

    def reading(self, file: File, offset: int, length: int) -> Reading:
        """Open the bytes of a file for reading a range of it in order."""
        return Reading(file, self.open(file), offset, length, partial(self._tell_damage, file))

    def read_whole(self, file: File) -> bytes:
        """Return all bytes of a small file, proved against its CRC32C."""
        data = self.head(file, file.size_bytes)
        if google_crc32c.value(data) != file.checksums.crc32c:
            self._tell_damage(file)
            raise errors.StoredContentCorruptError
        return data

    def head(self, file: File, size_bytes: int) -> bytes:
        """Return the first bytes of a file, unproved."""
        source = self.open(file)
        if isinstance(source, bytes):
            return source[:size_bytes]
        try:
            return source.read(0, size_bytes)
        except errors.StoredContentCorruptError:
            self._tell_damage(file)
            raise
        finally:
            source.close()

    def require_content(self, file: File, content_etag: str) -> None:
        """Raise EtagMismatchError if the caller expects other bytes, as one who resumes a download does."""
        actual = etags.content_etag_of(file.checksums.sha256)
        if content_etag and content_etag != actual:
            raise errors.EtagMismatchError(actual)

    def list(
        self,
        caller: Caller,
        wanted: FileQuery,
        subject: Subject | None,
        *,
        page_size: int = 0,
        page_token: str = "",
        include_total_size: bool = False,
    ) -> Page[File]:
        """Return a page of the files that the caller may read, newest first."""
        workspace_id = access.enter(caller, wanted.workspace_id)
        fields.filters(content_types=wanted.content_types)
        query = replace(wanted, workspace_id=workspace_id, reader="" if caller.is_admin else caller.principal_id)
        if subject is not None:
            resolved = self._subjects.resolve(caller, subject, register=False)
            query = replace(query, subject_type=resolved.type, subject_id=resolved.id)
        page = self._pages.page(
            ("files", query),
            page_size,
            page_token,
            lambda after, limit: self._store.list_files(query, after, limit),
            lambda last: (last.create_time, last.id),
        )
        return replace(page, total_size=self._store.count_files(query)) if include_total_size else page

    def update(self, caller: Caller, file_id: str, spec: FileSpec, mask: Collection[str], etag: str = "") -> File:
        """Change what the mask names of a file's name, type, media, metadata and reference."""
        stored = self.owned(caller, file_id)
        if stored.state is FileState.DELETED:
            raise errors.NotFoundError("file", f"files/{file_id}")
        etags.require(etag, stored.version)
        populated = [name for name in MUTABLE if getattr(spec, name) != EMPTY[name]]
        paths = fields.mask(mask, MUTABLE, OUTPUT_ONLY, populated)
        check = fields.Check("file.")
        if "name" in paths:
            check.file_name(spec.name)
        check.content_type(spec.content_type)
        check.media(spec.media)
        check.metadata(spec.metadata)
        check.external_ref(spec.external_ref)
        check.done()
        name, detected = spec.name if "name" in paths else stored.name, stored.detected_content_type
        language = self._inspections.language_of(name, detected)
        changed = replace(
            stored,
            name=name,
            # An owner's later word stands, also against what was found.
            content_type=spec.content_type or content_type_of(name, "", detected)
            if "content_type" in paths
            else stored.content_type,
            media=self._measured(stored, spec.media, language) if "media" in paths else stored.media,
            external_ref=spec.external_ref if "external_ref" in paths else stored.external_ref,
            metadata=fields.merged_metadata(stored.metadata, spec.metadata, paths, "file.metadata"),
        )
        differing = [name for name in MUTABLE if getattr(changed, name) != getattr(stored, name)]
        if "metadata" not in differing and not fields.same_metadata(changed.metadata, stored.metadata):
            differing.append("metadata")
        if not differing:
            return stored
        return self.write(caller, replace(changed, type=type_of(changed.content_type, language)), "updated", differing)

    def owned(self, caller: Caller, file_id: str) -> File:
        """Return a file that the caller may change."""
        file = self.get(caller, file_id)
        if not access.owns(caller, file.creator.id):
            raise errors.AccessDeniedError
        return file

    def undelete(self, caller: Caller, file_id: str, etag: str = "") -> File:
        """Bring a deleted file back; attachments that were deleted with it stay deleted."""
        stored = self.owned(caller, file_id)
        if stored.state is not FileState.DELETED:
            raise errors.NotDeletedError
        etags.require(etag, stored.version)
        # Whether or not it was detached before it was deleted, nothing paid for it since.
        self._quota.charge(stored.workspace_id, stored.size_bytes)
        known = self._inspections.again(stored.blob_id)
        state = FileState.QUARANTINED if known is not None and known.is_quarantined else FileState.ACTIVE
        restored = replace(stored, state=state, delete_time=None, detach_time=None)
        return self.write(caller, restored, "undeleted")

    def hold(self, caller: Caller, file: File) -> File:
        """Note that a live attachment holds a file."""
        if file.was_attached and file.detach_time is None:
            return file
        if file.detach_time is not None:
            self._quota.charge(caller.workspace_id, file.size_bytes)
        held = replace(file, was_attached=True, detach_time=None)
        self._store.update_file(held)
        return held

    def let_go(self, caller: Caller, file_id: str) -> None:
        """Note that an attachment no longer holds a file; without any, its grace period begins."""
        file = self._store.file(caller.workspace_id, file_id)
        if file is None or file.state is FileState.DELETED or self._store.live_attachments_of_file(file_id):
            return
        self._quota.give_back(caller.workspace_id, file.size_bytes)
        self._store.update_file(replace(file, detach_time=self._clock.now()))

    def write(self, caller: Caller, changed: File, verb: str, changed_fields: Sequence[str] = ()) -> File:
        """Store a changed file and record the change."""
        written = replace(changed, update_time=self._clock.now(), version=changed.version + 1)
        self._store.update_file(written)
        self._record(caller, verb, written, changed_fields)
        return written

    def note_inspection(self, file: File, changed: File) -> None:
        """Store what was found out about a file's content, and record it, if it is news.

        Neither version nor time change: nobody's update may fail because somebody looked at the content meanwhile.
        """
        noted = ("detected_content_type", "state", "media", "preview")
        differing = [name for name in noted if getattr(changed, name) != getattr(file, name)]
        if not differing:
            return
        self._store.update_file(changed)
        if changed.state is FileState.DELETED or changed.preview.state is PreviewState.PENDING:
            return
        verb = "inspected"
        if changed.state is FileState.QUARANTINED and "state" in differing:
            verb = "quarantined"
        elif changed.preview.state is PreviewState.READY:
            verb = "previewed"
        self._record(_service(file.workspace_id), verb, changed, differing)

    def _measured(self, stored: File, said: Media, language: str) -> Media:
        """Return what a caller says of a file's contents, but for what was found out itself."""
        known = self._inspections.again(stored.blob_id)
        media = said if known is None else overlaid(said, known.media)
        return replace(media, code_language=language) if language and not media.code_language else media

    def _open(self, file: File) -> BlobReader | bytes:
        blob = self._store.blob(file.blob_id)
        if blob is None:
            raise errors.StoredContentCorruptError
        if not blob.is_inline:
            return self._blobs.open(blob.location)
        data = self._store.inline_bytes(blob.id)
        if data is None:
            raise errors.StoredContentCorruptError
        return data

    def _tell_damage(self, file: File) -> None:
        where = "unknown"
        with suppress(errors.RemoraError):  # The damage is what the caller is told, not that the database is away too.
            blob = self._store.blob(file.blob_id)
            where = "no blob" if blob is None else blob.location or "the database"
        self._damaged(file.id, where)

    def _record(self, caller: Caller, verb: str, file: File, changed_fields: Sequence[str] = ()) -> None:
        summary = {"id": file.id, "name": file.name, "content_type": file.content_type, "size_bytes": file.size_bytes}
        # Not `was_attached`: an undeleted file hangs on nothing, though it was never let go of.
        attached = verb != "created" and bool(self._store.live_attachments_of_file(file.id))
        self._log.record(
            caller,
            f"file.{verb}.v1",
            file.id,
            {"file": summary},
            changed_fields=changed_fields,
            visible_to="" if attached else file.creator.id,
        )


def _service(workspace_id: str) -> Caller:
    return Caller(workspace_id, "", SERVICE, frozenset())

"""Attachments: one card per outside thing and subject. Upsert by URL, find, list, change, archive, delete.

Upserting edits what is there; creating refuses it. Both rest on the unique index over (subject, URL key) of live rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import field
from enum import StrEnum
from typing import Any

from remora_server.core import access, batches, conditions, errors, etags, fields, ids, urls
from remora_server.core.activity import ActivityLog
from remora_server.core.files import Files
from remora_server.core.model import (
    NO_REF,
    NOBODY_SHOWN,
    Attachment,
    Caller,
    ExternalRef,
    File,
    Metadata,
    Micros,
    Outcome,
    Page,
    ShownCreator,
    Subject,
)
from remora_server.core.pages import REVERSED, Pages, Span, Window
from remora_server.core.ports import AttachmentQuery, Changes, Clock, MetadataStore, Position
from remora_server.core.subjects import Subjects
from remora_server.core.values import dataclass, replace

MUTABLE = ("title", "subtitle", "icon_url", "group_key", "metadata", "external_ref")
MASKABLE = (*MUTABLE, "sequence_number")
OUTPUT_ONLY = (
    "id", "workspace_id", "subject", "url", "file_id", "normalized_url", "file", "creator", "updater",
    "create_time", "update_time", "archive_time", "delete_time", "purge_time", "etag",
)  # fmt: skip
EMPTY = {
    "title": "",
    "subtitle": "",
    "icon_url": "",
    "group_key": "",
    "metadata": {},
    "external_ref": ExternalRef(),
    "sequence_number": None,
}


class UpsertMode(StrEnum):
    """What an upsert may do."""

    UPSERT = "UPSERT"
    INSERT_ONLY = "INSERT_ONLY"
    UPDATE_ONLY = "UPDATE_ONLY"


@dataclass(frozen=True, slots=True)
class Draft:
    """An attachment as a caller writes it."""

    workspace_id: str
    subject: Subject
    url: str = ""
    file_id: str = ""
    title: str = ""
    subtitle: str = ""
    icon_url: str = ""
    group_key: str = ""
    metadata: Metadata = field(default_factory=dict)
    external_ref: ExternalRef = NO_REF
    sequence_number: int | None = None
    id: str = ""
    shown_creator: ShownCreator = NOBODY_SHOWN


@dataclass(frozen=True, slots=True)
class Wanted:
    """One item of a batch of upserts."""

    draft: Draft
    mask: Sequence[str] = ()
    mode: UpsertMode | None = UpsertMode.UPSERT  # None: one that this version does not know
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Upserted:
    """An attachment and what the upsert did to it."""

    attachment: Attachment
    outcome: Outcome


class Attachments:
    """The rules of attachments over a metadata store."""

    def __init__(
        self,
        store: MetadataStore,
        subjects: Subjects,
        files: Files,
        log: ActivityLog,
        pages: Pages,
        clock: Clock,
        *,
        undelete_window: Micros,
        stripped_parameters: frozenset[str] = frozenset(),
    ) -> None:
        self._store = store
        self._subjects = subjects
        self._files = files
        self._log = log
        self._pages = pages
        self._clock = clock
        self._undelete_window = undelete_window
        self._stripped = stripped_parameters

    def create(self, caller: Caller, draft: Draft) -> Attachment:
        """Attach a URL or a file; a URL that is there already is refused, a file that is there is returned."""
        access.enter(caller, draft.workspace_id, "attachment.workspace_id")
        if bool(draft.url) == bool(draft.file_id):
            raise errors.invalid("attachment.url", "is required, or attachment.file_id; give exactly one of the two")
        self._check(draft)
        if draft.file_id:
            file = self._files.readable(caller, draft.file_id, "attachment.file_id")
            subject = self._subjects.resolve(caller, draft.subject, register=True)
            return self.attach_file(caller, subject, file, draft)[0]
        subject = self._subjects.resolve(caller, draft.subject, register=True)
        stored, added = self._insert(caller, subject, draft)
        if not added:
            raise errors.AttachmentUrlExistsError(stored.id)
        return stored

    def upsert(
        self,
        caller: Caller,
        draft: Draft,
        mask: Collection[str] = (),
        mode: UpsertMode | None = UpsertMode.UPSERT,
        etag: str = "",
    ) -> Upserted:
        """Create the attachment of this subject and URL, or change it.

        An insert takes every field. An update takes those that the mask names, or without one those that are set. A
        `sequence_number` not above the stored one changes nothing: its sender was overtaken.
        """
        access.enter(caller, draft.workspace_id, "attachment.workspace_id")
        self._check(draft)
        if mode is None:
            raise errors.invalid("mode", "is not a known value")
        named = _named(draft, mask)
        normalized = urls.normalize(draft.url, "attachment.url", self._stripped)
        subject = self._subjects.resolve(caller, draft.subject, register=mode is not UpsertMode.UPDATE_ONLY)
        stored = self._store.live_attachment_by_url(caller.workspace_id, subject.type, subject.id, urls.key(normalized))
        if stored is None:
            if mode is UpsertMode.UPDATE_ONLY or etag:
                raise errors.NotFoundError("attachment", f"attachments?url={draft.url}")
            stored, added = self._insert(caller, subject, draft)
            if added:
                return Upserted(stored, Outcome.CREATED)
        if mode is UpsertMode.INSERT_ONLY:
            raise errors.AttachmentUrlExistsError(stored.id)
        etags.require(etag, stored.version)
        if (
            draft.sequence_number is not None
            and stored.sequence_number is not None
            and draft.sequence_number <= stored.sequence_number
        ):
            return Upserted(stored, Outcome.STALE)
        return self._changed(caller, stored, draft, named)

    def upsert_many(
        self, caller: Caller, workspace: str, items: Sequence[Wanted], changes: Changes
    ) -> list[Upserted | errors.RemoraError]:
        """Upsert each item by itself; a second one for the same subject and URL is refused."""
        access.enter(caller, workspace)
        seen: set[tuple[str, str, str]] = set()

        def one(item: Wanted) -> Upserted:
            draft = item.draft if item.draft.workspace_id else replace(item.draft, workspace_id=workspace)
            key = urls.key(urls.normalize(draft.url, "attachment.url", self._stripped))
            subject = self._subjects.resolve(caller, draft.subject, register=item.mode is not UpsertMode.UPDATE_ONLY)
            if (subject.type, subject.id, key) in seen:
                raise errors.DuplicateInBatchError
            seen.add((subject.type, subject.id, key))
            return self.upsert(caller, draft, item.mask, item.mode, item.etag)

        return batches.each(changes, items, one)

    def get(self, caller: Caller, attachment_id: str) -> Attachment:
        """Return an attachment; a deleted one too, until it is purged."""
        found = self._store.attachment(caller.workspace_id, ids.parse(ids.ATTACHMENT, attachment_id, "attachment_id"))
        if found is None:
            raise errors.NotFoundError("attachment", f"attachments/{attachment_id}")
        return found

    def lookup(
        self, caller: Caller, workspace: str, url: str, *, page_size: int = 0, page_token: str = ""
    ) -> Page[Attachment]:
        """Return the live attachments of a URL on all subjects."""
        key = urls.key(urls.normalize(url, "url", self._stripped))
        return self.list(
            caller,
            AttachmentQuery(workspace, url_key=key, show_archived=True),
            None,
            page_size=page_size,
            page_token=page_token,
        )

    def list(
        self,
        caller: Caller,
        wanted: AttachmentQuery,
        subject: Subject | None,
        *,
        page_size: int = 0,
        page_token: str = "",
        include_total_size: bool = False,
    ) -> Page[Attachment]:
        """Return a page of attachments in the order asked for, newest first by default."""
        query = replace(wanted, workspace_id=access.enter(caller, wanted.workspace_id))
        fields.filters(kinds=wanted.kinds, content_types=wanted.content_types)
        if subject is not None:
            resolved = self._subjects.resolve(caller, subject, register=False)
            query = replace(query, subject_type=resolved.type, subject_id=resolved.id)

        page = self._pages.page(
            ("attachments", query),
            page_size,
            page_token,
            lambda after, limit: self._store.list_attachments(query, after, limit),
            _position(query),
        )
        return replace(page, total_size=self._store.count_attachments(query)) if include_total_size else page

    def window(self, caller: Caller, wanted: AttachmentQuery, span: Span) -> Window[Attachment]:
        """Return a part of a listing, read from either end."""
        query, sealed, position = self._spanned(caller, wanted, span)
        fetched = self._store.list_attachments(query, position, span.size + 1)
        return self._pages.window(sealed, span, fetched, _position(query))

    def windows(
        self, caller: Caller, wanted: AttachmentQuery, subject_ids: Collection[str], span: Span
    ) -> dict[str, Window[Attachment]]:
        """Return for each of some subjects what `window` would."""
        query, sealed, position = self._spanned(caller, wanted, span)
        fetched = self._store.list_attachments_by_subject(query, subject_ids, position, span.size + 1)
        return {
            subject_id: self._pages.window(sealed, span, fetched.get(subject_id, ()), _position(query))
            for subject_id in subject_ids
        }

    def latest_of_url(self, caller: Caller, wanted: AttachmentQuery, url: str) -> Attachment | None:
        """Return the attachment of a URL that was changed last; one that is put aside only if there is no other."""
        query = replace(self.url_query(wanted, url), order="UPDATE_TIME_DESC")
        query = replace(query, workspace_id=access.enter(caller, query.workspace_id))
        for aside in (False, True):
            if found := self._store.list_attachments(replace(query, show_archived=aside), None, 1):
                return found[0]
        return None

    def url_query(self, wanted: AttachmentQuery, url: str) -> AttachmentQuery:
        """Narrow a listing to a URL."""
        return replace(wanted, url_key=urls.key(urls.normalize(url, "url", self._stripped)))

    def _spanned(
        self, caller: Caller, wanted: AttachmentQuery, span: Span
    ) -> tuple[AttachmentQuery, Sequence[object], Position | None]:
        """Return what to ask the store for, what its cursors belong to, and where it begins."""
        if wanted.where is not None:
            conditions.require_bounded(wanted.where)
        query = replace(wanted, workspace_id=access.enter(caller, wanted.workspace_id))
        sealed = ("attachments", query)
        position = self._pages.start(sealed, span)
        return (replace(query, order=REVERSED[query.order]) if span.from_end else query), sealed, position

    def update(
        self, caller: Caller, attachment_id: str, draft: Draft, mask: Collection[str], etag: str = ""
    ) -> Attachment:
        """Change the fields that the mask names, or without one those that are set."""
        stored = self._live(caller, attachment_id)
        self._check(draft)
        etags.require(etag, stored.version)
        return self._changed(caller, stored, draft, _named(draft, mask)).attachment

    def archive(self, caller: Caller, attachment_id: str, etag: str = "") -> Attachment:
        """Put an attachment aside; repeating it changes nothing."""
        stored = self._live(caller, attachment_id)
        etags.require(etag, stored.version)
        if stored.archive_time is not None:
            return stored
        return self._write(caller, stored, "archived", archive_time=self._clock.now())

    def unarchive(self, caller: Caller, attachment_id: str, etag: str = "") -> Attachment:
        """Take an attachment back from aside; repeating it changes nothing."""
        stored = self._live(caller, attachment_id)
        etags.require(etag, stored.version)
        if stored.archive_time is None:
            return stored
        return self._write(caller, stored, "unarchived", archive_time=None)

    def delete(
        self, caller: Caller, attachment_id: str, etag: str = "", *, allow_missing: bool = False
    ) -> Attachment | None:
        """Delete an attachment; until its purge_time it can be undeleted, and a file held by nothing else is kept."""
        found = self._store.attachment(caller.workspace_id, ids.parse(ids.ATTACHMENT, attachment_id, "attachment_id"))
        if found is None or found.delete_time is not None:
            if allow_missing:
                return found
            raise errors.NotFoundError("attachment", f"attachments/{attachment_id}")
        etags.require(etag, found.version)
        return self.drop(caller, found)

    def drop(self, caller: Caller, live: Attachment) -> Attachment:
        """Delete a live attachment that the caller may delete."""
        now = self._clock.now()
        deleted = self._write(caller, live, "deleted", delete_time=now, purge_time=now + self._undelete_window)
        if live.file_id:
            self._files.let_go(caller, live.file_id)
        return deleted

    def undelete(
        self, caller: Caller, attachment_id: str, etag: str = "", *, allow_missing: bool = False
    ) -> Attachment | None:
        """Bring a deleted attachment back, unless another has taken its place."""
        stored = self._store.attachment(caller.workspace_id, ids.parse(ids.ATTACHMENT, attachment_id, "attachment_id"))
        if stored is None:
            if allow_missing:
                return None
            raise errors.NotFoundError("attachment", f"attachments/{attachment_id}")
        etags.require(etag, stored.version)
        if stored.delete_time is None:
            raise errors.NotDeletedError
        if stored.purge_time is not None and stored.purge_time <= self._clock.now():
            # The sweep has only not come by yet.
            raise errors.NotFoundError("attachment", f"attachments/{attachment_id}")
        if stored.file_id:
            file = self._store.file(caller.workspace_id, stored.file_id)
            if file is None or file.delete_time is not None:
                raise errors.NotFoundError("file", f"files/{stored.file_id}")
            self._files.hold(caller, file)
        return self._write(caller, stored, "undeleted", delete_time=None, purge_time=None)

    def require_new_ref(self, caller: Caller, subject: Subject, ref: ExternalRef) -> None:
        """Raise ExternalRefExistsError if a live file on a resolved subject has this whole reference.

        In a change this decides, since changes come one after the other; outside of one it only tells early.
        """
        if not (ref.source and ref.id):
            return
        query = AttachmentQuery(
            caller.workspace_id, subject.type, subject.id, kinds=("FILE",), external_ref=ref, show_archived=True
        )
        for found in self._store.list_attachments(query, None, 1):
            raise errors.ExternalRefExistsError(found.id)

    def attach_file(
        self, caller: Caller, subject: Subject, file: File, draft: Draft | None = None, attachment_id: str = ""
    ) -> tuple[Attachment, bool]:
        """Hang a file on a resolved subject; one that hangs there already is returned as it is."""
        present = self._store.live_attachment_by_file(subject.type, subject.id, file.id)
        if present is not None:
            return present, False
        draft = draft or Draft(caller.workspace_id, subject)
        new = replace(
            self._new(caller, subject, draft),
            file_id=file.id,
            file=file,
            title=draft.title or file.name,
        )
        if attachment_id:
            new = replace(new, id=attachment_id)
        held = self._files.hold(caller, file)
        stored, added = self._store.find_or_add_attachment(replace(new, file=held))
        if added:
            self._record(caller, "created", stored)
        return stored, added

    def _live(self, caller: Caller, attachment_id: str) -> Attachment:
        found = self.get(caller, attachment_id)
        if found.delete_time is not None:
            raise errors.NotFoundError("attachment", f"attachments/{attachment_id}")
        return found

    def _insert(self, caller: Caller, subject: Subject, draft: Draft) -> tuple[Attachment, bool]:
        normalized = urls.normalize(draft.url, "attachment.url", self._stripped)
        new = replace(
            self._new(caller, subject, draft), url=draft.url, normalized_url=normalized, url_key=urls.key(normalized)
        )
        stored, added = self._store.find_or_add_attachment(new)
        if added:
            self._record(caller, "created", stored)
        return stored, added

    def _new(self, caller: Caller, subject: Subject, draft: Draft) -> Attachment:
        now = self._clock.now()
        return Attachment(
            id=self._wanted_id(draft.id),
            workspace_id=caller.workspace_id,
            subject=subject,
            url="",
            normalized_url="",
            url_key="",
            file_id="",
            title=draft.title,
            subtitle=draft.subtitle,
            icon_url=draft.icon_url,
            group_key=draft.group_key,
            metadata=draft.metadata,
            external_ref=draft.external_ref,
            sequence_number=draft.sequence_number,
            creator=caller.actor,
            updater=caller.actor,
            create_time=now,
            update_time=now,
            archive_time=None,
            delete_time=None,
            purge_time=None,
            version=1,
            shown_creator=draft.shown_creator,
        )

    def _wanted_id(self, given: str) -> str:
        if not given:
            return ids.new_id(ids.ATTACHMENT)
        parsed = ids.parse(ids.ATTACHMENT, given, "attachment_id")
        if self._store.attachment_id_taken(parsed):
            raise errors.invalid("attachment_id", "is taken; leave it empty or choose another")
        return parsed

    def _changed(self, caller: Caller, stored: Attachment, draft: Draft, named: set[str]) -> Upserted:
        sequence = draft.sequence_number if draft.sequence_number is not None else stored.sequence_number
        values: dict[str, Any] = {
            name: getattr(draft, name)
            for name in MUTABLE
            if name in named and name != "metadata" and getattr(draft, name) != getattr(stored, name)
        }
        metadata = fields.merged_metadata(stored.metadata, draft.metadata, named, "attachment.metadata")
        if not fields.same_metadata(metadata, stored.metadata):
            values["metadata"] = metadata
        if values:
            changed = self._write(caller, stored, "updated", tuple(values), sequence_number=sequence, **values)
            return Upserted(changed, Outcome.UPDATED)
        if sequence != stored.sequence_number:
            # Nobody can see this, but a later, older writer must still be recognised as stale.
            stored = replace(stored, sequence_number=sequence)
            self._store.update_attachment(stored)
        return Upserted(stored, Outcome.UNCHANGED)

    def _write(
        self,
        caller: Caller,
        stored: Attachment,
        verb: str,
        changed_fields: Sequence[str] = (),
        **values: Any,  # noqa: ANN401 - fields of an attachment
    ) -> Attachment:
        now = self._clock.now()
        written = replace(stored, updater=caller.actor, update_time=now, version=stored.version + 1, **values)
        if "delete_time" not in values:
            self._store.update_attachment(written)
        elif not self._store.place_attachment(written):
            subject = written.subject
            other = (
                self._store.live_attachment_by_file(subject.type, subject.id, written.file_id)
                if written.file_id
                else self._store.live_attachment_by_url(written.workspace_id, subject.type, subject.id, written.url_key)
            )
            raise errors.AttachmentUrlExistsError(other.id if other else written.id)
        self._record(caller, verb, written, changed_fields)
        return written

    def _record(self, caller: Caller, verb: str, attachment: Attachment, changed_fields: Sequence[str] = ()) -> None:
        summary: dict[str, object] = {"id": attachment.id, "title": attachment.title, "subtitle": attachment.subtitle}
        if attachment.url:
            summary["url"] = attachment.url
        else:
            summary["file_id"] = attachment.file_id
            summary["name"] = attachment.file.name if attachment.file else ""
        self._log.record(
            caller,
            f"attachment.{verb}.v1",
            attachment.id,
            {"attachment": summary},
            subject=attachment.subject,
            changed_fields=changed_fields,
        )

    def _check(self, draft: Draft) -> None:
        check = fields.Check("attachment.")
        for name in ("title", "subtitle", "group_key"):
            check.text(name, getattr(draft, name))
        check.web_address("icon_url", draft.icon_url)
        if draft.shown_creator is not NOBODY_SHOWN:
            check.text("shown_creator.name", draft.shown_creator.name, "title")
            check.web_address("shown_creator.icon_url", draft.shown_creator.icon_url)
        check.metadata(draft.metadata)
        check.external_ref(draft.external_ref)
        check.done()


def _position(query: AttachmentQuery) -> Callable[[Attachment], Position]:
    """Return what tells where an attachment stands in the query's order."""
    if query.order.startswith("UPDATE"):
        return lambda one: (one.update_time, one.id)
    return lambda one: (one.create_time, one.id)


def _named(draft: Draft, mask: Collection[str]) -> set[str]:
    return fields.mask(mask, MASKABLE, OUTPUT_ONLY, [name for name in MASKABLE if getattr(draft, name) != EMPTY[name]])

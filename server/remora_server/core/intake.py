"""What becomes of bytes that have been received: a blob, a file, perhaps an attachment, in the caller's transaction."""

from __future__ import annotations

from remora_server.core import dedup, errors, ids
from remora_server.core.attachments import Attachments, Draft
from remora_server.core.dedup import DedupMode
from remora_server.core.file_types import content_type_of
from remora_server.core.files import Files
from remora_server.core.inspection import Inspections
from remora_server.core.model import (
    NO_MEDIA,
    Attachment,
    Blob,
    Caller,
    Checksums,
    ExternalRef,
    File,
    FileSpec,
    Media,
    Subject,
    UploadOutcome,
)
from remora_server.core.ports import Clock, MetadataStore
from remora_server.core.values import dataclass


@dataclass(frozen=True, slots=True)
class Content:
    """Digests, size and type of bytes, computed here."""

    checksums: Checksums
    size_bytes: int
    detected: str = ""  # its media type, as its first bytes tell
    media: Media = NO_MEDIA  # what a glance at it showed
    beginning: bytes = b""  # what a glance needs, where the bytes themselves are gone by then


@dataclass(frozen=True, slots=True)
class Taken:
    """What an upload came to. `blob_is_new` tells whether the bytes that were brought are the ones kept."""

    file: File
    outcome: UploadOutcome
    attachment_id: str
    blob_is_new: bool = False
    attachment: Attachment | None = None


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a file is uploaded for, beyond what its ticket says.

    `as_new_file` makes a file also where the caller has the same one: for systems in which each upload is a thing of
    its own, and the only one on its subject with its external reference. The bytes are still kept once.
    A temporary one hangs on nothing until it is attached.
    """

    as_new_file: bool = False
    is_temporary: bool = False


ANY = Purpose()


class Intake:
    """Turns received bytes, or a hit of the dedup rule, into a file."""

    def __init__(
        self,
        store: MetadataStore,
        files: Files,
        attachments: Attachments,
        clock: Clock,
        mode: DedupMode,
        inspections: Inspections,
    ) -> None:
        self._inspections = inspections
        self._store = store
        self._files = files
        self._attachments = attachments
        self._clock = clock
        self._mode = mode

    def find_existing(self, caller: Caller, spec: FileSpec) -> File | None:
        """Return a readable file with the content that `spec` claims, if it claims enough."""
        if spec.size_bytes is None:
            return None
        return dedup.find_existing(self._store, self._mode, caller, spec.checksums, spec.size_bytes)

    def reuse(
        self,
        caller: Caller,
        existing: File,
        spec: FileSpec,
        attach_to: Subject | None,
        attachment_id: str = "",
        *,
        as_it_is: bool = False,
    ) -> Taken:
        """Answer an upload with content that is there: the caller's own file of that name and type, or a new one.

        `as_it_is` takes a file of the caller's own whatever its name and type, unless it is on its way out.
        """
        wanted = _typed(spec, existing.detected_content_type)
        is_good = as_it_is and existing.creator.id == caller.principal_id and existing.detach_time is None
        file = existing if is_good else dedup.same_file(self._store, caller, existing, wanted)
        if file is None or self._inspections.is_scanning:
            blob = self._store.blob(existing.blob_id)
            if blob is None:
                raise errors.StoredContentCorruptError
            # With a scanner also where nothing new comes of it: what nobody has scanned yet is scanned now.
            inspection = self._inspections.of(blob, existing.detected_content_type)
            if file is None:
                file = self._files.add(caller, wanted, blob, inspection)
        attached = self._attach(caller, file, attach_to, attachment_id, spec.external_ref)
        return _taken(file, UploadOutcome.ALREADY_EXISTS, attached)

    def take(
        self,
        caller: Caller,
        spec: FileSpec,
        content: Content,
        *,
        location: str = "",
        inline: bytes | None = None,
        attach_to: Subject | None = None,
        attachment_id: str = "",
        purpose: Purpose = ANY,
        file_id: str = "",
    ) -> Taken:
        """Record bytes that are durable at `location`, or come as `inline` to be kept with the row.

        `file_id` is the id of a new file.
        """
        if location and self._store.is_condemned(location):
            # A sweep without grace met them before their row, and is removing them. The caller stores them once more.
            raise errors.StorageUnavailableError
        # Also where there is a file already: its blob may have no MD5 yet.
        blob, is_new = self._store.find_or_add_blob(
            Blob(
                id=ids.new_id(ids.BLOB),
                workspace_id=caller.workspace_id,
                key=dedup.key(caller.workspace_id, content.checksums, content.size_bytes),
                checksums=content.checksums,
                size_bytes=content.size_bytes,
                location=location,
                create_time=self._clock.now(),
            ),
            inline,
        )
        is_its_own = purpose.as_new_file or purpose.is_temporary or bool(file_id)
        if not is_new and not is_its_own:  # On a new one there can be no file yet.
            claim = Checksums(sha256=content.checksums.sha256)
            existing = dedup.find_existing(self._store, self._mode, caller, claim, content.size_bytes)
            if existing is not None:
                return self.reuse(caller, existing, spec, attach_to, attachment_id)
        inspection = self._inspections.of(blob, content.detected, content.media, is_new=is_new)
        typed = _typed(spec, content.detected)
        file = self._files.add(caller, typed, blob, inspection, file_id, is_temporary=purpose.is_temporary)
        if is_its_own and attach_to is not None:
            self._attachments.require_new_ref(caller, attach_to, spec.external_ref)
        attached = self._attach(caller, file, attach_to, attachment_id, spec.external_ref)
        return _taken(file, UploadOutcome.STORED, attached, blob_is_new=is_new)

    def _attach(
        self, caller: Caller, file: File, attach_to: Subject | None, attachment_id: str, external_ref: ExternalRef
    ) -> Attachment | None:
        """Hang a file on what it was uploaded for, under the name that its uploader knows it by."""
        if attach_to is None:
            return None
        draft = Draft(caller.workspace_id, attach_to, external_ref=external_ref)
        return self._attachments.attach_file(caller, attach_to, file, draft, attachment_id)[0]


def _taken(file: File, outcome: UploadOutcome, attached: Attachment | None, *, blob_is_new: bool = False) -> Taken:
    return Taken(file, outcome, attached.id if attached else "", blob_is_new, attached)


def _typed(spec: FileSpec, detected: str) -> FileSpec:
    return FileSpec(
        name=spec.name,
        content_type=content_type_of(spec.name, spec.content_type, detected),
        media=spec.media,
        metadata=spec.metadata,
        external_ref=spec.external_ref,
    )


def require_size(claimed: int | None, actual: int) -> None:
    """Raise SizeMismatchError unless as many bytes came as were declared."""
    if claimed is not None and claimed != actual:
        raise errors.SizeMismatchError(claimed, actual)


def require_match(claimed: Checksums, claimed_size: int | None, content: Content) -> None:
    """Compare whatever a caller declared with what came; raise for the first difference."""
    require_size(claimed_size, content.size_bytes)
    actual = content.checksums
    if claimed.crc32c is not None and claimed.crc32c != actual.crc32c:
        raise errors.ContentChecksumMismatchError("crc32c", f"{claimed.crc32c:08x}", f"{actual.crc32c or 0:08x}")
    for algorithm in ("md5", "sha256"):
        wanted: bytes = getattr(claimed, algorithm)
        came: bytes = getattr(actual, algorithm)
        if wanted and wanted != came:
            raise errors.ContentChecksumMismatchError(algorithm, wanted.hex(), came.hex())

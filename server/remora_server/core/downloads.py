"""Downloads by URL: who may have one, for how long, and what its holder may read later."""

from __future__ import annotations

from remora_server.core import access, dispositions, errors
from remora_server.core.files import Files
from remora_server.core.model import Actor, Caller, File, FileState, Form, HttpDownload, Micros, Shown
from remora_server.core.ports import DirectTransfers, MetadataStore
from remora_server.core.renditions import Renditions

SECOND: Micros = 1_000_000
DEFAULT_LIFETIME: Micros = 3600 * SECOND
MAX_LIFETIME: Micros = 7 * 24 * 3600 * SECOND
ADMIN = "admin"


class Downloads:
    """Hands out URLs, and opens files for those who hold one."""

    def __init__(
        self,
        store: MetadataStore,
        files: Files,
        renditions: Renditions,
        *,
        direct: DirectTransfers,
        inline: DirectTransfers,
    ) -> None:
        self._store = store
        self._files = files
        self._renditions = renditions
        self._direct = direct
        self._inline = inline  # This server's, for bytes too that lie in the database, or are made.

    def offer(
        self,
        caller: Caller,
        file_id: str,
        *,
        form: Form = Form.ORIGINAL,
        wants_inline: bool = False,
        lifetime: Micros | None = None,
        from_here: bool = False,
    ) -> HttpDownload:
        """Make a URL from which a form of a file can be read without a key. May ask the outside.

        With `from_here` it leads to this server wherever the bytes lie: clients that follow a redirect send their key
        along, also to another host.
        """
        file = self._files.readable(caller, file_id)
        if lifetime is not None and lifetime <= 0:
            raise errors.invalid("ttl", "must be above zero; leave it out for the server's own choice")
        shown = self._renditions.of(file, form)
        blob = self._store.blob(shown.file.blob_id)
        if blob is None:
            raise errors.StoredContentCorruptError
        transfers = self._inline if from_here or blob.is_inline or shown.data is not None else self._direct
        kind = self.disposition(shown, wants_inline=wants_inline)
        lifetime = min(DEFAULT_LIFETIME if lifetime is None else lifetime, MAX_LIFETIME)
        return transfers.offer_download(caller, shown.file, blob, kind, lifetime, form)

    def disposition(self, shown: Shown, *, wants_inline: bool) -> str:
        """Return how a form of a file is presented: inline only if that was asked for and its bytes can do no harm."""
        content_type = shown.file.content_type
        if not wants_inline or not dispositions.is_showable_type(content_type):
            return dispositions.ATTACHMENT
        head = self._renditions.head(shown, dispositions.HEAD_BYTES)
        return dispositions.INLINE if dispositions.may_show(content_type, head) else dispositions.ATTACHMENT

    def file_of_holder(self, workspace_id: str, reader: str, file_id: str) -> File:
        """Return a file for whoever holds a URL that was made in `reader`'s right, if that right still stands."""
        file = self._store.file(workspace_id, file_id)
        scopes = frozenset({ADMIN}) if reader == ADMIN else frozenset[str]()
        who = Caller(workspace_id, "", Actor(reader, "USER", ""), scopes)
        if file is None or file.state is FileState.DELETED or not access.may_read_file(self._store, who, file):
            raise errors.NotFoundError("file", f"files/{file_id}")
        if file.state is FileState.QUARANTINED:
            raise errors.FileQuarantinedError
        return file

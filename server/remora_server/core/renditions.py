"""Other forms of a file: what was made of its content to show it, or for a text its own beginning."""

from __future__ import annotations

import codecs

from remora_server.core import errors
from remora_server.core.files import Files
from remora_server.core.hashing import measure
from remora_server.core.inspection import TEXT_PREVIEW
from remora_server.core.model import Checksums, File, Form, PreviewState, Shown
from remora_server.core.ports import MetadataStore
from remora_server.core.reading import Reading
from remora_server.core.sniffing import text_encoding
from remora_server.core.values import replace

TEXT_BYTES = 64 * 1024
TEXT_TYPE = "text/plain; charset=utf-8"
ENDINGS = {"image/jpeg": ".jpg", "image/png": ".png", TEXT_TYPE: ".txt"}


class Renditions:
    """Finds the forms of files, and reads them."""

    def __init__(self, store: MetadataStore, files: Files) -> None:
        self._store = store
        self._files = files

    def of(self, file: File, form: Form) -> Shown:
        """Return a form of a readable file; raise PreviewUnavailableError if there is none (yet)."""
        if form is Form.ORIGINAL:
            return Shown(file)
        if file.preview == TEXT_PREVIEW:
            return self._text(file, form)
        found = self._store.rendition(file.blob_id, form.value)
        if found is None or file.preview.state is not PreviewState.READY:
            raise errors.PreviewUnavailableError(file.preview.state, file.preview.reason)
        blob = self._store.blob(found.shown_blob_id)
        if blob is None:
            raise errors.StoredContentCorruptError
        shown = _renamed(file, form, found.content_type, blob.size_bytes, blob.checksums)
        return Shown(replace(shown, blob_id=blob.id), form)

    def reading(self, shown: Shown, offset: int, length: int) -> Reading:
        """Open the bytes of a form for reading a range of it in order."""
        if shown.data is not None:
            return Reading(shown.file, shown.data, offset, length)
        return self._files.reading(shown.file, offset, length)

    def head(self, shown: Shown, size_bytes: int) -> bytes:
        """Return the first bytes of a form, unproved."""
        return shown.data[:size_bytes] if shown.data is not None else self._files.head(shown.file, size_bytes)

    def _text(self, file: File, form: Form) -> Shown:
        if form is not Form.PREVIEW:
            raise errors.PreviewUnavailableError
        head = self._files.head(file, TEXT_BYTES)
        # Whatever is no character, such as one cut at the end of a long text, is left out or marked.
        decoder = codecs.getincrementaldecoder(text_encoding(head))("replace")
        data = decoder.decode(head, final=False).encode()
        content = measure(data)
        shown = _renamed(file, form, TEXT_TYPE, content.size_bytes, content.checksums)
        return Shown(shown, form, data)


def _renamed(file: File, form: Form, content_type: str, size_bytes: int, checksums: Checksums) -> File:
    stem, dot, _ = file.name.rpartition(".")
    name = f"{stem if dot and stem else file.name}-{form.value.lower()}{ENDINGS[content_type]}"
    return replace(file, name=name, content_type=content_type, size_bytes=size_bytes, checksums=checksums)

"""Digests that no upload needed: found out when somebody asks for them, and kept.

A stream is proved by its SHA-256 and CRC32C, so a file that came by one has no MD5 until a system in which every file
has one wants to know it.
"""

from __future__ import annotations

import hashlib

from remora_server.core.files import Files
from remora_server.core.model import File
from remora_server.core.ports import Changes, MetadataStore


class Digests:
    """Finds digests out."""

    def __init__(self, store: MetadataStore, files: Files, changes: Changes) -> None:
        self._store = store
        self._files = files
        self._changes = changes

    def md5_of(self, file: File) -> bytes:
        """Return the MD5 of a file that the caller was shown; without one, its bytes are read, once for all files."""
        if file.checksums.md5:
            return file.checksums.md5
        md5 = hashlib.md5(usedforsecurity=False)
        reading = self._files.reading(file, 0, file.size_bytes)
        try:
            while piece := reading.next()[1]:
                md5.update(piece)
        finally:
            reading.close()
        digest = md5.digest()
        self._changes.run(lambda: self._store.learn_md5(file.blob_id, digest))
        return digest

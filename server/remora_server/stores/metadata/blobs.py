"""Blobs, and the bytes of small ones."""

from __future__ import annotations

from remora_server.core.model import Blob, Checksums
from remora_server.core.values import replace
from remora_server.stores.database import Row
from remora_server.stores.kept import Query, Slot, kept, kept_insert
from remora_server.stores.metadata.rows import Rows
from remora_server.stores.tables import BlobBytes, Blobs, Files

BLOB = (
    Blobs.id,
    Blobs.workspace_id,
    Blobs.key,
    Blobs.crc32c,
    Blobs.md5,
    Blobs.sha256,
    Blobs.size_bytes,
    Blobs.location,
    Blobs.create_time,
)
ADD_BLOB = kept_insert(Blobs, BLOB, or_nothing=True)
ADD_BYTES = kept_insert(BlobBytes, (BlobBytes.blob_id, BlobBytes.data))


@kept
def _blob_by_key(key: Slot) -> Query:
    return Blobs.select(*BLOB).where(Blobs.key == key)


@kept
def _blob_by_id(blob_id: Slot) -> Query:
    return Blobs.select(*BLOB).where(Blobs.id == blob_id)


@kept
def _bytes_of(blob_id: Slot) -> Query:
    return BlobBytes.select(BlobBytes.data).where(BlobBytes.blob_id == blob_id)


@kept
def _learn_md5(md5: Slot, blob_id: Slot) -> Query:
    return Blobs.update({Blobs.md5: md5}).where(Blobs.id == blob_id)


@kept
def _tell_files_md5(md5: Slot, blob_id: Slot) -> Query:
    return Files.update({Files.md5: md5}).where(Files.blob_id == blob_id)


class BlobRows(Rows):
    """Blobs, each content of a workspace once."""

    def find_or_add_blob(self, new: Blob, inline: bytes | None) -> tuple[Blob, bool]:
        """Return the blob under `new.key` and whether it is `new`; `inline` holds the bytes of one without location."""
        row, added = self._add_or_find(_blob_by_key, (new.key,), ADD_BLOB, _values(new))
        if not added:
            return self._taught(blob_from(row), new.checksums.md5), False
        if inline is not None:
            self._db.write(ADD_BYTES, new.id, inline)
        return new, True

    def _taught(self, known: Blob, md5: bytes) -> Blob:
        """Note the MD5 of a blob that was first stored without one, and of its files."""
        if known.checksums.md5 or not md5:
            return known
        self.learn_md5(known.id, md5)
        return replace(known, checksums=replace(known.checksums, md5=md5))

    def learn_md5(self, blob_id: str, md5: bytes) -> None:
        """Note the MD5 of a blob that was stored without one, and of its files."""
        self._db.write(_learn_md5, md5, blob_id)
        self._db.write(_tell_files_md5, md5, blob_id)

    def blob(self, blob_id: str) -> Blob | None:
        """Find a blob by id."""
        row = self._db.row(_blob_by_id, blob_id)
        return None if row is None else blob_from(row)

    def inline_bytes(self, blob_id: str) -> bytes | None:
        """Return the bytes of a blob that lies in the database."""
        row = self._db.row(_bytes_of, blob_id)
        return None if row is None else row[0]


def _values(blob: Blob) -> tuple[object, ...]:
    sums = blob.checksums
    digests = (sums.crc32c, sums.md5 or None, sums.sha256 or None)
    return (blob.id, blob.workspace_id, blob.key, *digests, blob.size_bytes, blob.location, blob.create_time)


def blob_from(row: Row) -> Blob:
    """Make a blob of the columns `BLOB`."""
    id_, workspace_id, key, crc32c, md5, sha256, size_bytes, location, create_time = row
    checksums = Checksums(crc32c, md5 or b"", sha256 or b"")
    return Blob(id_, workspace_id, key, checksums, size_bytes, location, create_time)

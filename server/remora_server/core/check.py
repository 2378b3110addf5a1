"""Checking: stored bytes are read and hashed, rows and bytes are compared both ways, and quotas are counted anew."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, field

from remora_server.core import errors, litter, ownership
from remora_server.core.model import Blob
from remora_server.core.ports import BlobStore, MetadataStore, Stored
from remora_server.core.values import dataclass

READ_BLOCK = 4 * 1024 * 1024
Finding = dict[str, object]
FINDINGS = (
    "missing",
    "unreadable",
    "corrupt",
    "wrong_size",
    "orphans",
    "stale_staged",
    "dangling_files",
    "quotas",
)


@dataclass(slots=True)
class Checked:
    """What a check found; every list names what an operator should look at."""

    files: int = 0
    blobs: int = 0
    checked_bytes: int = 0
    missing: list[Finding] = field(default_factory=list)
    unreadable: list[Finding] = field(default_factory=list)
    corrupt: list[Finding] = field(default_factory=list)
    wrong_size: list[Finding] = field(default_factory=list)
    orphans: list[Finding] = field(default_factory=list)
    stale_staged: list[Finding] = field(default_factory=list)
    dangling_files: list[str] = field(default_factory=list)
    quotas: list[Finding] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether there is nothing to look at."""
        return not any(getattr(self, finding) for finding in FINDINGS)

    def lines(self) -> list[str]:
        """Return a line for each finding, which names first what it is about."""
        return [f"{finding}: {_told(one)}" for finding in FINDINGS for one in getattr(self, finding)]

    def report(self) -> dict[str, object]:
        """Return everything as plain values."""
        return {"clean": self.clean, **asdict(self)}


class Check:
    """Proves what is there; it changes nothing, and uploads may go on meanwhile."""

    def __init__(self, store: MetadataStore, blobs: BlobStore) -> None:
        self._store = store
        self._blobs = blobs

    def run(self, progress: Callable[[int, int], None] | None = None) -> Checked:
        """Read and hash every blob, and compare both directions; `progress` hears of blobs done and of all.

        Raise ForeignBlobsError for a blob store that belongs to another database.
        """
        ownership.require_own(self._store, self._blobs, claiming=False)
        found = Checked()
        counts = self._store.counts()
        found.files = counts.get("files", 0)
        total = counts.get("blobs", 0)
        orphans = list(litter.orphans(self._store, self._blobs, None))
        stale = list(litter.stale(self._store, self._blobs, None))
        last = ""
        while batch := self._store.blobs_after(last, litter.BATCH):
            for blob in batch:
                self._check_blob(blob, found)
                found.blobs += 1
                if progress is not None:
                    progress(found.blobs, max(total, found.blobs))
            last = batch[-1].id
        found.dangling_files = list(self._store.dangling_files())
        found.quotas = [
            asdict(tally)
            for tally in self._store.tallies()
            if (tally.used_bytes, tally.reserved_bytes) != (tally.file_bytes, tally.ticket_bytes)
        ]
        # Uploads go on while this runs: what got its row, or was removed, since it was seen is none of our findings.
        still = {stored.name for stored in litter.orphans(self._store, self._blobs, None)}
        found.orphans = [_named(stored) for stored in orphans if stored.name in still]
        still = {stored.name for stored in litter.stale(self._store, self._blobs, None)}
        found.stale_staged = [_named(stored) for stored in stale if stored.name in still]
        return found

    def _check_blob(self, blob: Blob, found: Checked) -> None:
        digest = hashlib.sha256()
        size = 0
        try:
            for block in self._blocks(blob):
                digest.update(block)
                size += len(block)
        except errors.RemoraError as problem:
            if self._store.blob(blob.id) is not None:
                if isinstance(problem, errors.StoredContentCorruptError):
                    found.missing.append({**self._about(blob), "problem": "its bytes are missing"})
                else:
                    found.unreadable.append({**self._about(blob), "problem": problem.message})
            return
        found.checked_bytes += size
        if size != blob.size_bytes:
            about = {**self._about(blob), "expected": blob.size_bytes, "actual": size}
            found.wrong_size.append({**about, "problem": f"{size} bytes are there, not {blob.size_bytes}"})
        elif digest.digest() != blob.checksums.sha256:
            different = "its bytes differ from those that were stored"
            found.corrupt.append({**self._about(blob), "actual": digest.hexdigest(), "problem": different})

    def _about(self, blob: Blob) -> Finding:
        files = [{"file_id": file.id, "name": file.name} for file in self._store.files_on_blob(blob.id)]
        shows = [
            {"file_id": file.id, "name": file.name, "rendition": rendition.name}
            for rendition in self._store.renditions_by(blob.id)
            for file in self._store.files_on_blob(rendition.blob_id)
        ]
        return {
            "blob_id": blob.id,
            "location": blob.location,
            "workspace_id": blob.workspace_id,
            "sha256": blob.checksums.sha256.hex(),
            "files": files,
            "shows": shows,
        }

    def _blocks(self, blob: Blob) -> Iterator[bytes]:
        if blob.is_inline:
            data = self._store.inline_bytes(blob.id)
            if data is None:
                raise errors.StoredContentCorruptError
            yield data
            return
        reader = self._blobs.open(blob.location)
        try:
            offset = 0
            while block := reader.read(offset, READ_BLOCK):
                yield block
                offset += len(block)
        finally:
            reader.close()


def _told(one: Finding | str) -> str:
    if isinstance(one, str):
        return f"files/{one}: no blob is known for it"
    if "used_bytes" in one:
        return (
            f"{one['workspace_id']}: counted are {one['used_bytes']} bytes used and {one['reserved_bytes']} reserved, "
            f"there are {one['file_bytes']} and {one['ticket_bytes']}"
        )
    if "blob_id" not in one:
        return f"{one['name']}: {one['size_bytes']} bytes that nothing refers to"
    named = ", ".join(
        f"{file['name']} (files/{file['file_id']})"
        + (f", its {file['rendition'].lower()}" if "rendition" in file else "")
        for files in (one["files"], one["shows"])
        if isinstance(files, list)
        for file in files
    )
    place = f"at {one['location']}" if one["location"] else "in the database"
    return f"{named or 'no file'}: {one['problem']}; {one['blob_id']} {place}, sha256 {one['sha256']}"


def _named(stored: Stored) -> Finding:
    return {"name": stored.name, "size_bytes": stored.size_bytes}

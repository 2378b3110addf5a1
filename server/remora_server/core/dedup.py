"""When two uploads are one content: the dedup rule.

Identity is (workspace, SHA-256, size), computed here from the bytes. A digest that a caller claims is a hint: it may
spare an upload only where it finds a file that this caller can read right now, so the answer tells nothing that a
listing would not. MD5 and CRC32C check integrity and never identify. Nothing is shared between workspaces.
"""

from __future__ import annotations

from enum import StrEnum

from remora_server.core.model import Caller, Checksums, File, FileSpec
from remora_server.core.ports import MetadataStore


class DedupMode(StrEnum):
    """How far a claimed digest may reach."""

    READABLE = "READABLE"  # files that the caller can read
    OWN = "OWN"  # files that the caller made
    OFF = "OFF"  # none: everything is uploaded


def key(workspace_id: str, checksums: Checksums, size_bytes: int) -> str:
    """Return the value that the blob table holds unique."""
    return f"{workspace_id}/{checksums.sha256.hex()}/{size_bytes}"


def find_existing(
    store: MetadataStore, mode: DedupMode, caller: Caller, content: Checksums, size_bytes: int
) -> File | None:
    """Return a file with this content that the caller can read now; None says: send the bytes.

    Quarantined and deleted files never match. With only an MD5, only the caller's own files do, since MD5
    collisions can be made and another's file could be passed off as yours.
    """
    if mode is DedupMode.OFF:
        return None
    if content.sha256:
        blob_key = key(caller.workspace_id, content, size_bytes)
        return store.file_with_content(blob_key, caller.principal_id, own_only=mode is DedupMode.OWN)
    if content.md5:
        return store.file_with_md5(caller.workspace_id, content.md5, size_bytes, caller.principal_id)
    return None


def same_file(store: MetadataStore, caller: Caller, existing: File, wanted: FileSpec) -> File | None:
    """Return the caller's own file on this content with the wanted name and type, which a hit hands out again.

    Any other hit becomes a new File on the same blob, with the caller's own name, rights and lifetime.
    """
    blob_key = key(caller.workspace_id, existing.checksums, existing.size_bytes)
    return store.file_with_content(
        blob_key, caller.principal_id, own_only=True, name=wanted.name, content_type=wanted.content_type
    )

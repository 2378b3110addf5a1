"""Which database a blob store belongs to: a marker in it names that database, so that no other one sweeps it.

To a database that lost its rows, or that was pointed at the wrong place, everything there would be litter.
"""

from __future__ import annotations

from itertools import islice

from remora_server.core.ports import BlobStore, MetadataStore

LOOKED_AT = 500


class ForeignBlobsError(Exception):
    """The blob store belongs to another database, or to nobody knows whom."""


def require_own(store: MetadataStore, blobs: BlobStore, *, claiming: bool = True) -> None:
    """Raise ForeignBlobsError unless the blob store is this database's; one that is nobody's becomes so.

    Without a marker it is this database's if that knows some of what is there, as after files were restored without
    their marker. If it is empty it is nobody's, and for this database only if that has nothing to look for in it.
    Whoever only looks passes `claiming=False`, and leaves no marker.
    """
    own = store.store_id()
    owner = blobs.owner()
    if not owner:
        _require_fitting(store, blobs, own)
        if not claiming:
            return
        owner = blobs.claim(own)
    if owner != own:
        raise ForeignBlobsError(
            f"The blob store belongs to another database: its marker `store-id` says {owner}, this one is {own}. "
            "Point REMORA_DATABASE_URL and REMORA_BLOBS (or REMORA_DATA) at two that belong together; if that database "
            "was lost, restore it; to begin anew, use an empty directory or another prefix."
        )


def _require_fitting(store: MetadataStore, blobs: BlobStore, own: str) -> None:
    """Raise ForeignBlobsError unless what a store without a marker holds is what this database expects."""
    committed = list(islice(blobs.list_blobs(), LOOKED_AT))
    staged = list(islice(blobs.list_staged(), LOOKED_AT))
    if not committed and not staged:
        if store.has_stored_blobs():
            raise ForeignBlobsError(
                "The blob store is empty and has no marker, but this database has contents in one. Check that its "
                "volume is mounted, and that REMORA_BLOBS (or REMORA_DATA) names the directory, or the bucket and "
                "prefix, where they are; if they were lost, restore them. To go on without them, put a file "
                f"`store-id` there that contains {own}"
            )
        return
    known = store.known_locations([one.location for one in committed])
    if not known and not store.open_tickets_among([one.name for one in (*committed, *staged)]):
        raise ForeignBlobsError(
            "The blob store holds contents that this database knows nothing of, and gc would remove them all. "
            "Point REMORA_DATABASE_URL and REMORA_BLOBS (or REMORA_DATA) at two that belong together; if the "
            "database was lost, restore it; to begin anew, use an empty directory or another prefix."
        )

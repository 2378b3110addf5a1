"""Which database a blob store belongs to: a marker in it names that database, so that no other one sweeps it.

To a database that lost its rows, or that was pointed at the wrong place, everything there would be litter.
"""

from __future__ import annotations

from itertools import islice

from remora_server.core.ports import BlobStore, MetadataStore

LOOKED_AT = 500


class ForeignBlobsError(Exception):
    """The blob store belongs to another database, or to nobody knows whom."""


def require_own(store: MetadataStore, blobs: BlobStore) -> None:
    """Raise ForeignBlobsError unless the blob store is this database's; one that is nobody's becomes so.

    Without a marker it is nobody's if it is empty, and this database's if that knows some of what is there, as after
    files were restored without their marker.
    """
    own = store.store_id()
    owner = blobs.owner()
    if not owner:
        if not _is_empty_or_known(store, blobs):
            raise ForeignBlobsError(
                "The blob store holds contents that this database knows nothing of, and gc would remove them all. "
                "Point REMORA_DATABASE_URL and REMORA_BLOBS (or REMORA_DATA) at two that belong together; if the "
                "database was lost, restore it; to begin anew, use an empty directory or another prefix."
            )
        owner = blobs.claim(own)
    if owner != own:
        raise ForeignBlobsError(
            f"The blob store belongs to another database: its marker `store-id` says {owner}, this one is {own}. "
            "Point REMORA_DATABASE_URL and REMORA_BLOBS (or REMORA_DATA) at two that belong together; if that database "
            "was lost, restore it; to begin anew, use an empty directory or another prefix."
        )


def _is_empty_or_known(store: MetadataStore, blobs: BlobStore) -> bool:
    committed = list(islice(blobs.list_blobs(), LOOKED_AT))
    staged = list(islice(blobs.list_staged(), LOOKED_AT))
    if not committed and not staged:
        return True
    known = store.known_locations([one.location for one in committed])
    return bool(known or store.open_tickets_among([one.name for one in (*committed, *staged)]))

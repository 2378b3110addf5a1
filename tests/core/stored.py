"""Bytes in the blob store of a world, with rows and without."""

from __future__ import annotations

from remora_server.core import ids
from remora_server.core.hashing import measure
from remora_server.core.intake import Taken
from remora_server.core.model import Blob, Caller, FileSpec
from tests.core.world import World


def store(world: World, name: str, data: bytes) -> str:
    """Commit bytes to the blob store, without a row."""
    return world.blobs.put(name, data)


def take(world: World, data: bytes, caller: Caller | None = None) -> Taken:
    """Make a file whose bytes lie in the blob store."""
    location = store(world, ids.new_id(ids.BLOB), data)
    return world.do(world.intake.take, caller or world.jo, FileSpec("a.bin"), measure(data), location=location)


def blob_of(world: World, taken: Taken) -> Blob:
    """Return a file's blob."""
    blob = world.store.blob(taken.file.blob_id)
    assert blob is not None
    return blob


def names(world: World) -> set[str]:
    """Return all that lies in the blob store."""
    return {one.name for one in (*world.blobs.list_blobs(), *world.blobs.list_staged())}

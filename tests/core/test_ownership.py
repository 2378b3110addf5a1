"""Which database a blob store belongs to."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from remora_server.core import ids
from remora_server.core.model import FileSpec
from remora_server.core.ownership import ForeignBlobsError, require_own
from remora_server.core.tickets import Request
from remora_server.stores.blobs_memory import MemoryBlobs
from tests.core.stored import store, take
from tests.core.world import World


@pytest.fixture
def bare(world: World) -> World:
    """Make a world whose blob store has no marker."""
    world.blobs._owner = ""
    return world


def test_an_empty_one_becomes_ones_own(bare: World, make_world: Callable[..., World]) -> None:
    """From then on it is nobody else's, however little is in it."""
    require_own(bare.store, bare.blobs)
    assert bare.blobs.owner() == bare.store.store_id()
    require_own(bare.store, bare.blobs)
    with pytest.raises(ForeignBlobsError, match="belongs to another database"):
        require_own(make_world().store, bare.blobs)


def test_contents_that_nobody_knows(bare: World) -> None:
    """A database that knows nothing of what is there, as a new one does not, does not take it over."""
    store(bare, ids.new_id(ids.BLOB), b"theirs")
    with pytest.raises(ForeignBlobsError, match="knows nothing of"):
        require_own(bare.store, bare.blobs)
    assert bare.blobs.owner() == ""


def test_an_empty_one_where_contents_should_be(bare: World) -> None:
    """A database whose blobs lie elsewhere takes no empty store, as of a volume that is not mounted, and says how to.

    Small contents lie in the database, so they are not missed.
    """
    bare.upload(bare.jo, b"inline")
    require_own(bare.store, MemoryBlobs())
    take(bare, b"x" * 100)
    empty = MemoryBlobs()
    for claiming in (True, False):
        with pytest.raises(ForeignBlobsError, match="is empty") as refused:
            require_own(bare.store, empty, claiming=claiming)
        assert bare.store.store_id() in str(refused.value)
    assert empty.owner() == ""
    # What the message tells an operator to do who has nothing to restore.
    empty.claim(bare.store.store_id())
    require_own(bare.store, empty)


def test_whoever_only_looks_leaves_no_marker(bare: World) -> None:
    """A check and a dry run change nothing, but refuse what they would refuse anyway; a sweep is in its own."""
    take(bare, b"x" * 100)
    require_own(bare.store, bare.blobs, claiming=False)
    assert bare.check.run().clean
    bare.sweep.sweep(0, dry_run=True)
    assert bare.blobs.owner() == ""
    bare.sweep.sweep(0)
    assert bare.blobs.owner() == bare.store.store_id()
    stranger = MemoryBlobs()
    stranger.put(ids.new_id(ids.BLOB), b"theirs")
    with pytest.raises(ForeignBlobsError, match="knows nothing of"):
        require_own(bare.store, stranger, claiming=False)


def test_staged_bytes_that_nobody_knows(bare: World) -> None:
    """Nor does it take over what is on its way in."""
    bare.blobs.stage(ids.new_id(ids.TICKET), 0).write(b"theirs")
    with pytest.raises(ForeignBlobsError):
        require_own(bare.store, bare.blobs)


@pytest.mark.parametrize("staged", [True, False])
def test_contents_that_were_restored_without_the_marker(bare: World, *, staged: bool) -> None:
    """Whoever knows some of them owns them, whatever litter lies beside."""
    if staged:
        issued = bare.do(bare.tickets.issue, bare.jo, Request("acme", FileSpec("a")))
        assert issued.ticket is not None
        bare.blobs.stage(issued.ticket.id, 0).write(b"half")
    else:
        take(bare, b"x" * 100)
    store(bare, ids.new_id(ids.BLOB), b"orphan")
    require_own(bare.store, bare.blobs)
    assert bare.blobs.owner() == bare.store.store_id()


def test_two_that_claim_at_once(bare: World) -> None:
    """Only one gets it; the other is refused."""

    class Faster(MemoryBlobs):
        """Somebody else claims it just before."""

        def claim(self, store_id: str) -> str:
            """Claim too late."""
            super().claim("another")
            return super().claim(store_id)

    with pytest.raises(ForeignBlobsError, match="says another"):
        require_own(bare.store, Faster())

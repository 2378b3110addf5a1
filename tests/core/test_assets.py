"""Assets: their URL is there before their bytes, and their file comes about by itself."""

from __future__ import annotations

import pytest

from remora_server.core import ids
from remora_server.core.assets import Assets
from remora_server.core.downloads import Downloads
from remora_server.core.errors import NotFoundError, StorageUnavailableError, UploadIncompleteError
from remora_server.core.model import Caller, File, FileSpec, Ticket, TicketState
from remora_server.core.sweep import Sweep, Swept
from tests.core.test_arrivals import DATA, arrive, new_ticket, send, state
from tests.core.test_downloads import Told
from tests.core.world import DAY, World, issue


@pytest.fixture
def assets(world: World) -> Assets:
    """Make the rules."""
    downloads = Downloads(world.store, world.files, world.renditions, direct=Told(), inline=Told())
    return Assets(world.store, world.tickets, world.arrivals, world.files, downloads)


def issued(world: World, assets: Assets, size_bytes: int | None = len(DATA)) -> Ticket:
    """Ask for an asset of Jo's."""
    return world.do(assets.issue, world.jo, FileSpec("a.txt", size_bytes, "text/plain"))


def number(ticket: Ticket) -> str:
    """Return what stands in the asset's URL."""
    return str(ids.to_uuid(ticket.id))


def swept(world: World, assets: Assets | None) -> Swept:
    """Sweep as a server does, or as the command does, which can't make files."""
    redeem = assets.redeem if assets else None
    return Sweep(world.store, world.blobs, world.changes, world.clock, world.leases, redeem=redeem).sweep(DAY)


def read(assets: Assets, caller: Caller, ticket: Ticket) -> File:
    """Read an asset by a key."""
    return assets.file(caller, number(ticket))


def test_redeemed_by_who_receives(world: World, assets: Assets) -> None:
    """Whoever took the bytes makes the file; it has the ticket's number, and there is one, also for equal bytes."""
    files = []
    for _ in range(2):
        ticket = issued(world, assets)
        with pytest.raises(UploadIncompleteError):
            assets.redeem(ticket.workspace_id, ticket.id)
        send(world, ticket)
        file = assets.redeem(ticket.workspace_id, ticket.id)
        assert assets.redeem(ticket.workspace_id, ticket.id) == file == read(assets, world.jo, ticket)
        assert ids.to_uuid(file.id) == ids.to_uuid(ticket.id)
        assert (file.creator, file.name, world.files.read_whole(file)) == (world.jo.actor, "a.txt", DATA)
        files.append(file)
    assert files[0].blob_id == files[1].blob_id
    assert world.types(world.jo).count("file.created") == 2


def test_redeemed_by_the_first_reader(world: World, assets: Assets) -> None:
    """Before its bytes an asset does not exist; once they are there whoever may read it makes its file."""
    ticket = issued(world, assets)
    for caller in (world.jo, world.boss, world.kim, world.stranger):
        with pytest.raises(NotFoundError):
            read(assets, caller, ticket)
    arrive(world, ticket)
    for caller in (world.kim, world.stranger):
        with pytest.raises(NotFoundError):
            read(assets, caller, ticket)
    assert state(world, ticket) is TicketState.PENDING
    file = read(assets, world.boss, ticket)
    assert file.creator == world.jo.actor
    with pytest.raises(NotFoundError):
        read(assets, world.kim, ticket)
    world.do(world.attachments.attach_file, world.jo, world.subjects.resolve(world.jo, issue(), register=True), file)
    assert read(assets, world.kim, ticket).id == file.id


def test_redeemed_by_a_holder_of_a_url(world: World, assets: Assets) -> None:
    """A signed URL may have been made before the bytes came; it reads in the right of who asked for it."""
    ticket = issued(world, assets)

    def held(caller: Caller, asset: str = "") -> File:
        return assets.file_of_holder(ticket.workspace_id, caller.principal_id, asset or number(ticket))

    with pytest.raises(NotFoundError):
        held(world.jo)
    arrive(world, ticket)
    assert held(world.jo).size_bytes == len(DATA)
    for caller, asset in ((world.kim, ""), (world.jo, str(ids.to_uuid(ids.new_id(ids.FILE))))):
        with pytest.raises(NotFoundError):
            held(caller, asset)


def test_other_uploads_are_no_assets(world: World, assets: Assets) -> None:
    """What waits for its last step is not taken by a read of that number; a file is read by its own."""
    ticket = new_ticket(world)
    arrive(world, ticket)
    with pytest.raises(NotFoundError):
        read(assets, world.jo, ticket)
    assert state(world, ticket) is TicketState.PENDING
    file = world.upload(world.jo, b"x")
    assert assets.file(world.jo, str(ids.to_uuid(file.id))) == file
    with pytest.raises(NotFoundError):
        assets.file(world.kim, file.id)


def test_redeemed_by_the_sweep(world: World, assets: Assets) -> None:
    """An asset that nobody has read in time is kept by the sweep; the command leaves it, and what has no bytes ends."""
    there, never = issued(world, assets), issued(world, assets)
    arrive(world, there)
    world.clock.pass_by(DAY + 1)
    assert swept(world, None).expired_tickets == 1
    assert (state(world, there), state(world, never)) == (TicketState.PENDING, TicketState.EXPIRED)
    assert world.blobs.arrived(there.id) is not None
    assert swept(world, assets).expired_tickets == 0
    assert state(world, there) is TicketState.COMPLETED
    assert world.files.read_whole(read(assets, world.jo, there)) == DATA


def test_a_sweep_and_bytes_that_are_no_good(world: World, assets: Assets) -> None:
    """What turns out to be no file ends as any upload does."""
    short = issued(world, assets, size_bytes=3)
    arrive(world, short)
    world.clock.pass_by(DAY + 1)
    swept(world, assets)
    assert state(world, short) is TicketState.FAILED
    assert world.blobs.arrived(short.id) is None


def test_a_sweep_while_storage_is_away(world: World, assets: Assets, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be read just now waits for the next sweep."""
    there = issued(world, assets)
    arrive(world, there)
    world.clock.pass_by(DAY + 1)

    def away(_workspace_id: str, _ticket_id: str) -> None:
        raise StorageUnavailableError

    with monkeypatch.context() as patch:
        patch.setattr(assets, "redeem", away)
        swept(world, assets)
    assert state(world, there) is TicketState.PENDING
    swept(world, assets)
    assert state(world, there) is TicketState.COMPLETED

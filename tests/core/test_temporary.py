"""Files that are uploaded first, and attached later."""

from __future__ import annotations

import pytest

from remora_server.core import ids
from remora_server.core.errors import NotFoundError, ValidationFailedError
from remora_server.core.temporary import LIFETIME, Temporary
from tests.core.world import World, issue


@pytest.fixture
def temporary(world: World) -> Temporary:
    """Return the rules over the world's stores."""
    return Temporary(world.files, world.attachments, world.clock)


def kept(world: World, temporary: Temporary, data: bytes = b"data") -> str:
    """Upload a temporary file of Jo's; return its id."""
    return world.do(temporary.keep, world.jo, world.upload(world.jo, data).id).id


def test_attached_once(world: World, temporary: Temporary) -> None:
    """It costs nothing until it is attached, under its own number, and then is a file as any other."""
    file_id = kept(world, temporary)
    assert world.store.used_bytes(world.jo.workspace_id) == 0
    assert temporary.get(world.jo, file_id).id == file_id
    (made,) = world.do(temporary.attach, world.jo, issue(), [file_id])
    assert (made.file_id, ids.to_decimal(made.id)) == (file_id, ids.to_decimal(file_id))
    assert world.store.used_bytes(world.jo.workspace_id) == 4
    with pytest.raises(ValidationFailedError):
        world.do(temporary.attach, world.jo, issue(), [file_id])
    world.do(world.attachments.delete, world.jo, made.id)
    with pytest.raises(ValidationFailedError):
        temporary.get(world.jo, file_id)


def test_all_or_none(world: World, temporary: Temporary) -> None:
    """One that can't be attached keeps the others back, who may be attached later."""
    good, plain = kept(world, temporary), world.upload(world.jo, b"plain").id
    for bad in (plain, good):
        with pytest.raises(ValidationFailedError):
            world.do(temporary.attach, world.jo, issue(), [good, bad])
    assert len(world.do(temporary.attach, world.jo, issue(), [good])) == 1


def test_only_for_a_day(world: World, temporary: Temporary) -> None:
    """After a day it can't be attached, and is swept when the grace is over."""
    file_id = kept(world, temporary)
    world.clock.pass_by(LIFETIME)
    with pytest.raises(ValidationFailedError):
        temporary.get(world.jo, file_id)
    assert world.sweep.sweep(0).purged_files == 1
    with pytest.raises(NotFoundError):
        temporary.get(world.jo, file_id)


def test_only_for_its_owner(world: World, temporary: Temporary) -> None:
    """To others it is not there."""
    file_id = kept(world, temporary)
    for other in (world.kim, world.stranger):
        with pytest.raises(NotFoundError):
            temporary.get(other, file_id)

"""Files that are uploaded first, and attached later."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from remora_server.core import ids
from remora_server.core.errors import EtagMismatchError, NotFoundError, QuotaExceededError
from remora_server.core.hashing import measure
from remora_server.core.intake import Purpose
from remora_server.core.model import FileSpec
from remora_server.core.temporary import LIFETIME, Temporary
from tests.core.world import World, issue


@pytest.fixture
def temporary(world: World) -> Temporary:
    """Return the rules over the world's stores."""
    return Temporary(world.files, world.attachments, world.issues, world.clock)


@pytest.fixture
def issue_id(world: World) -> str:
    """Return an issue."""
    return world.do(world.subjects.resolve, world.jo, issue(), register=True).id


def kept(world: World, data: bytes = b"data") -> str:
    """Upload a temporary file of Jo's; return its id."""
    purpose = Purpose(is_temporary=True)
    return world.do(world.intake.take, world.jo, FileSpec("a.txt"), measure(data), inline=data, purpose=purpose).file.id


def test_attached_once(world: World, temporary: Temporary, issue_id: str) -> None:
    """It costs nothing until it is attached, under its own number, and then is a file as any other."""
    file_id = kept(world)
    assert world.types(world.kim) == []
    assert world.store.used_bytes(world.jo.workspace_id) == 0
    assert temporary.get(world.jo, file_id).id == file_id
    (made,) = world.do(temporary.attach, world.jo, issue_id, [file_id])
    assert (made.file_id, ids.to_decimal(made.id)) == (file_id, ids.to_decimal(file_id))
    assert world.store.used_bytes(world.jo.workspace_id) == 4
    with pytest.raises(NotFoundError):
        world.do(temporary.attach, world.jo, issue_id, [file_id])
    world.do(world.attachments.delete, world.jo, made.id)
    with pytest.raises(NotFoundError):
        temporary.get(world.jo, file_id)


def test_all_or_none(world: World, temporary: Temporary, issue_id: str) -> None:
    """One that can't be attached keeps the others back, who may be attached later."""
    good, plain = kept(world), world.upload(world.jo, b"plain").id
    for bad in (plain, good):
        with pytest.raises(NotFoundError):
            world.do(temporary.attach, world.jo, issue_id, [good, bad])
    assert len(world.do(temporary.attach, world.jo, issue_id, [good])) == 1


def test_only_to_what_was_read(world: World, temporary: Temporary, issue_id: str) -> None:
    """With the etag of an older version of the issue nothing is attached; the issue must be there, too."""
    file_id = kept(world)
    with pytest.raises(EtagMismatchError):
        world.do(temporary.attach, world.jo, issue_id, [file_id], '"9"')
    with pytest.raises(NotFoundError):
        world.do(temporary.attach, world.jo, ids.new_id(ids.ISSUE), [file_id])
    assert len(world.do(temporary.attach, world.jo, issue_id, [file_id], '"1"')) == 1


def test_always_a_file_of_its_own(world: World) -> None:
    """An equal file that the uploader has is another thing, and is not made temporary."""
    lasting = world.upload(world.jo, b"data")
    assert kept(world) not in {lasting.id, kept(world)}
    assert world.files.get(world.jo, lasting.id).detach_time is None


def test_room(make_world: Callable[..., World]) -> None:
    """It needs room for its bytes, as any other, though it holds none."""
    world = make_world(quota_bytes=10)
    assert kept(world, b"x" * 10) != kept(world, b"y" * 10)
    with pytest.raises(QuotaExceededError):
        kept(world, b"z" * 11)
    assert world.store.used_bytes(world.jo.workspace_id) == 0


def test_only_for_a_day(world: World, temporary: Temporary) -> None:
    """After a day it can't be attached, and is swept when the grace is over."""
    file_id = kept(world)
    world.clock.pass_by(LIFETIME)
    with pytest.raises(NotFoundError):
        temporary.get(world.jo, file_id)
    assert world.sweep.sweep(0).purged_files == 1
    with pytest.raises(NotFoundError):
        temporary.get(world.jo, file_id)


def test_only_for_its_owner(world: World, temporary: Temporary) -> None:
    """To others it is not there."""
    file_id = kept(world)
    for other in (world.kim, world.stranger):
        with pytest.raises(NotFoundError):
            temporary.get(other, file_id)

"""Deleting a file, and with it what hangs on it."""

from __future__ import annotations

import pytest

from remora_server.core.errors import AccessDeniedError, EtagMismatchError, FileInUseError, NotFoundError
from remora_server.core.model import FileState
from tests.core.world import World, issue


def test_a_file_that_hangs_on_nothing(world: World) -> None:
    """It goes at once, is told to its creator alone, and is no longer paid for."""
    file = world.upload(world.jo, b"12345")
    assert world.store.used_bytes(world.jo.workspace_id) == 5
    with pytest.raises(EtagMismatchError):
        world.do(world.deletion.delete_file, world.jo, file.id, '"9"')
    gone = world.do(world.deletion.delete_file, world.jo, file.id, '"1"')
    assert (gone.state, gone.version) == (FileState.DELETED, 2)
    assert gone.delete_time is not None
    assert world.store.used_bytes(world.jo.workspace_id) == 0
    assert world.types(world.jo) == ["file.created", "file.deleted"]
    assert world.types(world.kim) == []
    with pytest.raises(NotFoundError):
        world.do(world.deletion.delete_file, world.jo, file.id)


def test_a_file_in_use(world: World) -> None:
    """Its cards are in the way, or go with it; it is paid for once."""
    keys = ("ENG-1", "ENG-2")
    subjects = [world.do(world.subjects.resolve, world.jo, issue(key), register=True) for key in keys]
    file = world.upload(world.jo, b"12345", attach_to=subjects[0])
    world.do(world.attachments.attach_file, world.kim, subjects[1], file)
    with pytest.raises(FileInUseError):
        world.do(world.deletion.delete_file, world.jo, file.id)
    with pytest.raises(AccessDeniedError):
        world.do(world.deletion.delete_file, world.kim, file.id, detach=True)
    world.do(world.deletion.delete_file, world.boss, file.id, detach=True)
    assert world.store.live_attachments_of_file(file.id) == []
    assert world.store.used_bytes(world.jo.workspace_id) == 0
    assert world.types(world.kim)[-3:] == ["file.deleted", "attachment.deleted", "attachment.deleted"]


def test_a_file_that_was_let_go_of(world: World) -> None:
    """What is no longer paid for is not paid back a second time."""
    subject = world.do(world.subjects.resolve, world.jo, issue(), register=True)
    file = world.upload(world.jo, b"12345", attach_to=subject)
    (card,) = world.store.live_attachments_of_file(file.id)
    world.upload(world.jo, b"other")
    world.do(world.attachments.delete, world.jo, card.id)
    assert world.store.used_bytes(world.jo.workspace_id) == 5
    world.do(world.deletion.delete_file, world.jo, file.id)
    assert world.store.used_bytes(world.jo.workspace_id) == 5


def test_a_file_that_is_not_ones_own(world: World) -> None:
    """For who can't see it, it is not there (P43)."""
    file = world.upload(world.jo, b"1")
    for caller in (world.kim, world.stranger):
        with pytest.raises(NotFoundError):
            world.do(world.deletion.delete_file, caller, file.id, detach=True)

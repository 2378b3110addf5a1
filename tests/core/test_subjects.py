"""What stands behind a subject."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from remora_server.core import ids
from remora_server.core.errors import NotFoundError, ValidationFailedError
from remora_server.core.model import Subject
from tests.core.world import World, issue


def test_a_key_is_registered_by_the_first_write(world: World) -> None:
    """A read finds nothing and leaves nothing; a write makes the issue, later ones find it."""
    with pytest.raises(NotFoundError):
        world.subjects.resolve(world.jo, issue(), register=False)
    assert world.store.issue_by_key(world.jo.workspace_id, "ENG-1") is None
    made = world.do(world.subjects.resolve, world.jo, issue(), register=True)
    assert made == world.do(world.subjects.resolve, world.kim, issue(), register=True)
    assert made == world.subjects.resolve(world.jo, issue(), register=False)
    assert made.id.startswith("iss_")
    assert world.told() == []


def test_what_a_later_write_will_find(make_world: Callable[..., World]) -> None:
    """It is told without being made; what that write would refuse is refused now."""
    world = make_world()
    assert world.subjects.foresee(world.jo, issue()) == issue()
    with pytest.raises(NotFoundError):
        world.subjects.foresee(world.jo, Subject("issue", ids.new_id(ids.ISSUE)))
    assert world.store.issue_by_key(world.jo.workspace_id, "ENG-1") is None
    made = world.do(world.subjects.resolve, world.jo, issue(), register=True)
    assert world.subjects.foresee(world.jo, issue()) == made
    strict = make_world(strict=True)
    with pytest.raises(NotFoundError):
        strict.subjects.foresee(strict.jo, issue())


def test_by_id(world: World) -> None:
    """An id or UUID is never registered; the key is filled in, or must agree."""
    made = world.do(world.subjects.resolve, world.jo, issue(), register=True)
    for wanted in (Subject("issue", made.id), Subject("issue", str(ids.to_uuid(made.id))), made):
        assert world.subjects.resolve(world.jo, wanted, register=True) == made
    with pytest.raises(ValidationFailedError):
        world.subjects.resolve(world.jo, Subject("issue", made.id, "ENG-2"), register=True)
    with pytest.raises(NotFoundError):
        world.subjects.resolve(world.jo, Subject("issue", ids.new_id(ids.ISSUE)), register=True)
    with pytest.raises(NotFoundError):
        world.subjects.resolve(world.stranger, Subject("issue", made.id), register=True)
    with pytest.raises(ValidationFailedError):
        world.subjects.resolve(world.jo, Subject("issue", "nonsense"), register=True)


def test_keys_belong_to_a_workspace(world: World) -> None:
    """The same key is another issue elsewhere."""
    here = world.do(world.subjects.resolve, world.jo, issue(), register=True)
    there = world.do(world.subjects.resolve, world.stranger, issue(), register=True)
    assert here.id != there.id


def test_other_types(world: World) -> None:
    """What is no issue is known to the caller alone: its id stands, or else its key."""
    for wanted, resolved in (
        (Subject("comment", "c1"), Subject("comment", "c1")),
        (Subject("comment", key="k1"), Subject("comment", "k1", "k1")),
        (Subject("page", "p1", "k1"), Subject("page", "p1", "k1")),
    ):
        assert world.subjects.resolve(world.jo, wanted, register=False) == resolved


def test_form(world: World) -> None:
    """A malformed subject is refused before anything is looked up."""
    with pytest.raises(ValidationFailedError):
        world.subjects.resolve(world.jo, Subject("Issue", key="x"), register=True)


def test_strict_issues(make_world: Callable[..., World]) -> None:
    """Where only known issues are accepted, a write to an unknown key finds nothing; other types are as before."""
    world = make_world(strict=True)
    with pytest.raises(NotFoundError):
        world.do(world.subjects.resolve, world.jo, issue(), register=True)
    assert world.subjects.resolve(world.jo, Subject("page", "p1"), register=True).id == "p1"

"""Repeats of calls."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest

from remora_server.core.errors import NotDeletedError, RequestIdReusedError, ValidationFailedError
from remora_server.core.model import Caller
from remora_server.core.repeats import LIFETIME
from tests.core.world import World

ID = str(uuid4())


class Counting:
    """A call that says how often it was made."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> bytes:
        """Count."""
        self.times += 1
        return b"answer %d" % self.times


@pytest.fixture
def call() -> Counting:
    """Make a call."""
    return Counting()


def once(
    world: World,
    call: Callable[[], bytes],
    caller: Caller | None = None,
    method: str = "M",
    id_: str = ID,
    body: bytes = b"",
) -> bytes:
    """Make a call under a request_id."""
    return world.do(world.repeats.once, caller or world.jo, method, id_, body, call)


def test_the_first_answer_again(world: World, call: Counting) -> None:
    """The call is made once (P26)."""
    assert once(world, call) == once(world, call) == once(world, call, id_=ID.upper()) == b"answer 1"
    assert call.times == 1


def test_other_parameters(world: World, call: Counting) -> None:
    """Another body under the same id is refused, and not done (P26)."""
    once(world, call, body=b"a")
    with pytest.raises(RequestIdReusedError):
        once(world, call, body=b"b")
    assert call.times == 1


def test_scope(world: World, call: Counting) -> None:
    """An id belongs to one principal and one method."""
    for caller, method in ((world.jo, "M"), (world.jo, "N"), (world.kim, "M"), (world.stranger, "M")):
        once(world, call, caller, method)
    assert call.times == 4


def test_after_a_day(world: World, call: Counting) -> None:
    """An answer is kept for 24 hours; then the id is as good as new, for any parameters (P26)."""
    once(world, call, body=b"a")
    world.clock.pass_by(LIFETIME - 1000)
    assert once(world, call, body=b"a") == b"answer 1"
    world.clock.pass_by(2000)
    assert once(world, call, body=b"b") == b"answer 2"
    assert once(world, call, body=b"b") == b"answer 2"


def test_a_refusal_is_not_kept(world: World, call: Counting) -> None:
    """What failed may be tried again."""

    def fail() -> bytes:
        raise NotDeletedError

    with pytest.raises(NotDeletedError):
        once(world, fail)
    assert once(world, call) == b"answer 1"


def test_the_answer_goes_with_its_effect(world: World, call: Counting) -> None:
    """An answer whose transaction fails is not kept either."""

    def change() -> None:
        world.repeats.once(world.jo, "M", ID, b"", call)
        raise NotDeletedError

    with pytest.raises(NotDeletedError):
        world.do(change)
    times = call.times
    once(world, call)
    assert call.times == times + 1


def test_malformed_ids(world: World, call: Counting) -> None:
    """An id that is no UUID is refused before the call is made."""
    with pytest.raises(ValidationFailedError):
        once(world, call, id_="x")
    assert call.times == 0

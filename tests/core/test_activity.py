"""The log of changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from remora_server.core import ids
from remora_server.core.activity import WATCH_BATCH
from remora_server.core.errors import (
    CursorCompactedError,
    NotFoundError,
    PageTokenInvalidError,
    ValidationFailedError,
)
from remora_server.core.model import Caller
from remora_server.core.ports import ActivityQuery
from tests.core.world import World, issue


def tell(world: World, caller: Caller | None = None, type_: str = "x.made.v1", **fields: str) -> str:
    """Record something; return the id of what it is about."""
    resource = ids.new_id(ids.LINK)
    world.do(world.log.record, caller or world.jo, type_, resource, {"link": {"id": resource}}, **fields)  # type: ignore[arg-type]
    return resource


def test_what_is_recorded(world: World) -> None:
    """An entry names its actor, its time, its workspace, and the request that it came from."""
    subject = world.do(world.subjects.resolve, world.jo, issue(), register=True)
    asked = replace(world.jo, request_id="r-1")
    world.do(
        world.log.record,
        asked,
        "link.made.v1",
        "lnk_1",
        {"link": {"id": "lnk_1"}},
        subject=subject,
        changed_fields=["a", "b"],
    )
    (entry,) = world.told()
    assert entry.seq > 0
    assert entry.id.startswith("act_")
    assert (entry.type, entry.workspace_id, entry.actor) == ("link.made.v1", world.jo.workspace_id, world.jo.actor)
    assert (entry.subject, entry.resource_id, entry.request_id) == (subject, "lnk_1", "r-1")
    assert (entry.changed_fields, entry.payload, entry.visible_to) == (("a", "b"), {"link": {"id": "lnk_1"}}, "")
    assert world.log.get(world.kim, entry.id) == entry
    assert world.log.get(world.kim, str(ids.to_uuid(entry.id))) == entry


def test_reading_one(world: World) -> None:
    """A hidden entry, another workspace's and one that never was are the same."""
    tell(world, visible_to=world.jo.principal_id)
    (entry,) = world.told()
    assert world.log.get(world.jo, entry.id) == world.log.get(world.boss, entry.id) == entry
    messages = set()
    for caller, wanted in ((world.kim, entry.id), (world.stranger, entry.id), (world.jo, ids.new_id(ids.ACTIVITY))):
        with pytest.raises(NotFoundError) as refused:
            world.log.get(caller, wanted)
        messages.add(refused.value.message)
    assert len(messages) == 1
    with pytest.raises(ValidationFailedError):
        world.log.get(world.jo, "nonsense")


def test_lists(world: World) -> None:
    """Pages go by number in both directions, show what is for the reader, and count alike."""
    made = [tell(world, visible_to=world.jo.principal_id if number % 3 == 0 else "") for number in range(9)]
    shown = [one for number, one in enumerate(made) if number % 3]
    for caller, wanted in ((world.jo, made), (world.boss, made), (world.kim, shown)):
        for newest_first in (True, False):
            query = ActivityQuery("acme", newest_first=newest_first)
            found: list[str] = []
            token = ""
            while True:
                page = world.log.list(caller, query, None, page_size=4, page_token=token, include_total_size=True)
                assert page.total_size == len(wanted)
                found += [one.resource_id for one in page.items]
                token = page.next_page_token
                if not token:
                    break
            assert found == (wanted[::-1] if newest_first else wanted)


def test_lists_of_a_subject(world: World) -> None:
    """One subject's entries only; one that is not there is not made by asking."""
    with pytest.raises(NotFoundError):
        world.log.list(world.jo, ActivityQuery("acme"), issue())
    subject = world.do(world.subjects.resolve, world.jo, issue(), register=True)
    tell(world)
    world.do(world.log.record, world.jo, "x.made.v1", "lnk_1", {}, subject=subject)
    found = world.log.list(world.kim, ActivityQuery("acme"), issue())
    assert [one.resource_id for one in found.items] == ["lnk_1"]


def test_a_token_is_one_readers(world: World) -> None:
    """Another principal's page is another listing."""
    for _ in range(3):
        tell(world)
    token = world.log.list(world.jo, ActivityQuery("acme"), None, page_size=1).next_page_token
    with pytest.raises(PageTokenInvalidError):
        world.log.list(world.kim, ActivityQuery("acme"), None, page_size=1, page_token=token)


def test_limits_of_filters(world: World) -> None:
    """A filter compares at most a hundred values."""
    for query in (ActivityQuery("acme", actor_ids=("x",) * 101), ActivityQuery("acme", types=("x",) * 101)):
        with pytest.raises(ValidationFailedError):
            world.log.list(world.jo, query, None)
    with pytest.raises(ValidationFailedError):
        world.log.watch_query(world.jo, [issue()] * 101, [])
    with pytest.raises(ValidationFailedError):
        world.log.watch_query(world.jo, [], ["x"] * 101)


class TestWatching:
    """Following the log from a place."""

    def test_from_now_or_from_a_cursor(self, world: World) -> None:
        """No cursor is the present; a cursor is good for its workspace and says what lies behind it."""
        first = tell(world)
        cursors = world.log.cursors(world.jo, "acme")
        assert world.log.watch_from(world.jo, "acme", "") == world.log.watch_from(world.jo, "acme", cursors.head)
        second = tell(world)
        query = world.log.watch_query(world.jo, [], [])
        for cursor, wanted in ((cursors.earliest, [first, second]), (cursors.head, [second])):
            found, place = world.log.after(query, world.log.watch_from(world.jo, "acme", cursor))
            assert [one.resource_id for one in found] == wanted
            assert world.log.after(query, place) == ([], place)
        for wrong in ("nonsense", world.log.cursors(world.stranger, "elsewhere").head, f"{cursors.head}x"):
            with pytest.raises(PageTokenInvalidError, match="start_cursor"):
                world.log.watch_from(world.jo, "acme", wrong)
        with pytest.raises(NotFoundError):
            world.log.watch_from(world.jo, "elsewhere", "")

    def test_batches(self, world: World) -> None:
        """A long log comes in batches, whose places join without a gap."""
        made = [tell(world) for _ in range(WATCH_BATCH + 5)]
        query, place = world.log.watch_query(world.jo, [], []), 0
        found: list[str] = []
        for size in (WATCH_BATCH, 5, 0):
            batch, place = world.log.after(query, place)
            assert len(batch) == size
            found += [one.resource_id for one in batch]
        assert found == made

    def test_the_place_passes_over_what_does_not_match(self, world: World) -> None:
        """What is hidden, of another type, subject or workspace is not looked at twice."""
        world.do(world.subjects.resolve, world.jo, issue(), register=True)
        query = world.log.watch_query(world.kim, [issue()], ["x.made.v1"])
        tell(world, visible_to=world.jo.principal_id)
        tell(world, type_="y.made.v1")
        tell(world, world.stranger)
        assert world.log.after(query, 0) == ([], world.store.activity_bounds()[1])

    def test_a_subject_must_be_there(self, world: World) -> None:
        """Watching registers nothing."""
        with pytest.raises(NotFoundError):
            world.log.watch_query(world.jo, [issue()], [])

    def test_a_log_that_was_cut(self, world: World) -> None:
        """A cursor from before the earliest entry is told where the log begins now."""
        tell(world)
        old = world.log.cursors(world.jo, "acme").earliest
        world.database.command("UPDATE store_info SET value = '1' WHERE name = 'activity_floor'")
        tell(world)
        with pytest.raises(CursorCompactedError) as refused:
            world.log.watch_from(world.jo, "acme", old)
        assert world.log.watch_from(world.jo, "acme", refused.value.metadata["earliest_cursor"]) == 1


def test_from_behind_an_entry(world: World) -> None:
    """A listing may begin behind an entry that its reader may see, and goes on by its tokens."""
    for _ in range(4):
        tell(world)
    hidden = tell(world, visible_to=world.kim.principal_id)
    every = world.told()
    query = ActivityQuery(world.jo.workspace_id, newest_first=False)
    page = world.log.list(world.jo, query, None, page_size=2, behind=every[0].id)
    assert list(page.items) == every[1:3]
    rest = world.log.list(world.jo, query, None, page_size=2, page_token=page.next_page_token, behind=every[0].id)
    assert list(rest.items) == every[3:4]
    newest_first = world.log.list(world.jo, ActivityQuery(world.jo.workspace_id), None, behind=every[2].id)
    assert list(newest_first.items) == every[1::-1]
    (unseen,) = [one.id for one in every if one.resource_id == hidden]
    with pytest.raises(NotFoundError):
        world.log.list(world.jo, query, None, behind=unseen)

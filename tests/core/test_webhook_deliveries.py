"""Deliveries of webhooks: who is sent what, when, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from remora_server.core import webhook_deliveries
from remora_server.core.errors import NotFoundError, ValidationFailedError
from remora_server.core.links import LinkDraft
from remora_server.core.model import (
    Activity,
    DeliveryState,
    DisabledReason,
    Outgoing,
    Sent,
    WebhookEndpoint,
    WebhookFormat,
)
from remora_server.core.ports import ActivityQuery, Position
from remora_server.core.sealing import Seal
from remora_server.core.values import replace
from remora_server.core.webhook_deliveries import Attempt, Claim
from remora_server.core.webhook_endpoints import EndpointDraft
from tests.core.world import DAY, HOUR, SECOND, World, issue

URL = "https://e.org/hook"
TAKEN, BROKEN = Sent(204, duration=7), Sent(500, "it answered 500")


def create(world: World, **fields: Any) -> WebhookEndpoint:
    """Create an endpoint."""
    return world.do(world.endpoints.create, world.jo, EndpointDraft("acme", URL, **fields))[0]


def happen(world: World, count: int = 1, key: str = "ENG-1") -> list[str]:
    """Make links; return their ids."""
    return [
        world.do(
            world.links.create, world.jo, LinkDraft("acme", issue(key), f"https://e.org/{key}/{world.clock.now()}")
        )[0].id
        for _ in range(count)
    ]


def claim(world: World, endpoint: WebhookEndpoint) -> Claim:
    """Take what is next."""
    taken = world.deliveries.claim(endpoint)
    assert taken is not None
    return taken


def attempts(world: World, taken: Claim, *results: Sent) -> Sequence[Attempt]:
    """Send what was taken."""
    return [
        Attempt(activity, sent, world.clock.now()) for activity, sent in zip(taken.activities, results, strict=False)
    ]


def stored(world: World, endpoint: WebhookEndpoint) -> WebhookEndpoint:
    """Return an endpoint as it is."""
    return world.endpoints.get(world.jo, endpoint.id)


def resources(taken: Claim | None) -> list[str]:
    """Return what was taken."""
    return [] if taken is None else [one.resource_id for one in taken.activities]


def test_what_happens_is_due_in_order(world: World) -> None:
    """Nothing at first; then each activity, and after it was taken no more."""
    hook = create(world)
    assert world.deliveries.due() == []
    made = happen(world, 3)
    assert [one.id for one in world.deliveries.due()] == [hook.id]
    taken = claim(world, hook)
    assert resources(taken) == made
    assert world.deliveries.record(taken, attempts(world, taken, TAKEN, TAKEN, TAKEN)) is None
    assert world.deliveries.due() == []
    assert world.deliveries.claim(hook) is None
    told = world.deliveries.list(world.kim, "acme", hook.id).items
    assert [one.state for one in told] == [DeliveryState.SUCCEEDED] * 3
    assert (told[0].attempts, told[0].status, told[0].duration, told[0].activity_type) == (1, 204, 7, "link.created.v1")


def test_one_at_a_time(world: World) -> None:
    """What one process has taken no other gets, until the first one's time is up; then the first one's word is void."""
    hook = create(world)
    happen(world)
    first = claim(world, hook)
    assert world.deliveries.due() == []
    assert world.deliveries.claim(hook) is None
    world.clock.time += 21 * SECOND
    assert [one.id for one in world.deliveries.due()] == [hook.id]
    second = claim(world, hook)
    assert [one.id for one in second.activities] == [one.id for one in first.activities]
    assert world.deliveries.record(first, attempts(world, first, BROKEN)) is None
    assert stored(world, hook).attempts == 0
    world.deliveries.record(second, attempts(world, second, TAKEN))
    assert world.deliveries.due() == []


def test_going_on(world: World) -> None:
    """Who is done with a batch gets the next one at once, and can give it back."""
    hook = create(world)
    made = happen(world, webhook_deliveries.BATCH + 2)
    first = claim(world, hook)
    assert resources(first) == made[: webhook_deliveries.BATCH]
    second = world.deliveries.record(first, attempts(world, first, *[TAKEN] * webhook_deliveries.BATCH))
    assert second is not None
    assert resources(second) == made[webhook_deliveries.BATCH :]
    assert world.deliveries.record(second, attempts(world, second, TAKEN), going_on=False) is None
    assert resources(claim(world, hook)) == made[-1:]


def test_what_comes_meanwhile(world: World) -> None:
    """It may be sent under the same claim, and is kept with the rest."""
    hook = create(world)
    happen(world, 2)
    taken = claim(world, hook)
    assert world.deliveries.further(taken, taken.activities[-1]) == []
    made = happen(world, 1)
    more = world.deliveries.further(taken, taken.activities[-1])
    assert [one.resource_id for one in more] == made
    everything = replace(taken, activities=[*taken.activities, *more])
    assert world.deliveries.record(taken, attempts(world, everything, TAKEN, TAKEN, TAKEN)) is None
    assert world.deliveries.due() == []


def test_filters(world: World) -> None:
    """Types, subjects, what only its creator may see, and other workspaces."""
    happen(world, key="ENG-2")
    typed = create(world, types=["link.deleted.v1"])
    about = create(world, subjects=[issue("ENG-2")])
    linear = create(world, format=WebhookFormat.LINEAR)
    never = create(world, format=WebhookFormat.LINEAR, types=["link.created.v1"])
    kims = world.do(world.endpoints.create, world.kim, EndpointDraft("acme", URL, types=["file.created.v1"]))[0]
    elsewhere = world.do(world.endpoints.create, world.stranger, EndpointDraft("elsewhere", URL))[0]
    gone, kept = happen(world)[0], happen(world, key="ENG-2")[0]
    world.do(world.links.delete, world.jo, gone)
    loose = world.upload(world.jo, b"loose")
    hers = world.upload(world.kim, b"hers")
    world.upload(world.jo, b"hung", attach_to=issue())
    assert loose.id != hers.id
    assert resources(world.deliveries.claim(typed)) == [gone]
    assert resources(world.deliveries.claim(about)) == [kept]
    assert [one.type for one in claim(world, linear).activities] == ["attachment.created.v1"]
    assert resources(world.deliveries.claim(kims)) == [hers.id]
    for none in (never, elsewhere):
        assert world.deliveries.claim(none) is None


def test_back_off(world: World) -> None:
    """Later and later, an hour at most; the first success forgets it all; the id stays the same."""
    hook = create(world)
    happen(world, 2)
    ids, delays = set(), []
    for _ in range(9):
        taken = claim(world, stored(world, hook))
        ids.add(taken.activities[0].id)
        assert world.deliveries.record(taken, attempts(world, taken, BROKEN)) is None
        failing = stored(world, hook)
        delays.append((failing.due_time - world.clock.now()) / SECOND)
        assert world.deliveries.due() == []
        assert world.deliveries.claim(hook) is None
        world.clock.time = failing.due_time
        assert [one.id for one in world.deliveries.due()] == [hook.id]
    assert len(ids) == 1
    for delay, wanted in zip(delays, [1, 5, 30, 120, 600, 1800, 3600, 3600, 3600], strict=True):
        assert wanted * 0.89 <= delay <= wanted * 1.11
    (told,) = world.deliveries.list(world.jo, "acme", hook.id).items
    assert (told.state, told.attempts, told.status, told.error) == (DeliveryState.PENDING, 9, 500, "it answered 500")
    assert told.next_time is not None
    taken = claim(world, stored(world, hook))
    world.deliveries.record(taken, attempts(world, taken, TAKEN, TAKEN))
    after = stored(world, hook)
    assert (after.attempts, after.failing_since, after.due_time) == (0, None, 0)
    states = [one.state for one in world.deliveries.list(world.jo, "acme", hook.id).items]
    assert states == [DeliveryState.SUCCEEDED] * 2


def fail_once(world: World, hook: WebhookEndpoint, sent: Sent = BROKEN) -> WebhookEndpoint:
    """Fail when it is time to."""
    world.clock.time = max(world.clock.time, stored(world, hook).due_time)
    taken = claim(world, hook)
    world.deliveries.record(taken, attempts(world, taken, sent))
    return stored(world, hook)


def test_giving_up(world: World) -> None:
    """After a day the endpoint is disabled, which an activity tells; enabled, it goes on where it stopped."""
    hook = create(world, types=["link.created.v1"])
    made = happen(world, 2)
    since = world.clock.time
    while (failing := fail_once(world, hook)).enabled:
        assert failing.due_time <= since + DAY + SECOND
    assert world.clock.time - since >= DAY
    assert failing.disabled_reason is DisabledReason.FAILING
    assert failing.version == hook.version + 1
    assert world.types()[-1] == "webhook_endpoint.disabled"
    assert [(hook.id in one, "failed for too long" in one) for one in world.warned] == [(True, True)]
    assert world.deliveries.waiting()["given_up"] == 1
    assert world.told()[-1].actor.kind == "SYSTEM"
    (told,) = world.deliveries.list(world.jo, "acme", hook.id, [DeliveryState.FAILED]).items
    assert told.next_time is None
    assert world.deliveries.due() == []
    assert world.deliveries.claim(hook) is None
    world.do(world.endpoints.update, world.jo, hook.id, EndpointDraft(enabled=True), ())
    taken = claim(world, hook)
    assert resources(taken) == made
    world.deliveries.record(taken, attempts(world, taken, TAKEN, TAKEN))
    after = world.deliveries.list(world.jo, "acme", hook.id).items
    assert [one.state for one in after] == [DeliveryState.SUCCEEDED] * 2


def test_gone(world: World) -> None:
    """Who answers 410 is not asked again."""
    hook = create(world)
    happen(world)
    assert fail_once(world, hook, Sent(410, "it answered 410")).disabled_reason is DisabledReason.GONE
    assert "it is gone" in world.warned[-1]


def test_a_change_while_it_is_sent(world: World) -> None:
    """What was sent counts, also if the endpoint was disabled meanwhile; not if its backlog was dropped."""
    hook = create(world, types=["link.created.v1"])
    happen(world, 2)
    taken = claim(world, hook)
    world.do(world.endpoints.update, world.jo, hook.id, EndpointDraft(enabled=False), ())
    assert world.deliveries.record(taken, attempts(world, taken, TAKEN)) is None
    disabled = stored(world, hook)
    assert disabled.cursor == taken.activities[0].seq
    gone = Attempt(taken.activities[1], Sent(410, "it answered 410"), world.clock.now())
    world.deliveries.record(taken, [gone])
    assert stored(world, hook).disabled_reason is DisabledReason.REQUESTED
    world.do(world.endpoints.update, world.jo, hook.id, EndpointDraft(enabled=True), ())
    taken = claim(world, hook)
    world.do(world.endpoints.update, world.jo, hook.id, EndpointDraft(), (), skip_backlog=True)
    head = stored(world, hook).cursor
    world.deliveries.record(taken, attempts(world, taken, TAKEN))
    assert stored(world, hook).cursor == head
    world.do(world.endpoints.delete, world.jo, hook.id)
    assert world.deliveries.record(taken, attempts(world, taken, TAKEN)) is None
    assert world.deliveries.claim(hook) is None


def test_what_is_not_for_an_endpoint_is_not_looked_through_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor by the next process, once it is much."""
    hook = create(world, types=["link.deleted.v1"])
    happen(world, 3)
    assert world.deliveries.due() == []
    assert stored(world, hook).cursor == hook.cursor
    monkeypatch.setattr(webhook_deliveries, "FAR", 2)
    assert world.deliveries.due() == []
    assert stored(world, hook).cursor == world.store.activity_bounds()[1]
    world.deliveries._move_on(hook, 2**40)
    moved = stored(world, hook)
    assert moved.cursor == 2**40
    world.deliveries._move_on(replace(hook, version=9), 2**41)
    assert stored(world, hook) == moved


def test_the_queue(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """How much waits is counted up to a limit."""
    assert world.deliveries.waiting() == {"waiting": 0, "endpoints": 0, "given_up": 0}
    create(world, types=["link.created.v1"])
    create(world, subjects=())
    create(world, format=WebhookFormat.LINEAR, types=["link.created.v1"])
    waiting = world.deliveries.waiting()["waiting"]
    happen(world, 2)
    assert world.deliveries.waiting() == {"waiting": waiting + 4, "endpoints": 2, "given_up": 0}
    monkeypatch.setattr(webhook_deliveries, "MOST_WAITING", 2)
    assert world.deliveries.waiting()["waiting"] == 2


def test_a_test(world: World) -> None:
    """It is posted at once, to a disabled endpoint too, and leaves no trace."""
    hook = create(world, enabled=False)
    before = world.types()
    assert world.deliveries.test(world.kim, hook.id).succeeded
    (outgoing,) = world.sender.posted
    assert outgoing.url == URL
    assert b'"webhook_endpoint.tested.v1"' in outgoing.body
    assert world.types() == before
    assert world.deliveries.list(world.jo, "acme", hook.id).items == []
    with pytest.raises(NotFoundError):
        world.deliveries.test(world.stranger, hook.id)


def test_two_secrets_for_a_day(world: World) -> None:
    """After that the old one signs no more."""
    hook = create(world)
    world.do(world.endpoints.rotate, world.jo, hook.id)
    for later, count in ((0, 2), (25 * HOUR, 1)):
        world.clock.time += later
        world.deliveries.test(world.jo, hook.id)
        assert len(dict(world.sender.posted[-1].headers)["webhook-signature"].split()) == count


def test_another_signing_key(world: World) -> None:
    """An endpoint whose secret can't be read fails with a word about why, and sends nothing unsigned."""
    hook = create(world)
    happen(world)
    world.deliveries._seal = Seal(b"other")
    sent = world.deliveries.outgoing(claim(world, hook), world.told()[-1])
    assert isinstance(sent, Sent)
    assert "signing key" in sent.error
    assert not world.deliveries.test(world.jo, hook.id).succeeded
    assert world.sender.posted == []


def test_an_attachment_is_told_as_it_is(world: World) -> None:
    """Linear's format carries the attachment itself."""
    hook = create(world, format=WebhookFormat.LINEAR)
    world.upload(world.jo, b"x", "shown.txt", issue())
    taken = claim(world, hook)
    outgoing = world.deliveries.outgoing(taken, taken.activities[0])
    assert isinstance(outgoing, Outgoing)
    assert b"shown.txt" in outgoing.body


def test_redelivery(world: World) -> None:
    """It is posted again under its id; what was taken once stays so."""
    hook = create(world)
    happen(world)
    taken = claim(world, hook)
    world.deliveries.record(taken, attempts(world, taken, TAKEN))
    (told,) = world.deliveries.list(world.jo, "acme", hook.id).items
    world.sender.result = BROKEN
    again = world.deliveries.redeliver(world.jo, told.id)
    assert (again.state, again.attempts, again.error) == (DeliveryState.SUCCEEDED, 2, "it answered 500")
    assert dict(world.sender.posted[0].headers)["webhook-id"] == told.activity_id
    with pytest.raises(NotFoundError):
        world.deliveries.redeliver(world.stranger, told.id)
    with pytest.raises(NotFoundError):
        world.deliveries.list(world.jo, "elsewhere", hook.id)


def test_redelivery_of_what_failed(world: World) -> None:
    """It can succeed though its endpoint is disabled."""
    hook = create(world)
    happen(world)
    fail_once(world, hook, Sent(410, "it answered 410"))
    (told,) = world.deliveries.list(world.jo, "acme", hook.id).items
    world.sender.result = BROKEN
    assert world.deliveries.redeliver(world.jo, told.id).state is DeliveryState.FAILED
    world.sender.result = TAKEN
    assert world.deliveries.redeliver(world.jo, told.id).state is DeliveryState.SUCCEEDED


def test_redelivery_of_what_is_pending(world: World) -> None:
    """It keeps its turn, which comes at once."""
    hook = create(world)
    happen(world)
    fail_once(world, hook)
    assert world.deliveries.due() == []
    (told,) = world.deliveries.list(world.jo, "acme", hook.id).items
    assert world.deliveries.redeliver(world.jo, told.id).state is DeliveryState.PENDING
    assert [one.id for one in world.deliveries.due()] == [hook.id]
    assert world.sender.posted == []


def test_redelivery_in_another_format(world: World) -> None:
    """What the format of an endpoint has no message for is refused."""
    hook = create(world)
    happen(world)
    taken = claim(world, hook)
    world.deliveries.record(taken, attempts(world, taken, TAKEN))
    (told,) = world.deliveries.list(world.jo, "acme", hook.id).items
    world.do(world.endpoints.update, world.jo, hook.id, EndpointDraft(format=WebhookFormat.LINEAR), ())
    with pytest.raises(ValidationFailedError):
        world.deliveries.redeliver(world.jo, told.id)
    assert world.sender.posted == []


def test_redelivery_of_what_is_forgotten(world: World) -> None:
    """Without its activity there is nothing to say."""
    hook = create(world)
    happen(world)
    taken = claim(world, hook)
    lost = replace(taken.activities[0], id="act_01k3y4wxyze1et3vz5tkxw5y8a")
    world.deliveries.record(taken, [Attempt(lost, TAKEN, world.clock.now())])
    (told,) = world.deliveries.list(world.boss, "acme", hook.id).items
    with pytest.raises(NotFoundError):
        world.deliveries.redeliver(world.jo, told.id)


def test_who_points_an_endpoint_elsewhere_is_told_only_what_is_theirs(world: World) -> None:
    """Whoever sets its URL, format or secret, or enables it, is the one for whom it is read from then on (P43)."""
    hook = create(world, types=["file.created.v1"])
    first = world.upload(world.jo, b"before")
    assert resources(world.deliveries.claim(hook)) == [first.id]
    world.clock.time += 21 * SECOND
    for draft in (
        EndpointDraft(description="hers"),
        EndpointDraft(types=["file.created.v1", "link.created.v1"]),
        EndpointDraft(url=URL),
    ):
        assert world.do(world.endpoints.update, world.kim, hook.id, draft, ()).reader_id == world.jo.principal_id
    turns = (
        EndpointDraft(url="https://kim.example/"),
        EndpointDraft(format=WebhookFormat.LINEAR),
        EndpointDraft(enabled=False),
    )
    for draft in turns:
        assert world.do(world.endpoints.update, world.kim, hook.id, draft, ()).reader_id == world.kim.principal_id
        assert world.do(world.endpoints.rotate, world.jo, hook.id)[0].reader_id == world.jo.principal_id
    back = EndpointDraft(enabled=True, format=WebhookFormat.STANDARD)
    changed = world.do(world.endpoints.update, world.kim, hook.id, back, ("enabled", "format"))
    assert changed.creator.id == world.jo.principal_id
    world.upload(world.jo, b"after")
    hers = world.upload(world.kim, b"hers")
    assert resources(world.deliveries.claim(hook)) == [hers.id]


def test_deliveries_of_what_is_anothers(world: World) -> None:
    """Nobody else finds them in the list, or has them sent again; nor do they go where another points (P43)."""
    hook = create(world, types=["file.created.v1", "link.created.v1"])
    world.upload(world.jo, b"mine")
    happen(world)
    taken = claim(world, hook)
    world.deliveries.record(taken, attempts(world, taken, TAKEN, TAKEN))
    mine = world.deliveries.list(world.jo, "acme", hook.id).items
    assert [one.activity_type for one in mine] == ["link.created.v1", "file.created.v1"]
    assert world.deliveries.list(world.kim, "acme", hook.id).items == mine[:1]
    assert world.deliveries.list(world.boss, "acme", hook.id).items == mine
    with pytest.raises(NotFoundError):
        world.deliveries.redeliver(world.kim, mine[1].id)
    assert world.deliveries.redeliver(world.jo, mine[1].id).attempts == 2
    world.do(world.endpoints.update, world.kim, hook.id, EndpointDraft(url="https://kim.example/"), ())
    for who in (world.jo, world.boss):
        with pytest.raises(ValidationFailedError, match="may not see"):
            world.deliveries.redeliver(who, mine[1].id)
    assert [one.url for one in world.sender.posted] == [URL]
    assert world.deliveries.redeliver(world.kim, mine[0].id).attempts == 2


def test_redelivery_of_what_is_pending_and_has_no_turn(world: World) -> None:
    """What lies behind the endpoint's place, is not for it any more, or waits for a disabled one, is sent at once."""
    hook = create(world, types=["link.created.v1"])
    happen(world)
    fail_once(world, hook)
    (told,) = world.deliveries.list(world.jo, "acme", hook.id).items
    world.do(world.endpoints.update, world.jo, hook.id, EndpointDraft(enabled=False), ("enabled",))
    world.sender.result = BROKEN
    assert world.deliveries.redeliver(world.jo, told.id).state is DeliveryState.PENDING
    assert len(world.sender.posted) == 1
    elsewhere = EndpointDraft(enabled=True, types=["link.deleted.v1"])
    world.do(world.endpoints.update, world.jo, hook.id, elsewhere, ("enabled", "types"))
    assert world.deliveries.redeliver(world.jo, told.id).state is DeliveryState.PENDING
    assert len(world.sender.posted) == 2
    back = EndpointDraft(types=["link.created.v1"])
    world.do(world.endpoints.update, world.jo, hook.id, back, ("types",), skip_backlog=True)
    world.sender.result = TAKEN
    assert world.deliveries.redeliver(world.jo, told.id).state is DeliveryState.SUCCEEDED
    assert len(world.sender.posted) == 3


def test_redelivery_of_what_was_pending_a_moment_ago(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came of it meanwhile is not overwritten by how it was."""
    hook = create(world, types=["link.created.v1"])
    happen(world)
    fail_once(world, hook)
    (told,) = world.deliveries.list(world.jo, "acme", hook.id).items
    look = world.store.activity

    def meanwhile(workspace_id: str, activity_id: str) -> Activity | None:
        monkeypatch.undo()
        fail_once(world, hook, TAKEN)
        return look(workspace_id, activity_id)

    monkeypatch.setattr(world.store, "activity", meanwhile)
    again = world.deliveries.redeliver(world.jo, told.id)
    assert (again.state, again.attempts) == (DeliveryState.SUCCEEDED, 3)


def test_what_happens_elsewhere_is_not_looked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of endpoints whose workspace was quiet since the last look none has the log asked for it."""
    quiet = create(world)
    busy = world.do(world.endpoints.create, world.stranger, EndpointDraft("elsewhere", URL, types=["file.created.v1"]))
    assert world.deliveries.due() == []
    asked: list[str] = []
    listed = world.store.list_activities

    def asking(query: ActivityQuery, after: Position | None, limit: int) -> Sequence[Activity]:
        asked.append(query.workspace_id)
        return listed(query, after, limit)

    monkeypatch.setattr(world.store, "list_activities", asking)
    world.upload(world.stranger, b"there")
    assert [one.id for one in world.deliveries.due()] == [busy[0].id]
    assert asked == [busy[0].workspace_id]
    made = happen(world)
    assert {one.id for one in world.deliveries.due()} == {quiet.id, busy[0].id}
    assert resources(claim(world, quiet)) == made

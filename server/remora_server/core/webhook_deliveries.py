"""Deliveries of webhooks: what is to be sent next to which endpoint, and what comes of each attempt.

Each endpoint has a place in the log of activities, so nothing is written for it when a change is made: whoever looks
finds what lies behind that place. Of all processes one at a time sends to an endpoint, under a claim that runs out by
itself. What was sent when such a process died before it could say so is sent again, under the same id.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

from remora_server.core import access, errors, ids, webhook_messages
from remora_server.core.activity import ActivityLog
from remora_server.core.files import SERVICE
from remora_server.core.model import (
    Activity,
    Caller,
    DeliveryState,
    DisabledReason,
    Micros,
    Outgoing,
    Page,
    Sent,
    WebhookDelivery,
    WebhookEndpoint,
)
from remora_server.core.pages import Pages
from remora_server.core.ports import (
    ActivityQuery,
    Changes,
    Clock,
    DeliveryQuery,
    MetadataStore,
    WebhookSender,
)
from remora_server.core.sealing import Seal, SealBrokenError
from remora_server.core.values import dataclass, replace
from remora_server.core.webhook_endpoints import WebhookEndpoints

SECOND: Micros = 1_000_000
BATCH = 32
# After so many attempts in vain; the last one again and again. Each is spread a little, so that a receiver that was
# away does not get all at once.
DELAYS: Sequence[Micros] = tuple(seconds * SECOND for seconds in (1, 5, 30, 120, 600, 1800, 3600))
JITTER = (0.9, 1.1)
CLAIM_MARGIN: Micros = 5 * SECOND  # What a batch may take beside its last attempt.
FAR = 10_000  # So much of the log that is not for an endpoint is not looked through again by the next process.
MOST_WAITING = 10_000  # Nobody needs to know a longer queue exactly, and counting takes time.
KEPT: Micros = 7 * 24 * 3600 * SECOND
GONE = 410


def _nobody(_what: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Claim:
    """What one process alone may send to an endpoint now, in this order."""

    endpoint: WebhookEndpoint
    activities: Sequence[Activity]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One activity that was sent."""

    activity: Activity
    sent: Sent
    begin_time: Micros


@dataclass(frozen=True, slots=True)
class Patience:
    """How long receivers are waited for: for one answer, and until one that gives no good answer is given up."""

    timeout: Micros
    give_up_after: Micros


class WebhookDeliveries:
    """The rules of deliveries over a metadata store."""

    def __init__(
        self,
        store: MetadataStore,
        changes: Changes,
        endpoints: WebhookEndpoints,
        log: ActivityLog,
        pages: Pages,
        clock: Clock,
        *,
        seal: Seal,
        sender: WebhookSender,
        patience: Patience,
        told: Callable[[str], object] = _nobody,
    ) -> None:
        self._store = store
        self._changes = changes
        self._endpoints = endpoints
        self._log = log
        self._pages = pages
        self._clock = clock
        self._seal = seal
        self._sender = sender
        self._give_up_after = patience.give_up_after
        self._claim_life = patience.timeout + CLAIM_MARGIN
        self._told_of = told
        # How far the log was found to hold nothing for an endpoint as it is now.
        self._nothing_until: dict[tuple[str, int, int], int] = {}

    # For whoever sends all the time

    def due(self) -> Sequence[WebhookEndpoint]:
        """Return the endpoints that something can be sent to now; a claim decides."""
        now, head = self._clock.now(), self._store.activity_bounds()[1]
        known, self._nothing_until = self._nothing_until, {}
        since = min(known.values(), default=head)
        active = self._store.workspaces_active_after(since) if since < head else frozenset[str]()
        found = []
        for endpoint in self._store.enabled_webhook_endpoints():
            if endpoint.due_time > now or endpoint.claim_time > now:
                continue
            place = (endpoint.id, endpoint.version, endpoint.cursor)
            after = known.get(place, endpoint.cursor)
            # One question about all workspaces spares one for each endpoint of those that were quiet.
            is_quiet = place in known and endpoint.workspace_id not in active
            if after < head and not is_quiet and self._next(endpoint, after, 1):
                found.append(endpoint)
            else:
                self._nothing_until[place] = max(after, head)
                if head - endpoint.cursor > FAR:
                    self._changes.run(partial(self._move_on, endpoint, head))
        return found

    def _move_on(self, endpoint: WebhookEndpoint, head: int) -> None:
        """Note that the log holds nothing for an endpoint up to `head`."""
        stored = self._store.webhook_endpoint(endpoint.workspace_id, endpoint.id)
        if stored is not None and (stored.version, stored.epoch) == (endpoint.version, endpoint.epoch):
            self._store.update_webhook_endpoint(replace(stored, cursor=head))

    def claim(self, endpoint: WebhookEndpoint) -> Claim | None:
        """Take what is next for an endpoint, for a while; None if there is nothing, or another process has it."""

        def take() -> Claim | None:
            stored, now = self._store.webhook_endpoint(endpoint.workspace_id, endpoint.id), self._clock.now()
            if stored is None or not stored.enabled or stored.due_time > now or stored.claim_time > now:
                return None
            return self._claimed(replace(stored, epoch=stored.epoch + 1))

        return self._changes.run(take)

    def further(self, claim: Claim, after: Activity) -> Sequence[Activity]:
        """Return what has come behind an activity since the claim, and may be sent under it."""
        return self._next(claim.endpoint, after.seq, BATCH)

    def outgoing(self, claim: Claim, activity: Activity) -> Outgoing | Sent:
        """Return the message that tells of an activity, or why there can't be one."""
        try:
            return self._message(claim.endpoint, activity)
        except SealBrokenError:
            return Sent(error="the secret can't be read, since the server's signing key has changed; rotate it")

    def record(self, claim: Claim, attempts: Sequence[Attempt], *, going_on: bool = True) -> Claim | None:
        """Keep what came of sending; return what is next if that can be sent at once, else give the claim back."""

        def keep() -> Claim | None:
            stored = self._store.webhook_endpoint(claim.endpoint.workspace_id, claim.endpoint.id)
            if stored is None or stored.epoch != claim.endpoint.epoch:
                return None
            changed = stored
            for attempt in attempts:
                changed = self._after(changed, attempt)
            if going_on and changed.enabled and changed.due_time <= self._clock.now():
                further = self._claimed(changed)
                if further is not None:
                    return further
            self._store.update_webhook_endpoint(replace(changed, claim_time=0))
            return None

        return self._changes.run(keep)

    def waiting(self) -> dict[str, int]:
        """Count what waits to be sent, up to a limit, the endpoints that it waits for, and those that were given up."""
        counts: list[int] = []
        for endpoint in self._store.enabled_webhook_endpoints():
            query = _query(endpoint)
            left = MOST_WAITING - sum(counts)
            if query is not None and left > 0:
                counts.append(self._store.count_activities_behind(query, endpoint.cursor, left))
        return {
            "waiting": sum(counts),
            "endpoints": sum(1 for count in counts if count),
            "given_up": self._store.count_given_up_webhook_endpoints(),
        }

    # For callers

    def test(self, caller: Caller, endpoint_id: str) -> Sent:
        """Send something made up to an endpoint, which nothing else tells of. Not within a change."""
        endpoint = self._endpoints.get(caller, endpoint_id)
        now = self._clock.now()
        activity = Activity(
            seq=0,
            id=ids.new_id(ids.ACTIVITY),
            type=webhook_messages.TESTED,
            workspace_id=endpoint.workspace_id,
            subject=None,
            actor=caller.actor,
            occur_time=now,
            resource_id=endpoint.id,
            changed_fields=(),
            payload={},
            request_id=caller.request_id,
            visible_to="",
        )
        return self._sent(endpoint, activity).sent

    def list(
        self,
        caller: Caller,
        workspace: str,
        endpoint_id: str,
        states: Sequence[DeliveryState] = (),
        *,
        page_size: int = 0,
        page_token: str = "",
    ) -> Page[WebhookDelivery]:
        """Return a page of the deliveries to an endpoint, newest first."""
        access.enter(caller, workspace)
        reader = "" if caller.is_admin else caller.principal_id
        query = DeliveryQuery(self._endpoints.get(caller, endpoint_id).id, tuple(states), reader)
        return self._pages.page(
            ("webhook deliveries", query),
            page_size,
            page_token,
            lambda after, limit: self._store.list_webhook_deliveries(query, after, limit),
            lambda last: (last.create_time, last.id),
        )

    def redeliver(self, caller: Caller, delivery_id: str) -> WebhookDelivery:
        """Send an activity once more; one that is pending has its turn at once. Not within a change."""
        found = self._delivery(caller, delivery_id)
        endpoint = self._endpoints.get(caller, found.endpoint_id)
        activity = self._activity(caller, endpoint, found)
        hurried = self._changes.run(lambda: self._hurried(caller, delivery_id))
        if hurried is not None:
            return hurried
        if not webhook_messages.can_tell(endpoint, activity):
            raise errors.invalid("webhook_delivery_id", "is of a type that the endpoint's format does not have by now")
        attempt = self._sent(endpoint, activity)

        def keep() -> WebhookDelivery:
            known = self._delivery(caller, delivery_id)
            # What was taken once stays so, whatever came of sending it again.
            state = DeliveryState.SUCCEEDED if attempt.sent.succeeded else known.state
            told = self._told(known, attempt, state, known.next_time)
            self._store.update_webhook_delivery(told)
            return told

        return self._changes.run(keep)

    def _hurried(self, caller: Caller, delivery_id: str) -> WebhookDelivery | None:
        """Give what is next for an endpoint its turn at once; None if a delivery is not that."""
        found = self._delivery(caller, delivery_id)
        endpoint = self._endpoints.get(caller, found.endpoint_id)
        if found.state is not DeliveryState.PENDING or not endpoint.enabled:
            return None
        # What is pending may have been passed by since, with the backlog or by a change of what the endpoint gets.
        if found.activity_id not in {one.id for one in self._next(endpoint, endpoint.cursor, 1)}:
            return None
        self._store.update_webhook_endpoint(replace(endpoint, due_time=0))
        hurried = replace(found, next_time=self._clock.now())
        self._store.update_webhook_delivery(hurried)
        return hurried

    def _activity(self, caller: Caller, endpoint: WebhookEndpoint, delivery: WebhookDelivery) -> Activity:
        """Return what a delivery tells of, if both the caller and whoever the endpoint is read for may see it."""
        activity = self._store.activity(caller.workspace_id, delivery.activity_id)
        if activity is None:
            raise errors.NotFoundError("activity", f"activities/{delivery.activity_id}")
        if not access.may_see_activity(caller, activity):
            raise errors.NotFoundError("webhook_delivery", f"webhook-deliveries/{delivery.id}")
        if activity.visible_to not in {"", endpoint.reader_id}:
            why = "is of what the one who last changed the endpoint may not see; whoever may has to set its URL"
            raise errors.invalid("webhook_delivery_id", why)
        return activity

    def _delivery(self, caller: Caller, delivery_id: str) -> WebhookDelivery:
        parsed = ids.parse(ids.WEBHOOK_DELIVERY, delivery_id, "webhook_delivery_id")
        found = self._store.webhook_delivery(caller.workspace_id, parsed)
        if found is None:
            raise errors.NotFoundError("webhook_delivery", f"webhook-deliveries/{delivery_id}")
        return found

    def _sent(self, endpoint: WebhookEndpoint, activity: Activity) -> Attempt:
        begin_time = self._clock.now()
        made = self.outgoing(Claim(endpoint, ()), activity)
        return Attempt(activity, made if isinstance(made, Sent) else self._sender.send(made), begin_time)

    def _claimed(self, endpoint: WebhookEndpoint) -> Claim | None:
        """Hold an endpoint for as long as a batch may take, if there is anything to send."""
        found = self._next(endpoint, endpoint.cursor, BATCH)
        if not found:
            return None
        held = replace(endpoint, claim_time=self._clock.now() + self._claim_life)
        self._store.update_webhook_endpoint(held)
        return Claim(held, found)

    def _next(self, endpoint: WebhookEndpoint, after: int, limit: int) -> Sequence[Activity]:
        query = _query(endpoint)
        return () if query is None else self._store.list_activities(query, (after,), limit)

    def _message(self, endpoint: WebhookEndpoint, activity: Activity) -> Outgoing:
        now = self._clock.now()
        keys = [self._seal.open(endpoint.secret, endpoint.id)]
        if endpoint.previous_secret and now < (endpoint.previous_secret_expire_time or 0):
            keys.append(self._seal.open(endpoint.previous_secret, endpoint.id))
        is_attachment = activity.type.startswith("attachment.")
        attachment = self._store.attachment(endpoint.workspace_id, activity.resource_id) if is_attachment else None
        return webhook_messages.message(endpoint, activity, attachment, keys, now)

    def _after(self, endpoint: WebhookEndpoint, attempt: Attempt) -> WebhookEndpoint:
        """Return an endpoint as an attempt leaves it, and note that among its deliveries."""
        if attempt.sent.succeeded:
            self._note(endpoint, attempt, DeliveryState.SUCCEEDED, None)
            return replace(endpoint, cursor=attempt.activity.seq, attempts=0, failing_since=None, due_time=0)
        now = self._clock.now()
        since = attempt.begin_time if endpoint.failing_since is None else endpoint.failing_since
        failing = replace(endpoint, attempts=endpoint.attempts + 1, failing_since=since)
        given_up = since + self._give_up_after
        if attempt.sent.status == GONE or now >= given_up:
            reason = DisabledReason.GONE if attempt.sent.status == GONE else DisabledReason.FAILING
            self._note(endpoint, attempt, DeliveryState.FAILED, None)
            return self._disabled(failing, reason)
        delay = DELAYS[min(failing.attempts, len(DELAYS)) - 1] * random.uniform(*JITTER)  # noqa: S311 - only spreads.
        due_time = min(now + int(delay), given_up)
        self._note(endpoint, attempt, DeliveryState.PENDING, due_time)
        return replace(failing, due_time=due_time)

    def _disabled(self, endpoint: WebhookEndpoint, reason: DisabledReason) -> WebhookEndpoint:
        if not endpoint.enabled:
            return endpoint
        service = Caller(endpoint.workspace_id, "", SERVICE, frozenset())
        self._log.record(service, "webhook_endpoint.disabled.v1", endpoint.id, {}, changed_fields=["enabled"])
        why = "it said that it is gone" if reason is DisabledReason.GONE else "it has failed for too long"
        self._told_of(f"{endpoint.id} is disabled, and what happens from now on waits: {why}; enable it to go on")
        return replace(endpoint, disabled_reason=reason, update_time=self._clock.now(), version=endpoint.version + 1)

    def _note(
        self, endpoint: WebhookEndpoint, attempt: Attempt, state: DeliveryState, next_time: Micros | None
    ) -> None:
        known = self._store.webhook_delivery_of(endpoint.id, attempt.activity.id)
        if known is not None:
            self._store.update_webhook_delivery(self._told(known, attempt, state, next_time))
            return
        new = WebhookDelivery(
            id=ids.new_id(ids.WEBHOOK_DELIVERY),
            workspace_id=endpoint.workspace_id,
            endpoint_id=endpoint.id,
            activity_id=attempt.activity.id,
            activity_type=attempt.activity.type,
            state=state,
            attempts=0,
            status=0,
            error="",
            duration=0,
            create_time=attempt.begin_time,
            attempt_time=attempt.begin_time,
            next_time=None,
        )
        self._store.add_webhook_delivery(self._told(new, attempt, state, next_time))

    def _told(
        self, delivery: WebhookDelivery, attempt: Attempt, state: DeliveryState, next_time: Micros | None
    ) -> WebhookDelivery:
        return replace(
            delivery,
            state=state,
            attempts=delivery.attempts + 1,
            status=attempt.sent.status,
            error=attempt.sent.error,
            duration=attempt.sent.duration,
            attempt_time=attempt.begin_time,
            next_time=next_time,
        )


def _query(endpoint: WebhookEndpoint) -> ActivityQuery | None:
    types = webhook_messages.types_sent(endpoint)
    if types is None:
        return None
    return ActivityQuery(
        endpoint.workspace_id,
        reader=endpoint.reader_id,
        subjects=tuple((subject.type, subject.id) for subject in endpoint.subjects),
        types=tuple(types),
        newest_first=False,
    )

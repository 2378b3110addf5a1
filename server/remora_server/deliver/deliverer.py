"""Brings activities to endpoints: one task for each that something waits for, so that none waits for another's."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from remora_server.core.errors import RemoraError, StorageUnavailableError
from remora_server.core.model import Activity, Outgoing, Sent, WebhookEndpoint
from remora_server.core.ports import Clock
from remora_server.core.webhook_deliveries import Attempt, Claim, WebhookDeliveries
from remora_server.deliver.lookups import LookupsBusyError
from remora_server.deliver.sender import Sender, unexpected

P = ParamSpec("P")
Result = TypeVar("Result")

POLL_SECONDS = 1.0  # For endpoints that become due, and for what other processes have changed.
REST_SECONDS = 0.05  # Between two looks, however much happens.
BATCH_SECONDS, MOST_ATTEMPTS = 0.5, 100  # After so long, or so many, it is kept what has come of sending.
LINGER_SECONDS = 0.03  # For what follows at once.
STOP_SECONDS = 5.0
AWAY_SECONDS = 2.0
MOST_AT_ONCE = 200
BUSY_SECONDS = 1.0  # Before anything is tried again that there was no room for.

log = logging.getLogger(__name__)


class Deliverer:
    """Sends what is due until it is stopped; for use on one event loop."""

    def __init__(self, deliveries: WebhookDeliveries, sender: Sender, clock: Clock) -> None:
        self._deliveries = deliveries
        self._sender = sender
        self._clock = clock
        self._woken = asyncio.Event()
        self._stopping = False
        self._away = ""
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._have_waited: list[str] = []  # Endpoints that were due while there was no place.
        self._threads: Executor = ThreadPoolExecutor(8, "deliver")

    def wake(self) -> None:
        """Tell that the log may have grown; on the event loop only."""
        self._woken.set()

    def stop(self) -> None:
        """End soon; what is being sent is given up and will be sent again."""
        self._stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Send until `stop`."""
        while not self._stopping:
            self._woken.clear()
            try:
                await self._look()
                self._away = ""
            except RemoraError as problem:
                self._tell_away(str(problem))
                await asyncio.sleep(AWAY_SECONDS)
            await asyncio.sleep(REST_SECONDS)
            try:
                await asyncio.wait_for(self._woken.wait(), POLL_SECONDS)
            except TimeoutError:
                continue
        for task in self._busy.values():
            task.cancel()
        if self._busy:
            await asyncio.wait(self._busy.values(), timeout=STOP_SECONDS)

    def _tell_away(self, why: str) -> None:
        """Say once what is missing, not at each look."""
        if why != self._away:
            log.warning("webhooks wait: %s", why)
        self._away = why

    async def _look(self) -> None:
        """Begin with every endpoint that something can be sent to."""
        due = {one.id: one for one in await self._call(self._deliveries.due) if one.id not in self._busy}
        # Who has waited longest comes first, who had a place just now comes last.
        waited = [one for one in self._have_waited if one in due]
        turns = [*waited, *(one for one in due if one not in waited)]
        self._have_waited = turns[max(MOST_AT_ONCE - len(self._busy), 0) :]
        for endpoint in (due[one] for one in turns):
            if len(self._busy) < MOST_AT_ONCE:
                task = asyncio.create_task(self._serve(endpoint))
                self._busy[endpoint.id] = task
                task.add_done_callback(partial(self._ended, endpoint.id))

    def _ended(self, endpoint_id: str, task: asyncio.Task[None]) -> None:
        self._busy.pop(endpoint_id, None)
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.error("sending to %s failed", endpoint_id, exc_info=problem)
        # What came while it was busy was not looked at.
        self._woken.set()

    async def _serve(self, endpoint: WebhookEndpoint) -> None:
        """Send what is next for an endpoint, in order, until there is no more or it fails."""
        try:
            claim = await self._call(self._deliveries.claim, endpoint)
            while claim is not None:
                attempts: list[Attempt] = []
                is_done = False
                try:
                    is_done = await self._send(claim, attempts)
                finally:
                    # Also what was sent before a stop; a claim that is given back is another's at once. Of those that
                    # wait for a place none shall wait for one whose queue is long.
                    going_on = is_done and not self._stopping and not self._have_waited
                    keep = partial(self._deliveries.record, claim, tuple(attempts), going_on=going_on)
                    claim = await asyncio.shield(self._call(keep))
        except RemoraError as problem:
            log.warning("what came of sending to %s is not kept: %s", endpoint.id, problem)

    async def _send(self, claim: Claim, attempts: list[Attempt]) -> bool:
        """Send what was claimed, and what comes meanwhile, until it fails or it is time to keep what has come of it.

        Tell whether to go on with what is next.
        """
        until = time.monotonic() + BATCH_SECONDS
        waiting = claim.activities
        while waiting:
            for activity in waiting:
                begin_time = self._clock.now()
                made = await self._made(claim, activity)
                try:
                    sent = made if isinstance(made, Sent) else await self._sent(made, claim, attempts)
                except LookupsBusyError:
                    log.warning("%s waits: too many hosts are being looked up", claim.endpoint.id)
                    await asyncio.sleep(BUSY_SECONDS)
                    return False
                attempts.append(Attempt(activity, sent, begin_time))
                if not sent.succeeded:
                    log.info("%s to %s: %s", activity.id, claim.endpoint.id, sent.error)
                    return True
                if self._stopping or time.monotonic() > until or len(attempts) >= MOST_ATTEMPTS:
                    return True
            # Each record is a commit, for which everybody's changes wait: where much happens it is one for many.
            waiting = await self._further(claim, attempts[-1].activity)
        return True

    async def _made(self, claim: Claim, activity: Activity) -> Outgoing | Sent:
        """Return a message, or why there is none; what can't be written would be tried for ever without a word."""
        try:
            return await self._call(self._deliveries.outgoing, claim, activity)
        except StorageUnavailableError:  # Which is no failure of the message.
            raise
        except Exception as problem:  # noqa: BLE001 - whatever it is, the endpoint's queue must not stand still.
            return Sent(error=unexpected(problem))

    async def _sent(self, outgoing: Outgoing, claim: Claim, attempts: list[Attempt]) -> Sent:
        """Send one message; what was sent before it is kept meanwhile if its receiver takes its time."""
        sending = asyncio.create_task(self._sender.send(outgoing))
        try:
            done, _ = await asyncio.wait({sending}, timeout=BATCH_SECONDS)
            if attempts and not done:
                # The claim stays as good as it was: it is the same endpoint, and what is being sent is next.
                # No longer ours by then: if we are stopped meanwhile, they are kept once all the same.
                kept = tuple(attempts)
                attempts.clear()
                try:
                    await asyncio.shield(self._call(self._deliveries.record, claim, kept))
                except RemoraError:
                    attempts.extend(kept)
                    raise
            return await sending
        finally:
            sending.cancel()

    async def _further(self, claim: Claim, after: Activity) -> Sequence[Activity]:
        found = await self._call(self._deliveries.further, claim, after)
        if not found:
            await asyncio.sleep(LINGER_SECONDS)
            found = await self._call(self._deliveries.further, claim, after)
        return found

    async def _call(self, call: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))

"""ActivityService: translates, and calls core; a watch follows the log until it is drained or cancelled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc

from remora.v1 import activity_pb2, activity_service_pb2_grpc
from remora.v1 import activity_service_pb2 as pb
from remora_server.core.activity import ActivityLog
from remora_server.core.admission import Admission
from remora_server.core.model import Activity
from remora_server.core.ports import ActivityQuery, Clock
from remora_server.rpc import convert
from remora_server.rpc.calls import Calls, caller
from remora_server.rpc.upload_stream import Draining

CheckAgain = Callable[[grpc.aio.ServicerContext[Any, Any]], Awaitable[object]]

CHECKPOINT_SECONDS = 15.0
POLL_SECONDS = 1.0
MAX_AGE_SECONDS = 3600.0
NEWEST_FIRST: Mapping[int, bool] = {
    pb.ACTIVITY_ORDER_UNSPECIFIED: True,
    pb.ACTIVITY_ORDER_OCCUR_TIME_DESC: True,
    pb.ACTIVITY_ORDER_OCCUR_TIME_ASC: False,
}


class Growth:
    """Wakes watches when the log may have grown; for use on the event loop only."""

    def __init__(self) -> None:
        self._wakers: set[Callable[[], None]] = set()

    @property
    def is_watched(self) -> bool:
        """Whether there is anybody to wake; any thread may ask."""
        return bool(self._wakers)

    def wake(self) -> None:
        """Wake every watch."""
        for wake in tuple(self._wakers):
            wake()

    def join(self, wake: Callable[[], None]) -> None:
        """Have `wake` called when the log grows."""
        self._wakers.add(wake)

    def leave(self, wake: Callable[[], None]) -> None:
        """Take back `join`."""
        self._wakers.discard(wake)


class ActivityService(activity_service_pb2_grpc.ActivityServiceServicer):
    """The RPCs of the activity log."""

    def __init__(
        self,
        calls: Calls,
        log: ActivityLog,
        clock: Clock,
        *,
        watching: Admission,
        growth: Growth,
        draining: Draining,
        check_again: CheckAgain,
    ) -> None:
        self._calls = calls
        self._log = log
        self._clock = clock
        self._watching = watching
        self._growth = growth
        self._draining = draining
        self._check_again = check_again

    async def ListActivities(
        self, request: pb.ListActivitiesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListActivitiesResponse:
        occurred_from, occurred_to = convert.range_from_proto(request.occur_time, "occur_time")
        query = ActivityQuery(
            workspace_id=request.workspace_id,
            actor_ids=tuple(request.actor_ids),
            types=tuple(request.types),
            occurred_from=occurred_from,
            occurred_to=occurred_to,
            newest_first=convert.known([request.order], NEWEST_FIRST, "order")[0],
        )
        page = await self._calls.read(
            self._log.list,
            caller(),
            query,
            convert.optional_subject_from_proto(request.subject, given=request.HasField("subject")),
            page_size=request.page_size,
            page_token=request.page_token,
            include_total_size=request.include_total_size,
        )
        return pb.ListActivitiesResponse(
            activities=map(self._shown, page.items),
            next_page_token=page.next_page_token,
            total_size=page.total_size or 0,
        )

    async def GetActivity(
        self, request: pb.GetActivityRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetActivityResponse:
        found = await self._calls.read(self._log.get, caller(), request.activity_id)
        return pb.GetActivityResponse(activity=self._shown(found))

    async def GetActivityCursors(
        self, request: pb.GetActivityCursorsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetActivityCursorsResponse:
        cursors = await self._calls.read(self._log.cursors, caller(), request.workspace_id)
        return pb.GetActivityCursorsResponse(earliest_cursor=cursors.earliest, head_cursor=cursors.head)

    async def WatchActivities(  # type: ignore[override] # the stubs know no coroutine that writes to its context
        self, request: pb.WatchActivitiesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        who = caller()
        with self._watching.stream(who.principal_id):
            place = await self._calls.read(self._log.watch_from, who, request.workspace_id, request.start_cursor)
            subjects = [convert.subject_from_proto(subject) for subject in request.subjects]
            query = await self._calls.read(self._log.watch_query, who, subjects, tuple(request.types))
            wake = asyncio.Event()
            self._growth.join(wake.set)
            self._draining.join(wake.set)
            try:
                await self._follow(context, query, place, wake, include_payload=request.include_payload)
            finally:
                self._growth.leave(wake.set)
                self._draining.leave(wake.set)

    async def _follow(
        self,
        context: grpc.aio.ServicerContext[Any, Any],
        query: ActivityQuery,
        place: int,
        wake: asyncio.Event,
        *,
        include_payload: bool,
    ) -> None:
        """Send what comes, read at the speed of the reader: a slow one costs no memory and loses nothing."""
        workspace_id = query.workspace_id
        started = pb.WatchActivitiesResponse.Started(cursor=self._log.cursor(workspace_id, place))
        await context.write(pb.WatchActivitiesResponse(started=started))
        began = told = checked = time.monotonic()
        while True:
            wake.clear()
            found, place = await self._calls.read(self._log.after, query, place)
            cursor = self._log.cursor(workspace_id, place)
            now = time.monotonic()
            if now - checked >= CHECKPOINT_SECONDS:
                # A watch outlives many a key.
                await self._check_again(context)
                checked = now
            if found:
                shown = [self._shown(one, include_payload=include_payload) for one in found]
                batch = pb.WatchActivitiesResponse.Batch(activities=shown, cursor=cursor)
                await context.write(pb.WatchActivitiesResponse(batch=batch))
                told = now
            elif now - told >= CHECKPOINT_SECONDS:
                as_of = convert.time_to_proto(self._clock.now())
                checkpoint = pb.WatchActivitiesResponse.Checkpoint(cursor=cursor, as_of_time=as_of)
                await context.write(pb.WatchActivitiesResponse(checkpoint=checkpoint))
                told = now
            if self._draining.started or now - began > MAX_AGE_SECONDS:
                drain = pb.WatchActivitiesResponse.Drain(cursor=cursor)
                await context.write(pb.WatchActivitiesResponse(drain=drain))
                return
            if not found:
                # Changes of other processes, such as the operator's commands, don't wake us: look now and then.
                try:
                    await asyncio.wait_for(wake.wait(), POLL_SECONDS)
                except TimeoutError:
                    continue

    def _shown(self, activity: Activity, *, include_payload: bool = True) -> activity_pb2.Activity:
        cursor = self._log.cursor(activity.workspace_id, activity.seq)
        return convert.activity_to_proto(activity, cursor, include_payload=include_payload)

"""Following the log of changes across broken streams, each activity once."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator

import grpc

from remora import errors
from remora.connection import Connection
from remora.model import Activity, activity_from_proto
from remora.patience import Patience
from remora.silence import Silence
from remora.v1 import activity_service_pb2

REMEMBERED = 4096  # More than a server sends again after a broken stream.
QUICK_SECONDS = 5.0


def watch(
    connection: Connection, request: activity_service_pb2.WatchActivitiesRequest, patience: Patience
) -> Iterator[Activity]:
    """Give activities as they happen; raise CursorCompactedError if the log has lost the place."""
    seen: OrderedDict[str, None] = OrderedDict()
    while True:
        began = time.monotonic()
        try:
            for activity in _stream(connection, request, patience):
                if activity.id not in seen:
                    seen[activity.id] = None
                    if len(seen) > REMEMBERED:
                        seen.popitem(last=False)
                    yield activity
        except errors.RemoraError as error:
            patience.pause(error)
        else:
            if time.monotonic() - began < QUICK_SECONDS:
                patience.pause(errors.ConnectionFailedError("the server is draining.", code="UNAVAILABLE"))


def _stream(
    connection: Connection, request: activity_service_pb2.WatchActivitiesRequest, patience: Patience
) -> Iterator[Activity]:
    call = connection.activities.WatchActivities(request, wait_for_ready=False)
    try:
        with Silence(call) as silence:
            for response in call:
                silence.heard()
                connection.heard = True
                kind = response.WhichOneof("message")
                if kind == "batch":
                    yield from map(activity_from_proto, response.batch.activities)
                    request.start_cursor = response.batch.cursor
                    patience.progressed()
                elif kind == "checkpoint":
                    request.start_cursor = response.checkpoint.cursor
                    patience.progressed()
                elif kind == "started":
                    patience.heard()
                    request.start_cursor = request.start_cursor or response.started.cursor
                elif kind == "drain":
                    request.start_cursor = response.drain.cursor
    except grpc.RpcError as error:
        raise connection.failure(error) from None

"""A server that is told to stop says so, lets its callers go in order, and leaves with code 0."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from remora.v1 import activity_service_pb2
from remora.v1 import file_service_pb2 as pb
from tests.crashing import HeldServer
from tests.running import Api, RunningServer
from tests.uploading import KIB, MIB, Stream, append, checksums_of, create_file, new_ticket, read, upload

Start = Callable[..., RunningServer]
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def watch_health(api: Api, service: str = "") -> Iterator[health_pb2.HealthCheckResponse]:
    """Watch the health of a service."""
    watch = api.channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    answers: Iterator[health_pb2.HealthCheckResponse] = watch(health_pb2.HealthCheckRequest(service=service))
    return answers


@pytest.fixture
def held(tmp_path: Path) -> Iterator[HeldServer]:
    """Start a server that waits before it makes staged bytes durable; it is killed afterwards."""
    server = HeldServer(tmp_path / "data", "sync")
    server.start()
    yield server
    server.kill()


def test_health_turns_before_anything_ends(held: HeldServer) -> None:
    """P05: on SIGTERM health says NOT_SERVING while an upload is still open; it is drained, and the exit code is 0."""
    server = held
    api = server.api()
    watches = [watch_health(api, service) for service in ("", "remora.v1.FileService")]
    assert [next(watch).status for watch in watches] == [SERVING, SERVING]
    data = os.urandom(300 * KIB)
    with Stream(api) as stream:
        stream.ready()
        stream.send(data)
        stream.ask_flush()
        server.wait_held()  # Until these bytes are durable the upload can't end.
        server.signal(signal.SIGTERM)
        assert [next(watch).status for watch in watches] == [NOT_SERVING, NOT_SERVING]
        server.let_go()
        drain = stream.drained()
        assert drain.committed_size == len(data)
        assert drain.retry_delay.ToTimedelta().total_seconds() > 0
    assert server.wait() == 0


def test_an_upload_goes_on_after_the_restart(start_server: Start) -> None:
    """P05: a running upload is told how much is stored, and after the restart it stands there or further on."""
    server = start_server()
    data = os.urandom(3 * MIB)
    with Stream(server.api()) as stream, Stream(server.api()) as empty:
        stream.ready()
        empty.ready()
        stream.send_all(data[: MIB + 1])
        stream.flush()
        server.signal(signal.SIGTERM)
        drain = stream.drained()
        assert drain.committed_size == MIB + 1
        assert empty.drained().committed_size == 0
        assert server.wait() == 0
    server.start()
    api = server.api()
    with Stream(api, stream.ticket_id) as again:
        ready = again.ready()
        assert ready.committed_size >= drain.committed_size
        assert ready.committed_checksums == checksums_of(data[: ready.committed_size], "crc32c")
        again.send_all(data)
        file = again.finish(checksums=checksums_of(data)).file
    assert read(api, file.id) == data
    assert server.report("fsck")["clean"]


def test_running_downloads_are_finished(start_server: Start) -> None:
    """P05: a download that runs when SIGTERM comes gets all of its bytes."""
    server = start_server()
    api = server.api()
    data = os.urandom(16 * MIB)
    ticket_id = new_ticket(api).id
    for offset in range(0, len(data), 2 * MIB):
        append(api, ticket_id, offset, data[offset : offset + 2 * MIB])
    file = create_file(api, ticket_id).file
    watch = watch_health(api)
    assert next(watch).status == SERVING
    download = api.files.ReadFile(pb.ReadFileRequest(file_id=file.id))
    next(download)
    server.signal(signal.SIGTERM)
    assert next(watch).status == NOT_SERVING
    assert b"".join(answer.chunk.data.content for answer in download) == data
    assert server.wait() == 0


def test_watches_of_health_do_not_keep_the_server(start_server: Start) -> None:
    """P05: clients that watch health hear NOT_SERVING, their watches end, and the server leaves at once."""
    server = start_server("--drain-timeout", "600")
    watches = [watch_health(server.api()) for _ in range(3)]
    assert [next(watch).status for watch in watches] == [SERVING] * 3
    server.signal(signal.SIGTERM)
    assert [[answer.status for answer in watch] for watch in watches] == [[NOT_SERVING]] * 3
    assert server.wait() == 0


def test_watches_are_drained_with_a_cursor(start_server: Start) -> None:
    """P05: a watch ends with Drain and OK; watching again from its cursor after the restart misses nothing."""
    server = start_server()
    api = server.api()
    watch = api.activity.WatchActivities(activity_service_pb2.WatchActivitiesRequest(workspace_id="demo"))
    assert next(watch).WhichOneof("message") == "started"
    first = upload(api, b"before").file
    seen = next(watch).batch
    assert [one.resource_id for one in seen.activities] == [first.id]
    server.signal(signal.SIGTERM)
    *_, last = watch
    assert last.WhichOneof("message") == "drain"
    assert watch.code() is grpc.StatusCode.OK
    assert server.wait() == 0
    server.start()
    api = server.api()
    second = upload(api, b"after").file
    again = api.activity.WatchActivities(
        activity_service_pb2.WatchActivitiesRequest(workspace_id="demo", start_cursor=last.drain.cursor)
    )
    assert next(again).started.cursor == last.drain.cursor
    assert [one.resource_id for one in next(again).batch.activities] == [second.id]
    again.cancel()


def test_a_client_that_hangs_does_not_keep_the_server(start_server: Start) -> None:
    """P05: what has not ended after the time for draining is cut off, and the exit code is 0 nevertheless."""
    server = start_server("--drain-timeout", "1")
    api = server.api()
    data = os.urandom(8 * MIB)
    ticket_id = new_ticket(api).id
    for offset in range(0, len(data), 2 * MIB):
        append(api, ticket_id, offset, data[offset : offset + 2 * MIB])
    file = create_file(api, ticket_id).file
    download = api.files.ReadFile(pb.ReadFileRequest(file_id=file.id))
    next(download)  # And nothing more, so that the server can't send the rest.
    assert server.stop() == 0
    with pytest.raises(grpc.RpcError) as caught:
        list(download)
    assert caught.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


def test_a_stream_that_opens_during_the_end_is_sent_away(held: HeldServer) -> None:
    """P05: a stream that is opened while the server stops is UNAVAILABLE, which says: elsewhere, or later."""
    server = held
    api = server.api()
    with Stream(api) as stream:
        stream.ready()
        stream.send(b"held")
        stream.ask_flush()
        server.wait_held()
        watch = watch_health(api)
        assert next(watch).status == SERVING
        server.signal(signal.SIGTERM)
        assert next(watch).status == NOT_SERVING
        with pytest.raises(grpc.RpcError) as caught, Stream(api) as late:
            late.ready()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        server.let_go()
        assert stream.drained().committed_size == 4
    assert server.wait() == 0

"""ActivityService over a real server: the log as a list, and live."""

from __future__ import annotations

import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from remora.v1 import activity_pb2, common_pb2, file_pb2
from remora.v1 import activity_service_pb2 as pb
from remora.v1 import attachment_service_pb2 as attachment_pb
from remora.v1 import file_service_pb2 as file_pb
from remora.v1 import link_service_pb2 as link_pb
from remora.v1 import upload_ticket_service_pb2 as ticket_pb
from tests.rpc.asking import (
    WORKSPACE,
    at_once,
    attach,
    create,
    delete,
    events,
    listed,
    me,
    second_user,
    types,
    upload,
    upsert,
)
from tests.running import Api, RunningServer, issue, refused

URL = "https://example.com/1"
CODE = grpc.StatusCode
Message = pb.WatchActivitiesResponse


@contextmanager
def watching(api: Api, **options: Any) -> Iterator[Iterator[Message]]:
    """Watch, and give up at the end; the deadline only keeps a broken watch from lasting for ever."""
    stream = api.activity.WatchActivities(pb.WatchActivitiesRequest(workspace_id=WORKSPACE, **options), timeout=100)
    try:
        yield iter(stream)
    finally:
        stream.cancel()


def started(stream: Iterator[Message]) -> str:
    """Return the cursor of the first message."""
    first = next(stream)
    assert first.WhichOneof("message") == "started"
    return first.started.cursor


def take(stream: Iterator[Message], count: int) -> list[activity_pb2.Activity]:
    """Return the next activities, at least so many."""
    found: list[activity_pb2.Activity] = []
    while len(found) < count:
        message = next(stream)
        assert message.WhichOneof("message") in {"batch", "checkpoint"}
        found += message.batch.activities
    return found


def head(api: Api) -> str:
    """Return the cursor of what happens from now on."""
    return api.activity.GetActivityCursors(pb.GetActivityCursorsRequest(workspace_id=WORKSPACE)).head_cursor


def ticket(api: Api) -> str:
    """Make an upload ticket."""
    spec = file_pb2.FileSpec(name="t.bin")
    made = api.tickets.CreateUploadTicket(ticket_pb.CreateUploadTicketRequest(workspace_id=WORKSPACE, spec=spec))
    return made.upload_ticket.id


class TestOneEventPerChange:
    """Each acknowledged change has exactly one event."""

    def test_every_kind_of_change(self, api: Api, new_issue: str) -> None:
        """Each call that changes something is told once, one that changes nothing is not told (P28)."""
        since = head(api)
        file = upload(api, key=new_issue)
        (shown,) = listed(api, new_issue)
        api.files.UpdateFile(file_pb.UpdateFileRequest(file=file_pb2.File(id=file.id, name="b.txt")))
        api.files.UpdateFile(file_pb.UpdateFileRequest(file=file_pb2.File(id=file.id, name="b.txt")))
        api.files.DeleteFile(file_pb.DeleteFileRequest(file_id=file.id, detach=True))
        api.files.UndeleteFile(file_pb.UndeleteFileRequest(file_id=file.id))
        link = api.links.CreateLink(
            link_pb.CreateLinkRequest(workspace_id=WORKSPACE, subject=issue(new_issue), url=URL)
        ).link
        api.links.DeleteLink(link_pb.DeleteLinkRequest(link_id=link.id))
        pending = ticket(api)
        for _ in range(2):
            api.tickets.CancelUploadTicket(ticket_pb.CancelUploadTicketRequest(upload_ticket_id=pending))
        with watching(api, start_cursor=since) as stream:
            started(stream)
            found = [one for one in take(stream, 10) if one.resource_id in {file.id, shown.id, link.id, pending}]
        assert [(one.type, one.resource_id) for one in found] == [
            ("file.created.v1", file.id),
            ("attachment.created.v1", shown.id),
            ("file.updated.v1", file.id),
            ("file.deleted.v1", file.id),
            ("attachment.deleted.v1", shown.id),
            ("file.undeleted.v1", file.id),
            ("link.created.v1", link.id),
            ("link.deleted.v1", link.id),
            ("upload_ticket.created.v1", pending),
            ("upload_ticket.cancelled.v1", pending),
        ]

    def test_the_order_is_that_of_the_commits(self, api: Api, new_issue: str) -> None:
        """Events of one issue come in the order in which the changes took effect, also with 24 racing writers (P28)."""
        answers = at_once(24, lambda number: upsert(api, new_issue, URL, title=f"n{number}").attachment)
        by_version = sorted(answers, key=lambda one: int(one.etag.strip('"')))
        found = events(api, new_issue)
        assert [one.attachment.title for one in found] == [one.title for one in by_version]

    def test_over_a_kill(self, start_server: Callable[..., RunningServer], new_issue: str) -> None:
        """Killed right after an acknowledgement, and asked again, the server knows one change and one event (P28)."""
        server = start_server()
        for number in range(5):
            request_id = str(uuid.uuid4())
            first = create(server.api(), new_issue, f"{URL}/{number}", request_id=request_id)
            server.kill()
            server.restart()
            again = create(server.api(), new_issue, f"{URL}/{number}", request_id=request_id)
            assert again == first
        found = events(server.api(), new_issue)
        assert types(found) == ["attachment.created"] * 5
        assert [one.attachment.url for one in found] == [f"{URL}/{number}" for number in range(5)]

    def test_a_refused_change_has_none(self, api: Api, new_issue: str) -> None:
        """Neither does what was rolled back leave an event (P28)."""
        create(api, new_issue, URL)
        with refused(CODE.ALREADY_EXISTS, "ATTACHMENT_URL_EXISTS"):
            create(api, new_issue, URL)
        with refused(CODE.ABORTED, "ETAG_MISMATCH"):
            upsert(api, new_issue, URL, title="t", etag='"9"')
        assert types(events(api, new_issue)) == ["attachment.created"]


class TestWhatItTells:
    """The fields of an activity."""

    def test_who_what_where(self, api: Api, new_issue: str) -> None:
        """An event names its actor, subject and resource, and shows the resource as it was then."""
        made = create(api, new_issue, URL, title="first", subtitle="s")
        upsert(api, new_issue, URL, title="second")
        first, second = events(api, new_issue)
        assert first.id.startswith("act_")
        assert first.workspace_id == made.workspace_id
        assert first.subject == made.subject
        assert first.actor == made.creator
        assert first.HasField("occur_time")
        assert first.resource_id == made.id
        assert (first.attachment.title, first.attachment.url, second.attachment.title) == ("first", URL, "second")
        assert first.attachment.subtitle == "s"
        assert api.activity.GetActivity(pb.GetActivityRequest(activity_id=first.id)).activity == first

    def test_a_file_card(self, api: Api, new_issue: str) -> None:
        """The event of an attached file names it."""
        file = upload(api, "plan.pdf")
        attach(api, new_issue, file.id)
        (found,) = events(api, new_issue)
        assert (found.attachment.file_id, found.attachment.file.name) == (file.id, "plan.pdf")

    def test_what_is_not_there(self, api: Api) -> None:
        """An unknown id is NOT_FOUND, a malformed one refused."""
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            api.activity.GetActivity(pb.GetActivityRequest(activity_id="act_01m7yggyheeq5rqe7req2vftaj"))
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            api.activity.GetActivity(pb.GetActivityRequest(activity_id="nonsense"))


class TestVisibility:
    """Events of tickets and of files that hang on nothing are for their creator."""

    def test_lists_and_gets(self, server: RunningServer, api: Api, new_issue: str) -> None:
        """Nobody else finds them, whichever way they look (P28, P43)."""
        other = second_user(server)
        mine = me(api, new_issue)
        hidden = {ticket(api), upload(api).id}
        file = upload(api)
        card = attach(api, new_issue, file.id)
        api.files.UpdateFile(file_pb.UpdateFileRequest(file=file_pb2.File(id=file.id, name="b.txt")))
        seen_by_me = {one.resource_id: one for one in events(api, actor_ids=[mine])}
        found = events(other, actor_ids=[mine])
        assert hidden <= set(seen_by_me)
        assert not hidden & {one.resource_id for one in found}
        assert {"attachment.created", "file.updated"} <= {
            kind for kind, one in zip(types(found), found, strict=True) if one.resource_id in {card.id, file.id}
        }
        for one in hidden:
            with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
                other.activity.GetActivity(pb.GetActivityRequest(activity_id=seen_by_me[one].id))
        request = pb.ListActivitiesRequest(workspace_id=WORKSPACE, actor_ids=[mine], include_total_size=True)
        assert other.activity.ListActivities(request).total_size == len(found)

    def test_watches(self, server: RunningServer, api: Api, new_issue: str) -> None:
        """A watch passes over what is not for its reader, and an admin key sees it (P28, P43)."""
        other, admin = second_user(server), second_user(server, scopes="admin")
        since = head(api)
        hidden = [ticket(api), upload(api).id]
        shown = create(api, new_issue, URL).id
        for who, wanted in ((other, [shown]), (admin, [*hidden, shown]), (api, [*hidden, shown])):
            with watching(who, start_cursor=since) as stream:
                started(stream)
                found = [one.resource_id for one in take(stream, len(wanted))]
                assert [one for one in found if one in {*hidden, shown}] == wanted


class TestList:
    """Filters and order of the list."""

    def test_newest_first_unless_asked(self, api: Api, new_issue: str) -> None:
        """The default order is the reverse of the log's."""
        for number in range(5):
            upsert(api, new_issue, URL, title=str(number))
        request = pb.ListActivitiesRequest(workspace_id=WORKSPACE, subject=issue(new_issue), page_size=2)
        found: list[activity_pb2.Activity] = []
        while True:
            page = api.activity.ListActivities(request)
            found += page.activities
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
        assert [one.attachment.title for one in found] == ["4", "3", "2", "1", "0"]
        assert found[::-1] == events(api, new_issue)

    def test_filters(self, server: RunningServer, api: Api, new_issue: str) -> None:
        """Subject, actors, types and time must all match, and the count agrees."""
        other = second_user(server)
        mine, theirs = create(api, new_issue, f"{URL}/1"), create(other, new_issue, f"{URL}/2")
        delete(other, mine.id)
        create(api, f"{new_issue}-b", URL)
        everything = events(api, new_issue)
        times = [one.occur_time for one in everything]
        for options, expected in (
            ({}, [0, 1, 2]),
            ({"actor_ids": [mine.creator.id]}, [0]),
            ({"actor_ids": [theirs.creator.id]}, [1, 2]),
            ({"actor_ids": [mine.creator.id, theirs.creator.id]}, [0, 1, 2]),
            ({"types": ["attachment.deleted.v1", "nonsense"]}, [2]),
            ({"types": ["attachment.created.v1"], "actor_ids": [theirs.creator.id]}, [1]),
            ({"occur_time": common_pb2.TimeRange(start_time=times[1])}, [1, 2]),
            ({"occur_time": common_pb2.TimeRange(end_time=times[1])}, [0]),
            ({"occur_time": common_pb2.TimeRange(start_time=times[1], end_time=times[2])}, [1]),
        ):
            assert events(api, new_issue, **options) == [everything[number] for number in expected], options
            request = pb.ListActivitiesRequest(
                workspace_id=WORKSPACE, subject=issue(new_issue), include_total_size=True, page_size=1
            )
            request.MergeFrom(pb.ListActivitiesRequest(**options))
            assert api.activity.ListActivities(request).total_size == len(expected)

    @pytest.mark.parametrize(
        ("options", "field"),
        [
            ({"page_size": -1}, "page_size"),
            ({"order": 99}, "order"),
            ({"actor_ids": ["x"] * 101}, "actor_ids"),
            ({"types": ["x"] * 101}, "types"),
            ({"occur_time": common_pb2.TimeRange(start_time=Timestamp(seconds=2**62))}, "occur_time.start_time"),
            ({"occur_time": common_pb2.TimeRange(end_time=Timestamp(nanos=-5))}, "occur_time.end_time"),
        ],
    )
    def test_refusals(self, api: Api, options: dict[str, Any], field: str) -> None:
        """A filter that can't be meant is refused by name."""
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
            api.activity.ListActivities(pb.ListActivitiesRequest(workspace_id=WORKSPACE, **options))
        assert seen[0].fields == [field]


class TestWatch:
    """Following the log."""

    def test_started_then_what_happens(self, api: Api, new_issue: str) -> None:
        """Without a cursor a watch begins now, says so first, and then tells what happens (P28)."""
        create(api, new_issue, f"{URL}/before")
        with watching(api, subjects=[issue(new_issue)]) as stream:
            assert started(stream)
            made = [create(api, new_issue, f"{URL}/{number}").id for number in range(3)]
            assert [one.resource_id for one in take(stream, 3)] == made

    def test_every_cursor_resumes_without_loss_or_double(self, api: Api, new_issue: str) -> None:
        """From whatever cursor a watch goes on, it delivers exactly what lies behind it (P28)."""
        with watching(api, subjects=[issue(create(api, new_issue, URL).subject.key)]) as stream:
            start = started(stream)
        made = [upsert(api, new_issue, URL, title=str(number)).attachment.title for number in range(5)]
        cursors = [start, *(one.cursor for one in events(api, new_issue)[1:])]
        for place, cursor in enumerate(cursors):
            with watching(api, start_cursor=cursor, subjects=[issue(new_issue)], include_payload=True) as stream:
                assert started(stream) == cursor
                upsert(api, new_issue, f"{URL}/end", title=f"end {place}")
                found = [one.attachment.title for one in take(stream, len(made) - place + 1)]
            # Later rounds see the ends of the earlier ones, too.
            assert [title for title in found if not title.startswith("end")] == made[place:]

    def test_a_broken_watch_goes_on(self, api: Api, new_issue: str) -> None:
        """Breaking off after each batch and resuming from its cursor delivers each event once, in order (P28)."""
        cursor = head(api)
        made = [create(api, new_issue, f"{URL}/{number}").id for number in range(3)]
        found: list[str] = []
        for round_ in range(4):
            with watching(api, start_cursor=cursor, subjects=[issue(new_issue)]) as stream:
                assert started(stream) == cursor
                message = next(stream)
                cursor = message.batch.cursor
                found += [one.resource_id for one in message.batch.activities]

            def more(number: int, round_: int = round_) -> str:
                return create(api, new_issue, f"{URL}/{round_}-{number}").id

            made += at_once(4, more)
        with watching(api, start_cursor=cursor, subjects=[issue(new_issue)]) as stream:
            started(stream)
            found += [one.resource_id for one in take(stream, len(made) - len(found))]
        assert sorted(found) == sorted(made)
        assert found == [one.resource_id for one in events(api, new_issue)]

    def test_a_long_way_behind(self, api: Api, new_issue: str) -> None:
        """A reader that begins far back gets everything, in several batches, in order (P28)."""
        cursor = head(api)
        for start in range(0, 250, 50):
            items = [
                attachment_pb.UpsertAttachmentRequest(
                    attachment={"subject": issue(new_issue), "url": f"{URL}/{number}"}  # type: ignore[arg-type]
                )
                for number in range(start, start + 50)
            ]
            api.attachments.BatchUpsertAttachments(
                attachment_pb.BatchUpsertAttachmentsRequest(workspace_id=WORKSPACE, requests=items)
            )
        with watching(api, start_cursor=cursor, subjects=[issue(new_issue)], include_payload=True) as stream:
            started(stream)
            found = take(stream, 250)
        assert [one.attachment.url for one in found] == [f"{URL}/{number}" for number in range(250)]

    def test_from_the_earliest_cursor(self, start_server: Callable[..., RunningServer], new_issue: str) -> None:
        """The earliest cursor delivers all that the log holds (P28)."""
        api = start_server().api()
        made = [create(api, new_issue, f"{URL}/{number}").id for number in range(3)]
        cursors = api.activity.GetActivityCursors(pb.GetActivityCursorsRequest(workspace_id=WORKSPACE))
        with watching(api, start_cursor=cursors.earliest_cursor) as stream:
            started(stream)
            assert [one.resource_id for one in take(stream, 3)] == made
        with watching(api, start_cursor=cursors.head_cursor) as stream:
            started(stream)
            last = create(api, new_issue, f"{URL}/last").id
            assert [one.resource_id for one in take(stream, 1)] == [last]

    def test_filters(self, api: Api, new_issue: str) -> None:
        """Only the subjects and types asked for are delivered."""
        since = head(api)
        others = [f"{new_issue}-{number}" for number in range(3)]
        made = [create(api, key, URL) for key in others]
        delete(api, made[1].id)
        create(api, others[1], f"{URL}/2")
        with watching(
            api,
            start_cursor=since,
            subjects=[issue(others[0]), issue(others[1])],
            types=["attachment.deleted.v1", "attachment.created.v1"],
        ) as stream:
            started(stream)
            found = take(stream, 4)
        assert [one.subject.key for one in found] == [others[0], others[1], others[1], others[1]]
        with watching(api, start_cursor=since, subjects=[issue(others[1])], types=["attachment.deleted.v1"]) as stream:
            started(stream)
            assert types(take(stream, 1)) == ["attachment.deleted"]

    def test_payloads_only_when_asked_for(self, api: Api, new_issue: str) -> None:
        """Without `include_payload` an event names its resource and shows nothing of it."""
        since = head(api)
        made = create(api, new_issue, URL, title="t")
        for wanted, title in ((False, ""), (True, "t")):
            with watching(api, start_cursor=since, subjects=[issue(new_issue)], include_payload=wanted) as stream:
                started(stream)
                (found,) = take(stream, 1)
            assert (found.resource_id, found.attachment.title) == (made.id, title)
            assert (found.WhichOneof("payload") is not None) == wanted

    def test_many_watchers(self, server: RunningServer, api: Api, new_issue: str) -> None:
        """Each of 16 watchers of several users hears everything (P28)."""
        create(api, new_issue, f"{URL}/first")
        readers = [api, second_user(server)]
        ready = threading.Barrier(17)

        def follow(number: int) -> list[str]:
            if number == 16:
                ready.wait()
                return [create(api, new_issue, f"{URL}/{n}").id for n in range(10)]
            with watching(readers[number % 2], subjects=[issue(new_issue)]) as stream:
                started(stream)
                ready.wait()
                return [one.resource_id for one in take(stream, 10)]

        heard = at_once(17, follow)
        assert all(one == heard[16] for one in heard)

    def test_a_checkpoint_when_nothing_happens(self, api: Api, new_issue: str) -> None:
        """A watch with nothing to tell says so in time, with a cursor behind what was not asked for (P28)."""
        create(api, new_issue, URL)
        with watching(api, subjects=[issue(new_issue)]) as stream:
            start = started(stream)
            create(api, f"{new_issue}-b", URL)
            message = next(stream)
        assert message.WhichOneof("message") == "checkpoint"
        assert message.checkpoint.cursor != start
        assert message.checkpoint.HasField("as_of_time")
        later = create(api, f"{new_issue}-b", f"{URL}/2")
        with watching(api, start_cursor=message.checkpoint.cursor, subjects=[issue(f"{new_issue}-b")]) as stream:
            started(stream)
            assert [one.resource_id for one in take(stream, 1)] == [later.id]

    def test_drain(self, start_server: Callable[..., RunningServer], new_issue: str) -> None:
        """SIGTERM ends a watch with Drain and OK; its cursor goes on after a restart, without loss or double (P28)."""
        server = start_server()
        api = server.api()
        with watching(api) as stream:
            started(stream)
            first = create(api, new_issue, f"{URL}/1").id
            found = [one.resource_id for one in take(stream, 1)]
            server.signal(signal.SIGTERM)
            (drain,) = _rest(stream)
            assert drain.WhichOneof("message") == "drain"
        assert server.wait() == 0
        api = server.restart().api()
        second = create(api, new_issue, f"{URL}/2").id
        with watching(api, start_cursor=drain.drain.cursor) as stream:
            started(stream)
            found += [one.resource_id for one in take(stream, 1)]
        assert found == [first, second]

    def test_cursors_that_are_refused(self, server: RunningServer, api: Api, new_issue: str) -> None:
        """Altered, of another workspace, or a page token: a cursor is good only where it came from (P30)."""
        create(api, new_issue, URL)
        create(api, new_issue, f"{URL}/2")
        cursor = head(api)
        elsewhere = second_user(server, workspace="elsewhere")
        foreign = elsewhere.activity.GetActivityCursors(pb.GetActivityCursorsRequest(workspace_id="elsewhere"))
        request = pb.ListActivitiesRequest(workspace_id=WORKSPACE, subject=issue(new_issue), page_size=1)
        token = api.activity.ListActivities(request).next_page_token
        altered = [_altered(cursor, place) for place in range(0, len(cursor), 5)]
        for wrong in (*altered, f"{cursor}A", cursor[:-1], foreign.head_cursor, token, "nonsense", "\0"):
            with (
                refused(CODE.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"),
                watching(api, start_cursor=wrong) as stream,
            ):
                next(stream)

    def test_requests_that_are_refused(self, api: Api, new_issue: str) -> None:
        """A subject that is not there, or too many of them, ends a watch before it begins."""
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"), watching(api, subjects=[issue(new_issue)]) as stream:
            next(stream)
        for options in ({"types": ["x"] * 101}, {"subjects": [issue("DEMO-1")] * 101}):
            with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen, watching(api, **options) as stream:
                next(stream)
            assert seen[0].fields == list(options)


def _altered(text: str, place: int) -> str:
    return text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]


def _rest(stream: Iterator[Message]) -> Sequence[Message]:
    return list(stream)

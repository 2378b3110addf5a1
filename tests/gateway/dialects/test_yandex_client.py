"""Yandex Tracker's real client, as it comes from PyPI: all that it offers for files, links and what happened."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image
from yandex_tracker_client import TrackerClient, exceptions
from yandex_tracker_client.collections import EntityAttachments

from remora.v1 import issue_pb2
from tests.combinations import only_disk
from tests.faulty import Faults
from tests.gateway.dialects.test_yandex import image, push
from tests.running import RunningServer


@pytest.fixture(params=["v2", "v3"])
def tracker(request: pytest.FixtureRequest, server: RunningServer) -> TrackerClient:
    """Return the real client, in the hands of a new user."""
    key = server.new_key(f"user-{uuid4()}")
    return TrackerClient(token=key, org_id="1", base_url=server.ready["http"], api_version=request.param)


def test_the_real_client(tracker: TrackerClient, server: RunningServer, new_issue: str, tmp_path: Path) -> None:
    """It attaches, lists, reads, shows and deletes the files of an issue."""
    push(server.api(), new_issue, title="Pictures")
    issue = tracker.issues[new_issue]
    assert (issue.key, issue.summary) == (new_issue, "Pictures")
    path = tmp_path / "pic.png"
    path.write_bytes(image(550, 440))
    made = issue.attachments.create(str(path))
    assert (made.name, made.mimetype, made.size) == ("pic.png", "image/png", path.stat().st_size)
    assert made.metadata == {"size": "550x440"}
    assert made.createdBy.display.startswith("user-")
    assert made.createdBy.login == made.createdBy.id == tracker.users[made.createdBy.id].uid
    renamed = issue.attachments.create(str(path), params={"filename": "other.png"})
    assert [one.name for one in issue.attachments] == ["pic.png", "other.png"]
    assert issue.attachments[renamed.id].id == renamed.id
    (tmp_path / "out").mkdir()
    made.download_to(str(tmp_path / "out"))
    assert (tmp_path / "out" / "pic.png").read_bytes() == path.read_bytes()
    assert b"".join(made.read()) == path.read_bytes()
    made.download_thumbnail_to(str(tmp_path / "out"))
    with Image.open(tmp_path / "out" / "pic.png") as small:
        assert max(small.size) == 512
    made.delete()
    renamed.delete()
    assert list(issue.attachments) == []
    with pytest.raises(exceptions.NotFound) as refused:
        issue.attachments[made.id]
    assert refused.value.error_messages == ["attachment not found; check the id and the workspace of the key."]


def test_temporary_files_of_the_real_client(
    tracker: TrackerClient, server: RunningServer, new_issue: str, tmp_path: Path
) -> None:
    """Files that are uploaded first are attached by an update of the issue, once."""
    push(server.api(), new_issue)
    path = tmp_path / "a.txt"
    path.write_bytes(uuid4().bytes)
    kept = tracker.attachments.create(str(path))
    assert b"".join(kept.read()) == path.read_bytes()
    assert tracker.attachments[kept.id].name == "a.txt"
    issue = tracker.issues[new_issue]
    issue.update(attachmentIds=[kept.id])
    (attached,) = issue.attachments
    assert (attached.id, attached.name) == (kept.id, "a.txt")
    for again in (kept.id, "1", "x"):
        with pytest.raises((exceptions.BadRequest, exceptions.NotFound)):
            issue.update(attachmentIds=[again])
    issue.update(attachments=[str(path)])
    assert len(list(issue.attachments)) == 2
    with pytest.raises(exceptions.BadRequest):
        issue.update(summary="x")


def test_changes_and_links_of_the_real_client(tracker: TrackerClient, server: RunningServer, new_issue: str) -> None:
    """It pages through the changelog, and makes and breaks links between issues."""
    api = server.api()
    push(api, new_issue, title="Parent")
    push(api, f"{new_issue}00001", title="Child")
    issue, child = tracker.issues[new_issue], tracker.issues[f"{new_issue}00001"]
    for number in range(3):
        file = io.BytesIO(uuid4().bytes)
        file.name = f"{number}.bin"
        issue.attachments.create(file)
    next(iter(issue.attachments)).delete()
    every = [(one.type, one.updatedBy.display[:5]) for one in issue.changelog.get_all(perPage=2)]
    assert every == [
        ("IssueCreated", "Demo "), *[("IssueAttachmentAdded", "user-")] * 3, ("IssueAttachmentRemoved", "user-")
    ]  # fmt: skip
    added = list(issue.changelog.get_all(type="IssueAttachmentAdded"))
    assert [one.attachments["added"][0].display for one in added] == ["0.bin", "1.bin", "2.bin"]
    assert issue.changelog[added[0].id].issue.key == new_issue
    behind = tracker._connection.get(f"/v2/issues/{new_issue}/changelog", params={"id": added[2].id})
    assert [one.type for one in behind] == ["IssueAttachmentRemoved"]
    assert len(list(issue.changelog.get_all(field="attachments"))) == 4
    assert list(issue.changelog.get_all(field="nothing")) == []
    made = issue.links.create("is parent task for", child)
    assert (made.direction, made.type.id, made.object.key) == ("outward", "subtask", child.key)
    assert [(one.direction, one.object.display) for one in issue.links] == [("outward", "Child")]
    (up,) = child.links
    assert (up.direction, up.object.key, up.id) == ("inward", new_issue, made.id)
    assert tracker.issues[child.key].parent.key == new_issue
    up.delete()
    assert list(issue.links) == list(child.links) == []
    child.links.create("is subtask for", new_issue)
    assert [one.object.key for one in issue.links] == [child.key]
    with pytest.raises(exceptions.BadRequest):
        issue.links.create("relates", child)


@pytest.fixture
def issue(tracker: TrackerClient, server: RunningServer, new_issue: str) -> Any:
    """Return an issue in the client's hands."""
    push(server.api(), new_issue, title="Pictures", status=issue_pb2.IssueStatus(id="open", name="Open"))
    return tracker.issues[new_issue]


def named(name: str, data: bytes = b"") -> io.BytesIO:
    """Return an open file with a name."""
    file = io.BytesIO(data or uuid4().bytes)
    file.name = name
    return file


def test_files_of_each_kind(issue: Any, tmp_path: Path) -> None:
    """It takes paths, open files with names and without; each name is kept, and told again."""
    made = issue.attachments.create(named("übersicht 1.txt", b"text"))
    assert (made.name, made.mimetype, made.size, made.thumbnail) == ("übersicht 1.txt", "text/plain", 4, None)
    assert issue.attachments.create(io.BytesIO(b"x")).name == "file"
    assert issue.attachments.create(named("/a/b/c.txt")).name == "c.txt"
    assert issue.attachments.create(named("a.txt"), params={"filename": "b.txt"}).name == "b.txt"
    assert [one.name for one in issue.attachments.get_all()] == ["übersicht 1.txt", "file", "c.txt", "b.txt"]
    found = issue.attachments.get(made.id)
    assert found.as_dict() == made.as_dict()
    assert (found["name"], dir(found)[0:2]) == (made.name, ["content", "createdAt"])
    found.update()  # Without anything to change it reads anew.
    assert found.createdBy.display.startswith("user-")
    found.download_to(str(tmp_path))
    assert (tmp_path / made.name).read_bytes() == b"text"
    with pytest.raises(AssertionError):
        found.download_thumbnail_to(str(tmp_path))
    found.delete()
    assert [one.name for one in issue.attachments] == ["file", "c.txt", "b.txt"]


def test_a_version_that_has_passed(issue: Any, tracker: TrackerClient, server: RunningServer) -> None:
    """An update of an issue that has changed since it was read attaches nothing, unless that is ignored."""
    assert issue.version == 1
    kept = tracker.attachments.create(named("a.txt"))
    push(server.api(), issue.key, title="Other pictures")
    with pytest.raises(exceptions.PreconditionFailed) as refused:
        issue.update(attachmentIds=[kept.id])
    assert refused.value.error_messages
    assert list(issue.attachments) == []
    issue.update(attachmentIds=[kept.id], ignore_version_change=True)
    assert (issue.version, issue.summary) == (2, "Other pictures")
    assert [one.id for one in issue.attachments] == [kept.id]
    issue.update(attachments=[named("b.txt"), named("c.txt")])
    assert [one.name for one in issue.attachments] == ["a.txt", "b.txt", "c.txt"]


def test_the_changelog_by_its_end_and_by_its_fields(issue: Any) -> None:
    """`sort`, `type` and `field` choose what is listed, page by page."""
    for name in ("1", "2", "3"):
        issue.attachments.create(named(name))
    names = [one.attachments["added"][0].display for one in issue.changelog.get_all(type="IssueAttachmentAdded")]
    assert names == ["1", "2", "3"]
    backwards = issue.changelog.get_all(sort="desc", perPage=1, field=["attachments", "nothing"])
    assert [one.attachments["added"][0].display for one in backwards] == ["3", "2", "1"]
    assert len(list(issue.changelog.get_all(type=["IssueCreated", "IssueAttachmentAdded"]))) == 4
    (newest, *_) = issue.changelog.get_all(sort="desc")
    found = issue.changelog.get(newest.id)
    assert (found.id, found.type, found.fields) == (newest.id, "IssueAttachmentAdded", [])
    with pytest.raises(exceptions.BadRequest):
        issue.changelog.get_all(sort="upwards")


def test_one_link(issue: Any, tracker: TrackerClient, server: RunningServer) -> None:
    """A link is got from either end and from nowhere else, read anew, and deleted; `add_link` makes one, too."""
    push(server.api(), f"{issue.key}1", title="Child")
    push(server.api(), f"{issue.key}2", title="Neither")
    child = tracker.issues[f"{issue.key}1"]
    made = issue.add_link("is parent task for", child)
    down, up = issue.links[made.id], child.links.get(made.id)
    assert (down.direction, down.object.key, up.direction, up.object.key) == (
        "outward", child.key, "inward", issue.key
    )  # fmt: skip
    neither = f"/v2/issues/{issue.key}2/links/{made.id}"
    for call in (tracker._connection.get, tracker._connection.delete):
        with pytest.raises(exceptions.NotFound):
            call(path=neither)
    down.update()
    assert down.type.id == "subtask"
    down.delete()
    for gone in (issue, child):
        with pytest.raises(exceptions.NotFound):
            gone.links[made.id]


NOWHERE = exceptions.NotFound, "there is nothing at this path."
NOT_SO = exceptions.TrackerServerError, "use one of"
REFUSED: dict[str, tuple[Callable[[Any, Any], object], tuple[type[Exception], str]]] = {
    # Issues and comments are kept elsewhere, and so is what is attached as they are made.
    "creating an issue": (lambda tracker, _: tracker.issues.create(queue="X", attachments=[named("a")]), NOWHERE),
    "a sub-issue": (lambda _, issue: issue.create_subtask(inherit=False, queue="X", summary="x"), NOWHERE),
    "importing an issue": (lambda tracker, _: tracker.issues.import_object(key="X-1"), NOT_SO),
    "comments": (lambda _, issue: list(issue.comments), NOWHERE),
    "a comment": (lambda _, issue: issue.comments.create(text="x", attachments=[named("a")]), NOWHERE),
    "changing a file": (lambda _, issue: held(issue).update(name="x"), NOT_SO),
    "doing things to a file": (lambda _, issue: held(issue).perform_action("x", "post"), NOT_SO),
    # Who attached what, and when, is seen here, and not told.
    "importing a file": (lambda _, issue: issue.attachments.import_object(named("a"), params={"createdBy": 1}), NOT_SO),
    "importing a link": (lambda _, issue: issue.links.import_object("is parent task for", "X-1"), NOT_SO),
    # No document of Tracker's has these methods; `links.create` does what they did.
    "LINK": (lambda _, issue: issue.link("/v2/issues/X-1", "relates"), NOT_SO),
    "UNLINK": (lambda _, issue: issue.unlink("/v2/issues/X-1", "relates"), NOT_SO),
    # This one fails in the client itself, which gives `link` a parameter that it does not have.
    "add_remotelink": (lambda _, issue: issue.add_remotelink("relates", "https://a.test"), (TypeError, "target_url")),
    "temporary files together": (lambda tracker, _: tracker.attachments.get_all(), NOT_SO),
    "deleting a temporary file": (lambda tracker, _: tracker.attachments.create(named("a")).delete(), NOT_SO),
    # There are no projects, portfolios and goals here to attach anything to.
    "files of a project": (lambda tracker, _: tracker.project["1"], NOWHERE),
    "files of a goal": (
        lambda tracker, _: EntityAttachments(tracker._connection, entity="goal", idx="1").attach("1"), NOWHERE),
}  # fmt: skip


def held(issue: Any) -> Any:
    """Return a file on an issue."""
    return next(iter(issue.attachments))


def test_what_is_refused(tracker: TrackerClient, issue: Any) -> None:
    """What else it offers is refused at once, as what is not there, and leaves everything as it was."""
    issue.attachments.create(named("held"))
    for what, (call, (kind, words)) in REFUSED.items():
        with pytest.raises(kind) as refused:
            call(tracker, issue)
        problem: Any = refused.value
        assert words in str(problem), what
        assert getattr(problem, "status_code", 405) in {404, 405}, what
    assert [one.name for one in issue.attachments] == ["held"]
    assert len(list(issue.changelog)) == 2
    assert list(issue.links) == []


@only_disk
def test_the_real_client_and_a_store_that_is_away(
    start_server: Callable[..., RunningServer], tmp_path: Path, new_issue: str
) -> None:
    """It sends a file once, raises what it is told, and nothing is attached."""
    faults = Faults(tmp_path / "faults", tmp_path / "data0" / "blobs")
    server = start_server(**faults.environment)
    push(server.api(), new_issue)
    issue = TrackerClient(token=server.ready["key"], org_id="1", base_url=server.ready["http"]).issues[new_issue]
    path = tmp_path / "a.bin"
    path.write_bytes(uuid4().bytes * 100_000)
    with faults.failing("pwrite", "EIO"), pytest.raises(exceptions.TrackerServerError) as refused:
        issue.attachments.create(str(path))
    assert refused.value.status_code == 424
    assert refused.value.error_messages == ["storage does not answer at the moment; retry."]
    assert list(issue.attachments) == []
    assert issue.attachments.create(str(path)).size == path.stat().st_size

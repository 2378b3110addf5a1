"""Attachments: what only core can be asked. What a caller sees is asked of a real server, in tests/rpc."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from remora_server.core import ids
from remora_server.core.attachments import Draft, Upserted, UpsertMode, Wanted
from remora_server.core.conditions import Both, Comparison, Operator
from remora_server.core.errors import (
    AttachmentUrlExistsError,
    DuplicateInBatchError,
    EtagMismatchError,
    NotDeletedError,
    NotFoundError,
    RemoraError,
    UrlNotAllowedError,
    ValidationFailedError,
)
from remora_server.core.model import Attachment, Caller, ExternalRef, Outcome, ShownCreator, Subject
from remora_server.core.pages import Span
from remora_server.core.ports import AttachmentQuery
from tests.core.world import DAY, World, issue

URL = "https://e.org/1"


def draft(url: str = URL, **fields: Any) -> Draft:
    """Return an attachment as a caller writes it."""
    return Draft(**{"workspace_id": "acme", "subject": issue(), "url": url, **fields})


def create(world: World, url: str = URL, caller: Caller | None = None, **fields: Any) -> Attachment:
    """Create an attachment."""
    return world.do(world.attachments.create, caller or world.jo, draft(url, **fields))


def upsert(
    world: World, wanted: Draft, *mask: str, mode: UpsertMode | None = UpsertMode.UPSERT, etag: str = ""
) -> Upserted:
    """Upsert an attachment."""
    return world.do(world.attachments.upsert, world.jo, wanted, mask, mode, etag)


def keys(world: World, **options: Any) -> list[str]:
    """List the URLs of the issue."""
    page = world.attachments.list(world.jo, AttachmentQuery("acme", **options), issue())
    return [one.url or one.file_id for one in page.items]


def test_outcomes(world: World) -> None:
    """Created, updated, unchanged, stale: each with its events (P25, P28)."""
    outcomes = [
        upsert(world, draft(title="t", sequence_number=1)).outcome,
        upsert(world, draft(title="t2", sequence_number=1)).outcome,
        upsert(world, draft(title="t2", sequence_number=2)).outcome,
        upsert(world, draft(title="t2", sequence_number=4)).outcome,
        upsert(world, draft(title="t3", sequence_number=3)).outcome,
        upsert(world, draft(title="t3")).outcome,
    ]
    assert outcomes == [
        Outcome.CREATED,
        Outcome.STALE,
        Outcome.UPDATED,
        Outcome.UNCHANGED,
        Outcome.STALE,
        Outcome.UPDATED,
    ]
    assert world.types() == ["attachment.created", "attachment.updated", "attachment.updated"]


def test_each_field_by_itself(world: World) -> None:
    """Every changeable field can be set, named, and emptied."""
    values = {
        "title": "t", "subtitle": "s", "icon_url": "https://e.org/i", "group_key": "g", "metadata": {"a": 1},
        "external_ref": ExternalRef("x", "1"),
    }  # fmt: skip
    for name, value in values.items():
        made = upsert(world, draft(f"https://e.org/{name}")).attachment
        changed = upsert(world, draft(f"https://e.org/{name}", **{name: value}), name)
        assert (changed.outcome, getattr(changed.attachment, name)) == (Outcome.UPDATED, value)
        assert world.told()[-1].changed_fields == (name,)
        emptied = upsert(world, draft(f"https://e.org/{name}"), name).attachment
        assert getattr(emptied, name) == getattr(made, name)
        assert emptied.version == 3


def test_modes_and_etags(world: World) -> None:
    """What an upsert may not do, it refuses."""
    with pytest.raises(ValidationFailedError):
        upsert(world, draft(), mode=None)
    with pytest.raises(NotFoundError):
        upsert(world, draft(), mode=UpsertMode.UPDATE_ONLY)
    with pytest.raises(NotFoundError):
        upsert(world, draft(), etag='"1"')
    made = upsert(world, draft(), mode=UpsertMode.INSERT_ONLY).attachment
    with pytest.raises(AttachmentUrlExistsError) as refused:
        upsert(world, draft(), mode=UpsertMode.INSERT_ONLY)
    assert refused.value.metadata == {"attachment_id": made.id}
    with pytest.raises(EtagMismatchError):
        upsert(world, draft(title="t"), etag='"2"')


def test_ids_of_the_callers_own(world: World) -> None:
    """An id is used for what is new, and once; for what is there it is ignored."""
    uuid = str(uuid4())
    made = create(world, id=uuid)
    assert made.id == ids.parse(ids.ATTACHMENT, uuid, "id")
    assert upsert(world, draft(id=str(uuid4()))).attachment.id == made.id
    for wrong in (uuid, made.id, "nonsense"):
        with pytest.raises(ValidationFailedError):
            create(world, "https://e.org/2", id=wrong)


def test_batches(world: World) -> None:
    """Items without a workspace take the batch's; each is told its own refusal."""
    items = [
        Wanted(draft(workspace_id="")),
        Wanted(draft("https://E.org/1")),
        Wanted(draft("nonsense")),
        Wanted(draft("https://e.org/2", workspace_id="elsewhere")),
        Wanted(draft("https://e.org/3"), mode=None),
        Wanted(draft("https://e.org/4"), mode=UpsertMode.UPDATE_ONLY),
    ]
    results = world.do(world.attachments.upsert_many, world.jo, "acme", items, world.changes)
    assert [type(one) for one in results] == [
        Upserted, DuplicateInBatchError, UrlNotAllowedError, NotFoundError, ValidationFailedError, NotFoundError,
    ]  # fmt: skip


def test_targets(world: World) -> None:
    """Exactly one of URL and file."""
    file = world.upload(world.jo, b"1")
    for url, file_id in (("", ""), (URL, file.id)):
        with pytest.raises(ValidationFailedError):
            create(world, url, file_id=file_id)
    assert create(world, "", file_id=file.id).title == "a.txt"
    create(world)
    with pytest.raises(AttachmentUrlExistsError):
        create(world)


def test_undelete_ends_with_the_purge_time(world: World) -> None:
    """What is due to be purged can't come back, even if no sweep has come by (P25)."""
    made = create(world)
    gone = world.do(world.attachments.delete, world.jo, made.id)
    assert gone is not None
    assert gone.delete_time is not None
    assert gone.purge_time == gone.delete_time + DAY
    back = world.do(world.attachments.undelete, world.jo, made.id)
    assert back is not None
    assert back.purge_time is back.delete_time is None
    world.do(world.attachments.delete, world.jo, made.id)
    world.clock.pass_by(DAY)
    with pytest.raises(NotFoundError):
        world.do(world.attachments.undelete, world.jo, made.id)
    assert world.attachments.get(world.jo, made.id).delete_time is not None


def test_undeletes_that_are_refused(world: World) -> None:
    """What is live, missing, of another version, or whose place is taken."""
    made = create(world)
    with pytest.raises(NotDeletedError):
        world.do(world.attachments.undelete, world.jo, made.id)
    missing = ids.new_id(ids.ATTACHMENT)
    with pytest.raises(NotFoundError):
        world.do(world.attachments.undelete, world.jo, missing)
    assert world.do(world.attachments.undelete, world.jo, missing, allow_missing=True) is None
    world.do(world.attachments.delete, world.jo, made.id)
    with pytest.raises(EtagMismatchError):
        world.do(world.attachments.undelete, world.jo, made.id, '"1"')
    other = create(world)
    with pytest.raises(AttachmentUrlExistsError) as refused:
        world.do(world.attachments.undelete, world.jo, made.id)
    assert refused.value.metadata == {"attachment_id": other.id}


def test_undeleting_cards_of_files(world: World) -> None:
    """The file must be there, and its place free."""
    file = world.upload(world.jo, b"1")
    old = create(world, "", file_id=file.id)
    world.do(world.attachments.delete, world.jo, old.id)
    new = create(world, "", file_id=file.id)
    with pytest.raises(AttachmentUrlExistsError) as refused:
        world.do(world.attachments.undelete, world.jo, old.id)
    assert refused.value.metadata == {"attachment_id": new.id}
    world.do(world.deletion.delete_file, world.jo, file.id, detach=True)
    for one in (old, new):
        with pytest.raises(NotFoundError):
            world.do(world.attachments.undelete, world.jo, one.id)


def test_archiving(world: World) -> None:
    """Twice is once; what is deleted can't be archived."""
    made = create(world)
    archived = world.do(world.attachments.archive, world.kim, made.id)
    assert archived.archive_time is not None
    assert world.do(world.attachments.archive, world.jo, made.id) == archived
    assert keys(world) == []
    assert keys(world, show_archived=True) == [URL]
    shown = world.do(world.attachments.unarchive, world.jo, made.id, '"2"')
    assert world.do(world.attachments.unarchive, world.jo, made.id) == shown
    world.do(world.attachments.delete, world.jo, made.id)
    with pytest.raises(NotFoundError):
        world.do(world.attachments.archive, world.jo, made.id)


def test_deleting(world: World) -> None:
    """Once; a missing one may be allowed; versions count."""
    made = create(world)
    with pytest.raises(EtagMismatchError):
        world.do(world.attachments.delete, world.jo, made.id, '"9"')
    gone = world.do(world.attachments.delete, world.jo, made.id)
    with pytest.raises(NotFoundError):
        world.do(world.attachments.delete, world.jo, made.id)
    assert world.do(world.attachments.delete, world.jo, made.id, allow_missing=True) == gone
    assert world.do(world.attachments.delete, world.jo, ids.new_id(ids.ATTACHMENT), allow_missing=True) is None


def test_lookup_and_lists(world: World) -> None:
    """By URL over all subjects, and by subject with a count; filters have limits."""
    for number in range(3):
        create(world, subject=issue(f"ENG-{number}"))
    create(world, "https://e.org/2", subject=Subject("comment", "c1"))
    found = world.attachments.lookup(world.kim, "acme", "HTTPS://e.org:443/1")
    assert [one.subject.key for one in found.items] == ["ENG-2", "ENG-1", "ENG-0"]
    page = world.attachments.list(world.kim, AttachmentQuery("acme", order="UPDATE_TIME_DESC"), None, page_size=2)
    rest = world.attachments.list(
        world.kim, AttachmentQuery("acme", order="UPDATE_TIME_DESC"), None, page_token=page.next_page_token,
        include_total_size=True,
    )  # fmt: skip
    assert (len(page.items), len(rest.items), rest.total_size) == (2, 2, 4)
    with pytest.raises(ValidationFailedError):
        world.attachments.list(world.jo, AttachmentQuery("acme", content_types=("a/b",) * 101), None)
    with pytest.raises(UrlNotAllowedError):
        world.attachments.lookup(world.jo, "acme", "nonsense")


def test_tenants(world: World) -> None:
    """A stranger reaches nothing, and learns nothing (P43)."""
    made = create(world)
    calls: list[Callable[[str], object]] = [
        lambda one: world.attachments.get(world.stranger, one),
        lambda one: world.do(world.attachments.update, world.stranger, one, draft(), ()),
        lambda one: world.do(world.attachments.archive, world.stranger, one),
        lambda one: world.do(world.attachments.unarchive, world.stranger, one),
        lambda one: world.do(world.attachments.delete, world.stranger, one),
        lambda one: world.do(world.attachments.undelete, world.stranger, one),
    ]
    for call in calls:
        told: list[RemoraError] = []
        for wanted in (made.id, ids.new_id(ids.ATTACHMENT)):
            with pytest.raises(NotFoundError) as refused:
                call(wanted)
            told.append(refused.value)
            assert refused.value.resource == ("attachment", f"attachments/{wanted}")
        assert told[0].message == told[1].message
    assert world.attachments.get(world.jo, made.id) == made


def test_updates(world: World) -> None:
    """An update goes by id, and keeps what it does not name."""
    made = create(world, title="t", metadata={"a": 1, "b": 2})
    changed = world.do(
        world.attachments.update, world.kim, made.id, draft(subtitle="s", metadata={"a": 3}), ["subtitle", "metadata.a"]
    )
    assert changed == replace(
        made,
        subtitle="s",
        metadata={"a": 3, "b": 2},
        updater=world.kim.actor,
        update_time=changed.update_time,
        version=2,
    )
    assert world.do(world.attachments.update, world.jo, made.id, draft(title="other"), ["etag"]) == changed
    with pytest.raises(EtagMismatchError):
        world.do(world.attachments.update, world.jo, made.id, draft(title="other"), (), '"1"')
    with pytest.raises(ValidationFailedError):
        world.do(world.attachments.update, world.jo, made.id, draft(icon_url="javascript:x"), ())


def test_stripped_parameters(make_world: Callable[..., World]) -> None:
    """What the operator strips does not tell URLs apart."""
    world = make_world(stripped=["utm_source"])
    made = create(world, f"{URL}?utm_source=a")
    assert (made.url, made.normalized_url) == (f"{URL}?utm_source=a", URL)
    assert upsert(world, draft(f"{URL}?utm_source=b")).attachment.id == made.id


def titled(world: World, wanted: AttachmentQuery, span: Span) -> tuple[list[str], bool, bool]:
    """List the URLs of a window, and whether there is more on either side."""
    window = world.attachments.window(world.jo, wanted, span)
    return [one.url[-1] for one in window.items], window.has_previous, window.has_next


def test_who_is_shown_to_have_made_it(world: World) -> None:
    """Another name may be shown for the maker, once for all; it is held to what a name and a picture may be."""
    shown = ShownCreator("Release bot", "https://e.org/bot.png")
    made = upsert(world, draft(shown_creator=shown)).attachment
    assert (made.shown_creator, made.creator) == (shown, world.jo.actor)
    assert upsert(world, draft(title="t", shown_creator=ShownCreator("Other"))).attachment.shown_creator == shown
    for bad in (ShownCreator("x" * 1025), ShownCreator("x", "javascript:alert(1)")):
        with pytest.raises(ValidationFailedError, match="shown_creator"):
            upsert(world, draft(shown_creator=bad))


def test_windows(world: World) -> None:
    """A listing is read from either end, in either order, narrowed by conditions."""
    made = [create(world, f"https://e.org/{number}", title=f"t{number % 2}") for number in range(5)]
    world.do(world.attachments.update, world.jo, made[0].id, draft(title="t9"), ["title"])
    every = AttachmentQuery("acme", subject_type="issue")
    assert titled(world, every, Span(2)) == (["4", "3"], False, True)
    assert titled(world, every, Span(2, from_end=True)) == (["1", "0"], True, False)
    by_update = AttachmentQuery("acme", subject_type="issue", order="UPDATE_TIME_DESC")
    assert titled(world, by_update, Span(2)) == (["0", "4"], False, True)
    cursor = world.attachments.window(world.jo, by_update, Span(2)).cursors[-1]
    assert titled(world, by_update, Span(2, after=cursor)) == (["3", "2"], True, True)
    assert titled(world, by_update, Span(2, before=cursor, from_end=True)) == (["0"], False, True)
    narrowed = AttachmentQuery("acme", where=Comparison("title", Operator.EQUAL, "t1"))
    assert titled(world, narrowed, Span(9)) == (["3", "1"], False, False)
    with pytest.raises(ValidationFailedError):
        world.attachments.window(world.jo, AttachmentQuery("acme", where=Both((narrowed.where,) * 100)), Span(1))  # type: ignore[arg-type]
    with pytest.raises(NotFoundError):
        world.attachments.window(world.stranger, every, Span(1))


def test_windows_of_many(world: World) -> None:
    """What several subjects have is listed together, each with a window of its own."""
    first = create(world).subject
    create(world, "https://e.org/2")
    other = create(world, subject=issue("ENG-2")).subject
    none = ids.new_id(ids.ISSUE)
    found = world.attachments.windows(
        world.jo, AttachmentQuery("acme", subject_type="issue"), [first.id, other.id, none], Span(1)
    )
    told = {name: ([one.url for one in window.items], window.has_next) for name, window in found.items()}
    assert told == {first.id: (["https://e.org/2"], True), other.id: ([URL], False), none: ([], False)}


def test_the_latest_of_a_url(world: World) -> None:
    """Of several attachments of a URL the one that was changed last is meant, and one put aside only without others."""
    every = AttachmentQuery("acme", subject_type="issue")
    assert world.attachments.latest_of_url(world.jo, every, URL) is None
    first, second = create(world), create(world, subject=issue("ENG-2"))
    assert world.attachments.latest_of_url(world.jo, every, URL) == second
    changed = world.do(world.attachments.update, world.jo, first.id, draft(title="x"), ["title"])
    assert world.attachments.latest_of_url(world.jo, every, "HTTPS://E.org:443/1") == changed
    world.do(world.attachments.archive, world.jo, first.id)
    assert world.attachments.latest_of_url(world.jo, every, URL) == second
    world.do(world.attachments.delete, world.jo, second.id)
    found = world.attachments.latest_of_url(world.jo, every, URL)
    assert found is not None
    assert found.id == first.id
    assert world.attachments.latest_of_url(world.stranger, AttachmentQuery("elsewhere"), URL) is None

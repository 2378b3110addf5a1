"""Links."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from remora_server.core import ids
from remora_server.core.errors import (
    DuplicateInBatchError,
    EtagMismatchError,
    LinkUrlExistsError,
    NotFoundError,
    UrlNotAllowedError,
    ValidationFailedError,
)
from remora_server.core.links import LinkDraft
from remora_server.core.model import Link, Subject
from remora_server.core.ports import ActivityQuery
from tests.core.world import World, issue

URL = "https://e.org/1"


def create(world: World, url: str = URL, title: str = "", subject: Subject | None = None) -> tuple[Link, bool]:
    """Create a link."""
    return world.do(world.links.create, world.jo, LinkDraft("acme", subject or issue(), url, title))


def test_get_or_create(world: World) -> None:
    """The first one stays as it is (P27)."""
    first, created = create(world, title="first")
    assert created
    assert create(world, "HTTPS://E.org:443/1", "second") == (first, False)
    assert create(world, subject=issue("ENG-2"))[1]
    assert create(world, subject=Subject("comment", first.subject.id))[1]
    assert world.types() == ["link.created"] * 3


def test_a_batch(world: World) -> None:
    """A second item about the same thing is refused, unless the first was."""
    drafts = [
        LinkDraft("acme", issue(), "nonsense"),
        LinkDraft("acme", issue(), URL),
        LinkDraft("acme", issue(), "https://E.org/1"),
        LinkDraft("acme", issue("ENG-2"), URL),
    ]
    results = world.do(world.links.create_many, world.jo, "acme", drafts, world.changes)
    kinds = [type(one) for one in results]
    assert kinds == [UrlNotAllowedError, tuple, DuplicateInBatchError, tuple]
    with pytest.raises(NotFoundError):
        world.do(world.links.create_many, world.jo, "elsewhere", drafts, world.changes)


def test_updates(world: World) -> None:
    """What is named changes; nothing changes for nothing."""
    made, _ = create(world, title="t")
    draft = LinkDraft("", Subject(""), "https://e.org/2", "t2")
    same = world.do(world.links.update, world.jo, made.id, LinkDraft("", Subject(""), "", "t"), [])
    assert same == made
    assert world.do(world.links.update, world.jo, made.id, draft, ["title"]).url == URL
    moved = world.do(world.links.update, world.kim, made.id, draft, ["url"], '"2"')
    (told, *_) = world.log.list(world.jo, ActivityQuery("acme", types=("link.updated.v1",)), None).items
    summary: Any = told.payload["link"]
    assert (summary["url"], summary["before"], told.changed_fields) == (moved.url, {"url": URL}, ("url",))
    assert (moved.url, moved.title, moved.version, moved.creator) == ("https://e.org/2", "t2", 3, world.jo.actor)
    with pytest.raises(EtagMismatchError):
        world.do(world.links.update, world.jo, made.id, draft, [], '"1"')
    other, _ = create(world)
    with pytest.raises(LinkUrlExistsError) as refused:
        world.do(world.links.update, world.jo, made.id, LinkDraft("", Subject(""), URL), [])
    assert refused.value.metadata == {"link_id": other.id}
    assert world.links.get(world.jo, made.id) == moved
    with pytest.raises(ValidationFailedError):
        world.do(world.links.update, world.jo, made.id, LinkDraft("", Subject(""), "", "x" * 2000), [])


def test_deleting(world: World) -> None:
    """A link goes for good."""
    made, _ = create(world)
    with pytest.raises(EtagMismatchError):
        world.do(world.links.delete, world.jo, made.id, '"9"')
    assert world.do(world.links.delete, world.kim, made.id) == made
    with pytest.raises(NotFoundError):
        world.do(world.links.delete, world.jo, made.id)
    assert world.do(world.links.delete, world.jo, made.id, allow_missing=True) is None
    with pytest.raises(NotFoundError):
        world.links.get(world.jo, made.id)
    assert create(world)[1]


def test_lists(world: World) -> None:
    """Those of a subject, or of the workspace, newest first, in pages."""
    made = [create(world, f"https://e.org/{n}", subject=issue(f"ENG-{n % 2}"))[0] for n in range(6)]
    world.do(world.links.create, world.stranger, LinkDraft("elsewhere", issue("ENG-0"), URL))
    for subject, wanted in ((None, made[::-1]), (issue("ENG-0"), made[4::-2])):
        first = world.links.list(world.kim, "acme", subject, page_size=2)
        second = world.links.list(world.kim, "acme", subject, page_token=first.next_page_token)
        assert [*first.items, *second.items] == wanted
    with pytest.raises(NotFoundError):
        world.links.list(world.jo, "acme", issue("ENG-9"))
    with pytest.raises(NotFoundError):
        world.links.list(world.jo, "elsewhere", None)


def test_tenants(world: World) -> None:
    """Nothing of another workspace can be reached (P43)."""
    made, _ = create(world)
    for call in (world.links.get, world.links.delete):
        with pytest.raises(NotFoundError) as theirs:
            world.do(call, world.stranger, made.id)
        with pytest.raises(NotFoundError) as nobodys:
            world.do(call, world.stranger, ids.new_id(ids.LINK))
        assert theirs.value.message == nobodys.value.message


def test_stripped_parameters(make_world: Callable[..., World]) -> None:
    """What the operator strips does not tell links apart."""
    world = make_world(stripped=["utm_source"])
    first, _ = create(world, f"{URL}?utm_source=a")
    assert create(world, URL) == (first, False)

"""LinkService over a real server."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from remora.v1 import link_pb2
from remora.v1 import link_service_pb2 as pb
from tests.rpc.asking import WORKSPACE, at_once, events, reason_of, second_user, types
from tests.running import Api, RunningServer, issue, refused

URL = "https://example.com/a"
CODE = grpc.StatusCode


def link_request(key: str, url: str = URL, **fields: Any) -> pb.CreateLinkRequest:
    """Return the request that wants a link on an issue."""
    return pb.CreateLinkRequest(**{"workspace_id": WORKSPACE, "subject": issue(key), "url": url, **fields})


def create(api: Api, key: str, url: str = URL, **fields: Any) -> pb.CreateLinkResponse:
    """Create a link."""
    return api.links.CreateLink(link_request(key, url, **fields))


def get(api: Api, link_id: str) -> link_pb2.Link:
    """Read a link."""
    return api.links.GetLink(pb.GetLinkRequest(link_id=link_id)).link


def listed(api: Api, key: str, **options: Any) -> list[link_pb2.Link]:
    """Return one page of an issue's links."""
    request = pb.ListLinksRequest(workspace_id=WORKSPACE, subject=issue(key), **options)
    return list(api.links.ListLinks(request).links)


def update(api: Api, link_id: str, *mask: str, **fields: Any) -> link_pb2.Link:
    """Update a link."""
    wanted = link_pb2.Link(id=link_id, **fields)
    request = pb.UpdateLinkRequest(link=wanted, update_mask=FieldMask(paths=mask) if mask else None)
    return api.links.UpdateLink(request).link


def test_creating_a_link_twice_returns_the_first_untouched(api: Api, new_issue: str) -> None:
    """Create is get-or-create and never edits the stored link (P27, P28)."""
    first = create(api, new_issue, title="first")
    second = create(api, new_issue, "HTTPS://Example.com:443/./a", title="second")
    assert (first.created, second.created) == (True, False)
    assert second.link == first.link == get(api, first.link.id)
    assert types(events(api, new_issue)) == ["link.created"]


def test_32_at_once(api: Api, new_issue: str) -> None:
    """Of 32 concurrent equal creations one makes the link, and all get its id (P27)."""
    answers = at_once(32, lambda number: create(api, new_issue, title=f"t{number}"))
    assert sorted(one.created for one in answers) == [False] * 31 + [True]
    (stored,) = listed(api, new_issue)
    assert all(one.link == stored for one in answers)
    assert stored.title in {f"t{number}" for number, one in enumerate(answers) if one.created}
    assert types(events(api, new_issue)) == ["link.created"]


def test_a_link_that_is_not_there_is_not_found(api: Api) -> None:
    """A well-formed id that nobody has is NOT_FOUND."""
    with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
        get(api, "lnk_01m7yggyheeq5rqe7req2vftaj")


def test_a_repeated_create(api: Api, new_issue: str) -> None:
    """A lost answer comes back, `created` and all; another body under the same id is refused (P26)."""
    request_id = str(uuid.uuid4())
    first = create(api, new_issue, request_id=request_id)
    assert create(api, new_issue, request_id=request_id) == first
    assert first.created
    with refused(CODE.INVALID_ARGUMENT, "REQUEST_ID_REUSED"):
        create(api, new_issue, title="other", request_id=request_id)
    assert [one.request_id for one in events(api, new_issue)] == [request_id]


@pytest.mark.parametrize(
    ("fields", "reason", "named"),
    [
        ({"url": "ftp://e.example/"}, "URL_NOT_ALLOWED", "url"),
        ({"url": ""}, "URL_NOT_ALLOWED", "url"),
        ({"title": "x" * 1025}, "VALIDATION_FAILED", "title"),
        ({"title": "\0"}, "VALIDATION_FAILED", "title"),
        ({"subject": None}, "VALIDATION_FAILED", "subject.type"),
        ({"workspace_id": ""}, "VALIDATION_FAILED", "workspace_id"),
    ],
)
def test_limits(api: Api, new_issue: str, fields: dict[str, Any], reason: str, named: str) -> None:
    """What can't be accepted is refused by name."""
    with refused(CODE.INVALID_ARGUMENT, reason) as seen:
        create(api, new_issue, **fields)
    assert named in seen[0].fields


def test_a_batch(api: Api, new_issue: str) -> None:
    """Each item by itself, in order; a second one for the same subject and URL is refused."""
    create(api, new_issue, f"{URL}/there")
    request_id = str(uuid.uuid4())
    request = pb.BatchCreateLinksRequest(
        workspace_id=WORKSPACE,
        requests=[
            link_request(new_issue, workspace_id=""),
            link_request(new_issue, "nonsense"),
            link_request(new_issue, "HTTPS://EXAMPLE.com/a"),
            link_request(new_issue, f"{URL}/there"),
            link_request(new_issue, f"{URL}/other", workspace_id="elsewhere"),
        ],
        request_id=request_id,
    )
    answer = api.links.BatchCreateLinks(request)
    shown = [reason_of(one.error) if one.HasField("error") else one.created for one in answer.results]
    assert shown == [True, "URL_NOT_ALLOWED", "DUPLICATE_IN_BATCH", False, "RESOURCE_NOT_FOUND"]
    assert api.links.BatchCreateLinks(request) == answer
    assert {one.url for one in listed(api, new_issue)} == {URL, f"{URL}/there"}
    assert types(events(api, new_issue)) == ["link.created"] * 2


def test_forms_of_a_batch_that_are_refused(api: Api, new_issue: str) -> None:
    """An empty batch, one of 101 items, and a request_id inside one are mistakes of the whole call."""
    one = link_request(new_issue)
    for requests in ([], [one] * 101, [link_request(new_issue, request_id=str(uuid.uuid4()))]):
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            api.links.BatchCreateLinks(pb.BatchCreateLinksRequest(workspace_id=WORKSPACE, requests=requests))


def test_updating(api: Api, new_issue: str) -> None:
    """Title and URL can be changed, by mask or by what is set; an equal update writes nothing (P28)."""
    made = create(api, new_issue, title="t").link
    renamed = update(api, made.id, title="t2")
    assert (renamed.url, renamed.title) == (URL, "t2")
    assert renamed.etag != made.etag
    assert update(api, made.id, title="t2") == renamed
    moved = update(api, made.id, "*", url="HTTPS://example.com/b", etag=renamed.etag)
    assert (moved.url, moved.normalized_url, moved.title) == ("HTTPS://example.com/b", "https://example.com/b", "")
    assert update(api, made.id, "etag", title="ignored") == moved
    found = events(api, new_issue)
    assert types(found) == ["link.created", "link.updated", "link.updated"]
    assert [list(one.changed_fields) for one in found] == [[], ["title"], ["url", "title"]]
    assert create(api, new_issue, "https://example.com/b").link.id == made.id


def test_updates_that_are_refused(api: Api, new_issue: str) -> None:
    """Another's URL, an old etag, an unknown path, a bad URL: nothing changes (P27)."""
    made, other = create(api, new_issue).link, create(api, new_issue, f"{URL}/b").link
    with refused(CODE.ALREADY_EXISTS, "LINK_URL_EXISTS") as seen:
        update(api, made.id, url=f"{URL}/b")
    assert seen[0].info.metadata["link_id"] == other.id
    with refused(CODE.ABORTED, "ETAG_MISMATCH"):
        update(api, made.id, title="t", etag='"9"')
    with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED"):
        update(api, made.id, "subtitle", title="t")
    with refused(CODE.INVALID_ARGUMENT, "URL_NOT_ALLOWED"):
        update(api, made.id, "url")
    with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
        update(api, "lnk_01m7yggyheeq5rqe7req2vftaj", title="t")
    assert listed(api, new_issue) == [other, made]


def test_deleting(api: Api, new_issue: str) -> None:
    """A deleted link is gone for good, and its URL is free."""
    made = create(api, new_issue).link
    with refused(CODE.ABORTED, "ETAG_MISMATCH"):
        api.links.DeleteLink(pb.DeleteLinkRequest(link_id=made.id, etag='"9"'))
    request = pb.DeleteLinkRequest(link_id=made.id)
    assert api.links.DeleteLink(request).link == made
    with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
        api.links.DeleteLink(request)
    request.allow_missing = True
    assert not api.links.DeleteLink(request).HasField("link")
    with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
        get(api, made.id)
    assert create(api, new_issue).created
    assert types(events(api, new_issue)) == ["link.created", "link.deleted", "link.created"]


def test_listing(api: Api, new_issue: str) -> None:
    """The newest link comes first, page by page; other subjects' links don't show."""
    made = [create(api, new_issue, f"{URL}/{n}").link for n in range(5)]
    create(api, f"{new_issue}-b")
    assert listed(api, new_issue) == made[::-1]
    request = pb.ListLinksRequest(workspace_id=WORKSPACE, subject=issue(new_issue), page_size=3)
    first = api.links.ListLinks(request)
    request.page_token = first.next_page_token
    second = api.links.ListLinks(request)
    assert [*first.links, *second.links] == made[::-1]
    assert not second.next_page_token
    with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
        listed(api, new_issue, page_size=-1)
    assert seen[0].fields == ["page_size"]


def test_listing_the_whole_workspace(server: RunningServer, new_issue: str) -> None:
    """Without a subject every link of the workspace is listed, newest first."""
    workspace = f"links-{new_issue.lower()}"
    api = second_user(server, workspace=workspace)
    made = [create(api, f"{new_issue}-{n}", workspace_id=workspace).link for n in range(3)]
    request = pb.ListLinksRequest(workspace_id=workspace, page_size=2)
    first = api.links.ListLinks(request)
    request.page_token = first.next_page_token
    assert [*first.links, *api.links.ListLinks(request).links] == made[::-1]


def test_links_of_others(server: RunningServer, api: Api, new_issue: str) -> None:
    """Every holder of the write scope may change a link, whoever made it (contract 4.1)."""
    made = create(api, new_issue).link
    other = second_user(server)
    changed = update(other, made.id, title="t")
    assert (changed.creator, changed.title) == (made.creator, "t")
    assert [one.actor.id == made.creator.id for one in events(api, new_issue)] == [True, False]
    assert other.links.DeleteLink(pb.DeleteLinkRequest(link_id=made.id)).link == changed

"""Paging over a real server, while others insert and delete."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from remora.v1 import activity_service_pb2 as activity_pb
from remora.v1 import attachment_service_pb2 as pb
from remora.v1 import file_pb2, issue_pb2
from remora.v1 import file_service_pb2 as file_pb
from remora.v1 import issue_service_pb2 as issue_pb
from remora.v1 import link_service_pb2 as link_pb
from remora.v1 import upload_ticket_service_pb2 as ticket_pb
from tests.rpc.asking import WORKSPACE, create, delete, listed, second_user, upload
from tests.running import Api, RunningServer, issue, refused

CODE = grpc.StatusCode
STABLE = 17
_numbers = itertools.count(1)


def _url() -> str:
    return f"https://example.com/{next(_numbers)}"


@dataclass(frozen=True)
class Listing:
    """How to fill, empty and walk one of the lists; `key` is an issue, and the name of a workspace of its own."""

    make: Callable[[Api, str], str]
    drop: Callable[[Api, str], object]
    page: Callable[[Api, str, int, str], Any]
    ids: Callable[[Any], Sequence[str]]


def _attachments(order: pb.AttachmentOrder.ValueType) -> Listing:
    return Listing(
        make=lambda api, key: create(api, key, _url()).id,
        drop=delete,
        page=lambda api, key, size, token: api.attachments.ListAttachments(
            pb.ListAttachmentsRequest(
                workspace_id=WORKSPACE, subject=issue(key), page_size=size, page_token=token, order=order
            )
        ),
        ids=lambda page: [one.id for one in page.attachments],
    )


def _link(api: Api, key: str) -> str:
    request = link_pb.CreateLinkRequest(workspace_id=WORKSPACE, subject=issue(key), url=_url())
    return api.links.CreateLink(request).link.id


def _issue(api: Api, key: str) -> str:
    wanted = issue_pb2.Issue(workspace_id=key, key=f"P-{next(_numbers)}")
    return api.issues.UpsertIssue(issue_pb.UpsertIssueRequest(issue=wanted)).issue.id


def _ticket(api: Api, key: str) -> str:
    request = ticket_pb.CreateUploadTicketRequest(workspace_id=key, spec=file_pb2.FileSpec(name="a"))
    return api.tickets.CreateUploadTicket(request).upload_ticket.id


def _event(api: Api, key: str) -> str:
    made = create(api, key, _url()).id
    (event,) = api.activity.ListActivities(
        activity_pb.ListActivitiesRequest(workspace_id=WORKSPACE, subject=issue(key), page_size=1)
    ).activities
    assert event.resource_id == made
    return event.id


LISTINGS = {
    "newest attachments": _attachments(pb.ATTACHMENT_ORDER_CREATE_TIME_DESC),
    "oldest attachments": _attachments(pb.ATTACHMENT_ORDER_CREATE_TIME_ASC),
    "changed attachments": _attachments(pb.ATTACHMENT_ORDER_UPDATE_TIME_DESC),
    "links": Listing(
        make=_link,
        drop=lambda api, one: api.links.DeleteLink(link_pb.DeleteLinkRequest(link_id=one)),
        page=lambda api, key, size, token: api.links.ListLinks(
            link_pb.ListLinksRequest(workspace_id=WORKSPACE, subject=issue(key), page_size=size, page_token=token)
        ),
        ids=lambda page: [one.id for one in page.links],
    ),
    "files": Listing(
        make=lambda api, key: upload(api, key=key).id,
        drop=lambda api, one: api.files.DeleteFile(file_pb.DeleteFileRequest(file_id=one, detach=True)),
        page=lambda api, key, size, token: api.files.ListFiles(
            file_pb.ListFilesRequest(workspace_id=WORKSPACE, subject=issue(key), page_size=size, page_token=token)
        ),
        ids=lambda page: [one.id for one in page.files],
    ),
    "activities": Listing(
        make=_event,
        drop=lambda _, __: None,  # The log only grows.
        page=lambda api, key, size, token: api.activity.ListActivities(
            activity_pb.ListActivitiesRequest(
                workspace_id=WORKSPACE, subject=issue(key), page_size=size, page_token=token
            )
        ),
        ids=lambda page: [one.id for one in page.activities],
    ),
    "issues": Listing(
        make=_issue,
        drop=lambda api, one: api.issues.DeleteIssue(issue_pb.DeleteIssueRequest(issue_id=one)),
        page=lambda api, key, size, token: api.issues.ListIssues(
            issue_pb.ListIssuesRequest(workspace_id=key, page_size=size, page_token=token)
        ),
        ids=lambda page: [one.id for one in page.issues],
    ),
    "tickets": Listing(
        make=_ticket,
        drop=lambda api, one: api.tickets.CancelUploadTicket(ticket_pb.CancelUploadTicketRequest(upload_ticket_id=one)),
        page=lambda api, key, size, token: api.tickets.ListUploadTickets(
            ticket_pb.ListUploadTicketsRequest(workspace_id=key, page_size=size, page_token=token)
        ),
        ids=lambda page: [one.id for one in page.upload_tickets],
    ),
}


class Unrest:
    """Somebody who inserts and deletes all the time; a walker waits for some of it between two pages."""

    def __init__(self, listing: Listing, api: Api, key: str, victims: list[str]) -> None:
        self._listing, self._api, self._key = listing, api, key
        self._victims = victims
        self._done = threading.Condition()
        self._steps = 0
        self._stopping = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Insert and delete meanwhile."""
        self._thread.start()
        try:
            yield
        finally:
            self._stopping = True
            self._thread.join()
        assert self._failure is None

    def wait_for_more(self) -> None:
        """Return after another insertion and another deletion."""
        with self._done:
            wanted = self._steps + 2
            assert self._done.wait_for(lambda: self._steps >= wanted or self._failure is not None, 60)

    def _work(self) -> None:
        try:
            while not self._stopping:
                self._victims.append(self._listing.make(self._api, self._key))
                if len(self._victims) > 3:
                    # By turns an old one and a young one, before and behind the walker.
                    self._listing.drop(self._api, self._victims.pop(0 if self._steps % 2 else -2))
                with self._done:
                    self._steps += 1
                    self._done.notify_all()
        except BaseException as problem:  # noqa: BLE001 - told by the walker's thread
            with self._done:
                self._failure = problem
                self._done.notify_all()


def prepared(server: RunningServer, api: Api, name: str, new_issue: str) -> tuple[Listing, Api, str]:
    """Return a listing, and where it can be filled with nobody else about."""
    listing = LISTINGS[name]
    if name in {"issues", "tickets"}:
        workspace = f"paging-{new_issue.lower()}"
        return listing, second_user(server, workspace=workspace), workspace
    return listing, api, new_issue


@pytest.mark.parametrize("name", LISTINGS)
def test_walking_while_others_insert_and_delete(server: RunningServer, api: Api, new_issue: str, name: str) -> None:
    """All pages together show every item that existed throughout exactly once (P30)."""
    listing, api, key = prepared(server, api, name, new_issue)
    stable, victims = [], []
    for number in range(STABLE):
        stable.append(listing.make(api, key))
        if number % 2:
            victims.append(listing.make(api, key))
    unrest = Unrest(listing, api, key, victims)
    seen: list[str] = []
    with unrest.going_on():
        token = ""
        while True:
            page = listing.page(api, key, 3, token)
            found = listing.ids(page)
            assert len(found) <= 3
            seen += found
            token = page.next_page_token
            if not token or len(seen) > 40 * STABLE:
                break
            unrest.wait_for_more()
    assert len(seen) == len(set(seen))
    assert [one for one in seen if one in set(stable)] in (stable, stable[::-1])


@pytest.mark.parametrize("name", LISTINGS)
def test_page_sizes(server: RunningServer, api: Api, new_issue: str, name: str) -> None:
    """A page may be as large as asked for, and may differ from the one before; the last has no token (P30)."""
    listing, api, key = prepared(server, api, name, new_issue)
    made = [listing.make(api, key) for _ in range(6)]
    first = listing.page(api, key, 2, "")
    second = listing.page(api, key, 3, first.next_page_token)
    third = listing.page(api, key, 100_000, second.next_page_token)
    found = [*listing.ids(first), *listing.ids(second), *listing.ids(third)]
    assert found in (made, made[::-1])
    assert not third.next_page_token
    assert listing.ids(listing.page(api, key, 6, "")) == listing.ids(listing.page(api, key, 0, "")) == found
    assert not listing.page(api, key, 6, "").next_page_token
    with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
        listing.page(api, key, -1, "")
    assert seen[0].fields == ["page_size"]


@pytest.mark.parametrize("name", LISTINGS)
def test_altered_tokens(server: RunningServer, api: Api, new_issue: str, name: str) -> None:
    """A token with any one character changed, cut or added is refused (P30)."""
    listing, api, key = prepared(server, api, name, new_issue)
    for _ in range(3):
        listing.make(api, key)
    token = listing.page(api, key, 1, "").next_page_token
    changed = [token[:n] + ("A" if token[n] != "A" else "B") + token[n + 1 :] for n in range(0, len(token), 7)]
    for wrong in (*changed, token[:-1] + ("x" if token[-1] != "x" else "y"), token[:-1], f"{token}A", "A", "ä", "\0"):
        with refused(CODE.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"):
            listing.page(api, key, 1, wrong)
    assert listing.ids(listing.page(api, key, 1, token))


def test_tokens_of_something_else(server: RunningServer, api: Api, new_issue: str) -> None:
    """A token fits only the call, filters, order and workspace that it was made for (P30)."""
    for number in range(3):
        for key in (new_issue, f"{new_issue}-b"):
            create(api, key, f"https://example.com/{number}")
            _link(api, key)
    mine = pb.ListAttachmentsRequest(workspace_id=WORKSPACE, subject=issue(new_issue), page_size=1)
    token = api.attachments.ListAttachments(mine).next_page_token
    for change in (
        {"subject": issue(f"{new_issue}-b")},
        {"kinds": [1]},
        {"show_deleted": True},
        {"order": pb.ATTACHMENT_ORDER_CREATE_TIME_ASC},
    ):
        fields: dict[str, Any] = {"subject": issue(new_issue), **change}
        request = pb.ListAttachmentsRequest(workspace_id=WORKSPACE, page_token=token, **fields)
        with refused(CODE.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"):
            api.attachments.ListAttachments(request)
    with refused(CODE.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"):
        api.attachments.ListAttachments(pb.ListAttachmentsRequest(workspace_id=WORKSPACE, page_token=token))
    for name in ("links", "activities", "files"):
        with refused(CODE.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"):
            LISTINGS[name].page(api, new_issue, 1, token)
    lookup = pb.LookupAttachmentsRequest(workspace_id=WORKSPACE, url="https://example.com/0", page_token=token)
    with refused(CODE.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"):
        api.attachments.LookupAttachments(lookup)
    elsewhere = second_user(server, workspace="elsewhere")
    whole = pb.ListAttachmentsRequest(workspace_id=WORKSPACE, page_size=1)
    foreign = api.attachments.ListAttachments(whole).next_page_token
    with refused(CODE.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"):
        elsewhere.attachments.ListAttachments(
            pb.ListAttachmentsRequest(workspace_id="elsewhere", page_size=1, page_token=foreign)
        )


def test_a_token_carries_no_rights(server: RunningServer, api: Api, new_issue: str) -> None:
    """Another user's list of files goes on with another token: what one may read is part of it (P30, P43)."""
    for _ in range(3):
        upload(api, key=new_issue)
    request = file_pb.ListFilesRequest(workspace_id=WORKSPACE, subject=issue(new_issue), page_size=1)
    request.page_token = api.files.ListFiles(request).next_page_token
    with refused(CODE.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"):
        second_user(server).files.ListFiles(request)
    with refused(CODE.UNAUTHENTICATED, "TOKEN_MISSING"):
        server.api("").files.ListFiles(request)


def test_tokens_survive_a_restart(start_server: Callable[..., RunningServer], new_issue: str) -> None:
    """A walk goes on after the server was killed and started again (P30)."""
    server = start_server()
    made = [create(server.api(), new_issue, _url()).id for _ in range(4)]
    listing = LISTINGS["newest attachments"]
    first = listing.page(server.api(), new_issue, 2, "")
    server.kill()
    second = listing.page(server.restart().api(), new_issue, 2, first.next_page_token)
    assert [*listing.ids(first), *listing.ids(second)] == made[::-1]
    assert len(listed(server.api(), new_issue)) == 4

"""What requests of Yandex Tracker's clients name: issues by key or number, files, other issues, pages."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from remora_server.core import errors, ids
from remora_server.core.errors import RemoraError, invalid
from remora_server.core.model import Attachment, File, Issue, Page
from remora_server.core.temporary import UNATTACHED
from remora_server.gateway.route import Visit
from remora_server.gateway.tracker_shapes import CHANGES

Item = TypeVar("Item")
LIST_SIZE, CHANGES_SIZE = 1000, 50
ID_DIGITS = 30  # An id has more digits than that, and a key fewer.
ORDERS = ("asc", "desc")
IS_PARENT, IS_SUBTASK = "is parent task for", "is subtask for"


def is_id(text: str) -> bool:
    """Tell whether an issue is named by its number."""
    return len(text) > ID_DIGITS and text.isascii() and text.isdigit()


def id_of(prefix: str, text: str, noun: str) -> str:
    """Return the id of a path; what is no id is not there."""
    try:
        return ids.from_decimal(prefix, text, noun)
    except errors.ValidationFailedError as problem:
        raise errors.NotFoundError(noun, f"{noun}s/{text}") from problem


async def issue_of(visit: Visit, named: str = "") -> Issue:
    """Return an issue by id or key, that of the path unless another is named."""
    given, workspace_id = named or visit.path["issue"], visit.caller.workspace_id
    if is_id(given):
        issue_id = id_of(ids.ISSUE, given, "issue")
        return await visit.calls.read(visit.core.issues.get, visit.caller, workspace_id, issue_id=issue_id)
    return await visit.calls.read(visit.core.issues.get, visit.caller, workspace_id, key=given)


async def find_attachment(visit: Visit) -> tuple[Attachment, Issue]:
    """Return the live file attachment of the path, if it is on the issue of the path."""
    issue = await issue_of(visit)
    attachment_id = id_of(ids.ATTACHMENT, visit.path["attachment"], "attachment")
    found = await visit.calls.read(visit.core.attachments.get, visit.caller, attachment_id)
    if found.delete_time is not None or found.file is None or found.subject.id != issue.id:
        raise errors.NotFoundError("attachment", f"attachments/{attachment_id}")
    return found, issue


async def find_temporary(visit: Visit) -> File:
    """Return the temporary file of the path."""
    file_id = id_of(ids.FILE, visit.path["file"], "file")
    return await visit.calls.read(visit.core.temporary.get, visit.caller, file_id)


def not_temporary(problem: errors.NotFoundError) -> RemoraError:
    """Return what to tell whoever named something to attach that can't be found."""
    if problem.resource is None or problem.resource[0] != UNATTACHED:
        return problem
    return invalid(
        "attachmentIds", "names no temporary file of yours: each can be attached once, within a day; upload again"
    )


def temporary_ids(given: dict[str, Any]) -> list[str]:
    """Return the temporary files of a body that changes an issue, in which nothing else may be."""
    file_ids = given.pop("attachmentIds", [])
    if given:
        raise invalid("body", "may have attachmentIds only; an issue is changed where it is kept")
    if not isinstance(file_ids, list):
        raise invalid("attachmentIds", "must be a list")
    return [ids.from_decimal(ids.FILE, str(one), "attachmentIds") for one in file_ids]


def relation(given: dict[str, Any]) -> tuple[str, str]:
    """Return the relationship that a body makes, and the key or id of the other issue."""
    relationship, other = given.get("relationship"), given.get("issue")
    if isinstance(other, dict):
        other = other.get("key") or other.get("id")
    if relationship not in (IS_PARENT, IS_SUBTASK):
        raise invalid("relationship", f"must be {IS_PARENT!r} or {IS_SUBTASK!r}: no other is known here")
    if not isinstance(other, str) or not other or not other.isprintable():
        raise invalid("issue", "is required, as the key or id of an issue")
    return relationship, other


async def find_linked(visit: Visit, issue: Issue) -> tuple[Issue, Issue]:
    """Return the sub-issue whose link to an issue the path names, and which of the two is at the other end."""
    link_id = id_of(ids.ISSUE, visit.path["link"], "link")
    get, workspace_id = visit.core.issues.get, visit.caller.workspace_id
    child = await visit.calls.read(get, visit.caller, workspace_id, issue_id=link_id)
    if child.parent_issue_id == issue.id:
        return child, child
    parent = await parent_of(visit, child) if child.id == issue.id else None
    if parent is None:
        raise errors.NotFoundError("link", f"links/{visit.path['link']}")
    return child, parent


async def parent_of(visit: Visit, issue: Issue) -> Issue | None:
    """Return the issue that an issue is a sub-issue of, if any."""
    if not issue.parent_issue_id:
        return None
    get, workspace_id = visit.core.issues.get, visit.caller.workspace_id
    with contextlib.suppress(errors.NotFoundError):  # It may have been deleted since.
        return await visit.calls.read(get, visit.caller, workspace_id, issue_id=issue.parent_issue_id)
    return None


async def every(visit: Visit, listing: Callable[..., Page[Item]], *asked: object) -> list[Item]:
    """Return the items of all pages of a listing."""
    found: list[Item] = []
    token = ""
    while True:
        page = await visit.calls.read(listing, visit.caller, *asked, page_size=LIST_SIZE, page_token=token)
        found += page.items
        token = page.next_page_token
        if not token:
            return found


def is_newest_first(visit: Visit) -> bool:
    """Tell whether the changelog is asked for from its end."""
    order = visit.asked("sort", ORDERS[0]).lower()
    if order not in ORDERS:
        raise invalid("sort", f"must be {ORDERS[0]!r} or {ORDERS[1]!r}")
    return order == ORDERS[1]


def types_of(visit: Visit) -> Sequence[str]:
    """Return which activities are asked for, by the names of this system."""
    types, fields = visit.asked_all("type"), visit.asked_all("field")
    return tuple(
        name
        for name, (type_, field) in CHANGES.items()
        if (not types or type_ in types) and (not fields or field in fields)
    )


def query_behind(visit: Visit, after: str) -> str:
    """Return the query of this request, going on behind another entry."""
    kept = [(name, value) for name, value in visit.query if name != "id"]
    return urlencode([*kept, ("id", after)] if after else kept)

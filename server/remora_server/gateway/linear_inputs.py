"""What Linear's clients write and ask for, as core has it: drafts, masks, metadata, queries."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from graphql import GraphQLError

from remora_server.core import ids
from remora_server.core.attachments import Draft
from remora_server.core.errors import invalid
from remora_server.core.model import Metadata, ShownCreator, Subject
from remora_server.core.ports import AttachmentQuery, IssueQuery
from remora_server.core.values import replace
from remora_server.gateway.assets import asset_of
from remora_server.gateway.json_values import RULE, is_writable
from remora_server.gateway.linear_filters import Filters
from remora_server.gateway.linear_objects import RICH
from remora_server.gateway.route import Visit

ORDERS = {None: "CREATE_TIME_DESC", "createdAt": "CREATE_TIME_DESC", "updatedAt": "UPDATE_TIME_DESC"}
WRITTEN = {
    "title": "title",
    "subtitle": "subtitle",
    "metadata": "metadata",
    "iconUrl": "icon_url",
    "groupBySource": "group_key",
}
NO_CHANGE = ("url",)  # A mask of what can't be changed.
TITLE_CHARS, GROUP_CHARS = 1024, 255
INT64 = 2**63


def json_value(value: object) -> object:
    """Read a JSON."""
    if not is_writable(value):
        raise GraphQLError(f"JSON {RULE}.")
    return value


def json_object(value: object) -> dict[str, Any]:
    """Read a JSONObject."""
    if not isinstance(value, dict):
        raise GraphQLError("JSONObject must be an object.")
    if not is_writable(value):
        raise GraphQLError(f"JSONObject {RULE}.")
    return value


def is_id(text: str, prefix: str) -> bool:
    """Tell whether a text is an id, as a UUID or with its prefix."""
    with contextlib.suppress(ValueError):
        return text.startswith(f"{prefix}_") or bool(UUID(text))
    return False


def subject_of(text: str) -> Subject:
    """Return an issue by what names it: an id, or an identifier."""
    return Subject("issue", id=text) if is_id(text, ids.ISSUE) else Subject("issue", key=text)


def on_issues(visit: Visit) -> AttachmentQuery:
    """Return what is asked of attachments here: they are on issues."""
    return AttachmentQuery(visit.caller.workspace_id, subject_type="issue")


def attachment_query(visit: Visit, asked: Mapping[str, Any]) -> AttachmentQuery:
    """Return which attachments are asked for, and in which order."""
    filters = Filters(ids.ATTACHMENT, visit.caller.principal_id, visit.core.clock.now())
    return replace(
        on_issues(visit),
        show_archived=bool(asked.get("includeArchived")),
        order=ORDERS[asked.get("orderBy")],
        where=filters.read(asked.get("filter")),
    )


def of_url(visit: Visit, query: AttachmentQuery, url: str) -> AttachmentQuery:
    """Narrow a listing to a URL, or to the file that one of our own stands for."""
    if asset := asset_of(url, visit.core.public_url):
        return of_asset(query, asset)
    return visit.core.attachments.url_query(query, url)


def of_asset(query: AttachmentQuery, asset: str) -> AttachmentQuery:
    """Narrow a listing to a file."""
    return replace(query, file_id=ids.parse(ids.FILE, asset, "url"))


def children_query(visit: Visit, asked: Mapping[str, Any]) -> IssueQuery:
    """Return which sub-issues are asked for, and in which order."""
    filters = Filters(ids.ISSUE, visit.caller.principal_id, visit.core.clock.now())
    where, order = filters.read(asked.get("filter")), ORDERS[asked.get("orderBy")]
    return IssueQuery(visit.caller.workspace_id, include_completed=True, order=order, where=where)


def draft_of(visit: Visit, given: Mapping[str, Any], subject: Subject, url: str = "", id_: str | None = None) -> Draft:
    """Return an attachment as it is written."""
    return Draft(
        visit.caller.workspace_id,
        subject,
        url=url,
        title=given["title"],
        subtitle=given.get("subtitle") or "",
        icon_url=given.get("iconUrl") or "",
        group_key=_group(url) if given.get("groupBySource") else "",
        metadata=_metadata(given.get("metadata") or {}),
        id=id_ or "",
        shown_creator=ShownCreator(given.get("createAsUser") or "", given.get("displayIconUrl") or ""),
    )


def mask_of(given: Mapping[str, Any]) -> Sequence[str]:
    """Return which fields are written: null clears one, absence leaves it."""
    return [ours for theirs, ours in WRITTEN.items() if theirs in given]


def _metadata(given: Mapping[str, Any]) -> Metadata:
    kept: dict[str, str | int | float] = {}
    for name, value in given.items():
        field = f"metadata.{name[:100]}"
        if name in RICH and isinstance(value, (list, dict)):
            kept[name] = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        elif isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise invalid(field, "must be a text or a number")
        elif isinstance(value, int) and not -INT64 <= value < INT64:
            raise invalid(field, "is a whole number of more than 64 bits; send it as a text")
        else:
            kept[name] = value
    return kept


def _group(url: str) -> str:
    """Return what attachments of one tool have in common."""
    with contextlib.suppress(ValueError):
        return (urlsplit(url).hostname or "")[:GROUP_CHARS]
    return ""

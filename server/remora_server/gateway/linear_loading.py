"""What the resolvers of one request of a Linear client share: issues, their attachments and parts, loaded together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from graphql import GraphQLResolveInfo

from remora_server.core.model import Attachment, Issue
from remora_server.core.pages import Span, Window
from remora_server.core.ports import AttachmentQuery, IssueQuery
from remora_server.gateway.loading import Loader
from remora_server.gateway.route import Calls, Visit

Item = TypeVar("Item")
Query = TypeVar("Query", AttachmentQuery, IssueQuery)


@dataclass(frozen=True, slots=True)
class LinearVisit:
    """One request, with what its resolvers load together."""

    visit: Visit
    issues: Loader[str, Issue]
    attachments: Loader[tuple[AttachmentQuery, Span, str], Window[Attachment]]
    children: Loader[tuple[IssueQuery, Span, str], Window[Issue]]


def begin(visit: Visit) -> LinearVisit:
    """Return what the resolvers of a request share."""
    core, calls, caller = visit.core, visit.calls, visit.caller

    async def issues(wanted: Sequence[str]) -> Mapping[str, Issue]:
        return await calls.read(core.issues.get_many, caller, wanted)

    async def attachments(
        wanted: Sequence[tuple[AttachmentQuery, Span, str]],
    ) -> Mapping[tuple[AttachmentQuery, Span, str], Window[Attachment]]:
        return await _by_listing(calls, partial(core.attachments.windows, caller), wanted)

    async def children(
        wanted: Sequence[tuple[IssueQuery, Span, str]],
    ) -> Mapping[tuple[IssueQuery, Span, str], Window[Issue]]:
        return await _by_listing(calls, partial(core.issues.children, caller), wanted)

    return LinearVisit(visit, Loader(issues), Loader(attachments), Loader(children))


async def _by_listing(
    calls: Calls,
    list_: Callable[[Query, Sequence[str], Span], Mapping[str, Window[Item]]],
    wanted: Sequence[tuple[Query, Span, str]],
) -> Mapping[tuple[Query, Span, str], Window[Item]]:
    """Make one call for all issues of which the same is asked."""
    found: dict[tuple[Query, Span, str], Window[Item]] = {}
    for query, span in dict.fromkeys(one[:2] for one in wanted):
        of = [issue_id for asked, part, issue_id in wanted if (asked, part) == (query, span)]
        windows = await calls.read(list_, query, of, span)
        found.update({(query, span, issue_id): window for issue_id, window in windows.items()})
    return found


Info = GraphQLResolveInfo[LinearVisit]

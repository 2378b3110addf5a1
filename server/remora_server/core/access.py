"""Who may do what.

A key opens one workspace. Within it, and with the scope that the RPC names, every principal reads all attachments,
links, activity, issues and every file that hangs on a live attachment. A file without one, and an upload ticket, is
for its creator and for admin keys. What a caller may not see is answered exactly like what does not exist.
"""

from __future__ import annotations

from remora_server.core import errors
from remora_server.core.model import Activity, Caller, File, Ticket
from remora_server.core.ports import MetadataStore


def enter(caller: Caller, workspace: str, field: str = "workspace_id") -> str:
    """Return the id of the workspace that a request names by id or slug; only the key's own exists for a caller."""
    if not workspace:
        raise errors.invalid(field, "is required; give the workspace's id or slug")
    if workspace not in {caller.workspace_id, caller.workspace_slug}:
        raise errors.NotFoundError("workspace", f"workspaces/{workspace}")
    return caller.workspace_id


def require_scope(caller: Caller, scope: str) -> None:
    """Raise ScopeMissingError unless the key has the scope; `admin` implies the others, an empty scope is free."""
    if scope and scope not in caller.scopes and not caller.is_admin:
        raise errors.ScopeMissingError(scope)


def owns(caller: Caller, creator_id: str) -> bool:
    """Tell whether the caller made something, or acts for those who did."""
    return creator_id == caller.principal_id or caller.is_admin


def may_read_file(store: MetadataStore, caller: Caller, file: File) -> bool:
    """Tell whether the caller may read a file: its own, or one that hangs on a live attachment."""
    return owns(caller, file.creator.id) or bool(store.live_attachments_of_file(file.id))


def may_see_ticket(caller: Caller, ticket: Ticket) -> bool:
    """Tell whether the caller may know of an upload ticket."""
    return owns(caller, ticket.creator.id)


def may_see_activity(caller: Caller, activity: Activity) -> bool:
    """Tell whether an entry of the log is for this caller."""
    return not activity.visible_to or owns(caller, activity.visible_to)

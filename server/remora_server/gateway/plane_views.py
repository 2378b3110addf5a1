"""How much of an object Plane's clients want to see: some `fields` of it, and whole things where it has only ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from remora_server.core.model import Actor, Assignee, IssueStatus
from remora_server.gateway.plane_objects import Place, uuid, work_item
from remora_server.gateway.route import Visit

GROUPS = frozenset({"backlog", "unstarted", "started", "completed", "cancelled"})
Whole = Mapping[str, Callable[[], Any]]


def view(visit: Visit, place: Place, shown: dict[str, Any], **more: Callable[[], Any]) -> dict[str, Any]:
    """Return an object with the `fields` that are asked for, or all, and what `expand` names as whole things.

    What can't be expanded stays as it is, and names of no field say nothing.
    """
    fields = _names(visit, "fields")
    # An object that is an issue itself has no field of that name.
    whole: Whole = {
        "workspace": lambda: _workspace(visit, place),
        "project": lambda: _project(place),
        "issue": lambda: work_item(place),
        **more,
    }
    kept = {name: value for name, value in shown.items() if not fields or name in fields}
    for name in _names(visit, "expand"):
        if name in kept and name in whole:
            kept[name] = whole[name]()
    return kept


def user(actor: Actor) -> dict[str, Any]:
    """Return a user; only the name to be shown is known of one."""
    return _user(uuid(actor.id), actor.display_name, actor.icon_url)


def assignee(one: Assignee) -> dict[str, Any]:
    """Return somebody that an issue is assigned to, as its tracker knows them."""
    return _user(one.id, one.display_name, one.avatar_url)


def state(status: IssueStatus) -> dict[str, Any] | None:
    """Return the state of an issue; nothing if its tracker tells none."""
    if not status.id:
        return None
    group = status.category.lower()
    return {"id": status.id, "name": status.name, "color": status.color, "group": group if group in GROUPS else None}


def _user(id_: str | None, name: str, avatar_url: str) -> dict[str, Any]:
    return {
        "id": id_,
        "first_name": "",
        "last_name": "",
        "email": None,
        "avatar": avatar_url,
        "avatar_url": avatar_url or None,
        "display_name": name,
    }


def _workspace(visit: Visit, place: Place) -> dict[str, Any]:
    slug = visit.caller.workspace_slug
    return {"name": slug, "slug": slug, "id": uuid(place.issue.workspace_id)}


def _project(place: Place) -> dict[str, Any]:
    key = place.project.key
    return {"id": uuid(place.project.id), "identifier": key, "name": key}


def _names(visit: Visit, name: str) -> list[str]:
    return [part for part in visit.asked(name).split(",") if part]

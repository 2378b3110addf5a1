"""Which issues are in a project."""

from __future__ import annotations

import pytest

from remora_server.core import ids
from remora_server.core.errors import NotFoundError, ValidationFailedError
from remora_server.core.model import Issue, IssueStatus, Project
from remora_server.core.projects import Projects
from tests.core.world import World


def pushed(world: World, key: str, project_id: str = "") -> Issue:
    """Push an issue that names a project or none."""
    made = Issue("", "acme", key, (), project_id, "", "", IssueStatus(), (), completed=False, metadata={},
                 create_time=0, update_time=0, delete_time=None, version=0)  # fmt: skip
    return world.do(world.issues.upsert, world.jo, made, ()).issue


def added(world: World, key: str) -> Project:
    """Add a project to the workspace."""
    new = Project(ids.new_id(ids.PROJECT), world.jo.workspace_id, key, 0)
    return world.do(world.store.find_or_add_project, new)[0]


def test_which_issues_are_in_a_project(world: World) -> None:
    """Those that name it, by either spelling of its id, and those that name none but have its key."""
    plat, web = added(world, "PLAT"), added(world, "WEB")
    projects = Projects(world.store)
    uuid = str(ids.to_uuid(web.id))
    cases = ((pushed(world, "PLAT-1"), plat), (pushed(world, "PLAT-2", web.id), web), (pushed(world, "X-1", uuid), web))
    for issue, project in cases:
        assert projects.of_issue(world.jo, issue) == project
        assert projects.issue(world.jo, project, issue.id) == issue
        other = web if project is plat else plat
        with pytest.raises(NotFoundError):
            projects.issue(world.jo, other, issue.id)
    for issue in (pushed(world, "PLATO-1"), pushed(world, "PLAT-3", "prj_other")):
        with pytest.raises(NotFoundError):
            projects.of_issue(world.jo, issue)
    with pytest.raises(NotFoundError):
        projects.issue(world.jo, plat, ids.new_id(ids.ISSUE))


def test_a_project(world: World) -> None:
    """A project is found in its own workspace, by either spelling of its id."""
    web, plat = added(world, "WEB"), added(world, "PLAT")
    projects = Projects(world.store)
    assert projects.get(world.jo, web.id) == web
    for spelling in (plat.id, str(ids.to_uuid(plat.id))):
        assert projects.get(world.jo, spelling) == plat
        with pytest.raises(NotFoundError):
            projects.get(world.stranger, spelling)
    with pytest.raises(ValidationFailedError):
        projects.get(world.jo, "PLAT")

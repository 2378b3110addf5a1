"""Projects: which issues are whose, for systems that address an issue through its project."""

from __future__ import annotations

from remora_server.core import errors, ids
from remora_server.core.model import Caller, Issue, Project
from remora_server.core.ports import MetadataStore


class Projects:
    """The rules of projects over a metadata store."""

    def __init__(self, store: MetadataStore) -> None:
        self._store = store

    def get(self, caller: Caller, project_id: str) -> Project:
        """Return a project."""
        wanted = ids.parse(ids.PROJECT, project_id, "project_id")
        # A workspace has few.
        for project in self._store.list_projects(caller.workspace_id):
            if project.id == wanted:
                return project
        raise errors.NotFoundError("project", f"projects/{project_id}")

    def of_issue(self, caller: Caller, issue: Issue) -> Project:
        """Return the project of an issue: the one that it names, else the one whose key begins its own."""
        prefix = issue.key.rpartition("-")[0]
        for project in self._store.list_projects(caller.workspace_id):
            names = {project.id, str(ids.to_uuid(project.id))}
            if issue.project_id in names or (not issue.project_id and project.key == prefix):
                return project
        raise errors.NotFoundError("project", f"issues/{issue.key}")

    def issue(self, caller: Caller, project: Project, issue_id: str) -> Issue:
        """Return an issue, if it is one of a project's."""
        found = self._store.issue(caller.workspace_id, ids.parse(ids.ISSUE, issue_id, "issue_id"))
        if found is None or self.of_issue(caller, found).id != project.id:
            raise errors.NotFoundError("issue", f"issues/{issue_id}")
        return found

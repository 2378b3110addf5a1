"""Development mode: one workspace, project, key and three issues, the same at every start of one data directory."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from remora_server.core import ids
from remora_server.core.model import Issue, IssueStatus, Project, Workspace
from remora_server.core.ports import Clock, MetadataStore
from remora_server.core.tenants import Tenants, hash_of

WORKSPACE, PROJECT, USER = "demo", "DEMO", "Demo User"
TITLES = ("Try Remora", "Attach a file", "Watch what happens")
FILE_NAME, KEY_NAME = "dev.json", "dev.key"


@dataclass(frozen=True, slots=True)
class Seeded:
    """What development mode knows."""

    key: str
    workspace: Workspace
    project: Project
    issues: Sequence[Issue]

    def report(self) -> dict[str, object]:
        """Return what a caller needs to address all this."""
        return {
            "key": self.key,
            "workspace": {"id": self.workspace.id, "slug": self.workspace.slug},
            "project": {"id": self.project.id, "uuid": str(ids.to_uuid(self.project.id)), "key": self.project.key},
            "issues": [{"id": one.id, "uuid": str(ids.to_uuid(one.id)), "key": one.key} for one in self.issues],
        }


def key_of(data: Path) -> str:
    """Return the key that development mode knows in a data directory, made at its first start."""
    kept = read(data)
    return str(kept["key"]) if kept else _write_once(data / KEY_NAME, f"rk_dev_{secrets.token_urlsafe(24)}")


def seed(store: MetadataStore, clock: Clock, key: str) -> Seeded:
    """Make what is missing and return all of it; run it inside a change."""
    tenants = Tenants(store, clock)
    workspace, _ = tenants.create_workspace(WORKSPACE)
    project, _ = tenants.create_project(workspace, PROJECT)
    if store.key_by_hash(hash_of(key)) is None:
        tenants.create_key(workspace, USER, text=key)
    issues: list[Issue] = []
    for number, title in enumerate(TITLES, start=1):
        now = clock.now()
        new = Issue(
            id=ids.new_id(ids.ISSUE),
            workspace_id=workspace.id,
            key=f"{PROJECT}-{number}",
            external_refs=(),
            project_id=project.id,
            title=title,
            parent_issue_id=issues[0].id if number == 2 else "",  # noqa: PLR2004 - the second is a sub-issue of the first
            status=IssueStatus(),
            assignees=(),
            completed=False,
            metadata={},
            create_time=now,
            update_time=now,
            delete_time=None,
            version=1,
        )
        issues.append(store.find_or_add_issue(new)[0])
    return Seeded(key, workspace, project, issues)


def read(data: Path) -> dict[str, object] | None:
    """Return what an earlier start kept, or None."""
    try:
        kept: dict[str, object] = json.loads((data / FILE_NAME).read_text())
    except FileNotFoundError:
        return None
    return kept


def keep(data: Path, seeded: Seeded) -> None:
    """Write what the next start, and `dev-info`, read; only its owner may."""
    draft = data / f".{FILE_NAME}.{secrets.token_hex(4)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(seeded.report(), file, indent=2)
    draft.replace(data / FILE_NAME)


def _write_once(path: Path, text: str) -> str:
    """Keep `text` in a file that only its owner reads, unless the file is there; return what it holds."""
    # Linked into place, so that of several servers that start together all read the same, whole file.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        path.hardlink_to(draft)
    draft.unlink()
    return path.read_text()

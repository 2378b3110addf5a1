"""Workspaces, their users, keys and projects."""

from __future__ import annotations

from collections.abc import Sequence

import peewee

from remora_server.core.model import Actor, Micros, Project, Workspace
from remora_server.core.ports import Key
from remora_server.stores.database import Row
from remora_server.stores.kept import Query, Slot, kept, kept_insert
from remora_server.stores.metadata.rows import ADD_USER, Rows, user_by_name
from remora_server.stores.tables import Keys, Projects, Users, Workspaces

WORKSPACE = (Workspaces.id, Workspaces.slug, Workspaces.name, Workspaces.create_time)
PROJECT = (Projects.id, Projects.workspace_id, Projects.key, Projects.create_time)
KEY = (
    Keys.id,
    Keys.key_hash,
    Keys.workspace_id,
    Keys.user_id,
    Keys.scopes,
    Keys.create_time,
    Keys.expire_time,
    Keys.revoke_time,
)
ADD_WORKSPACE = kept_insert(Workspaces, (*WORKSPACE, Workspaces.used_bytes, Workspaces.reserved_bytes), or_nothing=True)
ADD_PROJECT = kept_insert(Projects, PROJECT, or_nothing=True)
ADD_KEY = kept_insert(Keys, KEY)


@kept
def _workspace_by_either(id_or_slug: Slot) -> Query:
    return Workspaces.select(*WORKSPACE).where((Workspaces.id == id_or_slug) | (Workspaces.slug == id_or_slug))


@kept
def _workspace_by_slug(slug: Slot) -> Query:
    return Workspaces.select(*WORKSPACE).where(Workspaces.slug == slug)


@kept
def _project_by_key(workspace_id: Slot, key: Slot) -> Query:
    return Projects.select(*PROJECT).where(Projects.workspace_id == workspace_id, Projects.key == key)


@kept
def _key_by_hash(key_hash: Slot) -> Query:
    return _keys().where(Keys.key_hash == key_hash)


@kept
def _key_by_id(key_id: Slot) -> Query:
    return _keys().where(Keys.id == key_id)


def _keys() -> peewee.ModelSelect[Keys]:
    return (
        Keys.select(*KEY, Workspaces.slug, Users.kind, Users.display_name, Users.icon_url)
        .join(Workspaces, on=Workspaces.id == Keys.workspace_id)
        .join(Users, on=Users.id == Keys.user_id)
    )


class Tenants(Rows):
    """Who there is."""

    def find_or_add_workspace(self, new: Workspace) -> tuple[Workspace, bool]:
        """Return the workspace with this slug and whether it is new."""
        values = (new.id, new.slug, new.name, new.create_time, 0, 0)
        row, added = self._find_or_add(_workspace_by_slug, (new.slug,), ADD_WORKSPACE, values)
        return (new, True) if added else (Workspace(*row), False)

    def workspace(self, id_or_slug: str) -> Workspace | None:
        """Find a workspace by either name."""
        row = self._db.row(_workspace_by_either, id_or_slug)
        return None if row is None else Workspace(*row)

    def list_workspaces(self) -> Sequence[Workspace]:
        """Return all, oldest first."""
        query = Workspaces.select(*WORKSPACE).order_by(Workspaces.create_time, Workspaces.id)
        return [Workspace(*row) for row in self._db.select(query)]

    def find_or_add_user(self, workspace_id: str, new: Actor, create_time: Micros) -> Actor:
        """Return the user with this display name in the workspace."""
        values = (new.id, workspace_id, new.kind, new.display_name, new.icon_url, create_time)
        row, added = self._find_or_add(user_by_name, (workspace_id, new.display_name), ADD_USER, values)
        return new if added else Actor(row[0], row[1], new.display_name, row[2])

    def add_key(self, key: Key) -> None:
        """Keep a credential."""
        scopes = " ".join(sorted(key.scopes))
        self._db.change(
            ADD_KEY,
            key.id,
            key.key_hash,
            key.workspace_id,
            key.principal.id,
            scopes,
            key.create_time,
            key.expire_time,
            key.revoke_time,
        )

    def key_by_hash(self, key_hash: bytes) -> Key | None:
        """Find a credential by the SHA-256 of its text, revoked and expired ones too."""
        row = self._db.row(_key_by_hash, key_hash)
        return None if row is None else _key(row)

    def key_by_id(self, key_id: str) -> Key | None:
        """Find a credential by its id, revoked and expired ones too."""
        row = self._db.row(_key_by_id, key_id)
        return None if row is None else _key(row)

    def list_keys(self, workspace_id: str) -> Sequence[Key]:
        """Return the workspace's keys, oldest first."""
        query = _keys().where(Keys.workspace_id == workspace_id).order_by(Keys.create_time, Keys.id)
        return [_key(row) for row in self._db.select(query)]

    def revoke_key(self, key_id: str, revoke_time: Micros) -> bool:
        """Mark a key as revoked; False if there is none."""
        return self._db.execute(Keys.update({Keys.revoke_time: revoke_time}).where(Keys.id == key_id)) > 0

    def find_or_add_project(self, new: Project) -> tuple[Project, bool]:
        """Return the project with this key in its workspace and whether it is new."""
        values = (new.id, new.workspace_id, new.key, new.create_time)
        row, added = self._find_or_add(_project_by_key, (new.workspace_id, new.key), ADD_PROJECT, values)
        return (new, True) if added else (Project(*row), False)

    def list_projects(self, workspace_id: str) -> Sequence[Project]:
        """Return the workspace's projects, oldest first."""
        query = (
            Projects.select(*PROJECT)
            .where(Projects.workspace_id == workspace_id)
            .order_by(Projects.create_time, Projects.id)
        )
        return [Project(*row) for row in self._db.select(query)]


def _key(row: Row) -> Key:
    id_, key_hash, workspace_id, user_id, scopes, create_time, expire_time, revoke_time, slug, *person = row
    return Key(
        id=id_,
        key_hash=key_hash,
        workspace_id=workspace_id,
        workspace_slug=slug,
        principal=Actor(user_id, *person),
        scopes=frozenset(scopes.split()),
        create_time=create_time,
        expire_time=expire_time,
        revoke_time=revoke_time,
    )

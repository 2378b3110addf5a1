"""Workspaces, users, keys and projects: what an operator sets up, and how a key becomes a caller."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection

from remora_server.core import errors, ids
from remora_server.core.model import Actor, Caller, Micros, Project, Workspace
from remora_server.core.ports import Clock, Key, MetadataStore

READ_SCOPES = ("attachments:read", "files:read", "links:read", "activity:read", "issues:read")
WRITE_SCOPES = ("attachments:write", "files:write", "links:write", "issues:write")
SCOPES = (*READ_SCOPES, *WRITE_SCOPES, "webhooks:manage", "admin")
DEFAULT_SCOPES = tuple(scope for scope in SCOPES if scope != "admin")
# The Quantify system has these two alone; there they open everything of their kind.
IMPLIED = {"issues:read": READ_SCOPES, "issues:write": (*READ_SCOPES, *WRITE_SCOPES)}
SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?")
PROJECT_KEY = re.compile(r"[A-Z][A-Z0-9_]{0,19}")
KEY_BYTES = 24


class Tenants:
    """The rules of who there is."""

    def __init__(self, store: MetadataStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def create_workspace(self, name: str) -> tuple[Workspace, bool]:
        """Return the workspace whose slug is made from `name`, and whether it is new."""
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        if not SLUG.fullmatch(slug):
            raise errors.invalid("name", "must hold 1 to 48 letters, digits or hyphens")
        return self._store.find_or_add_workspace(Workspace(ids.new_id(ids.WORKSPACE), slug, name, self._clock.now()))

    def workspace(self, id_or_slug: str) -> Workspace:
        """Return a workspace, for an operator."""
        found = self._store.workspace(id_or_slug)
        if found is None:
            raise errors.NotFoundError("workspace", f"workspaces/{id_or_slug}")
        return found

    def create_key(
        self,
        workspace: Workspace,
        user: str,
        scopes: Collection[str] = DEFAULT_SCOPES,
        expires_in: Micros | None = None,
        text: str = "",
    ) -> tuple[str, Key]:
        """Make a key for a user, who comes into being with the first one; the text is returned once and not kept."""
        if not user.strip() or not user.isprintable():
            raise errors.invalid("user", "is required: a name of printable characters")
        unknown = sorted(set(scopes) - set(SCOPES))
        if unknown or not scopes:
            raise errors.invalid("scopes", f"are not known: {', '.join(unknown)}; choose from {', '.join(SCOPES)}")
        now = self._clock.now()
        actor = self._store.find_or_add_user(workspace.id, Actor(ids.new_id(ids.USER), "USER", user), now)
        text = text or f"rk_{secrets.token_urlsafe(KEY_BYTES)}"
        key = Key(
            id=ids.new_id(ids.KEY),
            key_hash=hash_of(text),
            workspace_id=workspace.id,
            workspace_slug=workspace.slug,
            principal=actor,
            scopes=frozenset(scopes),
            create_time=now,
            expire_time=None if expires_in is None else now + expires_in,
            revoke_time=None,
        )
        self._store.add_key(key)
        return text, key

    def create_project(self, workspace: Workspace, key: str) -> tuple[Project, bool]:
        """Return the project with this key, and whether it is new."""
        if not PROJECT_KEY.fullmatch(key):
            raise errors.invalid("key", "must be 1 to 20 capital letters, digits or underscores, a letter first")
        return self._store.find_or_add_project(Project(ids.new_id(ids.PROJECT), workspace.id, key, self._clock.now()))

    def revoke_key(self, key_id: str) -> None:
        """End a key by its id."""
        if not self._store.revoke_key(key_id, self._clock.now()):
            raise errors.NotFoundError("key", f"keys/{key_id}")

    def caller(self, key: Key | None) -> Caller:
        """Return whom a key stands for; raise TokenMissingError or TokenExpiredError if for nobody."""
        if key is None:
            raise errors.TokenMissingError
        now = self._clock.now()
        if key.revoke_time is not None or (key.expire_time is not None and key.expire_time <= now):
            raise errors.TokenExpiredError
        scopes = key.scopes.union(*(IMPLIED.get(scope, ()) for scope in key.scopes))
        return Caller(
            key.workspace_id, key.workspace_slug, key.principal, frozenset(scopes), key.expire_time, key_id=key.id
        )

    def seconds_left(self, caller: Caller) -> float:
        """Return for how long a caller's key is still good."""
        return float("inf") if caller.expire_time is None else (caller.expire_time - self._clock.now()) / 1_000_000


def hash_of(key_text: str) -> bytes:
    """Return what is kept of a key. Keys are long and random, so a plain digest can't be guessed backwards."""
    return hashlib.sha256(key_text.encode()).digest()

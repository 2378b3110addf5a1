"""What every metadata store does with workspaces, users, keys and projects."""

from __future__ import annotations

from dataclasses import replace

from remora_server.core import ids
from remora_server.core.model import (
    Actor,
    Project,
    Workspace,
)
from remora_server.core.ports import (
    Key,
    MetadataStore,
)
from tests.stores.samples import DAY, NOW, Tenant


class TenantContract:
    """Workspaces, users, keys, projects."""

    def test_workspaces(self, store: MetadataStore) -> None:
        """A slug makes one workspace, found by id and by slug."""
        one = Workspace(ids.new_id(ids.WORKSPACE), "acme", "Acme", NOW)
        assert store.find_or_add_workspace(one) == (one, True)
        again = Workspace(ids.new_id(ids.WORKSPACE), "acme", "Other", NOW + 1)
        assert store.find_or_add_workspace(again) == (one, False)
        other = Workspace(ids.new_id(ids.WORKSPACE), "beta", "Beta", NOW - 1)
        store.find_or_add_workspace(other)
        assert store.workspace(one.id) == store.workspace("acme") == one
        assert store.workspace("gamma") is None
        assert store.list_workspaces() == [other, one]

    def test_users(self, store: MetadataStore, acme: Tenant) -> None:
        """A name makes one user in a workspace, and another one elsewhere."""
        again = Actor(ids.new_id(ids.USER), "APP", "Jo")
        assert store.find_or_add_user(acme.id, again, NOW + 1) == acme.jo
        assert Tenant(store, "beta").jo != acme.jo

    def test_keys(self, store: MetadataStore, acme: Tenant) -> None:
        """A key is found by its hash with its principal, also when it is over; it can be revoked."""
        key = Key(
            id=ids.new_id(ids.KEY),
            key_hash=b"h" * 32,
            workspace_id=acme.id,
            workspace_slug="acme",
            principal=acme.jo,
            scopes=frozenset({"files:read", "admin"}),
            create_time=NOW,
            expire_time=NOW + DAY,
            revoke_time=None,
        )
        newer = replace(key, id=ids.new_id(ids.KEY), key_hash=b"i" * 32, create_time=NOW + 1, expire_time=None)
        store.add_key(newer)
        store.add_key(key)
        assert store.key_by_hash(key.key_hash) == key
        assert store.key_by_hash(b"x" * 32) is None
        assert store.list_keys(acme.id) == [key, newer]
        assert store.list_keys("wks_other") == []
        assert store.revoke_key(key.id, NOW + 5)
        assert store.key_by_hash(key.key_hash) == replace(key, revoke_time=NOW + 5)
        assert not store.revoke_key("key_none", NOW)

    def test_projects(self, store: MetadataStore, acme: Tenant) -> None:
        """A project's key is unique in its workspace."""
        one = Project(ids.new_id(ids.PROJECT), acme.id, "ENG", NOW)
        assert store.find_or_add_project(one) == (one, True)
        assert store.find_or_add_project(replace(one, id=ids.new_id(ids.PROJECT))) == (one, False)
        assert store.list_projects(acme.id) == [one]
        assert store.list_projects(Tenant(store, "beta").id) == []

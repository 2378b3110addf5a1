"""What every metadata store does with links."""

from __future__ import annotations

from dataclasses import replace

from remora_server.core.ports import (
    Changes,
    LinkQuery,
    MetadataStore,
)
from tests.stores.samples import NOW, Tenant, at_once, subject, walk


class LinkContract:
    """Links."""

    def test_links_one_per_url(self, store: MetadataStore, acme: Tenant) -> None:
        """A URL makes one link on a subject; a second one leaves it alone."""
        link = acme.link(subject(), title="t")
        assert store.find_or_add_link(link) == (link, True)
        assert store.find_or_add_link(acme.link(subject(), title="other")) == (link, False)
        assert store.find_or_add_link(acme.link(subject(2)))[1]
        assert store.link(acme.id, link.id) == link
        assert store.link("wks_other", link.id) is None

    def test_links_update_and_delete(self, store: MetadataStore, acme: Tenant) -> None:
        """A link takes no other's URL; once deleted it is gone."""
        one, other = acme.link(subject()), acme.link(subject(), "https://e.org/2")
        store.find_or_add_link(one)
        store.find_or_add_link(other)
        assert not store.update_link(replace(other, url_key=one.url_key, title="x"))
        assert store.link(acme.id, other.id) == other
        changed = replace(one, url="u", normalized_url="n", url_key="k", title="t", version=2)
        assert store.update_link(changed)
        assert store.link(acme.id, one.id) == changed
        store.delete_link(one.id)
        store.delete_link(one.id)
        assert store.link(acme.id, one.id) is None

    def test_links_list(self, store: MetadataStore, acme: Tenant) -> None:
        """The links of a subject, newest first."""
        made = [acme.link(subject(), f"https://e.org/{n}", create_time=NOW + n // 3) for n in range(8)]
        for link in made:
            store.find_or_add_link(link)
        store.find_or_add_link(acme.link(subject(2)))
        query = LinkQuery(acme.id, "issue", subject().id)
        found = walk(lambda after, limit: store.list_links(query, after, limit), lambda x: (x.create_time, x.id))
        assert found == sorted(made, key=lambda x: (x.create_time, x.id), reverse=True)

    def test_links_at_once(self, store: MetadataStore, changes: Changes, acme: Tenant) -> None:
        """32 callers that link one URL get one link."""
        found = at_once(32, lambda _: changes.run(lambda: store.find_or_add_link(acme.link(subject()))))
        assert len({link.id for link, _ in found}) == 1
        assert sum(added for _, added in found) == 1

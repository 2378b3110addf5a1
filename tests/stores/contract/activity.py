"""What every metadata store does with the log and with kept answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from remora_server.core.ports import (
    ActivityQuery,
    MetadataStore,
    Repeat,
)
from tests.stores.samples import NOW, Tenant, subject, walk


class ActivityContract:
    """The log."""

    def test_activities_everything_comes_back(self, store: MetadataStore, acme: Tenant) -> None:
        """An entry is found with every field as it was given, and a number."""
        full = acme.activity(
            subject=subject(),
            changed_fields=("title", "metadata.a"),
            payload={"deep": {"list": [1, 2.5, None, "ü"]}},
            request_id="r",
            visible_to=acme.kim.id,
            actor=acme.kim,
        )
        plain = acme.activity()
        for one in (full, plain):
            store.add_activity(one)
        first, second = store.list_activities(ActivityQuery(acme.id, newest_first=False), None, 9)
        assert (first, second) == (replace(full, seq=first.seq), replace(plain, seq=second.seq))
        assert first.seq < second.seq
        assert store.activity(acme.id, full.id) == first
        assert store.activity("wks_other", full.id) is None

    def test_bounds(self, store: MetadataStore, acme: Tenant) -> None:
        """An empty log begins at nothing; the newest number is that of the last entry."""
        assert store.activity_bounds() == (0, 0)
        for _ in range(3):
            store.add_activity(acme.activity())
        newest = store.list_activities(ActivityQuery(acme.id), None, 1)[0].seq
        assert store.activity_bounds() == (0, newest)
        assert set(store.workspaces_active_after(0)) == {acme.id}
        assert not store.workspaces_active_after(newest)

    def test_activities_list(self, store: MetadataStore, acme: Tenant) -> None:
        """Every filter restricts; a reader sees what is for all and what is for it."""
        made = [
            acme.activity(),
            acme.activity(subject=subject()),
            acme.activity(subject=subject(2), type="link.created"),
            acme.activity(visible_to=acme.jo.id),
            acme.activity(visible_to=acme.kim.id, actor=acme.kim),
            acme.activity(occur_time=NOW + 5),
        ]
        for one in made:
            store.add_activity(one)
        store.add_activity(Tenant(store, "beta").activity())
        places = {one.id: place for place, one in enumerate(made)}

        def listed(**fields: Any) -> list[int]:
            query = ActivityQuery(acme.id, **fields)
            found = walk(lambda after, limit: store.list_activities(query, after, limit), lambda x: (x.seq,), size=2)
            assert store.count_activities(query) == len(found)
            return [places[one.id] for one in found]

        assert listed() == [5, 4, 3, 2, 1, 0]
        assert listed(newest_first=False) == [0, 1, 2, 3, 4, 5]
        assert listed(reader=acme.jo.id) == [5, 3, 2, 1, 0]
        assert listed(reader=acme.kim.id, newest_first=False) == [0, 1, 2, 4, 5]
        assert listed(subjects=[("issue", subject().id)]) == [1]
        assert listed(subjects=[("issue", subject().id), ("issue", subject(2).id)]) == [2, 1]
        assert listed(actor_ids=[acme.kim.id, "usr_none"]) == [4]
        assert listed(types=["link.created"], newest_first=False) == [2]
        assert listed(occurred_from=NOW + 1) == [5]
        assert listed(occurred_to=NOW + 5) == [4, 3, 2, 1, 0]

    def test_repeats(self, store: MetadataStore) -> None:
        """An answer is kept under its key, replaced, and forgotten with age."""
        first, second = Repeat(b"f", b"a", NOW), Repeat(b"\0", b"", NOW + 1)
        assert store.repeat("k") is None
        store.add_repeat("k", first)
        assert store.repeat("k") == first
        store.add_repeat("k", second)
        assert store.repeat("k") == second
        store.add_repeat("old", first)
        assert store.delete_repeats(NOW + 1) == 1
        assert store.repeat("old") is None
        assert store.repeat("k") == second

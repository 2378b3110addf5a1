"""What every metadata store does with attachments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from remora_server.core.conditions import Both, Comparison, Condition, Either, Not, Operator
from remora_server.core.model import (
    Attachment,
    ExternalRef,
    Media,
    ShownCreator,
    Subject,
)
from remora_server.core.ports import (
    AttachmentQuery,
    Changes,
    MetadataStore,
    Position,
)
from tests.stores.samples import METADATA, NOW, Tenant, at_once, subject, walk


class AttachmentContract:
    """Attachments."""

    def test_attachments_everything_comes_back(self, store: MetadataStore, acme: Tenant) -> None:
        """An attachment is found with every field as it was given, its file included."""
        url = acme.attachment(
            subject(),
            title="t",
            subtitle="s",
            icon_url="https://e.org/i",
            group_key="g",
            metadata=METADATA,
            external_ref=ExternalRef("sentry", "42"),
            sequence_number=2**62,
            updater=acme.kim,
            update_time=NOW + 1,
            archive_time=NOW + 2,
            shown_creator=ShownCreator("Bot", "https://e.org/bot.png"),
            version=3,
        )
        file = acme.stored_file(store, media=Media(1, 2, "L", 3, 4, "py", "alt"), metadata=METADATA, was_attached=True)
        held = acme.held(subject(), file)
        for one in (url, held):
            assert store.find_or_add_attachment(one) == (one, True)
            assert store.attachment(acme.id, one.id) == one
            assert store.attachment("wks_other", one.id) is None
            assert store.attachment_id_taken(one.id)
        assert store.live_attachment_by_url(acme.id, "issue", subject().id, url.url_key) == url
        assert store.live_attachment_by_file("issue", subject().id, file.id) == held
        assert store.live_attachments_of_file(file.id) == [held]
        assert store.live_attachment_by_url(acme.id, "issue", subject(2).id, url.url_key) is None
        assert store.live_attachment_by_file("comment", subject().id, file.id) is None
        assert not store.attachment_id_taken("att_none")

    def test_a_new_one_gets_its_file(self, store: MetadataStore, acme: Tenant) -> None:
        """What is returned as new carries the file, given or not."""
        file = acme.stored_file(store)
        stored, added = store.find_or_add_attachment(replace(acme.held(subject(), file), file=None))
        assert added
        assert stored.file == file

    def test_one_live_per_url(self, store: MetadataStore, acme: Tenant) -> None:
        """A URL is taken on its subject while its attachment lives; another subject has its own."""
        first, second = acme.attachment(subject()), acme.attachment(subject())
        store.find_or_add_attachment(first)
        assert store.find_or_add_attachment(second) == (first, False)
        assert store.find_or_add_attachment(acme.attachment(subject(2)))[1]
        assert store.find_or_add_attachment(Tenant(store, "beta").attachment(subject()))[1]
        assert store.place_attachment(replace(first, delete_time=NOW, version=2))
        assert store.live_attachment_by_url(acme.id, "issue", subject().id, first.url_key) is None
        assert store.find_or_add_attachment(second) == (second, True)
        assert not store.place_attachment(replace(first, delete_time=None, version=3))
        assert store.attachment(acme.id, first.id) == replace(first, delete_time=NOW, version=2)

    def test_one_live_per_file(self, store: MetadataStore, acme: Tenant) -> None:
        """The same holds for files; URL attachments are none of their business."""
        file = acme.stored_file(store)
        first, second = acme.held(subject(), file), acme.held(subject(), file)
        store.find_or_add_attachment(first)
        assert store.find_or_add_attachment(second) == (first, False)
        assert store.find_or_add_attachment(acme.held(subject(2), file))[1]
        assert len(store.live_attachments_of_file(file.id)) == 2
        assert store.place_attachment(replace(first, delete_time=NOW))
        assert len(store.live_attachments_of_file(file.id)) == 1
        assert store.find_or_add_attachment(second) == (second, True)
        assert not store.place_attachment(first)

    def test_attachments_update(self, store: MetadataStore, acme: Tenant) -> None:
        """Every mutable field is written; those that make its place only where it is placed anew."""
        one = acme.attachment(subject())
        store.find_or_add_attachment(one)
        changed = replace(
            one,
            url="https://e.org/1#x",
            title="t",
            subtitle="s",
            icon_url="i",
            group_key="g",
            metadata=METADATA,
            external_ref=ExternalRef("a", "b"),
            sequence_number=5,
            updater=acme.kim,
            update_time=NOW + 9,
            archive_time=NOW + 8,
            delete_time=NOW + 7,
            purge_time=NOW + 6,
            version=2,
        )
        edited = replace(
            changed,
            url=one.url,
            normalized_url=one.normalized_url,
            url_key=one.url_key,
            delete_time=one.delete_time,
            purge_time=one.purge_time,
        )
        store.update_attachment(changed)
        assert store.attachment(acme.id, one.id) == edited
        assert store.place_attachment(changed)
        assert store.attachment(acme.id, one.id) == changed

    def test_an_id_that_is_taken(self, store: MetadataStore, acme: Tenant) -> None:
        """An id of another attachment is never overwritten."""
        one = acme.attachment(subject())
        store.find_or_add_attachment(one)
        with pytest.raises(Exception):  # noqa: B017, PT011 - core looks first; this is the last line of defence.
            store.find_or_add_attachment(acme.attachment(subject(), "https://e.org/2", id=one.id))
        assert store.attachment(acme.id, one.id) == one

    def test_attachments_list_filters(self, store: MetadataStore, acme: Tenant) -> None:
        """Every filter restricts, and empty ones don't."""
        png = acme.stored_file(store, b"png", content_type="image/png")
        text = acme.stored_file(store, b"text", content_type="Text/Plain; charset=utf-8")
        made = {
            "url": acme.attachment(subject(), create_time=NOW),
            "kim": acme.attachment(subject(), "https://e.org/2", creator=acme.kim, create_time=NOW + 1),
            "ref": acme.attachment(
                subject(), "https://e.org/3", external_ref=ExternalRef("sentry", "7"), create_time=NOW + 2
            ),
            "png": acme.held(subject(), png, create_time=NOW + 3),
            "text": acme.held(subject(), text, create_time=NOW + 4),
            "archived": acme.attachment(subject(), "https://e.org/4", archive_time=NOW, create_time=NOW + 5),
            "deleted": acme.attachment(subject(), "https://e.org/5", delete_time=NOW, create_time=NOW + 6),
            "elsewhere": acme.attachment(subject(2), create_time=NOW + 7),
        }
        for one in made.values():
            assert store.find_or_add_attachment(one) == (one, True)
        store.find_or_add_attachment(Tenant(store, "beta").attachment(subject()))
        names = {one.id: name for name, one in made.items()}
        on_one: dict[str, Any] = {"subject_type": "issue", "subject_id": subject().id, "order": "CREATE_TIME_ASC"}

        def listed(**fields: Any) -> list[str]:
            query = AttachmentQuery(acme.id, **fields)
            found = store.list_attachments(query, None, 99)
            assert store.count_attachments(query) == len(found)
            assert all(one == made[names[one.id]] for one in found)
            return [names[one.id] for one in found]

        alive = ["url", "kim", "ref", "png", "text"]
        assert listed(**on_one) == alive
        assert listed(**on_one, show_archived=True) == [*alive, "archived"]
        assert listed(**on_one, show_archived=True, show_deleted=True) == [*alive, "archived", "deleted"]
        assert listed() == ["elsewhere", *reversed(alive)]
        assert listed(**on_one, kinds=["FILE"]) == ["png", "text"]
        assert listed(**on_one, kinds=["URL"]) == ["url", "kim", "ref"]
        assert listed(**on_one, kinds=["URL", "FILE"]) == alive
        assert listed(**on_one, content_types=["image/*"]) == ["png"]
        assert listed(**on_one, content_types=["IMAGE/PNG", "text/plain"]) == ["png", "text"]
        assert listed(**on_one, content_types=["image/p", "text/*x"]) == []
        assert listed(**on_one, created_by=acme.kim.id) == ["kim"]
        assert listed(**on_one, file_id=png.id) == ["png"]
        assert listed(file_id=png.id, subject_type="comment") == []
        assert listed(**on_one, external_ref=ExternalRef("sentry")) == ["ref"]
        assert listed(**on_one, external_ref=ExternalRef("sentry", "8")) == []
        assert listed(**on_one, external_ref=ExternalRef(id="7")) == ["ref"]
        assert listed(url_key=made["url"].url_key) == ["elsewhere", "url"]
        assert listed(**on_one, url_key=made["url"].url_key) == ["url"]

    @pytest.mark.parametrize("filters", [{}, {"kinds": ["URL"]}], ids=["kept", "built"])
    @pytest.mark.parametrize("order", ["CREATE_TIME_DESC", "CREATE_TIME_ASC", "UPDATE_TIME_DESC", "UPDATE_TIME_ASC"])
    def test_attachments_pages(self, store: MetadataStore, acme: Tenant, order: str, filters: dict[str, Any]) -> None:
        """Walking meets everything once, in order, also over equal times."""
        made = [
            acme.attachment(subject(), f"https://e.org/{n}", create_time=NOW + n // 4, update_time=NOW - n // 3)
            for n in range(14)
        ]
        for one in made:
            store.find_or_add_attachment(one)
        query = AttachmentQuery(acme.id, "issue", subject().id, order=order, **filters)

        def position(one: Attachment) -> Position:
            return (one.update_time if order.startswith("UPDATE") else one.create_time, one.id)

        found = walk(lambda after, limit: store.list_attachments(query, after, limit), position)
        assert found == sorted(made, key=position, reverse=order.endswith("DESC"))

    @pytest.mark.parametrize(
        ("condition", "expected"),
        [
            (Comparison("title", Operator.EQUAL, "Ärger"), "b"),
            (Comparison("title", Operator.EQUAL, "ärger"), ""),
            (Comparison("title", Operator.EQUAL, "CRASH 50%", ignores_case=True), "a"),
            (Comparison("title", Operator.IN, ("Ärger", "crash_", "nothing")), "bc"),
            (Comparison("title", Operator.IN, ("ÄRGER", "CRASH_"), ignores_case=True), "bc"),
            (Comparison("title", Operator.EQUAL, "äRGER", ignores_case=True), ""),
            (Comparison("title", Operator.IN, ()), ""),
            (Comparison("title", Operator.CONTAINS, "rash"), "ac"),
            (Comparison("title", Operator.CONTAINS, "%"), "a"),
            (Comparison("title", Operator.CONTAINS, "RASH"), ""),
            (Comparison("title", Operator.CONTAINS, "RASH", ignores_case=True), "ac"),
            (Comparison("title", Operator.CONTAINS, "_"), "c"),
            (Comparison("title", Operator.CONTAINS, ""), "abcd"),
            (Comparison("title", Operator.STARTS, "crash"), "c"),
            (Comparison("title", Operator.STARTS, "CRASH", ignores_case=True), "ac"),
            (Comparison("title", Operator.STARTS, ""), "abcd"),
            (Comparison("title", Operator.ENDS, "%"), "a"),
            (Comparison("title", Operator.ENDS, "a long text that is longer than a title"), ""),
            (Comparison("title", Operator.ENDS, ""), "abcd"),
            (Comparison("create_time", Operator.LESS, NOW + 2), "ab"),
            (Comparison("create_time", Operator.AT_LEAST, NOW + 2), "cd"),
            (Comparison("creator_name", Operator.EQUAL, "Kim"), "b"),
            (Comparison("creator_name", Operator.EQUAL, "jo", ignores_case=True), "acd"),
            (Not(Comparison("creator_name", Operator.EQUAL, "Kim")), "acd"),
            (Not(Comparison("title", Operator.CONTAINS, "rash")), "bd"),
            (Both(()), "abcd"),
            (Either(()), ""),
            (Not(Either(())), "abcd"),
            (
                Both((
                    Either((Comparison("source", Operator.EQUAL, "x"), Comparison("subtitle", Operator.EQUAL, "s"))),
                    Not(Comparison("title", Operator.STARTS, "Ä")),
                )),
                "ad",
            ),
        ],
        ids=str,
    )  # fmt: skip
    def test_attachments_conditions(
        self, store: MetadataStore, acme: Tenant, condition: Condition, expected: str
    ) -> None:
        """Conditions mean the same on every database, with letters, cases and signs as they are."""
        made = {
            "a": acme.attachment(subject(), title="Crash 50%", subtitle="s", create_time=NOW),
            "b": acme.attachment(
                subject(), "https://e.org/2", title="Ärger", subtitle="s", creator=acme.kim, create_time=NOW + 1
            ),
            "c": acme.attachment(subject(), "https://e.org/3", title="crash_", create_time=NOW + 2),
            "d": acme.attachment(subject(2), title="", external_ref=ExternalRef("x", "1"), create_time=NOW + 3),
        }
        for one in made.values():
            store.find_or_add_attachment(one)
        store.find_or_add_attachment(acme.attachment(Subject("comment", "c1"), title="Crash 50%", subtitle="s"))
        query = AttachmentQuery(acme.id, subject_type="issue", order="CREATE_TIME_ASC", where=condition)
        found = store.list_attachments(query, None, 99)
        assert [one.id for one in found] == [made[name].id for name in expected]
        assert store.count_attachments(query) == len(found)

    @pytest.mark.parametrize("order", ["CREATE_TIME_DESC", "CREATE_TIME_ASC", "UPDATE_TIME_DESC", "UPDATE_TIME_ASC"])
    def test_attachments_of_many_subjects(self, store: MetadataStore, acme: Tenant, order: str) -> None:
        """What is listed for many subjects at once is what is listed for each, at any place."""
        for number in range(12):
            times = {"create_time": NOW + number // 2, "update_time": NOW - number}
            store.find_or_add_attachment(acme.attachment(subject(number % 3), f"https://e.org/{number}", **times))
        wanted = [subject(number).id for number in range(5)]
        every = AttachmentQuery(acme.id, "issue", order=order)
        for after in (None, (NOW + 2, "att_5"), (NOW - 5, "att_z"), (NOW + 99, ""), (NOW - 99, "")):
            for limit in (1, 2, 99):
                together = store.list_attachments_by_subject(every, wanted, after, limit)
                for subject_id in wanted:
                    alone = AttachmentQuery(acme.id, "issue", subject_id, order=order, kinds=["URL"])
                    assert list(together.get(subject_id, ())) == store.list_attachments(alone, after, limit)
        assert store.list_attachments_by_subject(every, [], None, 9) == {}

    def test_attachments_at_once(self, store: MetadataStore, changes: Changes, acme: Tenant) -> None:
        """64 callers that attach one URL, and one file, get one attachment each."""
        file = changes.run(lambda: acme.stored_file(store))

        def add_url() -> tuple[Attachment, bool]:
            return store.find_or_add_attachment(acme.attachment(subject()))

        def add_file() -> tuple[Attachment, bool]:
            return store.find_or_add_attachment(acme.held(subject(), file))

        for add in (add_url, add_file):
            found = at_once(64, lambda _, add=add: changes.run(add))  # type: ignore[misc]
            assert len({one.id for one, _ in found}) == 1
            assert sum(added for _, added in found) == 1

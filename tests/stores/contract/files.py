"""What every metadata store does with files, blobs and charges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from remora_server.core.model import (
    Checksums,
    ExternalRef,
    FileState,
    Media,
    Preview,
    PreviewState,
)
from remora_server.core.ports import (
    Changes,
    FileQuery,
    MetadataStore,
)
from tests.stores.samples import METADATA, NOW, Tenant, at_once, subject, walk


class FileContract:
    """Files, blobs and what is charged."""

    def test_files_everything_comes_back(self, store: MetadataStore, acme: Tenant) -> None:
        """A file is found with every field as it was given."""
        plain = acme.stored_file(store)
        full = acme.stored_file(
            store,
            b"other",
            name="ü.png",
            detected_content_type="image/png",
            type="IMAGE",
            state=FileState.QUARANTINED,
            media=Media(4000, 3000, "LEHV6", 0, 0, "", 'a "quoted" text'),
            metadata=METADATA,
            external_ref=ExternalRef("a", "b"),
            creator=acme.kim,
            update_time=NOW + 1,
            delete_time=NOW + 2,
            detach_time=NOW + 3,
            was_attached=True,
            version=4,
            preview=Preview("IMAGE", PreviewState.FAILED, "a 'reason'"),
        )
        for file in (plain, full):
            assert store.file(acme.id, file.id) == file
            assert store.file("wks_other", file.id) is None

    def test_files_update(self, store: MetadataStore, acme: Tenant) -> None:
        """Every mutable field is written."""
        file = acme.stored_file(store)
        changed = replace(
            file,
            name="b.png",
            content_type="image/png",
            detected_content_type="image/png",
            type="IMAGE",
            state=FileState.DELETED,
            media=Media(width=3),
            metadata=METADATA,
            external_ref=ExternalRef("a", "b"),
            update_time=NOW + 1,
            delete_time=NOW + 2,
            detach_time=NOW + 3,
            was_attached=True,
            version=2,
        )
        store.update_file(changed)
        assert store.file(acme.id, file.id) == changed

    def test_files_list(self, store: MetadataStore, acme: Tenant) -> None:
        """Every filter restricts; a reader sees its own and what hangs on something live."""
        made = {
            "jo": acme.stored_file(store, b"0", create_time=NOW),
            "kim": acme.stored_file(store, b"1", creator=acme.kim, content_type="image/png", create_time=NOW + 1),
            "held": acme.stored_file(store, b"2", creator=acme.kim, create_time=NOW + 2),
            "left": acme.stored_file(store, b"3", creator=acme.kim, create_time=NOW + 3),
            "gone": acme.stored_file(store, b"4", create_time=NOW + 4, state=FileState.DELETED, delete_time=NOW),
        }
        beta = Tenant(store, "beta")
        beta.stored_file(store)
        store.find_or_add_attachment(acme.held(subject(), made["held"]))
        store.find_or_add_attachment(acme.held(subject(2), made["held"]))
        store.find_or_add_attachment(acme.held(subject(), made["left"], delete_time=NOW))
        names = {file.id: name for name, file in made.items()}

        def listed(**fields: Any) -> list[str]:
            query = FileQuery(acme.id, **fields)
            found = walk(
                lambda after, limit: store.list_files(query, after, limit), lambda x: (x.create_time, x.id), size=2
            )
            assert store.count_files(query) == len(found)
            assert all(one == made[names[one.id]] for one in found)
            return [names[one.id] for one in found]

        assert listed() == ["left", "held", "kim", "jo"]
        assert listed(show_deleted=True) == ["gone", "left", "held", "kim", "jo"]
        assert listed(reader=acme.jo.id) == ["held", "jo"]
        assert listed(reader=acme.kim.id) == ["left", "held", "kim"]
        assert listed(subject_type="issue", subject_id=subject().id) == ["held"]
        assert listed(content_types=["image/*"]) == ["kim"]
        assert listed(created_by=acme.jo.id) == ["jo"]
        assert listed(created_from=NOW + 1, created_to=NOW + 3) == ["held", "kim"]

    def test_content_that_a_reader_may_use(self, store: MetadataStore, acme: Tenant) -> None:
        """Only ACTIVE files that the reader can read count: its own first, then those on something live."""
        key = acme.blob().key
        assert store.file_with_content(key, acme.jo.id, own_only=False) is None
        kims = acme.stored_file(store, creator=acme.kim)
        assert store.file_with_content(key, acme.jo.id, own_only=False) is None
        assert store.file_with_content(key, acme.kim.id, own_only=True) == kims
        held = acme.held(subject(), kims)
        store.find_or_add_attachment(held)
        assert store.file_with_content(key, acme.jo.id, own_only=False) == kims
        assert store.file_with_content(key, acme.jo.id, own_only=True) is None
        jos = acme.stored_file(store, name="jo.txt")
        assert store.file_with_content(key, acme.jo.id, own_only=False) == jos
        store.update_file(replace(jos, state=FileState.QUARANTINED))
        assert store.file_with_content(key, acme.jo.id, own_only=False) == kims
        store.place_attachment(replace(held, delete_time=NOW))
        assert store.file_with_content(key, acme.jo.id, own_only=False) is None

    def test_own_content_of_a_name_and_type(self, store: MetadataStore, acme: Tenant) -> None:
        """With a name, only the reader's own file of that name, and of the type if one is given."""
        key = acme.blob().key
        file = acme.stored_file(store)
        acme.stored_file(store, creator=acme.kim, name="kim.txt")

        def found(name: str, content_type: str = "") -> object:
            return store.file_with_content(key, acme.jo.id, own_only=True, name=name, content_type=content_type)

        assert found("a.txt") == found("a.txt", "text/plain") == file
        assert found("a.txt", "image/png") is found("b.txt") is found("kim.txt") is None

    def test_content_of_other_workspaces(self, store: MetadataStore, acme: Tenant) -> None:
        """Nothing is shared between workspaces: the same bytes are another blob."""
        beta = Tenant(store, "beta")
        theirs = beta.stored_file(store)
        store.find_or_add_attachment(beta.held(subject(), theirs))
        assert store.file_with_content(acme.blob().key, acme.jo.id, own_only=False) is None
        assert store.find_or_add_blob(acme.blob(), None)[1]

    def test_md5(self, store: MetadataStore, acme: Tenant) -> None:
        """An MD5 finds only ACTIVE files of its creator, with the same size, in the same workspace."""
        file = acme.stored_file(store)
        md5 = file.checksums.md5
        assert store.file_with_md5(acme.id, md5, 5, acme.jo.id) == file
        assert store.file_with_md5(acme.id, md5, 6, acme.jo.id) is None
        assert store.file_with_md5(acme.id, md5, 5, acme.kim.id) is None
        assert store.file_with_md5("wks_other", md5, 5, acme.jo.id) is None
        store.update_file(replace(file, state=FileState.DELETED))
        assert store.file_with_md5(acme.id, md5, 5, acme.jo.id) is None

    def test_blobs(self, store: MetadataStore, acme: Tenant) -> None:
        """A key makes one blob; missing digests stay missing; small bytes lie in the database."""
        one = acme.blob()
        assert store.find_or_add_blob(one, None) == (one, True)
        assert store.find_or_add_blob(acme.blob(), None) == (one, False)
        assert store.blob(one.id) == one
        assert store.inline_bytes(one.id) is None
        inline = acme.blob(b"\0\xffbytes", location="", checksums=Checksums(sha256=b"s" * 32))
        assert store.find_or_add_blob(inline, b"\0\xffbytes") == (inline, True)
        assert store.blob(inline.id) == inline
        assert inline.is_inline
        assert store.inline_bytes(inline.id) == b"\0\xffbytes"
        empty = acme.blob(b"", location="")
        store.find_or_add_blob(empty, b"")
        assert store.inline_bytes(empty.id) == b""
        assert store.blob("blb_none") is None
        assert store.inline_bytes("blb_none") is None

    def test_files_at_once(self, store: MetadataStore, changes: Changes, acme: Tenant) -> None:
        """64 uploads of one content make one blob; 64 charges pass no limit."""
        found = at_once(64, lambda _: changes.run(lambda: store.find_or_add_blob(acme.blob(), None)))
        assert len({blob.id for blob, _ in found}) == 1
        assert sum(added for _, added in found) == 1
        assert sum(at_once(64, lambda _: changes.run(lambda: store.charge(acme.id, 10, 333)))) == 33
        assert store.used_bytes(acme.id) == 330

"""Files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from remora_server.core import errors, etags, ids
from remora_server.core.hashing import measure
from remora_server.core.model import Checksums, ExternalRef, File, FileSpec, FileState, Media
from remora_server.core.ports import FileQuery
from tests.core.previewing import PNG
from tests.core.world import World, issue
from tests.stores.samples import Tenant

DATA = b"content"


@pytest.fixture
def file(world: World) -> File:
    """Make a file of Jo's."""
    return world.upload(world.jo, DATA)


def attach(world: World, file: File, key: str = "ENG-1") -> str:
    """Hang a file on an issue; return the card's id."""
    subject = world.do(world.subjects.resolve, world.jo, issue(key), register=True)
    return world.do(world.attachments.attach_file, world.jo, subject, file)[0].id


def test_who_sees_it(world: World, file: File) -> None:
    """Its creator and admins; with a live card everybody of the workspace (P43)."""
    for caller in (world.kim, world.stranger):
        with pytest.raises(errors.NotFoundError):
            world.files.get(caller, file.id)
    assert world.files.get(world.boss, file.id) == file
    card = attach(world, file)
    assert world.files.get(world.kim, file.id).id == file.id
    assert world.files.of_attachment(world.kim, card).id == file.id
    with pytest.raises(errors.NotFoundError):
        world.files.get(world.stranger, file.id)
    with pytest.raises(errors.ValidationFailedError):
        world.files.get(world.jo, "nonsense")


def test_what_can_be_read(world: World, file: File) -> None:
    """Not what is deleted or quarantined, nor a card that shows no file or is gone."""
    card = attach(world, file)
    world.do(world.store.update_file, replace(file, state=FileState.QUARANTINED))
    with pytest.raises(errors.FileQuarantinedError):
        world.files.readable(world.jo, file.id)
    world.do(world.store.update_file, replace(file, state=FileState.DELETED))
    with pytest.raises(errors.NotFoundError):
        world.files.readable(world.jo, file.id)
    world.do(world.attachments.delete, world.jo, card)
    for one in (card, ids.new_id(ids.ATTACHMENT)):
        with pytest.raises(errors.NotFoundError):
            world.files.of_attachment(world.jo, one)


def test_bytes(world: World, file: File) -> None:
    """Small ones lie in the database, others in the blob store; both are proved when they are read whole (P07)."""
    assert world.files.open(file) == world.files.read_whole(file) == DATA
    large = bytes(range(256)) * 100
    location = world.blobs.put(ids.new_id(ids.BLOB), large)
    taken = world.do(world.intake.take, world.jo, FileSpec("b.bin"), measure(large), location=location)
    assert world.files.read_whole(taken.file) == large
    with pytest.raises(errors.StoredContentCorruptError):
        world.files.read_whole(replace(file, checksums=Checksums(1)))


def test_bytes_that_are_gone(world: World, file: File) -> None:
    """A blob without a row, a row without bytes: told as damage, not as absence."""
    with pytest.raises(errors.StoredContentCorruptError):
        world.files.open(replace(file, blob_id="blb_gone"))
    blob = Tenant(world.store, "acme").blob(b"x", location="")
    world.do(world.store.find_or_add_blob, blob, b"x")
    world.database.command("DELETE FROM blob_bytes")
    with pytest.raises(errors.StoredContentCorruptError):
        world.files.open(replace(file, blob_id=blob.id))


def test_content_etags(world: World, file: File) -> None:
    """Who resumes a download says which bytes; others are refused with the right name of them."""
    world.files.require_content(file, "")
    world.files.require_content(file, etags.content_etag_of(file.checksums.sha256))
    with pytest.raises(errors.EtagMismatchError):
        world.files.require_content(file, '"0"')


def test_updates(world: World, file: File) -> None:
    """Name, type, media, metadata and reference change; what is not named stays; nothing for nothing."""
    spec = FileSpec("b.png", content_type="", media=Media(1), metadata={"a": 1}, external_ref=ExternalRef("x", "1"))

    def update(spec: FileSpec, *mask: str, etag: str = "") -> File:
        return world.do(world.files.update, world.jo, file.id, spec, mask, etag)

    named = update(spec, "name")
    assert (named.name, named.content_type, named.version) == ("b.png", "text/plain", 2)
    typed = update(replace(spec, name="", content_type="text/csv"), "content_type")
    assert (typed.content_type, typed.type) == ("text/csv", "DOCUMENT")
    populated = update(replace(spec, name=""), etag='"3"')
    assert (populated.name, populated.media, populated.metadata) == ("b.png", Media(1), {"a": 1})
    assert populated.external_ref == ExternalRef("x", "1")
    assert update(replace(spec, name=""), "etag") == update(spec) == populated
    assert update(replace(spec, metadata={"a": 1.0}), "metadata.a").version == 5
    assert world.told(world.jo)[-1].changed_fields == ("metadata",)
    with pytest.raises(errors.EtagMismatchError):
        update(spec, etag='"3"')


@pytest.mark.parametrize(
    ("fields", "mask"),
    [
        ({"name": ""}, ["name"]),
        ({"name": "a/b"}, []),
        ({"name": ""}, ["*"]),
        ({"name": "b", "content_type": "x"}, []),
        ({"name": "b", "media": Media(-1)}, []),
        ({"name": "b", "metadata": {"": 1}}, []),
        ({"name": "b", "external_ref": ExternalRef("x" * 256)}, []),
        ({"name": "b"}, ["size_byte"]),
    ],
)
def test_updates_that_are_refused(world: World, file: File, fields: dict[str, Any], mask: list[str]) -> None:
    """A bad field or path leaves the file as it was."""
    with pytest.raises(errors.ValidationFailedError):
        world.do(world.files.update, world.jo, file.id, FileSpec(**fields), mask)
    assert world.files.get(world.jo, file.id) == file


def test_whose_it_is(world: World, file: File) -> None:
    """Others may see a file on a card, but not change it; one they can't see is not there."""
    with pytest.raises(errors.NotFoundError):
        world.do(world.files.update, world.kim, file.id, FileSpec("b"), ())
    attach(world, file)
    with pytest.raises(errors.AccessDeniedError):
        world.do(world.files.update, world.kim, file.id, FileSpec("b"), ())
    assert world.do(world.files.update, world.boss, file.id, FileSpec("b"), ()).name == "b"


def test_undeleting(world: World, file: File) -> None:
    """A deleted file comes back, is paid for again, and is its creator's alone (P28)."""
    attach(world, file)
    with pytest.raises(errors.NotDeletedError):
        world.do(world.files.undelete, world.jo, file.id)
    gone = world.do(world.deletion.delete_file, world.jo, file.id, detach=True)
    with pytest.raises(errors.NotFoundError):
        world.do(world.files.update, world.jo, file.id, FileSpec("b"), ())
    with pytest.raises(errors.EtagMismatchError):
        world.do(world.files.undelete, world.jo, file.id, '"9"')
    back = world.do(world.files.undelete, world.jo, file.id, f'"{gone.version}"')
    assert (back.state, back.delete_time) == (FileState.ACTIVE, None)
    assert world.store.used_bytes(world.jo.workspace_id) == len(DATA)
    assert world.types(world.jo)[-1] == "file.undeleted"
    assert "file.undeleted" not in world.types(world.kim)
    with pytest.raises(errors.NotFoundError):
        world.files.get(world.kim, file.id)


def test_undeleting_what_was_let_go_of(world: World, file: File) -> None:
    """Whoever brings a file back wants it: it is paid for, and its time on the way out is forgotten."""
    world.do(world.attachments.delete, world.jo, attach(world, file))
    world.do(world.deletion.delete_file, world.jo, file.id)
    back = world.do(world.files.undelete, world.jo, file.id)
    assert back.detach_time is None
    assert world.store.used_bytes(world.jo.workspace_id) == len(DATA)


def test_holding_and_letting_go(world: World, file: File) -> None:
    """A workspace pays until the last card goes, and again when one comes back."""

    def used() -> int:
        return world.store.used_bytes(world.jo.workspace_id)

    first, second = attach(world, file), attach(world, file, "ENG-2")
    world.do(world.attachments.delete, world.jo, first)
    assert used() == len(DATA)
    world.do(world.attachments.delete, world.jo, second)
    assert used() == 0
    assert world.files.get(world.jo, file.id).detach_time is not None
    world.do(world.attachments.undelete, world.jo, first)
    assert used() == len(DATA)
    assert world.files.get(world.jo, file.id).detach_time is None
    world.do(world.files.let_go, world.jo, ids.new_id(ids.FILE))
    assert used() == len(DATA)


def test_quota(make_world: Callable[..., World]) -> None:
    """The limit holds for files, for what comes back, and for what is announced (P44)."""
    world = make_world(quota_bytes=10)
    first = world.upload(world.jo, b"1234567")
    with pytest.raises(errors.QuotaExceededError):
        world.upload(world.jo, b"abcd")
    with pytest.raises(errors.QuotaExceededError):
        world.quota.require_room(world.jo.workspace_id, 4)
    world.quota.require_room(world.jo.workspace_id, 3)
    world.quota.require_room(world.stranger.workspace_id, 10)
    world.do(world.deletion.delete_file, world.jo, first.id)
    world.upload(world.jo, b"abcd")
    with pytest.raises(errors.QuotaExceededError) as refused:
        world.do(world.files.undelete, world.jo, first.id)
    assert refused.value.quota_subject == world.jo.workspace_id
    assert world.files.get(world.jo, first.id).state is FileState.DELETED


def test_lists(world: World, file: File) -> None:
    """What the caller may read, newest first, of a subject or all, with a count."""
    second = world.upload(world.jo, PNG, "b.png")
    theirs = world.upload(world.kim, b"3")
    attach(world, second)

    def listed(caller: Any, **options: Any) -> list[str]:
        found, token = [], ""
        while True:
            page = world.files.list(
                caller, FileQuery("acme", **options), None, page_size=1, page_token=token, include_total_size=True
            )
            found += [one.id for one in page.items]
            token = page.next_page_token
            if not token:
                assert page.total_size == len(found)
                return found

    assert listed(world.jo) == [second.id, file.id]
    assert listed(world.kim) == [theirs.id, second.id]
    assert listed(world.boss) == [theirs.id, second.id, file.id]
    assert listed(world.jo, content_types=("image/*",)) == [second.id]
    by_subject = world.files.list(world.kim, FileQuery("acme"), issue())
    assert [one.id for one in by_subject.items] == [second.id]
    with pytest.raises(errors.NotFoundError):
        world.files.list(world.stranger, FileQuery("acme"), None)
    with pytest.raises(errors.ValidationFailedError):
        world.files.list(world.jo, FileQuery("acme", content_types=("a/b",) * 101), None)

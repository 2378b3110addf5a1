"""Downloads by URL."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from remora_server.core.downloads import DEFAULT_LIFETIME, MAX_LIFETIME, Downloads
from remora_server.core.errors import NotFoundError, ValidationFailedError
from remora_server.core.model import Blob, Caller, File, FileSpec, Form, HttpDownload, HttpUpload, Ticket
from remora_server.core.tickets import Request
from tests.core.world import HOUR, World, issue

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass
class Told:
    """Direct transfers that write down what they were asked for."""

    transports: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    asked: list[tuple[str, str, int]] = field(default_factory=list)

    def offer_upload(self, ticket: Ticket) -> HttpUpload:
        """Offer nothing."""
        raise NotImplementedError

    def offer_download(
        self, reader: Caller, file: File, blob: Blob, disposition: str, lifetime: int, form: Form = Form.ORIGINAL
    ) -> HttpDownload:
        """Note the request."""
        del form
        assert file.blob_id == blob.id
        self.asked.append((reader.principal_id, disposition, lifetime))
        return HttpDownload("https://example.com/", (), lifetime)


@dataclass
class Place:
    """Downloads, and whom they ask."""

    downloads: Downloads
    direct: Told
    inline: Told


@pytest.fixture
def place(world: World) -> Place:
    """Make them."""
    direct, inline = Told(), Told()
    return Place(Downloads(world.store, world.files, world.renditions, direct=direct, inline=inline), direct, inline)


def test_who_is_asked(world: World, place: Place) -> None:
    """Bytes in the database can't be reached by URLs of the blob store; nor are those used where ours are wanted."""
    small = world.upload(world.jo, b"12345")
    place.downloads.offer(world.jo, small.id)
    assert (len(place.inline.asked), len(place.direct.asked)) == (1, 0)
    location = world.blobs.put("blb_01jz0000000000000000000000", b"abc")
    content, _ = world.uploads.keep_whole(FileSpec("b"), b"abc")
    large = world.do(world.uploads.record_whole, world.jo, Request("acme", FileSpec("b")), content, location, None)
    place.downloads.offer(world.jo, large.file.id)
    assert (len(place.inline.asked), len(place.direct.asked)) == (1, 1)
    place.downloads.offer(world.jo, large.file.id, from_here=True)
    assert (len(place.inline.asked), len(place.direct.asked)) == (2, 1)


def test_lifetimes(world: World, place: Place) -> None:
    """One that is not given is the server's, one that is too long is cut, none is refused."""
    file = world.upload(world.jo, b"12345")
    for wanted in (None, HOUR, 1, MAX_LIFETIME + 1):
        place.downloads.offer(world.jo, file.id, lifetime=wanted)
    assert [asked[2] for asked in place.inline.asked] == [DEFAULT_LIFETIME, HOUR, 1, MAX_LIFETIME]
    for refused in (0, -1):
        with pytest.raises(ValidationFailedError, match="ttl"):
            place.downloads.offer(world.jo, file.id, lifetime=refused)


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.png", PNG, "inline"),
        ("a.png", b"<script>", "attachment"),
        ("a.html", PNG, "attachment"),
        ("a.png", b"%!PS-Adobe", "attachment"),
    ],
)
def test_what_is_shown(world: World, place: Place, name: str, data: bytes, kind: str) -> None:
    """Inline is what asks for it, is of a harmless type, and begins like one (P36)."""
    file = world.upload(world.jo, data, name)
    for wants_inline in (True, False):
        place.downloads.offer(world.jo, file.id, wants_inline=wants_inline)
    assert [asked[1] for asked in place.inline.asked] == [kind, "attachment"]


def test_the_right_of_a_holder(world: World, place: Place) -> None:
    """A URL reads what the one who asked for it may read now: its file, deleted or let go of meanwhile, is gone."""
    subject = world.do(world.subjects.resolve, world.jo, issue("ENG-1"), register=True)
    file = world.upload(world.jo, b"12345", attach_to=subject)
    workspace = world.jo.workspace_id

    def readers() -> list[bool]:
        found = []
        for reader in (world.jo.principal_id, world.kim.principal_id, "admin"):
            try:
                found.append(place.downloads.file_of_holder(workspace, reader, file.id).id == file.id)
            except NotFoundError:
                found.append(False)
        return found

    assert readers() == [True, True, True]
    with pytest.raises(NotFoundError):
        place.downloads.file_of_holder(world.stranger.workspace_id, "admin", file.id)
    (attachment,) = world.store.live_attachments_of_file(file.id)
    world.do(world.attachments.delete, world.jo, attachment.id)
    file = world.files.get(world.jo, file.id)
    assert readers() == [True, False, True]
    world.do(world.deletion.delete_file, world.jo, file.id)
    assert readers() == [False, False, False]

"""Random sequences of calls by several users, against a model that fits on two screens (P29).

REMORA_TEST_SEQUENCES says how many sequences are tried; each has issues and contents of its own.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from remora.v1 import activity_service_pb2 as activity_pb
from remora.v1 import attachment_pb2, common_pb2, file_pb2, link_pb2
from remora.v1 import attachment_service_pb2 as pb
from remora.v1 import file_service_pb2 as file_pb
from remora.v1 import link_service_pb2 as link_pb
from tests.rpc.asking import WORKSPACE, attach, create, get, listed, second_user, types, upsert, values
from tests.running import Api, Refusal, RunningServer, issue

SEQUENCES = int(os.environ.get("REMORA_TEST_SEQUENCES", "60"))
STEPS = 40
URLS = ["https://m.example/1", "HTTPS://M.example:443/1", "https://m.example/2", "https://m.example/2#f"]
SAME = {URLS[1]: URLS[0]}
MODES = [common_pb2.UPSERT_MODE_UPSERT, common_pb2.UPSERT_MODE_INSERT_ONLY, common_pb2.UPSERT_MODE_UPDATE_ONLY]
OUTCOMES = {1: "CREATED", 2: "UPDATED", 3: "UNCHANGED", 4: "STALE"}
_numbers = itertools.count(1)

users = st.integers(0, 1)
places = st.integers(0, 1)
picks = st.integers(0, 3)  # Counted from the newest: what happens to one thing again and again is what matters.
urls = st.sampled_from(URLS)
texts = st.fixed_dictionaries(
    {},
    optional={
        "title": st.sampled_from(["t1", "t2"]),
        "subtitle": st.sampled_from(["s1", "s2"]),
        "metadata": st.dictionaries(st.sampled_from("ab"), st.sampled_from([1, 2, "x", 1.0]), min_size=1),
    },
)
masks = st.sampled_from([(), (), ("title",), ("subtitle", "metadata.a"), ("metadata",), ("*",), ("etag",)])
etags = st.sampled_from(["", "", "right", "wrong"])


class Refused(Exception):  # noqa: N818 - what the model foretells, not an error
    """The model says: the server will refuse this, with this reason."""


@dataclass
class Card:
    """What the model knows of an attachment."""

    id: str
    place: int
    target: str  # a normalised URL, or the id of a file
    is_file: bool
    title: str = ""
    subtitle: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    sequence: int | None = None
    archived: bool = False
    deleted: bool = False
    version: int = 1
    changed_at: int = 0


@dataclass
class Document:
    """What the model knows of a file."""

    id: str
    owner: int
    name: str
    content: bytes
    deleted: bool = False
    on_its_way_out: bool = False  # Its last card was deleted; nobody is handed it again.


@dataclass
class Reference:
    """What the model knows of a link."""

    id: str
    place: int
    url: str
    title: str


@dataclass(frozen=True)
class Event:
    """What the model knows of an entry of the log."""

    type: str
    resource: str
    place: int | None = None
    reader: int | None = None  # None: everybody


class World:
    """The model: what the calls so far must have come to."""

    def __init__(self) -> None:
        self.cards: list[Card] = []
        self.files: list[Document] = []
        self.links: list[Reference] = []
        self.events: list[Event] = []
        self.clock = itertools.count(1)

    def live(self, place: int, target: str) -> Card | None:
        """Return the card that holds a target's place."""
        found = [one for one in self.cards if (one.place, one.target, one.deleted) == (place, target, False)]
        assert len(found) <= 1
        return found[0] if found else None

    def holders(self, file: Document) -> list[Card]:
        """Return the live cards that show a file."""
        return [one for one in self.cards if one.target == file.id and not one.deleted]

    def note_holders(self, card: Card) -> None:
        """Note whether the file of a card, if it shows one, lost its last card."""
        for file in self.files:
            if file.id == card.target and not file.deleted:
                file.on_its_way_out = not self.holders(file)

    def readable(self, user: int, file: Document) -> bool:
        """Tell whether a user knows of a file."""
        return file.owner == user or bool(self.holders(file))

    def tell(self, type_: str, card: Card) -> None:
        """Note a change of a card."""
        card.changed_at = next(self.clock)
        self.events.append(Event(f"attachment.{type_}", card.id, card.place))

    def tell_file(self, type_: str, file: Document) -> None:
        """Note a change of a file, which everybody hears of while a card shows it."""
        reader = None if type_ != "created" and self.holders(file) else file.owner
        self.events.append(Event(f"file.{type_}", file.id, None, reader))

    def require(self, etag: str) -> None:
        """Refuse another etag than the right one."""
        if etag == "wrong":
            raise Refused("ETAG_MISMATCH")

    def add(self, place: int, target: str, texts: Mapping[str, Any], *, is_file: bool, sequence: int | None) -> Card:
        """Make a card; its id is told later."""
        card = Card(
            "", place, target, is_file, sequence=sequence, **{**texts, "metadata": dict(texts.get("metadata", {}))}
        )
        self.cards.append(card)
        return card

    def change(self, card: Card, texts: Mapping[str, Any], mask: Sequence[str]) -> bool:
        """Change a card as an update does; tell whether anything differs."""
        named = set(mask) - {"etag"} if mask else set(texts)
        if "*" in named:
            named = {"title", "subtitle", "metadata"}
        new: dict[str, Any] = {name: texts.get(name, "") for name in ("title", "subtitle") if name in named}
        if "metadata" in named:
            new["metadata"] = dict(texts.get("metadata", {}))
        elif "metadata.a" in named:
            given = texts.get("metadata", {})
            rest = {key: value for key, value in card.metadata.items() if key != "a"}
            new["metadata"] = {**rest, **({"a": given["a"]} if "a" in given else {})}
        if all(repr(_sorted(getattr(card, name))) == repr(_sorted(value)) for name, value in new.items()):
            return False
        for name, value in new.items():
            setattr(card, name, value)
        card.version += 1
        self.tell("updated", card)
        return True


class Machine(RuleBasedStateMachine):
    """Calls the server and the model, and compares."""

    def __init__(self, callers: Sequence[Api], stranger: Api) -> None:
        super().__init__()
        self.callers, self.stranger = callers, stranger
        self.keys = [f"MODEL-{os.getpid()}-{next(_numbers)}" for _ in range(2)]
        self.salt = os.urandom(8)
        self.world = World()
        self.touched = {0: False, 1: False}

    def both(self, expected: Callable[[], Any], actual: Callable[[], Any]) -> tuple[Any, Any]:
        """Ask model and server; both refuse for the same reason, or both answers are returned."""
        try:
            wanted = expected()
        except Refused as refusal:
            refused = str(refusal)
        else:
            return wanted, actual()
        with pytest.raises(grpc.RpcError) as raised:
            actual()
        assert Refusal(raised.value).reason == refused
        return None, None

    @rule(user=users, place=places, url=urls, texts=texts, mask=masks, mode=st.sampled_from(MODES), etag=etags,
          sequence=st.none() | st.integers(0, 3))  # fmt: skip
    def upsert(
        self, user: int, place: int, url: str, texts: dict[str, Any], mask: tuple[str, ...], mode: Any, etag: str,
        sequence: int | None,
    ) -> None:  # fmt: skip
        """Make sure that an issue shows a URL."""
        world, target = self.world, SAME.get(url, url)
        card = world.live(place, target)

        def expected() -> tuple[Card, str]:
            if card is None:
                if mode == MODES[2] or etag:
                    raise Refused("RESOURCE_NOT_FOUND")
                return world.add(place, target, texts, is_file=False, sequence=sequence), "CREATED"
            if mode == MODES[1]:
                raise Refused("ATTACHMENT_URL_EXISTS")
            world.require(etag)
            if sequence is not None and card.sequence is not None and sequence <= card.sequence:
                return card, "STALE"
            changed = world.change(card, texts, mask)
            card.sequence = sequence if sequence is not None else card.sequence
            return card, "UPDATED" if changed else "UNCHANGED"

        # An etag that must be right is that from before the model has changed.
        given = "" if not etag else f'"{card.version}"' if etag == "right" and card else '"99"'
        fields = _fields(texts) | ({} if sequence is None else {"sequence_number": sequence})
        wanted, answer = self.both(
            expected,
            lambda: upsert(self.callers[user], self.keys[place], url, mask=mask, mode=mode, etag=given, **fields),
        )
        if wanted is None:
            return
        made, outcome = wanted
        assert OUTCOMES[answer.outcome] == outcome
        self.took(made, answer.attachment, created=outcome == "CREATED")

    @rule(user=users, place=places, url=urls, texts=texts)
    def create(self, user: int, place: int, url: str, texts: dict[str, Any]) -> None:
        """Create what must not be there."""
        target = SAME.get(url, url)

        def expected() -> Card:
            if self.world.live(place, target):
                raise Refused("ATTACHMENT_URL_EXISTS")
            return self.world.add(place, target, texts, is_file=False, sequence=None)

        made, answer = self.both(expected, lambda: create(self.callers[user], self.keys[place], url, **_fields(texts)))
        if made:
            self.took(made, answer, created=True)

    @precondition(lambda self: self.world.cards)
    @rule(user=users, pick=picks, texts=texts, mask=masks, etag=etags)
    def update(self, user: int, pick: int, texts: dict[str, Any], mask: tuple[str, ...], etag: str) -> None:
        """Change a card by its id."""
        card = self.card(pick)
        given = self.etag(card, etag)

        def expected() -> Card:
            if card.deleted:
                raise Refused("RESOURCE_NOT_FOUND")
            self.world.require(etag)
            self.world.change(card, texts, mask)
            return card

        wanted = attachment_pb2.Attachment(id=card.id, etag=given, **_fields(texts))
        request = pb.UpdateAttachmentRequest(attachment=wanted, update_mask=FieldMask(paths=mask) if mask else None)
        made, answer = self.both(expected, lambda: self.callers[user].attachments.UpdateAttachment(request).attachment)
        if made:
            self.took(made, answer)

    @precondition(lambda self: self.world.cards)
    @rule(user=users, pick=picks, etag=etags, verb=st.sampled_from(["Archive", "Unarchive", "Delete", "Undelete"]))
    def set_aside(self, user: int, pick: int, etag: str, verb: str) -> None:
        """Archive, delete, and back."""
        world, card = self.world, self.card(pick)
        given = self.etag(card, etag)

        def expected() -> Card:
            if card.deleted != (verb == "Undelete"):
                if verb != "Undelete":
                    raise Refused("RESOURCE_NOT_FOUND")
                world.require(etag)
                raise Refused("NOT_DELETED")
            world.require(etag)
            if verb == "Undelete":
                if card.is_file and self.file(card.target).deleted:
                    raise Refused("RESOURCE_NOT_FOUND")
                if world.live(card.place, card.target):
                    raise Refused("ATTACHMENT_URL_EXISTS")
            if verb.endswith("rchive"):
                if card.archived == (verb == "Archive"):
                    return card
                card.archived = not card.archived
            else:
                card.deleted = not card.deleted
            card.version += 1
            world.note_holders(card)
            world.tell(f"{verb.lower()}d", card)
            return card

        request = getattr(pb, f"{verb}AttachmentRequest")(attachment_id=card.id, etag=given)
        call = getattr(self.callers[user].attachments, f"{verb}Attachment")
        made, answer = self.both(expected, lambda: call(request).attachment)
        if made:
            self.took(made, answer)

    @rule(
        user=users,
        name=st.sampled_from(["a.txt", "b.txt"]),
        content=st.integers(0, 2),
        place=st.none() | places,
    )
    def upload(self, user: int, name: str, content: int, place: int | None) -> None:
        """Upload a small file, attached or not."""
        world, data = self.world, self.salt + bytes([content])
        request = file_pb.UploadFileRequest(workspace_id=WORKSPACE, spec=file_pb2.FileSpec(name=name), data=data)
        if place is not None:
            request.attach_to.CopyFrom(issue(self.keys[place]))
        known = [
            one for one in world.files if (one.content, one.deleted) == (data, False) and world.readable(user, one)
        ]
        own = [one for one in known if (one.owner, one.name, one.on_its_way_out) == (user, name, False)]
        answer = self.callers[user].files.UploadFile(request)
        assert answer.outcome == (file_pb.UPLOAD_OUTCOME_ALREADY_EXISTS if known else file_pb.UPLOAD_OUTCOME_STORED)
        if own:
            assert answer.file.id in {one.id for one in own}
            file = self.file(answer.file.id)
        else:
            assert answer.file.id not in {one.id for one in world.files}
            file = Document(answer.file.id, user, name, data)
            world.files.append(file)
            world.tell_file("created", file)
        if place is not None:
            self.attached(user, place, file, {}, answer.attachment_id)

    @precondition(lambda self: self.world.files)
    @rule(user=users, pick=picks, place=places, texts=texts)
    def attach(self, user: int, pick: int, place: int, texts: dict[str, Any]) -> None:
        """Hang a file on an issue."""
        file = self.world.files[-1 - pick % len(self.world.files)]

        def expected() -> Document:
            if file.deleted or not self.world.readable(user, file):
                raise Refused("RESOURCE_NOT_FOUND")
            return file

        made, answer = self.both(
            expected, lambda: attach(self.callers[user], self.keys[place], file.id, **_fields(texts))
        )
        if made:
            self.attached(user, place, file, texts, answer.id)

    def attached(self, user: int, place: int, file: Document, texts: Mapping[str, Any], card_id: str) -> None:
        """Note that a file hangs on an issue, for the first time or still."""
        present = self.world.live(place, file.id)
        if present is not None:
            assert card_id == present.id
            return
        file.on_its_way_out = False
        titled = {"title": file.name, **texts}
        card = self.world.add(place, file.id, titled, is_file=True, sequence=None)
        self.took(card, get(self.callers[user], card_id), created=True)

    @precondition(lambda self: self.world.files)
    @rule(user=users, pick=picks, detach=st.sampled_from([True, True, False]))
    def delete_file(self, user: int, pick: int, *, detach: bool) -> None:
        """Delete a file, with its cards or not at all."""
        world = self.world
        file = world.files[-1 - pick % len(world.files)]

        def expected() -> bool:
            self.may_change(user, file)
            if file.deleted:
                raise Refused("RESOURCE_NOT_FOUND")
            holders = world.holders(file)
            if holders and not detach:
                raise Refused("FILE_IN_USE")
            world.tell_file("deleted", file)
            file.deleted = True
            for card in sorted(holders, key=lambda one: one.id):
                card.deleted = True
                card.version += 1
                world.tell("deleted", card)
            return True

        request = file_pb.DeleteFileRequest(file_id=file.id, detach=detach)
        self.both(expected, lambda: self.callers[user].files.DeleteFile(request))

    @precondition(lambda self: self.world.files)
    @rule(user=users, pick=picks, name=st.sampled_from(["", "", "a.txt", "c.txt"]))
    def restore_or_rename_file(self, user: int, pick: int, name: str) -> None:
        """Undelete a file, or give it another name."""
        world = self.world
        file = world.files[-1 - pick % len(world.files)]

        def expected() -> bool:
            self.may_change(user, file)
            if not name:
                if not file.deleted:
                    raise Refused("NOT_DELETED")
                file.deleted = file.on_its_way_out = False
                world.tell_file("undeleted", file)
                return True
            if file.deleted:
                raise Refused("RESOURCE_NOT_FOUND")
            if file.name != name:
                file.name = name
                world.tell_file("updated", file)
            return True

        files = self.callers[user].files
        rename = file_pb.UpdateFileRequest(file=file_pb2.File(id=file.id, name=name))
        self.both(
            expected,
            (lambda: files.UpdateFile(rename))
            if name
            else (lambda: files.UndeleteFile(file_pb.UndeleteFileRequest(file_id=file.id))),
        )

    @precondition(lambda self: self.world.files)
    @rule(user=users, pick=picks)
    def read_file(self, user: int, pick: int) -> None:
        """Read a file's bytes."""
        file = self.world.files[-1 - pick % len(self.world.files)]

        def expected() -> bytes:
            if file.deleted or not self.world.readable(user, file):
                raise Refused("RESOURCE_NOT_FOUND")
            return file.content

        request = file_pb.ReadFileRequest(file_id=file.id)
        wanted, answer = self.both(expected, lambda: list(self.callers[user].files.ReadFile(request)))
        if wanted:
            assert b"".join(one.chunk.data.content for one in answer) == wanted

    @rule(user=users, place=places, url=urls, title=st.sampled_from(["", "l1", "l2"]))
    def link(self, user: int, place: int, url: str, title: str) -> None:
        """Make sure that an issue has a link."""
        target = SAME.get(url, url)
        self.touched[place] = True
        request = link_pb.CreateLinkRequest(
            workspace_id=WORKSPACE, subject=issue(self.keys[place]), url=url, title=title
        )
        answer = self.callers[user].links.CreateLink(request)
        present = [one for one in self.world.links if (one.place, one.url) == (place, target)]
        assert answer.created == (not present)
        if present:
            assert (answer.link.id, answer.link.title) == (present[0].id, present[0].title)
        else:
            self.world.links.append(Reference(answer.link.id, place, target, title))
            self.world.events.append(Event("link.created", answer.link.id, place))

    @precondition(lambda self: self.world.links)
    @rule(user=users, pick=picks, title=st.sampled_from(["", "l1", "l3"]))
    def change_link(self, user: int, pick: int, title: str) -> None:
        """Rename a link, or with no title delete it."""
        links = self.world.links
        link = links[-1 - pick % len(links)]
        if title:
            wanted = link_pb2.Link(id=link.id, title=title)
            self.callers[user].links.UpdateLink(link_pb.UpdateLinkRequest(link=wanted))
            if link.title != title:
                link.title = title
                self.world.events.append(Event("link.updated", link.id, link.place))
        else:
            self.callers[user].links.DeleteLink(link_pb.DeleteLinkRequest(link_id=link.id))
            links.remove(link)
            self.world.events.append(Event("link.deleted", link.id, link.place))

    @rule(user=users, place=places, archived=st.booleans(), deleted=st.booleans(), order=st.integers(0, 3))
    def list_cards(self, user: int, place: int, order: Any, *, archived: bool, deleted: bool) -> None:
        """List an issue's cards in every way."""
        if not self.touched[place]:
            with pytest.raises(grpc.RpcError) as raised:
                listed(self.callers[user], self.keys[place])
            assert raised.value.code() is grpc.StatusCode.NOT_FOUND
            return
        found = listed(self.callers[user], self.keys[place], show_archived=archived, show_deleted=deleted, order=order)
        wanted = [
            one
            for one in self.world.cards
            if one.place == place and (archived or not one.archived) and (deleted or not one.deleted)
        ]
        if order == pb.ATTACHMENT_ORDER_UPDATE_TIME_DESC:
            wanted.sort(key=lambda one: one.changed_at, reverse=True)
        elif order != pb.ATTACHMENT_ORDER_CREATE_TIME_ASC:
            wanted.reverse()
        assert [one.id for one in found] == [one.id for one in wanted]
        for card, seen in zip(wanted, found, strict=True):
            self.compare(card, seen)

    @precondition(lambda self: self.world.cards)
    @rule(pick=picks)
    def a_stranger_looks(self, pick: int) -> None:
        """Another tenant finds nothing."""
        with pytest.raises(grpc.RpcError) as raised:
            get(self.stranger, self.card(pick).id)
        assert Refusal(raised.value).reason == "RESOURCE_NOT_FOUND"

    @precondition(lambda self: any(self.touched.values()))
    @invariant()
    def links_are_as_the_model_says(self) -> None:
        """Compare the links of every issue, newest first."""
        for place, key in enumerate(self.keys):
            if self.touched[place]:
                request = link_pb.ListLinksRequest(workspace_id=WORKSPACE, subject=issue(key))
                found = [(one.id, one.title) for one in self.callers[0].links.ListLinks(request).links]
                mine = [(one.id, one.title) for one in self.world.links if one.place == place]
                assert found == mine[::-1]

    def teardown(self) -> None:
        """At the end all cards, and both users' view of the log, are as the model says."""
        for card in self.world.cards:
            self.compare(card, get(self.callers[0], card.id))
        for user, api in enumerate(self.callers):
            mine = [one for one in self.world.events if one.reader in {None, user}]
            request = activity_pb.ListActivitiesRequest(workspace_id=WORKSPACE, page_size=max(1, len(mine)))
            found = list(api.activity.ListActivities(request).activities)[: len(mine)][::-1]
            assert [(kind, one.resource_id) for kind, one in zip(types(found), found, strict=True)] == [
                (one.type, one.resource) for one in mine
            ]
            for one, event in zip(found, mine, strict=True):
                assert one.subject.key == ("" if event.place is None else self.keys[event.place])

    def card(self, pick: int) -> Card:
        """Choose a card."""
        return self.world.cards[-1 - pick % len(self.world.cards)]

    def file(self, file_id: str) -> Document:
        """Find a file."""
        return next(one for one in self.world.files if one.id == file_id)

    def etag(self, card: Card, kind: str) -> str:
        """Return the etag to send."""
        return f'"{card.version}"' if kind == "right" else '"99"' if kind else ""

    def may_change(self, user: int, file: Document) -> None:
        """Refuse who did not make a file, as one who sees it or as one who does not."""
        if not self.world.readable(user, file):
            raise Refused("RESOURCE_NOT_FOUND")
        if file.owner != user:
            raise Refused("ACCESS_DENIED")

    def took(self, card: Card, answer: attachment_pb2.Attachment, *, created: bool = False) -> None:
        """Compare what was answered; a new card gets its id from there."""
        if created:
            assert answer.id not in {one.id for one in self.world.cards}
            card.id = answer.id
            self.touched[card.place] = True
            self.world.tell("created", card)
        self.compare(card, answer)

    def compare(self, card: Card, seen: attachment_pb2.Attachment) -> None:
        """Compare a card with what the server shows."""
        assert seen.id == card.id
        assert (seen.title, seen.subtitle, dict(seen.metadata)) == (card.title, card.subtitle, values(**card.metadata))
        assert seen.etag == f'"{card.version}"'
        assert (seen.HasField("archive_time"), seen.HasField("delete_time")) == (card.archived, card.deleted)
        assert (seen.file_id if card.is_file else seen.normalized_url) == card.target
        assert (seen.sequence_number if seen.HasField("sequence_number") else None) == card.sequence
        assert seen.subject.key == self.keys[card.place]
        if card.is_file and not card.deleted:
            assert seen.file.name == self.file(card.target).name


def _sorted(value: Any) -> Any:
    return sorted(value.items()) if isinstance(value, dict) else value


def _fields(texts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values(**value) if name == "metadata" else value for name, value in texts.items()}


@pytest.mark.timeout(3600)
def test_random_sequences(server: RunningServer, api: Api) -> None:
    """Whatever is called in whatever order, the server does what the model does (P29)."""
    callers, stranger = [api, second_user(server)], second_user(server, workspace="elsewhere")
    machine: Any = lambda: Machine(callers, stranger)  # noqa: E731 - hypothesis asks for a class, and calls it
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=SEQUENCES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            # Explaining a failure would call the server thousands of times more.
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )

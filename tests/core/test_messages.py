"""Messages: texts with files."""

from __future__ import annotations

import pytest

from remora_server.core import ids
from remora_server.core.errors import NotFoundError, ValidationFailedError
from remora_server.core.messages import MAX_BYTES, MAX_TITLE_CHARS, Messages
from remora_server.core.ports import IssueQuery
from tests.core.world import World, issue


@pytest.fixture
def messages(world: World) -> Messages:
    """Return the rules over the world's."""
    return Messages(world.issues, world.attachments)


@pytest.mark.parametrize("text", ["", "Hello\nthere", "x" * MAX_TITLE_CHARS, "x" * (MAX_TITLE_CHARS + 1), "é" * 2048])
def test_what_is_sent_is_read(world: World, messages: Messages, text: str) -> None:
    """A text comes back as it was, its files in the order in which they were sent, each once."""
    files = [world.upload(world.jo, bytes([number])).id for number in range(3)][::-1]
    sent = world.do(messages.send, world.jo, text, [*files, files[0]])
    assert sent.id.startswith(f"{ids.MESSAGE}_")
    for message in (sent, messages.get(world.kim, sent.id)):
        assert (message.id, message.text, [file.id for file in message.files]) == (sent.id, text, files)


def test_an_answer(world: World, messages: Messages) -> None:
    """A message that quotes another hangs below it."""
    sent = world.do(messages.send, world.jo, "Well?", [])
    answer = world.do(messages.send, world.kim, "Yes.", [], sent.id)
    parent = world.issues.get(world.jo, world.jo.workspace_id, key=sent.id)
    query = IssueQuery(world.jo.workspace_id, parent_issue_id=parent.id)
    assert [one.key for one in world.issues.list(world.jo, query).items] == [answer.id]


def test_all_or_nothing(world: World, messages: Messages) -> None:
    """What can't be sent leaves nothing behind."""
    own, others = world.upload(world.jo, b"own").id, world.upload(world.kim, b"other").id
    seen = len(world.told())
    with pytest.raises(NotFoundError):
        world.do(messages.send, world.jo, "", [own, others])
    for text, file_ids, field in (
        ("x" * (MAX_BYTES + 1), [], "text"),
        ("\0", [], "text"),
        ("", [own] * 101, "attachments"),
    ):
        with pytest.raises(ValidationFailedError) as caught:
            world.do(messages.send, world.jo, text, file_ids)
        assert [one.field for one in caught.value.violations] == [field]
    for quoted in ("msg_none", "DEMO-1"):
        with pytest.raises(NotFoundError):
            world.do(messages.send, world.jo, "", [own], quoted)
    assert len(world.told()) == seen


def test_only_messages_are_messages(world: World, messages: Messages) -> None:
    """Other issues, those of other workspaces, and what is not there, all look alike."""
    world.upload(world.jo, b"x", attach_to=issue("TEST-1"))
    sent = world.do(messages.send, world.jo, "x", [])
    for caller, message_id in ((world.jo, "TEST-1"), (world.jo, "msg_none"), (world.stranger, sent.id)):
        with pytest.raises(NotFoundError) as caught:
            messages.get(caller, message_id)
        assert caught.value.resource == ("message", "messages/-")

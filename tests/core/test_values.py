"""Values: fields, equality, hashes and changed copies, as of frozen dataclasses."""

from __future__ import annotations

from remora_server.core.model import ExternalRef, Subject
from remora_server.core.values import dataclass, replace


@dataclass(frozen=True, slots=True)
class _Single:
    """A value of one field."""

    name: str


def test_values_are_equal_and_hashed_by_their_fields() -> None:
    """Two values of the same fields are one key of a dictionary; one with another field is not."""
    held = {Subject("issue", "1", "ENG-1"): "here"}
    assert held[Subject(type="issue", id="1", key="ENG-1")] == "here"
    assert Subject("issue", "1", "ENG-2") not in held
    assert hash(ExternalRef("a", "b")) == hash(ExternalRef(source="a", id="b"))


def test_replace_changes_the_fields_that_it_names_and_leaves_the_value_as_it_was() -> None:
    """A copy has the changed fields and all others; the value itself keeps its own."""
    before = Subject("issue", "1", "ENG-1")
    assert replace(before, key="ENG-2", id="2") == Subject("issue", "2", "ENG-2")
    assert before == Subject("issue", "1", "ENG-1")
    assert replace(_Single("a"), name="b") == _Single("b")


def test_values_have_no_room_for_other_attributes() -> None:
    """A misspelt field is an error at run time too."""
    assert not hasattr(_Single("a"), "__dict__")

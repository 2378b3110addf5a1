"""Identifiers."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora_server.core import ids
from remora_server.core.errors import ValidationFailedError

GOOD = "att_01m7yggyheeq5rqe7req2vftaj"


def test_new_ids_sort_by_time() -> None:
    """Ids of one prefix come in the order in which they were made, and never twice."""
    made = [ids.new_id(ids.ATTACHMENT) for _ in range(2000)]
    assert made == sorted(set(made))
    assert all(one.startswith("att_") and len(one) == 30 for one in made)


@given(st.uuids())
def test_the_same_bits(uuid: UUID) -> None:
    """An id and a UUID are two spellings of 128 bits."""
    spelled = ids.from_uuid(ids.FILE, uuid)
    assert ids.to_uuid(spelled) == uuid
    assert ids.parse(ids.FILE, spelled, "id") == ids.parse(ids.FILE, str(uuid), "id") == spelled
    assert ids.parse(ids.FILE, str(uuid).upper(), "id") == ids.parse(ids.FILE, uuid.hex, "id") == spelled


@given(st.uuids())
def test_in_decimal(uuid: UUID) -> None:
    """The same bits as a number are a third spelling."""
    spelled = ids.from_uuid(ids.FILE, uuid)
    assert ids.to_decimal(spelled) == str(uuid.int)
    assert ids.from_decimal(ids.FILE, str(uuid.int), "id") == spelled


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "+1", " 1", "1.0", "01", "1_0", "\u0661", "\u00b2", str(2**128), "9" * 5000, GOOD]
)
def test_what_is_no_number(text: str) -> None:
    """Anything else is refused by the name of its field, however long it is."""
    with pytest.raises(ValidationFailedError) as refused:
        ids.from_decimal(ids.ATTACHMENT, text, "attachment_id")
    assert [one.field for one in refused.value.violations] == ["attachment_id"]


@pytest.mark.parametrize("number", [0, 1, 2**128 - 1])
def test_numbers_at_the_edges(number: int) -> None:
    """The least and the greatest number are ids."""
    assert ids.to_decimal(ids.from_decimal(ids.LINK, str(number), "id")) == str(number)


def test_another_prefix() -> None:
    """A ticket's bits may become an attachment's."""
    ticket = ids.new_id(ids.TICKET)
    respelled = ids.respelled(ids.ATTACHMENT, ticket)
    assert respelled.startswith("att_")
    assert ids.to_uuid(respelled) == ids.to_uuid(ticket)


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "att", "att_", "_", "att_1", GOOD.upper(), f"{GOOD}x", f"{GOOD} ", f" {GOOD}", GOOD.replace("0", "u"),
        "att_zzzzzzzzzzzzzzzzzzzzzzzzzz", "att__01m7yggyheeq5rqe7req2vftaj", "lnk_01m7yggyheeq5rqe7req2vftaj",
        "01m7yggyheeq5rqe7req2vftaj", "\0", f"{GOOD}\0", "att_é1m7yggyheeq5rqe7req2vftaj",
        "x" * 3000, "0190a0a0-0000-7000-8000-00000000000",
    ],
)  # fmt: skip
def test_what_is_no_id(text: str) -> None:
    """Anything else is refused by the name of its field."""
    with pytest.raises(ValidationFailedError) as refused:
        ids.parse(ids.ATTACHMENT, text, "attachment_id")
    assert [one.field for one in refused.value.violations] == ["attachment_id"]


@given(st.text(max_size=40))
def test_any_text(text: str) -> None:
    """Whatever is given becomes an id of the prefix, or is refused."""
    for given_text in (text, f"att_{text}"):
        try:
            parsed = ids.parse(ids.ATTACHMENT, given_text, "id")
        except ValidationFailedError:
            continue
        assert parsed.startswith("att_")
        assert len(parsed) == len(GOOD)

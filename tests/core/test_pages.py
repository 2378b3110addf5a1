"""Page tokens and cursors."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora_server.core.errors import PageTokenInvalidError, ValidationFailedError
from remora_server.core.pages import DEFAULT_PAGE_SIZE, LIFETIME, MAX_PAGE_SIZE, Pages, Span, Window, checked_size
from tests.core.world import SetClock

ALPHABET = string.ascii_letters + string.digits + "-_"
positions = st.lists(st.integers() | st.text(max_size=40), min_size=1, max_size=3).map(tuple)


@pytest.fixture
def clock() -> SetClock:
    """Make a clock."""
    return SetClock()


@pytest.fixture
def pages(clock: SetClock) -> Pages:
    """Make a sealer of tokens."""
    return Pages(b"secret", clock)


@given(positions, st.text())
def test_there_and_back(position: tuple[int | str, ...], belongs_to: str) -> None:
    """Any position comes back as it was sealed, in characters that a URL may carry."""
    pages = Pages(b"secret", SetClock())
    token = pages.token(belongs_to, position)
    assert pages.position(belongs_to, token) == position
    assert set(token) <= set(ALPHABET)


@pytest.mark.parametrize("position", [(1, "att_1"), (1, "att_12"), (1, "att_123")])
def test_any_altered_character(pages: Pages, position: tuple[int | str, ...]) -> None:
    """Every character counts, whatever it is changed to, and so does the length (P30)."""
    token = pages.token("list", position)
    for place, char in enumerate(token):
        for other in ALPHABET + "+/= é\0":
            if other != char:
                with pytest.raises(PageTokenInvalidError):
                    pages.position("list", token[:place] + other + token[place + 1 :])
    for wrong in ("", token[:-1], token[1:], f"{token}A", f"{token}=", f" {token}", token.swapcase(), "A" * 3000):
        with pytest.raises(PageTokenInvalidError):
            pages.position("list", wrong)


@given(st.text(max_size=100))
def test_any_text(text: str) -> None:
    """What was not sealed is refused."""
    with pytest.raises(PageTokenInvalidError):
        Pages(b"secret", SetClock()).position("list", text)


def test_expiry(pages: Pages, clock: SetClock) -> None:
    """A token lives for three days, a cursor of a log for ever."""
    token, cursor = pages.token("list", (1,)), pages.token("log", (1,), lifetime=None)
    clock.pass_by(LIFETIME - 1000)
    assert pages.position("list", token) == (1,)
    clock.pass_by(2000)
    with pytest.raises(PageTokenInvalidError):
        pages.position("list", token)
    clock.pass_by(1000 * LIFETIME)
    assert pages.position("log", cursor) == (1,)


def test_another_call_or_key(pages: Pages, clock: SetClock) -> None:
    """A token is good for the thing that it was made for, under the key that it was made with."""
    token = pages.token("list a", (1,))
    for belongs_to in ("list b", "list a\0", "", "list a[1]"):
        with pytest.raises(PageTokenInvalidError):
            pages.position(belongs_to, token)
    with pytest.raises(PageTokenInvalidError):
        Pages(b"other", clock).position("list a", token)
    assert Pages(b"secret", clock).position("list a", token) == (1,)


def test_the_refusal_names_what_was_wrong(pages: Pages) -> None:
    """A cursor is not called a page token."""
    with pytest.raises(PageTokenInvalidError, match="start_cursor"):
        pages.position("log", "x", "start_cursor")


def test_pages_of_a_listing(pages: Pages) -> None:
    """One more item is fetched than shown, to know whether there is a next page."""
    items = list(range(10))
    asked: list[int] = []

    def fetch(after: tuple[int | str, ...] | None, limit: int) -> list[int]:
        asked.append(limit)
        start = 0 if after is None else int(after[0]) + 1
        return items[start : start + limit]

    found: list[int] = []
    token = ""
    for size in (3, 3, 4):
        page = pages.page(("numbers",), size, token, fetch, lambda last: (last,))
        found += page.items
        token = page.next_page_token
    assert (found, token, asked) == (items, "", [4, 4, 5])
    token = pages.page(("numbers",), 3, "", fetch, lambda last: (last,)).next_page_token
    with pytest.raises(PageTokenInvalidError):
        pages.page(("others",), 3, token, fetch, lambda last: (last,))


def test_sizes() -> None:
    """Nothing asks for the default, too much is cut, less than nothing refused."""
    assert [checked_size(size) for size in (0, 1, MAX_PAGE_SIZE, MAX_PAGE_SIZE + 1, 2**31)] == [
        DEFAULT_PAGE_SIZE, 1, MAX_PAGE_SIZE, MAX_PAGE_SIZE, MAX_PAGE_SIZE,
    ]  # fmt: skip
    with pytest.raises(ValidationFailedError):
        checked_size(-1)


def listed(pages: Pages, span: Span, numbers: list[int]) -> Window[int]:
    """Make a window of numbers, which a store would list upwards."""
    start = pages.start(("numbers",), span)
    found = [
        number
        for number in (reversed(numbers) if span.from_end else numbers)
        if start is None or (number < start[0] if span.from_end else number > start[0])  # type: ignore[operator]
    ]
    return pages.window(("numbers",), span, found[: span.size + 1], lambda number: (number,))


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 8])
@pytest.mark.parametrize("count", [0, 1, 6, 7])
def test_windows_from_either_end(pages: Pages, size: int, count: int) -> None:
    """Whoever walks from one end to the other meets everything once, in the same order, and knows where it ends."""
    numbers = list(range(count))
    seen: list[int] = []
    window = listed(pages, Span(size), numbers)
    assert not window.has_previous
    while True:
        assert len(window.items) == len(window.cursors)
        seen += window.items
        if not window.has_next:
            break
        window = listed(pages, Span(size, after=window.cursors[-1]), numbers)
        assert window.has_previous
    assert seen == numbers
    back: list[int] = []
    window = listed(pages, Span(size, from_end=True), numbers)
    assert not window.has_next
    while True:
        back = [*window.items, *back]
        if not window.has_previous:
            break
        window = listed(pages, Span(size, before=window.cursors[0], from_end=True), numbers)
        assert window.has_next
    assert back == numbers


def test_a_cursor_of_another_listing(pages: Pages) -> None:
    """A cursor is good for the listing that it came with, and names itself when it is not."""
    cursor = listed(pages, Span(1), [1, 2]).cursors[0]
    for span in (Span(1, after=cursor), Span(1, before=cursor, from_end=True)):
        with pytest.raises(PageTokenInvalidError, match="before" if span.from_end else "after"):
            pages.start(("others",), span)

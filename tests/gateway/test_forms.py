"""Reading a multipart form as it comes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora_server.gateway.errors import HttpError, SignedUrlInvalidError
from remora_server.gateway.forms import OVERHEAD_BYTES, FileForm, Form, FormError

WANTED = (("a", "1"), ("b", "two"), ("file", "@file"))
TYPE = "multipart/form-data; boundary=xyz"
CONTENT = b"some\r\n--xy\r\n--xyzw\r\n content"
GOOD = (("a", b"1"), ("b", b"two"), ("file", CONTENT))


def body(parts: Sequence[tuple[str, bytes]], *, end: bytes = b"--xyz--\r\n") -> bytes:
    """Write a form."""
    return (
        b"".join(
            b'--xyz\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
            % (name.encode(), b'; filename="x"' if name == "file" else b"", value)
            for name, value in parts
        )
        + end
    )


def read(data: bytes, *, pieces: Sequence[int] = (), content_type: str = TYPE) -> bytes | None:
    """Read a form, cut at these places; None if it is not whole."""
    form = Form(content_type, WANTED)
    places = [0, *sorted(place % (len(data) + 1) for place in pieces), len(data)]
    content = b"".join(form.feed(data[start:end]) for start, end in pairwise(places))
    return content if form.is_complete else None


@given(pieces=st.lists(st.integers(0, 1000), max_size=20), content=st.binary(max_size=100))
def test_however_it_comes(pieces: list[int], content: bytes) -> None:
    """The file's bytes come out as they went in, wherever the form is cut."""
    assert read(body(GOOD), pieces=pieces) == CONTENT
    assert read(body((*GOOD[:2], ("file", content))), pieces=pieces) == content


def test_no_file() -> None:
    """An empty one is a file."""
    assert read(body((*GOOD[:2], ("file", b"")))) == b""


@pytest.mark.parametrize(
    "parts",
    [
        GOOD[1:],
        GOOD[:1] + GOOD[2:],
        (("a", b"2"), *GOOD[1:]),
        (("a", b""), *GOOD[1:]),
        (("a", b"1 "), *GOOD[1:]),
        (("A", b"1"), *GOOD[1:]),
        (GOOD[1], GOOD[0], GOOD[2]),
        (GOOD[0], *GOOD),
        (*GOOD[:2], ("c", b"3"), GOOD[2]),
        (GOOD[2], *GOOD[:2]),
        (*GOOD, ("c", b"3")),
        (*GOOD, GOOD[2]),
        (*GOOD[:2], ("File", CONTENT)),
        (("a", b"1" * 10_000), *GOOD[1:]),
        (("", b"1"), *GOOD[1:]),
    ],
    ids=range(15),
)
def test_other_fields(parts: Sequence[tuple[str, bytes]]) -> None:
    """A field that is missing, altered, new, doubled or in another place is refused (P32)."""
    with pytest.raises(SignedUrlInvalidError):
        read(body(parts))


@pytest.mark.parametrize("cut", range(0, len(body(GOOD)) - 4, 7))
def test_cut_off(cut: int) -> None:
    """A form that ends too early is not whole."""
    with suppress(HttpError):
        assert read(body(GOOD)[:cut]) is None


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "multipart/form-data", "multipart/form-data; boundary=", f"{TYPE}{'x' * 300}"]
)
def test_no_form(content_type: str) -> None:
    """Something else is told apart."""
    with pytest.raises(FormError):
        Form(content_type, WANTED)


@pytest.mark.parametrize("data", [b"no form at all", b"--abc\r\n\r\n", b"--xyz\r\nno header\r\n\r\n", b"\r\n" * 10])
def test_garbage(data: bytes) -> None:
    """It is no whole form, whatever it is."""
    with suppress(HttpError):
        assert read(data) is None


def test_too_much_beside_the_file() -> None:
    """A form can't be used to send more than its file."""
    form = Form(TYPE, WANTED)
    form.feed(body(GOOD))
    form.feed(b"x" * (OVERHEAD_BYTES - 1000))
    with pytest.raises(FormError):
        form.feed(b"x" * 1000)


@given(pieces=st.lists(st.integers(0, 1000), max_size=20), content=st.binary(max_size=100))
def test_one_file_wherever_it_is(pieces: list[int], content: bytes) -> None:
    """The one part with a file name is the file, whatever stands before and behind it, wherever the form is cut."""
    data = body((("a", b"1"), ("file", content), ("b", b"2")))
    form = FileForm(TYPE)
    places = [0, *sorted(place % (len(data) + 1) for place in pieces), len(data)]
    assert b"".join(form.feed(data[start:end]) for start, end in pairwise(places)) == content
    assert (form.filename, form.is_complete, form.has_ended) == ("x", True, True)


def test_files_that_are_not_one() -> None:
    """A second file is refused; without any, or without an end, a form is not whole; too much beside it is refused."""
    with pytest.raises(FormError):
        FileForm(TYPE).feed(body((("file", b"1"), ("file", b"2"))))
    for data in (body((("a", b"1"),)), body((("file", b"1"),), end=b"")):
        form = FileForm(TYPE)
        form.feed(data)
        assert not form.is_complete
    with pytest.raises(FormError):
        FileForm(TYPE).feed(body((("a", bytes(OVERHEAD_BYTES)), ("file", b"1"))))

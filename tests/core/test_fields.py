"""What fields may hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora_server.core import fields
from remora_server.core.errors import ValidationFailedError
from remora_server.core.fields import Check
from remora_server.core.model import Checksums, ExternalRef, FileSpec, Media, Metadata, Subject


def refused(call: Any, *args: Any, **kwargs: Any) -> list[str]:
    """Return the fields that a check finds fault with."""
    try:
        call(*args, **kwargs)
    except ValidationFailedError as refusal:
        return [one.field for one in refusal.violations]
    return []


def checked(check: Check) -> list[str]:
    """Return the fields that were noted."""
    return refused(check.done)


class TestCheck:
    """The collector of violations."""

    def test_all_of_them(self) -> None:
        """Everything that is wrong is told, under the prefix."""
        check = Check("a.")
        check.that(good=True, field="x", description="no")
        check.that(good=False, field="y", description="is bad")
        check.that(good="", field="z", description="is empty")
        assert checked(check) == ["a.y", "a.z"]
        with pytest.raises(ValidationFailedError, match=r"^a\.y: is bad; a\.z: is empty$"):
            check.done()

    @pytest.mark.parametrize("name", fields.MAX_CHARS)
    def test_texts(self, name: str) -> None:
        """A text has at most so many characters, whatever their bytes, and no NUL."""
        limit = fields.MAX_CHARS[name]
        for text, good in (("", True), ("ü" * limit, True), ("x" * (limit + 1), False), ("a\0", False)):
            check = Check()
            check.text("field", text, name)
            assert checked(check) == ([] if good else ["field"])

    def test_web_addresses(self) -> None:
        """What a page shows must be of the web."""
        for url, good in (
            ("", True),
            ("https://e.org/i.png", True),
            ("HTTP://e.org", True),
            ("javascript:alert(1)", False),
            ("//e.org", False),
            (" https://e.org", False),
            ("data:image/png;base64,x", False),
        ):
            check = Check()
            check.web_address("icon_url", url)
            assert checked(check) == ([] if good else ["icon_url"]), url


class TestMetadata:
    """Limits of metadata."""

    @pytest.mark.parametrize(
        ("metadata", "expected"),
        [
            ({}, []),
            ({"k" * 128: "x" * 4096}, []),
            ({f"{n}": n for n in range(50)}, []),
            ({f"{n}": n for n in range(51)}, ["m"]),
            ({"k" * 129: 1}, ["m"]),
            ({"ü" * 65: 1}, ["m"]),
            ({"": 1}, ["m"]),
            ({"\0": 1}, ["m"]),
            ({"a": "x" * 4097}, ["m.a"]),
            ({"a": "ü" * 2049}, ["m.a"]),
            ({"a": "\0"}, ["m.a"]),
            ({"a": float("nan")}, ["m.a"]),
            ({"a": float("inf")}, ["m.a"]),
            ({"a": -float("inf")}, ["m.a"]),
            ({"a": 2**63 - 1, "b": -(2**63), "c": 1e308, "d": -0.0}, []),
            ({"a": "x" * 4095, "b": "x" * 4095}, []),
            ({"a": "x" * 4095, "b": "x" * 4096}, ["m"]),
            ({"a": "x" * 4096, "b": "x" * 4087, "c": 1}, ["m"]),
        ],
    )
    def test_limits(self, metadata: Metadata, expected: list[str]) -> None:
        """Keys, values, their number and their sum; a number counts as eight bytes."""
        check = Check()
        check.metadata(metadata, "m")
        assert checked(check) == expected

    def test_merging(self) -> None:
        """A mask replaces all, or single keys, or removes those that are not given."""
        stored: Metadata = {"a": 1, "b": 2}
        for paths, given_values, merged in (
            ([], {"a": 9}, stored),
            (["metadata"], {"c": 3}, {"c": 3}),
            (["metadata.a"], {"a": 9, "b": 9}, {"a": 9, "b": 2}),
            (["metadata.a", "metadata.c"], {"c": 3}, {"b": 2, "c": 3}),
            (["metadata.x.y"], {"x.y": 1}, {"a": 1, "b": 2, "x.y": 1}),
            (["metadata", "metadata.a"], {}, {}),
            (["title"], {"a": 9}, stored),
        ):
            assert fields.merged_metadata(stored, given_values, paths, "m") == merged

    def test_merging_keeps_to_the_limits(self) -> None:
        """The limits hold for the result."""
        stored: Metadata = {f"{n}": n for n in range(50)}
        assert refused(fields.merged_metadata, stored, {"new": 1}, ["metadata.new"], "m") == ["m"]
        assert not refused(fields.merged_metadata, stored, {"new": 1}, ["metadata.new", "metadata.1"], "m")

    def test_the_same(self) -> None:
        """Types count, as on the wire; order does not."""
        assert fields.same_metadata({"a": 1, "b": "x"}, {"b": "x", "a": 1})
        assert not fields.same_metadata({"a": 1}, {"a": 1.0})
        assert not fields.same_metadata({"a": 1}, {"a": "1"})
        assert not fields.same_metadata({"a": 1}, {})


class TestNames:
    """File names."""

    @pytest.mark.parametrize(
        "name",
        ["", ".", "..", "a/b", "/a", "a\\b", "a\0", "a\n", "\r", "a\x85", "a\u2028", "a\u202e", "\u2066", "x" * 256,
         "ü" * 128, " a", "a ", "\u3000a", "NUL", "nul.txt", "Com9", "lpt1.x.y", "AUX.", "com\u00b2"],
    )  # fmt: skip
    def test_refused(self, name: str) -> None:
        """What would be dangerous as a path, in a header or on a screen (P34)."""
        check = Check()
        check.file_name(name)
        assert set(checked(check)) == {"name"}

    @pytest.mark.parametrize(
        "name", ["a", ".a", "a..b", "x" * 255, "ü" * 127, "CONN", "a b", "nul-a.txt", "-", "é😀.png"]
    )
    def test_taken(self, name: str) -> None:
        """What only looks odd."""
        check = Check()
        check.file_name(name)
        assert checked(check) == []


def test_content_types() -> None:
    """A media type with parameters, or nothing."""
    for text, good in {
        "": True, "image/png": True, "text/plain; charset=utf-8": True, "application/vnd.a+json": True,
        "image": False, "image/": False, "/png": False, "a/b/c": False, "a b/c": False, "text/plain\r\nX: y": False,
        "text/plain; charset=ü": False, "x/" + "y" * 300: False,
    }.items():  # fmt: skip
        check = Check()
        check.content_type(text)
        assert checked(check) == ([] if good else ["content_type"]), text


def test_digests() -> None:
    """Digests have their exact lengths; hex and base64 are told apart by that (P10)."""
    for checksums, expected in (
        (Checksums(0, bytes(16), bytes(32)), []),
        (Checksums(), []),
        (Checksums(md5=b"d41d8cd98f00b204e9800998ecf8427e"), ["c.md5"]),
        (Checksums(md5=bytes(15)), ["c.md5"]),
        (Checksums(sha256=bytes(33)), ["c.sha256"]),
        (Checksums(md5=bytes(17), sha256=bytes(16)), ["c.md5", "c.sha256"]),
    ):
        assert refused(fields.checksums, checksums, "c") == expected


def test_file_specs() -> None:
    """Everything of a spec is checked before a byte is taken."""
    good = FileSpec(
        "a.txt",
        0,
        "text/plain",
        Checksums(1, bytes(16), bytes(32)),
        Media(1, 2, "x", 3, 4, "python", "y"),
        {"a": 1},
        ExternalRef("a", "b"),
    )
    bad = FileSpec(
        "",
        -1,
        "x",
        Checksums(md5=b"x"),
        Media(-1, 2**31, "x" * 256, -1, -1, "x" * 256, "x" * 4097),
        {"": 1},
        ExternalRef("x" * 256, "\0"),
    )
    check = Check("spec.")
    check.file_spec(good)
    assert checked(check) == []
    check.file_spec(bad)
    names = [
        "name", "content_type", "size_bytes", "checksums.md5", "media.width", "media.height", "media.page_count",
        "media.duration_ms", "media.blur_hash", "media.code_language", "media.alt_text", "metadata",
        "external_ref.source", "external_ref.id",
    ]  # fmt: skip
    assert checked(check) == [f"spec.{name}" for name in names]


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (Subject("issue", key="ENG-1"), []),
        (Subject("my_kind2", id="ü"), []),
        (Subject("issue", key="x" * 255), []),
        (Subject("", key="x"), ["subject.type"]),
        (Subject("Issue", key="x"), ["subject.type"]),
        (Subject("2x", key="x"), ["subject.type"]),
        (Subject("x" * 64, key="x"), ["subject.type"]),
        (Subject("issue"), ["subject.key"]),
        (Subject("issue", key="x" * 256), ["subject.key"]),
        (Subject("issue", key="a\n"), ["subject.key"]),
        (Subject("issue", id=" a"), ["subject.id"]),
        (Subject("issue", id="\0", key="\u202e"), ["subject.id", "subject.key"]),
    ],
)
def test_subjects(subject: Subject, expected: list[str]) -> None:
    """A subject has a kind, and an id or a key that can be read."""
    for _ in range(2):  # The second time from memory.
        assert refused(fields.subject, subject) == expected


def test_request_ids() -> None:
    """Nothing, or a UUID of at most 36 ASCII characters."""
    good = "0190a0a0-0000-7000-8000-00000000abcd"
    for text in ("", good, good.upper(), good.replace("-", "")):
        assert not refused(fields.request_id, text)
    for text in ("x", good[:-1], f"{good}0", "é" * 36, f"{{{good}}}", "\0"):
        assert refused(fields.request_id, text) == ["request_id"]


def test_batches_and_filters() -> None:
    """A batch has one to a hundred items, a filter at most a hundred values."""
    assert refused(fields.batch, [], "requests") == refused(fields.batch, [0] * 101, "requests") == ["requests"]
    assert not refused(fields.batch, [0] * 100, "requests")
    assert not refused(fields.filters, types=[], kinds=[0] * 100)
    assert refused(fields.filters, types=[0] * 101, kinds=[0] * 101, states=[0]) == ["types", "kinds"]


class TestMasks:
    """Update masks."""

    allowed, output_only, populated = ("title", "metadata"), ("id", "etag"), ("title",)

    def mask(self, *paths: str) -> set[str]:
        """Read a mask."""
        return fields.mask(paths, self.allowed, self.output_only, self.populated)

    def test_paths(self) -> None:
        """What is named, all for `*`, what is populated without a mask, and nothing for output-only fields."""
        assert self.mask() == {"title"}
        assert self.mask("metadata", "id") == {"metadata"}
        assert self.mask("metadata.a.b") == {"metadata.a.b"}
        assert self.mask("*") == {"title", "metadata"}
        assert self.mask("id", "etag") == set()

    @pytest.mark.parametrize("path", ["", "titel", "metadata.", "Title", "title.x", "id.x", "**", "\0"])
    def test_unknown_ones(self, path: str) -> None:
        """An unknown path is refused."""
        assert refused(self.mask, "title", path) == ["update_mask"]

    def test_metadata_where_there_is_none(self) -> None:
        """A key of metadata is a path only where there is metadata."""
        assert refused(fields.mask, ["metadata.a"], ("title",), (), ()) == ["update_mask"]


@given(st.text(max_size=300))
def test_any_name(name: str) -> None:
    """Whatever passes has no separator, no control character and a length that file systems take."""
    check = Check()
    check.file_name(name)
    if not checked(check):
        assert 1 <= len(name.encode()) <= 255
        assert not {"/", "\\", "\0", "\n", "\r"} & set(name)

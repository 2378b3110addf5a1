"""What each field of a request may hold: one table of lengths, and the checks that need more than a length."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from uuid import UUID

from remora_server.core.errors import ValidationFailedError, Violation
from remora_server.core.model import NO_REF, Checksums, ExternalRef, FileSpec, Media, Metadata, Subject

MAX_CHARS: Mapping[str, int] = {
    "title": 1024,
    "description": 1024,
    "subtitle": 4096,
    "icon_url": 2048,
    "group_key": 255,
    "external_ref.source": 255,
    "external_ref.id": 255,
    "content_type": 255,
    "media.blur_hash": 255,
    "media.code_language": 255,
    "media.alt_text": 4096,
    "project_id": 255,
    "status.id": 255,
    "status.name": 255,
    "status.color": 255,
    "status.category": 255,
    "assignee": 2048,
}
MAX_NAME_BYTES = 255
MAX_KEY_CHARS = 255
METADATA_MAX_KEYS = 50
METADATA_MAX_KEY_BYTES = 128
METADATA_MAX_STRING_BYTES = 4096
METADATA_MAX_BYTES = 8192
MAX_BATCH = 100
MAX_REFERENCES = 50
INT64_MAX = 2**63 - 1
INT32_MAX = 2**31 - 1
REQUEST_ID_CHARS = 36

DIGEST_BYTES = {"md5": 16, "sha256": 32}
WEB = re.compile(r"https?://", re.IGNORECASE)
SUBJECT_TYPE = re.compile(r"[a-z][a-z0-9_]{0,62}")
CONTENT_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(?:[ \t]*;[\t -~]*)?")
# Names that Windows opens as devices, whatever their extension.
DEVICE_NAME = re.compile(r"(?:CON|PRN|AUX|NUL|COM[0-9¹²³]|LPT[0-9¹²³])(?:\..*)?", re.IGNORECASE)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Characters that reorder the text around them, so that `gpj.exe` reads `exe.jpg`.
BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Check:
    """Collects what is wrong with a request, so that the caller hears of all of it at once."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._violations: list[Violation] = []

    def that(self, good: object, field: str, description: str) -> None:
        """Note a violation of `field` unless `good`."""
        if not good:
            self._violations.append(Violation(self._prefix + field, description))

    def done(self) -> None:
        """Raise ValidationFailedError if anything was noted."""
        if self._violations:
            raise ValidationFailedError(self._violations)

    def text(self, field: str, value: str, rule: str = "") -> None:
        """Hold a text to the length that the table gives for its field."""
        limit = MAX_CHARS[rule or field]
        if len(value) > limit:
            self.that(good=False, field=field, description=f"has {len(value)} characters, at most {limit} are allowed")
        if "\0" in value:
            self.that(good=False, field=field, description="holds a NUL character; remove it")

    def metadata(self, metadata: Metadata, field: str = "metadata") -> None:
        """Hold metadata to its limits."""
        if len(metadata) > METADATA_MAX_KEYS:
            self.that(good=False, field=field, description=f"has more than {METADATA_MAX_KEYS} keys")
        total = 0
        for key, value in metadata.items():
            size = len(key.encode())
            if not 1 <= size <= METADATA_MAX_KEY_BYTES or "\0" in key:
                rule = f"has a key that is not 1 to {METADATA_MAX_KEY_BYTES} bytes long, or holds a NUL character"
                self.that(good=False, field=field, description=rule)
            if isinstance(value, str):
                length = len(value.encode())
                if length > METADATA_MAX_STRING_BYTES or "\0" in value:
                    rule = f"is longer than {METADATA_MAX_STRING_BYTES} bytes, or holds a NUL character"
                    self.that(good=False, field=f"{field}.{key[:METADATA_MAX_KEY_BYTES]}", description=rule)
                total += size + length
            else:
                if not math.isfinite(value):
                    name = f"{field}.{key[:METADATA_MAX_KEY_BYTES]}"
                    self.that(good=False, field=name, description="is not a finite number")
                total += size + 8
        if total > METADATA_MAX_BYTES:
            rule = f"has {total} bytes in all, at most {METADATA_MAX_BYTES} are allowed"
            self.that(good=False, field=field, description=rule)

    def external_ref(self, ref: ExternalRef, field: str = "external_ref") -> None:
        """Hold an external reference to its limits."""
        if ref is NO_REF:
            return
        self.text(f"{field}.source", ref.source, "external_ref.source")
        self.text(f"{field}.id", ref.id, "external_ref.id")

    def web_address(self, field: str, url: str) -> None:
        """Accept nothing, or what a page may show a picture from; a `javascript:` there would run."""
        self.text(field, url, "icon_url")
        self.that(not url or WEB.match(url), field, "must begin with http:// or https://")

    def checksums(self, checksums: Checksums, field: str) -> None:
        """Hold digests to their exact lengths."""
        for name, length in DIGEST_BYTES.items():
            digest: bytes = getattr(checksums, name)
            self.that(
                not digest or len(digest) == length,
                f"{field}.{name}",
                f"must be the {length} bytes of the digest itself, not {len(digest)}; don't send hex or base64 text",
            )

    def media(self, media: Media) -> None:
        """Hold what a caller says of a file's contents to its limits."""
        for field in ("width", "height", "page_count"):
            self.that(0 <= getattr(media, field) <= INT32_MAX, f"media.{field}", "must not be negative")
        self.that(media.duration_ms >= 0, "media.duration_ms", "must not be negative")
        for field in ("blur_hash", "code_language", "alt_text"):
            self.text(f"media.{field}", getattr(media, field))

    def file_name(self, name: str, field: str = "name") -> None:
        """Refuse names that would be dangerous as a path, in a header or on a screen."""
        size = len(name.encode())
        self.that(name, field, "is required")
        self.that(size <= MAX_NAME_BYTES, field, f"has {size} bytes, at most {MAX_NAME_BYTES} are allowed")
        self.that(
            "/" not in name and "\\" not in name, field, "holds a path separator; send the last part of the path alone"
        )
        self.that(name not in {".", ".."}, field, "is a directory's name")
        self.that(name.strip() == name, field, "begins or ends with a space")
        self.that(not CONTROL.search(name), field, "holds control characters")
        self.that(not BIDI_CONTROLS.intersection(name), field, "holds characters that reverse the direction of text")
        self.that(not DEVICE_NAME.fullmatch(name), field, "is the name of a device on Windows; choose another")

    def content_type(self, content_type: str, field: str = "content_type") -> None:
        """Accept nothing, or a media type."""
        self.text(field, content_type, "content_type")
        self.that(
            not content_type or CONTENT_TYPE.fullmatch(content_type), field, "is not a media type such as image/png"
        )

    def file_spec(self, spec: FileSpec) -> None:
        """Check everything that a caller says of a file, before any byte of it is taken."""
        self.file_name(spec.name)
        self.content_type(spec.content_type)
        self.that(spec.size_bytes is None or 0 <= spec.size_bytes <= INT64_MAX, "size_bytes", "must not be negative")
        self.checksums(spec.checksums, "checksums")
        self.media(spec.media)
        self.metadata(spec.metadata)
        self.external_ref(spec.external_ref)


@lru_cache(maxsize=8192)
def subject(subject: Subject) -> None:
    """Check the form of a subject; whether it exists is another question."""
    check = Check()
    is_type = SUBJECT_TYPE.fullmatch(subject.type)
    check.that(is_type, "subject.type", "is required: a lower-case word such as issue or comment")
    check.that(subject.id or subject.key, "subject.key", "is required unless subject.id is given")
    for field, value in (("subject.id", subject.id), ("subject.key", subject.key)):
        check.that(len(value) <= MAX_KEY_CHARS, field, f"has more than {MAX_KEY_CHARS} characters")
        check.that(
            value.isprintable() and value.strip() == value, field, "holds control characters, or spaces around it"
        )
    check.done()


def checksums(checksums: Checksums, field: str) -> None:
    """Refuse digests of another length than theirs."""
    check = Check()
    check.checksums(checksums, field)
    check.done()


def request_id(value: str) -> None:
    """Accept nothing, or the text of a UUID."""
    if not value:
        return
    check = Check()
    good = len(value) <= REQUEST_ID_CHARS and value.isascii()
    if good:
        try:
            UUID(value)
        except ValueError:
            good = False
    check.that(good, "request_id", "is not a UUID of at most 36 ASCII characters")
    check.done()


def batch(items: Collection[object], field: str) -> None:
    """Refuse empty and oversized batches."""
    check = Check()
    check.that(items, field, "is empty; send at least one item")
    check.that(len(items) <= MAX_BATCH, field, f"has {len(items)} items, at most {MAX_BATCH} are allowed")
    check.done()


def filters(**given: Collection[object]) -> None:
    """Refuse filters that list more values than one statement should compare."""
    check = Check()
    for field, wanted in given.items():
        check.that(len(wanted) <= MAX_BATCH, field, f"names more than {MAX_BATCH}")
    check.done()


def mask(
    paths: Collection[str], allowed: Collection[str], output_only: Collection[str], populated: Collection[str]
) -> set[str]:
    """Return the paths of an update mask that change something, without a mask those populated; raise for unknown ones.

    `metadata.KEY` addresses one key. Output-only fields may be named and are ignored, so that a mask made from a
    whole resource works. `*` stands for all allowed fields.
    """
    if not paths:
        return set(populated)
    wanted: set[str] = set()
    check = Check()
    for path in paths:
        if path == "*":
            wanted.update(allowed)
        elif path in allowed or (path.startswith("metadata.") and "metadata" in allowed and path != "metadata."):
            wanted.add(path)
        else:
            check.that(
                path in output_only, "update_mask", f"names {path[:100]!r}, which is not a field that can be changed"
            )
    check.done()
    return wanted


def merged_metadata(stored: Metadata, given: Metadata, paths: Collection[str], field: str) -> Metadata:
    """Return the metadata after an update: replaced whole, or only in the keys that the mask addresses.

    The limits hold for the result, or else it would grow key by key without end.
    """
    if "metadata" in paths:
        return given
    keys = [path.removeprefix("metadata.") for path in paths if path.startswith("metadata.")]
    if not keys:
        return stored
    result = dict(stored)
    for name in keys:
        if name in given:
            result[name] = given[name]
        else:
            result.pop(name, None)
    check = Check()
    check.metadata(result, field)
    check.done()
    return result


def same_metadata(one: Metadata, other: Metadata) -> bool:
    """Compare metadata by value and type, so that 1 and 1.0 differ as they do on the wire."""
    return one == other and all(type(value) is type(other[key]) for key, value in one.items())

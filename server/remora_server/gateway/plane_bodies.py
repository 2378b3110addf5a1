"""What Plane's clients send in JSON: files that they announce, links; and refusals of it in Plane's own words."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remora_server.core import errors
from remora_server.core.model import ExternalRef, FileSpec
from remora_server.gateway.errors import HttpError

BAD_REQUEST = {"error": "Invalid request.", "status": False}
BAD_TYPE = {"error": "Invalid file type.", "status": False}
BAD_SCHEME = {"url": ["Invalid URL scheme."]}
OTHER_SCHEME = re.compile(r"(?!https?:)[a-z][a-z0-9+.-]*://", re.IGNORECASE)

# What core calls what clients send, where the last part of that is not its name.
FIELD_NAMES = {
    "spec.content_type": "type",
    "spec.external_ref.id": "external_id",
    "spec.external_ref.source": "external_source",
}
MAX_TITLE_CHARS = 255


class PlaneError(HttpError):
    """A refusal in Plane's own words."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class Uploads:
    """What may be uploaded: more bytes than these are cut from what is declared, no types mean all."""

    max_bytes: int
    types: frozenset[str]


def announced(given: Mapping[str, Any], uploads: Uploads) -> FileSpec:
    """Return the file that an upload will bring."""
    name, size = _file_name(given.get("name")), given.get("size")
    if not name or isinstance(size, bool) or not isinstance(size, int | float) or not 1 <= size < 2**63:
        raise PlaneError(400, BAD_REQUEST)
    kind = given.get("type")
    if not isinstance(kind, str) or not kind or (uploads.types and kind not in uploads.types):
        raise PlaneError(400, BAD_TYPE)
    reference = ExternalRef(maybe_text(given, "external_source"), maybe_text(given, "external_id"))
    return FileSpec(name, min(int(size), uploads.max_bytes), kind, external_ref=reference)


def maybe_text(given: Mapping[str, Any], name: str) -> str:
    """Return a text, which may be left out or null."""
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise errors.invalid(name, "Not a valid string.")
    return value or ""


def link_url(given: Mapping[str, Any]) -> str:
    """Return the URL of a link, as far as it can be told here that it is one."""
    value = maybe_text(given, "url")
    if not value:
        raise errors.invalid("url", "This field is required.")
    if OTHER_SCHEME.match(value):
        raise PlaneError(400, BAD_SCHEME)
    return value


def link_title(given: Mapping[str, Any]) -> str:
    """Return the title of a link, which is shorter than core would allow."""
    title = maybe_text(given, "title")
    if len(title) > MAX_TITLE_CHARS:
        raise errors.invalid("title", f"Ensure this field has no more than {MAX_TITLE_CHARS} characters.")
    return title


def told_of(problem: errors.ValidationFailedError) -> Mapping[str, Any]:
    """Return what is told of fields that can't be accepted."""
    told = {FIELD_NAMES.get(one.field, one.field.rpartition(".")[2]): [one.description] for one in problem.violations}
    return {"detail": problem.message} if "body" in told else told


def _file_name(given: object) -> str:
    """Return the last part of what may be a path, without what makes a name dangerous."""
    if not isinstance(given, str):
        return ""
    name = posixpath.basename(given.replace("\0", "").replace("\\", "/"))
    return name.replace("..", "").strip().lstrip(".")

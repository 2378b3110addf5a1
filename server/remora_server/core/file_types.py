"""What sort of thing a file is, from its media type and name."""

from __future__ import annotations

import mimetypes

UNKNOWN = "application/octet-stream"
DOCUMENT_TYPES = (
    "application/pdf", "application/rtf", "application/msword", "application/epub", "application/vnd.ms-",
    "application/vnd.oasis.opendocument", "application/vnd.openxmlformats", "text/",
)  # fmt: skip
ARCHIVE_TYPES = frozenset(
    {
        "application/zip",
        "application/gzip",
        "application/x-gzip",
        "application/x-tar",
        "application/x-bzip2",
        "application/x-xz",
        "application/zstd",
        "application/x-7z-compressed",
        "application/vnd.rar",
        "application/x-rar-compressed",
        "application/java-archive",
    }
)
CODE_TYPES = frozenset(
    {
        "application/json",
        "application/xml",
        "application/javascript",
        "application/x-sh",
        "application/sql",
        "application/toml",
        "application/yaml",
        "application/x-yaml",
        "text/x-python",
        "text/x-c",
        "text/x-java",
        "text/javascript",
        "text/css",
        "text/html",
        "text/xml",
        "text/x-script.python",
        "text/x-sh",
        "text/rust",
        "text/x-go",
    }
)
# mimetypes knows compressed files by their encoding only.
ENCODINGS = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
}
# One table for every machine: the system's own would make one name two types on two servers.
KNOWN = mimetypes.MimeTypes(filenames=())


def content_type_of(name: str, declared: str) -> str:
    """Return the declared media type, or one guessed from the name."""
    if declared:
        return declared
    guessed, encoding = KNOWN.guess_type(name, strict=False)
    return ENCODINGS.get(encoding, UNKNOWN) if encoding else guessed or UNKNOWN


def type_of(content_type: str) -> str:
    """Return the FileType of a media type."""
    bare = content_type.partition(";")[0].strip().lower()
    major = bare.partition("/")[0]
    if major in {"image", "video", "audio"}:
        return major.upper()
    if bare in CODE_TYPES:
        return "CODE"
    if bare in ARCHIVE_TYPES:
        return "ARCHIVE"
    return "DOCUMENT" if bare.startswith(DOCUMENT_TYPES) else "OTHER"

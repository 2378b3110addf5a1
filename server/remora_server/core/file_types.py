"""What sort of thing a file is: its media type from what is declared, its name and its content, and its broad kind."""

from __future__ import annotations

import mimetypes

from remora_server.core import sniffing

UNKNOWN = "application/octet-stream"
DOCUMENT_TYPES = (
    "application/pdf", "application/rtf", "application/msword", "application/epub", "application/vnd.ms-",
    "application/vnd.oasis.opendocument", "application/vnd.openxmlformats", "text/",
)  # fmt: skip
PROSE = frozenset({"markdown", "restructuredtext", "tex"})
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
# Which types Python knows depends on its version; these it should know in all.
for _ending, _type in {
    ".avif": "image/avif",
    ".gz": "application/gzip",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".md": "text/markdown",
    ".mkv": "video/x-matroska",
    ".toml": "application/toml",
    ".wasm": "application/wasm",
    ".webp": "image/webp",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}.items():
    KNOWN.add_type(_type, _ending)
# Names of one thing, each with the one that is meant.
ALIASES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/x-ms-bmp": "image/bmp",
    "image/x-bmp": "image/bmp",
    "image/heif": "image/heic",
    "image/heic-sequence": "image/heic",
    "image/heif-sequence": "image/heic",
    "application/x-pdf": "application/pdf",
    "audio/mp3": "audio/mpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/x-flac": "audio/flac",
    "video/avi": "video/x-msvideo",
}
# Names that one and the same content may well have.
FAMILIES = (
    frozenset({"video/mp4", "video/quicktime", "audio/mp4"}),
    frozenset({"video/webm", "video/x-matroska"}),
    frozenset({"application/pdf", "application/postscript"}),
)
# What is declared to be one of these, and is not, is corrected: the claim can be checked. Other names are their
# owners' own business, such as that of a format which is built on another.
CHECKED = frozenset(
    {"video/webm", "image/bmp", *sniffing.RIFF.values(), *sniffing.BRANDS.values()}
    | {kind for _, kind in sniffing.MAGIC}
)


def content_type_of(name: str, declared: str, detected: str = "") -> str:
    """Return the declared media type, or one guessed from the name; if the content plainly is another, that one."""
    wanted = declared or _guessed(name)
    if not detected:
        return wanted
    bare = _bare(wanted)
    return detected if bare in {UNKNOWN, "binary/octet-stream"} or not _fits(bare, detected) else wanted


def _guessed(name: str) -> str:
    guessed, encoding = KNOWN.guess_type(name, strict=False)
    return ENCODINGS.get(encoding, UNKNOWN) if encoding else guessed or UNKNOWN


def _fits(bare: str, detected: str) -> bool:
    """Tell whether content that was found to be one type may be called another."""
    named, found = ALIASES.get(bare, bare), ALIASES.get(detected, detected)
    if named == found or named not in CHECKED:
        return True
    if sniffing.is_text(detected):
        # Text proves little: a few bytes of anything may be text. A page that runs where a picture should be does.
        return detected not in {sniffing.HTML, sniffing.SVG}
    return any({named, found} <= family for family in FAMILIES)


def type_of(content_type: str, code_language: str = "") -> str:
    """Return the FileType of a media type; text with a language of its own is code."""
    bare = _bare(content_type)
    major = bare.partition("/")[0]
    if major in {"image", "video", "audio"}:
        return major.upper()
    if bare in CODE_TYPES or (code_language and code_language not in PROSE):
        return "CODE"
    if bare in ARCHIVE_TYPES:
        return "ARCHIVE"
    return "DOCUMENT" if bare.startswith(DOCUMENT_TYPES) else "OTHER"


def _bare(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()

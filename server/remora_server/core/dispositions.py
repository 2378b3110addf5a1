"""How a download presents itself: the Content-Disposition header, and what may be shown in a browser at all."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from urllib.parse import quote

ATTACHMENT, INLINE = "attachment", "inline"
HEAD_BYTES = 64
# What stands unescaped in `filename*` (attr-char of RFC 8187), beyond letters and digits.
UNESCAPED = "!#$&+-.^_`|~"


def header(kind: str, name: str) -> str:
    """Return the value of Content-Disposition for a file of this name, as RFC 6266 wants it.

    Every program reads `filename*`; `filename` is for those of old, so it is plain ASCII without anything that they
    would read in their own way: quotes, backslashes and percent signs.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = "".join("_" if char in '"\\%;' or not char.isprintable() else char for char in plain).strip()
    if not plain.partition(".")[0]:
        plain = f"file{plain}"
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe=UNESCAPED)}"


def _riff(form: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[:4] == b"RIFF" and head[8:12] == form


def _starts(*beginnings: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(beginnings)


def _boxes(*brands: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[4:8] == b"ftyp" and head[8:12] in brands


# What a browser shows without running anything of the file's own, and how its bytes begin. Text, HTML, SVG and XML are
# not among them on purpose.
SHOWABLE: Mapping[str, Callable[[bytes], bool]] = {
    "image/png": _starts(b"\x89PNG\r\n\x1a\n"),
    "image/jpeg": _starts(b"\xff\xd8\xff"),
    "image/gif": _starts(b"GIF87a", b"GIF89a"),
    "image/webp": _riff(b"WEBP"),
    "image/avif": _boxes(b"avif", b"avis"),
    "application/pdf": _starts(b"%PDF-"),
    "video/mp4": _boxes(b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"dash", b"M4V "),
    "video/webm": _starts(b"\x1aE\xdf\xa3"),
    "audio/mpeg": _starts(b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"),
    "audio/wav": _riff(b"WAVE"),
    "audio/ogg": _starts(b"OggS"),
}


def may_show(content_type: str, head: bytes) -> bool:
    """Tell whether a file that says it is `content_type`, and begins with `head`, may be shown inline."""
    test = SHOWABLE.get(_bare(content_type))
    return test is not None and test(head)


def is_showable_type(content_type: str) -> bool:
    """Tell whether files of a type may be shown inline, if they are what they say."""
    return _bare(content_type) in SHOWABLE


def _bare(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()

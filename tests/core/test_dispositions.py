"""How a download presents itself."""

from __future__ import annotations

import re
from email.message import EmailMessage
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora_server.core import dispositions
from remora_server.core.dispositions import SHOWABLE, may_show

HEADER = re.compile(r"(attachment|inline); filename=\"([^\"\\%;]+)\"; filename\*=UTF-8''([A-Za-z0-9!#$&+.^_`|~%-]+)")
BEGINNINGS = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff\xe0",
    "image/gif": b"GIF89a",
    "image/webp": b"RIFF\0\0\0\0WEBP",
    "image/avif": b"\0\0\0\x1cftypavif",
    "application/pdf": b"%PDF-1.7",
    "video/mp4": b"\0\0\0\x20ftypisom",
    "video/webm": b"\x1aE\xdf\xa3",
    "audio/mpeg": b"ID3\x04",
    "audio/wav": b"RIFF\0\0\0\0WAVE",
    "audio/ogg": b"OggS",
}


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("a.txt", "a.txt"),
        ('say "hi".txt', "say _hi_.txt"),
        ("naïve résumé.pdf", "naive resume.pdf"),
        ("日本.png", "file.png"),
        ("100%;x=y.txt", "100__x=y.txt"),
        ("a\\b", "a_b"),
    ],
)
def test_a_name(name: str, plain: str) -> None:
    """Old programs get plain ASCII, all others the name as it is (P35)."""
    found = HEADER.fullmatch(dispositions.header("attachment", name))
    assert found is not None
    assert (found[2], unquote(found[3])) == (plain, name)


@given(st.text(min_size=1).filter(lambda name: not any("\ud800" <= char <= "\udfff" for char in name)))
def test_any_name(name: str) -> None:
    """Whatever the name, the header is one line of ASCII that standard programs read back, and adds none (P35)."""
    header = dispositions.header("inline", name)
    assert header.isascii()
    assert header.isprintable()
    found = HEADER.fullmatch(header)
    assert found is not None
    assert unquote(found[3]) == name
    message = EmailMessage()
    message["Content-Disposition"] = header
    assert message.get_content_disposition() == "inline"


def test_what_may_be_shown() -> None:
    """Each type of the list is shown if its bytes begin like one, and like no other of them (P36)."""
    assert set(BEGINNINGS) == set(SHOWABLE)
    for content_type in SHOWABLE:
        fitting = {other for other, beginning in BEGINNINGS.items() if may_show(content_type, beginning)}
        assert fitting == {content_type}
        assert not may_show(content_type, b"")
    assert may_show("Image/PNG; charset=x", BEGINNINGS["image/png"])


@pytest.mark.parametrize("content_type", ["text/html", "image/svg+xml", "text/xml", "text/plain", "", "a/b"])
def test_what_may_not(content_type: str) -> None:
    """What could run is never shown, whatever its bytes are (P36)."""
    assert not dispositions.is_showable_type(content_type)
    assert not any(may_show(content_type, beginning) for beginning in BEGINNINGS.values())

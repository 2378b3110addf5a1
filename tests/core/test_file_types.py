"""What sort of thing a file is."""

from __future__ import annotations

import pytest

from remora_server.core.file_types import content_type_of, type_of


@pytest.mark.parametrize(
    ("name", "declared", "expected"),
    [
        ("a.png", "", "image/png"),
        ("a.PNG", "", "image/png"),
        ("a.png", "text/plain", "text/plain"),
        ("a.tar.gz", "", "application/gzip"),
        ("a.tar.xz", "", "application/x-xz"),
        ("a.Z", "", "application/x-compress"),
        ("a.br", "", "application/octet-stream"),
        ("a", "", "application/octet-stream"),
        ("", "", "application/octet-stream"),
        (".png", "", "application/octet-stream"),
    ],
)
def test_content_types(name: str, declared: str, expected: str) -> None:
    """What was declared stands; otherwise the name tells, the same on every machine."""
    assert content_type_of(name, declared) == expected


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("image/png", "IMAGE"), ("IMAGE/PNG", "IMAGE"), ("video/mp4", "VIDEO"), ("audio/mpeg", "AUDIO"),
        ("application/pdf", "DOCUMENT"), ("text/plain; charset=utf-8", "DOCUMENT"),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "DOCUMENT"),
        ("text/x-python", "CODE"), ("application/json;x=y", "CODE"), ("text/html", "CODE"),
        ("application/zip", "ARCHIVE"), ("application/octet-stream", "OTHER"), ("", "OTHER"), ("x/y", "OTHER"),
    ],
)  # fmt: skip
def test_types(content_type: str, expected: str) -> None:
    """The broad kind follows from the media type, whatever its parameters and case."""
    assert type_of(content_type) == expected

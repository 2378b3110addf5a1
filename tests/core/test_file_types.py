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
    ("name", "declared", "detected", "expected"),
    [
        ("a", "", "image/png", "image/png"),
        ("a.dat", "application/octet-stream", "image/png", "image/png"),
        ("a.png", "", "image/jpeg", "image/jpeg"),
        ("a.png", "image/png", "image/jpeg", "image/jpeg"),
        ("a.png", "IMAGE/PNG; x=y", "image/png", "IMAGE/PNG; x=y"),
        ("a.jpg", "image/jpg", "image/jpeg", "image/jpg"),
        ("a.heic", "image/heif", "image/heic", "image/heif"),
        ("a.mov", "video/quicktime", "video/mp4", "video/quicktime"),
        ("a.mkv", "", "video/webm", "video/x-matroska"),
        ("a.docx", "application/msword", "application/zip", "application/msword"),
        ("a.zip", "application/zip", "application/gzip", "application/zip"),
        ("a.gz", "application/gzip", "application/zip", "application/zip"),
        ("a.apng", "image/apng", "image/png", "image/apng"),
        ("a.html", "text/html", "image/png", "text/html"),
        ("a.png", "image/png", "text/plain", "image/png"),
        ("a.png", "image/png", "text/html", "text/html"),
        ("a.png", "image/png", "image/svg+xml", "image/svg+xml"),
        ("a.png", "image/png", "", "image/png"),
        ("a", "", "text/plain", "text/plain"),
        ("a.json", "", "text/plain", "application/json"),
        ("README.md", "", "text/plain", "text/markdown"),
    ],
)
def test_corrections(name: str, declared: str, detected: str, expected: str) -> None:
    """A claim that can be checked and is wrong is corrected, and no claim is filled in; all else stands."""
    assert content_type_of(name, declared, detected) == expected


def test_code() -> None:
    """A text with a language of its own is code; prose with marks is not."""
    assert type_of("text/plain", "go") == "CODE"
    assert type_of("text/markdown", "markdown") == "DOCUMENT"
    assert type_of("image/svg+xml", "xml") == "IMAGE"


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

"""What content is, told from its first bytes."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile

import pytest

from remora_server.core.sniffing import HEAD_BYTES, is_text, sniff, text_encoding


def box(major: bytes, *compatible: bytes) -> bytes:
    """Begin a file of the ISO base media family."""
    brands = b"".join(compatible)
    return (16 + len(brands)).to_bytes(4) + b"ftyp" + major + bytes(4) + brands + b"rest" * 9


def zipped(*names: str, first: bytes = b"") -> bytes:
    """Make a zip file with entries of these names."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            archive.writestr(name, first or b"x")
    return made.getvalue()


def tarred() -> bytes:
    """Make a tar file."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return made.getvalue()


WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
ODT = "application/vnd.oasis.opendocument.text"
SHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


# fmt: off
CASES = [
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff\xe0", "image/jpeg"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"RIFF....WEBPVP8 ", "image/webp"),
    (b"RIFF....WAVEfmt ", "audio/wav"),
    (b"RIFF....AVI LIST", "video/x-msvideo"),
    (b"RIFF\0\0\0\0what", ""),
    (b"BM" + bytes(4) + bytes(4) + b"\x36\0\0\0\x28\0\0\0", "image/bmp"),
    (b"BM is a text", "text/plain"),
    (box(b"avif", b"mif1"), "image/avif"),
    (box(b"heic", b"mif1", b"heic"), "image/heic"),
    (box(b"mif1", b"mif1", b"heic"), "image/heic"),
    (box(b"mif1", b"mif1", b"avif"), "image/avif"),
    (box(b"mif1"), "image/heif"),
    (box(b"qt  "), "video/quicktime"),
    (box(b"isom", b"mp41"), "video/mp4"),
    (box(b"M4A "), "audio/mp4"),
    (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", "video/webm"),
    (b"\x1aE\xdf\xa3\xa3B\x82\x88matroska", "video/x-matroska"),
    (b"ID3\x04", "audio/mpeg"),
    (b"\xff\xfb\x90\x00", "audio/mpeg"),
    (b"\xff\xfb\xf0\x00", ""),
    (b"fLaC", "audio/flac"),
    (b"OggS\0\2", "audio/ogg"),
    (b"BZh91AY&SY\x00", "application/x-bzip2"),
    (b"OTTO\0\x0b", "font/otf"),
    (b"wOFF\0\1\0\0", "font/woff"),
    (b"OTTO wrote a text", "text/plain"),
    (b"ID3 is a tag", "text/plain"),
    (b"BZhang, 2024", "text/plain"),
    (b"OggS is a word", "text/plain"),
    (b"wOFF is another", "text/plain"),
    (b"%PDF-1.7", "application/pdf"),
    (gzip.compress(b"x"), "application/gzip"),
    (tarred(), "application/x-tar"),
    (zipped("a.txt"), "application/zip"),
    (zipped("[Content_Types].xml", "_rels/.rels", "word/document.xml"), WORD),
    (zipped("[Content_Types].xml", "xl/workbook.xml"), SHEET),
    (zipped("[Content_Types].xml", "other"), "application/zip"),
    (zipped("mimetype", first=b"application/epub+zip"), "application/epub+zip"),
    (zipped("mimetype", first=ODT.encode()), ODT),
    (zipped("mimetype", first=b"<script>"), "application/zip"),
    (zipped("mimetype", first=b"text/html"), "application/zip"),
    (zipped("mimetype", first=b"image/jpeg"), "application/zip"),
    (b"\x7fELF\x02", "application/x-executable"),
    (b"hello", "text/plain"),
    (b"caf\xc3\xa9\tau\r\nlait\x1b[0m", "text/plain"),
    (b"\xef\xbb\xbfhello", "text/plain"),
    ("hello".encode("utf-16"), "text/plain"),
    (b'{"a": 1}', "text/plain"),
    (b"a < b", "text/plain"),
    (b"<!DOCTYPE html><p>", "text/html"),
    (b"\n <!-- x --> <HTML>", "text/html"),
    (b"<script>alert(1)</script>", "text/html"),
    (b"<?xml version='1.0'?><a/>", "application/xml"),
    (b"\xef\xbb\xbf<?xml version='1.0'?><a/>", "application/xml"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
    (b"<?xml version='1.0'?><!-- a --><svg:svg/>", "image/svg+xml"),
    (b"<!DOCTYPE svg PUBLIC 'a' 'b'>\n<!-- b -->\n<svg/>", "image/svg+xml"),
    (b"", ""),
    (b"a\0b", ""),
    (b"\x80\x81\x82", ""),
    (bytes(range(256)), ""),
]
# fmt: on


# Some of these hold the time at which they are made, which must not name a test.
@pytest.mark.parametrize(("head", "found"), CASES, ids=[f"{place}-{found}" for place, (_, found) in enumerate(CASES)])
def test_types(head: bytes, found: str) -> None:
    """The first bytes tell the type, or nothing."""
    assert sniff(head) == found
    assert is_text(found) == found.startswith(("text/", "application/xml", "image/svg"))


def test_a_character_cut_in_two() -> None:
    """A long text is one, also where its head ends within a character; one that is broken inside is none."""
    assert sniff(b"x" * (HEAD_BYTES - 1) + "é".encode()[:1]) == "text/plain"
    assert sniff(b"x" * 10 + "é".encode()[:1] + b"x") == ""


@pytest.mark.parametrize(
    "head",
    [b"<!--" * 1024, b"<!---->" * 580, b"<!doctype svg>" + b"<!---->" * 580, b"<?" + b" " * 4000, b" " * 4095 + b"<"],
)
def test_hostile_texts(head: bytes) -> None:
    """Comments without end or number are read once, not again and again."""
    assert sniff(head) == "text/plain"


def test_encodings() -> None:
    """A mark at the beginning tells the encoding; without one it is UTF-8."""
    assert text_encoding("a".encode("utf-16")) == "utf-16"
    assert text_encoding(b"\xef\xbb\xbfa") == "utf-8-sig"
    assert text_encoding(b"a") == "utf-8"

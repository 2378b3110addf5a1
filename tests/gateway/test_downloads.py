"""Downloads from signed URLs of this server: ranges, conditions, headers, and bytes that are not what they were."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pytest

from remora.v1 import attachment_service_pb2, file_pb2
from remora.v1 import file_service_pb2 as files_pb
from tests.combinations import own_urls
from tests.running import Api, RunningServer, issue, until
from tests.ticketing import PUT, Reply, ask, curl, download_url, http_ticket, make_file, send
from tests.uploading import KIB, MIB, spec_of, upload

pytestmark = own_urls
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
DISPOSITION = re.compile(r"(attachment|inline); filename=\"([ -~]+)\"; filename\*=UTF-8''([!-~]+)")


def store(api: Api, data: bytes, *, name: str = "a.bin", content_type: str = "", attach_to: str = "") -> file_pb2.File:
    """Upload a file of any size."""
    spec = spec_of(name)
    spec.content_type = content_type
    return upload(api, data, spec=spec, attach_to=attach_to).file


@pytest.fixture(scope="module")
def large(server: RunningServer) -> tuple[str, bytes, str]:
    """Store a file that takes several pieces to read; return its URL, its bytes and its etag."""
    data = os.urandom(2 * MIB + 77)
    api = server.api()
    file = store(api, data)
    url = download_url(api, file.id)
    api.channel.close()
    return url, data, file.content_etag


@pytest.mark.parametrize(
    ("header", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        (f"bytes={MIB - 1}-{MIB}", MIB - 1, MIB + 1),
        (f"bytes={MIB}-", MIB, 2 * MIB + 77),
        ("bytes=-77", 2 * MIB, 2 * MIB + 77),
        ("bytes=0-", 0, 2 * MIB + 77),
        ("bytes=5-99999999999", 5, 2 * MIB + 77),
    ],
)
def test_a_range(large: tuple[str, bytes, str], header: str, first: int, end: int) -> None:
    """Exactly the bytes that are asked for come, and are named."""
    url, data, etag = large
    reply = ask("GET", url, {"Range": header})
    assert (reply.status, reply.body) == (206, data[first:end])
    assert reply.headers["content-range"] == f"bytes {first}-{end - 1}/{len(data)}"
    assert reply.headers["content-length"] == str(end - first)
    assert reply.headers["etag"] == etag
    head = ask("HEAD", url, {"Range": header})
    assert (head.status, head.body) == (206, b"")
    assert {**head.headers, "date": ""} == {**reply.headers, "date": ""}


@pytest.mark.parametrize("header", ["", "bytes=1-5", f"bytes=7-{MIB + 7}"])
def test_a_request_that_brings_a_body(large: tuple[str, bytes, str], header: str) -> None:
    """It is answered in full: what nobody has asked for is thrown away."""
    url, data, _ = large
    reply = ask("GET", url, {"Range": header} if header else {}, b"{" * 100)
    first, last = (int(one) for one in header.partition("=")[2].split("-")) if header else (0, len(data))
    assert (reply.status, reply.body) == (206, data[first : last + 1]) if header else (200, data)


@pytest.mark.parametrize(
    "header", ["bytes=0-0,5-6", "bytes=" + ",".join(["0-1048576"] * 1000), "lines=1-2", "bytes=9-3", "bytes=x-"]
)
def test_ranges_that_are_not_one(large: tuple[str, bytes, str], header: str) -> None:
    """They never cost more than one full read: that is what is answered (P42)."""
    url, data, _ = large
    reply = ask("GET", url, {"Range": header})
    assert (reply.status, reply.body) == (200, data)
    assert "content-range" not in reply.headers


def test_a_range_outside(large: tuple[str, bytes, str]) -> None:
    """It is told apart, with the size."""
    url, data, _ = large
    for header in (f"bytes={len(data)}-", "bytes=-0"):
        reply = ask("GET", url, {"Range": header})
        assert reply.refusal == (416, "READ_OFFSET_TOO_LARGE")
        assert reply.headers["content-range"] == f"bytes */{len(data)}"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": "{etag}"}, 304),
        ({"If-None-Match": '"x", {etag}'}, 304),
        ({"If-None-Match": "W/{etag}"}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"x"'}, 200),
        ({"If-Range": "{etag}", "Range": "bytes=0-0"}, 206),
        ({"If-Range": '"x"', "Range": "bytes=0-0"}, 200),
        ({"If-Range": "W/{etag}", "Range": "bytes=0-0"}, 200),
        ({"If-Range": "Sat, 21 Nov 2026 11:17:08 GMT", "Range": "bytes=0-0"}, 200),
        ({"If-None-Match": "{etag}", "Range": "bytes=0-0"}, 304),
    ],
)
def test_conditions(large: tuple[str, bytes, str], headers: Mapping[str, str], status: int) -> None:
    """A reader who has the bytes gets none; one who goes on gets the rest only if they are still the same."""
    url, data, etag = large
    reply = ask("GET", url, {name: value.replace("{etag}", etag) for name, value in headers.items()})
    assert reply.status == status
    assert reply.body == {304: b"", 206: data[:1], 200: data}[status]
    assert reply.headers["etag"] == etag
    assert reply.headers["cache-control"] == "private, no-cache"


def test_curl_resumes(large: tuple[str, bytes, str], tmp_path: Path) -> None:
    """`curl -C -` goes on where a file on disk ends."""
    url, data, _ = large
    partial = tmp_path / "partial"
    partial.write_bytes(data[:MIB])
    assert curl(url, "-C", "-", output=partial).status == 206
    assert partial.read_bytes() == data


@pytest.mark.parametrize(
    "name",
    [
        "plain.txt",
        'quo"te.txt',
        "semi;colon=x.txt",
        "per%20cent%.txt",
        "новый файл.pdf",
        "日本語",
        "emoji 😀.png",
        "'single'.txt",
        "comma, and.txt",
        "a" * 255,
        "é" * 127,
        ".hidden",
        "filename*=UTF-8''x.txt",
        "=?utf-8?q?x?=.txt",
        "ünï(1)[2]{3}.txt",
        "new line.txt",
    ],
)
def test_names(api: Api, name: str) -> None:
    """Whatever the name, there is one Content-Disposition, from which every program gets it back (P35)."""
    reply = ask("GET", download_url(api, store(api, b"x", name=name).id))
    found = DISPOSITION.fullmatch(reply.headers["content-disposition"])
    assert found is not None
    assert (found[1], unquote(found[3])) == ("attachment", name)
    assert not {'"', "\\", "%", ";"} & set(found[2])
    assert set(reply.headers) == HEADERS


HEADERS = {
    "date",
    "content-type",
    "content-disposition",
    "content-length",
    "etag",
    "accept-ranges",
    "cache-control",
    "x-content-type-options",
    "content-security-policy",
    "cross-origin-resource-policy",
    "referrer-policy",
}


@pytest.mark.parametrize(
    ("name", "content_type", "data", "kind"),
    [
        ("a.png", "image/png", PNG, "inline"),
        ("a.pdf", "application/pdf", b"%PDF-1.7 x", "inline"),
        ("a.png", "image/png", b"<html><script>alert(1)</script>", "attachment"),
        ("a.png", "image/png", b"", "attachment"),
        ("a.jpg", "image/jpeg", PNG, "inline"),
        ("a.png", "image/png", b"not a picture", "attachment"),
        ("a.html", "text/html", b"<script>alert(1)</script>", "attachment"),
        ("a.html", "text/html; charset=utf-8", PNG, "attachment"),
        ("a.svg", "image/svg+xml", b"<svg/>", "attachment"),
        ("a.xml", "application/xml", b"<x/>", "attachment"),
        ("a.xhtml", "application/xhtml+xml", b"<html/>", "attachment"),
        ("a.js", "text/javascript", b"alert(1)", "attachment"),
        ("a.txt", "text/plain", b"text", "attachment"),
        ("a.bin", "application/x-unknown", PNG, "attachment"),
        ("a", "", PNG, "inline"),
        ("a", "", b"\x7fELF", "attachment"),
    ],
)
def test_active_content(api: Api, name: str, content_type: str, data: bytes, kind: str) -> None:
    """Only what is harmless, and is what it says, is shown; all else is saved, sandboxed and not sniffed (P36)."""
    file = store(api, data, name=name, content_type=content_type)
    for inline, expected in ((True, kind), (False, "attachment")):
        reply = ask("GET", download_url(api, file.id, inline=inline))
        assert reply.headers["content-disposition"].startswith(f"{expected};")
        assert reply.headers["content-type"] == file.content_type
        assert reply.headers["x-content-type-options"] == "nosniff"
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert ("sandbox" in policy.split("; ")) is not (expected == "inline" and content_type == "application/pdf")
        assert reply.headers["cross-origin-resource-policy"] == (
            "cross-origin" if expected == "inline" else "same-origin"
        )


def test_a_type_that_is_changed_later(api: Api) -> None:
    """A URL that was given to show a picture does not show what is called something else by now (P36)."""
    file = store(api, PNG, name="a.png", content_type="image/png")
    url = download_url(api, file.id, inline=True)
    assert ask("GET", url).headers["content-disposition"].startswith("inline;")
    changed = file_pb2.File(id=file.id, content_type="text/html")
    api.files.UpdateFile(files_pb.UpdateFileRequest(file=changed))
    reply = ask("GET", url)
    assert reply.headers["content-disposition"].startswith("attachment;")
    assert reply.headers["content-type"] == "text/html"


def test_gone(server: RunningServer, api: Api, new_issue: str) -> None:
    """A URL reads what the one who asked for it may read now (P32)."""
    somebody = server.api(server.new_key(f"user-{uuid4()}"))
    file = store(api, b"hung", attach_to=new_issue)
    urls = [download_url(caller, file.id) for caller in (api, somebody)]
    assert [ask("GET", url).status for url in urls] == [200, 200]
    attachments = api.attachments.ListAttachments(
        attachment_service_pb2.ListAttachmentsRequest(workspace_id="demo", subject=issue(new_issue))
    ).attachments
    api.attachments.DeleteAttachment(attachment_service_pb2.DeleteAttachmentRequest(attachment_id=attachments[0].id))
    assert [ask("GET", url).status for url in urls] == [200, 404]
    api.files.DeleteFile(files_pb.DeleteFileRequest(file_id=file.id))
    assert [ask("GET", url).refusal for url in urls] == [(404, "RESOURCE_NOT_FOUND")] * 2
    api.files.UndeleteFile(files_pb.UndeleteFileRequest(file_id=file.id))
    assert ask("GET", urls[0]).body == b"hung"
    somebody.channel.close()


def rotten(server: RunningServer, data: bytes, *, at: int) -> None:
    """Flip a byte of the one blob that holds these bytes."""
    (path,) = [path for path in server.blob_files() if path.stat().st_size == len(data) and path.read_bytes() == data]
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([data[at] ^ 1]))


@pytest.mark.parametrize("at", [0, -1])
def test_bit_rot_of_a_small_file(server: RunningServer, api: Api, at: int) -> None:
    """Nothing of it is sent: 500 before the first byte; a range of it can't be proved, and is (P07)."""
    data = os.urandom(500 * KIB)
    url = download_url(api, store(api, data).id)
    rotten(server, data, at=at % len(data))
    assert ask("GET", url).refusal == (500, "STORED_CONTENT_CORRUPT")
    assert ask("GET", url, {"Range": "bytes=10-19"}).body == data[10:20]


@pytest.mark.parametrize("at", [0, MIB, -1])
def test_bit_rot_of_a_large_file(server: RunningServer, api: Api, at: int) -> None:
    """The connection is cut before the declared length (P07), and one warning says why; other files are unaffected."""
    data = os.urandom(3 * MIB)
    file = store(api, data)
    url, other = (download_url(api, one.id) for one in (file, store(api, data[:MIB])))
    rotten(server, data, at=at % len(data))
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as line:
        line.sendall(f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        came = bytearray()
        while piece := _receive(line):
            came += piece
    head, _, body = bytes(came).partition(b"\r\n\r\n")
    assert b"200 OK" in head
    assert f"content-length: {len(data)}".encode() in head
    assert len(body) < len(data)
    assert ask("GET", other).body == data[:MIB]
    assert server.log().count(file.id) == 1
    assert "ERROR" not in server.log()


def _receive(line: socket.socket) -> bytes:
    try:
        return line.recv(MIB)
    except ConnectionResetError:
        return b""


def test_a_reader_who_goes_away(server: RunningServer, api: Api) -> None:
    """The file is let go of within five seconds (P17)."""
    data = os.urandom(3 * MIB) * 10  # More than the buffers on the way hold.
    made = http_ticket(api, PUT)
    assert send(made.http, data).ok
    url = download_url(api, make_file(api, made.id).id)
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as line:
        line.sendall(f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert line.recv(1000)
        until(lambda: server.open_files(made.id))
    until(lambda: not server.open_files(made.id), 5)


def test_a_reader_who_does_not_read(start_server: Callable[..., RunningServer]) -> None:
    """After the idle time the connection is cut, and the file let go of."""
    server = start_server("--idle-timeout", "1")
    api = server.api()
    made = http_ticket(api, PUT)
    assert send(made.http, os.urandom(MIB) * 30).ok
    parts = urlsplit(download_url(api, make_file(api, made.id).id))
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as line:
        line.sendall(f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        until(lambda: server.open_files(made.id))
        until(lambda: not server.open_files(made.id), 10)
        came = 0
        while piece := _receive(line):
            came += len(piece)
        assert came < 30 * MIB


def test_replies_of_refusals(large: tuple[str, bytes, str]) -> None:
    """They are JSON, are not kept, and are not made of what was sent."""
    reply: Reply = ask("GET", f"{large[0]}<script>")
    assert reply.status == 403
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "no-store"
    assert b"script" not in reply.body

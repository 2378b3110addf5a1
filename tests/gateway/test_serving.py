"""Names and types at every door: what comes in by one is harmless wherever it goes out (P34 to P36, P42)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from urllib.parse import unquote
from uuid import UUID, uuid4

import httpx
import pytest

from remora.v1 import issue_pb2, issue_service_pb2
from remora_server.core import ids
from tests import combinations
from tests.media.making import encoded, half_and_half
from tests.running import RunningServer, until

DISPOSITION = re.compile(r"(attachment|inline); filename=\"([ -~]+)\"; filename\*=UTF-8''([!-~]+)")
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
MARK = "evil-7c1d"
NAMES = {
    "parent": f"../../{MARK}.txt",
    "parent of Windows": f"..\\..\\{MARK}.txt",
    "absolute": f"/tmp/{MARK}.txt",  # noqa: S108 - nothing is to be made there
    "absolute of Windows": f"C:\\{MARK}.txt",
    "dots": "..",
    "a dot": ".",
    "NUL": f"{MARK}\0.txt",
    "CR and LF": f"{MARK}\r\nX-Evil: 1.txt",
    "a tab": f"{MARK}\t.txt",
    "an escape": f"{MARK}\x1b[2J.txt",
    "300 bytes": "e" * 296 + ".txt",
    "300 bytes of accents": "é" * 150,
    "right to left": f"{MARK}\u202egnp.exe",
    "a device": "CON",
    "a device with an ending": "aux.txt",
    "quotes": 'a"b\'c".txt',
    "an end of the header": '"; filename=evil.html; x="',
    "spaces": "  a.txt  ",
    "percent signs": "%2e%2e%2fa%00.txt",
    "other letters": "новый 文件 😀.txt",
}
CONTENTS = {
    "HTML": ("a.html", "text/html", b"<html><script>alert(1)</script>"),
    "SVG": ("a.svg", "image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"),
    "XML": ("a.xml", "application/xml", b"<?xml version='1.0'?><x/>"),
    "XHTML": ("a.xhtml", "application/xhtml+xml", b"<html xmlns='http://www.w3.org/1999/xhtml'/>"),
    "unknown": ("a.qqq", "application/x-unknown", b"\0\1\2\3"),
    "a false PNG": ("a.png", "image/png", b"<html><script>alert(1)</script>"),
    "a script": ("a.js", "text/javascript", b"alert(1)"),
    "a PDF": ("a.pdf", "application/pdf", b"%PDF-1.7 x"),
}
_numbers = count(1)


@dataclass(frozen=True)
class Desk:
    """An issue, and a client that brings a key to each door."""

    http: httpx.Client
    key: str
    plane: str  # The path of the issue at Plane's door.

    def begin_at_plane(self, name: str, kind: str, data: bytes) -> httpx.Response:
        """Take the three steps; return the answer to the first one, or the last that was refused."""
        begun = self.http.post(f"{self.plane}/attachments/", json={"name": name, "type": kind, "size": len(data)})
        if begun.status_code != 200:
            return begun
        form = begun.json()["upload_data"]
        assert httpx.post(form["url"], data=form["fields"], files={"file": ("x", data)}).status_code < 300
        done = self.http.patch(f"{self.plane}/attachments/{begun.json()['asset_id']}/", json={"is_uploaded": True})
        return begun if done.status_code == 204 else done

    def attach_by_query(self, name: str, _kind: str, data: bytes) -> httpx.Response:
        """Attach with the name in the query, as Tracker's client does."""
        files = {"file": ("file", data)}
        return self.http.post(f"/v2/issues/{self.key}/attachments/", params={"filename": name}, files=files)

    def attach_by_part(self, name: str, kind: str, data: bytes) -> httpx.Response:
        """Attach with the name in the form."""
        return self.http.post(f"/v3/issues/{self.key}/attachments/", files={"file": (name, data, kind)})

    def attach_temporary(self, name: str, _kind: str, data: bytes) -> httpx.Response:
        """Upload a temporary file, and attach it."""
        kept = self.http.post("/v2/attachments/", params={"filename": name}, files={"file": ("file", data)})
        if kept.status_code != 201:
            return kept
        return self.http.patch(f"/v2/issues/{self.key}", json={"attachmentIds": [kept.json()["id"]]})

    def names(self) -> set[tuple[str, ...]]:
        """Return how each door calls the files on the issue."""
        at_quantify = self.http.get(f"/v1/issues/{self.key}/attachments").json()["results"]
        at_plane = self.http.get(f"{self.plane}/attachments/").json()
        at_tracker = self.http.get(f"/v2/issues/{self.key}/attachments").json()
        return {
            tuple(one["fileName"] for one in at_quantify),
            tuple(one["attributes"]["name"] for one in at_plane),
            tuple(one["name"] for one in at_tracker),
        }

    def downloads(self) -> Iterator[httpx.Response]:
        """Download the first file on the issue at each door."""
        for url, headers in self.sources():
            yield httpx.get(url, headers={**self.http.headers, **headers} if headers is not None else {})

    def sources(self) -> Sequence[tuple[str, dict[str, str] | None]]:
        """Return where each door has the bytes, and which headers it wants; None where the URL is permission enough."""
        (one,) = self.http.get(f"/v2/issues/{self.key}/attachments").json()
        uuid, typed = UUID(int=int(one["id"])), ids.from_decimal(ids.ATTACHMENT, one["id"], "id")
        at_quantify = self.http.get(f"/v1/issues/{self.key}/attachments/{typed}/content")
        at_plane = self.http.get(f"{self.plane}/attachments/{uuid}/")
        assert {at_quantify.status_code, at_plane.status_code} == {302}
        return [(at_quantify.headers["Location"], None), (at_plane.headers["Location"], None), (one["content"], {})]


Upload = Callable[[Desk, str, str, bytes], httpx.Response]
UPLOADS: dict[str, Upload] = {
    "plane": Desk.begin_at_plane,
    "yandex, query": Desk.attach_by_query,
    "yandex, part": Desk.attach_by_part,
    "yandex, temporary": Desk.attach_temporary,
}
each_way = pytest.mark.parametrize("way", UPLOADS)


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[tuple[httpx.Client, str]]:
    """Make a user and a project."""
    project = str(server.report("projects", "create", "SERVE", "--workspace", "demo")["uuid"])
    headers = {"Authorization": f"Bearer {server.new_key(f'serve-{uuid4()}')}"}
    with httpx.Client(base_url=server.ready["http"], headers=headers, timeout=30) as http:
        yield http, project


@pytest.fixture
def desk(server: RunningServer, client: tuple[httpx.Client, str]) -> Desk:
    """Make an issue."""
    key = f"SERVE-{next(_numbers)}"
    api = server.api()
    wanted = issue_service_pb2.UpsertIssueRequest(issue=issue_pb2.Issue(workspace_id="demo", key=key, title="Names"))
    issue = api.issues.UpsertIssue(wanted).issue
    api.channel.close()
    http, project = client
    path = f"/api/v1/workspaces/demo/projects/{project}/work-items/{ids.to_uuid(issue.id)}"
    return Desk(http, key, path)


def is_harmless(name: str) -> bool:
    """Tell whether a name is one: of one part, of characters that do nothing, of bounded length."""
    return (
        0 < len(name.encode()) <= 255
        and name == name.strip()
        and not {"/", "\\"} & set(name)
        and name not in {".", ".."}
        and not [one for one in name if unicodedata.category(one) == "Cc" or one in "\u202a\u202b\u202d\u202e\u2066"]
        and not DEVICES.fullmatch(name)
    )


@each_way
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names(server: RunningServer, desk: Desk, way: str, name: str) -> None:
    """A dangerous name is refused and stores nothing, or is made harmless for all doors (P34, P35)."""
    reply = UPLOADS[way](desk, name, "text/plain", b"some text")
    if reply.status_code >= 400:
        assert reply.status_code in {400, 422}
        told = reply.json()
        assert list(told) in (["errors", "errorMessages", "statusCode"], ["error", "status"], ["name"])
        assert desk.names() == {()}
    else:
        ((stored,),) = desk.names()
        assert is_harmless(stored), stored
        for got in desk.downloads():
            assert (got.status_code, got.content) == (200, b"some text")
            (disposition,) = got.headers.get_list("content-disposition")
            found = DISPOSITION.fullmatch(disposition)
            assert found is not None, disposition
            assert (found[1], unquote(found[3])) == ("attachment", stored)
            assert "x-evil" not in got.headers
    assert not [path for path in server.data.parent.rglob("*") if MARK in path.name]


def test_names_that_are_kept(desk: Desk) -> None:
    """What is no more than unusual is kept as it is."""
    assert desk.attach_by_query(NAMES["other letters"], "", b"x").status_code == 201
    assert desk.names() == {(NAMES["other letters"],)}


@each_way
@pytest.mark.parametrize("content", CONTENTS)
def test_types(desk: Desk, way: str, content: str) -> None:
    """Whatever a file is, or says it is, its door has it saved: not shown, not run, not guessed at (P36)."""
    name, kind, data = CONTENTS[content]
    assert UPLOADS[way](desk, name, kind, data).status_code in {200, 201}
    for got in desk.downloads():
        assert (got.status_code, got.content) == (200, data)
        assert got.headers["content-disposition"].startswith("attachment;")
        if str(got.url).startswith(str(desk.http.base_url)):
            assert got.headers["x-content-type-options"] == "nosniff"
            policy = got.headers["content-security-policy"].split("; ")
            assert {"default-src 'none'", "sandbox"} <= set(policy)


def test_renditions(desk: Desk) -> None:
    """A picture that is made here from what came is a picture, and comes with the same bounds (P36)."""
    picture = encoded(half_and_half(64, 48), "PNG")
    made = desk.attach_by_query("a.png", "", picture).json()
    typed = ids.from_decimal(ids.ATTACHMENT, made["id"], "id")
    preview = f"/v1/issues/{desk.key}/attachments/{typed}/preview"
    until(lambda: desk.http.get(preview).status_code == 302, seconds=60)
    replies = [httpx.get(desk.http.get(preview).headers["Location"]), desk.http.get(made["thumbnail"])]
    for got in replies:
        assert (got.status_code, got.headers["content-type"].partition("/")[0]) == (200, "image")
        if str(got.url).startswith(str(desk.http.base_url)):
            assert got.headers["x-content-type-options"] == "nosniff"
            assert "sandbox" in got.headers["content-security-policy"].split("; ")


def test_a_thousand_overlapping_ranges(desk: Desk) -> None:
    """They cost no more than the file, at every door that has its bytes (P42)."""
    data = uuid4().bytes * 16 * 1024
    assert desk.attach_by_query("a.bin", "", data).status_code == 201
    kept = desk.http.post("/v2/attachments/", params={"filename": "b.bin"}, files={"file": ("file", data)}).json()
    sources = [*desk.sources(), (kept["content"], {})]
    if combinations.BLOBS == "gcs":
        sources = [one for one in sources if one[0].startswith(str(desk.http.base_url))]  # A bucket has its own rules.
    assert len(sources) >= 2
    for url, headers in sources:
        for ranges in (["0-262143"] * 1000, [f"{first}-262143" for first in range(1000)]):
            sent = {**(desk.http.headers if headers is not None else {}), "Range": "bytes=" + ",".join(ranges)}
            got = httpx.get(url, headers=sent)
            assert (got.status_code, got.headers["content-length"]) == (200, str(len(data)))
            assert got.content == data

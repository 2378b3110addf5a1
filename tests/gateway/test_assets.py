"""Assets over HTTP: who may read them, in which forms a key may come, and what a signed URL of one pins."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from remora.v1 import file_service_pb2
from remora_server.stores.blobs_local import LocalBlobs
from tests.combinations import BLOBS, only_disk, own_urls
from tests.running import RunningServer, until
from tests.uploading import upload

BEGIN = """mutation($size: Int!) { fileUpload(filename: "a.bin", contentType: "application/octet-stream", size: $size) {
  uploadFile { uploadUrl assetUrl headers { key value } } } }"""
DATA = os.urandom(1000)


@dataclass
class Upload:
    """An upload that waits, or one that is done."""

    put_url: str
    url: str
    headers: Mapping[str, str]

    def put(self, data: bytes) -> httpx.Response:
        """Send the bytes."""
        return httpx.put(self.put_url, content=data, headers=dict(self.headers))


def graphql(server: RunningServer, key: str, query: str, headers: Mapping[str, str] | None = None, **given: Any) -> Any:
    """Ask at Linear's door."""
    reply = httpx.post(
        f"{server.ready['http']}/graphql",
        json={"query": query, "variables": given},
        headers={"Authorization": key, **(headers or {})},
    )
    return reply.json()["data"]


def begin(server: RunningServer, key: str, size: int = len(DATA), headers: Mapping[str, str] | None = None) -> Upload:
    """Ask for an upload."""
    told = graphql(server, key, BEGIN, headers, size=size)["fileUpload"]["uploadFile"]
    return Upload(told["uploadUrl"], told["assetUrl"], {one["key"]: one["value"] for one in told["headers"]})


def read(url: str, key: str = "", method: str = "GET", **headers: str) -> httpx.Response:
    """Ask for an asset with a key."""
    return httpx.request(method, url, headers={**({"Authorization": key} if key else {}), **headers})


@pytest.fixture
def key(server: RunningServer) -> str:
    """Make a key of a new user."""
    return server.new_key(f"assets-{uuid4()}")


def test_from_the_url_to_the_bytes(server: RunningServer, key: str) -> None:
    """The URL is known first; before its bytes nothing is there, then they are, whole and in ranges (P33)."""
    asset = begin(server, key)
    assert read(asset.url, key).status_code == 404
    assert asset.put(DATA).is_success
    whole = read(asset.url, key)
    assert (whole.status_code, whole.content) == (200, DATA)
    assert whole.headers["content-disposition"].startswith("attachment")
    part = read(asset.url, key, Range="bytes=10-19")
    assert (part.status_code, part.content) == (206, DATA[10:20])
    assert read(asset.url, key, **{"If-None-Match": whole.headers["etag"]}).status_code == 304
    head = read(asset.url, key, "HEAD")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(DATA)))


@own_urls
def test_the_server_that_takes_the_bytes_makes_the_file(server: RunningServer, key: str) -> None:
    """When the PUT is answered the file is there, without anybody having read it."""
    told = begin(server, key).put(DATA).json()
    assert server.sql("SELECT size_bytes FROM files WHERE id = ?", told["file_id"]) == [(len(DATA),)]
    assert server.sql("SELECT state FROM tickets WHERE id = ?", told["upload_ticket_id"]) == [("COMPLETED",)]


@only_disk
def test_bytes_whose_server_died(start_server: Callable[..., RunningServer]) -> None:
    """What was stored when a server died before it made the file can be read, and is kept by a sweep at the latest."""
    server = start_server("--ticket-ttl", "3s", "--gc-interval", "1s")
    key = str(server.ready["key"])
    read_first, left_alone = begin(server, key), begin(server, key)
    store = LocalBlobs(server.data / "blobs")
    for asset in (read_first, left_alone):
        ticket_id = urlsplit(asset.put_url).path.rpartition("/")[2]
        staged = store.stage(ticket_id, 0, 1)
        staged.write(DATA)
        staged.sync()
        staged.close()
        assert store.land(ticket_id, 1)
    assert read(read_first.url, key).content == DATA
    until(lambda: server.sql("SELECT COUNT(*) FROM files") == [(2,)], seconds=30)
    assert server.sql("SELECT DISTINCT state FROM tickets") == [("COMPLETED",)]
    assert read(left_alone.url, key).content == DATA


def test_one_upload_each(server: RunningServer, key: str) -> None:
    """A second PUT changes nothing, and other bytes than were announced come to nothing (P11, P31)."""
    asset = begin(server, key)
    assert asset.put(DATA).is_success
    assert read(asset.url, key).content == DATA
    # A bucket takes others where the first ones were known already and so went; a sweep removes them.
    assert asset.put(os.urandom(1000)).status_code >= 400 or BLOBS == "gcs"
    assert read(asset.url, key).content == DATA
    for data in (DATA[:-1], DATA + b"x"):
        wrong = begin(server, key)
        assert wrong.put(data).status_code >= 400
        assert read(wrong.url, key).status_code == 404
        # The next one may still be right.
        again = begin(server, key)
        assert again.put(DATA).is_success
        assert read(again.url, key).content == DATA


def test_forms_of_a_key(server: RunningServer, key: str) -> None:
    """Any door's form of a key is taken; without a good one nothing is told, not even that there is nothing."""
    asset = begin(server, key)
    assert asset.put(DATA).is_success
    for headers in (
        {"Authorization": key},
        {"Authorization": f"Bearer {key}"},
        {"Authorization": f"OAuth {key}"},
        {"X-Api-Key": key},
    ):
        assert httpx.get(asset.url, headers=headers).content == DATA, headers
    elsewhere = asset.url.rpartition("/")[0] + "/x"
    for url in (asset.url, elsewhere):
        for headers in ({}, {"Authorization": "rk_none"}, {"Authorization": "Basic eDp5"}, {"X-Api-Key": ""}):
            reply = httpx.get(url, headers=headers)
            assert (reply.status_code, reply.json()["error"]["reason"]) == (401, "TOKEN_MISSING"), (url, headers)
    assert read(elsewhere, key).status_code == 404
    for method in ("POST", "PUT", "DELETE"):
        assert read(asset.url, key, method).status_code == 405


def test_whose_they_are(server: RunningServer, key: str) -> None:
    """An asset that hangs on nothing is its owner's; on an issue it is its workspace's; scopes count (P43)."""
    asset, never = begin(server, key), begin(server, key)
    assert asset.put(DATA).is_success
    second = server.new_key(f"second-{uuid4()}")
    stranger = server.new_key("assets-stranger", workspace="assets-elsewhere")
    for other in (second, stranger):
        there, missing = read(asset.url, other), read(never.url, other)
        assert (there.status_code, there.json()) == (missing.status_code, missing.json())
        assert there.status_code == 404
    attach = "mutation($u: String!, $i: String!) { attachmentLinkURL(issueId: $i, url: $u) { success } }"
    issue = f"ASSET-{uuid4().hex[:8]}"
    assert graphql(server, second, attach, u=asset.url, i=issue) is None  # Who may not read it can't show it around.
    assert graphql(server, key, attach, u=asset.url, i=issue) == {"attachmentLinkURL": {"success": True}}
    assert read(asset.url, second).content == DATA
    assert read(asset.url, stranger).status_code == 404
    blind = server.new_key(f"blind-{uuid4()}", scopes="attachments:read")
    assert read(asset.url, blind).status_code == 403


def test_signed_urls(server: RunningServer, key: str) -> None:
    """With a signature no key is needed, for GET of this very asset, until its time is up (P32)."""
    asset = begin(server, key, headers={"public-file-urls-expire-in": "60"})
    assert "signature=" in asset.url
    assert httpx.get(asset.url).status_code == 404
    assert asset.put(DATA).is_success
    assert httpx.get(asset.url).content == DATA
    assert httpx.head(asset.url).status_code == 200
    other = begin(server, key)
    path, _, query = asset.url.partition("?")
    wrong = [
        asset.url[:-1] + ("0" if asset.url[-1] != "0" else "1"),
        asset.url.replace("reader=", "reader=x"),
        asset.url.replace("expires=", "expires=9"),
        f"{other.url}?{query}",
        f"{path}?{query}&more=1",
    ]
    for url in wrong:
        assert (httpx.get(url).status_code, httpx.get(url).json()["error"]["reason"]) == (403, "SIGNED_URL_INVALID"), (
            url
        )
    assert httpx.post(asset.url).status_code == 403


def test_files_that_were_no_assets(server: RunningServer, key: str) -> None:
    """Every file has a URL that stays, by its number."""
    file = upload(server.api(key), DATA, name="b.bin").file
    url = f"{server.ready['http']}/assets/{file.id}"
    assert read(url, key).content == DATA
    server.api(key).files.DeleteFile(file_service_pb2.DeleteFileRequest(file_id=file.id))
    assert read(url, key).status_code == 404

"""Yandex Tracker's door: the exchange of its document, what its real client does, and what is refused."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from PIL import Image

from tests.gateway.exchanging import Replay, exchanges_of
from tests.running import RunningServer

EXCHANGES = exchanges_of("yandex")
Ask = Callable[..., httpx.Response]
VERSIONS = pytest.mark.parametrize("version", ["v2", "v3"])


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    """Start a server for the document."""
    server = RunningServer(tmp_path_factory.mktemp("yandex") / "data").start()
    host = server.ready["http"]
    headers = {"Authorization": f"OAuth {server.new_key('User Name')}", "X-Org-Id": "not provided"}
    yield Replay(host, headers, {"pic.png": image(550, 440, 20_000)}, host=host)
    server.kill()


def image(width: int, height: int, size_bytes: int = 0) -> bytes:
    """Make a PNG that no other test makes, of at least this many bytes."""
    written = io.BytesIO()
    Image.new("RGB", (width, height), tuple(uuid4().bytes[:3])).save(written, "PNG")
    return written.getvalue().ljust(size_bytes, b"\0")


@pytest.fixture
def ask(server: RunningServer) -> Ask:
    """Return what asks at this door of the shared server with the key of a new user."""
    return at_door(server, server.new_key(f"user-{uuid4()}"))


def at_door(server: RunningServer, key: str) -> Ask:
    """Return what asks at this door with a key; a path may be a whole URL."""

    def ask(path: str, method: str = "GET", **options: Any) -> httpx.Response:
        url = path if path.startswith("http") else server.ready["http"] + path
        return httpx.request(method, url, headers={"Authorization": f"OAuth {key}"}, timeout=60, **options)

    return ask


def attach(ask: Ask, issue: str, data: bytes, name: str = "a.bin", version: str = "v2") -> dict[str, Any]:
    """Attach a file as the real client does."""
    path = f"/{version}/issues/{issue}/attachments/"
    reply = ask(path, "POST", params={"filename": name}, files={"file": ("file", data)})
    assert reply.status_code == 201, reply.text
    made: dict[str, Any] = reply.json()
    return made


def code(reply: httpx.Response) -> int:
    """Return the status of a refusal, whose form is always the same."""
    told = reply.json()
    assert list(told) == ["errors", "errorMessages", "statusCode"]
    assert (told["errors"], told["statusCode"]) == ({}, reply.status_code)
    assert len(told["errorMessages"]) == 1
    return reply.status_code


def test_the_document(told: Replay) -> None:
    """Every request of the document gets the answer of the document, field by field."""
    for exchange in EXCHANGES:
        told.play(exchange)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", told.known["created"])


@VERSIONS
def test_in_and_out(ask: Ask, new_issue: str, version: str) -> None:
    """A file that was attached is listed, got and downloaded, with a slash at the end or without, and is deleted."""
    data = uuid4().bytes * 10_000
    made = attach(ask, new_issue, data, "über 1.pdf", version)
    assert made["self"].endswith(f"/{version}/issues/{new_issue}/attachments/{made['id']}")
    assert (made["mimetype"], made["size"]) == ("application/pdf", len(data))
    assert "thumbnail" not in made
    for ending in ("", "/"):
        assert ask(f"/{version}/issues/{new_issue}/attachments{ending}").json() == [made]
        assert ask(made["self"] + ending).json() == made
        assert hashlib.sha256(ask(made["content"] + ending).content).digest() == hashlib.sha256(data).digest()
    head = ask(made["content"], "HEAD")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(data)), b"")
    assert "filename*=UTF-8''%C3%BCber%201.pdf" in head.headers["content-disposition"]
    assert ask(made["self"], "DELETE").status_code == 204
    assert code(ask(made["self"])) == code(ask(made["content"])) == code(ask(made["self"], "DELETE")) == 404
    assert ask(f"/{version}/issues/{new_issue}/attachments").json() == []


def test_each_upload_is_an_attachment(ask: Ask, new_issue: str) -> None:
    """The same file attached twice is two attachments, oldest first, and goes one by one."""
    first, second = (attach(ask, new_issue, b"the same", "same.txt") for _ in range(2))
    listed = ask(f"/v2/issues/{new_issue}/attachments").json()
    assert [one["id"] for one in listed] == [first["id"], second["id"]]
    ask(first["self"], "DELETE")
    assert ask(second["content"]).content == b"the same"


def test_no_file(ask: Ask, new_issue: str) -> None:
    """An empty file is 422, since the real client sends one after it has lost its own; what is no form is 400."""
    path = f"/v2/issues/{new_issue}/attachments/"
    assert code(ask(path, "POST", files={"file": ("file", b"")})) == 422
    assert code(ask(path, "POST", content=b"x")) == 400
    assert code(ask(path, "POST", data={"file": "x"}, files={"other": (None, b"x")})) == 400
    assert code(ask(f"/v2/issues/{new_issue}/attachments")) == 404

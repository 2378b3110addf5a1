"""Glue's door: the documents of its page, clients that know the schema only by asking, and whose files are whose."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from gql import Client, GraphQLRequest
from gql.client import SyncClientSession
from gql.transport.exceptions import TransportQueryError
from gql.transport.httpx import HTTPXTransport

from remora.v1 import file_pb2
from remora.v1 import file_service_pb2 as pb
from remora_server.core.model import Checksums
from remora_server.gateway.dialects.glue import GlueVisit, content_md5
from tests.combinations import BLOBS
from tests.e2e.programs import require
from tests.gateway.exchanging import Replay, exchanges_of
from tests.gateway.fuzzing import ODD, TRACES
from tests.media.making import encoded, half_and_half
from tests.previewing import settled
from tests.running import RunningServer
from tests.uploading import attached, by_stream, read, spec_of, upload

EXCHANGES = {one.name: one for one in exchanges_of("glue")}
SAMPLES = Path(__file__).parent / "glue_samples"
DOCUMENT = "01-upload-ticket"
UPLOAD_TICKET, CREATE_FILE, SEND_MESSAGE = (
    EXCHANGES[name].request["json"]["query"] for name in (DOCUMENT, "03-create-file", "06-send-message")
)
FILE = """... on File {
  __typename id fileType name contentLength contentMD5 contentType metadata { width height blurHash } previewable url
}"""
NODE = (
    "query($id: ID!) { node(id: $id) { __typename " + FILE + " ... on Message { text attachments { " + FILE + " } } } }"
)
MODES = ("put", "form")
TLS = ssl.create_default_context()  # Not needed, but httpx would make one for each request.
modes = pytest.mark.parametrize("mode", MODES)


@pytest.fixture(scope="module")
def by_form(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Share a server whose tickets are uploaded by forms."""
    data = tmp_path_factory.mktemp("forms") / "data"
    running = RunningServer(data, environment={"REMORA_GLUE_TICKETS": "form"}).start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def token_of(server: RunningServer) -> Callable[[str], str]:
    """Return what gets tokens for a program of Glue's, which have no more than some scopes."""
    made = server.report("keys", "create", "--workspace", "demo", "--user", f"glue-{uuid4()}")
    form = {
        "grant_type": "client_credentials",
        "client_id": made["principal_id"],
        "client_secret": made["key"],
        "subject": "wks_1",
        "redirect_uri": "https://app.example/callback",
    }

    def ask_for(scopes: str) -> str:
        reply = httpx.post(f"{server.ready['http']}/oauth/token", data={**form, "scope": scopes})
        return str(reply.json()["access_token"])

    return ask_for


@pytest.fixture
def door(request: pytest.FixtureRequest, mode: str) -> RunningServer:
    """Return the server whose tickets are uploaded in one mode."""
    found: RunningServer = request.getfixturevalue("server" if mode == "put" else "by_form")
    return found


def some(data: bytes = b"", **more: Any) -> tuple[bytes, dict[str, Any]]:
    """Return new content, and what a client says of it."""
    content = data or f"%PDF-1.7 {uuid4()}".encode()
    return content, {
        "name": "document.pdf",
        "contentLength": str(len(content)),
        "contentMD5": base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode(),
        "contentType": "application/pdf",
        **more,
    }


def ask(server: RunningServer, key: str, query: str, **variables: Any) -> httpx.Response:
    """Send a document."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    sent = {"query": query, "variables": variables}
    return httpx.post(f"{server.ready['http']}/public/graphql", json=sent, headers=headers, timeout=60, verify=TLS)


def done(server: RunningServer, key: str, query: str, **variables: Any) -> Any:
    """Send a document that has one field; return what that came to."""
    reply = ask(server, key, query, **variables)
    assert reply.status_code == 200
    told = reply.json()
    assert "errors" not in told, told
    (value,) = told["data"].values()
    return value


def refusal(server: RunningServer, key: str, query: str, **variables: Any) -> str:
    """Send a document that is refused, in a body of its own and not by a status; return the code."""
    reply = ask(server, key, query, **variables)
    assert reply.status_code == 200
    (error,) = reply.json()["errors"]
    assert error["message"]
    assert "locations" in error
    return str(error["extensions"]["code"])


def send(ticket: Mapping[str, Any], data: bytes) -> httpx.Response:
    """Send bytes as a ticket says, and nothing besides."""
    headers = {one["name"]: one["value"] for one in ticket["headers"]}
    if ticket["formData"] is None:
        return httpx.put(ticket["url"], headers=headers, content=data, timeout=60)
    values = [one["value"] for one in ticket["formData"]]
    assert values.count("@file") == 1
    fields = [
        (one["name"], ("a name", data) if one["value"] == "@file" else (None, one["value"].encode()))
        for one in ticket["formData"]
    ]
    return httpx.post(ticket["url"], headers=headers, files=fields, timeout=60)


def uploaded(server: RunningServer, key: str, data: bytes, said: Mapping[str, Any]) -> str:
    """Walk through the three steps; return the file's id."""
    ticket = done(server, key, UPLOAD_TICKET, input=said)
    assert send(ticket, data).is_success
    return str(done(server, key, CREATE_FILE, input={"uploadTicketID": ticket["id"]})["id"])


def shape(value: Any) -> Any:
    """Return what an answer is made of, without ids and digests."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shape(one) for one in value]
    return len(value) if isinstance(value, str) else value


def test_the_document(server: RunningServer) -> None:
    """Every request of the document gets the answer of the document, field by field, and others theirs."""
    data, said = some()
    known = {"size": said["contentLength"], "md5": said["contentMD5"]}
    key = server.new_key(f"glue-{uuid4()}")
    replay = Replay(server.ready["http"], {"Authorization": f"Bearer {key}"}, **known)
    ticket: Mapping[str, Any] = {}
    for name, exchange in EXCHANGES.items():
        if name == "03-create-file":
            assert send(ticket, data).is_success
        reply = replay.play(exchange)
        if name == DOCUMENT:
            ticket = reply.json()["data"]["uploadTicket"]
            assert {"name": "Content-Type", "value": "application/pdf"} in ticket["headers"]
    assert replay.known["ticket"].startswith("upl_")
    assert replay.known["file"].startswith("fil_")
    assert httpx.get(replay.known["download"]).content == data


@modes
def test_a_client_that_asks_for_the_schema(door: RunningServer, mode: str) -> None:
    """A GraphQL client which knows nothing but the URL walks the whole way, and back from each wrong turn."""
    key = door.new_key(f"client-{uuid4()}")
    transport = HTTPXTransport(f"{door.ready['http']}/public/graphql", headers={"Authorization": f"Bearer {key}"})
    with Client(transport=transport, fetch_schema_from_transport=True) as session:

        def run(query: str, **variables: Any) -> Any:
            (value,) = session.execute(GraphQLRequest(query, variable_values=variables)).values()
            return value

        def code(query: str, **variables: Any) -> str:
            return _code(session, query, variables)

        assert session.client.schema is not None
        data, said = some()
        ticket = run(UPLOAD_TICKET, input=said)
        assert (ticket["formData"] is None) == (mode == "put")
        mine = {"uploadTicketID": ticket["id"]}
        assert code(CREATE_FILE, input=mine) == "UPLOAD_INCOMPLETE"
        # Nothing comes of other bytes than were declared, and another ticket takes the right ones.
        wrong = send(ticket, data[::-1])
        if wrong.is_success:  # A bucket's form has no field for an MD5.
            assert (mode, BLOBS) == ("form", "gcs")
            assert code(CREATE_FILE, input=mine) == "CONTENT_CHECKSUM_MISMATCH"
        else:
            assert wrong.status_code == 400
        assert code(CREATE_FILE, input=mine) in {"UPLOAD_INCOMPLETE", "TICKET_CLOSED"}
        again = run(UPLOAD_TICKET, input=said)
        assert again.keys() == ticket.keys()
        assert send(again, data).is_success
        made = run(CREATE_FILE, input={"uploadTicketID": again["id"]})
        assert made["name"] == "document.pdf"
        assert run(CREATE_FILE, input={"uploadTicketID": again["id"]}) == made
        # The file that is there is returned as it is.
        assert run(UPLOAD_TICKET, input={**said, "name": "other.bin", "contentType": "x/y"}) == made
        # A ticket whose time is up.
        other, said = some()
        late = run(UPLOAD_TICKET, input=said)
        assert send(late, other).is_success
        door.sql("UPDATE tickets SET expire_time = 1 WHERE id = ?", late["id"])
        assert code(CREATE_FILE, input={"uploadTicketID": late["id"]}) == "TICKET_EXPIRED"
        sent = run(SEND_MESSAGE, input={"text": "See", "attachments": [made["id"]]})
        assert [one["id"] for one in sent["attachments"]] == [made["id"]]
        found = run(NODE, id=made["id"])
        assert httpx.get(found["url"]).content == data
        assert base64.b64decode(found["contentMD5"]) == hashlib.md5(data, usedforsecurity=False).digest()
        assert run(NODE, id="fil_none") is None


def _code(session: SyncClientSession, query: str, variables: Mapping[str, Any]) -> str:
    with pytest.raises(TransportQueryError) as caught:
        session.execute(GraphQLRequest(query, variable_values=dict(variables)))
    (error,) = caught.value.errors or [{}]
    return str(error["extensions"]["code"])


@modes
def test_the_documents_own_samples(door: RunningServer, mode: str, tmp_path: Path) -> None:
    """The document's JavaScript uploads, as it is, in Node."""
    require("node")
    key = door.new_key(f"node-{uuid4()}")
    data, said = some()
    ticket = done(door, key, UPLOAD_TICKET, input=said)
    path = tmp_path / "document.pdf"
    path.write_bytes(data)
    given = {"uploadTicket": ticket, "path": str(path), "contentType": "application/pdf", "filename": "document.pdf"}
    subprocess.run(
        ["node", str(SAMPLES / f"{mode}.mjs")],  # noqa: S607 - the one that is installed
        input=json.dumps(given),
        text=True,
        check=True,
        timeout=60,
    )
    made = done(door, key, CREATE_FILE, input={"uploadTicketID": ticket["id"]})
    assert read(door.api(key), made["id"]) == data


def test_knowing_a_hash_gives_nothing(server: RunningServer) -> None:
    """Who knows the MD5 of another's file, of this tenant or another, is told what is told of unknown content (P21)."""
    owner = server.new_key(f"owner-{uuid4()}")
    data, said = some()
    file_id = uploaded(server, owner, data, said)
    assert done(server, owner, UPLOAD_TICKET, input=said)["id"] == file_id  # P22
    others = (server.new_key(f"other-{uuid4()}"), server.new_key("stranger", workspace=f"other-{uuid4().hex[:8]}"))
    for other in others:
        known = done(server, other, UPLOAD_TICKET, input=said)
        unknown = done(server, other, UPLOAD_TICKET, input={**said, "contentMD5": some()[1]["contentMD5"]})
        assert shape(known) == shape(unknown)
        assert known["id"].startswith("upl_")
        assert done(server, other, NODE, id=file_id) is None
    # Nor does it once the file is seen by all of the workspace: an MD5 can be made to fit (R3).
    done(server, owner, SEND_MESSAGE, input={"text": "", "attachments": [file_id]})
    assert done(server, others[0], UPLOAD_TICKET, input=said)["id"].startswith("upl_")
    assert done(server, owner, UPLOAD_TICKET, input={**said, "contentLength": "7"})["id"].startswith("upl_")


def test_whose_is_whose(server: RunningServer, token_of: Callable[[str], str]) -> None:
    """Every field of the root, for each who may not: the answer is that of what is not there (P33, P43)."""
    owner = server.new_key(f"owner-{uuid4()}")
    data, said = some()
    file_id = uploaded(server, owner, data, said)
    ticket = done(server, owner, UPLOAD_TICKET, input=some()[1])
    workspace = f"other-{uuid4().hex[:8]}"
    calls: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        (CREATE_FILE, {"input": {"uploadTicketID": ticket["id"]}}, {"input": {"uploadTicketID": unlike(ticket["id"])}}),
        (NODE, {"id": file_id}, {"id": unlike(file_id)}),
        (
            SEND_MESSAGE,
            {"input": {"text": "x", "attachments": [file_id]}},
            {"input": {"text": "x", "attachments": [unlike(file_id)]}},
        ),
    ]
    before = server.sql("SELECT COUNT(*) FROM issues")
    for other in (server.new_key(f"other-{uuid4()}"), server.new_key("stranger", workspace=workspace)):
        for query, there, nowhere in calls:
            answers = [ask(server, other, query, **variables) for variables in (there, nowhere)]
            assert answers[0].status_code == answers[1].status_code == 200
            assert answers[0].json() == answers[1].json(), query
    assert server.sql("SELECT COUNT(*) FROM issues") == before
    expired = server.new_key(f"late-{uuid4()}", expires_in=0)
    for key in ("", "rk_none", expired):
        for query, there, nowhere in [*calls, (UPLOAD_TICKET, {"input": said}, {"input": some()[1]})]:
            for variables in (there, nowhere):
                reply = ask(server, key, query, **variables)
                assert reply.status_code == 401
                assert {one["extensions"]["code"] for one in reply.json()["errors"]} == {"UNAUTHENTICATED"}
    without = server.new_key(f"without-{uuid4()}", scopes="links:read")
    for query, there, _ in [*calls, (UPLOAD_TICKET, {"input": said}, {})]:
        assert refusal(server, without, query, **there) == "FORBIDDEN", query
    reading = server.new_key(f"reading-{uuid4()}", scopes="files:read,attachments:write")
    assert refusal(server, reading, SEND_MESSAGE, input={"text": "x", "attachments": []}) == "FORBIDDEN"
    for scopes in ("files:read,issues:read", "files:read,attachments:read"):
        assert refusal(server, token_of(scopes), NODE, id="msg_none") == "FORBIDDEN"
    writing = server.new_key(f"writing-{uuid4()}", scopes="files:write")
    data, said = some()
    assert uploaded(server, writing, data, said).startswith("fil_")
    with_url = UPLOAD_TICKET.replace("... on File {", "... on File { url")
    assert refusal(server, writing, with_url, input=said) == "FORBIDDEN"


def unlike(id_: str) -> str:
    """Return an id of the same kind of what is not there."""
    return id_[:-1] + ("0" if id_[-1] != "0" else "1")


BAD: Mapping[str, Mapping[str, Any]] = {
    "no number": {"contentLength": "many"},
    "a sign": {"contentLength": "-1"},
    "a fraction": {"contentLength": "1.0"},
    "a space": {"contentLength": " 1"},
    "other digits": {"contentLength": "\u0663"},
    "no length": {"contentLength": ""},
    "a length beyond all": {"contentLength": "9" * 30},
    "a number": {"contentLength": 3},
    "no digest": {"contentMD5": ""},
    "a digest in hex": {"contentMD5": "d41d8cd98f00b204e9800998ecf8427e"},
    "15 bytes": {"contentMD5": base64.b64encode(b"x" * 15).decode()},
    "17 bytes": {"contentMD5": base64.b64encode(b"x" * 17).decode()},
    "another alphabet": {"contentMD5": base64.urlsafe_b64encode(b"\xff" * 16).decode()},
    "a space in the digest": {"contentMD5": some()[1]["contentMD5"] + "\n"},
    "loose bits": {"contentMD5": "A" * 21 + "B=="},
    "no name": {"name": ""},
    "a path": {"name": "../x"},
    "no type": {"contentType": ""},
    "a bad type": {"contentType": "pdf"},
    "a header in the type": {"contentType": "a/b\r\nX: y"},
    "a size below nothing": {"metadata": {"width": -1, "height": 1}},
    "more than an Int": {"metadata": {"width": 2**31}},
    "what there is not": {"metadata": {"depth": 1}},
    "null": {"name": None},
}


@pytest.mark.parametrize("what", sorted(BAD))
def test_bad_input(server: RunningServer, what: str) -> None:
    """What can't be is refused, with a code and the name of the field, and no ticket is made (P10)."""
    key = server.new_key("glue-bad-input")
    reply = ask(server, key, UPLOAD_TICKET, input={**some()[1], **BAD[what]})
    assert reply.status_code == 200
    (error,) = reply.json()["errors"]
    assert error["extensions"]["code"] == "BAD_USER_INPUT"
    assert next(iter(BAD[what])) in error["message"]
    made = "SELECT COUNT(*) FROM tickets JOIN users ON users.id = tickets.creator_id WHERE users.display_name = ?"
    assert server.sql(made, "glue-bad-input") == [(0,)]


def test_a_file(server: RunningServer) -> None:
    """A picture tells its type, its size as it is and not as it was said to be, its blur hash, and whether it shows."""
    key = server.new_key(f"picture-{uuid4()}")
    data = encoded(half_and_half(64, 48), "PNG") + uuid4().bytes
    content, said = some(data, name="half.png", contentType="image/png", metadata={"width": 1, "height": 2})
    file_id = uploaded(server, key, content, said)
    settled(server.api(key), file_id)
    found = done(server, key, NODE, id=file_id)
    url, blur_hash = found.pop("url"), found["metadata"].pop("blurHash")
    assert found == {
        "__typename": "File",
        "id": file_id,
        "fileType": "IMAGE",
        "name": "half.png",
        "contentLength": str(len(data)),
        "contentMD5": said["contentMD5"],
        "contentType": "image/png",
        "metadata": {"width": 64, "height": 48},
        "previewable": True,
    }
    assert len(blur_hash) > 5
    # From our own origin, wherever the bytes lie, and to nobody who alters a character.
    assert url.startswith(f"{server.ready['http']}/downloads/")
    got = httpx.get(url)
    assert (got.content, got.headers["content-disposition"].partition(";")[0]) == (data, "attachment")
    assert httpx.get(url[:-1] + ("0" if url[-1] != "0" else "1")).status_code == 403


@pytest.mark.parametrize("size", [20, 3_000_000], ids=["small", "large"])
def test_a_file_that_came_by_a_stream(server: RunningServer, size: int) -> None:
    """The MD5 of a file that came without one is found out, and is as good as one that was declared from then on."""
    key = server.new_key(f"stream-{uuid4()}")
    data = (uuid4().bytes * (size // 16 + 1))[:size]
    file = by_stream(server.api(key), data, spec_of(size_bytes=size))
    _, said = some(data)
    md5 = "node(id: $id) { ... on File { contentMD5 } }"
    query = f"query($id: ID!) {{ a: {md5} b: {md5} }}"
    told = ask(server, key, query, id=file.id).json()["data"]
    assert told["a"] == told["b"] == {"contentMD5": said["contentMD5"]}
    assert done(server, key, UPLOAD_TICKET, input=said)["id"] == file.id
    assert done(server, key, NODE, id=file.id)["metadata"] is None


def test_a_file_is_read_once_for_its_md5() -> None:
    """However often one document asks for the MD5 of one content, and whatever else it asks for, it is read once."""
    reads: list[str] = []

    class Calls:
        async def wait(self, call: Callable[[Any], bytes], file: Any) -> bytes:
            reads.append(file.blob_id)
            await asyncio.sleep(0)
            return call(file)

    core = SimpleNamespace(digests=SimpleNamespace(md5_of=lambda _: b"x" * 16))
    visit: Any = SimpleNamespace(calls=Calls(), core=core)
    info: Any = SimpleNamespace(context=GlueVisit(visit, "HTTP_PUT"))
    files = [SimpleNamespace(blob_id=name, checksums=Checksums()) for name in ("a", "b", "a", "a")]

    async def ask_for_all() -> list[str]:
        return await asyncio.gather(*(content_md5({"file": file}, info) for file in files))

    assert asyncio.run(ask_for_all()) == [base64.b64encode(b"x" * 16).decode()] * 4
    assert sorted(reads) == ["a", "b"]


@pytest.mark.parametrize(
    ("content_type", "file_type"),
    [
        ("video/mp4", "VIDEO"),
        ("audio/mpeg", "AUDIO"),
        ("application/zip", "ARCHIVE"),
        ("application/json", "DOCUMENT"),
        ("application/x-none", "OTHER"),
    ],
)
def test_types(server: RunningServer, content_type: str, file_type: str) -> None:
    """Every type of ours has one of theirs."""
    spec = file_pb2.FileSpec(name="x", content_type=content_type)
    request = pb.UploadFileRequest(workspace_id="demo", spec=spec, data=uuid4().bytes * 2)
    made = server.api().files.UploadFile(request).file
    assert done(server, str(server.ready["key"]), NODE, id=made.id)["fileType"] == file_type


def test_what_is_deleted(server: RunningServer) -> None:
    """A file that its owner has deleted is no node, and nobody's content any more."""
    key = server.new_key(f"deleting-{uuid4()}")
    data, said = some()
    file_id = uploaded(server, key, data, said)
    server.api(key).files.DeleteFile(pb.DeleteFileRequest(file_id=file_id))
    assert done(server, key, NODE, id=file_id) is None
    assert done(server, key, UPLOAD_TICKET, input=said)["id"].startswith("upl_")
    assert refusal(server, key, SEND_MESSAGE, input={"text": "x", "attachments": [file_id]}) == "NOT_FOUND"


def test_messages(server: RunningServer) -> None:
    """A message is read by everybody, shows its files in their order, and at the other doors; it keeps them from gc."""
    key, other = server.new_key(f"writer-{uuid4()}"), server.new_key(f"reader-{uuid4()}")
    files = [uploaded(server, key, *some()) for _ in range(3)][::-1]
    text = "Two\nlines, " + "and more. " * 200
    query = SEND_MESSAGE
    first = done(server, key, query, input={"text": text, "attachments": [*files, files[0]]})
    assert (first["text"], [one["id"] for one in first["attachments"]]) == (text, files)
    found = done(server, other, NODE, id=first["id"])
    assert (found["__typename"], found["text"]) == ("Message", text)
    assert [one["id"] for one in found["attachments"]] == files
    for one in found["attachments"]:
        assert done(server, other, NODE, id=one["id"])["id"] == one["id"]  # Read by all what hangs on something.
        assert httpx.get(one["url"]).status_code == 200
    answer = done(server, other, query, input={"text": "Yes", "attachments": [], "quotedMessageID": first["id"]})
    assert answer["attachments"] == []
    assert {one.id for one in attached(server.api(), first["id"])} == set(files)
    base, bearer = server.ready["http"], {"Authorization": f"Bearer {other}"}
    at_quantify = httpx.get(f"{base}/v1/issues/{first['id']}/attachments", headers=bearer).json()["results"]
    assert len(at_quantify) == 3
    answers = httpx.get(f"{base}/v1/issues/{first['id']}/subissues", headers=bearer).json()["results"]
    assert [(one["issueKey"], one["title"]) for one in answers] == [(answer["id"], "Yes")]


def test_messages_that_are_none(server: RunningServer) -> None:
    """Whatever is wrong with a message, nothing of it is kept."""
    key = server.new_key(f"writer-{uuid4()}")
    file_id = uploaded(server, key, *some())
    upload(server.api(), b"x", attach_to="GLUE-1")  # An issue, which is no message.
    counts = (
        "SELECT (SELECT COUNT(*) FROM issues), (SELECT COUNT(*) FROM attachments), (SELECT COUNT(*) FROM activities "
        "WHERE type IN ('issue.created.v1', 'attachment.created.v1'))"
    )
    before = server.sql(counts)
    good: dict[str, Any] = {"text": "x", "attachments": [file_id]}
    bad: list[tuple[dict[str, Any], str]] = [
        ({"attachments": [file_id, unlike(file_id)]}, "NOT_FOUND"),
        ({"attachments": [file_id, "fil_1h3c43PfmSQpPb0CXwRJUYs0ker"]}, "NOT_FOUND"),
        ({"attachments": [file_id, ""]}, "NOT_FOUND"),
        ({"quotedMessageID": "msg_none"}, "NOT_FOUND"),
        ({"quotedMessageID": "GLUE-1"}, "NOT_FOUND"),
        ({"text": "x" * 4097}, "BAD_USER_INPUT"),
        ({"text": "\0"}, "BAD_USER_INPUT"),
        ({"attachments": [file_id] * 101}, "BAD_USER_INPUT"),
        ({"attachments": [None]}, "BAD_USER_INPUT"),
    ]
    for change, code in bad:
        assert refusal(server, key, SEND_MESSAGE, input={**good, **change}) == code, change
    assert server.sql(counts) == before
    for nothing in ("msg_none", "GLUE-1", "", "upl_x", "fil_", "\0", "msg_\0"):
        assert done(server, key, NODE, id=nothing) is None


def test_texts_that_broke_others(server: RunningServer) -> None:
    """Each of them, where an id or a text may stand, is found nowhere or kept as it is."""
    key = server.new_key(f"odd-{uuid4()}")
    for text in ODD:
        assert done(server, key, NODE, id=text) is None
        assert refusal(server, key, CREATE_FILE, input={"uploadTicketID": text}) == "NOT_FOUND"
        assert refusal(server, key, SEND_MESSAGE, input={"text": "", "attachments": [text]}) == "NOT_FOUND"
        reply = ask(server, key, SEND_MESSAGE, input={"text": text, "attachments": []})
        assert not TRACES.search(reply.text)
        if "\0" in text or len(text) > 4096:
            assert reply.json()["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
        else:
            assert reply.json()["data"]["sendMessage"]["text"] == text


def test_errors(server: RunningServer) -> None:
    """Documents that are no good are answered with 200 and a code, requests that are none with 400."""
    key = str(server.ready["key"])
    expected = {
        "{": "GRAPHQL_PARSE_FAILED",
        "{ nothing }": "GRAPHQL_VALIDATION_FAILED",
        "query($id: ID!) { node(id: $id) { id } }": "BAD_USER_INPUT",
    }
    for query, code in expected.items():
        assert refusal(server, key, query) == code
    url = f"{server.ready['http']}/public/graphql"
    reply = httpx.post(url, content=b"[]", headers={"Authorization": f"Bearer {key}"})
    assert (reply.status_code, reply.json()["errors"][0]["extensions"]["code"]) == (400, "BAD_USER_INPUT")
    for given in (key, f"OAuth {key}", "Bearer", f"Bearer{key}"):
        assert httpx.post(url, json={"query": "{__typename}"}, headers={"Authorization": given}).status_code == 401


def test_a_token(server: RunningServer, token_of: Callable[[str], str]) -> None:
    """A program of Glue's gets a token by the scopes that Glue has, and walks the whole way with it."""
    token = token_of("workspaces:read,threads:read,groups:read,threads.messages:write")
    file_id = uploaded(server, token, *some())
    sent = done(server, token, SEND_MESSAGE, input={"text": "x", "attachments": [file_id]})
    reading = token_of("threads:read")
    assert done(server, reading, NODE, id=sent["id"])["text"] == "x"
    assert refusal(server, reading, UPLOAD_TICKET, input=some()[1]) == "FORBIDDEN"

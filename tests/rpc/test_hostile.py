"""Hostile callers against a real server: names, sizes, garbage. The answer is clean, and the server lives."""

from __future__ import annotations

import contextlib
import gzip
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from remora.v1 import attachment_service_pb2 as pb
from remora.v1 import common_pb2, file_pb2
from remora.v1 import file_service_pb2 as file_pb
from remora.v1 import upload_ticket_service_pb2 as ticket_pb
from tests.rpc.asking import WORKSPACE, card, upload, upsert, values
from tests.rpc.every_call import METHODS, ROWS, Answer, Names, Request, Row, ask, parts, prepare
from tests.running import Api, Refusal, RunningServer, refused

CODE = grpc.StatusCode
MIB = 1024 * 1024
Change = Callable[[Any], object]
NEVER = {CODE.INTERNAL, CODE.UNKNOWN, CODE.DATA_LOSS, CODE.UNAVAILABLE, CODE.DEADLINE_EXCEEDED, CODE.UNIMPLEMENTED}
URL = "https://example.com/hostile"
UPSERT = "/remora.v1.AttachmentService/UpsertAttachment"

NAMES = {
    "parent": "../../etc/passwd",
    "parent alone": "..",
    "dot": ".",
    "absolute": "/etc/passwd",
    "backslash": "..\\..\\windows\\system32",
    "drive": "C:\\autoexec.bat",
    "NUL": "a\0.txt",
    "line feed": "a\nb.txt",
    "carriage return": "a\r\nContent-Type: text/html",
    "300 bytes": "x" * 300,
    "256 bytes of two each": "é" * 128,
    "right-to-left override": "photo\u202egpj.exe",
    "isolate": "a\u2066b.txt",
    "mark": "a\u200f.txt",
    "line separator": "a\u2028b.txt",
    "escape": "a\x1b[2J.txt",
    "C1 control": "a\x85b.txt",
    "device": "NUL",
    "device with a suffix": "con.txt",
    "port": "Com1.tar.gz",
    "superscript port": "LPT\u00b9",
    "empty": "",
    "space": " ",
    "leading space": " a.txt",
}
GOOD_NAMES = [
    "a.txt",
    ".hidden",
    "x" * 255,
    "é" * 127,
    "naïve Ω.tar.gz",
    "CONSOLE.txt",
    "a..b",
    "%2e%2e%2f",
    "~",
    "-rf",
    "'\";--",
]

names = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)


def blobs_and_more(server: RunningServer) -> set[str]:
    """Return every path below the data directory's parent."""
    return {str(path.relative_to(server.data.parent)) for path in server.data.parent.rglob("*")}


def raw(server: RunningServer, method: str, body: bytes, **options: Any) -> bytes:
    """Send bytes as they are, as the body of one message."""
    metadata = [("authorization", f"Bearer {server.ready['key']}"), *options.pop("metadata", [])]
    with grpc.insecure_channel(server.address, options.pop("channel", None)) as channel:
        call: Any = channel.unary_unary(method)
        answer: bytes = call(body, metadata=metadata, timeout=60, **options)
        return answer


def resident_bytes(server: RunningServer) -> int:
    """Return the memory that the server holds."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


def lives(server: RunningServer) -> None:
    """Prove that the server answers and has noted no mistake of its own."""
    with grpc.insecure_channel(server.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=30)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert upsert(server.api(), "DEMO-1", URL).attachment.url == URL
    assert "internal error" not in server.log(), server.log()[-3000:]


class TestNames:
    """Names of files are for showing; nothing is made of them."""

    @names
    def test_uploads_and_tickets(self, api: Api, name: str) -> None:
        """A dangerous name is refused by every way in, before a byte is taken (P34)."""
        spec = file_pb2.FileSpec(name=name)
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
            api.files.UploadFile(file_pb.UploadFileRequest(workspace_id=WORKSPACE, spec=spec, data=b"x"))
        assert set(seen[0].fields) == {"spec.name"}
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            api.tickets.CreateUploadTicket(ticket_pb.CreateUploadTicketRequest(workspace_id=WORKSPACE, spec=spec))
        opening = file_pb.WriteFileRequest.Open(workspace_id=WORKSPACE, spec=spec)
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            list(api.files.WriteFile(iter([file_pb.WriteFileRequest(open=opening)])))

    @names
    def test_renaming(self, api: Api, name: str) -> None:
        """Nor can a file be given such a name later (P34)."""
        file = upload(api)
        wanted = file_pb.UpdateFileRequest(file=file_pb2.File(id=file.id, name=name))
        wanted.update_mask.paths.append("name")
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
            api.files.UpdateFile(wanted)
        assert set(seen[0].fields) == {"file.name"}
        assert api.files.GetFile(file_pb.GetFileRequest(file_id=file.id)).file.name == "a.txt"

    @pytest.mark.parametrize("name", GOOD_NAMES)
    def test_names_that_only_look_odd(self, api: Api, name: str) -> None:
        """What is harmless is kept as it is (P34)."""
        assert upload(api, name).name == name

    def test_no_path_is_made_of_a_name(self, start_server: Callable[..., RunningServer]) -> None:
        """Every file that an upload makes lies below the blob directory, and none of them bears its name (P34)."""
        server = start_server()
        api = server.api()
        before = blobs_and_more(server)
        data = bytes(100_000)  # Too large to lie in the database.
        spec = [file_pb2.FileSpec(name=f"marker-{number}") for number in range(len(NAMES) + 4)]
        for one, name in zip(spec, [*NAMES.values(), "marker.txt", "..marker", "marker%2f..", "~marker"], strict=True):
            one.name = name
            content = data + one.name.encode()
            request = file_pb.UploadFileRequest(workspace_id=WORKSPACE, spec=one, data=content)
            code, _ = _ended(lambda request=request: api.files.UploadFile(request))  # type: ignore[misc]
            assert code in {CODE.OK, CODE.INVALID_ARGUMENT}
        made = blobs_and_more(server) - before
        beside = {path for path in made if "/blobs" not in path and "remora.db" not in path}
        assert not beside
        assert len([path for path in server.blob_files() if path.stat().st_size >= len(data)]) == 4
        assert not [path for path in made if "marker" in path or "passwd" in path]
        assert not list(server.data.parent.parent.glob("*passwd*"))
        lives(server)


class TestMessages:
    """Messages that no honest client sends."""

    def test_over_the_limit(self, server: RunningServer) -> None:
        """A message over 4 MiB is RESOURCE_EXHAUSTED (P41)."""
        body = file_pb.UploadFileRequest(workspace_id=WORKSPACE, data=bytes(5 * MIB)).SerializeToString()
        with pytest.raises(grpc.RpcError) as raised:
            raw(server, "/remora.v1.FileService/UploadFile", body)
        assert raised.value.code() is CODE.RESOURCE_EXHAUSTED
        lives(server)

    @pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
    def test_bombs(self, server: RunningServer, algorithm: grpc.Compression) -> None:
        """A hundred megabytes of nothing, compressed, are refused, and not held in memory (P41)."""
        lives(server)
        before = resident_bytes(server)
        body = bytes(100 * MIB)
        channel = [("grpc.max_send_message_length", -1)]
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as raised:
                raw(server, UPSERT, body, compression=algorithm, channel=channel)
            assert raised.value.code() is CODE.RESOURCE_EXHAUSTED
        lives(server)
        assert resident_bytes(server) - before < 100 * MIB

    def test_bombs_in_streams(self, server: RunningServer) -> None:
        """A stream ends in the same way (P41)."""
        before = resident_bytes(server)
        chunk = file_pb.WriteFileRequest.Chunk(data=common_pb2.ChecksummedData(content=bytes(100 * MIB)))
        opening = file_pb.WriteFileRequest.Open(workspace_id=WORKSPACE, spec=file_pb2.FileSpec(name="a"))
        messages = [file_pb.WriteFileRequest(open=opening), file_pb.WriteFileRequest(chunk=chunk)]
        with grpc.insecure_channel(server.address, [("grpc.max_send_message_length", -1)]) as channel:
            call: Any = channel.stream_stream(
                "/remora.v1.FileService/WriteFile", request_serializer=file_pb.WriteFileRequest.SerializeToString
            )
            metadata = [("authorization", f"Bearer {server.ready['key']}")]
            with pytest.raises(grpc.RpcError) as raised:
                list(call(iter(messages), metadata=metadata, compression=grpc.Compression.Gzip, timeout=60))
        assert raised.value.code() is CODE.RESOURCE_EXHAUSTED
        lives(server)
        assert resident_bytes(server) - before < 100 * MIB

    @pytest.mark.parametrize(
        "body",
        [
            b"\xff" * 100,
            b"\x0a\xff\xff\xff\xff\x7f",
            b"\x0a\x05ab",
            b"\x00",
            b"\x0b" * 10_000,
            gzip.compress(b"x" * 1000, mtime=0),
            zlib.compress(b"x"),
            b"\x0a\x02\xc3\x28",
            bytes(range(256)) * 100,
        ],
    )
    @pytest.mark.parametrize("method", ["AttachmentService/UpsertAttachment", "FileService/WriteFile"])
    def test_garbage(self, server: RunningServer, body: bytes, method: str) -> None:
        """Bytes that are no message are refused without a word of how that was found out (P41)."""
        with grpc.insecure_channel(server.address) as channel:
            path = f"/remora.v1.{method}"
            metadata = [("authorization", f"Bearer {server.ready['key']}")]
            stream: Any = channel.stream_stream(path)
            unary: Any = channel.unary_unary(path)
            with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED"):
                if method.endswith("WriteFile"):
                    list(stream(iter([body]), metadata=metadata, timeout=60))
                else:
                    unary(body, metadata=metadata, timeout=60)
        lives(server)

    def test_deep_nesting(self, server: RunningServer) -> None:
        """Groups within groups, and messages within messages, are cut off or ignored (P41)."""
        groups = b"\xfb\x07" * 100_000 + b"\xfc\x07" * 100_000
        nested = b""
        for _ in range(5_000):
            nested = b"\xfa\x07" + _varint(len(nested)) + nested
        for body in (groups, nested):
            answer = _ended(lambda body=body: raw(server, UPSERT, body))  # type: ignore[misc]
            assert answer == (CODE.INVALID_ARGUMENT, "")
        lives(server)

    @pytest.mark.parametrize("size", [64 * 1024, 1024 * 1024])
    def test_huge_metadata(self, server: RunningServer, size: int) -> None:
        """Call metadata of 64 KiB and more is refused by the library, and the next call goes through (P41)."""
        for name in ("x-filler", "authorization"):
            code, _ = _ended(lambda name=name: raw(server, UPSERT, b"", metadata=[(name, "x" * size)]))  # type: ignore[misc]
            assert code in {CODE.RESOURCE_EXHAUSTED, CODE.UNAUTHENTICATED}
        lives(server)

    def test_odd_credentials(self, server: RunningServer) -> None:
        """Whatever is sent as a key, the answer is that there is none (P41)."""
        for key in ("a b c", "rk_", "Bearer x", "x" * 4000, "'; DROP TABLE keys; --"):
            answer = ask(server.api(key), ROWS[-1], ROWS[-1].make(Names(*[""] * 15)))
            assert (answer.code, answer.reason) == (CODE.UNAUTHENTICATED, "TOKEN_MISSING")
        lives(server)

    def test_not_grpc_at_all(self, server: RunningServer) -> None:
        """Another protocol on the port, and a connection full of noise, harm nobody else (P41)."""
        host, _, port = server.address.rpartition(":")
        for noise in (
            b"GET / HTTP/1.1\r\n\r\n",
            bytes(range(256)) * 64,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 5000,
        ):
            with socket.create_connection((host, int(port)), timeout=30) as connection:
                connection.sendall(noise)
                with contextlib.suppress(OSError):  # The server may be gone from this connection by now.
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass
        lives(server)


def hostile_values(field: Any) -> Iterator[Any]:
    """Return values for one field that no honest caller would send."""
    kind = field.type
    if kind == FieldDescriptor.TYPE_STRING:
        yield from (
            "", "\0", "a\0b", "\n", "\u202e", "\ufffe", "x" * 100_000, "\U0001f600" * 300, "../../etc/passwd",
            "' OR 1=1 --", "%s%n{}", "_", "att_", "issue", "-1", "\x7f",
        )  # fmt: skip
    elif kind == FieldDescriptor.TYPE_BYTES:
        yield from (b"", b"\0", b"\xff" * 100_000)
    elif kind in {FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT}:
        yield from (float("nan"), float("inf"), -float("inf"), 5e-324, -0.0)
    elif kind == FieldDescriptor.TYPE_ENUM:
        yield from (-1, 99, 2**31 - 1)
    elif kind in {FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64}:
        yield from (-1, -(2**63), 2**63 - 1, 2**53 + 1)
    elif kind in {FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_SINT32}:
        yield from (-1, -(2**31), 2**31 - 1)
    elif kind in {FieldDescriptor.TYPE_FIXED32, FieldDescriptor.TYPE_UINT32}:
        yield from (0, 2**32 - 1)
    elif kind in {FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64}:
        yield 2**64 - 1


def mutations(message: Message) -> Iterator[Message]:
    """Return copies of a request, each with one field that is hostile: in it, or in a message within it."""
    for place, part in enumerate(list(parts(message))):
        for field in part.DESCRIPTOR.fields:
            for change in changes(field):
                yield _changed(message, place, change)


def changes(field: Any) -> Iterator[Change]:
    """Return what may be done to one field of a message."""
    inner = field.message_type
    if inner is None:
        for value in hostile_values(field):
            yield partial(_set, field=field, value=value)
    elif inner.GetOptions().map_entry:
        yield lambda one: _metadata_of_all_sorts(getattr(one, field.name))
        yield lambda one: _metadata_that_is_large(getattr(one, field.name))
    else:
        yield lambda one: one.ClearField(field.name)
        if field.is_repeated:
            yield lambda one: getattr(one, field.name).add()
            yield lambda one: [getattr(one, field.name).add() for _ in range(101)]
        else:
            yield lambda one: getattr(one, field.name).SetInParent()
            # Times and the like are absent from honest requests, so they are not among their parts.
            for within in inner.fields if inner.full_name.startswith("google.protobuf.") else ():
                for value in hostile_values(within):
                    yield partial(_set_within, name=field.name, field=within, value=value)


def _metadata_of_all_sorts(found: Any) -> None:
    for key in ("", "\0", "x" * 200, "ä\n"):
        found[key].int_value = 1
    found["nan"].double_value = float("nan")
    found["none"].SetInParent()
    found["text"].string_value = "\0"


def _metadata_that_is_large(found: Any) -> None:
    for number in range(3000):
        found[f"k{number}"].string_value = "x" * 500


class TestFields:
    """Every field of every RPC, with values that nobody should send."""

    @pytest.mark.parametrize("row", ROWS, ids=str)
    def test_each_field_by_itself(self, server: RunningServer, api: Api, row: Row) -> None:
        """Whatever one field holds, the answer is an answer or a clean refusal, never a mistake of the server (P41)."""
        found = prepare(api, WORKSPACE)
        count = 0
        request = row.make(found)
        for place, message in enumerate(request if not isinstance(request, Message) else [request]):
            for changed in mutations(message):
                whole = (
                    [*request[:place], changed, *request[place + 1 :]] if not isinstance(request, Message) else changed
                )
                answer = ask(api, row, whole)
                assert answer.code not in NEVER, (changed, answer)
                assert_clean(answer, changed)
                count += 1
                if answer.code is CODE.OK and row.method.name.startswith(
                    ("Delete", "Undelete", "Cancel", "Create", "Write")
                ):
                    found = prepare(api, WORKSPACE)
                    request = row.make(found)
        assert count > 0 or not row.method.input_type.fields
        assert "internal error" not in server.log(), server.log()[-3000:]

    @pytest.mark.parametrize("rpc", METHODS)
    def test_empty_requests(self, server: RunningServer, api: Api, rpc: str) -> None:
        """A request without any field is refused by name, or answered where nothing is required (P41)."""
        row = next(row for row in ROWS if row.rpc == rpc)
        made = row.make(prepare(api, WORKSPACE))
        one = made if isinstance(made, Message) else made[0]
        requests: list[Request] = [[], [type(one)()]] if row.method.client_streaming else [type(one)()]
        for request in requests:
            answer = ask(api, row, request)
            if rpc == "CapabilityService.GetCapabilities":
                assert answer.code is CODE.OK
            else:
                assert (answer.code, answer.reason) in {
                    (CODE.INVALID_ARGUMENT, "VALIDATION_FAILED"),
                    (CODE.INVALID_ARGUMENT, "URL_NOT_ALLOWED"),
                }
        assert "internal error" not in server.log()

    def test_unknown_fields_are_ignored(self, server: RunningServer) -> None:
        """A newer client's field does no harm (D1)."""
        wanted = pb.UpsertAttachmentRequest(attachment=card("DEMO-1", URL)).SerializeToString()
        answer = raw(server, UPSERT, wanted + b"\xf8\x3f\x01" + b"\xfa\x3f\x05extra")
        assert pb.UpsertAttachmentResponse.FromString(answer).attachment.url == URL

    def test_memory_after_all_that(self, server: RunningServer, api: Api) -> None:
        """Thousands of large and refused requests leave no more than a little behind (P41)."""
        body = pb.UpsertAttachmentRequest(
            attachment=card("DEMO-1", URL, metadata=values(**{f"k{n}": "x" * 900 for n in range(3000)}))
        )
        _ended(lambda: api.attachments.UpsertAttachment(body))
        before = resident_bytes(server)
        for _ in range(100):
            code, _text = _ended(lambda: api.attachments.UpsertAttachment(body))
            assert code is CODE.INVALID_ARGUMENT
        lives(server)
        assert resident_bytes(server) - before < 100 * MIB


def assert_clean(answer: Answer, request: Message) -> None:
    """Expect a reason of ours with a refusal, unless the library refused a message that is too large."""
    if answer.code is CODE.OK:
        return
    assert answer.reason or request.ByteSize() > 4 * MIB, answer


def _changed(message: Message, place: int, change: Callable[[Any], object]) -> Message:
    copy = type(message)()
    copy.CopyFrom(message)
    change(list(parts(copy))[place])
    return copy


def _set_within(message: Any, name: str, field: Any, value: Any) -> None:
    _set(getattr(message, name), field, value)


def _set(message: Any, field: Any, value: Any) -> None:
    if field.is_repeated:
        del getattr(message, field.name)[:]
        getattr(message, field.name).extend([value] * (1000 if value == "_" else 1))
    else:
        setattr(message, field.name, value)


def _ended(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    try:
        call()
    except grpc.RpcError as error:
        refusal = Refusal(error)
        return refusal.code, "" if refusal.reason else str(refusal.message)
    return CODE.OK, ""


def _varint(number: int) -> bytes:
    made = b""
    while number > 127:
        made += struct.pack("B", number & 127 | 128)
        number >>= 7
    return made + struct.pack("B", number)

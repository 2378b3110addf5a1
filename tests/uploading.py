"""Uploads and downloads in the hands of a test: message by message, or whole by each of the ways there are."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from queue import SimpleQueue
from types import TracebackType
from typing import Self

import google_crc32c
import grpc

from remora.v1 import common_pb2, file_pb2, upload_ticket_pb2
from remora.v1 import file_service_pb2 as pb
from remora.v1 import upload_ticket_service_pb2 as tickets_pb
from tests.running import Api, issue

KIB = 1024
MIB = 1024 * KIB
NO_CHECKSUMS = common_pb2.Checksums()


def checksums_of(data: bytes, *names: str) -> common_pb2.Checksums:
    """Return the named digests of `data`, all three without names."""
    all_three = {
        "crc32c": google_crc32c.value(data),
        "md5": hashlib.md5(data, usedforsecurity=False).digest(),
        "sha256": hashlib.sha256(data).digest(),
    }
    return common_pb2.Checksums(**{name: all_three[name] for name in names or all_three})


def spec_of(
    name: str = "a.bin", size_bytes: int | None = None, checksums: common_pb2.Checksums | None = None
) -> file_pb2.FileSpec:
    """Return what is said of a file."""
    return file_pb2.FileSpec(name=name, size_bytes=size_bytes, checksums=checksums)


def checked(data: bytes) -> common_pb2.ChecksummedData:
    """Return bytes with their CRC32C."""
    return common_pb2.ChecksummedData(content=data, crc32c=google_crc32c.value(data))


class Stream:
    """One WriteFile stream. Leaving the block cancels what is left of it."""

    def __init__(
        self,
        api: Api,
        ticket_id: str = "",
        *,
        spec: file_pb2.FileSpec | None = None,
        attach_to: str = "",
        request_id: str = "",
        workspace: str = "demo",
        opening: bool = True,
    ) -> None:
        self._requests: SimpleQueue[pb.WriteFileRequest | None] = SimpleQueue()
        self.call = api.files.WriteFile(iter(self._requests.get, None))
        self.ticket_id = ticket_id
        self.offset = 0
        if not opening:
            return
        wanted = pb.WriteFileRequest.Open(workspace_id=workspace, request_id=request_id)
        if ticket_id:
            wanted.upload_ticket_id = ticket_id
        else:
            wanted.spec.CopyFrom(spec or spec_of())
        if attach_to:
            wanted.attach_to.CopyFrom(issue(attach_to))
        self._requests.put(pb.WriteFileRequest(open=wanted))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def cancel(self) -> None:
        """Break the stream off."""
        self.call.cancel()
        self._requests.put(None)

    def end(self) -> None:
        """Send nothing more, without having finished."""
        self._requests.put(None)

    def next(self) -> pb.WriteFileResponse:
        """Return the next answer."""
        return next(self.call)

    def rest(self) -> list[pb.WriteFileResponse]:
        """Return every answer up to the end of the stream."""
        return list(self.call)

    def opened(self) -> pb.WriteFileResponse:
        """Return Ready or Done, once nobody verifies the bytes; a server that was killed seems to for a while."""
        while (answer := self.next()).WhichOneof("message") == "verifying":
            pass
        return answer

    def ready(self) -> pb.WriteFileResponse.Ready:
        """Return the first answer, which lets bytes go."""
        answer = self.next()
        assert answer.WhichOneof("message") == "ready", answer
        self.ticket_id = answer.ready.upload_ticket_id
        self.offset = answer.ready.committed_size
        return answer.ready

    def send(self, data: bytes, *, offset: int | None = None, crc32c: int | None = None) -> None:
        """Send a piece, by default the one that follows."""
        piece = checked(data)
        if crc32c is not None:
            piece.crc32c = crc32c
        start = self.offset if offset is None else offset
        self._requests.put(pb.WriteFileRequest(chunk=pb.WriteFileRequest.Chunk(offset=start, data=piece)))
        self.offset = start + len(data)

    def send_all(self, data: bytes, *, chunk_bytes: int = MIB) -> None:
        """Send what of a whole file is not there yet."""
        while self.offset < len(data):
            self.send(data[self.offset : self.offset + chunk_bytes])

    def flush(self) -> int:
        """Have everything sent so far stored for good; return the committed size."""
        self.ask_flush()
        return self.committed(self.offset)

    def ask_flush(self) -> None:
        """Ask for everything sent so far to be stored for good."""
        self._requests.put(pb.WriteFileRequest(flush=pb.WriteFileRequest.Flush()))

    def committed(self, size_bytes: int) -> int:
        """Wait for Progress of at least so many bytes; return how many they are."""
        while True:
            answer = self.next()
            assert answer.WhichOneof("message") == "progress", answer
            if answer.progress.committed_size >= size_bytes:
                return answer.progress.committed_size

    def ask_finish(self, size_bytes: int | None = None, checksums: common_pb2.Checksums = NO_CHECKSUMS) -> None:
        """Say that everything was sent."""
        size = self.offset if size_bytes is None else size_bytes
        finish = pb.WriteFileRequest.Finish(size_bytes=size, checksums=checksums)
        self._requests.put(pb.WriteFileRequest(finish=finish))

    def finish(
        self, size_bytes: int | None = None, checksums: common_pb2.Checksums = NO_CHECKSUMS
    ) -> pb.WriteFileResponse.Done:
        """Say that everything was sent, and wait for the file."""
        self.ask_finish(size_bytes, checksums)
        return self.done()

    def done(self) -> pb.WriteFileResponse.Done:
        """Wait for the file and for the end of the stream."""
        *_, last = self.rest()
        assert last.WhichOneof("message") == "done", last
        return last.done

    def drained(self) -> pb.WriteFileResponse.Drain:
        """Wait for the server to end the stream, with OK."""
        *_, last = self.rest()
        assert last.WhichOneof("message") == "drain", last
        assert self.call.code() is grpc.StatusCode.OK
        return last.drain


def by_unary(
    api: Api, data: bytes, spec: file_pb2.FileSpec, late: common_pb2.Checksums = NO_CHECKSUMS, *, attach_to: str = ""
) -> file_pb2.File:
    """Store a file with one call, which has one place for digests only."""
    spec.checksums.MergeFrom(late)
    return upload(api, data, spec=spec, attach_to=attach_to).file


def by_stream(
    api: Api, data: bytes, spec: file_pb2.FileSpec, late: common_pb2.Checksums = NO_CHECKSUMS, *, attach_to: str = ""
) -> file_pb2.File:
    """Store a file with WriteFile; `late` are the digests in Finish."""
    with Stream(api, spec=spec, attach_to=attach_to) as stream:
        stream.ready()
        stream.send_all(data)
        return stream.finish(checksums=late).file


def by_append(
    api: Api, data: bytes, spec: file_pb2.FileSpec, late: common_pb2.Checksums = NO_CHECKSUMS, *, attach_to: str = ""
) -> file_pb2.File:
    """Store a file with a ticket, unary appends and CreateFile; `late` are the digests in CreateFile."""
    ticket_id = new_ticket(api, spec, attach_to=attach_to).id
    for offset in range(0, len(data), MIB):
        append(api, ticket_id, offset, data[offset : offset + MIB])
    return create_file(api, ticket_id, checksums=late, size_bytes=len(data)).file


Way = Callable[..., file_pb2.File]
WAYS: Mapping[str, Way] = {"unary": by_unary, "stream": by_stream, "append": by_append}


def upload(
    api: Api,
    data: bytes,
    *,
    spec: file_pb2.FileSpec | None = None,
    name: str = "a.bin",
    attach_to: str = "",
    request_id: str = "",
    workspace: str = "demo",
) -> pb.UploadFileResponse:
    """Call UploadFile."""
    request = pb.UploadFileRequest(workspace_id=workspace, spec=spec or spec_of(name), data=data, request_id=request_id)
    if attach_to:
        request.attach_to.CopyFrom(issue(attach_to))
    return api.files.UploadFile(request)


def ask_for_ticket(
    api: Api,
    spec: file_pb2.FileSpec | None = None,
    *,
    attach_to: str = "",
    workspace: str = "demo",
    skip_existing_check: bool = False,
    request_id: str = "",
) -> tickets_pb.CreateUploadTicketResponse:
    """Call CreateUploadTicket."""
    request = tickets_pb.CreateUploadTicketRequest(
        workspace_id=workspace,
        spec=spec or spec_of(),
        skip_existing_check=skip_existing_check,
        request_id=request_id,
    )
    if attach_to:
        request.attach_to.CopyFrom(issue(attach_to))
    return api.tickets.CreateUploadTicket(request)


def new_ticket(
    api: Api, spec: file_pb2.FileSpec | None = None, *, attach_to: str = "", workspace: str = "demo"
) -> upload_ticket_pb2.UploadTicket:
    """Return a new ticket."""
    answer = ask_for_ticket(api, spec, attach_to=attach_to, workspace=workspace)
    assert answer.WhichOneof("result") == "upload_ticket", answer
    return answer.upload_ticket


def ticket(api: Api, ticket_id: str) -> upload_ticket_pb2.UploadTicket:
    """Call GetUploadTicket."""
    return api.tickets.GetUploadTicket(tickets_pb.GetUploadTicketRequest(upload_ticket_id=ticket_id)).upload_ticket


def append(
    api: Api, ticket_id: str, offset: int, data: bytes, *, writer_epoch: int | None = None, crc32c: int | None = None
) -> tickets_pb.AppendUploadTicketResponse:
    """Call AppendUploadTicket."""
    piece = checked(data)
    if crc32c is not None:
        piece.crc32c = crc32c
    return api.tickets.AppendUploadTicket(
        tickets_pb.AppendUploadTicketRequest(
            upload_ticket_id=ticket_id, offset=offset, data=piece, writer_epoch=writer_epoch
        )
    )


def cancel(api: Api, ticket_id: str) -> upload_ticket_pb2.UploadTicket:
    """Call CancelUploadTicket."""
    request = tickets_pb.CancelUploadTicketRequest(upload_ticket_id=ticket_id)
    return api.tickets.CancelUploadTicket(request).upload_ticket


def create_file(
    api: Api,
    ticket_id: str,
    *,
    checksums: common_pb2.Checksums = NO_CHECKSUMS,
    size_bytes: int | None = None,
    attach_to: str = "",
) -> pb.CreateFileResponse:
    """Call CreateFile."""
    request = pb.CreateFileRequest(upload_ticket_id=ticket_id, checksums=checksums, size_bytes=size_bytes)
    if attach_to:
        request.attach_to.CopyFrom(issue(attach_to))
    return api.files.CreateFile(request)


def read(api: Api, file_id: str = "", *, offset: int = 0, limit: int = 0, attachment_id: str = "") -> bytes:
    """Read bytes of a file, holding each message to what the contract says of it."""
    request = pb.ReadFileRequest(offset=offset, limit=limit)
    if attachment_id:
        request.attachment_id = attachment_id
    else:
        request.file_id = file_id
    answers = api.files.ReadFile(request)
    header = next(answers).header
    data = bytearray()
    for answer in answers:
        assert answer.WhichOneof("message") == "chunk"
        assert answer.chunk.offset == header.offset + len(data)
        assert answer.chunk.data.crc32c == google_crc32c.value(answer.chunk.data.content)
        data += answer.chunk.data.content
    assert len(data) == header.length
    return bytes(data)


def attached(api: Api, issue_key: str) -> list[file_pb2.File]:
    """Return the files on an issue; an issue that no write has made known yet has none."""
    request = pb.ListFilesRequest(workspace_id="demo", subject=issue(issue_key), page_size=1000)
    try:
        return list(api.files.ListFiles(request).files)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return []
        raise


class CuttingProxy:
    """Passes TCP on to a server, and cuts every connection once the client has sent a number of bytes over it."""

    def __init__(self, server: str, *, cut_after_bytes: int) -> None:
        host, _, port = server.rpartition(":")
        self._server = (host, int(port))
        self._cut_after_bytes = cut_after_bytes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts = 0
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pass_up, args=(client, server), daemon=True).start()
            threading.Thread(target=self._pass_down, args=(server, client), daemon=True).start()

    def _pass_up(self, client: socket.socket, server: socket.socket) -> None:
        left = self._cut_after_bytes
        with contextlib.suppress(OSError):
            while left and (data := client.recv(min(left, 64 * KIB))):
                server.sendall(data)
                left -= len(data)
        if not left:
            self.cuts += 1
        _cut(client, server)
        client.close()

    def _pass_down(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(64 * KIB):
                client.sendall(data)
        _cut(client, server)
        server.close()


def _cut(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def direct(address: str, key: str) -> Iterator[Api]:
    """Return stubs over a channel that is closed afterwards."""
    api = Api(address, key)
    try:
        yield api
    finally:
        api.channel.close()

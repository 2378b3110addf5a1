"""Uploads over HTTP in the hands of a test, which follow what a ticket says and know nothing of who takes the bytes."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from remora.v1 import file_pb2, upload_ticket_pb2
from remora.v1 import file_service_pb2 as files_pb
from remora.v1 import upload_ticket_service_pb2 as tickets_pb
from tests.running import Api, issue

PUT = upload_ticket_pb2.TRANSPORT_HTTP_PUT
FORM = upload_ticket_pb2.TRANSPORT_HTTP_POST_FORM
RESUMABLE = upload_ticket_pb2.TRANSPORT_HTTP_RESUMABLE
TRANSPORTS = {"put": PUT, "form": FORM, "resumable": RESUMABLE}


@dataclass(frozen=True)
class Reply:
    """What curl got."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the request did what it was for."""
        return 200 <= self.status < 300

    @property
    def reason(self) -> str:
        """Why this server refused the request."""
        error: Mapping[str, str] = json.loads(self.body)["error"]
        assert {"code", "reason", "message"} <= set(error) <= {"code", "reason", "message", "metadata"}
        return error["reason"]

    @property
    def refusal(self) -> tuple[int, str]:
        """Status and reason."""
        return self.status, self.reason


def http_ticket(
    api: Api,
    transport: upload_ticket_pb2.Transport.ValueType,
    spec: file_pb2.FileSpec | None = None,
    *,
    attach_to: str = "",
) -> upload_ticket_pb2.UploadTicket:
    """Ask for a ticket, whatever is stored already."""
    request = tickets_pb.CreateUploadTicketRequest(
        workspace_id="demo",
        spec=spec or file_pb2.FileSpec(name=f"{uuid4()}.bin"),
        transport=transport,
        skip_existing_check=True,
        attach_to=issue(attach_to) if attach_to else None,
    )
    return api.tickets.CreateUploadTicket(request).upload_ticket


def curl(url: str, *options: str, data: bytes | None = None, output: Path | None = None) -> Reply:
    """Make a request with the real program; `data` is what the option `@-` reads, `output` where the body goes."""
    with tempfile.TemporaryDirectory(prefix="http-curl-") as folder:
        head, body = Path(folder, "head"), output or Path(folder, "body")
        done = subprocess.run(
            ["curl", "-sS", "--max-time", "60", "-D", str(head), "-o", str(body), *options, url],  # noqa: S607
            input=data,
            capture_output=True,
            check=False,
        )
        blocks = [block for block in head.read_bytes().split(b"\r\n\r\n") if block.strip()] if head.exists() else []
        if not blocks or b" 100 " in blocks[-1].partition(b"\r\n")[0]:
            raise ConnectionError(done.stderr)
        last = blocks[-1]
        first, *lines = last.decode("latin-1").strip().splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Reply(int(first.split()[1]), headers, body.read_bytes() if body.exists() else b"")


def ask(method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> Reply:
    """Make a request whose every byte is as given."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port or 80, timeout=30)
    try:
        connection.putrequest(method, url.partition(parts.netloc)[2], skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is not None and "Transfer-Encoding" not in (headers or {}) and "Content-Length" not in (headers or {}):
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        return _reply(connection.getresponse())
    finally:
        connection.close()


def _reply(response: HTTPResponse) -> Reply:
    names = [name.lower() for name, _ in response.getheaders()]
    assert len(names) == len(set(names)), names
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def send(http: upload_ticket_pb2.HttpUpload, data: bytes, *more: str) -> Reply:
    """Send all bytes as the ticket says, with curl."""
    return curl(http.url, *options_for(http), *more, data=data)


def options_for(http: upload_ticket_pb2.HttpUpload) -> Sequence[str]:
    """Return the options of curl that send its standard input as a ticket says."""
    options = ["-X", http.method]
    for header in http.headers:
        options += ["-H", f"{header.name}: {header.value}"]
    for field in http.form_data:
        if field.value == "@file":
            options += ["-F", f"{field.name}=@-;filename=upload.bin"]
        else:
            options += ["--form-string", f"{field.name}={field.value}"]
    if not http.form_data:
        # Curl would call raw bytes a form of its own.
        options += ["--data-binary", "@-"]
        if not any(header.name.lower() == "content-type" for header in http.headers):
            options += ["-H", "Content-Type:"]
    return options


def make_file(api: Api, ticket_id: str) -> file_pb2.File:
    """Make the file of bytes that have arrived."""
    return api.files.CreateFile(files_pb.CreateFileRequest(upload_ticket_id=ticket_id)).file


def download_url(api: Api, file_id: str, *, inline: bool = False) -> str:
    """Ask for a URL."""
    kind = files_pb.DISPOSITION_INLINE if inline else files_pb.DISPOSITION_ATTACHMENT
    return api.files.GetFileDownloadUrl(files_pb.GetFileDownloadUrlRequest(file_id=file_id, disposition=kind)).url

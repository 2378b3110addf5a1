"""A large file attached through Yandex Tracker's door, and one that is cut off; prints a transcript as Markdown.

REMORA_DEMO_BYTES says how large: 1 GiB, the most that the door takes, if it is not set.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tests.e2e.programs import clean_environment
from tests.running import RunningServer, until

MIB = 1 << 20
SIZE_BYTES = int(os.environ.get("REMORA_DEMO_BYTES", str(1 << 30)))
HEAD = b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n\r\n'
TAIL = b"\r\n--xyz--\r\n"


def main() -> int:
    """Run the demonstration in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="remora-demo-") as name:
        folder = Path(name)
        server = RunningServer(folder / "remora-data", environment=clean_environment(folder)).start()
        try:
            _show(server)
        finally:
            server.stop()
    return 0


def _show(server: RunningServer) -> None:
    idle_kib = _kib(server, "VmRSS")
    _say(f"# A file of {SIZE_BYTES} bytes attached as a form\n")
    sent = hashlib.sha256()
    began = time.monotonic()
    status, answer = _post(server, SIZE_BYTES, _body(SIZE_BYTES, sent))
    seconds = time.monotonic() - began
    _say(
        f"Attached: {status} after {seconds:.1f} s, {SIZE_BYTES / MIB / seconds:.0f} MiB/s, which includes making it.\n"
    )
    assert status == 201, answer
    found = re.search(rb'"content":"([^"]+)"', answer)
    assert found is not None
    came, began = hashlib.sha256(), time.monotonic()
    connection, path = _connection(found[1].decode())
    connection.request("GET", path, headers=_key(server))
    reply = connection.getresponse()
    while piece := reply.read(MIB):
        came.update(piece)
    seconds = time.monotonic() - began
    _say(f"Downloaded: {reply.status} after {seconds:.1f} s, {SIZE_BYTES / MIB / seconds:.0f} MiB/s.\n")
    _say(f"SHA-256 sent {sent.hexdigest()}\n     received {came.hexdigest()}\n")
    assert came.digest() == sent.digest()
    used = server.used_bytes()
    half = SIZE_BYTES // 2
    connection, path = _connection(f"{server.ready['http']}/v2/issues/DEMO-2/attachments/")
    connection.putrequest("POST", path)
    for header, value in {**_form(server), "Content-Length": str(SIZE_BYTES)}.items():
        connection.putheader(header, value)
    connection.endheaders()
    for piece in _body(half, hashlib.sha256()):
        connection.send(piece)
    while_sending = server.used_bytes()
    connection.close()
    until(lambda: server.used_bytes() == used, 60)
    _say(f"Cut off after {half} bytes: {while_sending - used} bytes lay there, then none.\n")
    peak_kib = _kib(server, "VmHWM")
    _say(f"Memory of the server: {idle_kib / 1024:.0f} MiB idle, {peak_kib / 1024:.0f} MiB at most.")
    assert peak_kib - idle_kib < 64 * 1024


def _post(server: RunningServer, size_bytes: int, body: Iterator[bytes]) -> tuple[int, bytes]:
    connection, path = _connection(f"{server.ready['http']}/v2/issues/DEMO-1/attachments/?filename=large.bin")
    headers = {**_form(server), "Content-Length": str(size_bytes + len(HEAD) + len(TAIL))}
    connection.request("POST", path, body=body, headers=headers)
    reply = connection.getresponse()
    return reply.status, reply.read()


def _body(size_bytes: int, sent: hashlib._Hash) -> Iterator[bytes]:
    """Make a form around bytes that differ from piece to piece."""
    yield HEAD
    piece, left = bytearray(os.urandom(MIB)), size_bytes
    while left:
        piece[:8] = left.to_bytes(8)
        data = bytes(piece[: min(MIB, left)])
        sent.update(data)
        left -= len(data)
        yield data
    yield TAIL


def _connection(url: str) -> tuple[http.client.HTTPConnection, str]:
    parts = urlsplit(url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=300), f"{parts.path}?{parts.query}"


def _key(server: RunningServer) -> dict[str, str]:
    return {"Authorization": f"OAuth {server.ready['key']}"}


def _form(server: RunningServer) -> dict[str, str]:
    return {**_key(server), "Content-Type": "multipart/form-data; boundary=xyz"}


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _kib(server: RunningServer, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{server.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


if __name__ == "__main__":
    sys.exit(main())

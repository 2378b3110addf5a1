"""How long one tenant waits while another crowds the server: `scripts/crowd`.

Small calls of one tenant, one after the other, first alone, then beside 200 upload streams of another: slow ones, which
send a byte now and then and stay below the minimum rate (P18), and busy ones, which send as fast as they are let (P44).
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from remora.v1 import attachment_service_pb2
from remora.v1 import file_service_pb2 as pb
from tests.bench.calling import Calls, call_for
from tests.running import Api, RunningServer, issue
from tests.uploading import KIB, checked, spec_of

STREAMS = 200
CHANNELS = 8
SECONDS = 5.0
PROMISED_MS = {"slow": 1000.0, "busy": 2000.0}
UPSERT = "/remora.v1.AttachmentService/UpsertAttachment"
GET = "/remora.v1.AttachmentService/GetAttachment"


def main() -> int:
    """Measure, print, and exit with 1 if a promise is broken."""
    broken = False
    with tempfile.TemporaryDirectory(prefix="remora-crowd-") as folder:
        server = RunningServer(Path(folder) / "data", "--idle-timeout", "60").start()
        try:
            key = server.new_key("bystander", workspace="bystander")
            alone = _measure(server.address, key)
            _print("alone", alone)
            for kind, promised_ms in PROMISED_MS.items():
                with subprocess.Popen(
                    [sys.executable, "-m", "tests.bench.crowd", kind, server.address, str(server.ready["key"])],
                    stdout=subprocess.PIPE,
                    text=True,
                ) as crowd:
                    assert crowd.stdout is not None
                    crowd.stdout.readline()
                    for name, calls in _measure(server.address, key).items():
                        _print(f"{name} beside {STREAMS} {kind} streams", {name: calls})
                        broken = broken or calls.p99_ms > promised_ms
                    crowd.kill()
        finally:
            server.kill()
    return int(broken)


def _measure(address: str, key: str) -> dict[str, Calls]:
    """Make reads, then writes, for a while each."""
    api = Api(address, key)
    request = attachment_service_pb2.UpsertAttachmentRequest()
    request.attachment.workspace_id = "bystander"
    request.attachment.subject.CopyFrom(issue("CROWD-1"))
    request.attachment.url = "https://example.com/read"
    attachment_id = api.attachments.UpsertAttachment(request).attachment.id
    api.channel.close()
    get = attachment_service_pb2.GetAttachmentRequest(attachment_id=attachment_id).SerializeToString()
    numbers = itertools.count()

    def upsert(_: int) -> bytes:
        request.attachment.url = f"https://example.com/{time.time_ns()}/{next(numbers)}"
        return request.SerializeToString()

    return {
        "reads": call_for(lambda seconds: seconds < SECONDS, address, GET, key, 1, lambda _: get),
        "writes": call_for(lambda seconds: seconds < SECONDS, address, UPSERT, key, 1, upsert),
    }


def _print(name: str, measured: dict[str, Calls]) -> None:
    for kind, calls in measured.items():
        print(
            f"{name:<36} {kind:<7} {calls.count:>7} calls, p50 {calls.p50_ms:8.2f} ms, p99 {calls.p99_ms:8.2f} ms",
            flush=True,
        )


def _crowd(kind: str, address: str, key: str) -> None:
    """Hold streams open until the process is killed."""
    apis = [Api(address, key) for _ in range(CHANNELS)]
    opened = threading.Barrier(STREAMS + 1)
    chunk = checked(os.urandom(256 * KIB)) if kind == "busy" else checked(b".")

    def messages(begun: threading.Event) -> Iterator[pb.WriteFileRequest]:
        wanted = pb.WriteFileRequest.Open(workspace_id="demo", spec=spec_of())
        yield pb.WriteFileRequest(open=wanted)
        begun.wait()
        for number in itertools.count():
            if kind == "slow":
                time.sleep(0.5)
            offset = number * len(chunk.content)
            yield pb.WriteFileRequest(chunk=pb.WriteFileRequest.Chunk(offset=offset, data=chunk))

    def one(number: int) -> None:
        begun = threading.Event()
        call = apis[number % CHANNELS].files.WriteFile(messages(begun))
        next(call)
        opened.wait()
        begun.set()
        for _ in call:
            pass

    for number in range(STREAMS):
        threading.Thread(target=one, args=(number,), daemon=True).start()
    opened.wait()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _crowd(*sys.argv[1:])
    sys.exit(main())

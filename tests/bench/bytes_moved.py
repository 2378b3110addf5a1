"""Large content: our uploads and downloads, and the ceilings that they are held against, in MB/s (MiB)."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import google_crc32c
import grpc

from remora.v1 import common_pb2, file_pb2, file_service_pb2, file_service_pb2_grpc
from tests.running import Api

MIB = 1024 * 1024
CHUNK = MIB
SYNC_EVERY = 8 * MIB


class Content:
    """Random bytes that no earlier upload had, with digests made before the clock runs."""

    def __init__(self, size_bytes: int) -> None:
        block = os.urandom(16 * MIB)
        starts = [i % 16 * MIB for i in range(size_bytes // CHUNK)]
        self.chunks = [os.urandom(64) + block[start + 64 : start + MIB] for start in starts]
        digest = hashlib.sha256()
        for chunk in self.chunks:
            digest.update(chunk)
        self.sha256 = digest.digest()
        self.size_bytes = sum(map(len, self.chunks))
        self.crcs = [google_crc32c.value(chunk) for chunk in self.chunks]


def md5_alone(content: Content) -> float:
    """Hash with MD5 on one core."""
    began = time.perf_counter()
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in content.chunks:
        digest.update(chunk)
    return _rate(content.size_bytes, began)


def same_work_locally(content: Content, folder: Path) -> float:
    """Hash with MD5 and SHA-256 in two threads, write, and make durable as the server does, without any RPC."""
    began = time.perf_counter()
    queue: SimpleQueue[bytes | None] = SimpleQueue()
    md5 = hashlib.md5(usedforsecurity=False)

    def hash_beside() -> None:
        while (chunk := queue.get()) is not None:
            md5.update(chunk)

    thread = threading.Thread(target=hash_beside)
    thread.start()
    sha256 = hashlib.sha256()
    with tempfile.NamedTemporaryFile(dir=folder) as file, ThreadPoolExecutor(1) as syncing:
        unsynced = 0
        pending = None
        for chunk in content.chunks:
            queue.put(chunk)
            os.write(file.fileno(), chunk)
            sha256.update(chunk)
            unsynced += len(chunk)
            if unsynced >= SYNC_EVERY:
                unsynced = 0
                pending = syncing.submit(os.fdatasync, file.fileno())
        queue.put(None)
        thread.join()
        if pending is not None:
            pending.result()
        os.fdatasync(file.fileno())
    return _rate(content.size_bytes, began)


def upload(api: Api, content: Content, issue_key: str) -> tuple[float, str]:
    """Upload by WriteFile, verified and durable; return the rate and the file's id."""
    began = time.perf_counter()
    done = None
    for answer in api.files.WriteFile(_messages(content, issue_key)):
        done = answer.done if answer.HasField("done") else None
    if done is None or done.file.size_bytes != content.size_bytes or done.file.checksums.sha256 != content.sha256:
        raise RuntimeError("the upload did not come to its end")
    return _rate(content.size_bytes, began), done.file.id


def upload_together(api: Api, contents: list[Content], issue_key: str) -> float:
    """Upload several at once; return the rate of all together."""
    began = time.perf_counter()
    with ThreadPoolExecutor(len(contents)) as pool:
        list(pool.map(lambda content: upload(api, content, issue_key), contents))
    return _rate(sum(content.size_bytes for content in contents), began)


def download(api: Api, file_id: str, size_bytes: int) -> float:
    """Read a file and throw it away."""
    began = time.perf_counter()
    received = 0
    for answer in api.files.ReadFile(file_service_pb2.ReadFileRequest(file_id=file_id)):
        received += len(answer.chunk.data.content)
    if received != size_bytes:
        raise RuntimeError(f"received {received} bytes instead of {size_bytes}")
    return _rate(size_bytes, began)


def discard(address: str, content: Content) -> float:
    """Send the same messages to a server that throws them away."""
    stub = file_service_pb2_grpc.FileServiceStub(grpc.insecure_channel(address))
    began = time.perf_counter()
    last = None
    for answer in stub.WriteFile(_messages(content, "")):
        last = answer
    if last is None or last.progress.committed_size != content.size_bytes:
        raise RuntimeError("the ceiling's server did not receive everything")
    return _rate(content.size_bytes, began)


def _messages(content: Content, issue_key: str) -> Iterator[file_service_pb2.WriteFileRequest]:
    attach_to = common_pb2.Subject(type="issue", key=issue_key)
    spec = file_pb2.FileSpec(name="bench.bin", size_bytes=content.size_bytes)
    opening = file_service_pb2.WriteFileRequest.Open(workspace_id="demo", spec=spec, attach_to=attach_to)
    yield file_service_pb2.WriteFileRequest(open=opening)
    offset = 0
    for chunk, crc32c in zip(content.chunks, content.crcs, strict=True):
        data = common_pb2.ChecksummedData(content=chunk, crc32c=crc32c)
        yield file_service_pb2.WriteFileRequest(chunk=file_service_pb2.WriteFileRequest.Chunk(offset=offset, data=data))
        offset += len(chunk)
    checksums = common_pb2.Checksums(sha256=content.sha256)
    finish = file_service_pb2.WriteFileRequest.Finish(size_bytes=content.size_bytes, checksums=checksums)
    yield file_service_pb2.WriteFileRequest(finish=finish)


def rate_since() -> Callable[[int], float]:
    """Start a clock; what is returned tells the rate of so many bytes since now."""
    began = time.perf_counter()
    return lambda size_bytes: _rate(size_bytes, began)


def _rate(size_bytes: int, began: float) -> float:
    return size_bytes / MIB / (time.perf_counter() - began)

"""Bytes of an object: from one answer as long as ranges follow each other, by requests of their own otherwise."""

from __future__ import annotations

import http.client
import threading

import requests
import urllib3.exceptions

from remora_server.core.errors import StorageUnavailableError
from remora_server.stores.gcs_bucket import Bucket

BROKEN = (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError)


class ObjectReader:
    """One generation of an object; several threads may read at once, and those that come second ask for themselves."""

    def __init__(self, bucket: Bucket, name: str, generation: int) -> None:
        self._bucket = bucket
        self._name = name
        self._generation = generation
        self._lock = threading.Lock()
        self._is_open = True
        self._expected = 0  # Where the answer under way goes on, or where one would have to begin.
        self._answer: requests.Response | None = bucket.stream(name, generation)
        self._size_bytes = int(self._answer.headers["Content-Length"])

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""
        return self._size_bytes

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes; fewer only at the end."""
        size = min(size, self._size_bytes - offset)
        if size <= 0:
            return b""
        if not self._lock.acquire(blocking=False):
            return self._range(offset, size)
        try:
            if not self._is_open:
                raise StorageUnavailableError
            return self._read_on(offset, size)
        finally:
            self._lock.release()

    def close(self) -> None:
        """Let go of it."""
        with self._lock:
            self._is_open = False
            self._drop()

    def _read_on(self, offset: int, size: int) -> bytes:
        follows = offset == self._expected
        self._expected = offset + size
        if not follows:
            self._drop()
            return self._range(offset, size)
        try:
            if self._answer is None:
                self._answer = self._bucket.stream(self._name, self._generation, offset)
            data: bytes = self._answer.raw.read(size, decode_content=False)
        except BROKEN:
            data = b""
        if len(data) != size:
            # It broke off, perhaps since our reader was slow. The rest comes with a request that is repeated.
            self._drop()
            data += self._range(offset + len(data), size - len(data))
        elif self._expected == self._size_bytes:
            self._drop()
        return data

    def _range(self, offset: int, size: int) -> bytes:
        data = self._bucket.read(self._name, self._generation, offset, size)
        if len(data) != size:
            raise StorageUnavailableError
        return data

    def _drop(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None

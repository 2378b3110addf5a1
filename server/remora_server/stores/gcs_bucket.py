"""A bucket of Cloud Storage: objects by name and generation, and sessions of resumable uploads by their address."""

from __future__ import annotations

import datetime as dt
import http.client
import os
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

import google.auth
import requests
from google.api_core import exceptions
from google.auth import exceptions as auth_exceptions
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud import storage

from remora_server.core.errors import StorageUnavailableError, StoredContentCorruptError
from remora_server.core.model import Micros
from remora_server.stores.gcs_calls import (
    Asking,
    BucketUnusableError,
    CloudRefusalError,
    Gone,
    Patience,
    credentials_unusable,
    told,
    transport_for,
)

SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write", "https://www.googleapis.com/auth/iam")
PAGE = 1000
OCTETS = "application/octet-stream"


class _MissingError(Exception):
    """There is no such bucket."""


class SessionGoneError(Exception):
    """Cloud Storage knows nothing more of a session."""


class ObjectExistsError(Exception):
    """An object was to be created, and there is one of that name."""


@dataclass(frozen=True, slots=True)
class Found:
    """What Cloud Storage tells of an object."""

    name: str
    generation: int
    size_bytes: int
    crc32c: int
    md5: bytes
    content_type: str
    content_encoding: str
    modify_time: Micros


class Bucket:
    """One bucket; any thread may use it."""

    def __init__(self, client: storage.Client, transport: AuthorizedSession, name: str, patience: Patience) -> None:
        self.name = name
        self.client = client
        self.transport = transport
        self._bucket = client.bucket(name)
        self.answer_seconds = patience.answer_seconds
        self._asking = Asking(patience)
        self.endpoint = str(client.api_endpoint)
        self._uploads = f"{client.api_endpoint}/upload/storage/v1/b/{quote(name)}/o"
        self._downloads = f"{client.api_endpoint}/download/storage/v1/b/{quote(name)}/o"

    def check(self, prefix: str) -> None:
        """Raise BucketUnusableError if this bucket is not there for us, StorageUnavailableError if nobody answers."""
        try:
            self._asking.ask(
                "looking at the bucket",
                lambda: self._page(prefix, None, 1),
                told_as={exceptions.NotFound: _MissingError},
            )
        except _MissingError:
            raise BucketUnusableError(
                f"there is no bucket {self.name}; create it, or correct the name in REMORA_BLOBS."
            ) from None
        except CloudRefusalError as refusal:
            raise BucketUnusableError(
                f"Cloud Storage refuses the bucket {self.name} to this server ({refusal}); grant its account the role "
                "roles/storage.objectUser there."
            ) from None

    def probe(self, prefix: str) -> None:
        """Raise unless Cloud Storage answers now; nothing is repeated."""
        try:
            self._page(prefix, None, 1)
        except Exception as error:
            raise StorageUnavailableError from error

    def insert(self, name: str, data: bytes) -> Found:
        """Create an object of few bytes; raise ObjectExistsError if there is another under that name."""
        blob = self._bucket.blob(name)

        def attempt() -> Found:
            blob.upload_from_string(
                data, OCTETS, if_generation_match=0, checksum="crc32c", timeout=self._asking.timeout, retry=None
            )
            return _found(blob)

        return self._asking.ask(f"creating {name}", attempt, told_as={exceptions.PreconditionFailed: ObjectExistsError})

    def start(
        self,
        name: str,
        *,
        if_generation: int = 0,
        content_type: str = OCTETS,
        size_bytes: int | None = None,
        max_bytes: int | None = None,
        origin: str = "",
    ) -> str:
        """Begin a resumable upload that creates an object, or replaces one generation; return its address."""
        headers = {"X-Upload-Content-Type": content_type, "Content-Length": "0"}
        if size_bytes is not None:
            headers["X-Upload-Content-Length"] = str(size_bytes)
        elif max_bytes is not None:
            headers["X-Goog-Content-Length-Range"] = f"0,{max_bytes}"
        if origin:
            headers["Origin"] = origin  # Pages of this origin may send to it.
        parameters = {"uploadType": "resumable", "name": name, "ifGenerationMatch": str(if_generation)}

        def attempt() -> str:
            url = self._send("POST", self._uploads, params=parameters, headers=headers).headers.get("Location")
            if url is None:
                raise exceptions.ServiceUnavailable("no address came")
            return str(url)

        return self._asking.ask(
            f"beginning {name}", attempt, told_as={exceptions.PreconditionFailed: ObjectExistsError}
        )

    def append(self, url: str, offset: int, data: bytes, total_bytes: int | None = None) -> Found | None:
        """Add bytes to a session, all of which are confirmed on return. With a total, finish, and return the object.

        Raise SessionGoneError, or ObjectExistsError at the end, or StoredContentCorruptError if Cloud Storage has
        fewer bytes than it confirmed before, or more than there are in all.
        """
        end = offset + len(data)
        at, is_repeat = offset, False

        def attempt() -> Found | None:
            nonlocal at, is_repeat
            if is_repeat:
                found, at = self._progress(url)
                if found is not None:
                    return found
            is_repeat = True
            while at < end or total_bytes is not None:
                if at < offset or (total_bytes is not None and at > total_bytes):
                    raise StoredContentCorruptError
                try:
                    found, confirmed = self._put(url, at, data[at - offset :] if at > offset else data, total_bytes)
                except exceptions.BadRequest:
                    if self._progress(url)[1] < at:  # Then it is the offset that it refuses.
                        raise StoredContentCorruptError from None
                    raise
                if found is not None:
                    return found
                if confirmed <= at:
                    raise exceptions.ServiceUnavailable("nothing of it was confirmed")
                at = confirmed
            return None

        return self._asking.ask(
            "sending a block" if total_bytes is None else "finishing an upload",
            attempt,
            told_as={
                exceptions.NotFound: SessionGoneError,
                Gone: SessionGoneError,
                exceptions.PreconditionFailed: ObjectExistsError,
            },
        )

    def progress(self, url: str) -> tuple[Found | None, int]:
        """Return the object that a session came to, or None and how many bytes it has; raise SessionGoneError."""
        return self._asking.ask(
            "asking for the state of an upload",
            lambda: self._progress(url),
            told_as={exceptions.NotFound: SessionGoneError, Gone: SessionGoneError},
        )

    def cancel(self, url: str) -> None:
        """End a session, if it goes on."""

        def attempt() -> None:
            self._send("DELETE", url, headers={"Content-Length": "0"}, accepted=(204, 400, 404, 410, 499))

        self._asking.ask("cancelling an upload", attempt)

    def find(self, name: str) -> Found | None:
        """Look for an object."""

        def attempt() -> Found | None:
            blob = self._bucket.get_blob(name, timeout=self._asking.timeout, retry=None)
            return None if blob is None else _found(blob)

        return self._asking.ask(f"looking for {name}", attempt)

    def read(self, name: str, generation: int, offset: int, size: int) -> bytes:
        """Return bytes as they are stored, fewer only at the end; raise StoredContentCorruptError if it is gone."""

        def attempt() -> bytes:
            with self._get(name, generation, f"bytes={offset}-{offset + size - 1}") as answer:
                return (
                    answer.raw.read(decode_content=False) if answer.status_code == http.client.PARTIAL_CONTENT else b""
                )

        return self._asking.ask(f"reading {name}", attempt, told_as={exceptions.NotFound: StoredContentCorruptError})

    def stream(self, name: str, generation: int, offset: int = 0) -> requests.Response:
        """Open an object for reading on; `raw.read` gives its bytes. Whoever calls this closes it."""
        wanted = f"bytes={offset}-" if offset else ""
        return self._asking.ask(
            f"reading {name}",
            lambda: self._get(name, generation, wanted),
            told_as={exceptions.NotFound: StoredContentCorruptError},
        )

    def delete(self, name: str, generation: int) -> None:
        """Remove this generation of an object for good, if it is there."""
        blob = self._bucket.blob(name, generation=generation)

        def attempt() -> None:
            try:
                blob.delete(timeout=self._asking.timeout, retry=None)
            except exceptions.NotFound:
                return

        self._asking.ask(f"removing {name}", attempt)

    def move(self, found: Found, target: str) -> Found:
        """Give a generation of an object another name; raise ObjectExistsError if that is taken, or this is gone.

        What is gone was moved by somebody else, who may have ended with it by now.
        """
        source = self._bucket.blob(found.name, generation=found.generation)
        made = self._bucket.blob(target)

        def attempt() -> Found:
            token = None
            while True:
                token, _, _ = made.rewrite(
                    source, token, if_generation_match=0, timeout=self._asking.timeout, retry=None
                )
                if token is None:
                    return _found(made)

        moved = self._asking.ask(
            f"moving to {target}",
            attempt,
            told_as={exceptions.PreconditionFailed: ObjectExistsError, exceptions.NotFound: ObjectExistsError},
        )
        self.delete(found.name, found.generation)
        return moved

    def neutralise(self, found: Found) -> bool:
        """Take type and encoding, which its uploader chose, off an object; its bytes stay as they are. False: gone."""
        blob = self._bucket.blob(found.name, generation=found.generation)
        blob.content_type, blob.content_encoding = OCTETS, None

        def attempt() -> bool:
            with suppress(exceptions.NotFound):
                blob.patch(timeout=self._asking.timeout, retry=None)
                return True
            return False

        return self._asking.ask(f"describing {found.name}", attempt)

    def objects(self, prefix: str) -> Iterator[Found]:
        """Walk over the objects whose names begin with `prefix`."""
        token = None
        while True:
            some, token = self._asking.ask("listing objects", partial(self._page, prefix, token, PAGE))
            yield from some
            if token is None:
                return

    def _page(self, prefix: str, token: str | None, size: int) -> tuple[list[Found], str | None]:
        found = self.client.list_blobs(
            self._bucket, prefix=prefix, page_token=token, page_size=size, timeout=self._asking.timeout, retry=None
        )
        for page in found.pages:
            return [_found(blob) for blob in page], found.next_page_token
        return [], None

    def _put(self, url: str, at: int, data: bytes, total_bytes: int | None) -> tuple[Found | None, int]:
        total = "*" if total_bytes is None else str(total_bytes)
        span = f"{at}-{at + len(data) - 1}" if data else "*"
        headers = {"Content-Range": f"bytes {span}/{total}", "Content-Length": str(len(data))}
        answer = self._send("PUT", url, data=data, headers=headers, accepted=(200, 201, 308), allow_redirects=False)
        if answer.status_code == http.client.PERMANENT_REDIRECT:
            return None, _confirmed(answer)
        return _found_in(answer.json()), 0

    def _progress(self, url: str) -> tuple[Found | None, int]:
        return self._put(url, 0, b"", None)

    def _get(self, name: str, generation: int, wanted: str) -> requests.Response:
        headers = {"Accept-Encoding": "gzip"} | ({"Range": wanted} if wanted else {})
        return self._send(
            "GET",
            f"{self._downloads}/{quote(name, safe='')}",
            params={"alt": "media", "generation": str(generation)},
            headers=headers,
            accepted=(200, 206, 416),
            stream=True,
        )

    def _send(self, method: str, url: str, *, accepted: tuple[int, ...] = (200, 201), **more: Any) -> requests.Response:  # noqa: ANN401 - whatever requests takes.
        answer: requests.Response = self.transport.request(method, url, timeout=self._asking.timeout, **more)
        if answer.status_code in accepted:
            return answer
        with answer:
            if answer.status_code == http.client.GONE:
                raise Gone("gone")  # type: ignore[no-untyped-call]
            raise exceptions.from_http_response(answer)


def open_bucket(name: str, patience: Patience) -> Bucket:
    """Connect to a bucket with the credentials of the environment, or with none where an emulator is named there."""
    if os.environ.get("STORAGE_EMULATOR_HOST"):
        credentials: Any = AnonymousCredentials()
    else:
        try:
            credentials, _ = google.auth.default(scopes=SCOPES)
        except auth_exceptions.GoogleAuthError as error:
            if path := os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
                raise credentials_unusable(path, error) from None
            raise BucketUnusableError(
                f"there are no credentials for Cloud Storage ({told(error)}); set GOOGLE_APPLICATION_CREDENTIALS to "
                "the file of a service account, or run where Google gives the machine one."
            ) from None
    transport = transport_for(credentials, patience)
    return Bucket(storage.Client("remora", credentials, transport), transport, name, patience)


def _confirmed(answer: requests.Response) -> int:
    span = answer.headers.get("Range", "")
    return int(span.rpartition("-")[2]) + 1 if span else 0


def _found(blob: storage.Blob) -> Found:
    return Found(
        blob.name,
        int(blob.generation),
        int(blob.size),
        _crc32c(blob.crc32c),
        b64decode(blob.md5_hash or ""),
        blob.content_type or "",
        blob.content_encoding or "",
        int(blob.updated.timestamp() * 1_000_000),
    )


def _found_in(told: Mapping[str, str]) -> Found:
    updated = dt.datetime.fromisoformat(told["updated"])
    return Found(
        told["name"],
        int(told["generation"]),
        int(told["size"]),
        _crc32c(told["crc32c"]),
        b64decode(told.get("md5Hash", "")),
        told.get("contentType", ""),
        told.get("contentEncoding", ""),
        int(updated.timestamp() * 1_000_000),
    )


def _crc32c(text: str) -> int:
    return int.from_bytes(b64decode(text), "big")

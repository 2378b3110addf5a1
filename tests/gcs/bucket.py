"""The contents of the one bucket: objects with generations, preconditions, and sessions of resumable uploads, on disk.

Everything runs on the event loop without a pause between a check and what it permits, so preconditions are atomic.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import secrets
import shutil
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import google_crc32c

from tests.gcs.refusal import Refusal, not_found, precondition_failed

BLOCK = 256 * 1024
SESSION_SECONDS = 7 * 24 * 3600


@dataclass
class Stored:
    """One object."""

    name: str
    path: Path
    size: int
    crc32c: int
    md5: bytes
    generation: int
    metageneration: int = 1
    content_type: str = ""
    content_encoding: str = ""
    content_disposition: str = ""
    cache_control: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    created: float = field(default_factory=time.time)

    @property
    def updated(self) -> float:
        """When it was made, or dated back to by a test."""
        return self.path.stat().st_mtime

    @property
    def crc32c_text(self) -> str:
        """CRC32C as every API spells it."""
        return b64encode(self.crc32c.to_bytes(4, "big")).decode()

    @property
    def md5_text(self) -> str:
        """MD5 as every API spells it."""
        return b64encode(self.md5).decode()


@dataclass(frozen=True)
class Preconditions:
    """What must hold for a request to have its effect."""

    generation: int | None = None
    not_generation: int | None = None
    metageneration: int | None = None
    not_metageneration: int | None = None

    def require(self, current: Stored | None) -> None:
        """Refuse unless all of them hold; no object has generation 0."""
        generation = current.generation if current else 0
        metageneration = current.metageneration if current else 0
        if (
            (self.generation is not None and self.generation != generation)
            or (self.not_generation is not None and self.not_generation == generation)
            or (self.metageneration is not None and self.metageneration != metageneration)
            or (self.not_metageneration is not None and self.not_metageneration == metageneration)
        ):
            raise precondition_failed()


@dataclass(frozen=True)
class Digests:
    """What the sender says of the bytes."""

    crc32c: str = ""
    md5: str = ""

    @staticmethod
    def of(headers: Mapping[str, str]) -> Digests:
        """Read Content-MD5 and every x-goog-hash."""
        found = {"md5": headers.get("content-md5", "")}
        for part in headers.get("x-goog-hash", "").split(","):
            algorithm, _, value = part.strip().partition("=")
            if algorithm:
                found[algorithm] = value
        unknown = set(found) - {"md5", "crc32c"}
        if unknown:
            raise Refusal(400, f"Unknown hash algorithm: {sorted(unknown)}", code="InvalidDigest")
        for algorithm, length in (("md5", 16), ("crc32c", 4)):
            _require_digest(found.get(algorithm, ""), length)
        return Digests(found.get("crc32c", ""), found["md5"])

    def require(self, crc32c: int, md5: bytes) -> None:
        """Refuse bytes with other digests."""
        actual = b64encode(crc32c.to_bytes(4, "big")).decode()
        if self.crc32c and self.crc32c != actual:
            text = f'Provided CRC32C "{self.crc32c}" doesn\'t match calculated CRC32C "{actual}".'
            raise Refusal(400, text, code="BadDigest")
        actual = b64encode(md5).decode()
        if self.md5 and self.md5 != actual:
            text = f'Provided MD5 hash "{self.md5}" doesn\'t match calculated MD5 hash "{actual}".'
            raise Refusal(400, text, code="BadDigest")


def _require_digest(text: str, length: int) -> None:
    try:
        good = not text or len(b64decode(text, validate=True)) == length
    except ValueError:
        good = False
    if not good:
        raise Refusal(400, "The digest you specified is not valid.", code="InvalidDigest")


@dataclass
class About:
    """Everything about an object but its bytes."""

    name: str
    content_type: str = "application/octet-stream"
    content_encoding: str = ""
    content_disposition: str = ""
    cache_control: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    digests: tuple[Digests, ...] = ()
    preconditions: Preconditions = field(default_factory=Preconditions)
    size: int | None = None  # Said beforehand; anything else is refused.
    size_range: tuple[int, int] | None = None


class Incoming:
    """Bytes on their way to the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.crc32c = 0
        self.md5 = hashlib.md5(usedforsecurity=False)
        self._file = path.open("wb", buffering=0)

    def write(self, data: bytes) -> None:
        """Append."""
        self._file.write(data)
        self.size += len(data)
        self.crc32c = google_crc32c.extend(self.crc32c, data)
        self.md5.update(data)

    def close(self) -> None:
        """End writing."""
        self._file.close()

    def drop(self) -> None:
        """Forget the bytes."""
        self.close()
        self.path.unlink(missing_ok=True)


@dataclass
class Session:
    """A resumable upload; `done` is what it came to."""

    id: str
    about: About
    incoming: Incoming
    is_xml: bool
    origin: str
    started: float = field(default_factory=time.time)
    turn: int = 0  # Counts the requests with bytes; only the latest may go on.
    done: Stored | None = None
    ended: bool = False


class Bucket:
    """One bucket in a folder."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.objects: dict[str, Stored] = {}
        self.sessions: dict[str, Session] = {}
        self._folder = folder
        self._numbers = itertools.count()

    def incoming(self) -> Incoming:
        """Begin to take bytes."""
        return Incoming(self._folder / f"bytes-{next(self._numbers)}")

    def find(self, name: str, generation: int | None = None) -> Stored:
        """Return an object, of exactly this generation if one is named."""
        found = self.objects.get(name)
        if found is not None and not found.path.exists():
            del self.objects[name]  # A test has removed it behind our back,
            found = None
        if found is not None:
            found.size = found.path.stat().st_size  # or made it shorter.
        if found is None or (generation is not None and found.generation != generation):
            raise not_found(self.name, name)
        return found

    def finish(self, about: About, incoming: Incoming) -> Stored:
        """Make an object of bytes that are all there, or refuse and drop them."""
        incoming.close()
        try:
            self._check(about, incoming)
        except Refusal:
            incoming.drop()
            raise
        before = self.objects.get(about.name)
        generation = max(time.time_ns() // 1000, before.generation + 1 if before else 0)
        made = Stored(
            about.name,
            incoming.path,
            incoming.size,
            incoming.crc32c,
            incoming.md5.digest(),
            generation,
            content_type=about.content_type,
            content_encoding=about.content_encoding,
            content_disposition=about.content_disposition,
            cache_control=about.cache_control,
            metadata=about.metadata,
        )
        self.objects[about.name] = made
        if before is not None:
            before.path.unlink()
        return made

    def _check(self, about: About, incoming: Incoming) -> None:
        if about.size is not None and incoming.size != about.size:
            raise Refusal(400, f"Upload has {incoming.size} bytes, {about.size} were announced.")
        if about.size_range is not None:
            lowest, highest = about.size_range
            if incoming.size > highest:
                raise too_large(highest)
            if incoming.size < lowest:
                raise too_small(lowest)
        for digests in about.digests:
            digests.require(incoming.crc32c, incoming.md5.digest())
        about.preconditions.require(self.objects.get(about.name))

    def delete(self, name: str, generation: int | None, preconditions: Preconditions) -> None:
        """Remove an object for good."""
        found = self.find(name, generation)
        preconditions.require(found)
        del self.objects[name]
        found.path.unlink()

    def start(self, about: About, *, is_xml: bool, origin: str) -> Session:
        """Begin a resumable upload."""
        about.preconditions.require(self.objects.get(about.name))
        made = Session(secrets.token_urlsafe(48), about, self.incoming(), is_xml, origin)
        self.sessions[made.id] = made
        return made

    def session(self, session_id: str) -> Session:
        """Return a session that may be continued or has come to its end."""
        found = self.sessions.get(session_id)
        if found is None:
            raise Refusal(404, "Not Found", code="NoSuchUpload")
        if found.ended or time.time() - found.started > SESSION_SECONDS:
            raise Refusal(410, "The upload session is gone.", code="NoSuchUpload")
        return found

    def end(self, session: Session) -> None:
        """End a session without an object."""
        session.ended = True
        if session.done is None:
            session.incoming.drop()

    def forget_bytes(self, session_id: str, size: int) -> None:
        """Lose what a session had confirmed beyond `size`: what Cloud Storage never should do."""
        session = self.session(session_id)
        session.incoming.close()
        data = session.incoming.path.read_bytes()[:size]
        session.incoming = Incoming(session.incoming.path)
        session.incoming.write(data)

    def copy(self, prefix: str, target: str) -> None:
        """Put every object under a prefix under another one too, as it is: tests copy whole stores."""
        for one in [one for one in self.objects.values() if one.name.startswith(prefix)]:
            path = self._folder / f"bytes-{next(self._numbers)}"
            shutil.copy2(one.path, path)
            name = target + one.name.removeprefix(prefix)
            self.objects[name] = replace(one, name=name, path=path)

    def flip_byte(self, name: str) -> None:
        """Damage an object behind everybody's back."""
        with self.find(name).path.open("r+b") as file:
            first = file.read(1)
            file.seek(0)
            file.write(bytes([first[0] ^ 1]))
            file.flush()
            os.fsync(file.fileno())


def size_range(headers: Mapping[str, str]) -> tuple[int, int] | None:
    """Read x-goog-content-length-range."""
    text = headers.get("x-goog-content-length-range")
    if text is None:
        return None
    found = re.fullmatch(r"(\d+),(\d+)", text)
    if not found:
        raise Refusal(400, "Invalid argument.", details="x-goog-content-length-range must be MIN,MAX.")
    return int(found[1]), int(found[2])


def too_large(highest: int) -> Refusal:
    """Make the answer for more bytes than a range allows."""
    return Refusal(
        400,
        "Your proposed upload is larger than the maximum object size specified in your Policy Document.",
        code="EntityTooLarge",
        details=f"Content-length exceeds upper bound on range: {highest}",
    )


def too_small(lowest: int) -> Refusal:
    """Make the answer for fewer bytes than a range asks for."""
    return Refusal(
        400,
        "Your proposed upload is smaller than the minimum object size specified in your Policy Document.",
        code="EntityTooSmall",
        details=f"Content-length smaller than lower bound on range: {lowest}",
    )

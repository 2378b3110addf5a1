"""Staged bytes in a resumable session of Cloud Storage, in blocks of 256 KiB; a shorter tail waits in the database.

What `sync` made durable is in two places: blocks that Cloud Storage confirmed, and the tail behind them in the row of
the session. Bytes of a session can't be read, so reading back seals it first: it becomes an object, whose row says so.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import google_crc32c

from remora_server.core.errors import StorageUnavailableError, StoredContentCorruptError, WriterFencedError
from remora_server.core.ports import Changes, Clock, Session, Sessions
from remora_server.core.values import replace
from remora_server.stores.gcs_bucket import Bucket, Found, ObjectExistsError, SessionGoneError
from remora_server.stores.gcs_reader import ObjectReader

BLOCK_BYTES = 256 * 1024
COPY_BYTES = 8 * 1024 * 1024
SEND_BYTES = 8 * 1024 * 1024  # In one request, so that no more than this is there twice while it is sent.
HELD_BYTES = 32 * 1024 * 1024  # More than this nobody should leave unsynced; then `write` itself sends.


class SessionBook:
    """The sessions' rows, each written in a change of its own."""

    def __init__(self, sessions: Sessions, changes: Changes, clock: Clock) -> None:
        self._sessions = sessions
        self._changes = changes
        self._clock = clock

    def find(self, name: str) -> Session | None:
        """Find a session."""
        return self._sessions.session(name)

    def fresh(self, name: str, epoch: int) -> Session:
        """Make a session in which there is nothing; it is kept with its first bytes."""
        now = self._clock.now()
        return Session(
            name=name,
            url="",
            epoch=epoch,
            is_direct=False,
            sent_bytes=0,
            tail=b"",
            location="",
            create_time=now,
            update_time=now,
        )

    def keep(self, session: Session) -> Session:
        """Note how far a session is; raise WriterFencedError if a later writer has taken it."""
        noted = replace(session, update_time=self._clock.now())
        if not self._changes.run(lambda: self._sessions.keep_session(noted)):
            raise WriterFencedError(session.epoch + 1)
        return noted

    def forget(self, name: str) -> None:
        """Remove a session's row."""
        self._changes.run(lambda: self._sessions.delete_session(name))

    def sealed_among(self, names: list[str]) -> set[str]:
        """Return those names whose sessions have come to a location."""
        return self._sessions.sealed_among(names)


class StagedSession:
    """One writer's staged bytes. `sync` and `write` may run at once; `sync` then covers what was written before."""

    def __init__(
        self, bucket: Bucket, book: SessionBook, key: str, session: Session, *, sealed: Found | None = None
    ) -> None:
        """Go on behind what `session` says is safe; `seek` first if the bucket has more or less."""
        self._bucket = bucket
        self._book = book
        self._key = key
        self._session = session
        self._kept: Session | None = None  # As this writer last wrote it down.
        self._sealed = sealed
        self._reader: ObjectReader | None = None
        self._size_bytes = session.size_bytes
        self._sent = session.sent_bytes  # What is in the bucket.
        self._skip = 0  # What of the next bytes is in the bucket already.
        self._pieces = [session.tail] if session.tail else []
        self._unsent = len(session.tail)
        self._writing = threading.Lock()  # Guards pieces and sizes.
        self._syncing = threading.Lock()  # Guards the session: one request at a time.
        self._is_open = True
        self._is_broken = False

    @property
    def size_bytes(self) -> int:
        """How many bytes were written so far, durable or not."""
        return self._size_bytes

    def seek(self, keep_bytes: int, there_bytes: int) -> None:
        """Stand behind `keep_bytes`, with `there_bytes` in the bucket; raise StoredContentCorruptError for a gap.

        If a crash left more in the bucket than was recorded, the same bytes are about to come again: they are skipped,
        and the CRC32C of the whole, which is compared in the end, proves that they were the same.
        """
        begin, tail = self._session.sent_bytes, self._session.tail
        missing = b""
        if keep_bytes > there_bytes:
            if begin > there_bytes or keep_bytes > begin + len(tail):
                raise StoredContentCorruptError
            missing = tail[there_bytes - begin : keep_bytes - begin]
        self._size_bytes, self._sent = keep_bytes, there_bytes
        self._skip = max(0, there_bytes - keep_bytes)
        self._pieces, self._unsent = [missing] if missing else [], len(missing)

    def write(self, data: bytes) -> None:
        """Append."""
        with self._writing:
            self._require_usable()
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            self._size_bytes += len(data)
            if skipped < len(data):
                self._pieces.append(data[skipped:] if skipped else data)
                self._unsent += len(data) - skipped
            is_much = self._unsent > HELD_BYTES
        if is_much:
            with self._syncing, self._guarded():
                self._send_blocks()

    def sync(self) -> None:
        """Make everything written so far durable."""
        with self._syncing, self._guarded():
            size, tail = self._send_blocks()
            if self._sealed is None:
                # Less than is there, as long as bytes are skipped.
                self._note(sent_bytes=size - len(tail), tail=tail)

    def read(self, offset: int, size: int) -> bytes:
        """Read back what was written."""
        with self._syncing, self._guarded():
            found = self._seal()
            if self._reader is None:
                self._reader = ObjectReader(self._bucket, self._key, found.generation)
            reader = self._reader
        return reader.read(offset, min(size, self._size_bytes - offset))

    def close(self) -> None:
        """Let go of it; the bytes that were synced stay staged."""
        with self._syncing, self._writing:
            self._is_open = False
            self._pieces, self._unsent = [], 0
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def _send_blocks(self) -> tuple[int, bytes]:
        """Send the whole blocks of what waits; return the size that this covers, and the tail that it does not."""
        if self._sealed is not None and self._pieces:
            self._unseal(self._sealed)
        with self._writing:
            size, pieces, self._pieces = self._size_bytes, deque(self._pieces), []
        # Pieces go out of memory as they are sent. If that fails they are lost, and so is this writer.
        tail = b""
        while pieces:
            data = _taken(pieces, tail)
            whole = len(data) - len(data) % BLOCK_BYTES
            if whole and not self._session.url:
                self._session = replace(self._session, url=self._begin())
            if whole:
                self._append(data if whole == len(data) else data[:whole])
                with self._writing:
                    self._unsent -= whole
            tail = data[whole:]
        with self._writing:
            if tail:
                self._pieces.insert(0, tail)
        return size, tail

    def _begin(self) -> str:
        """Begin a session, whose object replaces one that an earlier writer made and could tell nobody of."""
        try:
            return self._bucket.start(self._key)
        except ObjectExistsError:
            self._require_own()
        found = self._bucket.find(self._key)
        try:
            return self._bucket.start(self._key, if_generation=found.generation if found is not None else 0)
        except ObjectExistsError:
            raise StorageUnavailableError from None

    def _waiting(self) -> tuple[int, bytes]:
        with self._writing:
            data = b"".join(self._pieces)
            self._pieces = [data] if data else []
            return self._size_bytes, data

    def _append(self, blocks: bytes) -> None:
        try:
            ended = self._bucket.append(self._session.url, self._sent, blocks)
        except SessionGoneError:
            self._require_own()
            raise StorageUnavailableError from None  # Whoever opens it next finds out what is left.
        if ended is not None:
            self._require_own()
            raise StorageUnavailableError  # An attempt of ours that was given up ended it.
        self._sent += len(blocks)

    def _require_own(self) -> None:
        """Raise WriterFencedError if a later writer has this session, or had it and is done."""
        now = self._book.find(self._session.name)
        epoch = self._session.epoch
        if now.epoch > epoch if now is not None else self._kept is not None:
            raise WriterFencedError(epoch + 1)

    def _note(self, **changed: object) -> None:
        noted = replace(self._session, **changed)  # type: ignore[arg-type]
        if noted != self._kept:
            self._session = self._kept = self._book.keep(noted)

    def _seal(self) -> Found:
        """Make an object of everything written, if it is none yet."""
        size, data = self._waiting()
        if self._sealed is not None:
            if not data:
                return self._sealed
            self._unseal(self._sealed)
            size, data = self._waiting()
        if self._skip:
            raise StoredContentCorruptError  # A session can't be cut off before its end.
        whole = replace(self._session, sent_bytes=self._sent, tail=data)
        found, is_ours = finish(self._bucket, self._key, whole, size)
        if not is_ours:
            raise StoredContentCorruptError
        with self._writing:
            self._pieces, self._unsent = [], 0
        self._sent, self._sealed = found.size_bytes, found
        self._note(url="", sent_bytes=found.size_bytes, tail=b"", location=location_of(self._session.name, found))
        return found

    def _unseal(self, found: Found) -> None:
        """Go on behind the end of an object: its bytes go through a session that will replace it."""
        session = replace(self._session, url=self._bucket.start(self._key, if_generation=found.generation), location="")
        reader = ObjectReader(self._bucket, self._key, found.generation)
        rest = b""
        self._sent = 0
        self._session = session
        try:
            while block := reader.read(self._sent, COPY_BYTES):
                whole = len(block) - len(block) % BLOCK_BYTES
                if whole:
                    self._append(block[:whole])
                rest = block[whole:]
                if rest:
                    break
        finally:
            reader.close()
        if self._reader is not None:
            self._reader.close()
        self._sealed = self._reader = None
        with self._writing:
            self._pieces.insert(0, rest)
            self._unsent += len(rest)
        # From here on the row speaks of the new session; until then the object stands.
        self._note(sent_bytes=self._sent, tail=rest)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Do nothing more after a failure: some of the bytes may be lost by then."""
        self._require_usable()
        try:
            yield
        except BaseException:
            self._is_broken = True
            raise

    def _require_usable(self) -> None:
        if self._is_broken or not self._is_open:
            raise StorageUnavailableError


def _taken(pieces: deque[bytes], before: bytes) -> bytes:
    """Take pieces off until there are enough for one request, or no more; return them as one, behind `before`."""
    taken, size = [before], len(before)
    while pieces and size < SEND_BYTES:
        taken.append(pieces.popleft())
        size += len(taken[-1])
    return b"".join(taken)


def finish(bucket: Bucket, key: str, session: Session, size_bytes: int) -> tuple[Found, bool]:
    """Make an object of a session and its tail; tell whether it is made of these, or only as long as they are."""
    if session.size_bytes != size_bytes:
        raise StoredContentCorruptError
    try:
        if not session.url:
            return bucket.insert(key, session.tail), True
        made = bucket.append(session.url, session.sent_bytes, session.tail, size_bytes)
    except (ObjectExistsError, SessionGoneError):
        found = bucket.find(key)
        if found is None or found.size_bytes != size_bytes:
            raise StoredContentCorruptError from None
        # By an attempt whose answer was lost, if it has the same digest.
        return found, not session.url and found.crc32c == google_crc32c.value(session.tail)
    if made is None:
        raise StorageUnavailableError
    return made, True


def location_of(name: str, found: Found) -> str:
    """Say where the bytes of a name lie: in exactly this generation of its object."""
    return f"{name}@{found.generation}"

"""Blobs as objects of Cloud Storage: `PREFIX/blobs/<last two characters>/<name>`, each made once and never replaced.

A location names the generation besides the object, so nothing that may happen under the same name later is ever taken
for the blob. HTML forms can't be kept from replacing what they sent before, so those send to `PREFIX/forms/`, and what
arrives there is moved.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from weakref import WeakValueDictionary

from remora_server.core.errors import StoredContentCorruptError, WriterFencedError
from remora_server.core.model import Checksums
from remora_server.core.ports import BlobReader, Changes, Clock, Session, Sessions, Staged, Stored
from remora_server.core.values import replace
from remora_server.stores.gcs_bucket import OCTETS, Bucket, Found, ObjectExistsError, SessionGoneError
from remora_server.stores.gcs_reader import ObjectReader
from remora_server.stores.gcs_staged import SessionBook, StagedSession, finish, location_of

NAME = re.compile(r"[a-z]{3}_[0-7][0-9a-hjkmnp-tv-z]{25}")
LOCATION = re.compile(rf"({NAME.pattern})@(\d{{1,19}})")
BATCH = 500
MARKER = "store-id"


class GcsBlobs:
    """A blob store in a bucket, under a prefix; unfinished uploads are remembered in the database."""

    def __init__(self, bucket: Bucket, prefix: str, sessions: Sessions, changes: Changes, clock: Clock) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._marker = f"{self._prefix}{MARKER}"
        self._sessions = sessions
        self.book = SessionBook(sessions, changes, clock)
        self._lock = threading.Lock()
        self._writers: WeakValueDictionary[str, StagedSession] = WeakValueDictionary()

    def stage(self, name: str, keep_bytes: int, epoch: int = 0) -> Staged:
        """Open staged bytes for appending after the first `keep_bytes`; what lies behind them is dropped.

        Raise StoredContentCorruptError if fewer than `keep_bytes` are there, WriterFencedError if a writer of a higher
        epoch was here. Bytes that a crash left committed under this name, without a row, are taken back.
        """
        key = self.key(name)
        self._end_writer(name)
        before = self.book.find(name)
        if keep_bytes:
            staged = self._go_on(key, before, self.book.fresh(name, epoch), keep_bytes)
        else:
            staged = self._begin(key, before, self.book.fresh(name, epoch))
        with self._lock:
            self._writers[name] = staged
        return staged

    def commit(self, name: str, content: Checksums, size_bytes: int, epoch: int = 0) -> str:
        """Turn the synced staged bytes of a writer into a blob, durably; return its location.

        Repeating it is harmless. What Cloud Storage says of the object is compared with `content` first;
        StoredContentCorruptError is raised if it differs, and the object is removed, or if a later writer has it.
        """
        key = self.key(name)
        self._end_writer(name)
        session = self.book.find(name)
        if session is None or session.is_direct:
            # By an earlier attempt, or by a later writer, whose bytes are not ours to remove.
            found, is_ours = self._bucket.find(key), False
        elif session.epoch > epoch:
            raise StoredContentCorruptError
        elif session.location:
            found, is_ours = self._bucket.find(key), True
            if found is not None and location_of(name, found) != session.location:
                raise StoredContentCorruptError
        else:
            found, is_ours = finish(self._bucket, key, session, size_bytes)
        if found is None:
            raise StoredContentCorruptError
        if not _is_content(found, content, size_bytes):
            if is_ours:
                self._bucket.delete(key, found.generation)
                self.book.forget(name)
            raise StoredContentCorruptError
        if session is not None:
            self.book.forget(name)
        return location_of(name, found)

    def land(self, name: str, epoch: int) -> bool:
        """Turn the synced staged bytes of a writer into what `arrived` finds, durably.

        False, and nothing changes, if something has arrived under this name before. WriterFencedError is raised if the
        bytes are gone, to a later writer or with their ticket.
        """
        key = self.key(name)
        self._end_writer(name)
        session = self.book.find(name)
        if session is None or session.epoch != epoch:
            raise WriterFencedError(epoch + 1)
        if not session.location:
            if self._has_arrived(key, session):
                return False
            try:
                _, is_ours = finish(self._bucket, key, session, session.size_bytes)
            except StoredContentCorruptError:
                if self._bucket.find(key) is None:
                    raise
                is_ours = False
            if not is_ours:
                return False
        self.book.forget(name)
        return True

    def arrived(self, name: str) -> Stored | None:
        """Return the blob that came whole under a name without us, by a direct upload; None if there is none."""
        key = self.key(name)
        session = self.book.find(name)
        if session is not None and session.location:
            return None
        found = self._bucket.find(key) or self._from_form(name, key)
        if found is None:
            return None
        is_plain = not found.content_encoding and found.content_type == OCTETS
        # Whoever sent it chose these. An encoding would have it unpacked on the way out.
        if not is_plain and not self._bucket.neutralise(found):
            return None
        return _stored(name, found)

    def put(self, name: str, data: bytes) -> str:
        """Keep bytes that came in one piece as a blob, durably, without staging; return its location."""
        whole = replace(self.book.fresh(name, 0), tail=data)
        found, is_ours = finish(self._bucket, self.key(name), whole, len(data))
        if not is_ours:
            raise StoredContentCorruptError
        return location_of(name, found)

    def discard(self, name: str, *, arrived: bool = False) -> None:
        """Remove staged bytes, if there are any; with `arrived` also a blob of this name, which no row may name."""
        key = self.key(name)
        self._end_writer(name)
        session = self.book.find(name)
        if session is not None:
            self._remove_staged(key, session)
            self.book.forget(name)
        for unwanted in [key, self.form_key(name)] if arrived else [self.form_key(name)]:
            # What a form sent is no blob as long as it was not moved.
            if (session is None or arrived) and (found := self._bucket.find(unwanted)) is not None:
                self._bucket.delete(unwanted, found.generation)

    def open(self, location: str) -> BlobReader:
        """Open a blob; raise StoredContentCorruptError if it is gone."""
        name, generation = self.split(location)
        return ObjectReader(self._bucket, self.key(name), generation)

    def delete(self, location: str) -> None:
        """Remove a blob, if it is there."""
        name, generation = self.split(location)
        self._bucket.delete(self.key(name), generation)

    def owner(self) -> str:
        """Return the identity of the database that this store belongs to, by its marker; empty if there is none."""
        found = self._bucket.find(self._marker)
        if found is None:
            return ""
        return self._bucket.read(self._marker, found.generation, 0, found.size_bytes).decode().strip()

    def claim(self, store_id: str) -> str:
        """Leave a marker for this database, unless there is one; return whom the store belongs to now."""
        with suppress(ObjectExistsError):
            self._bucket.insert(self._marker, f"{store_id}\n".encode())
        return self.owner()

    def list_blobs(self) -> Iterator[Stored]:
        """Walk over everything committed."""
        found = self._named(f"{self._prefix}blobs/")
        while some := list(islice(found, BATCH)):
            staged = self.book.sealed_among([one.name for one in some])
            yield from (one for one in some if one.name not in staged)

    def list_staged(self) -> Iterator[Stored]:
        """Walk over everything staged, and what forms sent that nobody has asked for yet."""
        last = ""
        while some := self._sessions.list_sessions(last, BATCH):
            yield from some
            last = some[-1].name
        for one in self._named(f"{self._prefix}forms/"):
            yield replace(one, location="")

    def probe(self) -> None:
        """Raise StorageUnavailableError unless Cloud Storage answers."""
        self._bucket.probe(self._prefix)

    def key(self, name: str) -> str:
        """Name the object of a blob."""
        # As in a directory: ids that follow each other in time lie apart, which spreads the load of a bucket too.
        return f"{self._prefix}blobs/{_checked(name)[-2:]}/{name}"

    def form_key(self, name: str) -> str:
        """Name the object that a form makes."""
        return f"{self._prefix}forms/{_checked(name)[-2:]}/{name}"

    def split(self, location: str) -> tuple[str, int]:
        """Return the name and the generation that a location names."""
        found = LOCATION.fullmatch(location)
        if not found:
            raise StoredContentCorruptError
        return found[1], int(found[2])

    def _begin(self, key: str, before: Session | None, fresh: Session) -> StagedSession:
        """Start from nothing; what there is was never confirmed to anybody."""
        if before is not None:
            # First the row: whoever still sends to the old session notes nothing more.
            fresh = self.book.keep(fresh)
            self._remove_staged(key, before)
        return StagedSession(self._bucket, self.book, key, fresh)

    def _go_on(self, key: str, before: Session | None, fresh: Session, keep_bytes: int) -> StagedSession:
        """Continue what another writer, here or elsewhere, has left."""
        if before is None or before.is_direct:
            found = self._bucket.find(key)
            if found is None:
                raise StoredContentCorruptError
            return self._sealed(key, fresh, found, keep_bytes)
        session = self.book.keep(replace(before, epoch=fresh.epoch))
        if session.location:
            found = self._bucket.find(key)
            if found is None or location_of(session.name, found) != session.location:
                raise StoredContentCorruptError
            return self._sealed(key, session, found, keep_bytes)
        try:
            found, there_bytes = self._bucket.progress(session.url) if session.url else (None, 0)
        except SessionGoneError:
            found, there_bytes = self._bucket.find(key), 0
            session = replace(session, url="")
        if found is not None:
            return self._sealed(key, session, found, keep_bytes)
        staged = StagedSession(self._bucket, self.book, key, session)
        staged.seek(keep_bytes, there_bytes)
        return staged

    def _sealed(self, key: str, session: Session, found: Found, keep_bytes: int) -> StagedSession:
        """Continue with an object that was finished, by an earlier writer's commit or for reading back."""
        if found.size_bytes < keep_bytes:
            raise StoredContentCorruptError
        location = location_of(session.name, found)
        sealed = replace(session, url="", sent_bytes=found.size_bytes, tail=b"", location=location)
        staged = StagedSession(self._bucket, self.book, key, self.book.keep(sealed), sealed=found)
        staged.seek(keep_bytes, found.size_bytes)
        return staged

    def _remove_staged(self, key: str, session: Session) -> None:
        if session.url:
            self._bucket.cancel(session.url)
        if session.location:
            self._bucket.delete(key, self.split(session.location)[1])

    def _has_arrived(self, key: str, session: Session) -> bool:
        """Tell whether an object is there that is not what a session has come to; such a session would replace it."""
        if not session.url or self._bucket.find(key) is None:
            return False
        try:
            return self._bucket.progress(session.url)[0] is None
        except SessionGoneError:
            return True

    def _from_form(self, name: str, key: str) -> Found | None:
        """Move what a form sent to where no form can send."""
        found = self._bucket.find(self.form_key(name))
        if found is None:
            # Nothing was sent, or somebody moved it after we had looked for what was moved.
            return self._bucket.find(key)
        try:
            return self._bucket.move(found, key)
        except ObjectExistsError:
            return self._bucket.find(key)

    def _named(self, prefix: str) -> Iterator[Stored]:
        for found in self._bucket.objects(prefix):
            name = found.name.rpartition("/")[2]
            if NAME.fullmatch(name):
                yield _stored(name, found)

    def _end_writer(self, name: str) -> StagedSession | None:
        """Close what is still open under a name: a writer that was replaced must not write into another's bytes."""
        with self._lock:
            writer = self._writers.pop(name, None)
        if writer is not None:
            writer.close()
        return writer


def _is_content(found: Found, content: Checksums, size_bytes: int) -> bool:
    """Compare an object with what was received; Cloud Storage has no MD5 of some."""
    is_other = bool(content.md5 and found.md5 and content.md5 != found.md5)
    return (found.size_bytes, found.crc32c) == (size_bytes, content.crc32c) and not is_other


def _stored(name: str, found: Found) -> Stored:
    return Stored(name, location_of(name, found), found.size_bytes, found.modify_time)


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError("not the name of a blob")
    return name

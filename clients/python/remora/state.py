"""What one run of the client leaves for the next: unfinished uploads, and digests of files that were hashed before.

One small JSON file for each, under $XDG_STATE_HOME/remora. An entry speaks of a file by path, size and time of change,
never of a server's address: a server that does not know the ticket says so, and the upload gets a new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from remora.sources import Digests, FileSource

TICKET_DAYS = 8  # No ticket lives longer than 7 days.
DIGEST_DAYS = 90
DAY_SECONDS = 86_400
# A file changed so shortly before it was hashed might change again without getting another time.
RACY_SECONDS = 0.05
COARSE_SECONDS = 2.0  # The same, where times are kept in whole seconds.


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An upload that was begun: how to find it on the server, and how much of which file it has."""

    upload_ticket_id: str
    name: str
    content_type: str
    size_bytes: int
    mtime_ns: int
    committed_size: int
    committed_crc32c: int


@dataclass(frozen=True, slots=True)
class Place:
    """What an unfinished upload is looked for by."""

    workspace: str
    subject: str
    path: str
    size_bytes: int
    mtime_ns: int


class State:
    """The folder of these files. Losing it costs time, never data, so failures to write are ignored."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or default_folder()
        self._swept = False

    def unfinished(self, place: Place) -> Unfinished | None:
        """Return the upload that was begun there."""
        kept = _read(self._upload(place))
        try:
            return Unfinished(**kept["upload"]) if kept else None  # type: ignore[arg-type]
        except (KeyError, TypeError):
            return None  # Written by another version.

    def keep_unfinished(self, place: Place, upload: Unfinished) -> None:
        """Keep how far an upload is."""
        self._sweep()
        _write(self._upload(place), {"place": asdict(place), "upload": asdict(upload)})

    def drop_unfinished(self, place: Place) -> None:
        """Forget an upload that ended."""
        with contextlib.suppress(OSError):
            self._upload(place).unlink()

    def digests(self, source: FileSource) -> Digests | None:
        """Return the digests of a file, if it was hashed before and is the same still."""
        kept = _read(self._digest(source))
        if kept is None or kept.get("file") != _identity(source):
            return None
        sha256, crc32c = kept.get("sha256"), kept.get("crc32c")
        if not isinstance(sha256, str) or not isinstance(crc32c, int):
            return None
        return Digests(bytes.fromhex(sha256), crc32c)

    def keep_digests(self, source: FileSource, digests: Digests) -> None:
        """Keep the digests of a file, unless it was changed a moment ago."""
        coarse = source.stat.st_mtime_ns % 1_000_000_000 == 0
        if time.time() - source.stat.st_mtime < (COARSE_SECONDS if coarse else RACY_SECONDS):
            return
        self._sweep()
        kept = {"file": _identity(source), "sha256": digests.sha256.hex(), "crc32c": digests.crc32c}
        _write(self._digest(source), kept)

    def drop_digests(self, source: FileSource) -> None:
        """Forget the digests of a file, because they proved wrong."""
        with contextlib.suppress(OSError):
            self._digest(source).unlink()

    def _upload(self, place: Place) -> Path:
        return self._folder / "uploads" / _file_name(asdict(place))

    def _digest(self, source: FileSource) -> Path:
        return self._folder / "digests" / _file_name({"path": os.path.abspath(source.path)})  # noqa: PTH100 - Keeps links.

    def _sweep(self) -> None:
        if self._swept:
            return
        self._swept = True
        for kind, days in (("uploads", TICKET_DAYS), ("digests", DIGEST_DAYS)):
            oldest = time.time() - days * DAY_SECONDS
            with contextlib.suppress(OSError):
                for path in (self._folder / kind).iterdir():
                    if path.stat().st_mtime < oldest:
                        path.unlink()


def default_folder() -> Path:
    """Give the folder in which the state of this user is kept."""
    home = os.environ.get("XDG_STATE_HOME", "")
    # A relative path there must be ignored, says the specification.
    return (Path(home) if home.startswith("/") else Path.home() / ".local" / "state") / "remora"


def _identity(source: FileSource) -> dict[str, object]:
    stat = source.stat
    return {"size_bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "inode": stat.st_ino}


def _file_name(key: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32] + ".json"


def _read(path: Path) -> dict[str, object] | None:
    try:
        kept = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) else None


def _write(path: Path, kept: Mapping[str, object]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Whoever knows a ticket's id is half-way to writing to it.
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(kept, file)
        temporary.replace(path)
    except OSError:
        return

"""Directories of files named by ids, spread over shelves: `<root>/<last two characters>/<name>`.

The last characters of an id are random, the first ones a time: these make 1024 shelves of equal length. A name in a
directory is durable once the directory itself is synced.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

NAME = re.compile(r"[a-z]{3}_[0-7][0-9a-hjkmnp-tv-z]{25}")
ENTRY = re.compile(rf"({NAME.pattern})(?:\.([0-9]+)(\.part)?)?")


class Shelves:
    """One such tree, made if it is missing."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        make_folder(root)
        self._made = {entry.name for entry in os.scandir(root)}
        sync_folder(root)  # Its entries may be from just before a crash.

    def path(self, name: str, epoch: int = 0) -> Path:
        """Return where a file lies; what a writer of some epoch wrote has that for an ending."""
        return self._shelf(name) / (f"{name}.{epoch}" if epoch else name)

    def make_shelf(self, name: str) -> None:
        """Make the directory that a file goes into."""
        shelf = self._shelf(name)
        if shelf.name in self._made:
            return
        with self._lock:
            shelf.mkdir(mode=0o700, exist_ok=True)
            # Also if it was there: whoever made it, another server perhaps, may not have come this far yet.
            sync_folder(self._root)
            self._made.add(shelf.name)

    def of(self, name: str) -> Iterator[tuple[os.DirEntry[str], re.Match[str]]]:
        """Find the files of one name, whatever their epoch."""
        for entry, found in _entries(self._shelf(name)):
            if found[1] == name:
                yield entry, found

    def walk(self) -> Iterator[tuple[os.DirEntry[str], re.Match[str]]]:
        """Find every file; what has another kind of name is not ours."""
        with os.scandir(self._root) as shelves:
            for shelf in shelves:
                if shelf.is_dir(follow_symlinks=False):
                    yield from _entries(Path(shelf.path))

    def _shelf(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise ValueError("not the name of a blob")
        return self._root / name[-2:]


def make_folder(folder: Path) -> None:
    """Make a directory, and its entry in the one above durable."""
    if folder.is_dir():
        return
    missing = [folder, *(parent for parent in folder.parents if not parent.exists())]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
        sync_folder(one.parent)


def sync_folder(folder: Path) -> None:
    """Make the entries of a directory durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _entries(folder: Path) -> Iterator[tuple[os.DirEntry[str], re.Match[str]]]:
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            found = ENTRY.fullmatch(entry.name)
            if found:
                yield entry, found

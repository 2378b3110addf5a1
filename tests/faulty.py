"""A disk that fails or is full: faults that a test turns on and off in a running server, and a volume that is small."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 1024 * 1024


class Faults:
    """What fails in a server that was started with this environment, for files of the folder `victim`."""

    def __init__(self, folder: Path, victim: Path) -> None:
        self._folder = folder
        folder.mkdir()
        path = os.pathsep.join(filter(None, [str(Path(__file__).parent / "faults"), os.environ.get("PYTHONPATH", "")]))
        self.environment = {"PYTHONPATH": path, "FAULTS_FOLDER": str(folder), "FAULTS_VICTIM": str(victim)}

    @contextmanager
    def failing(self, call: str, error: str) -> Iterator[None]:
        """Have a call of `os` fail with an error, as long as the block runs."""
        fault = self._folder / call
        draft = self._folder / "draft"
        draft.write_text(error)
        draft.rename(fault)
        try:
            yield
        finally:
            fault.unlink()

    def limit(self, size_bytes: int, pages: int) -> None:
        """Let the folder hold so many bytes, and a database so many pages."""
        for name, most in (("limit", size_bytes), ("pages", pages)):
            draft = self._folder / "draft"
            draft.write_text(str(most))
            draft.rename(self._folder / name)


@contextmanager
def small_volume(folder: Path, size_bytes: int) -> Iterator[bool]:
    """Make a folder a volume of its own, as long as the block runs; yield whether that is allowed here."""
    folder.mkdir()
    options = f"size={size_bytes},mode=0700"
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        yield False
        return
    command = [mount, "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run([umount, "--lazy", str(folder)], check=True, capture_output=True)

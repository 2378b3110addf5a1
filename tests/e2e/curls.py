"""Two ways to call a server with no proto at hand: grpcurl, where it can be had, and `buf curl`, which is always there.

Both answer to the command `grpcurl`, so that what the README shows runs with either: the second is a small program that
understands as much of grpcurl's command line as the README uses, and prints fields by grpcurl's names.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3"
INSTALL_SECONDS = 500.0


def tools() -> list[str]:
    """Return the names of the tools that can be had here; never none."""
    return ["buf", "grpcurl"] if _installed() or shutil.which("go") else ["buf"]


def best_tool() -> str:
    """Return grpcurl itself if it can be had."""
    return tools()[-1]


def folder_of(tool: str, folder: Path) -> Path:
    """Return a folder whose `grpcurl` is this tool."""
    if tool == "grpcurl":
        return (_installed() or _install()).parent
    program = folder / "bin" / "grpcurl"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__)}" "$@"\n')
    program.chmod(0o755)
    return program.parent


def _installed() -> Path | None:
    found = shutil.which("grpcurl", path=f"{os.environ.get('PATH', '')}{os.pathsep}{Path.home() / 'go' / 'bin'}")
    return Path(found) if found else None


def _install() -> Path:
    """Install grpcurl into a folder of its own, once for all workers and runs."""
    folder = Path(tempfile.gettempdir()) / f"remora-grpcurl-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    program = folder / "grpcurl"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            subprocess.run(
                ["go", "install", GRPCURL],  # noqa: S607 - The one on PATH.
                env={**os.environ, "GOBIN": str(folder)},
                check=True,
                timeout=INSTALL_SECONDS,
            )
    return program


def _as_buf(arguments: Sequence[str]) -> list[str]:
    """Say to `buf curl` what was said to grpcurl."""
    command = [str(Path(sys.executable).with_name("buf")), "curl", "--http2-prior-knowledge", "--protocol", "grpc"]
    words: list[str] = []
    waiting = iter(arguments)
    for word in waiting:
        if word in {"-H", "-d"}:
            command += [word, next(waiting)]
        elif word != "-plaintext":
            words.append(word)
    url = f"http://{words[0]}"
    match words[1:]:
        case ["list"]:
            return [*command, "--list-services", url]
        case ["describe", _]:
            return [*command, "--list-methods", url]
        case [method]:
            return [*command, f"{url}/{method}"]
    raise SystemExit(f"not understood: {words}")


def _main(arguments: Sequence[str]) -> int:
    described = arguments[-1] if "describe" in arguments else ""
    with subprocess.Popen(_as_buf(arguments), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(described):
                key = re.match(r' *"\w+":', line)
                name = re.sub(r"[A-Z]", lambda big: f"_{big[0].lower()}", key[0]) if key else ""
                sys.stdout.write(name + line.removeprefix(key[0] if key else ""))
                sys.stdout.flush()
    return process.returncode


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))

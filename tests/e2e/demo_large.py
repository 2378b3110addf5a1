"""The main job on a file of 1 GiB, with the client killed and then the server; prints a transcript as Markdown."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from pathlib import Path

from tests.e2e.programs import clean_environment, ended, run, start, wait_for_share
from tests.running import RunningServer

GIB = 1 << 30
NAME = "site-packages.tar"


def main() -> int:
    """Run the demonstration in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="remora-demo-") as name:
        folder = Path(name)
        _say("# A file of 1 GiB, interrupted twice\n")
        _say("What `scripts/demo-large` printed, as it was. Remarks stand between the blocks.\n")
        size_bytes = _make(folder / NAME)
        server = RunningServer(folder / "remora-data", environment=clean_environment(folder)).start()
        try:
            return _show(server, folder, size_bytes)
        finally:
            server.stop()


def _make(path: Path) -> int:
    """Write a tar of the installed Python packages, again and again until it has 1 GiB."""
    with tarfile.open(path, "w") as tar:
        copy = 0
        while path.stat().st_size < GIB:
            copy += 1
            tar.add(sysconfig.get_path("purelib"), arcname=f"copy-{copy}")
    size_bytes = path.stat().st_size
    _say(f"The file: a tar of the installed Python packages, {copy} times over, {size_bytes} bytes.\n")
    return size_bytes


def _show(server: RunningServer, folder: Path, size_bytes: int) -> int:
    environment = clean_environment(folder, REMORA_ADDRESS=server.address)
    idle_kib = _kib(server, "VmRSS")
    put = f"remora put DEMO-1 {NAME}"
    putting = start(environment, *put.split(), cwd=folder)
    wait_for_share(server, 0.4, putting)
    putting.kill()
    _block(put, ended(putting)[2] + "Killed\n")
    _shell(environment, folder, "remora tickets")

    _say(
        "The same command again. At about 70 % the server is killed with SIGKILL, and started again after 2 seconds.\n"
    )
    began = time.monotonic()
    putting = start(environment, *put.split(), cwd=folder)
    wait_for_share(server, 0.7, putting)
    peak_kib = _kib(server, "VmHWM")
    server.kill()
    time.sleep(2)
    server.restart()
    code, out, error = ended(putting)
    _block(put, error + out)
    assert code == 0
    _say(f"That took {time.monotonic() - began:.1f} s, the 2 s without a server included. A third time:\n")
    for command in (
        put,
        f"remora get DEMO-1 {NAME} -o copy.tar",
        f"sha256sum {NAME} copy.tar",
        "remora-server fsck",
    ):
        _shell(environment, folder, command)
    peak_kib = max(peak_kib, _kib(server, "VmHWM"))
    _say(
        f"Memory of the server: {idle_kib / 1024:.0f} MiB idle, {peak_kib / 1024:.0f} MiB at most, "
        f"while {size_bytes} bytes went in and out."
    )
    return 0


def _shell(environment: dict[str, str], folder: Path, command: str) -> None:
    done = run(environment, *command.split(), cwd=folder)
    _block(command, done.stderr + done.stdout)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command)


def _block(command: str, printed: str) -> None:
    _say(f"```console\n$ {command}\n{printed}```\n")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _kib(server: RunningServer, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{server.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


if __name__ == "__main__":
    sys.exit(main())

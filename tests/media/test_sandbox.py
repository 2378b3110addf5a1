"""The sandbox: what code that got hold of a child could do."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from remora_server.core.ports import PreviewRefusedError
from remora_server.media.limits import Limits
from remora_server.media.pool import Pool
from remora_server.media.sandbox import NOBODY
from tests.media.breaking import worker_of
from tests.media.sources import Bytes


def told(body: str) -> str:
    """Return what a child says that runs `body`; `said` is what it is to say."""
    pool = Pool(worker=worker_of(f"said = 'nothing'\n{body}\nraise worker.RefusedError(said)"))
    try:
        with pytest.raises(PreviewRefusedError) as refused:
            pool.render("image/png", Bytes(b"x"))
    finally:
        pool.close()
    return str(refused.value)


def failing(*attempts: str) -> str:
    """Return a body that makes attempts, and says which of them did not fail."""
    lines = "".join(
        f"try:\n    {attempt}\n    passed.append({attempt!r})\nexcept OSError:\n    pass\n" for attempt in attempts
    )
    return f"passed = []\n{lines}said = ' and '.join(passed) or 'all failed'"


def test_no_file_and_no_socket_can_be_opened() -> None:
    """Of no kind, for no purpose."""
    attempts = (
        "os.open('/etc/passwd', os.O_RDONLY)",
        "os.open('/dev/null', os.O_RDONLY)",
        "os.open('/tmp', os.O_TMPFILE | os.O_RDWR)",
        "os.open('/tmp/media-escaped', os.O_CREAT | os.O_WRONLY)",
        "os.listdir('/')",
        "socket.socket()",
        "socket.socket(socket.AF_UNIX)",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "socket.socketpair()",
        "os.pipe()",
        "os.dup(0)",
        "os.memfd_create('x')",
        "os.eventfd(0)",
        "os.pidfd_open(os.getpid())",
    )
    assert told(failing(*attempts)) == "all failed"


def test_no_file_can_be_changed_by_its_name() -> None:
    """Not even one that everybody may change, which needs no descriptor."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # Unlike pytest's, others may look into it.
        Path(folder).chmod(0o777)
        file = Path(folder) / "file"
        file.write_bytes(b"kept")
        file.chmod(0o666)
        attempts = (
            f"os.unlink({str(file)!r})",
            f"os.rename({str(file)!r}, {str(file)!r} + '2')",
            f"os.truncate({str(file)!r}, 0)",
            f"os.chmod({str(file)!r}, 0o600)",
            f"os.mkdir({folder!r} + '/folder')",
            f"os.symlink('/etc/passwd', {folder!r} + '/link')",
            f"os.mkfifo({folder!r} + '/pipe')",
        )
        assert told(failing(*attempts)) == "all failed"
        assert file.read_bytes() == b"kept"
        assert [one.name for one in Path(folder).iterdir()] == ["file"]


def test_no_other_process_can_be_made_or_reached() -> None:
    """It can't start one, nor signal or look into another one, be it of the same user."""
    bystander = subprocess.Popen(["/bin/sleep", "60"], user=NOBODY if os.geteuid() == 0 else None)
    try:
        attempts = (
            "os.fork()",
            "os.posix_spawn('/bin/true', ['true'], {})",
            "os.execv('/bin/true', ['true'])",
            f"os.kill({bystander.pid}, signal.SIGKILL)",
            f"os.kill({bystander.pid}, 0)",
            "os.kill(os.getppid(), 0)",
            "os.killpg(0, signal.SIGCONT)",
            "os.setsid()",
            "os.nice(-1)",
        )
        attach = (
            "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
            f"traced = libc.ptrace(16, {bystander.pid}, 0, 0)\n"
            "unwatched = libc.prctl(1, 0, 0, 0, 0)\n"
        )
        body = f"{attach}{failing(*attempts)}\nsaid += f', {{traced}}, {{unwatched}}'"
        assert told(body) == "all failed, -1, -1"
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_limits_cannot_be_raised_again() -> None:
    """Neither by who it was, nor by what a namespace of its own lets it do."""
    limits = ("NOFILE", "AS", "CPU", "FSIZE", "CORE")
    raised = [
        f"resource.setrlimit(resource.RLIMIT_{one}, (2**40 if {one!r} != 'NOFILE' else 64,) * 2)" for one in limits
    ]
    body = failing(*raised).replace("except OSError", "except (OSError, ValueError)")
    assert told(f"import resource\n{body}") == "all failed"


def test_nothing_else_is_open() -> None:
    """The line of the job and a bin are all; not the line of the worker, over which other content comes."""
    body = (
        "found = []\n"
        "for one in range(1000):\n"
        "    try:\n"
        "        os.lseek(one, 0, os.SEEK_CUR)\n"
        "    except OSError as problem:\n"
        "        if problem.errno == errno.EBADF:\n"
        "            continue\n"
        "    found.append(one)\n"
        "said = str(found)"
    )
    assert told(body) == "[0, 1, 2]"


def test_memory_is_bounded() -> None:
    """What a child asks for beyond its limit it does not get."""
    most = Limits().memory_bytes
    body = (
        "kept, said = [], ''\n"
        "try:\n"
        "    while True:\n"
        "        kept.append(bytearray(2**20))\n"
        "except MemoryError:\n"
        "    said = str(len(kept) * 2**20)\n"
        "    del kept"
    )
    assert 0.9 * most < int(told(body)) <= most

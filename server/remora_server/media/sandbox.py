"""What a process gives up before it looks at content that may be hostile: files, sockets, memory, time, its user.

Limits of the kernel that bind without any privilege do most of it. The rest is best effort, since it depends on how the
server is run: namespaces may be forbidden in a container, and only root can become nobody.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from pathlib import Path

from remora_server.media.limits import Limits
from remora_server.media.syscalls import forbid_others

NOBODY = 65534
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
CPU_GRACE_SECONDS = 1  # From the signal that can be caught to the one that can't.
OOM_SCORE = 800  # Of 1000: if the machine runs out of memory, a preview goes first.

_libc = ctypes.CDLL(None, use_errno=True)


def step_back(niceness: int) -> None:
    """Have a process that will only start others give way to the server, and give up being root, if it is."""
    os.nice(niceness)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE), encoding="ascii")
    if os.geteuid() == 0:
        # Root may raise its limits again.
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
    # Nobody of the same user may look into its memory, least of all what it starts.
    _prctl(PR_SET_DUMPABLE, 0)


def end_with(parent: int) -> None:
    """Have this process killed when its parent ends, or the thread that started it; even while it is stopped."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # It was gone before it could be watched.


def confine(limits: Limits, parent: int) -> None:
    """Leave this process, a child of `parent`, nothing but what it has open, its memory, and a little time."""
    end_with(parent)
    _limit(resource.RLIMIT_AS, _address_space_bytes() + limits.memory_bytes)
    _limit(resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + CPU_GRACE_SECONDS)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    # A user namespace of its own also keeps it from tracing other processes of its user; it has to come first.
    if _libc.unshare(CLONE_NEWUSER | CLONE_NEWNET):
        _libc.unshare(CLONE_NEWUSER)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _limit(resource.RLIMIT_NOFILE, 0)  # No further descriptor of whatever kind: file, socket, pipe, memory.
    forbid_others(_libc)


def _address_space_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    return int(pages) * resource.getpagesize()


def _limit(which: int, soft: int, hard: int | None = None) -> None:
    resource.setrlimit(which, (soft, soft if hard is None else hard))


def _prctl(option: int, value: int) -> None:
    _libc.prctl(option, value, 0, 0, 0)

"""Which calls of the kernel remain to a child: those that compute, and read and write what it has open.

Limits alone would leave it what needs no descriptor: to remove files by their names, or to signal other processes of
its user. This is a filter of the kernel's own (seccomp), for the two architectures on which servers are run; elsewhere
there is none. A call that is not listed fails, it does not end the child: a decoder that can do without it goes on.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from remora_server.core.values import dataclass

PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
ALLOW = 0x7FFF0000
FAIL = 0x00050000  # With the error's number.
KILL = 0x80000000
LOAD, EQUAL, ANY_BIT, ANSWER = 0x20, 0x15, 0x45, 0x06  # Instructions of the filter.
NUMBER_AT, ARCHITECTURE_AT, FIRST_ARGUMENT_AT = 0, 4, 16
CLONE_THREAD = 0x00010000
CLONE3 = 435


@dataclass(frozen=True, slots=True)
class _Calls:
    """The numbers of calls on one architecture."""

    architecture: int
    allowed: Sequence[int]
    own: Sequence[int]  # kill, tgkill: to itself only.
    limits: int  # prlimit64: of itself only, and the limits are such that they can't be raised.
    clone: int  # For threads only.


# read write close fstat lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn readv writev
# sched_yield mremap madvise nanosleep getpid exit uname gettimeofday getrusage sysinfo times getuid getgid geteuid
# getegid sigaltstack gettid futex sched_getaffinity set_tid_address restart_syscall clock_gettime clock_getres
# clock_nanosleep exit_group set_robust_list getrandom rseq membarrier getcpu
_X86_64 = (
    *(
        0,
        1,
        3,
        5,
        8,
        9,
        10,
        11,
        12,
        13,
        14,
        15,
        19,
        20,
        24,
        25,
        28,
        35,
        39,
        60,
        63,
        96,
        98,
        99,
        100,
        102,
        104,
        107,
        108,
    ),
    *(131, 186, 202, 204, 218, 219, 228, 229, 230, 231, 273, 318, 334, 324, 309),
)
_AARCH64 = (
    *(63, 64, 57, 80, 62, 222, 226, 215, 214, 134, 135, 139, 65, 66, 124, 216, 233, 101, 172, 93, 160, 169, 165, 179),
    *(153, 174, 176, 175, 177, 132, 178, 98, 123, 96, 128, 113, 114, 115, 94, 99, 278, 293, 283, 168),
)
CALLS: Mapping[str, _Calls] = MappingProxyType(
    {
        "x86_64": _Calls(architecture=0xC000003E, allowed=_X86_64, own=(62, 234), limits=302, clone=56),
        "aarch64": _Calls(architecture=0xC00000B7, allowed=_AARCH64, own=(129, 131), limits=261, clone=220),
    }
)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def forbid_others(libc: ctypes.CDLL) -> bool:
    """Let this process make no other calls from now on; return whether that was possible.

    It must have given up new privileges before.
    """
    calls = CALLS.get(platform.machine())
    if calls is None:
        return False
    instructions = b"".join(_filter(calls, os.getpid()))
    program = _Program(len(instructions) // _INSTRUCTION.size, instructions)
    return int(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)) == 0


_INSTRUCTION = struct.Struct("=HBBI")


def _do(code: int, value: int, skip_if: int = 0, skip_else: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, skip_if, skip_else, value)


def _filter(calls: _Calls, pid: int) -> Sequence[bytes]:
    """Return the filter: what it answers for the number of a call, and its first argument."""
    refuse = _do(ANSWER, FAIL | errno.EPERM)
    program = [
        _do(LOAD, ARCHITECTURE_AT),
        _do(EQUAL, calls.architecture, 1, 0),
        _do(ANSWER, KILL),  # Numbers of another architecture mean other calls.
        _do(LOAD, NUMBER_AT),
    ]
    for number in calls.allowed:
        program += [_do(EQUAL, number, 0, 1), _do(ANSWER, ALLOW)]
    bounded = [(number, EQUAL, pid) for number in calls.own]
    bounded += [(calls.limits, EQUAL, 0), (calls.clone, ANY_BIT, CLONE_THREAD)]
    for number, test, value in bounded:
        program += [
            *(_do(EQUAL, number, 0, 4), _do(LOAD, FIRST_ARGUMENT_AT)),
            *(_do(test, value, 0, 1), _do(ANSWER, ALLOW), refuse),
        ]
    # Its arguments can't be seen; told that there is no such call, the C library makes the older one.
    program += [_do(EQUAL, CLONE3, 0, 1), _do(ANSWER, FAIL | errno.ENOSYS)]
    return [*program, refuse]

"""What a server asks of the system and of Python for itself: memory, open files, the collector of garbage."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource

MOST_FILES = 1024 * 1024


def tune_allocator() -> None:
    """Keep freed megabytes instead of returning each to the system: streams are 1.3 to 1.7 times as fast with glibc."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_mmap_threshold, m_arena_max = -1, -3, -8
        libc.mallopt(m_arena_max, 1)
        libc.mallopt(m_mmap_threshold, 32 * 1024 * 1024)
        libc.mallopt(m_trim_threshold, 256 * 1024 * 1024)


def raise_file_limit() -> None:
    """Take as many open files as the system lets us have: a stream holds three, and the usual limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def tune_collector() -> None:
    """Look for garbage cycles less often: a call makes hundreds of objects and no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)

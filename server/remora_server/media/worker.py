"""A worker process: it loads the decoders once, and forks a child for each piece of content, which decodes only that.

So content of one workspace never shares a process with that of another, and what one piece breaks is gone with its
child. A worker itself sees no content: the line on which a child reads and answers comes from the server with each job.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import BinaryIO, NoReturn

from remora_server.media import images
from remora_server.media.content import Content, MissingError, RefusedError, Report
from remora_server.media.decoders import RENDERED
from remora_server.media.frames import ENDED, LENGTH, OUT_OF_MEMORY, READY, Kind, receive
from remora_server.media.limits import Limits
from remora_server.media.sandbox import confine, end_with, step_back

LINE = 0  # Where a child has its line, and nothing else but the bin in 1 and 2.
BROKEN = 1
# An upload waits for its size, nobody for its preview; but on a server that is busy all the time, that one must still
# get enough of a processor (about a quarter) to be done before it is taken to be frozen.
NICENESS = {"measure": 0, "render": 5}
SHUT = {errno.EMFILE, errno.EPERM}  # What opening a file in the sandbox fails with.

Decode = Callable[[str, BinaryIO, Report, Limits], None]


def _missing(_content_type: str, _file: BinaryIO, _report: Report, _limits: Limits) -> None:
    raise MissingError


def loaded(role: str, limits: Limits) -> Mapping[str, Decode]:
    """Return what decodes each kind of content, ready to; to measure needs no more than images."""
    images.warm(limits)
    if role == "measure":
        return {"IMAGE": images.measure}
    decoders: dict[str, Decode] = {"IMAGE": images.render, "PDF": _missing, "VIDEO": _missing, "AUDIO": _missing}
    try:
        from remora_server.media import pdf  # noqa: PLC0415 - it may not be installed
    except ImportError:
        pass
    else:
        decoders["PDF"] = pdf.render
    try:
        from remora_server.media import video  # noqa: PLC0415 - as above
    except ImportError:
        pass
    else:
        decoders |= {"VIDEO": video.render, "AUDIO": video.listen}
    return decoders


def main(load: Callable[[str, Limits], Mapping[str, Decode]]) -> None:
    """Take jobs until the server closes its end; `load` makes ready what the role of this process needs."""
    server = os.getppid()
    role, limits = sys.argv[1], Limits(**json.loads(sys.argv[2]))
    control = socket.socket(fileno=int(sys.argv[3]))
    decoders = load(role, limits)
    step_back(NICENESS[role])
    end_with(server)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)  # Decoders print what they think of content.
    gc.freeze()  # Children share these pages as long as nobody writes to them.
    control.sendall(READY)
    while True:
        try:
            order, line = next_order(control)
        except (EOFError, OSError):
            return
        worker = os.getpid()
        child = os.fork()
        if child == 0:
            _be_child(worker, order, line, decoders, limits)
        os.close(line)
        control.sendall(_outlive(child, control))


def next_order(control: socket.socket) -> tuple[Mapping[str, str | int], int]:
    """Return the next job, and the descriptor of its line."""
    head, lines, _, _ = socket.recv_fds(control, LENGTH.size, 1)
    if not head or not lines:
        raise EOFError
    head += receive(control, LENGTH.size - len(head))
    return json.loads(receive(control, LENGTH.unpack(head)[0])), lines[0]


def _outlive(child: int, control: socket.socket) -> bytes:
    """Wait for a child, and return how it ended; if the server goes before, the child goes as well."""
    # Where the kernel is too old for this, the child sees the end of its own line, or of its time.
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(child)
        try:
            waiting = select.poll()
            waiting.register(handle, select.POLLIN)
            waiting.register(control, select.POLLIN)
            ready = {descriptor for descriptor, _ in waiting.poll()}
        finally:
            os.close(handle)
        if control.fileno() in ready:  # Nothing is said during a job, so this is the end of the line.
            os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    return ENDED.pack(status, round((usage.ru_utime + usage.ru_stime) * 1000), usage.ru_maxrss)


def _be_child(
    worker: int, order: Mapping[str, str | int], line: int, decoders: Mapping[str, Decode], limits: Limits
) -> NoReturn:
    code = BROKEN
    try:
        os.dup2(line, LINE)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        confine(limits, worker)
        code = decode(str(order["content_type"]), int(order["size_bytes"]), Report(LINE), decoders, limits)
    finally:
        os._exit(code)


def decode(content_type: str, size_bytes: int, report: Report, decoders: Mapping[str, Decode], limits: Limits) -> int:
    """Decode one piece of content and answer; return the exit code."""
    content = Content(report, size_bytes, limits.read_bytes)
    try:
        decoders[RENDERED[content_type]](content_type, content.buffered(), report, limits)
    except MissingError:
        report.tell(Kind.MISSING)
    except MemoryError:
        return OUT_OF_MEMORY
    except Exception as problem:  # Every decoder has its own for content that it does not understand.
        if content.exhausted:
            report.refuse(f"needs more than {limits.read_bytes >> 20} MiB of it to be read")
        elif isinstance(problem, RefusedError):
            report.refuse(str(problem))
        elif isinstance(problem, ImportError) or getattr(problem, "errno", 0) in SHUT:
            raise  # Something was not loaded before the sandbox closed: a mistake of ours, not the content's.
        elif "memory" in str(problem):  # Pillow's word for it, and that of libheif.
            return OUT_OF_MEMORY
        else:
            report.refuse("is damaged, or not what it seems")
    report.tell(Kind.DONE)
    return 0


if __name__ == "__main__":
    main(loaded)

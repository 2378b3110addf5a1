"""One worker process as the server sees it: started when there is something to do, killed when it misbehaves."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from remora_server.core.errors import StorageUnavailableError
from remora_server.core.ports import (
    BlobReader,
    Look,
    PreviewerLostError,
    PreviewerMissingError,
    PreviewRefusedError,
)
from remora_server.core.values import dataclass
from remora_server.media.conversation import Conversation, Deadline, SourceFailedError
from remora_server.media.frames import ENDED, LENGTH, OUT_OF_MEMORY, READY, NonsenseError, receive
from remora_server.media.limits import MIB, Limits

WORKER = (sys.executable, "-I", "-m", "remora_server.media.worker")
ENDING_SECONDS = 2.0  # What a child may take to end once it has said everything.
FAILURES = {signal.SIGABRT, signal.SIGTRAP, signal.SIGILL, signal.SIGSEGV}
NEARLY = 0.9  # Of its memory has a child that ends for want of it; the last piece that it wanted was too large.
INHERITED = ("LD_LIBRARY_PATH",)  # Without it some Pythons don't start; nothing else is a worker's business.
OWN = {"MALLOC_ARENA_MAX": "1"}  # Each thread of a decoder would reserve 64 MiB of what it may have.

log = logging.getLogger(__name__)


class DecoderSlowError(PreviewerLostError):
    """Whoever decoded was at it, for too long."""


class NotStartedError(Exception):
    """The worker is still loading its decoders."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended."""

    exit_code: int  # Below zero for a signal.
    cpu_ms: int
    peak_kib: int  # What it shared with its worker counts as well.


class Lane:
    """One worker and the job that it has. Jobs come one after the other; `close` may come at any time."""

    def __init__(self, role: str, limits: Limits, worker: Sequence[str] = WORKER) -> None:
        self._worker = worker
        self._role = role
        self._limits = limits
        self._lock = threading.Lock()  # Of all below.
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._ready = False
        self._start_by = 0.0
        self._running = False
        self._closed = False
        self.last: Ending | None = None

    @property
    def pid(self) -> int | None:
        """Return the process id of the worker, if there is one."""
        process = self._process
        return process.pid if process else None

    def run(self, content_type: str, source: BlobReader, deadline: Deadline | None = None) -> Look:
        """Have a child decode content.

        With a `deadline`, that is the end of everything, and NotStartedError is raised if the worker is not even there
        by then. Without one, the worker has its time to start, and then its time to answer.
        """
        with self._lock:
            self._running = True
        try:
            control = self._started(deadline)
            deadline = deadline or Deadline(self._limits.wall_seconds, self._limits.reading_seconds)
            return self._run(control, content_type, source, deadline)
        except PreviewerLostError:
            self._end()
            raise
        finally:
            with self._lock:
                self._running = False
                closed = self._closed
            if closed:
                self._end()

    def close(self) -> None:
        """End the worker, for good; a job that it has is lost."""
        with self._lock:
            self._closed = True
            self._kill()
            running = self._running
        if not running:  # Otherwise whoever waits for an answer closes the socket on which it waits.
            self._end()

    def _run(self, control: socket.socket, content_type: str, source: BlobReader, deadline: Deadline) -> Look:
        ours, theirs = _line()
        with ours:
            with theirs:
                self._order(control, theirs, content_type, source.size_bytes)
            said = Conversation(ours, source, deadline, self._limits)
            try:
                said.hold()
            except (TimeoutError, NonsenseError) as problem:
                self._end()
                raise _loss(problem, said, deadline) from None
            except SourceFailedError as problem:
                failure = problem.__cause__
            else:
                failure = None
        ending = self._ending(control)
        if failure is not None:
            raise failure
        if not said.done:
            raise self._verdict(ending, said)
        if said.missing:
            raise PreviewerMissingError(content_type)
        if said.refusal:
            raise PreviewRefusedError(said.refusal, said.media)
        return Look(media=said.media, pictures=tuple(said.pictures))

    def _order(self, control: socket.socket, line: socket.socket, content_type: str, size_bytes: int) -> None:
        order = json.dumps({"content_type": content_type, "size_bytes": size_bytes}).encode()
        try:
            control.settimeout(ENDING_SECONDS)
            socket.send_fds(control, [LENGTH.pack(len(order)) + order], [line.fileno()])
        except OSError:
            raise PreviewerLostError("the decoder's process had ended") from None

    def _ending(self, control: socket.socket) -> Ending | None:
        """Return how the child of the job that is over ended; None, and the worker goes too, if nobody tells."""
        try:
            control.settimeout(ENDING_SECONDS)
            status, cpu_ms, peak_kib = ENDED.unpack(receive(control, ENDED.size))
        except (EOFError, OSError):
            self._end()
            return None
        self.last = Ending(os.waitstatus_to_exitcode(status), cpu_ms, peak_kib)
        return self.last

    def _verdict(self, ending: Ending | None, said: Conversation) -> Exception:
        """Return what to raise for a child that ended before it was done."""
        if ending is None:
            return PreviewerLostError("the decoder's process was killed")
        if ending.exit_code == OUT_OF_MEMORY or self._starved(ending):
            return PreviewRefusedError(f"needs more than {self._limits.memory_bytes // MIB} MiB of memory", said.media)
        if ending.exit_code == -signal.SIGXCPU or ending.cpu_ms >= self._limits.cpu_seconds * 1000:
            return PreviewRefusedError(f"takes more than {self._limits.cpu_seconds} seconds to decode", said.media)
        if ending.exit_code == -signal.SIGKILL:
            return PreviewerLostError("the decoder's process was killed")
        if ending.exit_code < 0:
            return PreviewerLostError(f"the decoder crashed ({_name_of(-ending.exit_code)})")
        return PreviewerLostError(f"the decoder's process ended with code {ending.exit_code}")

    def _starved(self, ending: Ending) -> bool:
        """Tell whether a child ended itself since it got no more memory, as decoders in C++ do."""
        most_kib = self._limits.memory_bytes // 1024
        return -ending.exit_code in FAILURES and ending.peak_kib >= NEARLY * most_kib

    def _started(self, deadline: Deadline | None) -> socket.socket:
        """Return the line to a worker that is ready."""
        with self._lock:
            if self._closed:
                raise PreviewerLostError("the server is stopping")
            if self._process is not None and self._process.poll() is not None:
                self._forget()  # It ended while it had nothing to do, which is no fault of this job.
            if self._control is None:
                self._start()
            control, ready = self._control, self._ready
        if control is None:
            raise PreviewerLostError("the decoder's process could not be started")
        if not ready:
            self._await_ready(control, deadline)
        return control

    def _await_ready(self, control: socket.socket, deadline: Deadline | None) -> None:
        left = max(0.001, self._start_by - time.monotonic())
        try:
            control.settimeout(left if deadline is None else min(left, deadline.left()))
            if control.recv(len(READY)) != READY:
                raise PreviewerLostError("the decoder's process could not be started")
        except TimeoutError:
            if time.monotonic() < self._start_by:
                raise NotStartedError from None
            raise PreviewerLostError(
                f"the decoder's process did not start within {self._limits.start_seconds:g} seconds"
            ) from None
        except OSError:
            raise PreviewerLostError("the decoder's process could not be started") from None
        with self._lock:
            self._ready = True

    def _start(self) -> None:
        """Start a worker, with none of our environment, in a session of its own; the lock is held."""
        ours, theirs = socket.socketpair()
        with theirs:
            started: queue.SimpleQueue[subprocess.Popen[bytes] | None] = queue.SimpleQueue()
            threading.Thread(target=self._hold, args=(theirs, started), name="media-worker", daemon=True).start()
            self._process = started.get()
        if self._process is None:
            ours.close()
            return
        self._control = ours
        self._ready = False
        self._start_by = time.monotonic() + self._limits.start_seconds

    def _hold(self, theirs: socket.socket, started: queue.SimpleQueue[subprocess.Popen[bytes] | None]) -> None:
        """Start a worker and live as long as it does: the kernel ends it with the thread that started it."""
        limits = json.dumps(dataclasses.asdict(self._limits))
        process = None
        try:
            # Not a fork of ours, since gRPC does not survive one.
            process = subprocess.Popen(  # noqa: S603 - ourselves
                [*self._worker, self._role, limits, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=OWN | {name: os.environ[name] for name in INHERITED if name in os.environ},
                cwd="/",
                start_new_session=True,
            )
        except OSError as problem:
            log.error("a process that decodes could not be started: %s", problem)  # noqa: TRY400 - it says all
        finally:
            started.put(process)
        if process is not None:
            process.wait()

    def _end(self) -> None:
        """Kill the worker with whatever child it has; the next job starts another one."""
        with self._lock:
            self._kill()
            self._forget()

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _forget(self) -> None:
        self._process = None
        if self._control is not None:
            self._control.close()
            self._control = None


def _line() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a line for a job."""
    try:
        return socket.socketpair()
    except OSError:
        raise PreviewerLostError("there was no line to the decoder's process") from None


def _loss(problem: Exception, said: Conversation, deadline: Deadline) -> Exception:
    """Return what to raise for a child that is given up."""
    if isinstance(problem, NonsenseError):
        return PreviewerLostError("the decoder answered what no decoder answers")
    if deadline.is_worn_out:
        return StorageUnavailableError()  # It was given nothing to answer with.
    kind = DecoderSlowError if said.has_asked else PreviewerLostError
    return kind("the decoder did not answer in time")


def _name_of(number: int) -> str:
    """Return the name of a signal; of those for real time, which have none, the number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

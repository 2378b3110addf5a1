"""A scanner that the operator chose: a clamd, or a command that is given each content on its standard input.

Either has the time that the size of the content gives it, and what it says is data from outside.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence

from remora_server.core.errors import StoredContentCorruptError
from remora_server.core.ports import BlobReader, Scanner, ScannerUnavailableError, Verdict
from remora_server.media.exchange import ANSWER_BYTES, Exchange, TooSlowError

PIECE_BYTES = 1024 * 1024
FINDING_LENGTH = 200
CONNECT_SECONDS = 5.0
COMMAND_SECONDS = 60.0
CLAMD_SECONDS = 150.0  # It gives up on a file by itself after 120 (MaxScanTime).
LEAST_RATE = 4 * 1024 * 1024  # Bytes a second; large content gets more time.
REAP_SECONDS = 5.0  # A program that runs as another user, say by sudo, can't be killed: no thread waits for it longer.
INHERITED = ("PATH", "LANG", "TMPDIR")
ACCEPTED = "it must be clamd:/path/of/its/socket, clamd:host:port or command:program and its arguments"
TOO_LARGE = "a file of %d bytes counts as clean, unscanned: %s takes no more than its StreamMaxLength; raise that"

log = logging.getLogger(__name__)


def open_scanner(setting: str) -> Scanner:
    """Return the scanner that a setting names; a ValueError says what is wrong with it."""
    kind, _, rest = setting.partition(":")
    if kind == "clamd":
        return Clamd(_address(rest))
    if kind == "command":
        return Command(_command(rest))
    raise ValueError(ACCEPTED)


def _address(text: str) -> str | tuple[str, int]:
    if text.startswith("/"):
        return text
    found = re.fullmatch(r"(?:\[([^\[\]\s]+)\]|([^:/\[\]\s]+)):(\d{1,5})", text, re.ASCII)
    if not found or not 0 < int(found[3]) <= 65535:  # noqa: PLR2004 - the last port
        raise ValueError(ACCEPTED)
    return found[1] or found[2], int(found[3])


def _command(text: str) -> Sequence[str]:
    try:
        words = shlex.split(text)
    except ValueError as problem:
        raise ValueError(f"it is no command: {problem}") from None
    if not words:
        raise ValueError(ACCEPTED)
    if not (program := shutil.which(words[0])):
        raise ValueError(f"there is no program {words[0]} that can be run")
    return [os.path.abspath(program), *words[1:]]  # noqa: PTH100 - a link is run by its own name


class Clamd:
    """A clamd on a Unix socket, by its path, or elsewhere, by host and port; content is sent with INSTREAM."""

    def __init__(self, address: str | tuple[str, int], seconds: float = CLAMD_SECONDS) -> None:
        self._address = address
        self._seconds = seconds
        self._name = f"clamd at {address if isinstance(address, str) else f'{address[0]} port {address[1]}'}"

    def scan(self, source: BlobReader) -> Verdict:
        """Send content and wait for the answer."""
        seconds = _seconds(self._seconds, source)
        try:
            connection = self._connect()
        except OSError as problem:
            raise ScannerUnavailableError(f"{self._name} can't be reached: {problem}") from problem
        # Both directions have a descriptor, so that the one that sends can be closed like a pipe.
        with connection, connection.dup() as sending:
            answer = bytearray()
            exchange = Exchange(sending, [(connection, answer)], seconds)
            try:
                exchange.run(_framed(source), lambda: b"\0" in answer or len(answer) == ANSWER_BYTES)
            except TooSlowError:
                raise ScannerUnavailableError(
                    f"{self._name} did not answer within {round(seconds, 1):g} seconds"
                ) from None
            return self._verdict(bytes(answer), source, is_all_sent=exchange.is_all_sent)

    def _connect(self) -> socket.socket:
        if not isinstance(self._address, str):
            return socket.create_connection(self._address, CONNECT_SECONDS)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(CONNECT_SECONDS)
            connection.connect(self._address)
        except OSError:
            connection.close()
            raise
        return connection

    def _verdict(self, answer: bytes, source: BlobReader, *, is_all_sent: bool) -> Verdict:
        said, end, _ = answer.partition(b"\0")
        if end and (found := re.fullmatch(rb"stream: (.*) FOUND", said, re.DOTALL)):
            return Verdict(is_clean=False, finding=_line(found[1]))
        if end and said.startswith(b"INSTREAM size limit exceeded"):
            # Asking again would never end well, and a file is not dangerous for being large: the operator has to know.
            log.warning(TOO_LARGE, source.size_bytes, self._name)
            return Verdict(is_clean=True)
        if end and said == b"stream: OK" and is_all_sent:
            return Verdict(is_clean=True)
        if not answer:
            raise ScannerUnavailableError(f"{self._name} closed the connection without an answer")
        raise ScannerUnavailableError(f"{self._name} did not scan, and answered: {_line(answer)}")


class Command:
    """A program and its arguments. It exits with 0 if its input is clean, with 1 if not, and prints what it found."""

    def __init__(self, command: Sequence[str], seconds: float = COMMAND_SECONDS) -> None:
        self._command = command
        self._seconds = seconds
        self._environment = {name: os.environ[name] for name in INHERITED if name in os.environ}

    def scan(self, source: BlobReader) -> Verdict:
        """Run the program on content."""
        program, seconds = self._command[0], _seconds(self._seconds, source)
        out, error = bytearray(), bytearray()
        try:
            code = self._run(source, seconds, out, error)
        except TooSlowError:
            raise ScannerUnavailableError(f"{program} did not end within {round(seconds, 1):g} seconds") from None
        if code in {0, 1}:
            return Verdict(is_clean=not code, finding=_line(out) if code else "")
        end = f"was ended by {_signal(-code)}" if code < 0 else f"exited with {code}"
        raise ScannerUnavailableError(f"{program} {end}: {_line(error) or 'it did not say why'}")

    def _run(self, source: BlobReader, seconds: float, out: bytearray, error: bytearray) -> int:
        until = time.monotonic() + seconds
        try:
            process = subprocess.Popen(  # noqa: S603 - the operator's own words, and no shell reads them
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as problem:
            raise ScannerUnavailableError(f"{self._command[0]} can't be run: {problem.strerror}") from problem
        assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018 - they are pipes
        try:
            exchange = Exchange(process.stdin, [(process.stdout, out), (process.stderr, error)], seconds)
            exchange.run(_pieces(source), lambda: process.poll() is not None)
            return process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise TooSlowError from None
        finally:
            # Whatever it started ends with it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            for pipe in (process.stdin, process.stdout, process.stderr):
                pipe.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(REAP_SECONDS)


def _pieces(source: BlobReader) -> Iterator[bytes]:
    size_bytes = source.size_bytes
    for offset in range(0, size_bytes, PIECE_BYTES):
        piece = source.read(offset, PIECE_BYTES)
        if len(piece) != min(PIECE_BYTES, size_bytes - offset):
            raise StoredContentCorruptError
        yield piece


def _framed(source: BlobReader) -> Iterator[bytes]:
    """Wrap content for clamd: the command, each piece after its length, and one of no length."""
    yield b"zINSTREAM\0"
    for piece in _pieces(source):
        yield struct.pack(">I", len(piece))
        yield piece
    yield struct.pack(">I", 0)


def _seconds(least: float, source: BlobReader) -> float:
    return least + source.size_bytes / LEAST_RATE


def _line(said: bytes | bytearray) -> str:
    """Return the first line that says something, fit for a log."""
    lines = bytes(said).decode(errors="replace").strip().splitlines() or [""]
    return "".join(letter if letter.isprintable() else " " for letter in lines[0]).strip()[:FINDING_LENGTH]


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

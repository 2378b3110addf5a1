"""Scanners: what a clamd or a command says becomes a verdict, and whatever goes wrong does not."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shlex
import signal
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from remora_server.core.errors import StoredContentCorruptError
from remora_server.core.ports import ScannerUnavailableError, Verdict
from remora_server.media.scanner import PIECE_BYTES, Clamd, Command, open_scanner
from tests.media.clamds import FINDING, SIGNED, STREAM_MAX_BYTES, RunningClamd, Stream, fake_clamd, running_clamd

MIB = 1024 * 1024
CLEAN = Verdict(is_clean=True)
SOON = 0.3  # A deadline that is meant to pass.
DEADLINE_SECONDS = 20.0


class Content:
    """Bytes of any size: some text at some offset, and zeros elsewhere. `on_read` hears each offset."""

    def __init__(
        self, text: bytes = b"", offset: int = 0, size_bytes: int = 0, on_read: Callable[[int], None] | None = None
    ) -> None:
        self.size_bytes = size_bytes or offset + len(text)
        self.read_bytes = 0
        self._text, self._offset, self._on_read = text, offset, on_read

    def read(self, offset: int, size: int) -> bytes:
        """Make up to `size` bytes."""
        assert size <= MIB
        if self._on_read:
            self._on_read(offset)
        data = bytearray(min(size, self.size_bytes - offset))
        for place in range(max(self._offset, offset), min(self._offset + len(self._text), offset + len(data))):
            data[place - offset] = self._text[place - self._offset]
        self.read_bytes += len(data)
        return bytes(data)

    def close(self) -> None:
        """Hold nothing."""

    def all(self) -> bytes:
        """Return what `read` makes in all."""
        return bytes(self._offset) + self._text + bytes(self.size_bytes - self._offset - len(self._text))


@pytest.fixture(scope="module")
def shared_clamd() -> Iterator[RunningClamd]:
    """Share a clamd among the tests that let it live."""
    with running_clamd() as running:
        yield running


@pytest.fixture
def own_clamd() -> Iterator[RunningClamd]:
    """Start a clamd that the test may kill."""
    with running_clamd() as running:
        yield running


@pytest.fixture(params=["socket", "port"])
def clamd(request: pytest.FixtureRequest, shared_clamd: RunningClamd) -> Clamd:
    """Open the shared clamd by each kind of address."""
    where = str(shared_clamd.path) if request.param == "socket" else f"localhost:{shared_clamd.port}"
    opened = open_scanner(f"clamd:{where}")
    assert isinstance(opened, Clamd)
    return opened


# A real clamd


@pytest.mark.parametrize("size_bytes", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, STREAM_MAX_BYTES])
def test_clamd_finds_nothing(clamd: Clamd, size_bytes: int) -> None:
    """Content without a signature is clean, whatever its size up to what clamd takes."""
    assert clamd.scan(Content(size_bytes=size_bytes)) == CLEAN


@pytest.mark.parametrize("offset", [0, 1000, PIECE_BYTES - 5, STREAM_MAX_BYTES - len(SIGNED)])
def test_clamd_finds_a_signature(clamd: Clamd, offset: int) -> None:
    """The finding is the name of the signature, also where two pieces meet."""
    assert clamd.scan(Content(SIGNED, offset)) == Verdict(is_clean=False, finding=FINDING)


@pytest.mark.parametrize("size_bytes", [STREAM_MAX_BYTES + 1, 40 * MIB])
def test_what_clamd_finds_too_large_is_clean_with_a_warning(
    clamd: Clamd, size_bytes: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A file beyond StreamMaxLength is neither asked about for ever nor passed in silence."""
    with caplog.at_level(logging.WARNING):
        assert clamd.scan(Content(SIGNED, size_bytes=size_bytes)) == CLEAN
    assert f"a file of {size_bytes} bytes counts as clean, unscanned" in caplog.text
    assert "StreamMaxLength" in caplog.text


def test_clamd_killed_half_way_decides_nothing(own_clamd: RunningClamd) -> None:
    """Neither when it dies, nor while it is away; started again, it answers without a new scanner."""
    scanner = open_scanner(f"clamd:{own_clamd.path}")
    dying = Content(SIGNED, size_bytes=2 * MIB, on_read=lambda offset: own_clamd.kill() if offset else None)
    with pytest.raises(ScannerUnavailableError, match=r"clamd at .* closed the connection without an answer"):
        scanner.scan(dying)
    with pytest.raises(ScannerUnavailableError, match=r"clamd at .* can't be reached: .*refused"):
        scanner.scan(Content(SIGNED))
    own_clamd.start()
    assert scanner.scan(Content(SIGNED)) == Verdict(is_clean=False, finding=FINDING)


def test_clamd_that_hangs_is_given_up(own_clamd: RunningClamd) -> None:
    """One that is stopped takes connections and answers nothing; when it goes on, so do verdicts."""
    scanner = Clamd(str(own_clamd.path), SOON)
    own_clamd.signal(signal.SIGSTOP)
    with pytest.raises(ScannerUnavailableError, match=r"did not answer within 0\.8 seconds"):
        scanner.scan(Content(SIGNED, size_bytes=2 * MIB))
    own_clamd.signal(signal.SIGCONT)
    assert Clamd(str(own_clamd.path)).scan(Content(SIGNED)) == Verdict(is_clean=False, finding=FINDING)


def test_clamd_may_not_be_there_yet(tmp_path: Path) -> None:
    """Without a socket the message names it; a scanner is opened all the same."""
    with pytest.raises(ScannerUnavailableError, match=r"clamd at .*none\.sock can't be reached: .*No such file"):
        open_scanner(f"clamd:{tmp_path}/none.sock").scan(Content())


# What no clamd should do, and some service in its place might


def answering(answer: bytes) -> Callable[[Stream], None]:
    """Take everything, and then answer."""

    def behave(stream: Stream) -> None:
        stream.all()
        stream.connection.sendall(answer)

    return behave


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_stream_is_as_clamd_wants_it(host: str) -> None:
    """Chunks of at most 1 MiB with their lengths, the bytes unchanged and in order, and an empty chunk."""
    content = Content(os.urandom(3000), PIECE_BYTES - 1500, size_bytes=3 * MIB + 7)
    arrived: list[bytes] = []

    def behave(stream: Stream) -> None:
        arrived.append(stream.all())
        stream.connection.sendall(b"stream: OK\0")

    with fake_clamd(behave, host) as (_, port):
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        assert open_scanner(f"clamd:{where}").scan(content) == CLEAN
    assert arrived == [content.all()]


def test_an_early_finding_counts() -> None:
    """Whoever finds something may say so at once, read no further, and keep the connection."""
    content = Content(size_bytes=64 * MIB)
    answered = threading.Event()

    def behave(stream: Stream) -> None:
        stream.chunk()
        stream.connection.sendall(b"stream: Early FOUND\0")
        assert answered.wait(DEADLINE_SECONDS)

    with fake_clamd(behave) as address:
        assert Clamd(address).scan(content) == Verdict(is_clean=False, finding="Early")
        answered.set()
    assert content.read_bytes < content.size_bytes


def test_an_early_ok_does_not_count() -> None:
    """Nothing is clean of which not everything was seen."""

    def behave(stream: Stream) -> None:
        stream.chunk()
        stream.connection.sendall(b"stream: OK\0")
        stream.wait_for_end()

    with fake_clamd(behave) as address, pytest.raises(ScannerUnavailableError, match=r"did not scan, .*: stream: OK"):
        Clamd(address).scan(Content(size_bytes=64 * MIB))


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "closed the connection without an answer"),
        (b"stream: O", "did not scan, and answered: stream: O"),
        (b"stream: OK", "did not scan, and answered: stream: OK"),
        (b"stream: Bad FOUND", "did not scan, and answered: stream: Bad FOUND"),
        (b"stream: Can't allocate memory ERROR\0", "did not scan, and answered: stream: Can't allocate memory ERROR"),
        (b"UNKNOWN COMMAND\0", "did not scan, and answered: UNKNOWN COMMAND"),
        (b"\0", "did not scan, and answered: $"),
        (b"stream: OK\nstream: OK\0", "did not scan, and answered: stream: OK"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n\x1b[31m\xff\0", "did not scan, and answered: HTTP/1.1 400 Bad Request"),
    ],
)
def test_another_answer_decides_nothing(answer: bytes, told: str) -> None:
    """An error, half an answer, or what another service says is no verdict; the message quotes it."""
    with fake_clamd(answering(answer)) as address, pytest.raises(ScannerUnavailableError, match=told):
        Clamd(address).scan(Content(b"x"))


def test_an_endless_answer_is_cut_off() -> None:
    """What does not end is not heard to its end."""

    def behave(stream: Stream) -> None:
        stream.all()
        with contextlib.suppress(ConnectionError):
            while True:
                stream.connection.sendall(b"x" * 65536)

    with fake_clamd(behave) as address, pytest.raises(ScannerUnavailableError, match=r"answered: x{200}$"):
        Clamd(address, DEADLINE_SECONDS / 2).scan(Content(b"x"))


def test_a_finding_is_fit_for_a_log() -> None:
    """It is one line of at most 200 printable characters."""
    with fake_clamd(answering(b"stream: Bad\x1b[31m\xe2\x80\xae\xff" + b"x" * 500 + b"\nline FOUND\0")) as address:
        verdict = Clamd(address).scan(Content(b"x"))
    assert verdict == Verdict(is_clean=False, finding=("Bad [31m \N{REPLACEMENT CHARACTER}" + "x" * 500)[:200])


@pytest.mark.parametrize("is_reset", [False, True])
def test_a_connection_lost_while_sending_decides_nothing(is_reset: bool) -> None:  # noqa: FBT001
    """Whether it is closed or reset."""

    def behave(stream: Stream) -> None:
        stream.chunk()
        if is_reset:
            stream.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with fake_clamd(behave) as address, pytest.raises(ScannerUnavailableError, match="closed the connection without"):
        Clamd(address).scan(Content(size_bytes=64 * MIB))


def test_who_stops_reading_is_given_up() -> None:
    """Sending ends at the deadline as waiting does."""
    given_up = threading.Event()

    def behave(_stream: Stream) -> None:
        assert given_up.wait(DEADLINE_SECONDS)

    with fake_clamd(behave) as address:
        with pytest.raises(ScannerUnavailableError, match=r"did not answer within"):
            Clamd(address, -15.5).scan(Content(size_bytes=64 * MIB))
        given_up.set()


# Commands


def script(folder: Path, text: str) -> Path:
    """Write a program."""
    path = folder / "scan me"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def command(folder: Path, text: str, *arguments: object, seconds: float = DEADLINE_SECONDS) -> Command:
    """Write a program, and make a scanner of it."""
    return Command([str(script(folder, text)), *map(str, arguments)], seconds)


class Lifeline:
    """A FIFO that tells whether anybody lives who holds its other end."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lifeline"
        os.mkfifo(self.path)
        self._end = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        self._is_alive = False

    def wait_for_life(self) -> None:
        """Wait until somebody has written `alive` into it."""
        if not self._is_alive:
            assert self._read() == b"alive\n"
            self._is_alive = True

    def wait_for_end(self) -> None:
        """Wait until whoever was alive holds it no more."""
        self.wait_for_life()
        assert self._read() == b""
        os.close(self._end)

    def _read(self) -> bytes:
        end = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < end:
            # Without a writer there is nothing to read, before as after, but only after is there an end to see.
            select.select([self._end], [], [], 0.05)
            try:
                data = os.read(self._end, 100)
            except BlockingIOError:
                continue
            if data or self._is_alive:
                return data
        pytest.fail("nothing was told in time")


@pytest.mark.parametrize("size_bytes", [1, PIECE_BYTES, 5 * MIB + 3])
def test_a_command_gets_the_bytes(tmp_path: Path, size_bytes: int) -> None:
    """On its standard input, unchanged and to their end; with code 0 they are clean, whatever it prints."""
    content = Content(os.urandom(1), size_bytes // 2, size_bytes)
    assert command(tmp_path, 'cat > "$1"; echo nothing bad; echo oh >&2', tmp_path / "seen").scan(content) == CLEAN
    assert (tmp_path / "seen").read_bytes() == content.all()


def test_a_command_gets_no_bytes_of_an_empty_file(tmp_path: Path) -> None:
    """Its input ends at once."""
    assert command(tmp_path, 'cat > "$1"', tmp_path / "seen").scan(Content()) == CLEAN
    assert (tmp_path / "seen").read_bytes() == b""


@pytest.mark.parametrize(
    ("printed", "finding"),
    [("Bad.Thing\\nmore\\n", "Bad.Thing"), ("", ""), ("\\n\\n  Bad\\tThing \\033[0m", "Bad Thing  [0m")],
)
def test_a_command_finds_something(tmp_path: Path, printed: str, finding: str) -> None:
    """With code 1 its first line is the finding, made printable."""
    found = command(tmp_path, f"cat > /dev/null; printf '{printed}'; exit 1").scan(Content(b"x"))
    assert found == Verdict(is_clean=False, finding=finding)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("echo no signatures >&2; echo more >&2; exit 2", "scan me exited with 2: no signatures$"),
        ("echo found; exit 255", "scan me exited with 255: it did not say why$"),
        ("kill -SEGV $$", "scan me was ended by SIGSEGV: it did not say why$"),
        ("kill -40 $$", "scan me was ended by signal 40: it did not say why$"),
    ],
)
def test_another_end_of_a_command_decides_nothing(tmp_path: Path, text: str, told: str) -> None:
    """Any other code and any signal is a failure, told with the first line of its errors."""
    with pytest.raises(ScannerUnavailableError, match=told):
        command(tmp_path, f"cat > /dev/null; {text}").scan(Content(b"x"))


@pytest.mark.parametrize(("end", "verdict"), [("0", CLEAN), ("1", Verdict(is_clean=False, finding="seen enough"))])
def test_a_command_need_not_read_everything(tmp_path: Path, end: str, verdict: Verdict) -> None:
    """One that exits before it has read all counts by its code, and gets no more."""
    content = Content(size_bytes=64 * MIB)
    assert command(tmp_path, f"head -c 10 > /dev/null; echo seen enough; exit {end}").scan(content) == verdict
    assert content.read_bytes < content.size_bytes


def test_a_command_may_close_its_input_and_go_on(tmp_path: Path) -> None:
    """Its code counts when it comes."""
    text = "exec <&-; sleep 0.3; echo Late; exit 1"
    assert command(tmp_path, text).scan(Content(size_bytes=4 * MIB)) == Verdict(is_clean=False, finding="Late")


def test_a_command_may_close_its_output_and_go_on(tmp_path: Path) -> None:
    """It still gets every byte, and its code counts."""
    content = Content(size_bytes=4 * MIB)
    assert command(tmp_path, 'exec >&- 2>&-; sleep 0.3; cat > "$1"', tmp_path / "seen").scan(content) == CLEAN
    assert (tmp_path / "seen").read_bytes() == content.all()


@pytest.mark.parametrize("reading", ["cat > /dev/null", "true"])
def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path, reading: str) -> None:
    """At the deadline, whether it reads or not, and nothing of it lives on."""
    lifeline = Lifeline(tmp_path)
    text = f'(echo alive; exec sleep 1000) > "$1" & {reading}; wait'
    with pytest.raises(ScannerUnavailableError, match=r"scan me did not end within 0\.8 seconds"):
        command(tmp_path, text, lifeline.path, seconds=SOON).scan(
            Content(size_bytes=2 * MIB, on_read=lambda _: lifeline.wait_for_life())
        )
    lifeline.wait_for_end()


def test_a_hanging_command_that_says_nothing_more_is_killed(tmp_path: Path) -> None:
    """Also one whose input and output are closed."""
    lifeline = Lifeline(tmp_path)
    text = 'exec 3> "$1"; echo alive >&3; exec <&- >&- 2>&-; exec sleep 1000'
    with pytest.raises(ScannerUnavailableError, match="scan me did not end within"):
        command(tmp_path, text, lifeline.path, seconds=SOON).scan(
            Content(b"x", on_read=lambda _: lifeline.wait_for_life())
        )
    lifeline.wait_for_end()


def test_what_a_command_leaves_behind_is_killed(tmp_path: Path) -> None:
    """A child that holds the output open neither delays the verdict nor lives on."""
    lifeline = Lifeline(tmp_path)
    text = 'mkfifo "$2"; (exec 3> "$1"; echo alive >&3; echo > "$2"; exec sleep 1000) & read _ < "$2"; echo Bad; exit 1'
    found = command(tmp_path, text, lifeline.path, tmp_path / "turn").scan(Content(b"x"))
    assert found == Verdict(is_clean=False, finding="Bad")
    lifeline.wait_for_end()


@pytest.mark.parametrize("where", ["1", "2"])
def test_a_command_that_floods_its_output_is_bounded(tmp_path: Path, where: str) -> None:
    """It is neither blocked nor kept: what it says first is told, in at most 200 characters."""
    scanner = command(tmp_path, f"cat > /dev/null; head -c 50000000 /dev/zero | tr '\\0' x >&{where}; exit {where}")
    tracemalloc.start()
    try:
        if where == "1":
            assert scanner.scan(Content(size_bytes=MIB)) == Verdict(is_clean=False, finding="x" * 200)
        else:
            with pytest.raises(ScannerUnavailableError, match=r"exited with 2: x{200}$"):
                scanner.scan(Content(size_bytes=MIB))
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_large_content_is_never_held_whole(tmp_path: Path) -> None:
    """It goes by in pieces, however slowly somebody reads."""
    scanner = command(tmp_path, "sleep 0.3; cat > /dev/null")
    tracemalloc.start()
    try:
        assert scanner.scan(Content(size_bytes=64 * MIB)) == CLEAN
        assert tracemalloc.get_traced_memory()[1] < 6 * MIB
    finally:
        tracemalloc.stop()


def test_a_command_sees_nothing_of_our_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the environment it gets PATH, LANG and TMPDIR, and of our descriptors none."""
    monkeypatch.setenv("REMORA_SIGNING_KEY", "hush")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("LANG", "C.UTF-8")
    with (tmp_path / "ours").open("w") as ours:
        os.set_inheritable(ours.fileno(), True)  # noqa: FBT003
        names = 'env | cut -d= -f1 | sort | tr "\\n" " " > "$1"; ls -l /proc/$$/fd > "$2"'
        assert command(tmp_path, names, tmp_path / "names", tmp_path / "open").scan(Content(b"x")) == CLEAN
    assert {"LANG", "PATH", "TMPDIR"} == set((tmp_path / "names").read_text().split()) - {"PWD", "OLDPWD", "SHLVL", "_"}
    assert "/ours" not in (tmp_path / "open").read_text()


def test_no_shell_reads_a_command(tmp_path: Path) -> None:
    """Its words are split as a shell does it, and nothing in them is expanded or run."""
    program = script(tmp_path, 'out=$1; shift; for word; do echo "$word"; done > "$out"')
    words = f"'$HOME' \"a  b\" ; touch {tmp_path}/touched `id` $(id) * > {tmp_path}/redirected"
    scanner = open_scanner(f"command:{shlex.quote(str(program))} {tmp_path}/words {words}")
    assert scanner.scan(Content(b"x")) == CLEAN
    expected = [
        "$HOME",
        "a  b",
        ";",
        "touch",
        f"{tmp_path}/touched",
        "`id`",
        "$(id)",
        "*",
        ">",
        f"{tmp_path}/redirected",
    ]
    assert (tmp_path / "words").read_text().splitlines() == expected
    assert not (tmp_path / "touched").exists()
    assert not (tmp_path / "redirected").exists()


def test_a_program_is_found_when_the_scanner_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name on the PATH or by a path, which counts from where the server started."""
    script(tmp_path, "exit 0").rename(tmp_path / "scanit")
    monkeypatch.chdir(tmp_path)
    by_path = open_scanner("command:./scanit")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    by_name = open_scanner("command:scanit")
    monkeypatch.chdir("/")
    assert (by_path.scan(Content(b"x")), by_name.scan(Content(b"x"))) == (CLEAN, CLEAN)


@pytest.mark.parametrize("after", ["unlink", "no shebang"])
def test_a_program_that_can_not_be_started_later_decides_nothing(tmp_path: Path, after: str) -> None:
    """The message says why."""
    program = script(tmp_path, "exit 0")
    scanner = Command([str(program)])
    if after == "unlink":
        program.unlink()
    else:
        program.write_text("exit 0")
    with pytest.raises(ScannerUnavailableError, match=r"scan me can't be run: (No such file|Exec format error)"):
        scanner.scan(Content(b"x"))


# Sources


@pytest.mark.parametrize("error", [StoredContentCorruptError(), TimeoutError("slow bucket"), BrokenPipeError("bucket")])
def test_what_a_source_raises_comes_through(tmp_path: Path, error: Exception) -> None:
    """Whichever scanner it is for, and the program does not live on."""

    def fail(offset: int) -> None:
        if offset:
            raise error

    lifeline = Lifeline(tmp_path)
    with pytest.raises(type(error)) as raised:
        command(tmp_path, 'exec 3> "$1"; echo alive >&3; exec cat > /dev/null', lifeline.path).scan(
            Content(size_bytes=4 * MIB, on_read=fail)
        )
    assert raised.value is error
    lifeline.wait_for_end()
    with fake_clamd(Stream.wait_for_end) as address, pytest.raises(type(error)) as raised:
        Clamd(address).scan(Content(size_bytes=4 * MIB, on_read=fail))
    assert raised.value is error


def test_content_that_ends_early_has_no_verdict(tmp_path: Path) -> None:
    """Part of a file is not the file."""

    def shrink(_offset: int) -> None:
        content.size_bytes = 2 * MIB - 1

    content = Content(size_bytes=2 * MIB, on_read=shrink)
    with pytest.raises(StoredContentCorruptError):
        command(tmp_path, "cat > /dev/null").scan(content)


# Settings


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (
            "localhost:3310",
            "it must be clamd:/path/of/its/socket, clamd:host:port or command:program and its arguments",
        ),
        ("clamd:", "it must be clamd:"),
        ("clamd:localhost", "it must be clamd:"),
        ("clamd:localhost:0", "it must be clamd:"),
        ("clamd:localhost:65536", "it must be clamd:"),
        ("clamd:::1:3310", "it must be clamd:"),
        ("clamd:clamd.sock", "it must be clamd:"),
        ("command:", "it must be clamd:"),
        ("command:  ", "it must be clamd:"),
        ("command:scan 'this", "it is no command: No closing quotation"),
        ("command:no-such-scanner --all", "there is no program no-such-scanner that can be run"),
        ("command:/etc", "there is no program /etc that can be run"),
    ],
)
def test_a_bad_setting_says_what_is_accepted(setting: str, told: str) -> None:
    """Or what is wrong with the command, at the start and not at the first upload."""
    with pytest.raises(ValueError, match=f"^{told}"):
        open_scanner(setting)


def test_addresses_are_read() -> None:
    """A path, a host and its port, and IPv6 in brackets."""
    read = [open_scanner(f"clamd:{text}") for text in ("/run/my clamd.ctl", "scan.example:3310", "[::1]:3310")]
    assert [scanner._address for scanner in read if isinstance(scanner, Clamd)] == [
        "/run/my clamd.ctl",
        ("scan.example", 3310),
        ("::1", 3310),
    ]

"""The pool: whatever happens to its processes, callers get an answer, and the next job works."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from remora_server.core.errors import StorageUnavailableError, StoredContentCorruptError
from remora_server.core.model import Media
from remora_server.core.ports import PreviewerLostError, PreviewerMissingError, PreviewRefusedError
from remora_server.media.decoders import RENDERED
from remora_server.media.limits import MIB, Limits
from remora_server.media.pool import Pool
from tests.media.breaking import children_of, descriptors, is_running, wait_until, worker_of
from tests.media.sources import Broken, Bytes, Gated

QUICK = Limits(wall_seconds=2.0, silence_seconds=0.5)


def png() -> bytes:
    """Return a small image."""
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    return file.getvalue()


PNG = png()


@pytest.fixture
def made() -> Iterator[Callable[..., Pool]]:
    """Return what makes pools, all of which are closed in the end."""
    pools: list[Pool] = []

    def make(*arguments: Any, **named: Any) -> Pool:
        pools.append(Pool(*arguments, **named))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def worker_pid(pool: Pool) -> int:
    """Return the process that renders; one job makes sure that there is one."""
    assert pool.render("image/png", Bytes(PNG)).pictures
    pid = pool._rendering._lanes[0].pid
    assert pid is not None
    return pid


def begun(pool: Pool, source: Gated) -> Any:
    """Return the future of a job that is under way."""
    executor = ThreadPoolExecutor(1)
    future = executor.submit(pool.render, "image/png", source)
    executor.shutdown(wait=False)
    assert source.asked.wait(20)
    return future


# What a child may do to itself


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", r"crashed \(SIGSEGV\)"),
        ("os.abort()", r"crashed \(SIGABRT\)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed"),
        ("os._exit(3)", "ended with code 3"),
        ("os.kill(os.getpid(), 35)", r"crashed \(signal 35\)"),
        ("[report.facts() for _ in range(100_000)]", "answered what no decoder answers"),
        ("time.sleep(60)", "did not answer in time"),
        ("os.kill(os.getpid(), signal.SIGSTOP)", "did not answer in time"),
        ("import not_loaded_before", "ended with code 1"),
    ],
)
def test_a_child_that_ends_or_stops_is_lost(made: Callable[..., Pool], body: str, told: str) -> None:
    """PreviewerLostError says which, within the deadline, and the next job gets a child of its own."""
    pool = made(QUICK, worker=worker_of(f"if file.read() == b'bad': {body}"))
    began = time.monotonic()
    with pytest.raises(PreviewerLostError, match=told):
        pool.render("image/png", Bytes(b"bad"))
    assert time.monotonic() - began < QUICK.wall_seconds + QUICK.start_seconds
    assert pool.render("image/png", Bytes(b"good")).media == Media()


@pytest.mark.parametrize(
    "body",
    [
        "os.write(0, b'x' * 100)",  # No frame at all.
        "os.write(0, HEAD.pack(99, 0))",
        "os.write(0, HEAD.pack(Kind.PICTURE, 2**31))",
        "report.tell(Kind.PICTURE, b'')",
        "report.picture('PREVIEW', 'image/png', (10, 10), b'\\xff\\xd8\\xff not a PNG')",
        "report.picture('PREVIEW', 'image/jpeg', (3000, 10), b'\\xff\\xd8\\xff')",
        "report.picture('THUMBNAIL', 'image/jpeg', (0, 10), b'\\xff\\xd8\\xff')",
        "[report.picture('THUMBNAIL', 'image/jpeg', (9, 9), b'\\xff\\xd8\\xff') for _ in range(2)]",
        "report.tell(Kind.FACTS, b'\\xff' * 20)",
        "report.tell(Kind.FACTS, b'\\0' * 20 + 'schön'.encode())",
        "report.tell(Kind.FACTS, b'\\0' * 20 + b'x' * 200)",
        "report.tell(Kind.READ, b'')",
        "report.ask(4, 1)",  # Beyond the end of three bytes.
        "report.ask(0, 2**30)",
        "[report.ask(0, 3) for _ in range(100_000)]",
        "report.tell(Kind.REFUSED, b'two\\nlines')",
        "report.tell(Kind.REFUSED, b'')",
    ],
)
def test_nonsense_is_not_believed(made: Callable[..., Pool], body: str) -> None:
    """A frame that no worker of ours sends ends the worker, and what it said is not used."""
    pool = made(Limits(read_bytes=MIB), worker=worker_of(f"if file.read() == b'bad': {body}"))
    with pytest.raises(PreviewerLostError, match="answered what no decoder answers"):
        pool.render("image/png", Bytes(b"bad"))
    assert pool.render("image/png", Bytes(b"good")).media == Media()


def test_a_child_that_goes_on_after_its_answer_is_ended(made: Callable[..., Pool]) -> None:
    """It said that it is done; its answer counts, but it does not live to see the next content."""
    body = "if file.read() == b'bad':\n    report.facts(width=7)\n    report.tell(Kind.DONE)\n    time.sleep(60)"
    pool = made(worker=worker_of(body))
    assert pool.render("image/png", Bytes(b"bad")).media == Media(width=7)
    assert pool._rendering._lanes[0].pid is None  # It went with its worker.
    assert pool.render("image/png", Bytes(b"good")).media == Media()


def test_facts_told_before_the_end_are_kept(made: Callable[..., Pool]) -> None:
    """What takes too much is refused, along with what was found out before."""
    body = "report.facts(width=7, height=8)\nbytearray(10 ** 10)"
    with pytest.raises(PreviewRefusedError, match=r"^needs more than 512 MiB of memory$") as refused:
        made(worker=worker_of(body)).render("image/png", Bytes(b"x"))
    assert refused.value.media == Media(width=7, height=8)


@pytest.mark.parametrize(
    "body", ["while True: pass", "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"]
)
def test_computing_for_too_long_is_refused(made: Callable[..., Pool], body: str) -> None:
    """The time of the processor is bounded by the kernel, whatever the child does about it."""
    pool = made(Limits(cpu_seconds=1), worker=worker_of(f"report.facts(page_count=3)\n{body}"))
    with pytest.raises(PreviewRefusedError, match=r"^takes more than 1 seconds to decode$") as refused:
        pool.render("application/pdf", Bytes(b"x"))
    assert refused.value.media == Media(page_count=3)


def test_reading_too_much_is_refused(made: Callable[..., Pool]) -> None:
    """Content of which more has to be read than a job may is refused, and the reason says so."""
    pool = made(Limits(read_bytes=MIB), worker=worker_of("file.read()"))
    with pytest.raises(PreviewRefusedError, match=r"^needs more than 1 MiB of it to be read$"):
        pool.render("video/mp4", Bytes(bytes(2 * MIB)))


# What may be done to its processes


@pytest.mark.parametrize("victim", ["worker", "child"])
def test_killing_a_process_loses_one_job(made: Callable[..., Pool], victim: str) -> None:
    """PreviewerLostError at once; the next job works."""
    pool = made()
    pid, source = worker_pid(pool), Gated(PNG)
    job = begun(pool, source)
    child = children_of(pid)[0]
    os.kill({"worker": pid, "child": child}[victim], signal.SIGKILL)
    wait_until(lambda: not is_running(child))
    source.gate.set()
    with pytest.raises(PreviewerLostError, match="was killed"):
        job.result(10)
    assert pool.render("image/png", Bytes(PNG)).pictures


def test_a_frozen_child_is_lost(made: Callable[..., Pool]) -> None:
    """Neither it nor its worker survives the deadline; the next job works."""
    pool = made(QUICK)
    pid, source = worker_pid(pool), Gated(PNG)
    job = begun(pool, source)
    child = children_of(pid)[0]
    os.kill(child, signal.SIGSTOP)
    source.gate.set()
    with pytest.raises(PreviewerLostError, match="did not answer in time"):
        job.result(10)
    wait_until(lambda: not is_running(child) and not is_running(pid))
    assert pool.render("image/png", Bytes(PNG)).pictures


def test_a_worker_frozen_before_a_job_is_lost(made: Callable[..., Pool]) -> None:
    """The job is lost at its deadline, and the next one works."""
    pool = made(QUICK)
    os.kill(worker_pid(pool), signal.SIGSTOP)
    with pytest.raises(PreviewerLostError, match="did not answer in time"):
        pool.render("image/png", Bytes(PNG))
    assert pool.render("image/png", Bytes(PNG)).pictures


def test_a_worker_frozen_during_a_job_spoils_nothing(made: Callable[..., Pool]) -> None:
    """Its child has answered, which counts; the frozen worker is replaced."""
    pool = made()
    pid, source = worker_pid(pool), Gated(PNG)
    job = begun(pool, source)
    os.kill(pid, signal.SIGSTOP)
    source.gate.set()
    assert job.result(10).pictures
    assert not is_running(pid)
    assert pool.render("image/png", Bytes(PNG)).pictures


def test_a_worker_that_died_idle_costs_nothing(made: Callable[..., Pool]) -> None:
    """The next job starts another one."""
    pool = made()
    pid = worker_pid(pool)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))
    assert pool.render("image/png", Bytes(PNG)).pictures


def test_a_worker_that_cannot_start_is_lost(made: Callable[..., Pool]) -> None:
    """An interpreter that ends at once, or that is not there, is no reason to wait."""
    for command in ((sys.executable, "-c", "raise SystemExit(1)"), ("/nowhere/python",)):
        with pytest.raises(PreviewerLostError, match="could not be started"):
            made(worker=command).render("image/png", Bytes(PNG))


def test_a_worker_that_does_not_get_ready_is_lost(made: Callable[..., Pool]) -> None:
    """There is a limit to how long decoders may take to load."""
    pool = made(Limits(start_seconds=0.3), worker=(sys.executable, "-c", "import time; time.sleep(60)"))
    with pytest.raises(PreviewerLostError, match="did not start within"):
        pool.render("image/png", Bytes(PNG))


# Measuring, for which an upload waits


def measured(pool: Pool) -> Media | None:
    """Measure an image, in a time that an upload may take."""
    began = time.monotonic()
    media = pool.measure("image/png", Bytes(PNG))
    assert time.monotonic() - began < 2 * Limits().measure_seconds
    return media


def warm(pool: Pool) -> int:
    """Return the process that measures, once it does."""
    wait_until(lambda: measured(pool) == Media(width=40, height=30))
    pid = pool._measuring._lanes[0].pid
    assert pid is not None
    return pid


def test_a_frozen_worker_slows_one_upload_only(made: Callable[..., Pool], caplog: pytest.LogCaptureFixture) -> None:
    """The first waits for its second, those after it not at all, and after a while sizes are known again."""
    patient = Limits(wall_seconds=2.0, silence_seconds=3.0)
    pool = made(patient)
    os.kill(warm(pool), signal.SIGSTOP)
    with caplog.at_level(logging.WARNING):
        assert measured(pool) is None
    assert "was not measured" in caplog.text
    began = time.monotonic()
    assert [measured(pool) for _ in range(20)] == [None] * 20
    assert time.monotonic() - began < patient.silence_seconds
    warm(pool)


def test_many_uploads_wait_for_a_frozen_worker_no_longer_than_one(made: Callable[..., Pool]) -> None:
    """Those that wait for others give up."""
    pool = made(QUICK)
    os.kill(warm(pool), signal.SIGSTOP)
    with ThreadPoolExecutor(8) as executor:
        assert list(executor.map(lambda _: measured(pool), range(8))) == [None] * 8


def test_a_killed_worker_is_replaced(made: Callable[..., Pool]) -> None:
    """No upload sees an error of it."""
    pool = made(QUICK)
    os.kill(warm(pool), signal.SIGKILL)
    warm(pool)


def test_a_worker_that_is_still_starting_is_not_waited_for(made: Callable[..., Pool]) -> None:
    """The answer is None in time, and the worker is left to start."""
    slow = worker_of("pass")
    limits = Limits(measure_seconds=0.4, silence_seconds=0.1)
    pool = made(limits, worker=(*slow[:3], "import time; time.sleep(1)\n" + slow[3]))
    assert pool.measure("image/png", Bytes(PNG)) is None
    wait_until(lambda: pool.measure("image/png", Bytes(PNG)) == Media())


def test_what_can_be_measured(pool: Pool) -> None:
    """Images; nothing else is looked at, and what is no image after all has no size."""
    source = Broken(AssertionError("it was read"))
    assert {one: pool.measure(one, source) for one, kind in RENDERED.items() if kind != "IMAGE"} == {
        one: Media() for one, kind in RENDERED.items() if kind != "IMAGE"
    }
    assert pool.measure("text/plain", source) == Media()
    wait_until(lambda: pool.measure("image/png", Bytes(PNG[:10])) == Media())


# Reading content


@pytest.mark.parametrize("error", [StorageUnavailableError(), StoredContentCorruptError()])
def test_errors_of_the_store_come_through(pool: Pool, error: Exception) -> None:
    """They are about the store, not about the content, and the worker is none the worse for it."""
    for call in (pool.render, pool.measure):
        with pytest.raises(type(error)) as raised:
            wait_until(lambda call=call: call("image/png", Broken(error)) is not None)  # type: ignore[misc]
        assert raised.value is error
    pid = worker_pid(pool)
    with pytest.raises(type(error)):
        pool.render("image/png", Broken(error))
    assert worker_pid(pool) == pid


def test_a_slow_store_is_no_fault_of_the_content(made: Callable[..., Pool]) -> None:
    """The worker's deadline does not run while the store is asked."""
    pool = made(Limits(wall_seconds=1.5))
    worker_pid(pool)
    source = Gated(PNG)
    job = begun(pool, source)
    threading.Event().wait(2.0)
    source.gate.set()
    assert job.result(10).pictures


def test_a_store_that_is_too_slow(made: Callable[..., Pool]) -> None:
    """Content that did not come in time was not looked at: the store is to blame, so that the job waits."""
    pool = made(Limits(wall_seconds=1.5, reading_seconds=0.5))
    worker_pid(pool)
    source = Gated(PNG)
    job = begun(pool, source)
    threading.Event().wait(2.5)
    source.gate.set()
    with pytest.raises(StorageUnavailableError):
        job.result(10)


def test_one_slow_image_silences_nobody(made: Callable[..., Pool], caplog: pytest.LogCaptureFixture) -> None:
    """An image that takes too long to be measured is not; the next one is."""
    body = "data = file.read(8)\nif data.startswith(b'slow'):\n    file.read(8); time.sleep(60)\nreport.facts(width=3)"
    pool = made(Limits(measure_seconds=1.0, silence_seconds=600.0), worker=worker_of(body))
    wait_until(lambda: pool.measure("image/png", Bytes(b"fine" * 5)) == Media(width=3))
    assert pool.measure("image/png", Bytes(b"slow" * 5)) is None
    assert "did not answer in time" in caplog.text
    wait_until(lambda: pool.measure("image/png", Bytes(b"fine" * 5)) == Media(width=3))


def test_content_that_is_shorter_than_it_says(pool: Pool) -> None:
    """It is damaged, whoever did it."""

    class Short(Bytes):
        @property
        def size_bytes(self) -> int:
            return 10 * len(self.data)

    with pytest.raises(PreviewRefusedError):
        pool.render("image/png", Short(PNG[:-30]))


# What is not there


def test_types_that_are_not_rendered(pool: Pool) -> None:
    """Nothing is started for them."""
    with pytest.raises(PreviewRefusedError, match="no previews of text/html"):
        pool.render("text/html", Bytes(b"<html>"))


def test_decoders_that_are_not_installed(made: Callable[..., Pool]) -> None:
    """The error names the extra, and is of a class of its own: it may be tried again. The rest works."""
    program = (
        "import sys\n"
        "sys.modules.update(av=None, pypdfium2=None, pillow_heif=None)\n"
        "from remora_server.media import worker\n"
        "worker.main(worker.loaded)\n"
    )
    pool = made(worker=(sys.executable, "-I", "-c", program))
    assert pool.render("image/png", Bytes(PNG)).pictures
    for content_type in ("image/heic", "application/pdf", "video/mp4", "audio/mpeg"):
        with pytest.raises(PreviewerMissingError) as missing:
            pool.render(content_type, Bytes(PNG))
        assert str(missing.value) == (
            f"previews of {content_type} need the extra `media` of the server: pip install 'remora[server,media]'"
        )
    wait_until(lambda: pool.measure("image/heic", Bytes(PNG)) == Media())


# How it ends


def test_closing_ends_everything(made: Callable[..., Pool]) -> None:
    """Jobs under way and those that wait are lost, no process is left, and no descriptor."""
    before = descriptors()
    pool = made()
    warm(pool)
    pids = [worker_pid(pool), pool._measuring._lanes[0].pid or 0]
    source = Gated(PNG)
    jobs = [begun(pool, source)]
    pids += children_of(pids[0])
    with ThreadPoolExecutor(1) as executor:
        jobs.append(executor.submit(pool.render, "image/png", Bytes(PNG)))
        pool.close()
        assert len(pids) == 3
        wait_until(lambda: not any(is_running(pid) for pid in pids))
        source.gate.set()
        for job in jobs:
            with pytest.raises(PreviewerLostError):
                job.result(10)
    with pytest.raises(PreviewerLostError):
        pool.render("image/png", Bytes(PNG))
    assert pool.measure("image/png", Bytes(PNG)) is None
    pool.close()
    wait_until(lambda: descriptors() == before)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("busy", [False, True])
def test_nothing_outlives_a_server_that_was_killed(busy: bool, frozen: bool) -> None:  # noqa: FBT001 - four cases
    """Workers, and a child that computes, end with a server that could not say good-bye, be they frozen."""
    program = (
        "import sys, threading, time\n"
        "from remora_server.media.limits import Limits\n"
        "from remora_server.media.pool import Pool\n"
        "from tests.media.breaking import children_of, wait_until, worker_of\n"
        "from tests.media.sources import Gated\n"
        f"worker = worker_of('file.read()\\nwhile {busy}: pass')\n"
        "pool = Pool(Limits(cpu_seconds=60, wall_seconds=60), worker=worker)\n"
        "source = Gated(b'x')\n"
        "source.gate.set()\n"
        "threading.Thread(target=pool.render, args=('image/png', source)).start()\n"
        "assert source.asked.wait(20)\n"
        "pid = lambda: pool._rendering._lanes[0].pid\n"
        f"wait_until(lambda: pid() and (bool(children_of(pid())) if {busy} else pool._rendering._free))\n"
        "print(pid(), *children_of(pid()), flush=True)\n"
        "time.sleep(60)\n"
    )
    server = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    with server, server.stdout:
        pids = [int(one) for one in server.stdout.readline().split()]
        assert len(pids) >= 1 + busy
        for pid in pids if frozen else ():
            os.kill(pid, signal.SIGSTOP)
        server.kill()
    wait_until(lambda: not any(is_running(pid) for pid in pids))


def test_several_renderers_work_at_once(made: Callable[..., Pool]) -> None:
    """A second job does not wait for the first if there are two; a third does."""
    pool = made(renderers=2)
    slow = Gated(PNG)
    job = begun(pool, slow)
    assert pool.render("image/png", Bytes(PNG)).pictures
    slow.gate.set()
    assert job.result(10).pictures


def test_workers_know_nothing_of_our_environment(made: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is secret to the server is so for whoever decodes."""
    monkeypatch.setenv("REMORA_SECRET", "hunter2")
    pool = made(worker=worker_of("raise worker.RefusedError(' '.join(sorted(os.environ)))"))
    with pytest.raises(PreviewRefusedError) as told:
        pool.render("image/png", Bytes(PNG))
    assert set(str(told.value).split()) <= {"LC_CTYPE", "LD_LIBRARY_PATH", "MALLOC_ARENA_MAX"}

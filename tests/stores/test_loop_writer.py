"""Where the changes of an event loop are committed: beside it, or, for a lone caller, on it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from remora_server.stores import loop_writer
from remora_server.stores.database_sqlite import Sqlite
from remora_server.stores.loop_writer import LoopWriter
from remora_server.stores.migrations import migrate
from remora_server.stores.tables import Workspaces
from remora_server.stores.writer import Writer

PLENTY = 60.0  # Seconds; a commit on a busy machine is still a quick one.


class Bench:
    """A database, the two writers, and the threads that committed on the loop's connection."""

    def __init__(self, database: Sqlite, writer: Writer) -> None:
        self.database = database
        self.alone = True
        self.loop_writer = LoopWriter(database, writer, lambda: self.alone)
        self.committed_on: list[str] = []
        self.pragmas: list[str] = []
        database.connection().set_trace_callback(self._note)

    def _note(self, sql: str) -> None:
        if sql == "COMMIT":
            on_loop = threading.current_thread() is threading.main_thread()
            self.committed_on.append("loop" if on_loop else threading.current_thread().name)
        elif "autocheckpoint" in sql:
            self.pragmas.append(sql)

    def rows(self) -> int:
        """Count what another connection sees."""
        found: list[int] = []
        reader = threading.Thread(target=lambda: found.append(len(self.database.select(Workspaces.select()))))
        reader.start()
        reader.join()
        return found[0]

    async def change(self, name: str) -> None:
        """Add a row, and wait for its commit."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        self.loop_writer.submit_to(lambda: self._add(name), loop, future)
        await asyncio.wait_for(future, 30)

    def _add(self, name: str) -> None:
        row = {"id": name, "slug": name, "name": name, "create_time": 0, "used_bytes": 0, "reserved_bytes": 0}
        self.database.execute(Workspaces.insert({key: row[key] for key in row if hasattr(Workspaces, key)}))


@contextmanager
def opened(path: Path) -> Iterator[Bench]:
    """Open a new database with its writers; close them behind."""
    database = Sqlite(path / "remora.db")
    migrate(database)
    writer = Writer(database)
    bench = Bench(database, writer)
    try:
        yield bench
    finally:
        bench.loop_writer.close()
        writer.close()
        database.close()


def test_a_lone_caller_s_commits_are_made_on_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a first, quick commit beside it the loop commits itself, durably before the caller hears of it."""
    monkeypatch.setattr(loop_writer, "QUICK_SECONDS", PLENTY)
    monkeypatch.setattr(loop_writer, "LONE_CHANGES", 2)

    async def changes(bench: Bench) -> None:
        for number in range(3):
            await bench.change(f"w{number}")
            assert bench.rows() == number + 1

    with opened(tmp_path) as bench:
        asyncio.run(changes(bench))
        assert bench.committed_on == ["commit", "loop", "loop"]


def test_the_loop_waits_for_no_commit_while_others_would_wait_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another call on its way, or two changes at once or just before, commits are made beside the loop."""
    monkeypatch.setattr(loop_writer, "QUICK_SECONDS", PLENTY)
    monkeypatch.setattr(loop_writer, "LONE_CHANGES", 2)

    async def changes(bench: Bench) -> None:
        await bench.change("w0")
        bench.alone = False
        await bench.change("w1")
        bench.alone = True
        await asyncio.gather(bench.change("w2"), bench.change("w3"))
        await bench.change("w4")

    with opened(tmp_path) as bench:
        asyncio.run(changes(bench))
        assert bench.committed_on == ["commit"] * 4
        assert bench.rows() == 5


def test_a_batch_waits_for_more_as_long_as_more_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes that come one in each turn of the loop, or a few turns apart, are one commit."""
    monkeypatch.setattr(loop_writer, "GATHER_SECONDS", PLENTY)

    async def changes(bench: Bench) -> None:
        waiting = []
        for number in range(20):
            waiting.append(asyncio.ensure_future(bench.change(f"w{number}")))
            for _ in range(number % 5):
                await asyncio.sleep(0)
        await asyncio.gather(*waiting)

    with opened(tmp_path) as bench:
        asyncio.run(changes(bench))
        assert bench.committed_on == ["commit"]
        assert bench.rows() == 20


def test_a_batch_waits_neither_for_ever_nor_for_more_than_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though more come in every turn, a batch is run when it is full, and when it has waited long enough."""
    monkeypatch.setattr(loop_writer, "GATHER_SECONDS", PLENTY)
    monkeypatch.setattr(loop_writer, "QUIET_TURNS", 10**9)
    monkeypatch.setattr(loop_writer, "TURN_CALLS", 5)

    async def changes(bench: Bench, name: str, count: int) -> None:
        waiting = []
        for number in range(count):
            waiting.append(asyncio.ensure_future(bench.change(f"{name}{number}")))
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)

    with opened(tmp_path) as bench:
        asyncio.run(changes(bench, "full", 5))
        assert bench.committed_on == ["commit"]
        monkeypatch.setattr(loop_writer, "TURN_CALLS", 1000)
        monkeypatch.setattr(loop_writer, "GATHER_SECONDS", 0.0)
        asyncio.run(changes(bench, "late", 50))
        assert len(bench.committed_on) > 2
        assert bench.rows() == 55


def test_a_lone_caller_s_change_waits_for_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a caller is known to be alone, its change is run in the next turn."""
    monkeypatch.setattr(loop_writer, "QUICK_SECONDS", PLENTY)
    monkeypatch.setattr(loop_writer, "GATHER_SECONDS", PLENTY)
    monkeypatch.setattr(loop_writer, "LONE_CHANGES", 2)

    async def changes(bench: Bench) -> None:
        for number in range(3):
            await bench.change(f"w{number}")
        before = len(bench.committed_on)
        last = asyncio.ensure_future(bench.change("w3"))
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(bench.committed_on) == before + 1
        await last

    with opened(tmp_path) as bench:
        asyncio.run(changes(bench))
        assert bench.rows() == 4


def test_a_slow_disk_is_waited_for_beside_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a commit that took its time the loop waits for none, not even a lone caller's."""
    monkeypatch.setattr(loop_writer, "QUICK_SECONDS", 0.0)
    monkeypatch.setattr(loop_writer, "LONE_CHANGES", 1)

    async def changes(bench: Bench) -> None:
        for number in range(3):
            await bench.change(f"w{number}")

    with opened(tmp_path) as bench:
        asyncio.run(changes(bench))
        assert bench.committed_on == ["commit"] * 3


def test_checkpoints_are_made_beside_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the loop commits it makes no checkpoints; every so many commits the thread gets one, and may."""
    monkeypatch.setattr(loop_writer, "QUICK_SECONDS", PLENTY)
    monkeypatch.setattr(loop_writer, "LONE_CHANGES", 2)
    monkeypatch.setattr(loop_writer, "HERE_LIMIT", 2)

    async def changes(bench: Bench) -> None:
        for number in range(4):
            await bench.change(f"w{number}")

    with opened(tmp_path) as bench:
        asyncio.run(changes(bench))
        assert bench.committed_on == ["commit", "loop", "loop", "commit"]
        assert bench.pragmas == [loop_writer.CHECKPOINTS_OFF, loop_writer.CHECKPOINTS_ON]


def test_a_commit_that_fails_on_the_loop_is_tried_again_by_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller whose commit failed hears of the one that the writer made instead, and the row is there once."""
    monkeypatch.setattr(loop_writer, "QUICK_SECONDS", PLENTY)
    monkeypatch.setattr(loop_writer, "LONE_CHANGES", 2)

    async def changes(bench: Bench) -> None:
        await bench.change("w0")

        def fail(_connection: object) -> None:
            raise OSError("no")

        monkeypatch.setattr(bench.loop_writer, "_commit", fail)
        await bench.change("w1")

    with opened(tmp_path) as bench:
        asyncio.run(changes(bench))
        assert bench.committed_on == ["commit"]
        assert bench.rows() == 2

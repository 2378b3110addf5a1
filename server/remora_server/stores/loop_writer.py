"""Changes of an event loop, run on the loop's own thread; only their commits, which wait for the disk, run beside it.

Python runs one thread at a time, and SQLite lets go of that right in every statement. With the statements on another
thread a busy loop takes the right away each time, and at 64 callers half of the processor's time went into handing it
over. A change costs the loop some fifty microseconds. Changes of many rows are handed to the writer's thread by whoever
makes them; those that find the database locked or fail half-way go there from here. For SQLite only: a statement of
PostgreSQL waits for the network.

A server of grpc.aio takes in one call in a turn of its loop. So a batch waits for more as long as more come: at 64
callers it then holds some forty changes instead of six, and a call costs a fifth less. The turns that it waits in vain
take a tenth of a millisecond together, and are not waited where one caller is alone.

Handing a commit over and hearing of its end costs a lone caller as much as the commit itself. So where a change is all
that the server does, and the disk answered quickly last time, the loop waits for that one commit.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TypeVar

from remora_server.stores.database_sqlite import PRAGMAS, Sqlite
from remora_server.stores.writer import Job, Writer, run_job

Result = TypeVar("Result")

TURN_CALLS = 64  # In one batch: some three milliseconds.
QUIET_TURNS = 40  # Turns of the loop in which nothing came, after which a batch is run.
GATHER_SECONDS = 0.004  # The longest that a batch waits; turns are long while uploads stream in.
QUICK_SECONDS = 0.001  # What the loop waits for a commit, where it does.
LONE_CHANGES = 8  # Batches of one change in a row, by which a lone caller is known.
HERE_LIMIT = 256  # Commits on the loop between two on the thread, which also takes what they wrote into the database.
CHECKPOINTS_OFF = "PRAGMA wal_autocheckpoint = 0"
CHECKPOINTS_ON = f"PRAGMA wal_autocheckpoint = {PRAGMAS['wal_autocheckpoint']}"

log = logging.getLogger(__name__)


class LoopWriter:
    """Takes changes on one event loop, in the order of their coming."""

    def __init__(self, database: Sqlite, writer: Writer, is_alone: Callable[[], bool]) -> None:
        """Commit on the loop's own thread only while `is_alone` says that nobody else would wait with it."""
        self._database = database
        self._writer = writer
        self._is_alone = is_alone
        self._was_quick = False
        self._committed_here = 0
        self._single = 0  # Batches of one change, one after the other.
        self._gathered: list[Job] = []
        self._seen = 0  # How many of them a turn ago.
        self._quiet_turns = 0
        self._gather_until = 0.0
        self._is_scheduled = False
        self._is_committing = False
        self._is_patient = True  # Whether this connection still waits for locks, as it must not on the loop.
        self._closed = False
        self._commits: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._commit_all, name="commit", daemon=True)
        self._thread.start()

    def submit_to(
        self, call: Callable[[], Result], loop: asyncio.AbstractEventLoop, future: asyncio.Future[Result]
    ) -> None:
        """Run `call` in one batch with those that come just after; `future` gets its outcome once that is durable."""
        self._gathered.append(Job(call, future, loop))
        if not self._is_scheduled and not self._is_committing:
            self._schedule(loop)

    def close(self) -> None:
        """Finish the commit that is under way and end the thread; call it on the loop. Later changes pass by here."""
        self._closed = True
        self._commits.put(None)
        self._thread.join()

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_scheduled = True
        self._seen = self._quiet_turns = 0
        self._gather_until = time.monotonic() + GATHER_SECONDS
        loop.call_soon(self._gather, loop)

    def _gather(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run what has come, or look again in the next turn of the loop, whether more has come."""
        came = len(self._gathered)
        self._quiet_turns = 0 if came > self._seen else self._quiet_turns + 1
        self._seen = came
        is_over = self._quiet_turns >= QUIET_TURNS or time.monotonic() >= self._gather_until
        if is_over or came >= TURN_CALLS or self._is_lone():
            self._run_gathered(loop)
        else:
            loop.call_soon(self._gather, loop)

    def _is_lone(self) -> bool:
        """Tell whether one caller is all that the server has to do."""
        # Of many callers, one is now and then the only one whose call was read already.
        return self._single >= LONE_CHANGES and self._is_alone()

    def _run_gathered(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_scheduled = False
        batch, self._gathered = self._gathered[:TURN_CALLS], self._gathered[TURN_CALLS:]
        batch = [job for job in batch if job.is_wanted()]
        if batch and not self._run(batch, loop):
            for job in batch:
                self._pass_on(job)
        if self._gathered and not self._is_committing:
            self._schedule(loop)

    def _run(self, batch: Sequence[Job], loop: asyncio.AbstractEventLoop) -> bool:
        """Run a batch here up to its commit; False, and nothing has happened, if the other thread must do it."""
        database = self._database
        if self._closed or not self._writer.try_turn():
            return False
        try:
            if self._is_patient:
                database.command("PRAGMA busy_timeout = 0")
                self._is_patient = False
            connection = database.connection()
            before = connection.total_changes
            database.command("BEGIN IMMEDIATE")
            with self._writer.running():
                done = all(run_job(connection, job) for job in batch)
            if not done:
                database.command("ROLLBACK")
                self._writer.end_turn()
                return False
            changed = connection.total_changes != before
            here = self._may_commit_here(batch)
            if here:
                self._commit(connection)
        except Exception as error:  # noqa: BLE001 - whatever it was, the writer's thread knows how to go on.
            log.debug("a batch of %d goes to the writer (%r)", len(batch), error)
            self._give_up()
            return False
        if here:
            self._writer.end_turn()
            batch[0].settle()
            if changed:
                self._writer.tell_listeners()
        else:
            self._hand_over(connection, batch, loop, changed=changed)
        return True

    def _hand_over(
        self, connection: sqlite3.Connection, batch: Sequence[Job], loop: asyncio.AbstractEventLoop, *, changed: bool
    ) -> None:
        """Have the other thread commit what the batch did."""
        self._is_committing = True

        def commit() -> None:
            try:
                self._commit(connection)
            except Exception as error:  # noqa: BLE001 - as above.
                log.warning("a batch of %d was not committed (%r); the writer tries again", len(batch), error)
                loop.call_soon_threadsafe(self._failed, batch, loop)
            else:
                self._writer.end_turn()
                loop.call_soon_threadsafe(self._committed, batch, loop)
                if changed:
                    self._writer.tell_listeners()

        self._commits.put(commit)

    def _may_commit_here(self, batch: Sequence[Job]) -> bool:
        """Tell whether the loop may wait for this commit; then it is not one that has a checkpoint to make."""
        self._single = self._single + 1 if len(batch) == 1 else 0
        may = self._is_lone() and self._was_quick and self._committed_here < HERE_LIMIT
        if may and not self._committed_here:
            self._database.command(CHECKPOINTS_OFF)
        elif self._committed_here and not may:
            self._database.command(CHECKPOINTS_ON)
        self._committed_here = self._committed_here + 1 if may else 0
        return may

    def _commit(self, connection: sqlite3.Connection) -> None:
        began = time.perf_counter()
        connection.commit()
        self._was_quick = time.perf_counter() - began < QUICK_SECONDS

    def _committed(self, batch: Sequence[Job], loop: asyncio.AbstractEventLoop) -> None:
        self._is_committing = False
        for job in batch:
            job.settle()
        if self._gathered and not self._is_scheduled:
            self._schedule(loop)

    def _failed(self, batch: Sequence[Job], loop: asyncio.AbstractEventLoop) -> None:
        self._give_up()
        for job in batch:
            self._pass_on(job)
        self._committed((), loop)

    def _give_up(self) -> None:
        """End a transaction that went wrong, with its connection if need be."""
        try:
            if self._database.in_transaction():
                self._database.command("ROLLBACK")
        except Exception as error:  # noqa: BLE001 - a connection that can't even do this is of no use.
            log.warning("the event loop gave up its connection (%r)", error)
            self._database.drop_connection()
            self._is_patient = True
            self._committed_here = 0
        finally:
            self._writer.end_turn()

    def _pass_on(self, job: Job) -> None:
        try:
            self._writer.put(job)
        except Exception as refusal:  # noqa: BLE001 - the writer is closed, and the caller hears of that.
            job.error = refusal
            job.settle()

    def _commit_all(self) -> None:
        while (commit := self._commits.get()) is not None:
            commit()

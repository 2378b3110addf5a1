"""The one place that writes: a thread that runs what is queued in one durable commit after the other.

Calls that wait while a commit is on its way go together into the next one, so many callers share one sync of the disk.
A call that fails takes nothing of the others with it. A call may run again when its
batch could not be committed, so it must have no effect but in the database; callers learn of the last run only.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from remora_server.core.errors import RemoraError, ShuttingDownError, StorageUnavailableError
from remora_server.stores.database import Connection, Database, OutcomeUnknownError, PutOffError

Result = TypeVar("Result")
Call = Callable[[], Any]

BATCH_LIMIT = 256

log = logging.getLogger(__name__)


class CallBrokenOffError(Exception):
    """A call on the writer ended by something that was meant to end a thread or a process."""


class BatchLostError(Exception):
    """The transaction ended under its calls; none of them has happened."""


class Job:
    """A call, and who waits for it."""

    __slots__ = ("call", "error", "loop", "result", "waiting")

    def __init__(self, call: Call, waiting: Any, loop: asyncio.AbstractEventLoop | None = None) -> None:  # noqa: ANN401 - one of two kinds of future.
        self.call = call
        self.waiting = waiting
        self.loop = loop
        self.result: Any = None
        self.error: Exception | None = None

    def is_wanted(self) -> bool:
        """Tell whether anybody still waits; from here on a future of another thread can't be cancelled any more."""
        if self.loop is None:
            return bool(self.waiting.set_running_or_notify_cancel())
        return not self.waiting.cancelled()

    def settle(self) -> None:
        """Hand over the outcome; for an asyncio future, which may have been cancelled, on its own loop."""
        if not self.waiting.done():
            if self.error is None:
                self.waiting.set_result(self.result)
            else:
                self.waiting.set_exception(self.error)
        # The traceback of an error leads back here. That circle would keep all that the call holds, which may be
        # megabytes of a refused request, until the collector comes by.
        del self.call, self.error, self.result, self.waiting


class Writer:
    """Runs changes on a thread of its own. Any thread may hand them in."""

    def __init__(self, database: Database, *, batch_limit: int = BATCH_LIMIT) -> None:
        self._database = database
        self._batch_limit = batch_limit
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._entrance = threading.Lock()
        self._closed = False
        self._turn = threading.Lock()  # Held while a transaction is open, here or in the event loop.
        self._running_on: int | None = None  # The thread that runs calls in that transaction.
        self._listeners: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self._thread.start()

    def run(self, call: Callable[[], Result]) -> Result:
        """Run `call` in a transaction and return its result once that is durable. Not from the event loop.

        Within a call that runs already it becomes part of that one; if it raises, only what it did is undone.
        """
        if threading.get_ident() == self._running_on:
            return self._run_within(call)
        return self.submit(call).result()

    def submit(self, call: Callable[[], Result]) -> Future[Result]:
        """Queue `call`; the future gets its outcome once that is durable."""
        future: Future[Result] = Future()
        self.put(Job(call, future))
        return future

    def submit_to(
        self, call: Callable[[], Result], loop: asyncio.AbstractEventLoop, future: asyncio.Future[Result]
    ) -> None:
        """Queue `call` for a future of `loop`, which is woken once for all the futures of a batch."""
        self.put(Job(call, future, loop))

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Have `listener` called on the writer's thread after each commit that changed something; it must be quick."""
        self._listeners.append(listener)

    def try_turn(self) -> bool:
        """Take the right to open a transaction on another thread, unless somebody here has or waits for it."""
        return not self._closed and self._queue.empty() and self._turn.acquire(blocking=False)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Note that this thread, which has the turn, runs calls now: what they `run` becomes part of them."""
        self._running_on = threading.get_ident()
        try:
            yield
        finally:
            self._running_on = None

    def end_turn(self) -> None:
        """Give back what `try_turn` took; any thread may."""
        self._turn.release()

    def close(self) -> None:
        """Take nothing more, finish what is queued and end the thread."""
        with self._entrance:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def put(self, job: Job) -> None:
        """Queue a job; raise ShuttingDownError after `close`."""
        # Under the lock, so that nothing can be queued behind the last item, where nobody would ever look.
        with self._entrance:
            if self._closed:
                raise ShuttingDownError
            self._queue.put(job)

    def _work(self) -> None:
        while self._work_once():
            pass
        self._database.drop_connection()

    def _work_once(self) -> bool:
        batch, going_on = self._next_batch()
        if not batch:
            return going_on
        written = True
        try:
            with self._turn, self.running():
                written = self._write(batch)
        except BaseException as error:
            # Without this thread every later change would wait for ever.
            log.critical("the writer failed on a batch", exc_info=error)
            _refuse(batch, error)
        _settle(batch)
        if written:
            self.tell_listeners()
        return going_on

    def _next_batch(self) -> tuple[list[Job], bool]:
        """Wait for a job and take what else has come by now; False if that was all for ever."""
        batch: list[Job] = []
        job = self._queue.get()
        while job is not None:
            if job.is_wanted():
                batch.append(job)
            if len(batch) >= self._batch_limit:
                return batch, True
            try:
                job = self._queue.get_nowait()
            except Empty:
                return batch, True
        return batch, False

    def _write(self, batch: Sequence[Job]) -> bool:
        """Run a batch in one transaction, or else each of its calls in its own; tell whether anything may be new."""
        try:
            self._database.begin()
            before = self._database.written()
        except Exception as error:  # noqa: BLE001 - as with the second beginning below.
            log.warning("a batch of %d could not begin (%r)", len(batch), error)
            _refuse(batch, error)
            return False
        try:
            self._finish(batch)
        except OutcomeUnknownError as error:
            log.warning("a batch of %d may have been committed or not (%r)", len(batch), error)
            _refuse([job for job in batch if job.error is None], error)
            return True
        except Exception as error:  # noqa: BLE001 - whatever it was, each call gets a chance of its own.
            log.warning("a batch of %d was not committed (%r); its calls are tried one by one", len(batch), error)
            self._one_by_one(batch)
            return True
        return self._database.written() != before

    def _one_by_one(self, batch: Sequence[Job]) -> None:
        for place, job in enumerate(batch):
            try:
                self._database.begin()
            except Exception as error:  # noqa: BLE001 - see below.
                # The others would wait as long and as vainly; better that their callers hear of it now.
                _refuse(batch[place:], error)
                return
            try:
                self._finish([job])
            except Exception as error:  # noqa: BLE001 - belongs to this call alone.
                if job.error is None:
                    _refuse([job], error)

    def _finish(self, batch: Sequence[Job]) -> None:
        """Run calls in the transaction that was begun, and commit it.

        Savepoints around every call would cost as much as its own statements, so they are used only in a second
        attempt, when a call of the first one failed after it had written something.
        """
        database = self._database
        try:
            if all(self._run(job) for job in batch) and self._commit():
                return
            database.roll_back()
            database.begin()
            for job in batch:
                self._run_in_savepoint(job)
            database.commit()
        except BaseException:
            self._roll_back()
            raise

    def _commit(self) -> bool:
        """Commit; False if that brought to light that a call has failed."""
        try:
            self._database.commit()
        except PutOffError as error:
            log.debug("a batch is tried anew: %r", error.__cause__)
            return False
        return True

    def _run(self, job: Job) -> bool:
        return run_job(self._database.connection(), job)

    def _run_in_savepoint(self, job: Job) -> None:
        self._database.savepoint("call")
        self._run(job)
        if job.error is None:
            self._database.release("call")
        else:
            self._database.undo("call")

    def _run_within(self, call: Callable[[], Result]) -> Result:
        """Run a part of a call, on the writer's thread."""
        self._database.savepoint("part")
        try:
            result = call()
        except BaseException as error:
            if not self._database.in_transaction():
                # Nobody may take this for the refusal of one part: all that the call did before is gone as well.
                raise BatchLostError from error
            self._database.undo("part")
            raise
        self._database.release("part")
        return result

    def _roll_back(self) -> None:
        try:
            if self._database.in_transaction():
                self._database.roll_back()
        except Exception as error:  # noqa: BLE001 - a connection that can't even do this is of no use.
            log.warning("the writer gave up its connection (%r)", error)
            self._database.drop_connection()

    def tell_listeners(self) -> None:
        """Tell that something may be new."""
        for listener in self._listeners:
            try:
                listener()
            except Exception:
                log.exception("a listener of the writer failed")


def run_job(connection: Connection, job: Job) -> bool:
    """Run a call in the open transaction; tell whether that is as if the call had succeeded, or had not been there."""
    before = connection.total_changes
    job.result = job.error = None
    try:
        job.result = job.call()
    except BaseException as error:  # noqa: BLE001 - it is the caller's, and must not end this thread.
        job.error = _presentable(error)
    if not connection.in_transaction:
        raise BatchLostError
    return job.error is None or connection.total_changes == before


def _refuse(batch: Sequence[Job], error: BaseException) -> None:
    for job in batch:
        job.result = None
        job.error = error if isinstance(error, RemoraError) else StorageUnavailableError()


def _settle(batch: Sequence[Job]) -> None:
    """Hand over all outcomes, waking each loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in batch:
        if job.loop is None:
            job.settle()
        else:
            by_loop.setdefault(job.loop, []).append(job)
    for loop, jobs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle_all, jobs)
        except RuntimeError:
            log.warning("%d outcomes came after their event loop was closed", len(jobs))


def _settle_all(jobs: Sequence[Job]) -> None:
    for job in jobs:
        job.settle()


def _presentable(error: BaseException) -> Exception:
    """Return an exception that a future may carry and that ends nothing but the call."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    broken = CallBrokenOffError(repr(error))
    broken.__cause__ = error
    return broken

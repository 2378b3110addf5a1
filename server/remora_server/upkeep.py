"""Upkeep: what a running server does by itself now and then, on a thread of its own: it sweeps.

Of several servers of one database one sweeps in each interval: whoever takes the round first. The lease of the round is
not given back, so the others find it taken when their time comes; that of the sweep itself belongs to `core/sweep.py`.
"""

from __future__ import annotations

import logging
import random
import threading
from dataclasses import asdict

from remora_server.core.errors import RemoraError
from remora_server.core.leases import LeaseHeldError, Leases
from remora_server.core.model import Micros
from remora_server.core.ownership import ForeignBlobsError
from remora_server.core.sweep import Sweep, Swept

ROUND = "sweep-round"
ROUND_SHARE = 0.8  # Of the interval; less than the shortest wait, so that a lone server finds its own round over.
FIRST_SECONDS = (180.0, 360.0)  # Not while a server that was just started has enough to do.
JITTER = (0.9, 1.1)
STOP_SECONDS = 10.0
SECOND: Micros = 1_000_000

log = logging.getLogger(__name__)


class _StoppedError(Exception):
    """Ends a sweep because the server ends."""


class Upkeep:
    """Sweeps every so often, until it is stopped; never with an interval of 0."""

    def __init__(self, sweep: Sweep, leases: Leases, *, grace: Micros, interval_seconds: float) -> None:
        self._sweep = sweep
        self._leases = leases
        self._grace = grace
        self._interval_seconds = interval_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin, unless nothing is to be done."""
        if self._interval_seconds > 0:
            self._thread.start()

    def stop(self) -> None:
        """End at the next step; a sweep may be ended anywhere."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def _work(self) -> None:
        wait_seconds = min(self._interval_seconds, random.uniform(*FIRST_SECONDS))  # noqa: S311 - only spreads servers.
        while not self._stopping.wait(wait_seconds):
            self._round()
            wait_seconds = self._interval_seconds * random.uniform(*JITTER)  # noqa: S311 - only spreads servers.

    def _round(self) -> None:
        try:
            self._leases.take(ROUND, int(self._interval_seconds * ROUND_SHARE * SECOND))
            swept = self._sweep.sweep(self._grace, told=self._told)
        except LeaseHeldError as held:
            log.debug("no sweep: %s", held)
        except _StoppedError:
            log.info("a sweep was ended; the next one goes on with it")
        except (RemoraError, ForeignBlobsError) as problem:
            log.warning("a sweep was given up: %s", problem)
        except Exception:
            log.exception("a sweep failed")
        else:
            removed = {name: count for name, count in asdict(swept).items() if count and name != "grace_seconds"}
            level = logging.WARNING if swept.failed else logging.INFO if removed else logging.DEBUG
            log.log(level, "swept: %s", removed)

    def _told(self, _done: Swept) -> None:
        if self._stopping.is_set():
            raise _StoppedError

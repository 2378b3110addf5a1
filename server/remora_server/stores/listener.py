"""Hears of what other servers have committed to the same PostgreSQL database, so that watches wake at once.

Nothing depends on it: whoever waits looks for itself now and then, and so notices what was told while nobody heard.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import psycopg

from remora_server.stores.database import Row

LOOK_SECONDS = 0.25  # How often it looks whether it should end.
REST_SECONDS = 0.01  # Between two tellings; what came meanwhile is told once.
AGAIN_SECONDS = 1.0

log = logging.getLogger(__name__)


class Listener:
    """A thread with a connection of its own."""

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Row]],
        channel: str,
        is_own: Callable[[int], bool],
        tell: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._channel = channel
        self._is_own = is_own
        self._tell = tell
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="listen", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        self._thread.join()

    def _work(self) -> None:
        is_away = False
        while not self._closing.is_set():
            try:
                with self._connect() as connection:
                    connection.execute(f"LISTEN {self._channel}")
                    if is_away:
                        log.info("hearing of other servers again")
                        is_away = False
                    self._tell()  # What came while nobody heard.
                    while not self._closing.wait(REST_SECONDS):
                        self._hear(connection)
            except psycopg.Error as error:
                if not is_away:
                    log.info("not hearing of other servers until the database is back: %r", error)
                    is_away = True
                self._closing.wait(AGAIN_SECONDS)
            except Exception:
                log.exception("whoever was told of other servers failed")
                self._closing.wait(AGAIN_SECONDS)

    def _hear(self, connection: psycopg.Connection[Row]) -> None:
        heard = connection.notifies(timeout=LOOK_SECONDS, stop_after=1)
        if not all(self._is_own(notification.pid) for notification in heard):
            self._tell()

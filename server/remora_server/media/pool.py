"""Who decodes: one worker process for measuring what is uploaded, and others for rendering it later."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence

from remora_server.core.model import Media
from remora_server.core.ports import BlobReader, Look, PreviewerLostError, PreviewRefusedError
from remora_server.media.conversation import Deadline
from remora_server.media.decoders import RENDERED
from remora_server.media.lane import WORKER, DecoderSlowError, Lane, NotStartedError
from remora_server.media.limits import Limits

WAITING_SHARE = 0.25  # Of the time for measuring may be spent on waiting for others; a worker needs the rest itself.

log = logging.getLogger(__name__)


class Pool:
    """Decodes content in processes of its own, which start with the first job. It is the port `Previewer`."""

    def __init__(
        self,
        limits: Limits = Limits(),  # noqa: B008 - immutable
        *,
        renderers: int = 1,
        worker: Sequence[str] = WORKER,
    ) -> None:
        self._limits = limits
        self._measuring = _Lanes([Lane("measure", limits, worker)])
        self._rendering = _Lanes([Lane("render", limits, worker) for _ in range(renderers)])
        self._silent_until = 0.0

    def measure(self, content_type: str, source: BlobReader) -> Media | None:
        """Return the size of an image; nothing is known of other content before it is rendered.

        An upload waits for this, so the answer is None if there is none in time; and after a worker was lost, at once
        for a while. What `source` raises comes through.
        """
        if RENDERED.get(content_type) != "IMAGE":
            return Media()
        deadline = Deadline(self._limits.measure_seconds)
        try:
            with self._measuring.taken(self._limits.measure_seconds * WAITING_SHARE) as lane:
                if time.monotonic() < self._silent_until:
                    return None
                return lane.run(content_type, source, deadline).media
        except PreviewRefusedError as refusal:
            return refusal.media
        except (NotStartedError, TimeoutError):
            return None
        except PreviewerLostError as problem:
            # That one image takes long is no reason to leave others unmeasured.
            if not isinstance(problem, DecoderSlowError):
                self._silent_until = time.monotonic() + self._limits.silence_seconds
            log.warning("content of type %s was not measured: %s", content_type, problem)
            return None

    def render(self, content_type: str, source: BlobReader) -> Look:
        """Return what content is and how it looks, or raise PreviewRefusedError or PreviewerLostError.

        What `source` raises comes through.
        """
        if content_type not in RENDERED:
            raise PreviewRefusedError(f"there are no previews of {content_type}")
        with self._rendering.taken() as lane:
            return lane.run(content_type, source)

    def close(self) -> None:
        """End every process, for good; calls under way and later ones raise PreviewerLostError."""
        self._measuring.close()
        self._rendering.close()


class _Lanes:
    """Workers of one kind; each serves one caller at a time, further ones wait."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._lanes = lanes
        self._free = list(lanes)
        self._closed = False
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, wait_seconds: float | None = None) -> Iterator[Lane]:
        """Lend a worker, the one that was used last if there are several; raise TimeoutError if none gets free."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._free or self._closed, wait_seconds):
                raise TimeoutError
            if self._closed:
                raise PreviewerLostError("the server is stopping")
            lane = self._free.pop()
        try:
            yield lane
        finally:
            with self._changed:
                self._free.append(lane)
                self._changed.notify()

    def close(self) -> None:
        """End all workers, and let nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for lane in self._lanes:
            lane.close()

"""Uploads: in one call if small, otherwise in streams that go on where the one before broke off."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Literal

import grpc

from remora import errors
from remora.connection import Connection, new_request_id
from remora.model import File, file_from_proto
from remora.patience import Patience
from remora.progress import OnProgress, Phase, Progress
from remora.sending import Outgoing, Pace
from remora.silence import Silence
from remora.sources import FileSource, SeekableSource, Source
from remora.state import Place, State, Unfinished
from remora.v1 import common_pb2, file_pb2, file_service_pb2, upload_ticket_service_pb2

# Below this, to ask first whether the content is there already takes as long as to send it.
UNARY_BYTES = 64 << 10
TRIES_AT_ONE_OFFSET = 3
NEW_TICKETS = 3  # How often one upload may begin anew before something must be wrong.
SAVE_SECONDS = 1.0
QUICK_DRAIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Put:
    """What came of an upload. `bytes_sent` is what this run sent, and `resumed_at` where its sending began."""

    file: File
    attachment_id: str
    outcome: Literal["stored", "already_exists"]
    bytes_sent: int
    resumed_at: int
    size_bytes: int
    name: str


@dataclass(frozen=True, slots=True)
class Target:
    """Where an upload goes, and what is said about it."""

    workspace: str
    subject: common_pb2.Subject | None
    subject_text: str
    spec: file_pb2.FileSpec


_Last = file_service_pb2.WriteFileResponse.Done | file_service_pb2.WriteFileResponse.Drain


class _ForeignPrefixError(Exception):
    """The server has other bytes under this ticket than we."""


class Upload:
    """One upload, from hashing to Done."""

    def __init__(
        self,
        connection: Connection,
        source: Source,
        target: Target,
        state: State,
        patience: Patience,
        on_progress: OnProgress | None,
    ) -> None:
        self._connection = connection
        self._source = source
        self._target = target
        self._state = state
        self._patience = patience
        self._on_progress = on_progress
        self._pace = Pace()
        self._place: Place | None = None
        if isinstance(source, FileSource):
            stat = source.stat
            path = str(source.path.absolute())
            self._place = Place(target.workspace, target.subject_text, path, stat.st_size, stat.st_mtime_ns)
        self._ticket = ""
        self._request_id = new_request_id()
        self._tickets_made = 0
        self._committed = self._committed_crc32c = 0
        self._stream_began_at: int | None = None  # Where the last stream that sent something began.
        self._resumed_at: int | None = None
        self._sent_before = 0  # By streams that have ended.
        self._refused_at: tuple[int, int] = (-1, 0)  # An offset, and how often a chunk was refused there.
        self._saved_at = 0.0

    def run(self) -> Put:
        """Send everything; return when the server has stored it."""
        known = self._learn_digests()
        done = None if known else self._send_small()
        self._take_up()
        while done is None:
            began = time.monotonic()
            try:
                done = self._stream()
            except _ForeignPrefixError:
                self._cancel_ticket()
                self._start_over(errors.SourceChangedError("the server holds other bytes for this upload; try again."))
            except errors.RemoraError as error:
                self._recover(error)
            else:
                if done is None and time.monotonic() - began < QUICK_DRAIN_SECONDS:
                    # A server that is about to stop may go on draining what is opened until it has gone.
                    self._patience.pause(errors.ConnectionFailedError("the server is draining.", code="UNAVAILABLE"))
        self._keep_digests()
        return self._result(done)

    def _learn_digests(self) -> bool:
        """Find the digests beforehand if that is possible; tell whether the content may be on the server already."""
        source = self._source
        if not isinstance(source, SeekableSource):
            return False
        known = self._state.digests(source) if isinstance(source, FileSource) else None
        if known is None:
            source.measure(lambda offset: self._report("hashing", offset))
            if source.size_bytes > UNARY_BYTES:
                self._keep_digests()  # The next run need not do it again, even if this one gets no further.
        else:
            source.digests = known
        _declare(self._target.spec, source)
        return known is not None

    def _send_small(self) -> file_service_pb2.WriteFileResponse.Done | None:
        """Send everything in one call, if it is small and the connection lasts that long."""
        data = self._source.read_at(0, UNARY_BYTES + 1)
        if len(data) > UNARY_BYTES or self._source.size_bytes != len(data):
            return None
        request = file_service_pb2.UploadFileRequest(
            workspace_id=self._target.workspace,
            spec=self._target.spec,
            data=data,
            attach_to=self._target.subject,
            request_id=new_request_id(),
        )
        _declare(request.spec, self._source)
        self._patience.begin()
        try:
            response = self._connection.call(self._connection.files.UploadFile, request)
        except errors.RemoraError as error:
            if errors.worth_retrying(error):
                return None  # A stream can wait longer, and arrives in pieces.
            raise
        self._sent_before = len(data)
        return file_service_pb2.WriteFileResponse.Done(
            file=response.file, outcome=response.outcome, attachment_id=response.attachment_id
        )

    def _take_up(self) -> None:
        """Take up what an earlier run began, if it was the same upload."""
        kept = self._state.unfinished(self._place) if self._place is not None else None
        spec = self._target.spec
        if kept is not None and (kept.name, kept.content_type) == (spec.name, spec.content_type):
            self._ticket = kept.upload_ticket_id

    def _stream(self) -> file_service_pb2.WriteFileResponse.Done | None:
        """Open a stream and send until it ends; return nothing if it was drained."""
        outgoing = Outgoing(self._opening(), self._source, self._pace)
        last: _Last | None = None
        # Failing at once instead of waiting for the server keeps the decision how long to wait in one place.
        call = self._connection.files.WriteFile(outgoing, wait_for_ready=False)
        outgoing.cancel = call.cancel
        try:
            with Silence(call) as silence:
                for response in call:
                    silence.heard()
                    last = self._take(response, outgoing) or last
        except grpc.RpcError as error:
            if outgoing.failure is not None:
                raise outgoing.failure from None
            if last is None:  # Otherwise nothing that matters failed.
                raise self._connection.failure(error) from None
        finally:
            outgoing.stop()
            self._sent_before += outgoing.sent_bytes
            if not outgoing.sent_bytes:
                self._stream_began_at = None
        if last is None:
            raise outgoing.failure or errors.ConnectionFailedError("the stream ended early.", code="UNAVAILABLE")
        if isinstance(last, file_service_pb2.WriteFileResponse.Done):
            return last
        time.sleep(last.retry_delay.ToTimedelta().total_seconds())
        return None

    def _take(self, response: file_service_pb2.WriteFileResponse, outgoing: Outgoing) -> _Last | None:
        """Take one answer; return it if no more requests must follow it."""
        kind = response.WhichOneof("message")
        if kind == "ready":
            self._on_ready(response.ready, outgoing)
        elif kind == "progress":
            self._committed_crc32c = response.progress.committed_checksums.crc32c
            self._on_committed(response.progress.committed_size, outgoing)
        elif kind == "verifying":
            self._report("verifying", response.verifying.verified_size)
        elif kind in {"drain", "done"}:
            outgoing.stop()
            return response.drain if kind == "drain" else response.done
        return None

    def _opening(self) -> file_service_pb2.WriteFileRequest:
        opening = file_service_pb2.WriteFileRequest.Open(workspace_id=self._target.workspace)
        if self._ticket:
            opening.upload_ticket_id = self._ticket
        else:
            opening.spec.CopyFrom(self._target.spec)
            if self._target.subject is not None:
                opening.attach_to.CopyFrom(self._target.subject)
            opening.request_id = self._request_id
        return file_service_pb2.WriteFileRequest(open=opening)

    def _on_ready(self, ready: file_service_pb2.WriteFileResponse.Ready, outgoing: Outgoing) -> None:
        committed = ready.committed_size
        self._patience.heard()
        self._connection.heard = True
        self._ticket = ready.upload_ticket_id
        crc32c = self._source.prefix_crc32c(committed)
        if crc32c is None or (committed and crc32c != ready.committed_checksums.crc32c):
            raise _ForeignPrefixError
        if self._stream_began_at is not None and committed <= self._stream_began_at and self._pace.lost():
            self._patience.changed()
        if self._resumed_at is None:
            self._resumed_at = committed
        self._stream_began_at = committed
        self._committed_crc32c = crc32c
        self._on_committed(committed, outgoing, save=True)
        outgoing.start(committed, ready.limits)

    def _on_committed(self, committed: int, outgoing: Outgoing, *, save: bool = False) -> None:
        if committed > self._committed:
            self._committed = committed
            self._patience.progressed()
            self._source.release(committed)
        if self._stream_began_at is not None:
            self._pace.stored(committed - self._stream_began_at)
        # The ticket must be on disk before the first byte goes; after that it is no hurry.
        if self._place is not None and (save or time.monotonic() - self._saved_at > SAVE_SECONDS):
            self._saved_at = time.monotonic()
            self._save(self._place)
        outgoing.committed(committed)
        self._report("sending", committed)

    def _save(self, place: Place) -> None:
        spec = self._target.spec
        upload = Unfinished(
            upload_ticket_id=self._ticket,
            name=spec.name,
            content_type=spec.content_type,
            size_bytes=place.size_bytes,
            mtime_ns=place.mtime_ns,
            committed_size=self._committed,
            committed_crc32c=self._committed_crc32c,
        )
        self._state.keep_unfinished(place, upload)

    def _recover(self, error: errors.RemoraError) -> None:
        """Decide what to do after an error: return to try again, or raise it."""
        if isinstance(error, errors.OffsetMismatchError | errors.ChunkChecksumMismatchError):
            self._count_refusal(error)
        elif isinstance(error, errors.SourceChangedError):
            self._cancel_ticket()
            raise error
        elif self._ticket and isinstance(
            error, errors.NotFoundError | errors.UploadTicketExpiredError | errors.UploadTicketClosedError
        ):
            self._start_over(error)
        elif isinstance(error, errors.SizeMismatchError | errors.ContentChecksumMismatchError):
            self._forget_ticket()
            if isinstance(self._source, FileSource):
                self._state.drop_digests(self._source)
            raise error
        else:
            self._patience.pause(error)

    def _count_refusal(self, error: errors.RemoraError) -> None:
        offset = int(error.metadata.get("expected_offset", "-1"))
        last, count = self._refused_at
        self._refused_at = (offset, count + 1 if offset == last else 1)
        size = self._source.size_bytes
        if self._refused_at[1] >= TRIES_AT_ONE_OFFSET or (size is not None and offset > size):
            raise error

    def _start_over(self, error: errors.RemoraError) -> None:
        """Begin again with a new ticket, if everything can still be sent."""
        self._forget_ticket()
        self._tickets_made += 1
        if self._tickets_made > NEW_TICKETS or self._source.prefix_crc32c(0) is None:
            raise error
        self._committed = self._committed_crc32c = 0
        self._stream_began_at = None
        self._resumed_at = None
        self._request_id = new_request_id()

    def _forget_ticket(self) -> None:
        self._ticket = ""
        if self._place is not None:
            self._state.drop_unfinished(self._place)

    def _cancel_ticket(self) -> None:
        """Give the ticket up on the server too, so that its bytes need not wait for the end of its time."""
        request = upload_ticket_service_pb2.CancelUploadTicketRequest(upload_ticket_id=self._ticket)
        with contextlib.suppress(errors.RemoraError):
            self._connection.call(self._connection.upload_tickets.CancelUploadTicket, request)
        self._forget_ticket()

    def _keep_digests(self) -> None:
        if isinstance(self._source, FileSource) and self._source.digests is not None:
            self._state.keep_digests(self._source, self._source.digests)

    def _report(self, phase: Phase, done_bytes: int) -> None:
        if self._on_progress is not None:
            size = self._source.size_bytes
            self._on_progress(Progress(self._target.spec.name, phase, done_bytes, size, self._resumed_at or 0))

    def _result(self, done: file_service_pb2.WriteFileResponse.Done) -> Put:
        if self._place is not None:
            self._state.drop_unfinished(self._place)
        existing = done.outcome == file_service_pb2.UPLOAD_OUTCOME_ALREADY_EXISTS
        file = file_from_proto(done.file)
        return Put(
            file=file,
            attachment_id=done.attachment_id,
            outcome="already_exists" if existing else "stored",
            bytes_sent=self._sent_before,
            resumed_at=self._resumed_at or 0,
            size_bytes=file.size_bytes,
            name=file.name,
        )


def _declare(spec: file_pb2.FileSpec, source: Source) -> None:
    """Say about the content what is known of it."""
    if source.size_bytes is not None and source.digests is not None:
        spec.size_bytes = source.size_bytes
        spec.checksums.sha256 = source.digests.sha256
        spec.checksums.crc32c = source.digests.crc32c

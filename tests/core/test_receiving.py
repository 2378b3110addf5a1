"""One writer's bytes: pieces, room, acknowledgements."""

from __future__ import annotations

import threading

import google_crc32c
import pytest

from remora_server.core import errors
from remora_server.core import receiving as receiving_module
from remora_server.core.model import TicketState, UploadOutcome
from remora_server.core.receiving import Receiving
from tests.core.receiving import NOTHING, SMALL, begin, fails_with, issued, proofs, staged, stored
from tests.core.world import World


class TestPieces:
    """Taking pieces in."""

    def test_from_begin_to_finish(self, small: World) -> None:
        """What was received is the file, with digests computed here, and the ticket says so."""
        ticket = issued(small, 15)
        receiving = begin(small, ticket)
        assert receiving.limits is SMALL
        receiving.append(0, b"0123456789", google_crc32c.value(b"0123456789"))
        receiving.append(10, b"abcde", None)
        taken = receiving.finish(proofs(b"0123456789abcde"), 15, small.jo)
        assert (taken.outcome, taken.file.name, taken.file.size_bytes) == (UploadOutcome.STORED, "a.txt", 15)
        assert taken.file.checksums == proofs(b"0123456789abcde")
        assert small.files.read_whole(taken.file) == b"0123456789abcde"
        done = stored(small, ticket)
        assert (done.state, done.file_id, done.committed_size) == (TicketState.COMPLETED, taken.file.id, 15)
        assert staged(small) == []
        assert receiving.verified_size == 0

    @pytest.mark.parametrize(
        ("declared", "offset", "data", "crc32c", "refusal", "metadata"),
        [
            (None, 3, b"x", None, errors.OffsetMismatchError, {"expected_offset": "4"}),
            (None, 5, b"x", None, errors.OffsetMismatchError, {"expected_offset": "4"}),
            (None, 4, b"x", 1, errors.ChunkChecksumMismatchError, {"expected_offset": "4"}),
            (None, 4, b"x" * 21, None, errors.ValidationFailedError, {}),
            (6, 4, b"xyz", None, errors.SizeMismatchError, {"expected": "6", "actual": "7"}),
        ],
    )
    def test_a_refused_piece(
        self,
        small: World,
        declared: int | None,
        offset: int,
        data: bytes,
        crc32c: int | None,
        refusal: type[errors.RemoraError],
        metadata: dict[str, str],
    ) -> None:
        """It leaves everything as it was: the right piece is taken afterwards."""
        receiving = begin(small, issued(small, declared))
        receiving.append(0, b"abcd", None)
        with pytest.raises(refusal) as caught:
            receiving.append(offset, data, crc32c)
        assert caught.value.metadata == metadata
        assert receiving.next_offset == 4
        receiving.append(4, b"ef", None)
        assert small.files.read_whole(receiving.finish(NOTHING, None, small.jo).file) == b"abcdef"

    def test_a_file_that_grows_too_large(self, small: World) -> None:
        """The last byte that fits is taken, one more is refused."""
        receiving = begin(small, issued(small))
        for offset in range(0, 100, 20):
            receiving.append(offset, b"x" * 20, None)
        with pytest.raises(errors.FileTooLargeError):
            receiving.append(100, b"x", None)
        assert receiving.finish(NOTHING, 100, small.jo).file.size_bytes == 100

    def test_an_empty_file(self, small: World) -> None:
        """No bytes are a file too."""
        taken = begin(small, issued(small, 0)).finish(NOTHING, 0, small.jo)
        assert small.files.read_whole(taken.file) == b""

    def test_progress_is_recorded(self, small: World) -> None:
        """Each interval is made durable and recorded by itself; what is less waits until it is asked for."""
        ticket = issued(small)
        receiving = begin(small, ticket)
        heard = threading.Event()
        receiving.listen(heard.set)
        receiving.append(0, b"x" * 12, None)
        assert heard.wait(10)
        receiving._wait_idle()
        kept = stored(small, ticket)
        assert (kept.committed_size, kept.committed_crc32c) == (12, google_crc32c.value(b"x" * 12))
        receiving.append(12, b"y", None)
        receiving._wait_idle()
        assert stored(small, ticket).committed_size == 12
        receiving.flush()
        receiving._wait_idle()
        assert stored(small, ticket).committed_size == receiving.ticket.committed_size == 13

    def test_ticking(self, small: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Bytes that have waited long enough are made durable; without any there is nothing to do."""
        ticket = issued(small)
        receiving = begin(small, ticket)
        receiving.append(0, b"abc", None)
        receiving.tick()
        receiving._wait_idle()
        assert stored(small, ticket).committed_size == 0
        monkeypatch.setattr(receiving_module, "ACK_SECONDS", 0.0)
        receiving.tick()
        receiving._wait_idle()
        assert stored(small, ticket).committed_size == 3
        monkeypatch.setattr(receiving, "flush", fails_with(AssertionError("asked for nothing")))
        receiving.tick()

    def test_marks_that_come_while_one_is_synced(self, small: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """The last of them is enough for all."""
        ticket = issued(small)
        receiving = begin(small, ticket)
        going_on, began, synced = threading.Event(), threading.Event(), []

        def sync() -> None:
            began.set()
            assert going_on.wait(10)
            synced.append(receiving._stored)

        monkeypatch.setattr(receiving.staged, "sync", sync)
        receiving.append(0, b"x" * 10, None)
        assert began.wait(10)
        for offset in (10, 20, 30):
            receiving.append(offset, b"x" * 10, None)
        receiving._store.wait_idle()
        going_on.set()
        receiving._wait_idle()
        assert len(synced) == 2
        assert stored(small, ticket).committed_size == 40

    def test_room(self, small: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """With enough waiting there is no room, and the listener hears when there is some again."""
        receiving = begin(small, issued(small))
        going_on, heard = threading.Event(), threading.Event()
        write = receiving.staged.write

        def wait(data: bytes) -> None:
            assert going_on.wait(10)
            write(data)

        monkeypatch.setattr(receiving.staged, "write", wait)
        receiving.listen(heard.set)
        receiving.append(0, b"x" * 7, None)
        assert receiving.has_room()
        receiving.append(7, b"x", None)
        assert not receiving.has_room()
        going_on.set()
        assert heard.wait(10)
        assert receiving.has_room()

    def test_nothing_to_write_to(self, small: World) -> None:
        """Before it is started a writer has no place for bytes."""
        with pytest.raises(errors.StorageUnavailableError):
            _ = Receiving(small.uploads, small.jo, issued(small), None).staged

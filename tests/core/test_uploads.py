"""Receiving bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import google_crc32c
import pytest

from remora_server.core import errors, uploads
from remora_server.core import receiving as receiving_module
from remora_server.core.hashing import measure
from remora_server.core.intake import Taken
from remora_server.core.model import Checksums, FileSpec, Subject, Ticket, TicketState, UploadOutcome
from remora_server.core.receiving import Receiving
from remora_server.core.tickets import VERIFY_LEASE, Request
from tests.core.receiving import NOTHING, SMALL, begin, fails_with, issued, leaves_when_fenced, proofs, staged, stored
from tests.core.world import World, issue
from tests.running import until


class TestResuming:
    """Breaking off and going on."""

    def left(self, world: World, data: bytes = b"0123456") -> Ticket:
        """Break an upload off."""
        ticket = issued(world)
        receiving = begin(world, ticket)
        receiving.append(0, data, None)
        assert receiving.leave() == len(data)
        return stored(world, ticket)

    def test_leaving(self, small: World) -> None:
        """Every byte that came is kept, the ticket stays open, and leaving again changes nothing."""
        ticket = issued(small)
        receiving = begin(small, ticket)
        receiving.append(0, b"abc", None)
        assert receiving.leave() == receiving.leave() == 3
        kept = stored(small, ticket)
        assert (kept.state, kept.committed_size) == (TicketState.UPLOADING, 3)
        assert staged(small) == [ticket.id]

    def test_with_kept_digests(self, small: World) -> None:
        """The next writer of this process goes on without reading anything back."""
        ticket = self.left(small)
        receiving = begin(small, ticket)
        assert receiving.next_offset == 7
        receiving.append(7, b"789", None)
        taken = receiving.finish(NOTHING, None, small.jo)
        assert receiving.verified_size == 0
        assert taken.file.checksums == proofs(b"0123456789")

    @pytest.mark.parametrize("block", [3, 4096])
    def test_without_digests(self, small: World, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
        """Where the digests are lost the bytes are read back, and meanwhile the ticket is VERIFYING."""
        monkeypatch.setattr(receiving_module, "VERIFY_BLOCK", block)
        ticket = self.left(small)
        small.uploads._parked.clear()
        receiving = begin(small, ticket)
        receiving.append(7, b"789", None)
        read, states = receiving.staged.read, []

        def look(offset: int, size: int) -> bytes:
            states.append(stored(small, ticket).state)
            return read(offset, size)

        monkeypatch.setattr(receiving.staged, "read", look)
        taken = receiving.finish(NOTHING, None, small.jo)
        assert set(states) == {TicketState.VERIFYING}
        assert receiving.verified_size == 10
        assert taken.file.checksums == proofs(b"0123456789")
        assert stored(small, ticket).state is TicketState.COMPLETED

    def test_a_writer_without_digests_parks_none(self, small: World) -> None:
        """Digests of only the last part are never taken for those of the whole."""
        ticket = self.left(small)
        small.uploads._parked.clear()
        receiving = begin(small, ticket)
        receiving.append(7, b"789", None)
        assert receiving.leave() == 10
        assert small.uploads._parked == {}

    def test_digests_of_other_bytes(self, small: World) -> None:
        """Kept digests that don't fit what the ticket says are not used."""
        ticket = self.left(small)
        small.uploads._parked[ticket.id].crc32c ^= 1
        receiving = begin(small, ticket)
        assert receiving.finish(NOTHING, None, small.jo).file.checksums == proofs(b"0123456")
        assert receiving.verified_size == 7

    def test_digests_of_few_uploads_are_kept(self, small: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of many broken-off uploads the oldest are forgotten."""
        monkeypatch.setattr(uploads, "PARKED_MAX", 2)
        tickets = [self.left(small, bytes([n])) for n in range(3)]
        assert list(small.uploads._parked) == [ticket.id for ticket in tickets[1:]]

    @pytest.mark.parametrize("damaged", [b"0X23456", b"01"])
    def test_bytes_that_changed_meanwhile(self, small: World, monkeypatch: pytest.MonkeyPatch, damaged: bytes) -> None:
        """Staged bytes that are not those that were acknowledged become no file, and end the ticket."""
        ticket = self.left(small)
        small.uploads._parked.clear()
        receiving = begin(small, ticket)
        monkeypatch.setattr(receiving.staged, "read", lambda offset, size: damaged[offset : offset + size])
        with pytest.raises(errors.UploadTicketClosedError):
            receiving.finish(NOTHING, None, small.jo)
        assert stored(small, ticket).state is TicketState.FAILED
        assert small.store.counts()["files"] == 0
        assert staged(small) == []

    def test_whoever_asks_while_it_is_read_back_waits_for_that(
        self, small: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A second finish joins the first: to fence it would only make the reading begin anew."""
        ticket = self.left(small)
        small.uploads._parked.clear()
        receiving = begin(small, ticket)
        read, reading, go_on, reads = receiving.staged.read, threading.Event(), threading.Event(), []

        def slowly(offset: int, size: int) -> bytes:
            reads.append(offset)
            reading.set()
            assert go_on.wait(10)
            return read(offset, size)

        monkeypatch.setattr(receiving.staged, "read", slowly)
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(receiving.finish, NOTHING, None, small.jo)
            assert reading.wait(10)
            assert small.uploads.is_finishing(ticket.id)
            second = pool.submit(small.uploads.create_file, small.jo, ticket.id, NOTHING, None, None)
            go_on.set()
            assert first.result(10).file == second.result(10).file
        assert reads == [0]
        assert small.uploads.join(small.jo, ticket.id) is None

    def test_another_server_reads_back(self, small: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody begins anew while it does: a finish waits, a piece is refused; when it has died, the wait is over."""
        monkeypatch.setattr(uploads, "VERIFY_POLL_SECONDS", 0.001)
        ticket = self.left(small)
        elsewhere = small.do(small.tickets.open, small.jo, ticket.id).ticket
        small.do(small.tickets.keep_verifying, elsewhere)
        with pytest.raises(errors.WriterFencedError):
            small.uploads.append(small.jo, ticket.id, 7, b"789", None, None)
        assert small.uploads.once_verified(small.jo, ticket.id, 0.01).state is TicketState.VERIFYING
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(small.uploads.create_file, small.jo, ticket.id, NOTHING, None, None)
            small.clock.pass_by(VERIFY_LEASE)
            assert waiting.result(10).file.size_bytes == 7

    def test_repeated_while_another_server_reads_back(self, small: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those that wait for it come to one end; none of them opens the ticket after another one of them has."""
        ticket = self.left(small)
        elsewhere = small.do(small.tickets.open, small.jo, ticket.id).ticket
        small.do(small.tickets.keep_verifying, elsewhere)
        both_waited = threading.Barrier(2)
        once_verified = small.uploads.once_verified

        def wait(*call: Any) -> Ticket:
            found = once_verified(*call)
            with suppress(threading.BrokenBarrierError):
                both_waited.wait(0.3)
            return found

        monkeypatch.setattr(uploads, "VERIFY_POLL_SECONDS", 0.001)
        monkeypatch.setattr(small.uploads, "once_verified", wait)
        with ThreadPoolExecutor(2) as pool:
            waiting = [
                pool.submit(small.uploads.create_file, small.jo, ticket.id, NOTHING, None, None) for _ in range(2)
            ]
            small.clock.pass_by(VERIFY_LEASE)
            files = [one.result(10).file for one in waiting]
        assert files[0] == files[1]
        assert stored(small, ticket).writer_epoch == elsewhere.writer_epoch + 1

    def test_another_server_begins_to_read_back_just_now(self, small: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever looked a moment before looks again."""
        ticket = self.left(small)
        once_verified = small.uploads.once_verified
        looks = []

        def look(*call: Any) -> Ticket:
            looks.append(call)
            found = once_verified(*call)
            if len(looks) == 1:
                elsewhere = small.do(small.tickets.open, small.jo, ticket.id).ticket
                small.do(small.tickets.keep_verifying, elsewhere)
            return found

        monkeypatch.setattr(uploads, "VERIFY_POLL_SECONDS", 0.001)
        monkeypatch.setattr(small.uploads, "once_verified", look)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(small.uploads.create_file, small.jo, ticket.id, NOTHING, None, None)
            until(lambda: len(looks) == 2)
            small.clock.pass_by(VERIFY_LEASE)
            assert waiting.result(10).file.size_bytes == 7

    def test_reading_back_is_told_again_and_again(self, small: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """As long as it lasts others wait for it; when it fails, they need not; when it is overtaken, it ends."""
        monkeypatch.setattr(receiving_module, "VERIFY_BLOCK", 2)
        monkeypatch.setattr(receiving_module, "LEASE_SECONDS", 0.0)
        ticket = self.left(small)
        small.uploads._parked.clear()
        receiving = begin(small, ticket)
        read, ends = receiving.staged.read, []

        def look(offset: int, size: int) -> bytes:
            ends.append(stored(small, ticket).verify_until)
            small.clock.pass_by(VERIFY_LEASE // 2)
            return read(offset, size)

        monkeypatch.setattr(receiving.staged, "read", look)
        receiving.finish(NOTHING, None, small.jo)
        assert len(ends) == 4
        assert ends == sorted(set(ends))

    @pytest.mark.parametrize("overtaken", [False, True])
    def test_reading_back_that_fails(self, small: World, monkeypatch: pytest.MonkeyPatch, *, overtaken: bool) -> None:
        """The next writer is let in at once."""
        monkeypatch.setattr(receiving_module, "VERIFY_BLOCK", 2)
        monkeypatch.setattr(receiving_module, "LEASE_SECONDS", 0.0)
        ticket = self.left(small)
        small.uploads._parked.clear()
        receiving = begin(small, ticket)

        def fail(_offset: int, _size: int) -> bytes:
            if not overtaken:
                raise errors.StorageUnavailableError
            small.clock.pass_by(VERIFY_LEASE)
            small.do(small.tickets.open, small.jo, ticket.id)
            return b"01"

        monkeypatch.setattr(receiving.staged, "read", fail)
        with pytest.raises(errors.WriterFencedError if overtaken else errors.StorageUnavailableError):
            receiving.finish(NOTHING, None, small.jo)
        again = begin(small, ticket)
        assert again.finish(NOTHING, None, small.jo).file.size_bytes == 7

    def test_bytes_that_are_gone(self, small: World) -> None:
        """Without the bytes that were acknowledged an upload ends, since its size can't shrink; a new one may begin."""
        ticket = self.left(small)
        small.blobs.discard(ticket.id)
        with pytest.raises(errors.UploadTicketClosedError):
            begin(small, ticket)
        assert small.uploads._active == {}
        assert stored(small, ticket).state is TicketState.FAILED


class TestFinishing:
    """What a finish compares."""

    @pytest.mark.parametrize(
        ("claimed", "size", "reason"),
        [
            (NOTHING, 4, "SIZE_MISMATCH"),
            (Checksums(crc32c=1), None, "CONTENT_CHECKSUM_MISMATCH"),
            (Checksums(md5=b"x" * 16), None, "CONTENT_CHECKSUM_MISMATCH"),
            (Checksums(sha256=b"x" * 32), 3, "CONTENT_CHECKSUM_MISMATCH"),
        ],
    )
    @pytest.mark.parametrize("early", [False, True])
    def test_other_bytes_than_declared(
        self, small: World, claimed: Checksums, size: int | None, reason: str, *, early: bool
    ) -> None:
        """The ticket has failed and its bytes are gone, whether that was declared with the ticket or at the end."""
        ticket = issued(small, size, checksums=claimed) if early else issued(small)
        receiving = begin(small, ticket)
        receiving.append(0, b"abc", None)
        with pytest.raises(errors.RemoraError) as caught:
            receiving.finish(NOTHING if early else claimed, None if early else size, small.jo)
        assert caught.value.reason == reason
        failed = stored(small, ticket)
        assert (failed.state, failed.error_reason, failed.staged_removed) == (TicketState.FAILED, reason, True)
        assert failed.error_message == caught.value.message
        assert staged(small) == []
        assert small.store.counts()["blobs"] == 0
        assert small.types(small.jo) == ["upload_ticket.created", "upload_ticket.failed"]

    def test_an_md5_that_was_declared(self, small: World) -> None:
        """It is computed on the way and kept."""
        expected = measure(b"0123456789abc").checksums
        receiving = begin(small, issued(small, checksums=Checksums(md5=expected.md5)))
        receiving.append(0, b"0123456789", None)
        receiving.append(10, b"abc", None)
        assert receiving.finish(NOTHING, None, small.jo).file.checksums == expected
        assert receiving.verified_size == 0

    @pytest.mark.parametrize("lost", [False, True])
    def test_an_md5_that_is_claimed_in_the_end(self, small: World, *, lost: bool) -> None:
        """The bytes are read back for it, whether or not their other digests are known."""
        ticket = issued(small)
        small.uploads.append(small.jo, ticket.id, 0, b"abc", None, None)
        if lost:
            small.uploads._parked.clear()
        receiving = begin(small, ticket)
        receiving.append(3, b"def", None)
        expected = measure(b"abcdef").checksums
        taken = receiving.finish(Checksums(md5=expected.md5), None, small.jo)
        assert (taken.file.checksums, receiving.verified_size) == (expected, 6)

    def test_a_declared_md5_after_digests_were_lost(self, small: World) -> None:
        """It is computed from what was read back."""
        expected = measure(b"abcdef").checksums
        ticket = issued(small, checksums=Checksums(md5=expected.md5))
        small.uploads.append(small.jo, ticket.id, 0, b"abc", None, None)
        small.uploads._parked.clear()
        receiving = begin(small, ticket)
        receiving.append(3, b"def", None)
        assert receiving.finish(NOTHING, None, small.jo).file.checksums == expected

    def test_content_that_is_there(self, small: World) -> None:
        """The bytes that were brought are dropped, and the file that has them is the answer."""
        first = small.upload(small.jo, b"abc")
        receiving = begin(small, issued(small))
        receiving.append(0, b"abc", None)
        taken = receiving.finish(NOTHING, None, small.jo)
        assert (taken.file.id, taken.outcome) == (first.id, UploadOutcome.ALREADY_EXISTS)
        assert [*small.blobs.list_blobs(), *small.blobs.list_staged()] == []

    def test_a_full_store(self, small: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where no byte can be written any more, the upload has failed."""
        ticket = issued(small)
        receiving = begin(small, ticket)
        monkeypatch.setattr(receiving.staged, "write", fails_with(errors.StorageFullError()))
        receiving.append(0, b"abc", None)
        with pytest.raises(errors.StorageFullError):
            receiving.finish(NOTHING, None, small.jo)
        assert stored(small, ticket).error_reason == "STORAGE_FULL"
        assert staged(small) == []

    def test_rows_that_do_not_fit(self, small: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the row of the file can't be written its bytes are removed, and the upload has failed."""
        ticket = issued(small)
        receiving = begin(small, ticket)
        receiving.append(0, b"abc", None)
        monkeypatch.setattr(small.uploads.tickets, "complete", fails_with(errors.StorageFullError()))
        with pytest.raises(errors.StorageFullError):
            receiving.finish(NOTHING, None, small.jo)
        assert stored(small, ticket).error_reason == "STORAGE_FULL"
        assert [*small.blobs.list_blobs(), *small.blobs.list_staged()] == []

    def test_no_room_to_say_so(self, small: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where even the row that says so does not fit, the bytes that are removed make room for it."""
        ticket = issued(small)
        receiving = begin(small, ticket)
        receiving.append(0, b"abc", None)
        receiving.leave()
        fail = small.uploads.tickets.fail

        def fails(*arguments: Any) -> bool:
            if staged(small):
                raise errors.StorageFullError
            return fail(*arguments)

        monkeypatch.setattr(small.uploads.tickets, "fail", fails)
        assert small.uploads.fail(small.jo, stored(small, ticket), errors.StorageFullError())
        assert stored(small, ticket).error_reason == "STORAGE_FULL"
        assert staged(small) == []

    def test_a_full_store_while_leaving(self, small: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Leaving ends the ticket too, and what came before is not offered for going on."""
        ticket = issued(small)
        receiving = begin(small, ticket)
        monkeypatch.setattr(receiving.staged, "sync", fails_with(errors.StorageFullError()))
        receiving.append(0, b"abc", None)
        with pytest.raises(errors.StorageFullError):
            receiving.leave()
        assert stored(small, ticket).state is TicketState.FAILED

    def test_storage_that_is_away(self, small: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was recorded stands; later pieces are refused, and the next writer goes on from there."""
        ticket = issued(small)
        receiving = begin(small, ticket)
        monkeypatch.setattr(receiving.staged, "sync", fails_with(errors.StorageUnavailableError()))
        receiving.append(0, b"x" * 10, None)
        receiving._wait_idle()
        with pytest.raises(errors.StorageUnavailableError):
            receiving.append(10, b"x", None)
        assert receiving.leave() == 0
        assert stored(small, ticket).state is TicketState.UPLOADING
        assert begin(small, ticket).next_offset == 0

    def test_a_defect(self, small: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """A mistake of ours is not hidden, and lets go of the ticket."""
        receiving = begin(small, issued(small))
        monkeypatch.setattr(receiving.staged, "write", fails_with(ZeroDivisionError()))
        receiving.append(0, b"x", None)
        with pytest.raises(ZeroDivisionError):
            receiving.leave()
        assert receiving.wait_closed()
        assert small.uploads._active == {}


class TestFencing:
    """One writer at a time."""

    def test_a_newer_writer(self, small: World) -> None:
        """It stops the older one, which neither takes nor records anything any more."""
        ticket = issued(small)
        older = begin(small, ticket)
        older.append(0, b"x" * 10, None)
        older._wait_idle()
        leaves_when_fenced(older)
        newer = begin(small, ticket)
        assert older.wait_closed()
        for call in (lambda: older.append(10, b"y", None), lambda: older.finish(NOTHING, None, small.jo)):
            with pytest.raises(errors.WriterFencedError):
                call()
        assert newer.next_offset == 10
        newer.append(10, b"z", None)
        assert small.files.read_whole(newer.finish(NOTHING, None, small.jo).file) == b"x" * 10 + b"z"

    def test_pieces_in_the_queue_of_a_stopped_writer(self, small: World) -> None:
        """They are dropped: the bytes belong to another."""
        receiving = begin(small, issued(small))
        receiving.fence()
        receiving._store.put(b"late")
        receiving._wait_idle()
        assert receiving.staged.size_bytes == 0

    def test_a_writer_elsewhere(self, small: World) -> None:
        """A writer that was overtaken by another server learns of it when it records, or fails, and harms nothing."""
        ticket = issued(small)
        receiving = begin(small, ticket)
        small.do(small.tickets.open, small.jo, ticket.id)
        receiving.append(0, b"x" * 10, None)
        receiving._wait_idle()
        with pytest.raises(errors.WriterFencedError):
            receiving.raise_if_broken()
        receiving.fail(errors.SizeMismatchError(1, 2))
        assert stored(small, ticket).state is TicketState.UPLOADING
        assert staged(small) == [ticket.id]

    def test_an_older_writer_comes_late(self, small: World) -> None:
        """It does not stop the newer one."""
        ticket = issued(small)
        old = small.do(small.tickets.open, small.jo, ticket.id).ticket
        newer = begin(small, ticket)
        with pytest.raises(errors.WriterFencedError):
            small.uploads.begin(small.jo, old)
        newer.append(0, b"x", None)
        assert newer.leave() == 1

    def test_looking_whether_others_went_on(self, small: World) -> None:
        """A writer whose ticket was opened, ended or removed elsewhere is stopped by a look; others go on."""
        opened, ended, removed, mine = (issued(small) for _ in range(4))
        writers = [begin(small, ticket) for ticket in (opened, ended, removed, mine)]
        assert small.uploads.is_receiving
        small.uploads.stop_overtaken()
        for receiving in writers:
            receiving.raise_if_broken()
        small.do(small.tickets.open, small.jo, opened.id)
        small.do(small.tickets.cancel, small.jo, ended.id)
        small.do(small.store.delete_tickets, [removed.id])
        small.uploads.stop_overtaken()
        for receiving in writers[:3]:
            with pytest.raises(errors.WriterFencedError):
                receiving.raise_if_broken()
        writers[3].append(0, b"x", None)
        for receiving in writers:
            receiving.leave()
        assert not small.uploads.is_receiving

    def test_the_epoch_goes_with_the_bytes(self, small: World) -> None:
        """The blob store hears it, so that there too an older writer comes too late."""
        ticket = issued(small)
        begin(small, ticket).leave()
        receiving = begin(small, ticket)
        for epoch in (0, 1):
            with pytest.raises(errors.WriterFencedError):
                small.blobs.stage(ticket.id, 0, epoch)
        receiving.append(0, b"x", None)
        assert receiving.finish(NOTHING, None, small.jo).file.size_bytes == 1

    def test_bytes_that_a_later_writer_took(self, small: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """An upload that was overtaken is not told to have failed, neither when it begins nor when it ends."""
        ticket = issued(small)
        receiving = begin(small, ticket)
        receiving.append(0, b"abc", None)
        receiving.flush()
        receiving._wait_idle()
        commit = small.blobs.commit

        def overtaken(*call: Any) -> str:
            later = small.do(small.tickets.open, small.jo, ticket.id).ticket
            small.blobs.stage(later.id, 3, later.writer_epoch)
            return commit(*call)

        with monkeypatch.context() as patch:
            patch.setattr(small.blobs, "commit", overtaken)
            with pytest.raises(errors.WriterFencedError):
                receiving.finish(NOTHING, None, small.jo)
        stale = small.do(small.tickets.open, small.jo, ticket.id).ticket
        small.do(small.tickets.open, small.jo, ticket.id)
        small.blobs.discard(ticket.id)
        with pytest.raises(errors.WriterFencedError):
            small.uploads.begin(small.jo, stale)
        assert stored(small, ticket).state is TicketState.UPLOADING

    def test_a_writer_that_does_not_let_go(self, small: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody else writes while it may still do so."""
        monkeypatch.setattr(receiving_module, "FENCE_WAIT_SECONDS", 0.01)
        ticket = issued(small)
        begin(small, ticket)
        with pytest.raises(errors.StorageUnavailableError):
            begin(small, ticket)


class TestAppending:
    """Unary appends."""

    def append(
        self,
        world: World,
        ticket: Ticket,
        offset: int,
        data: bytes,
        crc32c: int | None = None,
        epoch: int | None = None,
    ) -> Ticket:
        """Append as Jo."""
        return world.uploads.append(world.jo, ticket.id, offset, data, crc32c, epoch)

    def test_one_after_the_other(self, small: World) -> None:
        """Each is durable when it is answered; at the end they are a file."""
        ticket = issued(small)
        first = self.append(small, ticket, 0, b"abc", google_crc32c.value(b"abc"))
        second = self.append(small, ticket, 3, b"de", epoch=first.writer_epoch)
        assert (second.committed_size, second.writer_epoch) == (5, 2)
        assert stored(small, ticket) == second
        taken = small.uploads.create_file(small.jo, ticket.id, measure(b"abcde").checksums, 5, None)
        assert small.files.read_whole(taken.file) == b"abcde"

    def test_repeating_the_last_one(self, small: World) -> None:
        """It is answered as before, even with the epoch of that time; other bytes for the place are not."""
        ticket = issued(small)
        self.append(small, ticket, 0, b"abc", epoch=0)
        second = self.append(small, ticket, 3, b"de", epoch=1)
        assert self.append(small, ticket, 3, b"de", epoch=1) == second
        for offset, data in ((3, b"xy"), (3, b"d"), (0, b"abc"), (4, b"e")):
            with pytest.raises(errors.OffsetMismatchError):
                self.append(small, ticket, offset, data)
        assert stored(small, ticket).committed_size == 5

    def test_refused_ones(self, small: World) -> None:
        """Damaged bytes, another epoch and another place leave the ticket as it was."""
        ticket = issued(small)
        first = self.append(small, ticket, 0, b"abc")
        with pytest.raises(errors.ChunkChecksumMismatchError) as damaged:
            self.append(small, ticket, 3, b"de", 1)
        assert damaged.value.metadata == {"expected_offset": "3"}
        with pytest.raises(errors.WriterFencedError) as fenced:
            self.append(small, ticket, 3, b"de", epoch=7)
        assert fenced.value.metadata == {"writer_epoch": "1"}
        assert stored(small, ticket) == first
        with pytest.raises(errors.OffsetMismatchError):
            self.append(small, ticket, 4, b"e")
        assert self.append(small, ticket, 3, b"de").committed_size == 5

    @pytest.mark.parametrize(("declared", "refusal"), [(4, errors.SizeMismatchError), (None, errors.FileTooLargeError)])
    def test_more_than_there_may_be(
        self, make_world: Callable[..., World], declared: int | None, refusal: type[errors.RemoraError]
    ) -> None:
        """Such an upload can't succeed: the ticket has failed and its bytes are gone."""
        world = make_world(limits=replace(SMALL, max_file_bytes=99 if declared else 4))
        ticket = issued(world, declared)
        self.append(world, ticket, 0, b"abc")
        with pytest.raises(refusal):
            self.append(world, ticket, 3, b"de")
        assert stored(world, ticket).state is TicketState.FAILED
        assert staged(world) == []
        with pytest.raises(errors.UploadTicketClosedError):
            self.append(world, ticket, 3, b"d")

    def test_content_that_came_by_another_way(self, small: World) -> None:
        """The ticket is complete with it, and takes no bytes."""
        ticket = issued(small, 3, checksums=measure(b"abc").checksums)
        file = small.upload(small.jo, b"abc")
        with pytest.raises(errors.UploadTicketClosedError):
            self.append(small, ticket, 0, b"abc")
        assert stored(small, ticket).file_id == file.id

    def test_storage_that_fails(self, small: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is not durable is not answered as if it were."""
        ticket = issued(small)
        with monkeypatch.context() as patched:
            patched.setattr(Receiving, "_sync_to", fails_with(errors.StorageFullError()))
            with pytest.raises(errors.StorageFullError):
                self.append(small, ticket, 0, b"abc")
        assert stored(small, ticket).state is TicketState.FAILED
        with monkeypatch.context() as patched:
            patched.setattr(Receiving, "leave", lambda _: 0)
            with pytest.raises(errors.StorageUnavailableError):
                self.append(small, issued(small), 0, b"abc")


class TestCreatingAFile:
    """The end of unary appends."""

    def create(self, world: World, ticket: Ticket, size: int | None = None, attach_to: Subject | None = None) -> Taken:
        """Finish as Jo."""
        return world.uploads.create_file(world.jo, ticket.id, NOTHING, size, attach_to)

    def test_repeating(self, small: World) -> None:
        """The same file is returned again."""
        ticket = issued(small, 3)
        small.uploads.append(small.jo, ticket.id, 0, b"abc", None, None)
        first = self.create(small, ticket)
        again = self.create(small, ticket)
        assert (again.file, again.outcome, again.attachment_id) == (first.file, first.outcome, first.attachment_id)
        assert small.files.read_whole(again.file) == b"abc"
        assert small.store.counts()["files"] == 1

    def test_before_all_has_come(self, small: World) -> None:
        """It is refused with what has come so far, and the upload can go on."""
        known, unknown = issued(small, 3), issued(small)
        for ticket, size in ((known, None), (unknown, None), (unknown, 3)):
            with pytest.raises(errors.UploadIncompleteError) as caught:
                self.create(small, ticket, size)
            assert caught.value.metadata == {"committed_size": "0"}
        small.uploads.append(small.jo, known.id, 0, b"ab", None, None)
        with pytest.raises(errors.UploadIncompleteError) as caught:
            self.create(small, known)
        assert caught.value.metadata == {"committed_size": "2"}
        small.uploads.append(small.jo, known.id, 2, b"c", None, None)
        assert self.create(small, known).file.size_bytes == 3

    def test_of_no_bytes(self, small: World) -> None:
        """A ticket that nothing came for makes an empty file, if that is what was declared."""
        assert self.create(small, issued(small, 0)).file.size_bytes == 0
        assert self.create(small, issued(small), 0).file.size_bytes == 0

    def test_of_unknown_size(self, small: World) -> None:
        """What has come is the file."""
        ticket = issued(small)
        small.uploads.append(small.jo, ticket.id, 0, b"abc", None, None)
        assert self.create(small, ticket).file.size_bytes == 3

    def test_with_more_bytes_than_claimed(self, small: World) -> None:
        """The ticket has failed."""
        ticket = issued(small)
        small.uploads.append(small.jo, ticket.id, 0, b"abc", None, None)
        with pytest.raises(errors.SizeMismatchError):
            self.create(small, ticket, 2)
        assert stored(small, ticket).state is TicketState.FAILED

    def test_attaching(self, small: World) -> None:
        """A ticket without a subject takes the one that is given at the end."""
        ticket = issued(small)
        small.uploads.append(small.jo, ticket.id, 0, b"abc", None, None)
        taken = self.create(small, ticket, attach_to=issue())
        held = small.attachments.get(small.kim, taken.attachment_id)
        assert (held.file_id, held.subject.key) == (taken.file.id, "ENG-1")
        assert self.create(small, ticket, attach_to=issue()).attachment_id == held.id

    def test_a_digest_of_another_length(self, small: World) -> None:
        """It is refused before anything is looked at."""
        with pytest.raises(errors.ValidationFailedError, match=r"checksums\.md5"):
            small.uploads.create_file(small.jo, "upl_none", Checksums(md5=b"short"), None, None)


class TestInOnePiece:
    """Whole files in one call."""

    def test_few_bytes(self, small: World) -> None:
        """They lie in the database."""
        spec = FileSpec("a.txt", 5, checksums=measure(b"abcde").checksums)
        assert small.uploads.is_inline(b"abcde")
        content, location = small.uploads.keep_whole(spec, b"abcde")
        assert (content, location) == (measure(b"abcde"), "")
        request = Request("acme", spec)
        taken = small.do(small.uploads.record_whole, small.jo, request, content, location, b"abcde")
        assert taken.blob_is_new
        assert small.files.read_whole(taken.file) == b"abcde"
        assert list(small.blobs.list_blobs()) == []

    def test_more_bytes(self, small: World) -> None:
        """They lie in the blob store, and may be attached at once."""
        assert not small.uploads.is_inline(b"abcdef")
        content, location = small.uploads.keep_whole(FileSpec("a.txt"), b"abcdef")
        request = Request("acme", FileSpec("a.txt"), attach_to=issue())
        taken = small.do(small.uploads.record_whole, small.jo, request, content, location, None)
        assert small.files.read_whole(taken.file) == b"abcdef"
        assert small.attachments.get(small.kim, taken.attachment_id).subject.key == "ENG-1"
        small.uploads.drop_unused(location)
        with pytest.raises(errors.StoredContentCorruptError):
            small.files.open(taken.file)

    def test_other_bytes_than_declared(self, small: World) -> None:
        """Nothing of them is kept."""
        for spec in (FileSpec("a.txt", 5), FileSpec("a.txt", checksums=Checksums(crc32c=1))):
            with pytest.raises((errors.SizeMismatchError, errors.ContentChecksumMismatchError)):
                small.uploads.keep_whole(spec, b"abcdef")
        assert list(small.blobs.list_blobs()) == []

    def test_what_is_admitted(self, make_world: Callable[..., World]) -> None:
        """Both limits hold, that of calls and that of files, and the request is checked."""
        world = make_world(limits=replace(SMALL, max_file_bytes=40, max_unary_bytes=50))
        request = Request("acme", FileSpec("a.txt"))
        assert world.uploads.admit_whole(world.jo, request, b"x" * 40) == request.spec
        for size, limit in ((41, "40"), (51, "50")):
            with pytest.raises(errors.FileTooLargeError) as caught:
                world.uploads.admit_whole(world.jo, request, b"x" * size)
            assert caught.value.metadata == {"limit": limit}
        with pytest.raises(errors.ValidationFailedError):
            world.uploads.admit_whole(world.jo, Request("acme", FileSpec("a/b")), b"x")


class TestCancelling:
    """Giving up."""

    def test_while_a_writer_is_at_it(self, small: World) -> None:
        """The writer is stopped, its bytes are removed, and repeating changes nothing."""
        ticket = issued(small)
        receiving = begin(small, ticket)
        receiving.append(0, b"x" * 10, None)
        leaves_when_fenced(receiving)
        assert small.uploads.cancel(small.jo, ticket.id).state is TicketState.CANCELLED
        assert receiving.wait_closed()
        assert staged(small) == []
        cancelled = stored(small, ticket)
        assert cancelled.staged_removed
        assert small.uploads.cancel(small.jo, ticket.id) == cancelled
        with pytest.raises(errors.UploadTicketClosedError):
            begin(small, ticket)

    def test_between_two_writers(self, small: World) -> None:
        """Bytes and digests that were kept for going on are removed."""
        ticket = issued(small)
        small.uploads.append(small.jo, ticket.id, 0, b"abc", None, None)
        small.uploads.cancel(small.jo, ticket.id)
        assert staged(small) == []
        assert small.uploads._parked == {}

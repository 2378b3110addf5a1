"""What every metadata store does with the sessions of a blob store elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from remora_server.core import ids
from remora_server.core.model import TicketState
from remora_server.core.ports import Changes, MetadataStore, Session, Sessions, Stored
from tests.stores.samples import NOW, Tenant, at_once


def session(**fields: object) -> Session:
    """Make a session."""
    made = Session(ids.new_id(ids.TICKET), "https://e.org/s?x", 3, False, 5, b"\0tail", "", NOW, NOW + 1)  # noqa: FBT003 - one of many.
    return replace(made, **fields)  # type: ignore[arg-type]


class SessionContract:
    """Sessions."""

    @pytest.fixture
    def sessions(self, store: Sessions) -> Sessions:
        """Use the metadata store as what it also is."""
        return store

    def test_sessions_belong_to_the_last_writer(self, sessions: Sessions) -> None:
        """A writer moves its session on, one of a higher epoch takes it, and one of a lower changes nothing."""
        first = session()
        assert sessions.session(first.name) is None
        assert sessions.keep_session(first)
        assert sessions.session(first.name) == first
        moved = replace(first, sent_bytes=2**40, tail=b"", url="", location="x@1", update_time=NOW + 2)
        assert sessions.keep_session(moved)
        assert sessions.session(first.name) == moved
        second = replace(first, epoch=4, is_direct=True)
        assert sessions.keep_session(second)
        assert not sessions.keep_session(replace(moved, tail=b"late"))
        assert sessions.session(first.name) == second

    def test_sessions_keep_their_create_time(self, sessions: Sessions) -> None:
        """When an upload began does not change."""
        first = session()
        sessions.keep_session(first)
        sessions.keep_session(replace(first, create_time=NOW + 9))
        assert sessions.session(first.name) == first

    def test_sessions_are_forgotten(self, sessions: Sessions) -> None:
        """A session that is gone is gone, and removing it again is no error."""
        one = session()
        sessions.keep_session(one)
        for _ in range(2):
            sessions.delete_session(one.name)
        assert sessions.session(one.name) is None

    def test_sessions_list(self, sessions: Sessions) -> None:
        """A walk over all of them tells name, size and age."""
        made = sorted(
            (session(sent_bytes=number, update_time=NOW + number) for number in range(5)), key=lambda x: x.name
        )
        for one in made:
            sessions.keep_session(one)
        found = [*sessions.list_sessions("", 3)]
        found += sessions.list_sessions(found[-1].name, 3)
        assert found == [Stored(one.name, "", one.sent_bytes + 5, one.update_time) for one in made]

    def test_sessions_that_are_sealed(self, sessions: Sessions) -> None:
        """Of many names those are told whose bytes lie at a location already."""
        sealed, going_on, direct = session(location="x@1"), session(), session(is_direct=True)
        for one in (sealed, going_on, direct):
            sessions.keep_session(one)
        assert sessions.sealed_among([sealed.name, going_on.name, direct.name, "unknown"]) == {sealed.name}
        assert sessions.sealed_among([]) == set()

    @pytest.mark.parametrize(
        "over", [{"state": TicketState.COMPLETED}, {"state": TicketState.FAILED}, {"writer_epoch": 4}]
    )
    def test_sessions_of_an_upload_that_is_over(
        self, sessions: Sessions, store: MetadataStore, acme: Tenant, over: dict[str, Any]
    ) -> None:
        """A late writer brings nothing back, though no row of a session says that it is late."""
        ticket = acme.ticket(state=TicketState.UPLOADING, writer_epoch=3)
        store.add_ticket(ticket)
        late = session(name=ticket.id)
        assert sessions.keep_session(late)
        sessions.delete_session(late.name)
        assert store.update_ticket(replace(ticket, **over), if_state=(TicketState.UPLOADING,), if_epoch=3)
        assert not sessions.keep_session(late)
        assert sessions.session(late.name) is None

    def test_sessions_at_once(self, sessions: Sessions, changes: Changes) -> None:
        """Of 16 writers that begin one session at once the last one has it, however they come."""
        one = session()
        found = at_once(16, lambda n: changes.run(lambda: sessions.keep_session(replace(one, epoch=n))))
        assert found[15]
        assert sessions.session(one.name) == replace(one, epoch=15)

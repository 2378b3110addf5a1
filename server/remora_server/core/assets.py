"""Assets: uploads whose file has its number, and so its URL, before the bytes are there, and that need no last step.

Where our own server takes the bytes it makes the file in the same request. Where they go past us, or a server died in
between, the first who reads the asset makes it, or at the end of the ticket's time the sweep.
"""

from __future__ import annotations

from remora_server.core import access, errors, ids
from remora_server.core.arrivals import Arrivals
from remora_server.core.downloads import Downloads
from remora_server.core.files import Files
from remora_server.core.model import Caller, Checksums, File, FileSpec, Ticket
from remora_server.core.ports import MetadataStore
from remora_server.core.tickets import Request, Tickets

TRANSPORT = "HTTP_PUT"


class Assets:
    """The rules of assets over tickets and what arrives for them."""

    def __init__(
        self, store: MetadataStore, tickets: Tickets, arrivals: Arrivals, files: Files, downloads: Downloads
    ) -> None:
        self._store = store
        self._tickets = tickets
        self._arrivals = arrivals
        self._files = files
        self._downloads = downloads

    def issue(self, caller: Caller, spec: FileSpec) -> Ticket:
        """Hand out a ticket for one PUT, whose file will have the number of the ticket."""
        wanted = Request(caller.workspace_id, spec, TRANSPORT, skip_existing_check=True, is_asset=True)
        ticket = self._tickets.issue(caller, wanted).ticket
        assert ticket is not None  # noqa: S101 - there was no looking for what is there already
        return ticket

    def redeem(self, workspace_id: str, ticket_id: str) -> File:
        """Make the file of an asset whose bytes are all there, in its creator's name; repeating it changes nothing."""
        creator, _ = self._tickets.of_holder(workspace_id, ticket_id)
        return self._arrivals.create_file(creator, ticket_id, Checksums(), None, None).file

    def file(self, caller: Caller, asset_id: str) -> File:
        """Return a file that the caller may read now by its number, made of its bytes if nobody has done that yet."""
        file_id = ids.parse(ids.FILE, asset_id, "asset_id")
        if self._store.file(caller.workspace_id, file_id) is None:
            ticket = self._store.ticket(caller.workspace_id, ids.respelled(ids.TICKET, file_id))
            if ticket is None or not access.may_see_ticket(caller, ticket):
                raise errors.NotFoundError("file", f"files/{file_id}")
            self._redeem_for_reader(ticket)
        return self._files.readable(caller, file_id)

    def file_of_holder(self, workspace_id: str, reader: str, asset_id: str) -> File:
        """Return a file for whoever holds a URL that was made in `reader`'s right, if that right still stands."""
        file_id = ids.parse(ids.FILE, asset_id, "asset_id")
        if self._store.file(workspace_id, file_id) is None:
            ticket = self._store.ticket(workspace_id, ids.respelled(ids.TICKET, file_id))
            if ticket is not None:
                self._redeem_for_reader(ticket)
        return self._downloads.file_of_holder(workspace_id, reader, file_id)

    def _redeem_for_reader(self, ticket: Ticket) -> None:
        """Redeem an asset; to a reader it does not exist before its bytes do."""
        missing = errors.NotFoundError("file", f"files/{ids.respelled(ids.FILE, ticket.id)}")
        if not ticket.is_asset:
            raise missing
        try:
            self.redeem(ticket.workspace_id, ticket.id)
        except (errors.UploadIncompleteError, errors.UploadTicketClosedError, errors.UploadTicketExpiredError):
            raise missing from None

"""A far page of a very long list beside its first page."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from functools import partial

from remora.v1 import attachment_service_pb2
from remora_server.core import ids
from remora_server.core.model import Attachment, Subject
from remora_server.stores.database_sqlite import Sqlite
from remora_server.stores.metadata import SqlMetadata
from remora_server.stores.writer import Writer
from tests.bench.messages import upsert_message
from tests.running import Api, RunningServer, issue

PAGE_SIZE = 50


class Listing:
    """Pages of 50 of one issue with very many attachments."""

    def __init__(self, server: RunningServer, api: Api, pages: int) -> None:
        self._server = server
        self._api = api
        self._pages = pages
        self._far = ""

    def measure(self) -> tuple[float, float, str]:
        """Return the time of a far page in milliseconds, that of the first, and a remark."""
        if not self._far:
            self._fill()
            self._far = self._token_of_far_page()
        return self._time(self._far), self._time(""), f"{self._pages * PAGE_SIZE} attachments on the issue"

    def _fill(self) -> None:
        """Put the rows in through the store: over the wire it would take minutes and show nothing more."""
        first = self._api.attachments.UpsertAttachment(
            attachment_service_pb2.UpsertAttachmentRequest.FromString(upsert_message(0, "BENCH-LIST"))
        ).attachment
        database = Sqlite(self._server.data / "remora.db", busy_seconds=30)
        store, writer = SqlMetadata(database), Writer(database)
        model = store.attachment(first.workspace_id, first.id)
        assert model is not None
        total = self._pages * PAGE_SIZE + PAGE_SIZE
        for start in range(0, total, 20_000):
            writer.run(partial(_add, store, model, range(start, min(start + 20_000, total))))
        writer.close()
        database.close()

    def _token_of_far_page(self) -> str:
        token, page = "", 0
        while page < self._pages:
            size = min(1000, (self._pages - page) * PAGE_SIZE)
            token = self._page(token, size).next_page_token
            page += size // PAGE_SIZE
        return token

    def _time(self, token: str) -> float:
        times = []
        for _ in range(40):
            began = time.perf_counter()
            assert len(self._page(token, PAGE_SIZE).attachments) == PAGE_SIZE
            times.append((time.perf_counter() - began) * 1000)
        return statistics.median(times)

    def _page(self, token: str, size: int) -> attachment_service_pb2.ListAttachmentsResponse:
        return self._api.attachments.ListAttachments(
            attachment_service_pb2.ListAttachmentsRequest(
                workspace_id="demo", subject=issue("BENCH-LIST"), page_size=size, page_token=token
            )
        )


def _add(store: SqlMetadata, model: Attachment, numbers: range) -> None:
    for number in numbers:
        new = _copy(model, number)
        store.find_or_add_attachment(new)


def _copy(model: Attachment, number: int) -> Attachment:
    return replace(
        model,
        id=ids.new_id(ids.ATTACHMENT),
        subject=Subject(model.subject.type, model.subject.id, model.subject.key),
        url_key=f"{number:064x}",
        create_time=model.create_time + number,
    )

"""Deleting a file, and with it what hangs on it."""

from __future__ import annotations

from remora_server.core import errors, etags
from remora_server.core.attachments import Attachments
from remora_server.core.files import Files
from remora_server.core.model import Caller, File, FileState
from remora_server.core.ports import Clock, MetadataStore
from remora_server.core.quota import Quota
from remora_server.core.values import replace


class Deletion:
    """Deletes files; apart from `Files`, since attachments stand on those."""

    def __init__(
        self, store: MetadataStore, files: Files, attachments: Attachments, clock: Clock, quota: Quota
    ) -> None:
        self._store = store
        self._files = files
        self._attachments = attachments
        self._clock = clock
        self._quota = quota

    def delete_file(self, caller: Caller, file_id: str, etag: str = "", *, detach: bool = False) -> File:
        """Delete a file; raise FileInUseError while live attachments hold it, unless `detach` deletes those too."""
        stored = self._files.owned(caller, file_id)
        if stored.state is FileState.DELETED:
            raise errors.NotFoundError("file", f"files/{file_id}")
        etags.require(etag, stored.version)
        holders = self._store.live_attachments_of_file(stored.id)
        if holders and not detach:
            raise errors.FileInUseError
        was_charged = stored.detach_time is None
        deleted = self._files.write(
            caller, replace(stored, state=FileState.DELETED, delete_time=self._clock.now()), "deleted"
        )
        if was_charged:
            self._quota.give_back(caller.workspace_id, stored.size_bytes)
        for attachment in holders:
            self._attachments.drop(caller, attachment)
        return deleted

"""Temporary files: uploaded before it is known what they belong to, attached once within a day, or swept.

One is a file that nothing holds, as if its attachment had been deleted: it is not charged, `gc` takes it after the
grace, and its first attachment holds it like any other. That attachment has its 128 bits, so it can be told at once by
the number that its uploader has.
"""

from __future__ import annotations

from collections.abc import Sequence

from remora_server.core import errors, etags, ids
from remora_server.core.attachments import Attachments, Draft
from remora_server.core.files import Files
from remora_server.core.issues import Issues
from remora_server.core.model import Attachment, Caller, File, Micros, Subject
from remora_server.core.ports import Clock

LIFETIME: Micros = 24 * 3600 * 1_000_000
UNATTACHED = "temporary file"


class Temporary:
    """The rules of temporary files."""

    def __init__(self, files: Files, attachments: Attachments, issues: Issues, clock: Clock) -> None:
        self._files = files
        self._attachments = attachments
        self._issues = issues
        self._clock = clock

    def get(self, caller: Caller, file_id: str) -> File:
        """Return a temporary file of the caller's, while it can be attached: nobody else sees what never was."""
        file = self._files.readable(caller, file_id)
        is_due = file.detach_time is None or file.detach_time + LIFETIME <= self._clock.now()
        if file.was_attached or is_due:
            raise errors.NotFoundError(UNATTACHED, f"files/{file_id}")
        return file

    def attach(self, caller: Caller, issue_id: str, file_ids: Sequence[str], etag: str = "") -> list[Attachment]:
        """Attach temporary files to an issue, if its etag is still this one, all or none; call it inside a change."""
        issue = self._issues.get(caller, caller.workspace_id, issue_id=issue_id)
        etags.require(etag, issue.version)
        subject, made = Subject("issue", issue.id, issue.key), []
        for file_id in file_ids:
            file = self.get(caller, file_id)
            draft = Draft(caller.workspace_id, subject, file_id=file.id, id=ids.respelled(ids.ATTACHMENT, file.id))
            made.append(self._attachments.create(caller, draft))
        return made

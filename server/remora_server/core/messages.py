"""Messages: texts with files, as chats send them.

A message is kept as an issue whose key is the message's id and whose title is its text: so its files hang on a subject
that every door shows, and what was sent stands in the one log of changes.
"""

from __future__ import annotations

from collections.abc import Sequence

from remora_server.core import errors, fields, ids
from remora_server.core.attachments import Attachments, Draft
from remora_server.core.issues import Issues
from remora_server.core.model import Caller, File, Issue, IssueStatus, Subject
from remora_server.core.ports import AttachmentQuery
from remora_server.core.values import dataclass

MAX_TITLE_CHARS = fields.MAX_CHARS["title"]
MAX_BYTES = fields.METADATA_MAX_STRING_BYTES
TEXT = "text"  # In the metadata, where a text is too long for a title.


@dataclass(frozen=True, slots=True)
class Message:
    """A text with files."""

    id: str
    text: str
    files: Sequence[File]


class Messages:
    """The rules of messages."""

    def __init__(self, issues: Issues, attachments: Attachments) -> None:
        self._issues = issues
        self._attachments = attachments

    def send(self, caller: Caller, text: str, file_ids: Sequence[str], quoted_id: str = "") -> Message:
        """Keep a text, with files that the caller may read and perhaps below a message that it quotes.

        Call it inside a change: it keeps all of it or nothing.
        """
        check = fields.Check()
        size = len(text.encode())
        check.that(size <= MAX_BYTES, TEXT, f"has {size} bytes, at most {MAX_BYTES} are allowed")
        check.that("\0" not in text, TEXT, "holds a NUL character; remove it")
        check.that(len(file_ids) <= fields.MAX_BATCH, "attachments", f"are more than {fields.MAX_BATCH}")
        check.done()
        quoted = self._issue(caller, quoted_id) if quoted_id else None
        message_id = ids.new_id(ids.MESSAGE)
        issue = self._issues.upsert(caller, _kept(caller, message_id, text, quoted.id if quoted else ""), ()).issue
        subject = Subject("issue", issue.id, issue.key)
        files: dict[str, File] = {}
        for file_id in file_ids:
            made = self._attachments.create(caller, Draft(caller.workspace_id, subject, file_id=file_id))
            assert made.file is not None  # noqa: S101 - it holds the file that it was made for
            files[made.file_id] = made.file
        return Message(message_id, text, tuple(files.values()))

    def get(self, caller: Caller, message_id: str) -> Message:
        """Return a message with the files that hang on it, in the order in which they came."""
        issue = self._issue(caller, message_id)
        query = AttachmentQuery(caller.workspace_id, "issue", issue.id, kinds=("FILE",))
        page = self._attachments.list(caller, query, None, page_size=fields.MAX_BATCH)
        files = [one.file for one in reversed(page.items) if one.file is not None]
        return Message(issue.key, str(issue.metadata.get(TEXT, issue.title)), files)

    def _issue(self, caller: Caller, message_id: str) -> Issue:
        if message_id.startswith(f"{ids.MESSAGE}_"):  # Other issues are none of ours.
            try:
                return self._issues.get(caller, caller.workspace_id, key=message_id)
            except errors.NotFoundError:
                pass
        raise errors.NotFoundError("message", "messages/-")


def _kept(caller: Caller, message_id: str, text: str, parent_id: str) -> Issue:
    is_long = len(text) > MAX_TITLE_CHARS
    return Issue(
        id="",
        workspace_id=caller.workspace_id,
        key=message_id,
        external_refs=(),
        project_id="",
        title=f"{text[: MAX_TITLE_CHARS - 1]}…" if is_long else text,
        parent_issue_id=parent_id,
        status=IssueStatus(),
        assignees=(),
        completed=False,
        metadata={TEXT: text} if is_long else {},
        create_time=0,
        update_time=0,
        delete_time=None,
        version=0,
    )

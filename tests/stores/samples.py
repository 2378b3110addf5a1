"""Nouns to put into stores, valid ones, of which a test says only what it is about; and ways to call stores."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import TypeVar

from remora_server.core import dedup, ids
from remora_server.core.model import (
    Activity,
    Actor,
    Attachment,
    Blob,
    Checksums,
    ExternalRef,
    File,
    FileSpec,
    FileState,
    Issue,
    IssueStatus,
    Link,
    Media,
    Metadata,
    Subject,
    Ticket,
    TicketState,
    Workspace,
)
from remora_server.core.ports import MetadataStore, Position

NOW = 1_760_000_000_123_456
DAY = 24 * 3600 * 1_000_000

METADATA: Metadata = {"text": "ünï\n\"'", "number": 3, "real": 2.0}

Item = TypeVar("Item")
Noun = TypeVar("Noun", Activity, Attachment, Blob, File, Issue, Link, Ticket)


class Tenant:
    """A workspace with two users, and a maker of what they have."""

    def __init__(self, store: MetadataStore, slug: str = "acme") -> None:
        made = Workspace(ids.new_id(ids.WORKSPACE), slug, slug.title(), NOW)
        self.workspace, _ = store.find_or_add_workspace(made)
        self.id = self.workspace.id
        self.jo = store.find_or_add_user(self.id, Actor(ids.new_id(ids.USER), "USER", "Jo", "https://e.org/jo"), NOW)
        self.kim = store.find_or_add_user(self.id, Actor(ids.new_id(ids.USER), "APP", "Kim"), NOW)

    def issue(self, key: str = "ENG-1", **fields: object) -> Issue:
        """Make an issue."""
        made = Issue(
            id=ids.new_id(ids.ISSUE),
            workspace_id=self.id,
            key=key,
            external_refs=(),
            project_id="",
            title="",
            parent_issue_id="",
            status=IssueStatus(),
            assignees=(),
            completed=False,
            metadata={},
            create_time=NOW,
            update_time=NOW,
            delete_time=None,
            version=1,
        )
        return _with(made, fields)

    def blob(self, content: bytes = b"hello", **fields: object) -> Blob:
        """Make a blob of these bytes, in the blob store."""
        sums = Checksums(123, hashlib.md5(content, usedforsecurity=False).digest(), hashlib.sha256(content).digest())
        made = Blob(
            id=ids.new_id(ids.BLOB),
            workspace_id=self.id,
            key=dedup.key(self.id, sums, len(content)),
            checksums=sums,
            size_bytes=len(content),
            location=ids.new_id(ids.TICKET),
            create_time=NOW,
        )
        return _with(made, fields)

    def file(self, blob: Blob, **fields: object) -> File:
        """Make Jo's file on a blob."""
        made = File(
            id=ids.new_id(ids.FILE),
            workspace_id=self.id,
            blob_id=blob.id,
            name="a.txt",
            content_type="text/plain",
            detected_content_type="text/plain",
            size_bytes=blob.size_bytes,
            checksums=blob.checksums,
            type="DOCUMENT",
            state=FileState.ACTIVE,
            media=Media(),
            metadata={},
            external_ref=ExternalRef(),
            creator=self.jo,
            create_time=NOW,
            update_time=NOW,
            delete_time=None,
            detach_time=None,
            was_attached=False,
            version=1,
        )
        return _with(made, fields)

    def stored_file(self, store: MetadataStore, content: bytes = b"hello", **fields: object) -> File:
        """Make a file on a blob, and put both into the store."""
        blob, _ = store.find_or_add_blob(self.blob(content), None)
        file = self.file(blob, **fields)
        store.add_file(file)
        return file

    def attachment(self, subject: Subject, url: str = "https://e.org/1", **fields: object) -> Attachment:
        """Make Jo's attachment of a URL."""
        made = Attachment(
            id=ids.new_id(ids.ATTACHMENT),
            workspace_id=self.id,
            subject=subject,
            url=url,
            normalized_url=url,
            url_key=hashlib.sha256(url.encode()).hexdigest(),
            file_id="",
            title="",
            subtitle="",
            icon_url="",
            group_key="",
            metadata={},
            external_ref=ExternalRef(),
            sequence_number=None,
            creator=self.jo,
            updater=self.jo,
            create_time=NOW,
            update_time=NOW,
            archive_time=None,
            delete_time=None,
            purge_time=None,
            version=1,
        )
        return _with(made, fields)

    def held(self, subject: Subject, file: File, **fields: object) -> Attachment:
        """Make Jo's attachment of a file."""
        target = {"url": "", "normalized_url": "", "url_key": "", "file_id": file.id, "file": file}
        return self.attachment(subject, **{**target, **fields})  # type: ignore[arg-type]

    def ticket(self, **fields: object) -> Ticket:
        """Make Jo's ticket."""
        made = Ticket(
            id=ids.new_id(ids.TICKET),
            workspace_id=self.id,
            state=TicketState.PENDING,
            spec=FileSpec("a.txt"),
            transport="GRPC",
            attach_to=None,
            skip_existing_check=False,
            committed_size=0,
            committed_crc32c=0,
            writer_epoch=0,
            append_offset=-1,
            append_crc32c=0,
            file_id="",
            attachment_id="",
            outcome="",
            error_reason="",
            error_message="",
            creator=self.jo,
            create_time=NOW,
            expire_time=NOW + DAY,
        )
        return _with(made, fields)

    def link(self, subject: Subject, url: str = "https://e.org/1", **fields: object) -> Link:
        """Make Jo's link."""
        made = Link(
            id=ids.new_id(ids.LINK),
            workspace_id=self.id,
            subject=subject,
            url=url,
            normalized_url=url,
            url_key=hashlib.sha256(url.encode()).hexdigest(),
            title="",
            creator=self.jo,
            create_time=NOW,
            version=1,
        )
        return _with(made, fields)

    def activity(self, **fields: object) -> Activity:
        """Make an entry of the log."""
        made = Activity(
            seq=0,
            id=ids.new_id(ids.ACTIVITY),
            type="attachment.created",
            workspace_id=self.id,
            subject=None,
            actor=self.jo,
            occur_time=NOW,
            resource_id="att_1",
            changed_fields=(),
            payload={},
            request_id="",
            visible_to="",
        )
        return _with(made, fields)


def subject(number: int = 1) -> Subject:
    """Make an issue as a subject."""
    return Subject("issue", f"iss_{number:026}", f"ENG-{number}")


def _with(made: Noun, fields: dict[str, object]) -> Noun:
    changed: Noun = replace(made, **fields)  # type: ignore[arg-type]
    return changed


def walk(
    fetch: Callable[[Position | None, int], Sequence[Item]], position_of: Callable[[Item], Position], size: int = 3
) -> list[Item]:
    """Go through a listing page by page."""
    items: list[Item] = []
    after: Position | None = None
    while page := fetch(after, size):
        assert len(page) <= size
        items += page
        after = position_of(page[-1])
    return items


def at_once(count: int, call: Callable[[int], Item]) -> list[Item]:
    """Run a call in many threads at the same moment."""
    barrier = Barrier(count)

    def run(number: int) -> Item:
        barrier.wait()
        return call(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))

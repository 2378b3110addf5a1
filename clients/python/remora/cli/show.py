"""What commands print: for people, columns and sizes; for programs, one JSON object a line."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from remora import Activity, Attachment, Link, Put, Ticket

STEP = 1000


def text(line: str) -> None:
    """Print a line, at once; end the program in peace if nobody reads it any more."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        # Python flushes once more at its end, and must not find the pipe then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from None


def line(values: Mapping[str, object]) -> None:
    """Print one object for a program."""
    text(json.dumps(values))


def columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows for a person, with columns of equal width."""
    rows = [[cell.replace("\n", " ") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        text("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def plain(shown: str) -> str:
    """Take out of a text what could steer a terminal."""
    return "".join(char if char == "\n" or not unicodedata.category(char).startswith("C") else "�" for char in shown)


def size(count: float) -> str:
    """Write a number of bytes as people do: `1.2 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < STEP:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= STEP
    return f"{count:.1f} TB"


def moment(time: datetime | None) -> str:
    """Write a moment for a person, in his own time zone."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S") if time else "-"


def timestamp(time: datetime | None) -> str | None:
    """Write a moment for a program."""
    return time.isoformat().replace("+00:00", "Z") if time else None


def put(done: Put) -> dict[str, object]:
    """Describe an upload to a program."""
    return {
        "name": done.name,
        "file_id": done.file.id,
        "attachment_id": done.attachment_id,
        "size_bytes": done.size_bytes,
        "sha256": done.file.sha256,
        "outcome": done.outcome,
        "bytes_sent": done.bytes_sent,
        "resumed_at": done.resumed_at,
    }


def attachment(shown: Attachment) -> dict[str, object]:
    """Describe an attachment to a program."""
    return {
        "attachment_id": shown.id,
        "kind": shown.kind,
        "title": shown.title,
        "name": shown.file.name if shown.file else shown.name,
        "url": shown.url or None,
        "file_id": shown.file_id or None,
        "size_bytes": shown.file.size_bytes if shown.file else None,
        "sha256": shown.file.sha256 if shown.file else None,
        "subtitle": shown.subtitle,
        "metadata": dict(shown.metadata),
        "create_time": timestamp(shown.create_time),
    }


def link(shown: Link) -> dict[str, object]:
    """Describe a link to a program."""
    return {
        "link_id": shown.id,
        "url": shown.url,
        "title": shown.title,
        "create_time": timestamp(shown.create_time),
    }


def ticket(shown: Ticket) -> dict[str, object]:
    """Describe an unfinished upload to a program."""
    return {
        "upload_ticket_id": shown.id,
        "name": shown.name,
        "committed_size": shown.committed_size,
        "size_bytes": shown.size_bytes,
        "expire_time": timestamp(shown.expire_time),
    }


def activity(shown: Activity) -> dict[str, object]:
    """Describe a change to a program."""
    return {
        "activity_id": shown.id,
        "cursor": shown.cursor,
        "type": shown.type,
        "subject": {"type": shown.subject.type, "id": shown.subject.id, "key": shown.subject.key}
        if shown.subject
        else None,
        "actor": {"id": shown.actor.id, "kind": shown.actor.kind, "display_name": shown.actor.display_name},
        "occur_time": timestamp(shown.occur_time),
        "resource_id": shown.resource_id,
        "name": shown.name,
        "changed_fields": list(shown.changed_fields),
    }


def activity_columns(shown: Activity) -> list[str]:
    """Describe a change to a person."""
    changed = ", ".join(shown.changed_fields)
    where = str(shown.subject) if shown.subject else "-"
    told = (where, shown.actor.display_name, shown.name, changed)
    return [moment(shown.occur_time), shown.type, *map(plain, told)]

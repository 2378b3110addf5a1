"""What commands print: for people, columns and sizes; for programs, one JSON object a line."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from remora import Activity, Attachment, File, Link, Put, Ticket

STEP = 1000
MS_IN_SECOND = 1000


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
    """Print rows for a person, with columns of equal width; one that is empty throughout is left out."""
    rows = [[cell.replace("\n", " ") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows = [[cell for cell, width in zip(row, widths, strict=True) if width] for row in rows]
    widths = [width for width in widths if width]
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
        **file_facts(shown.file),
        "subtitle": shown.subtitle,
        "metadata": dict(shown.metadata),
        "create_time": timestamp(shown.create_time),
    }


def file_facts(shown: File | None) -> dict[str, object]:
    """Describe to a program what a file is and how it looks."""
    return {
        "state": shown.state if shown else None,
        "content_type": shown.content_type if shown else None,
        "detected_content_type": shown.detected_content_type if shown else None,
        "media": {name: value for name, value in asdict(shown.media).items() if value} if shown else None,
        "preview": asdict(shown.preview) if shown else None,
    }


def looks(shown: File | None) -> str:
    """Describe to a person how a file looks: `4032 x 3024`, `1:23`, `12 pages`, `python`, and its preview."""
    if shown is None:
        return ""
    if shown.state == "quarantined":
        return "quarantined: found dangerous, can't be read"
    media, preview = shown.media, shown.preview
    said = []
    if media.width and media.height:
        said.append(f"{media.width} x {media.height}")
    if media.duration_ms:
        said.append(duration(media.duration_ms))
    if media.page_count:
        said.append(f"{media.page_count} page{'s' if media.page_count > 1 else ''}")
    if media.code_language:
        said.append(plain(media.code_language))
    if preview.state == "failed":
        said.append(f"no preview: {plain(preview.reason)}")
    elif preview.state == "pending":
        said.append("preview pending")
    elif preview.available:
        said.append("preview")
    return ", ".join(said)


def duration(ms: int) -> str:
    """Write a playing time as people do: `1:23`, `1:02:03`, and below a second `0.4 s`."""
    if ms < MS_IN_SECOND:
        return f"{ms / MS_IN_SECOND:.1g} s"
    minutes, seconds = divmod(round(ms / MS_IN_SECOND), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


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

"""What Yandex Tracker's clients are shown: its JSON, whose every `self` is an absolute URL of the asked version."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import quote

from remora_server.core import errors, ids
from remora_server.core.model import Actor, Attachment, File, Micros, PreviewState

SECOND: Micros = 1_000_000
MILLISECOND: Micros = 1000


class Shapes:
    """Writes JSON for one request; `base` is the public URL with the version of its path."""

    def __init__(self, base: str) -> None:
        self._base = base

    def attachment(self, one: Attachment, issue_key: str) -> dict[str, Any]:
        """Return a file on an issue."""
        if one.file is None:
            raise errors.NotFoundError("attachment", f"attachments/{one.id}")
        number = ids.to_decimal(one.id)
        issue = f"{self._base}/issues/{quote(issue_key, safe='')}"
        return self._file(one.file, number, f"{issue}/attachments/{number}", f"{issue}/thumbnails/{number}")

    def _file(self, file: File, number: str, self_url: str, thumbnail_url: str) -> dict[str, Any]:
        is_image = file.preview.kind == "IMAGE"
        has_thumbnail = is_image and file.preview.state in {PreviewState.PENDING, PreviewState.READY}
        size = {"metadata": {"size": f"{file.media.width}x{file.media.height}"}} if file.media.width else {}
        return {
            "self": self_url,
            "id": number,
            "name": file.name,
            "content": f"{self_url}/{quote(file.name, safe='')}",
            **({"thumbnail": thumbnail_url} if has_thumbnail else {}),
            "createdBy": self.user(file.creator),
            "createdAt": moment(file.create_time),
            "mimetype": file.content_type,
            "size": file.size_bytes,
            **(size if is_image else {}),
        }

    def user(self, actor: Actor) -> dict[str, Any]:
        """Return who did something."""
        # The service itself has a name, and no number.
        number = ids.to_decimal(actor.id) if actor.id.startswith(f"{ids.USER}_") else actor.id
        return {"self": f"{self._base}/users/{number}", "id": number, "display": actor.display_name}


def moment(time: Micros) -> str:
    """Return a time as 2026-01-02T03:04:05.678+0000."""
    whole = dt.datetime.fromtimestamp(time // SECOND, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{time % SECOND // MILLISECOND:03}+0000"

"""Remora: files, URL cards and links on issues. `Client` speaks to a server; `Client.local()` starts one.

The names below are loaded when they are first used: the `remora` program must answer `--help` without loading gRPC,
and a server needs nothing of this package but `remora.v1`.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remora import errors as errors
    from remora.client import Client as Client
    from remora.downloads import Got as Got
    from remora.errors import ConnectionFailedError as ConnectionFailedError
    from remora.errors import NotFoundError as NotFoundError
    from remora.errors import NotServedError as NotServedError
    from remora.errors import PreviewUnavailableError as PreviewUnavailableError
    from remora.errors import RemoraError as RemoraError
    from remora.errors import SourceChangedError as SourceChangedError
    from remora.errors import WriterFencedError as WriterFencedError
    from remora.model import Activity as Activity
    from remora.model import Actor as Actor
    from remora.model import Attached as Attached
    from remora.model import Attachment as Attachment
    from remora.model import File as File
    from remora.model import Link as Link
    from remora.model import Media as Media
    from remora.model import MetadataValue as MetadataValue
    from remora.model import Preview as Preview
    from remora.model import Subject as Subject
    from remora.model import Ticket as Ticket
    from remora.progress import Progress as Progress
    from remora.renditions import Content as Content
    from remora.renditions import Rendition as Rendition
    from remora.uploads import Put as Put

__version__ = "0.1.0"

_HOMES = {
    "Activity": "model",
    "Actor": "model",
    "Attached": "model",
    "Attachment": "model",
    "Client": "client",
    "ConnectionFailedError": "errors",
    "Content": "renditions",
    "File": "model",
    "Got": "downloads",
    "Link": "model",
    "Media": "model",
    "MetadataValue": "model",
    "NotFoundError": "errors",
    "NotServedError": "errors",
    "Preview": "model",
    "PreviewUnavailableError": "errors",
    "Progress": "progress",
    "Put": "uploads",
    "RemoraError": "errors",
    "Rendition": "renditions",
    "SourceChangedError": "errors",
    "Subject": "model",
    "Ticket": "model",
    "WriterFencedError": "errors",
}
__all__ = ["__version__", "errors", *_HOMES]  # noqa: PLE0604 - All are strings.


def __getattr__(name: str) -> object:
    """Load a name of this package when it is first used."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"remora.{_HOMES[name]}"), name)
    if name == "errors":
        return importlib.import_module("remora.errors")
    raise AttributeError(f"module 'remora' has no attribute {name!r}")

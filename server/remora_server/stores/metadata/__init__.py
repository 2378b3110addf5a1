"""Every row that is kept, through Peewee: the MetadataStore of core. Rows never leave this package."""

from __future__ import annotations

from remora_server.stores.metadata.activity import ActivityRows
from remora_server.stores.metadata.attachments import AttachmentRows
from remora_server.stores.metadata.blobs import BlobRows
from remora_server.stores.metadata.issues import IssueRows
from remora_server.stores.metadata.leases import LeaseRows
from remora_server.stores.metadata.links import LinkRows
from remora_server.stores.metadata.media import MediaRows
from remora_server.stores.metadata.quota import QuotaRows
from remora_server.stores.metadata.repeats import RepeatRows
from remora_server.stores.metadata.sessions import SessionRows
from remora_server.stores.metadata.sweep import Sweep
from remora_server.stores.metadata.tenants import Tenants
from remora_server.stores.metadata.webhooks import WebhookRows

__all__ = ["SqlMetadata"]


class SqlMetadata(
    Tenants,
    IssueRows,
    AttachmentRows,
    BlobRows,
    MediaRows,
    QuotaRows,
    SessionRows,
    Sweep,
    LeaseRows,
    LinkRows,
    ActivityRows,
    WebhookRows,
    RepeatRows,
):
    """The metadata store, made of one part for each resource."""

"""What every metadata store does: subclass `MetadataContract` with the fixtures `store`, `changes` and `acme`."""

from __future__ import annotations

from tests.stores.contract.activity import ActivityContract
from tests.stores.contract.attachments import AttachmentContract
from tests.stores.contract.files import FileContract
from tests.stores.contract.issues import IssueContract
from tests.stores.contract.links import LinkContract
from tests.stores.contract.media import MediaContract
from tests.stores.contract.quota import QuotaContract
from tests.stores.contract.sessions import SessionContract
from tests.stores.contract.sweep import SweepContract
from tests.stores.contract.tenants import TenantContract
from tests.stores.contract.tickets import TicketContract
from tests.stores.contract.webhooks import WebhookContract


class MetadataContract(
    TenantContract,
    IssueContract,
    AttachmentContract,
    FileContract,
    TicketContract,
    QuotaContract,
    SessionContract,
    LinkContract,
    MediaContract,
    ActivityContract,
    SweepContract,
    WebhookContract,
):
    """All of it."""

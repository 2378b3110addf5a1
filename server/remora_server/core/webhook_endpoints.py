"""Endpoints of webhooks: where a workspace's activities are to be sent, and the secrets that sign them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from remora_server.core import access, errors, etags, fields, ids, webhook_messages
from remora_server.core.activity import ActivityLog
from remora_server.core.destinations import Destinations
from remora_server.core.model import (
    Caller,
    DisabledReason,
    Micros,
    Page,
    Subject,
    WebhookEndpoint,
    WebhookFormat,
)
from remora_server.core.pages import Pages
from remora_server.core.ports import Clock, MetadataStore
from remora_server.core.sealing import Seal
from remora_server.core.subjects import Subjects
from remora_server.core.values import dataclass, replace

MUTABLE = ("url", "types", "subjects", "format", "enabled", "description")
OUTPUT_ONLY = (
    *("id", "workspace_id", "disabled_reason", "failing_since", "previous_secret_expire_time"),
    *("creator", "create_time", "update_time", "etag"),
)
# Whoever changes one of these has a say in who reads what is sent, and so is the one for whom it is read.
SENDING = frozenset({"url", "format", "enabled"})
MAX_ENDPOINTS = 100  # of one workspace; each is looked at whenever something has happened.
PREVIOUS_LIFETIME: Micros = 24 * 3600 * 1_000_000
TYPE = re.compile(r"[a-z_]{1,64}\.[a-z_]{1,64}\.v[0-9]{1,4}")


@dataclass(frozen=True, slots=True)
class EndpointDraft:
    """An endpoint as a caller writes it."""

    workspace_id: str = ""
    url: str = ""
    types: Sequence[str] = ()
    subjects: Sequence[Subject] = ()
    format: WebhookFormat | None = None
    enabled: bool | None = None
    description: str = ""


class WebhookEndpoints:
    """The rules of endpoints over a metadata store."""

    def __init__(
        self,
        store: MetadataStore,
        subjects: Subjects,
        log: ActivityLog,
        pages: Pages,
        clock: Clock,
        *,
        seal: Seal,
        destinations: Destinations,
    ) -> None:
        self._store = store
        self._subjects = subjects
        self._log = log
        self._pages = pages
        self._clock = clock
        self._seal = seal
        self._destinations = destinations

    def create(self, caller: Caller, draft: EndpointDraft) -> tuple[WebhookEndpoint, str]:
        """Return a new endpoint, and its secret."""
        workspace_id = access.enter(caller, draft.workspace_id, "webhook_endpoint.workspace_id")
        if self._store.count_webhook_endpoints(workspace_id) >= MAX_ENDPOINTS:
            raise errors.invalid("webhook_endpoint", f"is one too many: a workspace has at most {MAX_ENDPOINTS}")
        self._check(draft)
        self._destinations.check_url(draft.url, "webhook_endpoint.url")
        now, endpoint_id, secret = self._clock.now(), ids.new_id(ids.WEBHOOK_ENDPOINT), webhook_messages.new_secret()
        # First of all, so that the endpoint is not sent its own beginning.
        self._record(caller, "created", endpoint_id)
        new = WebhookEndpoint(
            id=endpoint_id,
            workspace_id=workspace_id,
            url=draft.url,
            types=tuple(draft.types),
            subjects=self._resolved(caller, draft.subjects),
            format=draft.format or WebhookFormat.STANDARD,
            description=draft.description,
            disabled_reason=DisabledReason.REQUESTED if draft.enabled is False else DisabledReason.NONE,
            secret=self._seal.seal(secret, endpoint_id),
            previous_secret=b"",
            previous_secret_expire_time=None,
            creator=caller.actor,
            reader_id=caller.principal_id,
            create_time=now,
            update_time=now,
            version=1,
            cursor=self._store.activity_bounds()[1],
            attempts=0,
            failing_since=None,
            due_time=0,
            claim_time=0,
            epoch=0,
        )
        self._store.add_webhook_endpoint(new)
        return new, secret

    def get(self, caller: Caller, endpoint_id: str) -> WebhookEndpoint:
        """Return an endpoint."""
        found = self._find(caller, endpoint_id)
        if found is None:
            raise errors.NotFoundError("webhook_endpoint", f"webhook-endpoints/{endpoint_id}")
        return found

    def list(
        self, caller: Caller, workspace: str, *, page_size: int = 0, page_token: str = ""
    ) -> Page[WebhookEndpoint]:
        """Return a page of the endpoints of a workspace, newest first."""
        workspace_id = access.enter(caller, workspace)
        return self._pages.page(
            ("webhook endpoints", workspace_id),
            page_size,
            page_token,
            lambda after, limit: self._store.list_webhook_endpoints(workspace_id, after, limit),
            lambda last: (last.create_time, last.id),
        )

    def update(
        self,
        caller: Caller,
        endpoint_id: str,
        draft: EndpointDraft,
        mask: Collection[str],
        etag: str = "",
        *,
        skip_backlog: bool = False,
    ) -> WebhookEndpoint:
        """Change the fields that the mask names, or without one those that are set."""
        stored = self.get(caller, endpoint_id)
        etags.require(etag, stored.version)
        populated = [name for name in MUTABLE if getattr(draft, name) not in (None, "", ())]
        paths = fields.mask(mask, MUTABLE, OUTPUT_ONLY, populated)
        self._check(draft)
        changed = self._applied(caller, stored, draft, paths)
        differing = [name for name in MUTABLE if getattr(changed, name) != getattr(stored, name)]
        if not differing and not skip_backlog:
            return stored
        now = self._clock.now()
        if SENDING.intersection(differing):
            changed = replace(changed, reader_id=caller.principal_id)
        if changed.enabled:
            # Whoever changes something wants to see what comes of it, not to wait for the next attempt.
            changed = replace(changed, attempts=0, failing_since=None, due_time=0)
        if skip_backlog:
            # What is being sent now counts no more, or it would set the cursor back.
            cursor = self._store.activity_bounds()[1]
            changed = replace(changed, cursor=cursor, epoch=changed.epoch + 1, claim_time=0)
        changed = replace(changed, update_time=now, version=stored.version + 1)
        self._store.update_webhook_endpoint(changed)
        if differing:
            self._record(caller, "updated", changed.id, differing)
        return changed

    def delete(
        self, caller: Caller, endpoint_id: str, etag: str = "", *, allow_missing: bool = False
    ) -> WebhookEndpoint | None:
        """Remove an endpoint for good."""
        if allow_missing and self._find(caller, endpoint_id) is None:
            return None
        found = self.get(caller, endpoint_id)
        etags.require(etag, found.version)
        self._store.delete_webhook_endpoint(found.id)
        self._record(caller, "deleted", found.id)
        return found

    def rotate(self, caller: Caller, endpoint_id: str, etag: str = "") -> tuple[WebhookEndpoint, str]:
        """Return an endpoint with a new secret, and that; the one before it signs as well for a day."""
        stored = self.get(caller, endpoint_id)
        etags.require(etag, stored.version)
        now, secret = self._clock.now(), webhook_messages.new_secret()
        changed = replace(
            stored,
            secret=self._seal.seal(secret, stored.id),
            previous_secret=stored.secret,
            previous_secret_expire_time=now + PREVIOUS_LIFETIME,
            reader_id=caller.principal_id,
            update_time=now,
            version=stored.version + 1,
        )
        self._store.update_webhook_endpoint(changed)
        self._record(caller, "updated", changed.id, ["secret"])
        return changed, secret

    def _find(self, caller: Caller, endpoint_id: str) -> WebhookEndpoint | None:
        parsed = ids.parse(ids.WEBHOOK_ENDPOINT, endpoint_id, "webhook_endpoint_id")
        return self._store.webhook_endpoint(caller.workspace_id, parsed)

    def _applied(
        self, caller: Caller, stored: WebhookEndpoint, draft: EndpointDraft, paths: set[str]
    ) -> WebhookEndpoint:
        changed = stored
        if "url" in paths and draft.url != stored.url:
            self._destinations.check_url(draft.url, "webhook_endpoint.url")
            changed = replace(changed, url=draft.url)
        if "types" in paths:
            changed = replace(changed, types=tuple(draft.types))
        if "subjects" in paths:
            changed = replace(changed, subjects=self._resolved(caller, draft.subjects))
        if "format" in paths:
            changed = replace(changed, format=draft.format or WebhookFormat.STANDARD)
        if "description" in paths:
            changed = replace(changed, description=draft.description)
        enabled = draft.enabled is not False
        if "enabled" in paths and enabled != stored.enabled:
            reason = DisabledReason.NONE if enabled else DisabledReason.REQUESTED
            changed = replace(changed, disabled_reason=reason)
        return changed

    def _resolved(self, caller: Caller, subjects: Sequence[Subject]) -> Sequence[Subject]:
        return tuple(self._subjects.resolve(caller, subject, register=False) for subject in subjects)

    def _check(self, draft: EndpointDraft) -> None:
        check = fields.Check("webhook_endpoint.")
        check.text("description", draft.description)
        for name in ("types", "subjects"):
            check.that(
                len(getattr(draft, name)) <= fields.MAX_BATCH, name, f"has more than {fields.MAX_BATCH} elements"
            )
        for type_ in draft.types:
            check.that(TYPE.fullmatch(type_), "types", "holds what is no type such as attachment.created.v1")
        check.done()

    def _record(self, caller: Caller, verb: str, endpoint_id: str, changed_fields: Sequence[str] = ()) -> None:
        self._log.record(caller, f"webhook_endpoint.{verb}.v1", endpoint_id, {}, changed_fields=changed_fields)

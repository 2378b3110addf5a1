"""The tables and their indexes as Peewee models; `migrations/` creates them.

Models are bound to no database: a query meets one in `database.py`, so one process can have several. Every table and
index is named here, since names that Peewee derives from class names may collide silently. Times are microseconds since
the epoch. Empty texts stand for "not set", as in `core/model.py`; what is NULL is compared or indexed as such.
"""

from __future__ import annotations

from typing import Any

import peewee
from peewee import SQL, BigAutoField, BigIntegerField, BlobField, BooleanField, CompositeKey, TextField

EMPTY = SQL("''")  # Spelled out: a partial index is only used where its condition can be proved without bound values.


class StoreInfo(peewee.Model):
    """What is known of the database itself.

    `store_id`; `activity_floor`, the last removed sequence number; `signing_key`, which all its servers sign with.
    """

    name = TextField(primary_key=True)
    value = TextField()

    class Meta:
        table_name = "store_info"


class Workspaces(peewee.Model):
    """Tenants, the bytes charged to each, and those that its open tickets hold."""

    id = TextField(primary_key=True)
    slug = TextField()
    name = TextField()
    create_time = BigIntegerField()
    used_bytes = BigIntegerField()
    reserved_bytes = BigIntegerField()

    class Meta:
        table_name = "workspaces"


class Users(peewee.Model):
    """Principals; never changed once they are here."""

    id = TextField(primary_key=True)
    workspace_id = TextField()
    kind = TextField()
    display_name = TextField()
    icon_url = TextField()
    create_time = BigIntegerField()

    class Meta:
        table_name = "users"


class Keys(peewee.Model):
    """Credentials, as hashes."""

    id = TextField(primary_key=True)
    key_hash = BlobField()
    workspace_id = TextField()
    user_id = TextField()
    scopes = TextField()
    create_time = BigIntegerField()
    expire_time = BigIntegerField(null=True)
    revoke_time = BigIntegerField(null=True)

    class Meta:
        table_name = "keys"


class Projects(peewee.Model):
    """Groups of issues."""

    id = TextField(primary_key=True)
    workspace_id = TextField()
    key = TextField()
    create_time = BigIntegerField()

    class Meta:
        table_name = "projects"


class Issues(peewee.Model):
    """Issues of foreign trackers."""

    id = TextField(primary_key=True)
    workspace_id = TextField()
    key = TextField()
    external_refs = TextField()
    project_id = TextField()
    title = TextField()
    parent_issue_id = TextField()
    status_id = TextField()
    status_name = TextField()
    status_color = TextField()
    status_category = TextField()
    assignees = TextField()
    completed = BooleanField()
    metadata = TextField()
    create_time = BigIntegerField()
    update_time = BigIntegerField()
    delete_time = BigIntegerField(null=True)
    version = BigIntegerField()

    class Meta:
        table_name = "issues"


class IssueAssignees(peewee.Model):
    """Who issues are assigned to, a second time and to be searched; the order is in the issue."""

    issue_id = TextField()
    assignee_id = TextField()

    class Meta:
        table_name = "issue_assignees"
        primary_key = CompositeKey("assignee_id", "issue_id")


class Blobs(peewee.Model):
    """Stored bytes, once for each content of a workspace."""

    id = TextField(primary_key=True)
    workspace_id = TextField()
    key = TextField()
    crc32c = BigIntegerField(null=True)
    md5 = BlobField(null=True)
    sha256 = BlobField(null=True)
    size_bytes = BigIntegerField()
    location = TextField()
    create_time = BigIntegerField()

    class Meta:
        table_name = "blobs"


class BlobBytes(peewee.Model):
    """The bytes of small blobs, apart from their rows so that walking over those stays cheap."""

    blob_id = TextField(primary_key=True, constraints=[SQL('REFERENCES "blobs" ("id") ON DELETE CASCADE')])
    data = BlobField()

    class Meta:
        table_name = "blob_bytes"


class Files(peewee.Model):
    """Files; size and digests are copies of their blob's, which never change."""

    id = TextField(primary_key=True)
    workspace_id = TextField()
    blob_id = TextField(constraints=[SQL('REFERENCES "blobs" ("id")')])
    name = TextField()
    content_type = TextField()
    detected_content_type = TextField()
    size_bytes = BigIntegerField()
    crc32c = BigIntegerField(null=True)
    md5 = BlobField(null=True)
    sha256 = BlobField(null=True)
    type = TextField()
    state = TextField()
    media = TextField()
    metadata = TextField()
    external_source = TextField()
    external_id = TextField()
    creator_id = TextField()
    create_time = BigIntegerField()
    update_time = BigIntegerField()
    delete_time = BigIntegerField(null=True)
    detach_time = BigIntegerField(null=True)
    was_attached = BooleanField()
    version = BigIntegerField()
    preview = TextField(constraints=[SQL("DEFAULT ''")])

    class Meta:
        table_name = "files"


class MediaJobs(peewee.Model):
    """What is found out about blobs by decoding and scanning them, and what is still to be."""

    blob_id = TextField(primary_key=True, constraints=[SQL('REFERENCES "blobs" ("id") ON DELETE CASCADE')])
    workspace_id = TextField()
    content_type = TextField()
    is_done = BooleanField()
    is_scanned = BooleanField()
    finding = TextField()
    preview = TextField()
    media = TextField()
    attempts = BigIntegerField()
    epoch = BigIntegerField()
    due_time = BigIntegerField()
    create_time = BigIntegerField()

    class Meta:
        table_name = "media_jobs"


class Renditions(peewee.Model):
    """Which blobs show which."""

    blob_id = TextField(constraints=[SQL('REFERENCES "blobs" ("id") ON DELETE CASCADE')])
    name = TextField()
    shown_blob_id = TextField(constraints=[SQL('REFERENCES "blobs" ("id") ON DELETE CASCADE')])
    content_type = TextField()
    width = BigIntegerField()
    height = BigIntegerField()

    class Meta:
        table_name = "renditions"
        primary_key = peewee.CompositeKey("blob_id", "name")


class Attachments(peewee.Model):
    """URLs and files on subjects."""

    id = TextField(primary_key=True)
    workspace_id = TextField()
    subject_type = TextField()
    subject_id = TextField()
    subject_key = TextField()
    url = TextField()
    normalized_url = TextField()
    url_key = TextField()
    file_id = TextField()
    title = TextField()
    subtitle = TextField()
    icon_url = TextField()
    group_key = TextField()
    metadata = TextField()
    external_source = TextField()
    external_id = TextField()
    sequence_number = BigIntegerField(null=True)
    creator_id = TextField()
    updater_id = TextField()
    create_time = BigIntegerField()
    update_time = BigIntegerField()
    archive_time = BigIntegerField(null=True)
    delete_time = BigIntegerField(null=True)
    purge_time = BigIntegerField(null=True)
    version = BigIntegerField()
    shown_creator = TextField(constraints=[SQL("DEFAULT ''")])

    class Meta:
        table_name = "attachments"


class Tickets(peewee.Model):
    """Upload tickets; `spec` is JSON, since nothing is searched by it."""

    id = TextField(primary_key=True)
    workspace_id = TextField()
    state = TextField()
    spec = TextField()
    transport = TextField()
    subject_type = TextField()
    subject_id = TextField()
    subject_key = TextField()
    skip_existing_check = BooleanField()
    committed_size = BigIntegerField()
    committed_crc32c = BigIntegerField()
    writer_epoch = BigIntegerField()
    append_offset = BigIntegerField()
    append_crc32c = BigIntegerField()
    file_id = TextField()
    attachment_id = TextField()
    outcome = TextField()
    error_reason = TextField()
    error_message = TextField()
    creator_id = TextField()
    create_time = BigIntegerField()
    expire_time = BigIntegerField()
    staged_removed = BooleanField()
    reserved_bytes = BigIntegerField()
    verify_until = BigIntegerField()
    is_asset = BooleanField(constraints=[SQL("DEFAULT FALSE")])

    class Meta:
        table_name = "tickets"


class UploadSessions(peewee.Model):
    """How far uploads into a blob store elsewhere have come, and the bytes of each that wait here."""

    name = TextField(primary_key=True)
    url = TextField()
    epoch = BigIntegerField()
    is_direct = BooleanField()
    sent_bytes = BigIntegerField()
    tail = BlobField()
    location = TextField()
    create_time = BigIntegerField()
    update_time = BigIntegerField()

    class Meta:
        table_name = "upload_sessions"


class Condemned(peewee.Model):
    """Where bytes without a row lay that a sweep removes; none may name them any more."""

    location = TextField(primary_key=True)
    condemn_time = BigIntegerField()

    class Meta:
        table_name = "condemned"


class Leases(peewee.Model):
    """What one process at a time may do, and until when."""

    name = TextField(primary_key=True)
    holder = TextField()
    expire_time = BigIntegerField()

    class Meta:
        table_name = "leases"


class Links(peewee.Model):
    """Plain references from subjects to URLs."""

    id = TextField(primary_key=True)
    workspace_id = TextField()
    subject_type = TextField()
    subject_id = TextField()
    subject_key = TextField()
    url = TextField()
    normalized_url = TextField()
    url_key = TextField()
    title = TextField()
    creator_id = TextField()
    create_time = BigIntegerField()
    version = BigIntegerField()

    class Meta:
        table_name = "links"


class Activities(peewee.Model):
    """The log; `seq` is never given twice, so that a cursor keeps its meaning."""

    seq = BigAutoField()
    id = TextField()
    type = TextField()
    workspace_id = TextField()
    subject_type = TextField()
    subject_id = TextField()
    subject_key = TextField()
    actor_id = TextField()
    occur_time = BigIntegerField()
    resource_id = TextField()
    changed_fields = TextField()
    payload = TextField()
    request_id = TextField()
    visible_to = TextField()

    class Meta:
        table_name = "activities"


class WebhookEndpoints(peewee.Model):
    """Where activities are sent, and how far that has come; secrets are sealed."""

    id = TextField(primary_key=True)
    workspace_id = TextField()
    url = TextField()
    types = TextField()
    subjects = TextField()
    format = TextField()
    description = TextField()
    disabled_reason = TextField()
    secret = BlobField()
    previous_secret = BlobField()
    previous_secret_expire_time = BigIntegerField(null=True)
    creator_id = TextField()
    create_time = BigIntegerField()
    update_time = BigIntegerField()
    version = BigIntegerField()
    log_cursor = BigIntegerField()
    attempts = BigIntegerField()
    failing_since = BigIntegerField(null=True)
    due_time = BigIntegerField()
    claim_time = BigIntegerField()
    epoch = BigIntegerField()
    reader_id = TextField(constraints=[SQL("DEFAULT ''")])

    class Meta:
        table_name = "webhook_endpoints"


class WebhookDeliveries(peewee.Model):
    """What came of sending activities to them."""

    id = TextField(primary_key=True)
    workspace_id = TextField()
    endpoint_id = TextField()
    activity_id = TextField()
    activity_type = TextField()
    state = TextField()
    attempts = BigIntegerField()
    status = BigIntegerField()
    error = TextField()
    duration = BigIntegerField()
    create_time = BigIntegerField()
    attempt_time = BigIntegerField()
    next_time = BigIntegerField(null=True)

    class Meta:
        table_name = "webhook_deliveries"


class Repeats(peewee.Model):
    """Answers kept for calls that are made again."""

    key = TextField(primary_key=True)
    fingerprint = BlobField()
    answer = BlobField()
    create_time = BigIntegerField()

    class Meta:
        table_name = "repeats"


ALL: tuple[type[peewee.Model], ...] = (
    StoreInfo,
    Workspaces,
    Users,
    Keys,
    Projects,
    Issues,
    IssueAssignees,
    Blobs,
    BlobBytes,
    Files,
    MediaJobs,
    Renditions,
    Attachments,
    Tickets,
    UploadSessions,
    Condemned,
    Leases,
    Links,
    Activities,
    WebhookEndpoints,
    WebhookDeliveries,
    Repeats,
)


def _index(model: type[peewee.Model], name: str, *fields: object, unique: bool = False, where: Any = None) -> None:  # noqa: ANN401 - any Peewee expression.
    model.add_index(model.index(*fields, name=name, unique=unique, where=where))


# What must be unique. An attachment's keys begin with what is also looked up alone: a URL, a file.
_index(Workspaces, "workspaces_slug", Workspaces.slug, unique=True)
_index(Users, "users_name", Users.workspace_id, Users.display_name, unique=True)
_index(Keys, "keys_hash", Keys.key_hash, unique=True)
_index(Projects, "projects_key", Projects.workspace_id, Projects.key, unique=True)
_index(Issues, "issues_key", Issues.workspace_id, Issues.key, unique=True)
_index(Blobs, "blobs_key", Blobs.key, unique=True)
_index(
    Attachments,
    "attachments_live_url",
    Attachments.workspace_id,
    Attachments.url_key,
    Attachments.subject_type,
    Attachments.subject_id,
    unique=True,
    where=Attachments.delete_time.is_null() & (Attachments.url_key != EMPTY),
)
_index(
    Attachments,
    "attachments_live_file",
    Attachments.file_id,
    Attachments.subject_type,
    Attachments.subject_id,
    unique=True,
    where=Attachments.delete_time.is_null() & (Attachments.file_id != EMPTY),
)
_index(Links, "links_url", Links.workspace_id, Links.subject_type, Links.subject_id, Links.url_key, unique=True)
_index(Activities, "activities_id", Activities.id, unique=True)
_index(
    WebhookDeliveries,
    "webhook_deliveries_activity",
    WebhookDeliveries.endpoint_id,
    WebhookDeliveries.activity_id,
    unique=True,
)

# What is listed page by page.
_index(Issues, "issues_page", Issues.workspace_id, Issues.create_time, Issues.id)
_index(Files, "files_page", Files.workspace_id, Files.create_time, Files.id)
_index(Files, "files_creator", Files.creator_id, Files.create_time, Files.id)
_index(
    Attachments,
    "attachments_page",
    Attachments.workspace_id,
    Attachments.subject_type,
    Attachments.subject_id,
    Attachments.create_time,
    Attachments.id,
)
_index(
    Attachments,
    "attachments_changed",
    Attachments.workspace_id,
    Attachments.subject_type,
    Attachments.subject_id,
    Attachments.update_time,
    Attachments.id,
)
_index(Attachments, "attachments_all", Attachments.workspace_id, Attachments.create_time, Attachments.id)
_index(Tickets, "tickets_page", Tickets.workspace_id, Tickets.create_time, Tickets.id)
_index(Links, "links_all", Links.workspace_id, Links.create_time, Links.id)
_index(Links, "links_page", Links.workspace_id, Links.subject_type, Links.subject_id, Links.create_time, Links.id)
_index(Activities, "activities_page", Activities.workspace_id, Activities.seq)
_index(
    Activities,
    "activities_subject",
    Activities.workspace_id,
    Activities.subject_type,
    Activities.subject_id,
    Activities.seq,
)
_index(
    WebhookEndpoints,
    "webhook_endpoints_page",
    WebhookEndpoints.workspace_id,
    WebhookEndpoints.create_time,
    WebhookEndpoints.id,
)
_index(
    WebhookDeliveries,
    "webhook_deliveries_page",
    WebhookDeliveries.endpoint_id,
    WebhookDeliveries.create_time,
    WebhookDeliveries.id,
)

# What is looked up, or swept away.
_index(Keys, "keys_workspace", Keys.workspace_id)
_index(Issues, "issues_parent", Issues.parent_issue_id)
_index(IssueAssignees, "issue_assignees_issue", IssueAssignees.issue_id)
_index(Blobs, "blobs_md5", Blobs.md5, where=Blobs.md5.is_null(is_null=False))
_index(Blobs, "blobs_location", Blobs.location)
_index(Files, "files_blob", Files.blob_id)
_index(Files, "files_deleted", Files.delete_time, where=Files.delete_time.is_null(is_null=False))
_index(Files, "files_detached", Files.detach_time, where=Files.detach_time.is_null(is_null=False))
_index(Attachments, "attachments_file", Attachments.file_id, where=Attachments.file_id != EMPTY)
_index(
    Attachments,
    "attachments_deleted",
    Attachments.delete_time,
    where=Attachments.delete_time.is_null(is_null=False),
)
_index(Tickets, "tickets_due", Tickets.state, Tickets.expire_time)
_index(MediaJobs, "media_jobs_due", MediaJobs.due_time, where=~MediaJobs.is_done)
_index(Renditions, "renditions_shown", Renditions.shown_blob_id)
_index(Tickets, "tickets_staged", Tickets.state, where=~Tickets.staged_removed)
_index(Repeats, "repeats_age", Repeats.create_time)
_index(
    WebhookEndpoints, "webhook_endpoints_enabled", WebhookEndpoints.id, where=WebhookEndpoints.disabled_reason == EMPTY
)
_index(WebhookDeliveries, "webhook_deliveries_age", WebhookDeliveries.attempt_time)

"""The first schema. `tables.py` says what each table is for."""

from __future__ import annotations

import secrets

from peewee import Database, SqliteDatabase

SQLITE = {"INT": "INTEGER", "BOOL": "INTEGER", "BYTES": "BLOB", "SEQ": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT"}
POSTGRESQL = {"INT": "BIGINT", "BOOL": "BOOLEAN", "BYTES": "BYTEA", "SEQ": "BIGSERIAL NOT NULL PRIMARY KEY"}

SCHEMA = """
CREATE TABLE store_info (
  name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL
);
CREATE TABLE workspaces (
  id TEXT NOT NULL PRIMARY KEY, slug TEXT NOT NULL, name TEXT NOT NULL, create_time {INT} NOT NULL,
  used_bytes {INT} NOT NULL, reserved_bytes {INT} NOT NULL
);
CREATE UNIQUE INDEX workspaces_slug ON workspaces (slug);
CREATE TABLE users (
  id TEXT NOT NULL PRIMARY KEY, workspace_id TEXT NOT NULL, kind TEXT NOT NULL, display_name TEXT NOT NULL,
  icon_url TEXT NOT NULL, create_time {INT} NOT NULL
);
CREATE UNIQUE INDEX users_name ON users (workspace_id, display_name);
CREATE TABLE keys (
  id TEXT NOT NULL PRIMARY KEY, key_hash {BYTES} NOT NULL, workspace_id TEXT NOT NULL, user_id TEXT NOT NULL,
  scopes TEXT NOT NULL, create_time {INT} NOT NULL, expire_time {INT}, revoke_time {INT}
);
CREATE UNIQUE INDEX keys_hash ON keys (key_hash);
CREATE INDEX keys_workspace ON keys (workspace_id);
CREATE TABLE projects (
  id TEXT NOT NULL PRIMARY KEY, workspace_id TEXT NOT NULL, key TEXT NOT NULL, create_time {INT} NOT NULL
);
CREATE UNIQUE INDEX projects_key ON projects (workspace_id, key);
CREATE TABLE issues (
  id TEXT NOT NULL PRIMARY KEY, workspace_id TEXT NOT NULL, key TEXT NOT NULL, external_refs TEXT NOT NULL,
  project_id TEXT NOT NULL, title TEXT NOT NULL, parent_issue_id TEXT NOT NULL, status_id TEXT NOT NULL,
  status_name TEXT NOT NULL, status_color TEXT NOT NULL, status_category TEXT NOT NULL, assignees TEXT NOT NULL,
  completed {BOOL} NOT NULL, metadata TEXT NOT NULL, create_time {INT} NOT NULL, update_time {INT} NOT NULL,
  delete_time {INT}, version {INT} NOT NULL
);
CREATE UNIQUE INDEX issues_key ON issues (workspace_id, key);
CREATE INDEX issues_page ON issues (workspace_id, create_time, id);
CREATE INDEX issues_parent ON issues (parent_issue_id);
CREATE TABLE issue_assignees (
  issue_id TEXT NOT NULL, assignee_id TEXT NOT NULL, PRIMARY KEY (assignee_id, issue_id)
);
CREATE INDEX issue_assignees_issue ON issue_assignees (issue_id);
CREATE TABLE blobs (
  id TEXT NOT NULL PRIMARY KEY, workspace_id TEXT NOT NULL, key TEXT NOT NULL, crc32c {INT}, md5 {BYTES},
  sha256 {BYTES}, size_bytes {INT} NOT NULL, location TEXT NOT NULL, create_time {INT} NOT NULL
);
CREATE UNIQUE INDEX blobs_key ON blobs (key);
CREATE INDEX blobs_md5 ON blobs (md5) WHERE md5 IS NOT NULL;
CREATE INDEX blobs_location ON blobs (location);
CREATE TABLE blob_bytes (
  blob_id TEXT NOT NULL PRIMARY KEY REFERENCES blobs (id) ON DELETE CASCADE, data {BYTES} NOT NULL
);
CREATE TABLE files (
  id TEXT NOT NULL PRIMARY KEY, workspace_id TEXT NOT NULL, blob_id TEXT NOT NULL REFERENCES blobs (id),
  name TEXT NOT NULL, content_type TEXT NOT NULL, detected_content_type TEXT NOT NULL,
  size_bytes {INT} NOT NULL, crc32c {INT}, md5 {BYTES}, sha256 {BYTES}, type TEXT NOT NULL, state TEXT NOT NULL,
  media TEXT NOT NULL, metadata TEXT NOT NULL, external_source TEXT NOT NULL, external_id TEXT NOT NULL,
  creator_id TEXT NOT NULL, create_time {INT} NOT NULL, update_time {INT} NOT NULL, delete_time {INT},
  detach_time {INT}, was_attached {BOOL} NOT NULL, version {INT} NOT NULL
);
CREATE INDEX files_page ON files (workspace_id, create_time, id);
CREATE INDEX files_creator ON files (creator_id, create_time, id);
CREATE INDEX files_blob ON files (blob_id);
CREATE INDEX files_deleted ON files (delete_time) WHERE delete_time IS NOT NULL;
CREATE INDEX files_detached ON files (detach_time) WHERE detach_time IS NOT NULL;
CREATE TABLE attachments (
  id TEXT NOT NULL PRIMARY KEY, workspace_id TEXT NOT NULL, subject_type TEXT NOT NULL,
  subject_id TEXT NOT NULL, subject_key TEXT NOT NULL, url TEXT NOT NULL, normalized_url TEXT NOT NULL,
  url_key TEXT NOT NULL, file_id TEXT NOT NULL, title TEXT NOT NULL, subtitle TEXT NOT NULL,
  icon_url TEXT NOT NULL, group_key TEXT NOT NULL, metadata TEXT NOT NULL, external_source TEXT NOT NULL,
  external_id TEXT NOT NULL, sequence_number {INT}, creator_id TEXT NOT NULL, updater_id TEXT NOT NULL,
  create_time {INT} NOT NULL, update_time {INT} NOT NULL, archive_time {INT}, delete_time {INT},
  purge_time {INT}, version {INT} NOT NULL
);
CREATE UNIQUE INDEX attachments_live_url ON attachments (workspace_id, url_key, subject_type, subject_id) WHERE
  delete_time IS NULL AND url_key <> '';
CREATE UNIQUE INDEX attachments_live_file ON attachments (file_id, subject_type, subject_id) WHERE delete_time
  IS NULL AND file_id <> '';
CREATE INDEX attachments_page ON attachments (workspace_id, subject_type, subject_id, create_time, id);
CREATE INDEX attachments_changed ON attachments (workspace_id, subject_type, subject_id, update_time, id);
CREATE INDEX attachments_all ON attachments (workspace_id, create_time, id);
CREATE INDEX attachments_file ON attachments (file_id) WHERE file_id <> '';
CREATE INDEX attachments_deleted ON attachments (delete_time) WHERE delete_time IS NOT NULL;
CREATE TABLE tickets (
  id TEXT NOT NULL PRIMARY KEY, workspace_id TEXT NOT NULL, state TEXT NOT NULL, spec TEXT NOT NULL,
  transport TEXT NOT NULL, subject_type TEXT NOT NULL, subject_id TEXT NOT NULL, subject_key TEXT NOT NULL,
  skip_existing_check {BOOL} NOT NULL, committed_size {INT} NOT NULL, committed_crc32c {INT} NOT NULL,
  writer_epoch {INT} NOT NULL, append_offset {INT} NOT NULL, append_crc32c {INT} NOT NULL,
  file_id TEXT NOT NULL, attachment_id TEXT NOT NULL, outcome TEXT NOT NULL, error_reason TEXT NOT NULL,
  error_message TEXT NOT NULL, creator_id TEXT NOT NULL, create_time {INT} NOT NULL, expire_time {INT} NOT NULL,
  staged_removed {BOOL} NOT NULL, reserved_bytes {INT} NOT NULL, verify_until {INT} NOT NULL
);
CREATE INDEX tickets_page ON tickets (workspace_id, create_time, id);
CREATE INDEX tickets_due ON tickets (state, expire_time);
CREATE INDEX tickets_staged ON tickets (state) WHERE NOT staged_removed;
CREATE TABLE upload_sessions (
  name TEXT NOT NULL PRIMARY KEY, url TEXT NOT NULL, epoch {INT} NOT NULL, is_direct {BOOL} NOT NULL,
  sent_bytes {INT} NOT NULL, tail {BYTES} NOT NULL, location TEXT NOT NULL, create_time {INT} NOT NULL,
  update_time {INT} NOT NULL
);
CREATE TABLE condemned (
  location TEXT NOT NULL PRIMARY KEY, condemn_time {INT} NOT NULL
);
CREATE TABLE leases (
  name TEXT NOT NULL PRIMARY KEY, holder TEXT NOT NULL, expire_time {INT} NOT NULL
);
CREATE TABLE links (
  id TEXT NOT NULL PRIMARY KEY, workspace_id TEXT NOT NULL, subject_type TEXT NOT NULL,
  subject_id TEXT NOT NULL, subject_key TEXT NOT NULL, url TEXT NOT NULL, normalized_url TEXT NOT NULL,
  url_key TEXT NOT NULL, title TEXT NOT NULL, creator_id TEXT NOT NULL, create_time {INT} NOT NULL,
  version {INT} NOT NULL
);
CREATE UNIQUE INDEX links_url ON links (workspace_id, subject_type, subject_id, url_key);
CREATE INDEX links_all ON links (workspace_id, create_time, id);
CREATE INDEX links_page ON links (workspace_id, subject_type, subject_id, create_time, id);
CREATE TABLE activities (
  seq {SEQ}, id TEXT NOT NULL, type TEXT NOT NULL, workspace_id TEXT NOT NULL, subject_type TEXT NOT NULL,
  subject_id TEXT NOT NULL, subject_key TEXT NOT NULL, actor_id TEXT NOT NULL, occur_time {INT} NOT NULL,
  resource_id TEXT NOT NULL, changed_fields TEXT NOT NULL, payload TEXT NOT NULL, request_id TEXT NOT NULL,
  visible_to TEXT NOT NULL
);
CREATE UNIQUE INDEX activities_id ON activities (id);
CREATE INDEX activities_page ON activities (workspace_id, seq);
CREATE INDEX activities_subject ON activities (workspace_id, subject_type, subject_id, seq);
CREATE TABLE repeats (
  key TEXT NOT NULL PRIMARY KEY, fingerprint {BYTES} NOT NULL, answer {BYTES} NOT NULL,
  create_time {INT} NOT NULL
);
CREATE INDEX repeats_age ON repeats (create_time);
"""


def up(_migrator: object, db: Database) -> None:
    """Create everything, and give the database an identity."""
    is_sqlite = isinstance(db, SqliteDatabase)
    schema = SCHEMA.format(**(SQLITE if is_sqlite else POSTGRESQL))
    if not is_sqlite:
        # Pages follow each other in the order of texts, which is that of their bytes, as it is in SQLite.
        schema = schema.replace(" TEXT ", ' TEXT COLLATE "C" ')
    for statement in schema.split(";"):
        if statement.strip():
            db.execute_sql(statement)
    facts = (
        f"('store_id', '{secrets.token_hex(16)}'), ('activity_floor', '0'), ('signing_key', '{secrets.token_hex(32)}')"
    )
    db.execute_sql(f"INSERT INTO store_info (name, value) VALUES {facts}")  # noqa: S608 - nothing from outside.

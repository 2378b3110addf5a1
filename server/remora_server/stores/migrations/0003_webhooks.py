"""Webhooks: where activities are sent, and what came of it."""

from __future__ import annotations

from peewee import Database, SqliteDatabase

SQLITE = {"INT": "INTEGER", "BYTES": "BLOB"}
POSTGRESQL = {"INT": "BIGINT", "BYTES": "BYTEA"}

SCHEMA = """
CREATE TABLE webhook_endpoints (
  id TEXT NOT NULL PRIMARY KEY, workspace_id TEXT NOT NULL, url TEXT NOT NULL, types TEXT NOT NULL,
  subjects TEXT NOT NULL, format TEXT NOT NULL, description TEXT NOT NULL, disabled_reason TEXT NOT NULL,
  secret {BYTES} NOT NULL, previous_secret {BYTES} NOT NULL, previous_secret_expire_time {INT},
  creator_id TEXT NOT NULL, create_time {INT} NOT NULL, update_time {INT} NOT NULL, version {INT} NOT NULL,
  log_cursor {INT} NOT NULL, attempts {INT} NOT NULL, failing_since {INT}, due_time {INT} NOT NULL,
  claim_time {INT} NOT NULL, epoch {INT} NOT NULL
);
CREATE INDEX webhook_endpoints_page ON webhook_endpoints (workspace_id, create_time, id);
CREATE INDEX webhook_endpoints_enabled ON webhook_endpoints (id) WHERE disabled_reason = '';
CREATE TABLE webhook_deliveries (
  id TEXT NOT NULL PRIMARY KEY, workspace_id TEXT NOT NULL,
  endpoint_id TEXT NOT NULL REFERENCES webhook_endpoints (id) ON DELETE CASCADE, activity_id TEXT NOT NULL,
  activity_type TEXT NOT NULL, state TEXT NOT NULL, attempts {INT} NOT NULL, status {INT} NOT NULL,
  error TEXT NOT NULL, duration {INT} NOT NULL, create_time {INT} NOT NULL, attempt_time {INT} NOT NULL,
  next_time {INT}
);
CREATE UNIQUE INDEX webhook_deliveries_activity ON webhook_deliveries (endpoint_id, activity_id);
CREATE INDEX webhook_deliveries_page ON webhook_deliveries (endpoint_id, create_time, id);
CREATE INDEX webhook_deliveries_age ON webhook_deliveries (attempt_time);
"""


def up(_migrator: object, db: Database) -> None:
    """Add what webhooks need."""
    is_sqlite = isinstance(db, SqliteDatabase)
    schema = SCHEMA.format(**(SQLITE if is_sqlite else POSTGRESQL))
    if not is_sqlite:
        schema = schema.replace(" TEXT ", ' TEXT COLLATE "C" ')
    for statement in schema.split(";"):
        if statement.strip():
            db.execute_sql(statement)

"""Whose private things an endpoint of webhooks is told, and deliveries that outlive their endpoint until a sweep."""

from __future__ import annotations

from peewee import Database, SqliteDatabase

READER = {True: "TEXT NOT NULL DEFAULT ''", False: "TEXT COLLATE \"C\" NOT NULL DEFAULT ''"}

# SQLite takes no constraint from a table: the rows move to another one.
WITHOUT_REFERENCE = """
CREATE TABLE kept_webhook_deliveries (
  id TEXT NOT NULL PRIMARY KEY, workspace_id TEXT NOT NULL, endpoint_id TEXT NOT NULL, activity_id TEXT NOT NULL,
  activity_type TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL, status INTEGER NOT NULL,
  error TEXT NOT NULL, duration INTEGER NOT NULL, create_time INTEGER NOT NULL, attempt_time INTEGER NOT NULL,
  next_time INTEGER
);
INSERT INTO kept_webhook_deliveries (
  id, workspace_id, endpoint_id, activity_id, activity_type, state, attempts, status, error, duration, create_time,
  attempt_time, next_time
) SELECT
  id, workspace_id, endpoint_id, activity_id, activity_type, state, attempts, status, error, duration, create_time,
  attempt_time, next_time
FROM webhook_deliveries;
DROP TABLE webhook_deliveries;
ALTER TABLE kept_webhook_deliveries RENAME TO webhook_deliveries;
CREATE UNIQUE INDEX webhook_deliveries_activity ON webhook_deliveries (endpoint_id, activity_id);
CREATE INDEX webhook_deliveries_page ON webhook_deliveries (endpoint_id, create_time, id);
CREATE INDEX webhook_deliveries_age ON webhook_deliveries (attempt_time)
"""


def up(_migrator: object, db: Database) -> None:
    """Have each endpoint read for its creator, and deliveries refer to nothing."""
    is_sqlite = isinstance(db, SqliteDatabase)
    db.execute_sql(f"ALTER TABLE webhook_endpoints ADD COLUMN reader_id {READER[is_sqlite]}")
    db.execute_sql("UPDATE webhook_endpoints SET reader_id = creator_id")
    if not is_sqlite:
        db.execute_sql("ALTER TABLE webhook_deliveries DROP CONSTRAINT webhook_deliveries_endpoint_id_fkey")
        return
    for statement in WITHOUT_REFERENCE.split(";"):
        db.execute_sql(statement)

"""What is found out about content: jobs, what shows a blob, and the preview of a file."""

from __future__ import annotations

from peewee import Database, SqliteDatabase

SQLITE = {"INT": "INTEGER", "BOOL": "INTEGER"}
POSTGRESQL = {"INT": "BIGINT", "BOOL": "BOOLEAN"}

SCHEMA = """
ALTER TABLE files ADD COLUMN preview TEXT NOT NULL DEFAULT '';
CREATE TABLE media_jobs (
  blob_id TEXT NOT NULL PRIMARY KEY REFERENCES blobs (id) ON DELETE CASCADE, workspace_id TEXT NOT NULL,
  content_type TEXT NOT NULL, is_done {BOOL} NOT NULL, is_scanned {BOOL} NOT NULL, finding TEXT NOT NULL,
  preview TEXT NOT NULL, media TEXT NOT NULL, attempts {INT} NOT NULL, epoch {INT} NOT NULL, due_time {INT} NOT NULL,
  create_time {INT} NOT NULL
);
CREATE INDEX media_jobs_due ON media_jobs (due_time) WHERE NOT is_done;
CREATE TABLE renditions (
  blob_id TEXT NOT NULL REFERENCES blobs (id) ON DELETE CASCADE, name TEXT NOT NULL,
  shown_blob_id TEXT NOT NULL REFERENCES blobs (id) ON DELETE CASCADE, content_type TEXT NOT NULL,
  width {INT} NOT NULL, height {INT} NOT NULL, PRIMARY KEY (blob_id, name)
);
CREATE INDEX renditions_shown ON renditions (shown_blob_id);
"""


def up(_migrator: object, db: Database) -> None:
    """Add what media needs."""
    is_sqlite = isinstance(db, SqliteDatabase)
    schema = SCHEMA.format(**(SQLITE if is_sqlite else POSTGRESQL))
    if not is_sqlite:
        schema = schema.replace(" TEXT ", ' TEXT COLLATE "C" ')
    for statement in schema.split(";"):
        if statement.strip():
            db.execute_sql(statement)

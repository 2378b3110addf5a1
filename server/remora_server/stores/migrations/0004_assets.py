"""What systems have that give the URL of an upload before its bytes, or show another name for who attached it."""

from __future__ import annotations

from peewee import Database, SqliteDatabase

NO = {True: "INTEGER NOT NULL DEFAULT FALSE", False: "BOOLEAN NOT NULL DEFAULT FALSE"}
NOTHING = {True: "TEXT NOT NULL DEFAULT ''", False: "TEXT COLLATE \"C\" NOT NULL DEFAULT ''"}


def up(_migrator: object, db: Database) -> None:
    """Add a column to tickets, and one to attachments."""
    is_sqlite = isinstance(db, SqliteDatabase)
    db.execute_sql(f"ALTER TABLE tickets ADD COLUMN is_asset {NO[is_sqlite]}")
    db.execute_sql(f"ALTER TABLE attachments ADD COLUMN shown_creator {NOTHING[is_sqlite]}")

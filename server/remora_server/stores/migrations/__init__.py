"""Numbered steps that bring a database to the current schema, each run once and noted in `schema_migration`.

A step is a file `0002_what_it_does.py` with `up(migrator, db)`; see `playhouse.migrations`. A step that has been
released is never edited. It spells out its SQL and imports nothing of `tables.py`, which knows only the newest schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from playhouse.migrations import Runner

from remora_server.stores.database import Database

HERE = Path(__file__).parent


def migrate(database: Database) -> Sequence[str]:
    """Create the database if need be and run what steps are missing; return their names. Several may do so at once."""
    database.create()
    with database.exclusively():
        # The list of missing steps is made under the lock too, so that whoever waited for it finds nothing left to do.
        done: list[str] = Runner(database.inner, str(HERE)).up()
    return done


def check(database: Database) -> bool:
    """Tell whether the database has exactly the steps that this version knows."""
    if not database.exists():
        return False
    with database.looked_at():
        runner = Runner(database.inner, str(HERE))
        return {step.name for step in runner.migrations()} == set(runner.applied())

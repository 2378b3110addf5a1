"""Commands about the log of changes: activity, watch."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from remora.cli import show
from remora.cli.settings import settings_of

SHOWN = 100


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command(epilog="Example: remora activity DEMO-1 --limit 20")(activity)
    app.command(epilog="Example: remora watch DEMO-1 --json   (^C ends it, with exit code 0)")(watch)


def activity(
    context: typer.Context,
    issue: Annotated[str, typer.Argument(metavar="ISSUE", help="The issue, for example DEMO-1.")],
    limit: Annotated[int, typer.Option(min=0, help="How many at most; 0 for all.")] = SHOWN,
) -> None:
    """List what happened on an issue, newest first."""
    settings = settings_of(context)
    with settings.client() as client:
        found = islice(client.activity(issue), limit or None)
        if settings.json:
            for entry in found:
                show.line(show.activity(entry))
        elif rows := [show.activity_columns(entry) for entry in found]:
            show.columns(rows)
        else:
            show.text(f"nothing happened on {issue} yet")


def watch(
    context: typer.Context,
    issue: Annotated[str, typer.Argument(metavar="ISSUE", help="The issue, for example DEMO-1.")],
    cursor: Annotated[str, typer.Option(help="Begin after this activity's cursor.", show_default=False)] = "",
) -> None:
    """Print what happens on an issue, as it happens, until ^C."""
    settings = settings_of(context)
    with settings.client() as client:
        try:
            for entry in client.watch(issue, cursor or None):
                if settings.json:
                    show.line(show.activity(entry))
                else:
                    show.text("  ".join(show.activity_columns(entry)).rstrip())
        except KeyboardInterrupt:
            return  # The way to end it.

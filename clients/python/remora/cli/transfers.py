"""Commands that move files: put, get, tickets."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

import remora
from remora.cli import refusals, show
from remora.cli.display import progress_shown
from remora.cli.settings import PATIENCE_SECONDS, Settings, UsageError, settings_of

MetadataOption = Annotated[
    list[str] | None, typer.Option("--meta", metavar="K=V", help="A value of your own; repeatable.")
]


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command(epilog="Example: remora put DEMO-1 big.iso   (or: tar c src | remora put DEMO-1 - --name src.tar)")(put)
    app.command(epilog="Example: remora get DEMO-1 big.iso -o copy.iso   (or: remora get fil_... --thumbnail)")(get)
    app.command(epilog="Example: remora tickets --json")(tickets)


def put(
    context: typer.Context,
    issue: Annotated[str, typer.Argument(metavar="ISSUE", help="Where to attach, for example DEMO-1.")],
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="What to upload; - is standard input.")],
    name: Annotated[str, typer.Option(help="Another name for the file.", show_default=False)] = "",
    content_type: Annotated[str, typer.Option(help="Its content type.", show_default=False)] = "",
    meta: MetadataOption = None,
    patience: Annotated[float, typer.Option(help="Seconds to go on trying while nothing arrives.")] = PATIENCE_SECONDS,
) -> None:
    """Upload files and attach them to an issue.

    An upload that was interrupted goes on where it was, and content that is stored already is not sent.
    """
    settings = settings_of(context)
    metadata = metadata_from_options(meta)
    if name and len(files) > 1:
        raise UsageError("--name is for one file.")
    for file in files:
        if file != "-" and not Path(file).exists():
            raise UsageError(f"{file}: no such file; nothing was sent.")
        if Path(file).is_dir():
            raise UsageError(f"{file} is a folder; name the files in it.")
    failures: list[int] = []
    with settings.client(patience) as client:
        for file in files:
            try:
                _put_one(client, settings, issue, file, name=name, content_type=content_type, metadata=metadata)
            except (remora.RemoraError, OSError) as error:
                failures.append(refusals.tell(error, as_json=settings.json))
                if failures[-1] == refusals.UNREACHED:
                    break  # The next file would wait for as long, and in vain.
            except KeyboardInterrupt:
                command = shlex.join(["remora", *sys.argv[1:]])
                step = f"To go on: {command}" if file != "-" else "Standard input can't be read again: start over."
                raise typer.Exit(refusals.interrupted(step, as_json=settings.json)) from None
    if failures:
        several = refusals.UNREACHED if refusals.UNREACHED in failures else refusals.REFUSED
        raise typer.Exit(failures[0] if len(files) == 1 else several)


def get(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="ISSUE|FILE_ID", help="Where the file is, or its id.")],
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Its name on the issue.")] = None,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="PATH", help="Where to write it; - is standard output.")
    ] = "",
    *,
    preview: Annotated[bool, typer.Option("--preview", help="Get what shows it on a page instead.")] = False,
    thumbnail: Annotated[bool, typer.Option("--thumbnail", help="Get the small picture of it instead.")] = False,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.0, help="How long to wait for a preview that is being made.")
    ] = 0.0,
) -> None:
    """Download a file and verify it.

    The newest is taken if the issue has several files of that name. An interrupted download goes on where it was.
    """
    if preview and thumbnail:
        raise UsageError("--preview and --thumbnail are two forms of the file; give one of them.")
    rendition: remora.Rendition = "preview" if preview else "thumbnail" if thumbnail else "original"
    settings = settings_of(context)
    if name is None and not source.startswith(("fil_", "att_")):
        raise UsageError(f"which file of {source}? Give its name; `remora ls {source}` shows them.")
    if not output and name is not None and (here := _in_the_way(name, rendition)):
        raise UsageError(f"{here} is here already; give -o {shlex.quote(here)} to write over it, or another path.")
    with settings.client() as client:
        try:
            with progress_shown() as on_progress:
                if output == "-":
                    client.get(
                        source,
                        name,
                        to=sys.stdout.buffer,
                        rendition=rendition,
                        wait_seconds=wait,
                        on_progress=on_progress,
                    )
                    sys.stdout.buffer.flush()
                    return
                got = client.get(
                    source,
                    name,
                    to=output or None,
                    rendition=rendition,
                    wait_seconds=wait,
                    on_progress=on_progress,
                )
        except KeyboardInterrupt:
            step = f"To go on: {shlex.join(['remora', *sys.argv[1:]])}"
            raise typer.Exit(refusals.interrupted(step, as_json=settings.json)) from None
    if settings.json:
        show.line(
            {
                "name": got.content.name,
                "file_id": got.file.id,
                "rendition": got.content.rendition,
                "path": str(got.path),
                "content_type": got.content.content_type,
                "size_bytes": got.content.size_bytes,
                "sha256": got.content.sha256,
                "bytes_received": got.bytes_received,
                "resumed_at": got.resumed_at,
            }
        )
    else:
        show.text(f"{got.path}: {show.size(got.content.size_bytes)}, sha256 {got.content.sha256} verified")


def tickets(context: typer.Context) -> None:
    """List your unfinished uploads."""
    settings = settings_of(context)
    with settings.client() as client:
        found = client.tickets()
    if settings.json:
        for ticket in found:
            show.line(show.ticket(ticket))
    elif found:
        show.columns(
            [
                [
                    show.plain(ticket.name),
                    show.size(ticket.committed_size),
                    "of " + (show.size(ticket.size_bytes) if ticket.size_bytes is not None else "?"),
                    f"expires {show.moment(ticket.expire_time)}",
                    ticket.id,
                ]
                for ticket in found
            ]
        )
    else:
        show.text("no unfinished uploads")


def metadata_from_options(options: list[str] | None) -> dict[str, remora.MetadataValue]:
    """Read `key=value` options; values stay text."""
    pairs = [option.partition("=") for option in options or []]
    if any(not key or not equals for key, equals, _ in pairs):
        raise UsageError("--meta takes KEY=VALUE.")
    return {key: value for key, _, value in pairs}


def _in_the_way(name: str, rendition: remora.Rendition) -> str:
    """Name what is here already under the name that a download would get; empty if nothing is."""
    from remora.renditions import possible_names  # noqa: PLC0415 - Loads gRPC, which a wrong usage need not wait for.

    # Which ending a rendition gets is not known before it is asked for.
    names = [name] if rendition == "original" else possible_names(name, rendition)
    return next((one for one in names if Path(one).exists()), "")


def _put_one(
    client: remora.Client,
    settings: Settings,
    issue: str,
    file: str,
    *,
    name: str,
    content_type: str,
    metadata: dict[str, remora.MetadataValue],
) -> None:
    source = sys.stdin.buffer if file == "-" else Path(file)
    own_name = "stdin" if file == "-" else None
    with progress_shown() as on_progress:
        done = client.put(
            issue,
            source,
            name=name or own_name,
            content_type=content_type,
            metadata=metadata,
            on_progress=on_progress,
        )
    if settings.json:
        show.line(show.put(done))
    else:
        outcome = "stored" if done.outcome == "stored" else "already stored"
        if done.file.state == "quarantined":
            outcome += ", but known to be dangerous and quarantined"
        show.text(f"{show.plain(done.name)}: {outcome}, {show.size(done.bytes_sent)} sent  {done.file.id}")

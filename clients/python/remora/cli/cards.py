"""Commands about what hangs on an issue: ls, attach, rm, undelete, links."""

from __future__ import annotations

from typing import Annotated

import typer

import remora
from remora.cli import show
from remora.cli.settings import UsageError, settings_of
from remora.cli.transfers import MetadataOption, metadata_from_options

Issue = Annotated[str, typer.Argument(metavar="ISSUE", help="The issue, for example DEMO-1.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command(epilog="Example: remora ls DEMO-1 --json")(ls)
    app.command(epilog="Example: remora attach DEMO-1 https://ci.example/7 --title 'Build 7' --meta branch=main")(
        attach
    )
    app.command(epilog="Example: remora rm DEMO-1 big.iso   (or: remora rm att_...)")(rm)
    app.command(epilog="Example: remora undelete att_...   (or: remora undelete fil_...)")(undelete)
    links = typer.Typer(
        help="Keep plain links on an issue.",
        epilog="Example: remora links add DEMO-1 https://example.com/design",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    links.command("add", epilog="Example: remora links add DEMO-1 https://example.com/design --title Design")(add_link)
    links.command("ls", epilog="Example: remora links ls DEMO-1")(list_links)
    links.command("rm", epilog="Example: remora links rm lnk_...")(remove_link)
    app.add_typer(links, name="links")


def ls(context: typer.Context, issue: Issue) -> None:
    """List the attachments of an issue, newest first."""
    settings = settings_of(context)
    with settings.client() as client:
        found = client.ls(issue)
    if settings.json:
        for attachment in found:
            show.line(show.attachment(attachment))
    elif found:
        show.columns(
            [
                [
                    show.moment(attachment.create_time),
                    show.size(attachment.file.size_bytes) if attachment.file else attachment.kind,
                    show.plain(attachment.name),
                    show.looks(attachment.file),
                    show.plain(attachment.url) or attachment.file_id,
                    attachment.id,
                ]
                for attachment in found
            ]
        )
    else:
        show.text(f"{issue} has no attachments")


def attach(
    context: typer.Context,
    issue: Issue,
    url: Annotated[str, typer.Argument(metavar="URL", help="What to show.")],
    title: Annotated[str, typer.Option(help="The heading of the card.", show_default=False)] = "",
    subtitle: Annotated[str, typer.Option(help="Its second line.", show_default=False)] = "",
    meta: MetadataOption = None,
    sequence_number: Annotated[
        int | None, typer.Option(help="Change nothing if an equal or higher number is stored.")
    ] = None,
) -> None:
    """Show a URL on an issue, or change the card that shows it; what is left out stays as it is."""
    settings = settings_of(context)
    with settings.client() as client:
        done = client.attach(
            issue,
            url,
            title=title,
            subtitle=subtitle,
            metadata=metadata_from_options(meta),
            sequence_number=sequence_number,
        )
    if settings.json:
        show.line({**show.attachment(done.attachment), "outcome": done.outcome})
    else:
        show.text(f"{show.plain(done.attachment.name)}: {done.outcome}  {done.attachment.id}")


def rm(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="ISSUE|ATTACHMENT_ID|FILE_ID", help="What to remove, or where.")],
    name: Annotated[str | None, typer.Argument(metavar="[NAME|URL]", help="Which attachment of the issue.")] = None,
) -> None:
    """Remove an attachment, or a file with all its attachments. It can be undeleted for a while."""
    settings = settings_of(context)
    if name is None and not target.startswith(("att_", "fil_")):
        raise UsageError(f"which attachment of {target}? Give its name or URL; `remora ls {target}` shows them.")
    with settings.client() as client:
        gone = client.rm(target, name)
    if settings.json:
        kind = "file_id" if isinstance(gone, remora.File) else "attachment_id"
        show.line({kind: gone.id, "name": gone.name, "delete_time": show.timestamp(gone.delete_time)})
    else:
        show.text(f"{show.plain(gone.name)}: removed  {gone.id}")


def undelete(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="ATTACHMENT_ID|FILE_ID", help="What `remora rm` removed.")],
) -> None:
    """Bring back what was removed. A file's attachments stay removed; bring them back one by one."""
    settings = settings_of(context)
    if not target.startswith(("att_", "fil_")):
        raise UsageError(f"{target} is no id; `remora rm` printed the id of what it removed.")
    with settings.client() as client:
        back = client.undelete(target)
    if settings.json:
        kind = "file_id" if isinstance(back, remora.File) else "attachment_id"
        show.line({kind: back.id, "name": back.name})
    else:
        show.text(f"{show.plain(back.name)}: is back  {back.id}")


def add_link(
    context: typer.Context,
    issue: Issue,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where it leads.")],
    title: Annotated[str, typer.Option(help="The text to show.", show_default=False)] = "",
) -> None:
    """Add a link to an issue; one that is there already is left as it is."""
    settings = settings_of(context)
    with settings.client() as client:
        link, created = client.add_link(issue, url, title=title)
    if settings.json:
        show.line({**show.link(link), "created": created})
    else:
        show.text(f"{show.plain(link.title or link.url)}: {'created' if created else 'was there'}  {link.id}")


def list_links(context: typer.Context, issue: Issue) -> None:
    """List the links of an issue, newest first."""
    settings = settings_of(context)
    with settings.client() as client:
        found = client.list_links(issue)
    if settings.json:
        for link in found:
            show.line(show.link(link))
    elif found:
        show.columns([[show.plain(link.title) or "-", show.plain(link.url), link.id] for link in found])
    else:
        show.text(f"{issue} has no links")


def remove_link(
    context: typer.Context,
    link_id: Annotated[str, typer.Argument(metavar="LINK_ID", help="The link.")],
) -> None:
    """Remove a link for good."""
    settings = settings_of(context)
    with settings.client() as client:
        link = client.remove_link(link_id)
    if settings.json:
        show.line(show.link(link))
    else:
        show.text(f"{show.plain(link.title or link.url)}: removed  {link.id}")

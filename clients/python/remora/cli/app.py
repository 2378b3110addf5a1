"""The commands, put together."""

from __future__ import annotations

import os
from typing import Annotated

import typer

import remora
from remora.addresses import DEFAULT_ADDRESS
from remora.cli import cards, log, transfers
from remora.cli.settings import Settings, refuse_unknown

ANYWHERE = "--address, --key, --workspace, --ca, --cert and --json may stand before or after the command."

app = typer.Typer(
    name="remora",
    help="Put files, URL cards and links on issues, and get them back.",
    epilog=f"{ANYWHERE} Exit codes: 0 done, 1 refused by the service, 2 bad usage, 3 could not connect, "
    "130 interrupted (run the same command again to go on). Example: remora put DEMO-1 README.md",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:  # noqa: FBT001 - How Typer calls it.
    if value:
        print(f"remora {remora.__version__}")
        raise typer.Exit


@app.callback()
def _settings(
    context: typer.Context,
    *,
    address: Annotated[str, typer.Option(envvar="REMORA_ADDRESS", help="The server.")] = DEFAULT_ADDRESS,
    key: Annotated[str, typer.Option(envvar="REMORA_KEY", help="Your key.", show_default=False)] = "",
    workspace: Annotated[
        str, typer.Option(envvar="REMORA_WORKSPACE", help="The workspace, by id or slug.", show_default=False)
    ] = "",
    ca: Annotated[
        str,
        typer.Option(envvar="REMORA_CA", help="A file of certificates; turns TLS on.", show_default=False),
    ] = "",
    cert: Annotated[
        str,
        typer.Option(envvar="REMORA_CERT", help="Your certificate with its key, in one file.", show_default=False),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object, or one a line.")] = False,
    version: Annotated[  # noqa: ARG001 - Its callback ends the program.
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    refuse_unknown(os.environ)
    context.obj = Settings(address=address, key=key, workspace=workspace, ca=ca, cert=cert, json=json)


transfers.register(app)
cards.register(app)
log.register(app)

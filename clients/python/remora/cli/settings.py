"""Which server, key and workspace a command is for."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

import remora
from remora.addresses import require_address

PATIENCE_SECONDS = 300.0
WITH_VALUE = ("--address", "--key", "--workspace", "--ca", "--cert")
# The programs share one environment: each refuses a name that neither knows, and passes over the other's settings.
PREFIX = "REMORA_"
IGNORED_PREFIXES = ("REMORA_TEST_", "REMORA_BARS_")
OWN_SETTINGS = ("ADDRESS", "CA", "CERT", "KEY", "WORKSPACE")
SERVER_SETTINGS = (
    "ALLOWED_NETWORKS", "BLOBS", "CORS_ORIGINS", "DATA", "DATABASE_URL", "DEDUP_MODE", "DRAIN_TIMEOUT",
    "GC_GRACE", "GC_INTERVAL", "GLUE_TICKETS", "GRPC_PORT", "HTTP_PORT", "IDLE_TIMEOUT", "LISTEN", "LOG",
    "MAX_FILE_BYTES", "MIN_RATE", "PLANE_MAX_BYTES", "PLANE_RATE", "PLANE_TYPES", "PUBLIC_URL", "QUOTA_BYTES",
    "SCANNER", "SIGNING_KEY", "STRICT_ISSUES", "STRIP_QUERY", "TICKET_TTL", "TLS_CERT", "TLS_CLIENT_CA",
    "TLS_KEY", "TRUSTED_PROXIES", "WEBHOOK_GIVE_UP", "WEBHOOK_TIMEOUT", "WORKERS", "YANDEX_MAX_BYTES",
)  # fmt: skip
DEVELOPMENT_DATA = "remora-data"  # Where `scripts/serve` keeps its data.


@dataclass(frozen=True, slots=True)
class Settings:
    """What was given on the command line and, where nothing was, in the environment."""

    address: str
    key: str
    workspace: str
    ca: str
    cert: str
    json: bool

    def client(self, patience: float = PATIENCE_SECONDS) -> remora.Client:
        """Make a client with these settings."""
        try:
            require_address(self.address)
        except ValueError as problem:
            raise UsageError(str(problem)) from None
        key, workspace = self.key, self.workspace
        if not key:
            # So that `remora put DEMO-1 README.md` works beside a server that was just started here.
            key, own = _development_key(self.address)
            workspace = workspace or own
        if not workspace:
            raise UsageError("no workspace; set REMORA_WORKSPACE or pass --workspace.")
        if self.cert and not self.ca:
            raise UsageError("a certificate is shown over TLS only; set REMORA_CA or pass --ca.")
        return remora.Client(
            self.address,
            key=key,
            workspace=workspace,
            ca=self.ca or None,
            cert=self.cert or None,
            patience=patience,
        )


class UsageError(typer.TyperException):
    """A command that can't mean anything."""

    exit_code = 2


def settings_of(context: typer.Context) -> Settings:
    """Give the settings of the running command."""
    found = context.obj
    if not isinstance(found, Settings):
        raise TypeError("the program's callback has not run")
    return found


def refuse_unknown(environment: Mapping[str, str]) -> None:
    """Raise UsageError for a REMORA_ name that is no setting: a misspelt one would be passed over without a word."""
    known = (*OWN_SETTINGS, *SERVER_SETTINGS)
    for name in sorted(environment):
        word = name.removeprefix(PREFIX)
        if word != name and word not in known and not name.startswith(IGNORED_PREFIXES):
            near = difflib.get_close_matches(word, known, n=1)
            hint = f"did you mean {PREFIX}{near[0]}?" if near else "the client's are " + ", ".join(OWN_SETTINGS) + "."
            raise UsageError(f"{name} in the environment is not a setting; {hint}")


def hoist(arguments: Sequence[str]) -> list[str]:
    """Move the options that every command has to the front, so that they may stand anywhere."""
    front: list[str] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == "--":
            return [*front, *rest, argument, *waiting]
        if argument == "--json" or argument.startswith(tuple(f"{option}=" for option in WITH_VALUE)):
            front.append(argument)
        elif argument in WITH_VALUE:
            front += [argument, *([value] if (value := next(waiting, None)) is not None else [])]
        else:
            rest.append(argument)
    return front + rest


def wants_json(arguments: Sequence[str]) -> bool:
    """Tell whether `hoist` found --json."""
    return "--json" in arguments


def _development_key(address: str) -> tuple[str, str]:
    """Find the key and workspace of a development server on this machine, if its data is where it is by default."""
    host = address.rsplit(":", 1)[0].strip("[]")
    if not (host in {"localhost", "::1"} or host.startswith("127.")):
        return "", ""
    folder = Path(os.environ.get("REMORA_DATA") or DEVELOPMENT_DATA)
    try:
        found = json.loads((folder / "dev.json").read_bytes())
    except (OSError, ValueError):
        return "", ""
    if not isinstance(found, dict):
        return "", ""
    workspace = found.get("workspace", "")
    if isinstance(workspace, dict):
        workspace = workspace.get("slug", "")
    return str(found.get("key", "")), str(workspace)

"""How a command that failed ends: its exit code, and a message that ends with the next thing to do."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

import typer

import remora
from remora.cli.show import plain

DONE, REFUSED, MISUSED, UNREACHED, INTERRUPTED = 0, 1, 2, 3, 130

# What the message of the service does not say already.
NEXT_STEPS = {
    "ACCESS_DENIED": "Ask the creator, or use a key with the scope admin.",
    "CONNECTION_FAILED": "Start a server with scripts/serve, or name another with --address or REMORA_ADDRESS.",
    "CURSOR_COMPACTED": "Watch again without --cursor, or see `remora activity`.",
    "DOWNLOAD_CORRUPT": "Run the command again.",
    "FILE_TOO_LARGE": "Ask the operator to raise REMORA_MAX_FILE_BYTES.",
    "RESOURCE_NOT_FOUND": "`remora ls ISSUE` shows what is there.",
    "SCOPE_MISSING": "Make a key that has it with `remora-server keys create --scopes`.",
    "SIZE_MISMATCH": "Run the command again when nothing writes to the file.",
    "CONTENT_CHECKSUM_MISMATCH": "Run the command again when nothing writes to the file.",
    "TOKEN_EXPIRED": "Make a new key with `remora-server keys create`, and set REMORA_KEY.",
    "TOKEN_MISSING": "Set REMORA_KEY or pass --key; `remora-server keys create` makes one.",
    "WRITER_FENCED": "Let the other upload of this file end.",
}


def tell(error: Exception, *, as_json: bool) -> int:
    """Print why a command failed and return its exit code; raise what is not a failure but a defect."""
    if isinstance(error, remora.RemoraError):
        step = NEXT_STEPS.get(error.reason, "")
        message = error.message
        if isinstance(error, remora.PreviewUnavailableError) and error.is_pending:
            step = "With --wait 30 the command waits for it."
        if isinstance(error, remora.NotServedError):
            step = ""  # Its message says that already.
        elif isinstance(error, remora.ConnectionFailedError):
            # What gRPC says begins with its own affairs and ends with what happened.
            message = f"could not reach the server ({message.rsplit(': ', 1)[-1].rstrip('.')})."
        described = {"code": error.code, "metadata": error.metadata, "retry_after": error.retry_after}
        _print(error.reason, message, step, described, as_json=as_json)
        return UNREACHED if isinstance(error, remora.ConnectionFailedError) else REFUSED
    if isinstance(error, typer.TyperException):
        # Those of Typer itself know how to show the usage; ours need no more than their message.
        show = getattr(error, "show", None)
        if show is None or as_json:
            _print("USAGE", error.format_message(), "See `remora --help`.", {}, as_json=as_json)
        else:
            show()
        return error.exit_code
    if isinstance(error, OSError):
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        _print("FILE_ERROR", f"{what.rstrip('.')}.", "Check the path and its permissions.", {}, as_json=as_json)
        return MISUSED
    raise error


def interrupted(step: str, *, as_json: bool) -> int:
    """Say how to go on after ^C, and return the exit code for it."""
    _print("INTERRUPTED", "interrupted.", step, {}, as_json=as_json)
    return INTERRUPTED


def _print(reason: str, message: str, step: str, more: Mapping[str, object], *, as_json: bool) -> None:
    if as_json:
        error = {"reason": reason, "message": message, "next": step, **more}
        print(json.dumps({"error": error}), file=sys.stderr, flush=True)
    else:
        print(f"remora: {plain(message)}" + (f" {step}" if step else ""), file=sys.stderr, flush=True)

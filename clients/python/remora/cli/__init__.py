"""The `remora` program. Nothing that takes long to load is loaded before a command needs it."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Sequence

import typer

from remora.cli import refusals
from remora.cli.app import app
from remora.cli.settings import hoist, wants_json


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    arguments = hoist(sys.argv[1:] if arguments is None else arguments)
    # gRPC's own messages say what the program says better.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Shells start background jobs with ^C ignored; an upload should be interruptible by whoever asks for it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # Names need not fit the terminal.
    try:
        # None unless a command ended with typer.Exit.
        code: int | None = app(args=arguments, prog_name="remora", standalone_mode=False)
    except typer.Abort:
        return refusals.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - What is not known there is raised again.
        return refusals.tell(error, as_json=wants_json(arguments))
    return code or refusals.DONE

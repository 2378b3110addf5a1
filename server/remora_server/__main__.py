"""The program `remora-server`: serve, and what an operator does beside it."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import uvloop

from remora_server import app, config, dev, opening, process
from remora_server.config import Config, ConfigError
from remora_server.core import ids
from remora_server.core.errors import RemoraError
from remora_server.core.leases import LeaseHeldError
from remora_server.core.ownership import ForeignBlobsError
from remora_server.core.preview_upkeep import Retried, Retry
from remora_server.core.sweep import Swept
from remora_server.core.tenants import DEFAULT_SCOPES
from remora_server.progress import Progress
from remora_server.stores.database import DatabaseUnreachableError
from remora_server.workers import Parent

DONE, REFUSED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130
SECOND = app.SECOND
VERSION = "0.1.0"
DEFAULT_GRPC_PORT = 7460

Command = Callable[[Config, argparse.Namespace], int]

log = logging.getLogger("remora_server")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = config.load(os.environ, options)
        logging.basicConfig(
            level=settings.log.upper(),
            format=f"%(asctime)s {'%(process)d ' if settings.workers > 1 else ''}%(levelname)s %(name)s: %(message)s",
            stream=sys.stderr,
        )
        command: Command = options.command
        return command(settings, options)
    except ConfigError as problem:
        return _refuse(options, str(problem), BAD_USAGE)
    except BrokenPipeError:
        # Whoever read our output, such as `head`, has seen enough. Python would complain again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (
        *(RemoraError, LeaseHeldError, ForeignBlobsError, OSError),
        *(opening.NotMigratedError, opening.BlobsUnreachableError, DatabaseUnreachableError),
    ) as problem:
        return _refuse(options, str(problem), REFUSED)
    except KeyboardInterrupt:
        return INTERRUPTED


def _serve(settings: Config, options: argparse.Namespace) -> int:
    process.raise_file_limit()
    if options.as_worker is not None:
        parent = Parent(options.as_worker)
        return _serve_here(settings, options, lambda _: parent.tell_ready(), is_worker=True)

    def on_ready(ready: app.Ready) -> None:
        if settings.is_exposed:
            log.warning(
                "listening on %s without TLS: keys and contents can be read on the way; set REMORA_TLS_CERT and "
                "REMORA_TLS_KEY, or let nobody but a proxy with TLS reach the ports",
                settings.listen,
            )
        seeded = ready.seeded
        if options.json:
            report: dict[str, object] = {"event": "ready", "grpc": ready.grpc, "http": ready.http}
            if seeded is not None:
                report |= {"key": seeded.key, "workspace": seeded.workspace.slug}
                report["issues"] = [issue.key for issue in seeded.issues]
            print(json.dumps(report), flush=True)
        else:
            print(_banner(settings, ready), flush=True)

    if settings.workers == 1:
        return _serve_here(settings, options, on_ready, is_worker=False)
    seeded = app.prepare(settings, dev_mode=options.dev)
    return uvloop.run(app.supervise(settings, [*_program(), *sys.argv[1:]], seeded, on_ready))


def _program() -> list[str]:
    """Return how this process was started, whichever way that was, up to its arguments."""
    return [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]]


def _serve_here(
    settings: Config, options: argparse.Namespace, on_ready: Callable[[app.Ready], None], *, is_worker: bool
) -> int:
    process.tune_allocator()
    delivering = [*_program(), "deliver", *sys.argv[2:], "--as-child"]
    uvloop.run(app.serve(settings, dev_mode=options.dev, on_ready=on_ready, delivering=delivering, is_worker=is_worker))
    return DONE


def _deliver(settings: Config, options: argparse.Namespace) -> int:
    uvloop.run(app.deliver(settings, sys.stdin.fileno() if options.as_child else None))
    return DONE


def _migrate(settings: Config, options: argparse.Namespace) -> int:
    with opening.open_stores(settings, migrating=True):
        pass
    name = settings.database_name
    _say(options, {"migrated": True, "database": name}, f"{name} is up to date")
    return DONE


def _gc(settings: Config, options: argparse.Namespace) -> int:
    grace = settings.gc_grace_seconds if options.grace is None else options.grace

    def told(done: Swept) -> None:
        blobs = done.deleted_blobs + done.orphan_blobs
        progress.show(lambda: f"{blobs} blobs ({done.deleted_bytes} bytes), {done.purged_files} files so far")

    with opening.open_stores(settings, needing_blobs=True) as stores, Progress(sys.stderr) as progress:
        swept = opening.sweep_of(stores).sweep(int(grace * SECOND), dry_run=options.dry_run, told=told)
    report = {name: getattr(swept, name) for name in swept.__slots__}
    would = "would remove" if swept.dry_run else "removed"
    removed = swept.deleted_blobs + swept.orphan_blobs
    _say(
        options,
        report,
        f"{would} {removed} blobs ({swept.deleted_bytes} bytes), {swept.purged_files} files and "
        f"{swept.purged_attachments} attachments for good; {swept.expired_tickets} tickets expired"
        f"{f'; {swept.failed} removals failed, see the log' if swept.failed else ''}",
    )
    return REFUSED if swept.failed else DONE


def _fsck(settings: Config, options: argparse.Namespace) -> int:
    def told(done: int, total: int) -> None:
        progress.show(lambda: f"checked {done} of {total} blobs")

    with opening.open_stores(settings, needing_blobs=True) as stores, Progress(sys.stderr) as progress:
        checked = opening.check_of(stores).run(told)
    report = checked.report()
    state = "clean" if checked.clean else "not clean"
    lines = [f"{state}: {checked.files} files, {checked.blobs} blobs, {len(checked.orphans)} orphans"]
    lines += [f"  {line}" for line in checked.lines()]
    _say(options, report, "\n".join(lines))
    return DONE if checked.clean else REFUSED


def _previews(settings: Config, options: argparse.Namespace) -> int:
    which = Retry(options.retry) if options.retry else None

    def told(done: Retried) -> None:
        progress.show(lambda: f"looked at {done.looked_at} of {done.total}, {done.jobs} are tried again")

    report: dict[str, object] = {}
    lines = []
    with opening.open_stores(settings, needing_blobs=which is Retry.ALL) as stores:
        previews = opening.previews_of(settings, stores)
        if which is not None:
            with Progress(sys.stderr) as progress:
                retried = previews.retry(which, told)
            report |= {"retried": retried.jobs, "unreadable": retried.unreadable}
            lines.append(f"{retried.jobs} previews are tried again, by whichever server runs")
            if retried.unreadable:
                lines.append(f"{retried.unreadable} could not be looked at; `remora-server fsck` tells which and why")
        counted = previews.count()
    report |= {name: getattr(counted, name) for name in ("waiting", "ready", "failed", "without")}
    report["reasons"] = [{"reason": reason, "count": count} for reason, count in counted.reasons]
    lines.append(
        f"previews: {counted.waiting} waiting, {counted.ready} ready, {counted.failed} failed, "
        f"{counted.without} with nothing to show"
    )
    lines += [f"  {count} failed: {reason}" for reason, count in counted.reasons]
    _say(options, report, "\n".join(lines))
    return DONE


def _workspaces_create(settings: Config, options: argparse.Namespace) -> int:
    with opening.open_stores(settings, migrating=True) as stores:
        workspace, created = stores.writer.run(lambda: opening.tenants_of(stores).create_workspace(options.name))
    report = {"workspace_id": workspace.id, "slug": workspace.slug, "created": created}
    _say(options, report, f"{workspace.id}  {workspace.slug}{'' if created else '  (was there)'}")
    return DONE


def _workspaces_list(settings: Config, options: argparse.Namespace) -> int:
    with opening.open_stores(settings) as stores:
        for workspace in stores.metadata.list_workspaces():
            report = {"workspace_id": workspace.id, "slug": workspace.slug, "name": workspace.name}
            _say(options, report, f"{workspace.id}  {workspace.slug}")
    return DONE


def _projects_create(settings: Config, options: argparse.Namespace) -> int:
    with opening.open_stores(settings) as stores:
        tenants = opening.tenants_of(stores)
        workspace = tenants.workspace(options.workspace)
        project, _ = stores.writer.run(lambda: tenants.create_project(workspace, options.key))
    uuid = str(ids.to_uuid(project.id))
    _say(options, {"project_id": project.id, "uuid": uuid, "key": project.key}, f"{project.id}  {project.key}")
    return DONE


def _keys_create(settings: Config, options: argparse.Namespace) -> int:
    scopes = options.scopes.split(",") if options.scopes else DEFAULT_SCOPES
    expires_in = None if options.expires_in is None else int(options.expires_in * SECOND)
    with opening.open_stores(settings) as stores:
        tenants = opening.tenants_of(stores)
        workspace = tenants.workspace(options.workspace)
        text, key = stores.writer.run(lambda: tenants.create_key(workspace, options.user, scopes, expires_in))
    _say(
        options,
        {"key": text, "principal_id": key.principal.id, "key_id": key.id},
        f"{text}\n(shown once; {key.principal.id})",
    )
    return DONE


def _keys_list(settings: Config, options: argparse.Namespace) -> int:
    with opening.open_stores(settings) as stores:
        for key in stores.metadata.list_keys(opening.tenants_of(stores).workspace(options.workspace).id):
            report = {
                "key_id": key.id,
                "principal_id": key.principal.id,
                "user": key.principal.display_name,
                "scopes": sorted(key.scopes),
                "create_time": key.create_time,
                "expire_time": key.expire_time,
                "revoke_time": key.revoke_time,
            }
            state = "revoked" if key.revoke_time else "live"
            user = f"{key.principal.id}  {key.principal.display_name}"
            _say(options, report, f"{key.id}  {user}  {state}  {','.join(sorted(key.scopes))}")
    return DONE


def _keys_revoke(settings: Config, options: argparse.Namespace) -> int:
    with opening.open_stores(settings) as stores:
        stores.writer.run(lambda: opening.tenants_of(stores).revoke_key(options.key_id))
    _say(options, {"key_id": options.key_id, "revoked": True}, f"{options.key_id} is revoked")
    return DONE


def _config(settings: Config, options: argparse.Namespace) -> int:
    rows = settings.rows()
    width = max(len(row.name) for row in rows)
    for row in rows:
        report = {"name": row.name, "value": row.value, "origin": row.origin, "help": row.help}
        _say(options, report, f"{row.name:<{width}}  {row.value}  ({row.origin})")
    return DONE


def _dev_info(settings: Config, options: argparse.Namespace) -> int:
    kept = dev.read(settings.data)
    if kept is None:
        return _refuse(
            options, f"{settings.data} was never served with --dev; run `remora-server serve --dev`.", REFUSED
        )
    _say(options, kept, json.dumps(kept, indent=2))
    return DONE


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are short: the flags of all settings would push them off the screen."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and where all options are told, and end."""
        self.exit(BAD_USAGE, f"{self.prog}: {message}. See `{self.prog} --help`.\n")


def _parser() -> argparse.ArgumentParser:
    shared = _Parser(add_help=False, allow_abbrev=False)
    shared.add_argument("--json", action="store_true", help="print JSON: one object, or one line an item")
    config.add_flags(shared)
    parser = _Parser(
        prog="remora-server", description="The Remora server and its operator's commands.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"remora-server {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        owner: argparse._SubParsersAction[_Parser],
        name: str,
        command: Command,
        meaning: str,
        example: str,
    ) -> argparse.ArgumentParser:
        made = owner.add_parser(
            name,
            parents=[shared],
            help=meaning,
            description=meaning,
            epilog=f"example: {example}",
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(command=command)
        return made

    def group(name: str, meaning: str) -> argparse._SubParsersAction[_Parser]:
        made = commands.add_parser(name, help=meaning, description=meaning, allow_abbrev=False)
        return made.add_subparsers(required=True, metavar="COMMAND")

    serving = add(commands, "serve", _serve, "serve until SIGTERM", "remora-server serve --data /srv/remora")
    serving.add_argument("--dev", action="store_true", help="seed a demo workspace, key and issues; not for production")
    serving.add_argument("--as-worker", type=int, help=argparse.SUPPRESS)  # What our own parent process tells us.
    delivering = add(
        commands,
        "deliver",
        _deliver,
        "send webhooks until SIGTERM; `serve` runs this by itself in a process of its own",
        "remora-server deliver --data /srv/remora",
    )
    # What a server that runs it tells it, and what it was told itself.
    delivering.add_argument("--as-child", action="store_true", help=argparse.SUPPRESS)
    delivering.add_argument("--dev", action="store_true", help=argparse.SUPPRESS)
    delivering.add_argument("--as-worker", type=int, help=argparse.SUPPRESS)
    add(commands, "migrate", _migrate, "create or upgrade the database", "remora-server migrate --data /srv/remora")
    gc = add(commands, "gc", _gc, "remove what nothing refers to any more", "remora-server gc --grace 1h --dry-run")
    gc.add_argument(
        "--grace",
        type=config.duration,
        metavar="TIME",
        help="age below which everything stays, such as 3600 or 1h (default: REMORA_GC_GRACE)",
    )
    gc.add_argument("--dry-run", action="store_true", help="only tell what would be removed")
    add(commands, "fsck", _fsck, "read and hash every blob, compare both directions", "remora-server fsck --json")
    previews = add(
        commands,
        "previews",
        _previews,
        "tell how many previews there are and why some failed",
        "remora-server previews --retry missing",
    )
    previews.add_argument(
        "--retry",
        choices=[which.value for which in Retry],
        help="try again what failed, only what failed for want of the extra `media` (missing), or also make previews "
        "of what was stored before there were any (all)",
    )
    workspaces = group("workspaces", "create and list workspaces")
    creating = add(
        workspaces, "create", _workspaces_create, "create a workspace", "remora-server workspaces create acme"
    )
    creating.add_argument("name", help="name; its slug is made from it")
    add(workspaces, "list", _workspaces_list, "list workspaces", "remora-server workspaces list --json")
    projects = group("projects", "create projects")
    projecting = add(
        projects, "create", _projects_create, "create a project", "remora-server projects create PLAT --workspace acme"
    )
    projecting.add_argument("key", help="capital letters that begin the keys of its issues")
    projecting.add_argument("--workspace", required=True, help="id or slug")
    keys = group("keys", "create, list and revoke keys")
    keying = add(
        keys,
        "create",
        _keys_create,
        "create a key; it is shown once",
        "remora-server keys create --workspace acme --user ci",
    )
    keying.add_argument("--workspace", required=True, help="id or slug")
    keying.add_argument("--user", required=True, help="whom the key stands for; made if new")
    keying.add_argument("--scopes", default="", help=f"comma list (default: {','.join(DEFAULT_SCOPES)})")
    keying.add_argument(
        "--expires-in", type=config.duration, metavar="TIME", help="life of the key, such as 30d (default: no end)"
    )
    listing = add(keys, "list", _keys_list, "list keys, without their text", "remora-server keys list --workspace acme")
    listing.add_argument("--workspace", required=True, help="id or slug")
    revoking = add(keys, "revoke", _keys_revoke, "end a key", "remora-server keys revoke key_01…")
    revoking.add_argument("key_id", help="id that `keys list` shows")
    add(commands, "config", _config, "print every setting with value and origin", "remora-server config --json")
    add(commands, "dev-info", _dev_info, "print what development mode seeded", "remora-server dev-info --json")
    return parser


def _banner(settings: Config, ready: app.Ready) -> str:
    size = settings.max_file_bytes
    shown = f"{size / 2**30:g} GiB" if size >= 2**30 else f"{size / 2**20:g} MiB"
    hours = settings.ticket_ttl_seconds / 3600
    lines = [f"┌ Remora {VERSION}"]
    if ready.seeded is not None:
        lines[0] += (
            f"   DEVELOPMENT MODE: data in {settings.data}, one demo workspace, key {ready.seeded.key}"
            "  (not for production)"
        )
    lines += [
        f"│ gRPC      {ready.grpc}      {'TLS, ' if settings.tls_cert else ''}reflection, health",
        f"│ HTTP      {ready.http}      signed uploads and downloads, /healthz",
        f"│ limits    file {shown} · chunk 1 MiB (max 2 MiB) · ticket {hours:g} h",
        f"│ stores    {settings.database_name} + {settings.blobs_name}",
        f"└ try       {_try(settings, ready)}" if ready.seeded else "└ ready",
    ]
    return "\n".join(lines)


def _try(settings: Config, ready: app.Ready) -> str:
    """Return a first command that works as it stands."""
    elsewhere = "" if ready.grpc.endswith(f":{DEFAULT_GRPC_PORT}") else f"REMORA_ADDRESS={ready.grpc} "
    data = "" if settings.data == Path("remora-data") else f"REMORA_DATA={settings.data} "
    return f"{elsewhere}{data}remora put {ready.seeded.issues[0].key if ready.seeded else 'ISSUE'} README.md"


def _say(options: argparse.Namespace, report: Mapping[str, object], text: str) -> None:
    print(json.dumps(report) if options.json else text, flush=True)


def _refuse(options: argparse.Namespace, message: str, code: int) -> int:
    if getattr(options, "json", False):
        print(json.dumps({"error": {"message": message}}), file=sys.stderr)
    else:
        print(f"remora-server: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())

"""`gc` as an operator runs it, and as a server does by itself: alone, on its own blobs, and killed at any moment."""

from __future__ import annotations

import json
import os
import random
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from remora.v1 import attachment_service_pb2
from remora.v1 import file_service_pb2 as pb
from remora_server import opening
from remora_server.core import ids
from remora_server.core.model import Lease
from remora_server.core.sweep import LEASE
from remora_server.stores import tables
from remora_server.stores.tables import Attachments, Blobs, Files, Tickets, UploadSessions
from tests import combinations
from tests.combinations import only_disk, only_sqlite
from tests.crashing import kill_gc
from tests.e2e.programs import REMORA_SERVER, clean_environment, run
from tests.gcs.running import RunningGcs
from tests.running import Api, RunningServer, until
from tests.uploading import KIB, Stream, append, attached, new_ticket, read, spec_of, upload

Start = Callable[..., RunningServer]
KILLS = int(os.environ.get("REMORA_TEST_KILLS", "20"))
HOUR = 3600
DAY = 24 * HOUR


def delete(api: Api, file_id: str) -> None:
    """Delete a file with what hangs on it."""
    api.files.DeleteFile(pb.DeleteFileRequest(file_id=file_id, detach=True))


def make_older(server: RunningServer, seconds: float) -> None:
    """Date all that lies in the blob store back."""
    for path in server.blob_files():
        status = path.stat()
        os.utime(path, (status.st_atime - seconds, status.st_mtime - seconds))


# Alone.


def test_a_server_sweeps_by_itself(start_server: Start) -> None:
    """What was deleted goes after the grace, though nobody runs `gc`."""
    server = start_server("--gc-interval", "1s", "--gc-grace", "0")
    api = server.api()
    kept, gone = (upload(api, os.urandom(40 * KIB)).file.id for _ in range(2))
    delete(api, gone)
    until(lambda: len(server.blob_files()) == 1)
    assert len(read(api, kept)) == 40 * KIB
    until(lambda: "swept: {'purged_files': 1" in server.log())


def test_one_sweep_at_a_time(start_server: Start) -> None:
    """While one process sweeps, `gc` says which, and ends with 1; a dry run is free, and so is `gc` afterwards."""
    server = start_server()
    with opening.open_stores(server.config()) as stores, opening.leases_of(stores).held(LEASE):
        refused = server.command("gc", "--json", check=False)
        assert refused.returncode == 1
        message = json.loads(refused.stderr)["error"]["message"]
        assert f"/{os.getpid()}/" in message
        assert "runs out within" in message
        server.command("gc", "--dry-run")
    server.command("gc")


def test_times_have_units(start_server: Start) -> None:
    """`--grace` and `--expires-in` are read as the settings are."""
    server = start_server()
    assert server.report("gc", "--grace", "1h")["grace_seconds"] == HOUR
    assert server.report("gc", "--grace", "90")["grace_seconds"] == 90
    bad = server.command("gc", "--grace", "soon", check=False)
    assert bad.returncode == 2
    assert "argument --grace: 'soon' must be a time" in bad.stderr
    server.report("keys", "create", "--workspace", "demo", "--user", "ci", "--expires-in", "30d")
    expiring = server.command("keys", "list", "--workspace", "demo", "--json")
    (key,) = [one for one in map(json.loads, expiring.stdout.splitlines()) if one["user"] == "ci"]
    assert key["expire_time"] - key["create_time"] == 30 * DAY * 10**6


# On its own blobs.


@pytest.fixture
def other(start_server: Start) -> Path:
    """Make a data directory with blobs, whose server has gone."""
    server = start_server()
    upload(server.api(), os.urandom(40 * KIB))
    upload(server.api(), b"inline")
    assert server.stop() == 0
    make_older(server, HOUR)
    return server.data


def refusal(tmp_path: Path, *arguments: str) -> str:
    """Run a command that must be refused; return what it says."""
    done = run(clean_environment(tmp_path), REMORA_SERVER, *arguments)
    assert done.returncode == 1, done.stderr
    assert not done.stdout
    return done.stderr


COMMANDS = (["gc", "--grace", "0"], ["gc", "--grace", "0", "--dry-run"], ["fsck"], ["serve", "--grpc-port", "0"])


@only_disk
@only_sqlite
@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("command", COMMANDS, ids=["gc", "gc-dry-run", "fsck", "serve"])
def test_blobs_of_another_database_are_left_alone(
    tmp_path: Path, other: Path, command: list[str], *, marked: bool
) -> None:
    """A new database beside them, as after the old one was lost, neither sweeps, nor checks, nor serves them.

    So it is with a marker, and without one, as for blobs that were copied here.
    """
    if not marked:
        (other / "blobs" / "store-id").unlink()
    (other / "remora.db").unlink()
    run(clean_environment(tmp_path), REMORA_SERVER, "migrate", "--data", str(other))
    before = sorted(path for path in other.rglob("*") if path.is_file() and "blobs" in path.parts)
    said = refusal(tmp_path, *command, "--data", str(other), "--http-port", "0")
    assert ("belongs to another database" if marked else "knows nothing of") in said
    assert "REMORA_DATABASE_URL" in said
    assert sorted(path for path in other.rglob("*") if path.is_file() and "blobs" in path.parts) == before


@only_sqlite
def test_a_missing_database(tmp_path: Path, other: Path) -> None:
    """`gc` and `fsck` make none: they say what to do."""
    (other / "remora.db").unlink()
    for command in ("gc", "fsck"):
        assert "remora-server migrate" in refusal(tmp_path, command, "--data", str(other))
    assert not (other / "remora.db").exists()


@only_disk
def test_a_marker_that_was_lost_comes_back(start_server: Start) -> None:
    """Blobs that were restored without it are recognised by the rows that name them; who only looks leaves none."""
    server = start_server()
    api = server.api()
    file = upload(api, os.urandom(40 * KIB)).file
    marker = server.data / "blobs" / "store-id"
    before = marker.read_text()
    marker.unlink()
    assert server.report("fsck")["clean"]
    server.command("gc", "--dry-run")
    assert not marker.exists()
    server.command("gc")
    assert marker.read_text() == before
    assert len(read(api, file.id)) == 40 * KIB


@only_disk
def test_bytes_that_cannot_be_removed(start_server: Start) -> None:
    """`gc` names what it could not remove, does the rest, and ends with 1."""
    server = start_server()
    api = server.api()
    for _ in range(3):
        delete(api, upload(api, os.urandom(40 * KIB)).file.id)
    refused = server.blob_files()[0]
    refused.unlink()
    refused.mkdir()  # Even to root no file that could be removed.
    done = server.command("gc", "--grace", "0", "--json", check=False)
    report = json.loads(done.stdout)
    assert (done.returncode, report["failed"], report["deleted_blobs"], report["purged_files"]) == (1, 1, 2, 3)
    assert refused.name in done.stderr
    refused.rmdir()
    done = server.command("gc", "--grace", "0")
    assert "failed" not in done.stdout


def test_an_object_that_is_held(start_server: Start, gcs: RunningGcs) -> None:
    """So it is where a bucket keeps an object, as under a retention policy; the next sweep removes it."""
    prefix = secrets.token_hex(8)
    server = start_server(REMORA_BLOBS=f"gs://{gcs.bucket}/{prefix}", **gcs.environment)
    api = server.api()
    for _ in range(3):
        delete(api, upload(api, os.urandom(40 * KIB)).file.id)
    held = min(name for name in gcs.objects(f"{prefix}/") if "/blobs/" in name)
    gcs.plan("status", f"^DELETE .*{held.rpartition('/')[2]}", status=403, times=-1)
    try:
        done = server.command("gc", "--grace", "0", "--json", check=False)
    finally:
        gcs.clear()
    report = json.loads(done.stdout)
    assert (done.returncode, report["failed"], report["deleted_blobs"], report["purged_files"]) == (1, 1, 2, 3)
    assert f"{held.rpartition('/')[2]}" in done.stderr
    assert server.report("gc", "--grace", "0")["orphan_blobs"] == 1
    assert not [name for name in gcs.objects(f"{prefix}/") if "/blobs/" in name]


@only_disk
def test_a_volume_that_is_not_mounted(start_server: Start) -> None:
    """Where the blobs should be is an empty directory: nothing serves, sweeps or checks it, or marks it as its own.

    The message gives the text of the marker by which an operator goes on without them.
    """
    server = start_server()
    api = server.api()
    lost = upload(api, os.urandom(40 * KIB)).file.id
    server.stop()
    blobs = server.data / "blobs"
    away = blobs.rename(server.data / "away")
    said = ""
    for command in (*COMMANDS, ["serve", "--workers", "2", "--grpc-port", "0"]):
        done = server.command(*command, "--http-port", "0", check=False)
        assert (done.returncode, done.stdout) == (1, "")
        said = done.stderr
        assert "is empty" in said
        assert "mounted" in said
        assert not [path for path in blobs.rglob("*") if path.is_file()]
    identity = (away / "store-id").read_text()
    assert identity.strip() in said
    (blobs / "store-id").write_text(identity)
    server.start()
    assert len(read(server.api(), upload(server.api(), b"y" * 40 * KIB).file.id)) == 40 * KIB
    (missing,) = server.report("fsck", check=False)["missing"]
    assert [one["file_id"] for one in missing["files"]] == [lost]


# Killed at any moment.


def make_work(server: RunningServer) -> dict[str, bytes]:
    """Leave some of everything that a sweep removes, and of what it must not; return what must stay, by file."""
    api = server.api()
    kept: dict[str, bytes] = {}
    for number in range(8):
        for size in (100, 100 * KIB):
            data = os.urandom(size)
            kept[upload(api, data, name=f"{number}", attach_to="GC-1").file.id] = data
            delete(api, upload(api, data, name=f"{number} again").file.id)
            delete(api, upload(api, os.urandom(size), attach_to="GC-2").file.id)
            held = upload(api, os.urandom(size), attach_to="GC-3").attachment_id
            api.attachments.DeleteAttachment(attachment_service_pb2.DeleteAttachmentRequest(attachment_id=held))
        append(api, new_ticket(api, spec_of(size_bytes=60 * KIB)).id, 0, os.urandom(20 * KIB))
    server.stop()
    with opening.open_stores(server.config()) as stores:
        assert any(blob.is_inline for blob in stores.metadata.blobs_after("", 99))
        assert not all(blob.is_inline for blob in stores.metadata.blobs_after("", 99))
        for _ in range(8):
            stores.blobs.put(ids.new_id(ids.BLOB), b"orphan")
            staged = stores.blobs.stage(ids.new_id(ids.TICKET), 0)
            staged.write(b"stale")
            staged.close()
    return kept


def make_all_older(server: RunningServer) -> None:
    """Date everything back by a day, as if it had been left alone for so long."""
    make_older(server, DAY)
    times = (
        (Files, (Files.create_time, Files.delete_time, Files.detach_time)),
        (Attachments, (Attachments.delete_time,)),
        (Blobs, (Blobs.create_time,)),
        (Tickets, (Tickets.create_time, Tickets.expire_time)),
        (UploadSessions, (UploadSessions.update_time,)),
    )
    with opening.open_stores(server.config()) as stores:
        for table, columns in times:
            older = table.update({column: column - DAY * 10**6 for column in columns})
            stores.writer.run(partial(stores.database.execute, older))


def make_young(server: RunningServer) -> tuple[str, str, str]:
    """Leave what nothing refers to, but not for long yet: a deleted file, an open ticket, bytes without a row."""
    server.start()
    api = server.api()
    deleted = upload(api, os.urandom(100 * KIB)).file.id
    delete(api, deleted)
    running = new_ticket(api).id
    append(api, running, 0, os.urandom(20 * KIB))
    server.stop()
    with opening.open_stores(server.config()) as stores:
        orphan = ids.new_id(ids.BLOB)
        stores.blobs.put(orphan, b"young")
        return deleted, running, orphan


def state_of(server: RunningServer) -> object:
    """Return what lies in the blob store, and every row, but for those that sweeps leave for each other."""
    with opening.open_stores(server.config()) as stores:
        rows = {
            table.__name__: sorted(map(repr, stores.database.select(table.select())))
            for table in tables.ALL
            if table not in {tables.Leases, tables.Condemned}
        }
        blobs = sorted(one.name for one in (*stores.blobs.list_blobs(), *stores.blobs.list_staged()))
    return rows, blobs


def no_row_lacks_its_bytes(server: RunningServer) -> bool:
    """Tell whether what rows name is there, whatever else is."""
    with opening.open_stores(server.config()) as stores:
        checked = opening.check_of(stores).run()
    return not (checked.missing or checked.corrupt or checked.wrong_size or checked.dangling_files or checked.quotas)


def free_lease(server: RunningServer) -> None:
    """Give back the lease of a killed process, which would run out after a minute, as tests/core shows."""
    with opening.open_stores(server.config()) as stores:
        found = stores.writer.run(lambda: stores.metadata.take_lease(Lease(LEASE, "", 0), stores.clock.now()))
        stores.writer.run(lambda: stores.metadata.drop_lease(LEASE, found.holder))


@pytest.mark.timeout(120 + 6 * KILLS)
def test_gc_can_be_killed_at_any_moment(start_server: Start, tmp_path: Path) -> None:
    """P08: killed again and again, and then run to its end, it comes to the same state as one that was left alone.

    The kill comes before or after any commit and any removal of bytes, and never leaves a row without its bytes. What
    is younger than the grace is there afterwards, though nothing refers to it.
    """
    prepared = start_server("--quota-bytes", "100MiB")
    kept = make_work(prepared)
    make_all_older(prepared)
    deleted, running, orphan = make_young(prepared)

    def copied(name: str) -> RunningServer:
        combinations.copy(prepared.data, tmp_path / name)
        return RunningServer(tmp_path / name)

    server = copied("undisturbed")
    server.report("gc", "--grace", "1h")
    wanted = state_of(server)
    assert state_of(prepared) != wanted

    seed = secrets.randbits(32)
    chance = random.Random(seed)  # noqa: S311 - no secret
    kills = 0
    while kills < KILLS:
        server = copied(f"killed-{kills}")
        while kill_gc(server, chance.randint(1, 40)):
            kills += 1
            free_lease(server)
            assert no_row_lacks_its_bytes(server), seed
        assert state_of(server) == wanted, seed

    server.start()
    try:
        api = server.api()
        with Stream(api, running) as stream:
            assert stream.ready().committed_size == 20 * KIB
        api.files.UndeleteFile(pb.UndeleteFileRequest(file_id=deleted))
        assert len(read(api, deleted)) == 100 * KIB
        assert {file.id for file in attached(api, "GC-1")} == set(kept)
        for file_id, data in kept.items():
            assert read(api, file_id) == data
        checked = server.report("fsck", check=False)
        assert [one["name"] for one in checked.pop("orphans")] == [orphan]
        assert not any(checked[finding] for finding in checked if isinstance(checked[finding], list))
    finally:
        server.kill()

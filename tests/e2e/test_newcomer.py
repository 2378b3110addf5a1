"""The first ten minutes with Remora: what the README shows, and what its readers will rely on."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from remora import Client
from remora.v1 import file_service_pb2
from tests.e2e import curls, readme
from tests.e2e.programs import (
    BIG_BYTES,
    MIB,
    REMORA,
    REMORA_SERVER,
    RUN_SECONDS,
    clean_environment,
    ended,
    environment_for,
    remora_json,
    run,
    sha256sum,
    start,
    wait_for_share,
    write_big,
)
from tests.running import RunningServer, until

ROOT = Path(__file__).parents[2]
SERVE = str(ROOT / "scripts" / "serve")
URL = "https://ci.example.com/builds/7"
StartServer = Callable[..., RunningServer]

PUT_FIELDS = ["name", "file_id", "attachment_id", "size_bytes", "sha256", "outcome", "bytes_sent", "resumed_at"]
COMMANDS = {
    REMORA: ("put", "get", "ls", "attach", "rm", "links add", "links ls", "links rm", "activity", "watch", "tickets"),
    REMORA_SERVER: (
        *("serve", "migrate", "gc", "fsck", "config", "dev-info", "projects create"),
        *("workspaces create", "workspaces list", "keys create", "keys list", "keys revoke"),
    ),
}
TICKET_FIELDS = ["upload_ticket_id", "name", "committed_size", "size_bytes", "expire_time"]


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """Write a big file that no server has."""
    return write_big(tmp_path / "big.iso")


class Newcomer:
    """Runs what the README shows, in a folder of its own, beside a server that `scripts/serve` started there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.environment = clean_environment(folder)
        shutil.copy(readme.README, folder)
        with (folder / "serve.log").open("w") as log:
            self._serving = subprocess.Popen(
                [SERVE, "--grpc-port", "0", "--http-port", "0"],
                cwd=folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.banner = "".join(self._banner())
        found = re.search(r"gRPC +(\S+:\d+)", self.banner)
        assert found is not None, (folder / "serve.log").read_text()
        self.address = found[1]
        self.key = str(json.loads((folder / "remora-data" / "dev.json").read_text())["key"])
        bin_folder = curls.folder_of(curls.best_tool(), folder)
        self.environment["REMORA_ADDRESS"] = self.address
        self.environment["PATH"] = f"{self.environment['PATH']}{os.pathsep}{bin_folder}"
        self._assignments: list[str] = []

    def _banner(self) -> Iterator[str]:
        assert self._serving.stdout is not None
        for line in self._serving.stdout:
            yield line
            if line.startswith("└"):
                return

    def close(self) -> int:
        """Stop the server and return its exit code."""
        self._serving.terminate()
        assert self._serving.stdout is not None
        self._serving.stdout.close()
        return self._serving.wait(RUN_SECONDS)

    def take(self, step: readme.Step) -> str:
        """Run a step and return what it leaves on the screen."""
        command = step.command.replace(readme.ADDRESS, self.address).replace("-c 1G ", f"-c {BIG_BYTES} ")
        if re.match(r"\w+=", command):
            self._assignments.append(command)
            return ""
        if " watch " in command:
            return "".join(self.first_lines_of("bash", "-c", f"exec {command}"))
        if step.interrupted:
            return self._interrupted_in_the_middle(command)
        script = "\n".join([*self._assignments, command])
        done = run(self.environment, "bash", "-c", script, cwd=self._folder)
        return _without_progress(done.stderr) + done.stdout

    def first_lines_of(self, *command: str, count: int = 1) -> list[str]:
        """Start what follows the log, change something until it has told so many lines, and press ^C."""
        process = start(self.environment, *command, cwd=self._folder)
        assert process.stdout is not None
        told = (line for line in process.stdout if not line.startswith("big.iso: "))
        with self._changes():
            lines = list(itertools.islice(told, count))
        process.send_signal(signal.SIGINT)
        ended(process)
        return lines

    def _interrupted_in_the_middle(self, command: str) -> str:
        process = start(self.environment, "bash", "-c", f"exec {command}", cwd=self._folder)
        with Client(self.address, key=self.key, workspace="demo") as client:
            until(lambda: any(one.committed_size > BIG_BYTES * 0.4 for one in client.tickets()), RUN_SECONDS)
        process.send_signal(signal.SIGINT)
        _, out, error = ended(process)
        return _without_progress(error) + out

    @contextmanager
    def _changes(self) -> Iterator[None]:
        """Change the title of a card again and again; at the end it is what the README says."""
        enough = threading.Event()

        def change() -> None:
            with Client(self.address, key=self.key, workspace="demo") as client:
                for number in itertools.count():
                    client.attach("DEMO-1", URL, title=f"Build 7: {number} % done")
                    if enough.wait(0.3):
                        break
                client.attach("DEMO-1", URL, title="Build 7: passed")

        changing = threading.Thread(target=change)
        changing.start()
        try:
            yield
        finally:
            enough.set()
            changing.join()


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    """Start a server as the README says."""
    one = Newcomer(tmp_path)
    yield one
    assert one.close() == 0


@pytest.mark.timeout(900)  # The first of all runs makes .venv, and may build grpcurl.
def test_the_readme_shows_what_happens(newcomer: Newcomer) -> None:
    """Each command of the README, in order, prints what the README says; the Python too."""
    serving, *steps = readme.steps()
    assert serving.command == "scripts/serve"
    # On a port of its own choice the server puts its address before the command that it proposes.
    wrong = [readme.differences(serving, re.sub(r"REMORA_ADDRESS=\S+ ", "", newcomer.banner))]
    wrong += [readme.differences(step, newcomer.take(step)) for step in steps]
    assert not any(wrong), "\n\n".join(filter(None, wrong))
    assert len(steps) > 15

    (python,) = readme.blocks("python")
    program = python.replace(readme.ADDRESS, newcomer.address).replace("rk_dev_…", newcomer.key)
    assert len([line for line in program.splitlines() if line and not line.startswith("from ")]) <= 5
    printed = newcomer.first_lines_of(sys.executable, "-u", "-c", program, count=2)
    (shown,) = readme.blocks("text")
    assert not readme.differences(readme.Step("python", tuple(shown.splitlines())), "".join(printed))


def test_a_wrong_readme_would_be_noticed() -> None:
    """Ids, numbers and sizes may differ; words, zeros, and lines that are missing or too many may not."""
    step = readme.Step(
        "remora put DEMO-1 big.iso", ("big.iso: already stored, 0 bytes sent  fil_01…", "3 files, 1.1 GB")
    )
    fine = "big.iso: already stored, 0 bytes sent  fil_01abc\n12 files, 200 bytes\n"
    assert readme.differences(step, fine) == ""
    for wrong in (
        fine.replace("already ", ""),
        fine.replace("0 bytes sent", "5 bytes sent"),
        fine.splitlines()[0] + "\n",
        fine + "and more\n",
    ):
        assert readme.differences(step, wrong)


def test_an_upload_killed_at_forty_percent_goes_on(start_server: StartServer, big: Path, tmp_path: Path) -> None:
    """After SIGKILL the same command resumes; a third run sends nothing, and another name is another file."""
    server = start_server()
    environment = environment_for(server, tmp_path)
    idle_kib = _resident_kib(server)
    killed = start(environment, REMORA, "put", "DEMO-1", str(big))
    wait_for_share(server, 0.4, killed)
    killed.kill()
    assert ended(killed)[0] == -signal.SIGKILL

    (unfinished,) = remora_json(environment, "tickets")
    assert list(unfinished) == TICKET_FIELDS
    assert 0.4 * BIG_BYTES <= unfinished["committed_size"] < unfinished["size_bytes"] == BIG_BYTES

    (resumed,) = remora_json(environment, "put", "DEMO-1", str(big))
    assert list(resumed) == PUT_FIELDS
    assert resumed["outcome"] == "stored"
    assert resumed["resumed_at"] >= 0.4 * BIG_BYTES
    assert resumed["bytes_sent"] == BIG_BYTES - resumed["resumed_at"]
    assert (resumed["size_bytes"], resumed["sha256"]) == (BIG_BYTES, sha256sum(big))
    assert (_peak_kib(server) - idle_kib) < 64 * 1024

    (again,) = remora_json(environment, "put", "DEMO-1", str(big))
    assert again == {**resumed, "outcome": "already_exists", "bytes_sent": 0, "resumed_at": 0}

    (other,) = remora_json(environment, "put", "DEMO-2", str(big), "--name", "disk.iso")
    assert (other["outcome"], other["bytes_sent"], other["name"]) == ("already_exists", 0, "disk.iso")
    assert (other["sha256"], other["file_id"] != resumed["file_id"]) == (resumed["sha256"], True)

    _comes_back_byte_for_byte(server, environment, big, str(other["file_id"]), tmp_path / "copy.iso")


def _comes_back_byte_for_byte(
    server: RunningServer, environment: Mapping[str, str], big: Path, file_id: str, copy: Path
) -> None:
    (got,) = remora_json(environment, "get", "DEMO-1", "big.iso", "-o", str(copy))
    assert (got["size_bytes"], got["bytes_received"]) == (BIG_BYTES, BIG_BYTES)
    assert sha256sum(copy) == sha256sum(big)
    content = big.read_bytes()
    for offset, limit in (
        (0, 10),
        (MIB - 5, 10),
        (100 * MIB + 1, 3 * MIB),
        (BIG_BYTES - 7, 0),
        (-9, 0),
        (BIG_BYTES, 0),
    ):
        request = file_service_pb2.ReadFileRequest(file_id=file_id, offset=offset, limit=limit)
        read = b"".join(answer.chunk.data.content for answer in server.api().files.ReadFile(request))
        begin = offset if offset >= 0 else BIG_BYTES + offset
        assert read == content[begin : begin + limit if limit else None], (offset, limit)


def test_a_server_killed_in_the_middle_only_costs_time(start_server: StartServer, big: Path, tmp_path: Path) -> None:
    """When it is back on the same port, the upload goes on by itself and nothing is damaged."""
    server = start_server()
    environment = environment_for(server, tmp_path)
    putting = start(environment, REMORA, "put", "DEMO-1", str(big), "--json")
    wait_for_share(server, 0.4, putting)
    server.kill()
    time.sleep(0.5)
    assert putting.poll() is None
    server.restart()
    code, out, error = ended(putting)
    assert code == 0, error
    done = json.loads(out)
    assert (done["outcome"], done["sha256"]) == ("stored", sha256sum(big))
    assert done["bytes_sent"] >= BIG_BYTES
    assert server.command("fsck").stdout == "clean: 1 files, 1 blobs, 0 orphans\n"


def test_what_sigint_interrupts_can_go_on(start_server: StartServer, big: Path, tmp_path: Path) -> None:
    """^C ends `put` with 130 and the command that goes on; progress in a pipe is plain lines."""
    server = start_server()
    environment = environment_for(server, tmp_path)
    putting = start(environment, REMORA, "put", "DEMO-1", str(big))
    wait_for_share(server, 0.3, putting)
    putting.send_signal(signal.SIGINT)
    code, out, error = ended(putting)
    assert (code, out) == (130, "")
    assert error.splitlines()[-1] == f"remora: interrupted. To go on: remora put DEMO-1 {big}"
    done = run(environment, REMORA, "put", "DEMO-1", str(big))
    assert done.returncode == 0
    assert re.match(r"big\.iso: resuming at \d+ %\n", done.stderr)
    assert "\r" not in error + done.stderr
    assert "\x1b" not in error + done.stderr


def test_a_server_of_its_own() -> None:
    """`Client.local()` starts a real server, which ends with the client."""
    with Client.local() as client:
        done = client.put("DEMO-1", readme.README)
        assert (done.outcome, done.file.sha256) == ("stored", sha256sum(readme.README))
        assert b"".join(client.iter_download("DEMO-1", "README.md")) == readme.README.read_bytes()
        address = client.address
    done_here = run(clean_environment(Path("/")), REMORA, "--address", address, "--workspace", "demo", "ls", "DEMO-1")
    assert done_here.returncode == 3


def test_watch_and_activity_tell_the_same(server: RunningServer, tmp_path: Path) -> None:
    """What a watch delivers is what the list has, in the order in which it happened; ^C ends a watch with 0."""
    environment = environment_for(server, tmp_path)
    (first,) = remora_json(environment, "attach", "DEMO-3", URL, "--title", "Build 7")
    assert first["outcome"] == "created"
    (created,) = remora_json(environment, "activity", "DEMO-3")
    watching = start(environment, REMORA, "watch", "DEMO-3", "--cursor", created["cursor"], "--json")
    assert watching.stdout is not None
    remora_json(environment, "attach", "DEMO-3", URL, "--title", "Build 7: passed", "--meta", "branch=main")
    remora_json(environment, "links", "add", "DEMO-3", "https://example.com/design")
    seen = [json.loads(watching.stdout.readline()) for _ in range(2)]
    watching.send_signal(signal.SIGINT)
    assert ended(watching)[0] == 0
    assert [one["type"] for one in seen] == ["attachment.updated.v1", "link.created.v1"]
    assert [one["activity_id"] for one in remora_json(environment, "activity", "DEMO-3")] == [
        one["activity_id"] for one in (*reversed(seen), created)
    ]
    assert sorted(seen[0]["changed_fields"]) == ["metadata", "title"]
    assert seen[0]["actor"]["display_name"] == "Demo User"


def test_what_serve_prints_for_programs(server: RunningServer) -> None:
    """The first line of `serve --dev --json` is one object that tells where everything is."""
    ready = server.ready
    assert list(ready) == ["event", "grpc", "http", "key", "workspace", "issues"]
    assert (ready["event"], ready["workspace"]) == ("ready", "demo")
    assert ready["issues"] == ["DEMO-1", "DEMO-2", "DEMO-3"]
    assert re.fullmatch(r"127\.0\.0\.1:\d+", ready["grpc"])
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", ready["http"])
    assert ready["key"].startswith("rk_dev_")


def test_dev_info_addresses_all_that_was_seeded(server: RunningServer) -> None:
    """`dev-info --json` has the key, and ids, UUIDs and keys of workspace, project and issues."""
    info = server.report("dev-info")
    assert list(info) == ["key", "workspace", "project", "issues"]
    assert info["key"] == server.ready["key"]
    assert set(info["workspace"]) == {"id", "slug"}
    assert set(info["project"]) == {"id", "uuid", "key"}
    assert [set(issue) for issue in info["issues"]] == [{"id", "uuid", "key"}] * 3
    assert [issue["key"] for issue in info["issues"]] == server.ready["issues"]
    assert (server.data / "dev.json").stat().st_mode & 0o777 == 0o600


def test_what_an_operator_makes(start_server: StartServer, tmp_path: Path) -> None:
    """A workspace, a project and a key are made by command, beside a server that runs; the key works at once."""
    server = start_server()
    workspace = server.report("workspaces", "create", "Acme Inc")
    assert workspace.items() >= {"slug": "acme-inc"}.items()
    assert workspace["workspace_id"].startswith("wks_")
    assert server.report("workspaces", "create", "Acme Inc")["workspace_id"] == workspace["workspace_id"]
    project = server.report("projects", "create", "PLAT", "--workspace", "acme-inc")
    assert list(project) == ["project_id", "uuid", "key"]
    assert project["key"] == "PLAT"
    key = server.report("keys", "create", "--workspace", workspace["workspace_id"], "--user", "ci")
    assert set(key) >= {"key", "principal_id"}
    environment = {**environment_for(server, tmp_path), "REMORA_KEY": key["key"], "REMORA_WORKSPACE": "acme-inc"}
    (card,) = remora_json(environment, "attach", "PLAT-1", URL)
    assert card["outcome"] == "created"
    elsewhere = run({**environment, "REMORA_WORKSPACE": "demo"}, REMORA, "attach", "DEMO-1", URL)
    assert elsewhere.returncode == 1


def test_config_lists_every_setting_with_its_origin(tmp_path: Path) -> None:
    """One object a line: name, value, origin; a flag is told from the environment and from the default."""
    environment = clean_environment(tmp_path, REMORA_TICKET_TTL="2h")
    done = run(environment, REMORA_SERVER, "config", "--json", "--grpc-port", "7000", cwd=tmp_path)
    rows = {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert {"name", "value", "origin"} <= set(rows["REMORA_DATA"])
    assert (rows["REMORA_GRPC_PORT"]["value"], rows["REMORA_GRPC_PORT"]["origin"]) == ("7000", "flag --grpc-port")
    assert (rows["REMORA_TICKET_TTL"]["value"], rows["REMORA_TICKET_TTL"]["origin"]) == (
        "7200",
        "environment REMORA_TICKET_TTL",
    )
    assert rows["REMORA_LOG"]["origin"] == "default"
    assert all(name.startswith("REMORA_") for name in rows)


@pytest.mark.parametrize("command", ["serve", "config", "fsck", "gc"])
def test_a_misspelt_setting_is_refused_with_the_right_one(tmp_path: Path, command: str) -> None:
    """The name that was meant is suggested; names that belong to tests or to the client pass."""
    environment = clean_environment(tmp_path, REMORA_DATBASE_URL="sqlite:///x.db")
    done = run(environment, REMORA_SERVER, command, "--data", str(tmp_path / "data"))
    assert done.returncode == 2
    assert "REMORA_DATBASE_URL" in done.stderr
    assert "did you mean REMORA_DATABASE_URL?" in done.stderr
    fine = clean_environment(tmp_path, REMORA_TEST_X="1", REMORA_BARS_X="1", REMORA_KEY="rk_x")
    assert run(fine, REMORA_SERVER, "config").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("put", "DEMO-1", str(readme.README)), 0),
        (("ls", "DEMO-1", "--key", "rk_wrong"), 1),
        (("get", "DEMO-1", "no such file"), 1),
        (("put", "DEMO-1", "no-such-file"), 2),
        (("put",), 2),
        (("sing",), 2),
        (("ls", "DEMO-1", "--no-such-option"), 2),
        (("ls", "DEMO-1", "--address", "127.0.0.1:1"), 3),
    ],
)
def test_exit_codes_of_remora(server: RunningServer, tmp_path: Path, arguments: tuple[str, ...], code: int) -> None:
    """0 done, 1 refused by the service, 2 bad usage, 3 could not connect; every failure says something."""
    done = run(environment_for(server, tmp_path), REMORA, *arguments)
    assert done.returncode == code, done.stderr
    assert bool(done.stderr.strip()) == (code != 0)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("config",), 0),
        (("fsck",), 1),
        (("dev-info",), 1),
        (("sing",), 2),
        (("serve", "--grpc-port", "many"), 2),
        (("serve", "--no-such-option"), 2),
    ],
)
def test_exit_codes_of_remora_server(tmp_path: Path, arguments: tuple[str, ...], code: int) -> None:
    """0 done, 1 refused, 2 bad usage; every failure says something."""
    done = run(clean_environment(tmp_path), REMORA_SERVER, *arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert bool(done.stderr.strip()) == (code != 0)


def test_bad_usage_is_told_in_a_line(tmp_path: Path) -> None:
    """The flags of all settings, which every command takes, do not come before what is wrong."""
    done = run(clean_environment(tmp_path), REMORA_SERVER, "keys", "list", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "remora-server keys list: the following arguments are required: --workspace. "
        "See `remora-server keys list --help`.\n"
    )


@pytest.mark.parametrize("more", [(), ("--workers", "2")])
def test_an_address_that_can_not_be_listened_on(tmp_path: Path, more: tuple[str, ...]) -> None:
    """It is the address that is to be changed, not a port."""
    ports = ("--grpc-port", "0", "--http-port", "0")
    environment = clean_environment(tmp_path, REMORA_LISTEN="0.0.0.999")
    done = run(environment, REMORA_SERVER, "serve", *ports, *more, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith("choose another with --listen.\n")


def test_listening_to_other_machines_without_tls(start_server: StartServer) -> None:
    """The log warns of it once; of a server that only this machine reaches it says nothing."""
    warning = "without TLS: keys and contents can be read on the way"
    assert warning not in start_server().log()
    for more in ((), ("--workers", "2")):
        server = start_server("--listen", "0.0.0.0", *more)  # noqa: S104 - That is what is warned of.
        assert server.log().count(warning) == 1
        server.stop()


def test_blobs_in_a_directory_of_that_name(tmp_path: Path) -> None:
    """Whether its path is absolute or not, REMORA_BLOBS takes it, and what is stored is there."""
    for number, blobs in enumerate((str(tmp_path / "absolute"), os.path.relpath(tmp_path / "relative"))):
        server = RunningServer(tmp_path / f"data{number}", environment={"REMORA_BLOBS": blobs}).start()
        try:
            path = tmp_path / "some.bin"
            path.write_bytes(os.urandom(MIB))
            remora_json(environment_for(server, tmp_path), "put", "DEMO-1", str(path))
        finally:
            server.stop()
        assert any(kept.is_file() and kept.stat().st_size == MIB for kept in Path(blobs).rglob("*"))


def test_fsck_finds_a_flipped_byte(start_server: StartServer, tmp_path: Path) -> None:
    """It ends with 1 and names file and blob; without a backup, what the README says makes it clean again."""
    server = start_server()
    environment = environment_for(server, tmp_path)
    path = tmp_path / "some.bin"
    path.write_bytes(os.urandom(MIB))
    (put,) = remora_json(environment, "put", "DEMO-1", str(path))
    assert server.command("fsck").returncode == 0
    (blob,) = server.blob_files()
    damaged = bytearray(blob.read_bytes())
    damaged[MIB // 2] ^= 1
    blob.write_bytes(damaged)
    done = server.command("fsck", check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("not clean: ")
    assert "\n  corrupt: some.bin (files/fil_" in done.stdout
    assert blob.name in done.stdout
    remora_json(environment, "rm", put["attachment_id"])
    server.command("gc", "--grace", "0")
    (again,) = remora_json(environment, "put", "DEMO-1", str(path))
    assert again["outcome"] == "stored"
    assert server.command("fsck").returncode == 0


def test_sigterm_ends_a_server_with_0(start_server: StartServer) -> None:
    """It drains and exits; the same data serve again."""
    server = start_server()
    key = server.ready["key"]
    assert server.stop() == 0
    assert server.start().ready["key"] == key


@pytest.mark.parametrize("program", COMMANDS, ids=["remora", "remora-server"])
def test_every_command_has_help_with_an_example(tmp_path: Path, program: str) -> None:
    """`--help` shows how a command is used, and needs no server."""
    environment = clean_environment(tmp_path, TERM="dumb")
    for command in COMMANDS[program]:
        done = run(environment, program, *command.split(), "--help")
        assert done.returncode == 0
        assert f"xample: {Path(program).name} {command} " in f"{done.stdout} ", command


def _without_progress(error: str) -> str:
    """Take out what a terminal shows as a bar that goes away."""
    return "".join(line for line in error.splitlines(keepends=True) if "MB/s" not in line)


def _resident_kib(server: RunningServer) -> int:
    return _status_kib(server, "VmRSS")


def _peak_kib(server: RunningServer) -> int:
    return _status_kib(server, "VmHWM")


def _status_kib(server: RunningServer, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{server.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])

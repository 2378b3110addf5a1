"""The program, as a caller sees it: exit codes, what is on which stream, and the shapes of its JSON."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from remora import Progress
from remora.cli.display import Lines
from remora.cli.settings import hoist
from remora.v1 import activity_service_pb2, file_pb2, file_service_pb2
from tests.client.fake_server import KEY, FakeServer, Fault, Wanted, activity
from tests.running import RunningServer

PROGRAM = Path(sys.executable).with_name("remora")
COMMANDS = [
    "put",
    "get",
    "ls",
    "attach",
    "rm",
    "undelete",
    "links add",
    "links ls",
    "links rm",
    "activity",
    "watch",
    "tickets",
]


def start(fake: FakeServer | None, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start the program with settings for the fake server in its environment."""
    environment = dict(os.environ)
    if fake is not None:
        environment |= {"REMORA_ADDRESS": fake.address, "REMORA_KEY": KEY, "REMORA_WORKSPACE": "demo"}
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([PROGRAM, *arguments], env=environment, **(given | options))


def run(fake: FakeServer | None, *arguments: str, **options: Any) -> tuple[int, str, str]:
    """Run the program to its end; return its exit code, output and messages."""
    content = options.pop("content", None)
    with start(fake, *arguments, **options) as child:
        output, messages = child.communicate(content, timeout=60)
    return child.returncode, output.decode(), messages.decode()


def lines(output: str) -> list[dict[str, Any]]:
    """Read one JSON object a line."""
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_an_example(command: str) -> None:
    """Each command shows how it is used."""
    code, output, _ = run(None, *command.split(), "--help")
    assert code == 0
    assert f"Example: remora {command}".strip() in " ".join(output.split())


def test_put_prints_what_it_did(fake: FakeServer, big: Path) -> None:
    """For programs exactly these keys; for people a sentence."""
    code, output, _ = run(fake, "put", "DEMO-1", str(big), "--json")
    assert code == 0
    (done,) = lines(output)
    (file,) = (file for file, _ in fake.files.values())
    assert done == {
        "name": "big.iso",
        "file_id": file.id,
        "attachment_id": fake.attachments[0].id,
        "size_bytes": big.stat().st_size,
        "sha256": file.checksums.sha256.hex(),
        "outcome": "stored",
        "bytes_sent": big.stat().st_size,
        "resumed_at": 0,
    }
    code, output, _ = run(fake, "put", "DEMO-1", str(big))
    assert (code, output) == (0, f"big.iso: already stored, 0 bytes sent  {file.id}\n")


def test_an_interrupted_put_goes_on(fake: FakeServer, big: Path) -> None:
    """^C ends it with 130 and says how; the next run says where it resumes; `tickets` shows it meanwhile."""
    fake.faults.extend([Fault("hang", 2 << 20)])
    with start(fake, "put", "DEMO-1", str(big)) as child:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not any(len(one.data) >= 2 << 20 for one in fake.tickets.values()):
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=20)
    assert child.returncode == 130
    assert f"To go on: remora put DEMO-1 {big}" in said.decode()
    code, output, _ = run(fake, "--json", "tickets")
    assert (code, lines(output)) == (
        0,
        [
            {
                "upload_ticket_id": next(iter(fake.tickets)),
                "name": "big.iso",
                "committed_size": 2 << 20,
                "size_bytes": big.stat().st_size,
                "expire_time": "2027-01-15T08:00:00Z",
            }
        ],
    )
    code, output, messages = run(fake, "put", "DEMO-1", str(big), "--json")
    assert code == 0
    assert "big.iso: resuming at 49 %" in messages
    assert lines(output)[0]["resumed_at"] == 2 << 20
    assert lines(output)[0]["bytes_sent"] == big.stat().st_size - (2 << 20)


def test_several_files_go_on_after_a_failure(fake: FakeServer, tmp_path: Path) -> None:
    """The first is refused, the second is stored; the exit code tells."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    fake.unary_failures.append(Wanted(grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING", {"scope": "files:write"}))
    code, output, messages = run(fake, "put", "DEMO-1", str(tmp_path / "one"), str(tmp_path / "two"), "--json")
    assert code == 1
    assert [done["name"] for done in lines(output)] == ["two"]
    (failure,) = lines(messages)
    assert failure["error"]["reason"] == "SCOPE_MISSING"
    assert failure["error"]["metadata"] == {"scope": "files:write"}


def test_standard_input_and_output(fake: FakeServer) -> None:
    """`-` is either."""
    code, output, _ = run(
        fake, "put", "DEMO-1", "-", "--name", "in.bin", "--json", content=b"x" * 300_000, stdin=subprocess.PIPE
    )
    assert (code, lines(output)[0]["name"]) == (0, "in.bin")
    assert run(fake, "get", "DEMO-1", "in.bin", "-o", "-")[:2] == (0, "x" * 300_000)


def test_get_writes_a_verified_file(fake: FakeServer, big: Path, tmp_path: Path) -> None:
    """By issue and name, or by id alone."""
    file_id = lines(run(fake, "put", "DEMO-1", str(big), "--json")[1])[0]["file_id"]
    code, output, _ = run(fake, "get", "DEMO-1", "big.iso", "-o", str(tmp_path / "a"), "--json")
    assert (code, lines(output)[0]["path"]) == (0, str(tmp_path / "a"))
    assert run(fake, "get", file_id, "-o", str(tmp_path / "b"))[0] == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == big.read_bytes()


def test_get_writes_what_shows_a_file(fake: FakeServer, big: Path, tmp_path: Path) -> None:
    """Under a name made of the file's, unless something lies there; one form at a time."""
    file_id = lines(run(fake, "put", "DEMO-1", str(big), "--json")[1])[0]["file_id"]
    fake.renditions[file_id, file_service_pb2.RENDITION_THUMBNAIL] = ("image/png", b"small")
    code, output, _ = run(fake, "get", "DEMO-1", "big.iso", "--thumbnail", "--json", cwd=tmp_path)
    assert code == 0
    assert lines(output) == [
        {
            "name": "big-thumbnail.png",
            "file_id": file_id,
            "rendition": "thumbnail",
            "path": "big-thumbnail.png",
            "content_type": "image/png",
            "size_bytes": 5,
            "sha256": hashlib.sha256(b"small").hexdigest(),
            "bytes_received": 5,
            "resumed_at": 0,
        }
    ]
    assert (tmp_path / "big-thumbnail.png").read_bytes() == b"small"
    code, _, messages = run(fake, "get", "DEMO-1", "big.iso", "--thumbnail", cwd=tmp_path)
    assert (code, "big-thumbnail.png is here already" in messages) == (2, True)
    code, output, _ = run(fake, "get", file_id, "--thumbnail", "-o", "-")
    assert (code, output) == (0, "small")
    code, _, messages = run(fake, "get", file_id, "--thumbnail", "--preview")
    assert (code, "give one of them" in messages) == (2, True)
    code, _, messages = run(fake, "get", file_id, "--preview", "--wait", "60", "--json")
    assert (code, json.loads(messages)["error"]["reason"]) == (1, "PREVIEW_UNAVAILABLE")
    assert "--wait" not in messages
    fake.files[file_id][0].preview.state = file_pb2.PREVIEW_STATE_PENDING
    code, _, messages = run(fake, "get", file_id, "--preview")
    assert (code, "With --wait 30" in messages) == (1, True)


def test_ls_tells_what_a_file_looks_like(fake: FakeServer, big: Path) -> None:
    """In a column that is not there if nothing is known of any file; for programs always."""
    run(fake, "put", "DEMO-1", str(big))
    _, output, _ = run(fake, "ls", "DEMO-1")
    assert re.search(r"MB  big\.iso  fil_", output)
    for shown in fake.attachments:
        shown.file.media.width, shown.file.media.height = 40, 30
        shown.file.preview.CopyFrom(file_pb2.FilePreview(state=file_pb2.PREVIEW_STATE_PENDING))
    _, output, _ = run(fake, "ls", "DEMO-1")
    assert "big.iso  40 x 30, preview pending  fil_" in output
    (told,) = lines(run(fake, "ls", "DEMO-1", "--json")[1])
    assert told["media"] == {"width": 40, "height": 30}
    assert told["preview"] == {"available": False, "kind": "", "state": "pending", "reason": ""}


def test_progress_is_a_line_now_and_then_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, with speed and time left; not more often than every two seconds."""
    now = 0.0
    shown = Lines(lambda: now)
    for second in range(6):
        now = second + 0.5
        shown.show(Progress("big.iso", "sending", second * 1_000_000, 10_000_000))
    now = 9
    shown.show(Progress("pipe", "sending", 5_000_000, None))
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == [
        "big.iso: sending 10 %, 1.0 MB/s, 9 s left",
        "big.iso: sending 30 %, 1.0 MB/s, 7 s left",
        "big.iso: sending 50 %, 1.0 MB/s, 5 s left",
        "pipe: sending 5.0 MB, 0.6 MB/s",
    ]


def test_cards_and_links(fake: FakeServer) -> None:
    """Each prints one object, or one an item."""
    url = "https://ci.example/7"
    arguments = ("attach", "DEMO-1", url, "--title", "Build 7", "--subtitle", "passed", "--meta", "branch=main")
    (first,) = lines(run(fake, *arguments, "--json")[1])
    assert (first["outcome"], first["url"], first["title"]) == ("created", url, "Build 7")
    assert (first["subtitle"], first["metadata"], first["kind"]) == ("passed", {"branch": "main"}, "url")
    assert "unchanged" in run(fake, *arguments)[1]
    (listed,) = lines(run(fake, "ls", "DEMO-1", "--json")[1])
    keys = {"attachment_id", "kind", "title", "name", "url", "file_id", "size_bytes", "sha256", "create_time"}
    assert keys <= set(listed)
    assert listed["attachment_id"] == first["attachment_id"]
    assert "Build 7" in run(fake, "ls", "DEMO-1")[1]
    assert lines(run(fake, "rm", first["attachment_id"], "--json")[1])[0]["attachment_id"] == first["attachment_id"]
    assert run(fake, "ls", "DEMO-1")[1] == "DEMO-1 has no attachments\n"
    (link,) = lines(run(fake, "links", "add", "DEMO-1", url, "--title", "CI", "--json")[1])
    assert link["created"] is True
    assert [one["link_id"] for one in lines(run(fake, "links", "--json", "ls", "DEMO-1")[1])] == [link["link_id"]]
    assert run(fake, "links", "rm", link["link_id"])[0] == 0


def test_the_log_is_shown_and_followed(fake: FakeServer) -> None:
    """A line an event; ^C is how a watch ends."""
    found = lines(run(fake, "activity", "DEMO-1", "--json")[1])
    assert [one["activity_id"] for one in found] == ["act_2", "act_1"]
    assert found[0]["type"] == "file.created.v1"
    assert len(run(fake, "activity", "DEMO-1", "--limit", "1")[1].splitlines()) == 1
    watched = activity_service_pb2.WatchActivitiesResponse
    fake.watches.append([watched(batch=watched.Batch(activities=[activity(1)], cursor="c1"))])
    code, output, messages = run(fake, "watch", "DEMO-1", "--json")  # Ends when the fake loses the place.
    assert (code, [one["activity_id"] for one in lines(output)]) == (1, ["act_1"])
    assert lines(messages)[0]["error"]["reason"] == "CURSOR_COMPACTED"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["put", "DEMO-1"],
        ["put", "DEMO-1", "missing.bin"],
        ["put", "DEMO-1", "."],
        ["get", "DEMO-1"],
        ["rm", "DEMO-1"],
        ["undelete", "DEMO-1"],
        ["attach", "DEMO-1", "https://x.example", "--meta", "novalue"],
        ["ls", "DEMO-1", "--nope"],
    ],
)
def test_bad_usage_is_2_and_sends_nothing(fake: FakeServer, arguments: list[str]) -> None:
    """With --json it is an object too."""
    code, output, messages = run(fake, *arguments)
    assert (code, output) == (2, "")
    assert messages
    code, output, messages = run(fake, *arguments, "--json")
    assert (code, output) == (2, "")
    assert lines(messages)[0]["error"]["reason"] == "USAGE"
    assert fake.calls == []


def test_what_was_removed_comes_back(server: RunningServer, new_issue: str, tmp_path: Path) -> None:
    """A card by its id, a file by its own; the log names both. With a real server."""
    given = ["--address", server.address, "--key", str(server.ready["key"]), "--workspace", "demo", "--json"]
    path = tmp_path / "plan.md"
    path.write_text(f"# {new_issue}\n")
    (put,) = lines(run(None, "put", new_issue, str(path), *given)[1])
    (card,) = lines(run(None, "attach", new_issue, "https://ci.example/9", "--title", "Build 9", *given)[1])
    for key, gone in (("attachment_id", card["attachment_id"]), ("file_id", put["file_id"])):
        assert lines(run(None, "rm", gone, *given)[1])[0][key] == gone
        assert run(None, "undelete", gone, *given)[0] == 0
    (listed,) = lines(run(None, "ls", new_issue, *given)[1])
    assert listed["attachment_id"] == card["attachment_id"]
    names = {one["type"]: one["name"] for one in lines(run(None, "activity", new_issue, *given)[1])}
    assert names["attachment.created.v1"] in {"plan.md", "Build 9"}
    assert names["attachment.undeleted.v1"] == "Build 9"
    code, _, messages = run(None, "undelete", card["attachment_id"], *given)
    assert (code, lines(messages)[0]["error"]["reason"]) == (1, "NOT_DELETED")


def test_a_misspelt_setting_is_bad_usage(monkeypatch: pytest.MonkeyPatch, fake: FakeServer) -> None:
    """It would otherwise be passed over without a word; the server's own settings are left alone."""
    monkeypatch.setenv("REMORA_GRPC_PORT", "7460")
    assert run(fake, "ls", "DEMO-1")[0] == 0
    monkeypatch.setenv("REMORA_ADRESS", fake.address)
    before = len(fake.calls)
    code, _, messages = run(fake, "ls", "DEMO-1", "--json")
    assert code == 2
    assert "REMORA_ADRESS" in messages
    assert "did you mean REMORA_ADDRESS?" in messages
    assert len(fake.calls) == before


def test_a_missing_workspace_is_bad_usage() -> None:
    """And says how to name one."""
    code, _, messages = run(None, "ls", "DEMO-1", "--key", "k")
    assert code == 2
    assert "REMORA_WORKSPACE" in messages


@pytest.mark.parametrize("command", [["ls", "DEMO-1"], ["put", "DEMO-1", __file__], ["watch", "DEMO-1"]])
def test_an_unreachable_server_is_3(command: list[str]) -> None:
    """And says what to do."""
    options = ["--address", "127.0.0.1:1", "--workspace", "demo", "--key", "k"]
    code, output, messages = run(None, *command, *options)
    assert (code, output) == (3, "")
    assert "could not reach the server (Connection refused). Start a server" in messages


def test_an_unreachable_server_is_an_object_too() -> None:
    """With --json, on standard error."""
    code, output, messages = run(None, "ls", "A-1", "--address=127.0.0.1:1", "--workspace=demo", "--key=k", "--json")
    assert (code, output, lines(messages)[0]["error"]["reason"]) == (3, "", "CONNECTION_FAILED")


def test_a_refusal_is_1_and_ends_with_the_next_step(fake: FakeServer) -> None:
    """Whether the service refuses or the name is not there."""
    code, output, messages = run(fake, "ls", "DEMO-1", "--key", "wrong")
    assert (code, output) == (1, "")
    assert messages.endswith("Set REMORA_KEY or pass --key; `remora-server keys create` makes one.\n")
    code, _, messages = run(fake, "get", "DEMO-1", "nope", "-o", "x", "--json")
    assert code == 1
    assert lines(messages)[0]["error"]["reason"] == "RESOURCE_NOT_FOUND"


@pytest.mark.parametrize("workspace", ["demo", {"id": "wks_1", "slug": "demo"}])
def test_a_development_server_here_needs_no_settings(fake: FakeServer, tmp_path: Path, workspace: object) -> None:
    """Its key is in the data that `scripts/serve` makes in the current folder."""
    (tmp_path / "remora-data").mkdir()
    (tmp_path / "remora-data" / "dev.json").write_text(json.dumps({"key": KEY, "workspace": workspace}))
    code, _, messages = run(None, "ls", "DEMO-1", "--address", fake.address, cwd=tmp_path)
    assert (code, messages) == (0, "")
    assert fake.calls[0].workspace_id == "demo"


def test_names_cannot_steer_the_terminal(fake: FakeServer) -> None:
    """Control characters of a title are not printed."""
    run(fake, "attach", "DEMO-1", "https://x.example", "--title", "a\x1b[2Jb")
    assert "\x1b" not in run(fake, "ls", "DEMO-1")[1]


def test_a_reader_that_has_seen_enough_is_no_failure(fake: FakeServer) -> None:
    """As in `remora ls | head`."""
    run(fake, "attach", "DEMO-1", "https://x.example")
    reading, writing = os.pipe()
    os.close(reading)
    with start(fake, "ls", "DEMO-1", stdout=writing) as child:
        os.close(writing)
        _, messages = child.communicate(timeout=20)
    assert (child.returncode, messages) == (0, b"")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["put", "A", "f", "--json"], ["--json", "put", "A", "f"]),
        (["put", "--key", "k", "A", "--address=x:1"], ["--key", "k", "--address=x:1", "put", "A"]),
        (["put", "A", "--", "--json"], ["put", "A", "--", "--json"]),
        (["put", "--key"], ["--key", "put"]),
    ],
)
def test_common_options_may_stand_anywhere(given: list[str], wanted: list[str]) -> None:
    """Before the command or after it."""
    assert hoist(given) == wanted


def test_help_loads_nothing_that_takes_long() -> None:
    """Neither gRPC nor the bars."""
    script = "import sys, remora.cli.app; print([m for m in ('grpc', 'rich', 'google.protobuf') if m in sys.modules])"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output == "[]\n"


def test_on_a_terminal_a_bar_shows_the_progress(fake: FakeServer, big: Path) -> None:
    """With percents and speed; what is printed stays below it."""
    fake.faults.append(Fault("drain", 2 << 20))
    terminal, end = pty.openpty()
    with start(fake, "put", "DEMO-1", str(big), stderr=end) as child:
        os.close(end)
        output, _ = child.communicate(timeout=20)
    shown = os.read(terminal, 1 << 20).decode()
    os.close(terminal)
    assert child.returncode == 0
    assert output.startswith(b"big.iso: stored")
    assert "sending big.iso" in shown
    assert "%" in shown

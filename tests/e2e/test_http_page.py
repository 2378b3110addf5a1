"""The page about files over HTTP: what it tells its readers to do is done here, in its order."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from remora.v1 import file_pb2
from remora.v1 import file_service_pb2 as files_pb
from remora_server.gateway import errors
from tests.combinations import own_urls
from tests.e2e import curls, readme
from tests.e2e.programs import clean_environment, require
from tests.gcs.running import RunningGcs
from tests.running import Api, RunningServer
from tests.ticketing import TRANSPORTS, curl, download_url, http_ticket, make_file, send
from tests.uploading import attached, checksums_of, read, spec_of

PAGE = Path(__file__).parents[2] / "server" / "docs" / "http-tickets.md"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make the files that the page sends."""
    (tmp_path / "photo.png").write_bytes(PNG)
    (tmp_path / "notes.txt").write_text("some notes\n")
    (tmp_path / "big.iso").write_bytes(os.urandom(3_000_000))
    return tmp_path


@own_urls
def test_the_commands(start_server: Callable[..., RunningServer], folder: Path) -> None:
    """They run as they stand there, but for the address of the server, and the files are what they should be."""
    require("jq")
    server = start_server()
    script = "\n".join(["set -eu -o pipefail", *readme.blocks("bash", PAGE)])
    script = script.replace(readme.ADDRESS, server.address).replace("dev-info", f"dev-info --data {server.data}")
    environment = clean_environment(folder)
    path = [str(Path(sys.executable).parent), str(curls.folder_of(curls.best_tool(), folder)), environment["PATH"]]
    done = subprocess.run(
        ["bash", "-c", script],  # noqa: S607
        cwd=folder,
        env={**environment, "PATH": os.pathsep.join(path)},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    api = server.api()
    files = {one.name: one for one in api.files.ListFiles(files_pb.ListFilesRequest(workspace_id="demo")).files}
    assert {name: read(api, file.id) for name, file in files.items()} == {
        name: (folder / name).read_bytes() for name in ("photo.png", "notes.txt", "big.iso")
    }
    assert [file.id for file in attached(api, "DEMO-1")] == [files["photo.png"].id]


def test_the_script(api: Api, tmp_path: Path) -> None:
    """What a web page runs to send a file works for each transport."""
    require("node")
    (script,) = readme.blocks("js", PAGE)
    for transport in TRANSPORTS.values():
        data = os.urandom(600_000)
        (tmp_path / "data").write_bytes(data)
        made = http_ticket(api, transport, file_pb2.FileSpec(name="a", content_type="image/png"))
        http = {
            "method": made.http.method,
            "url": made.http.url,
            "headers": [{"name": one.name, "value": one.value} for one in made.http.headers],
            "form_data": [{"name": one.name, "value": one.value} for one in made.http.form_data],
        }
        program = f"""{script}
            const fs = await import("node:fs");
            await send({json.dumps(http)}, new Blob([fs.readFileSync("data")], {{ type: "image/png" }}));
        """
        (tmp_path / "send.mjs").write_text(program)
        subprocess.run(["node", "send.mjs"], cwd=tmp_path, check=True)  # noqa: S607
        assert read(api, make_file(api, made.id).id) == data


@own_urls
def test_the_form(api: Api) -> None:
    """The fields that the page shows are those of a ticket, in their order."""
    (form,) = readme.blocks("html", PAGE)
    made = http_ticket(api, TRANSPORTS["form"], file_pb2.FileSpec(name="a", content_type="text/plain"))
    assert re.findall(r'name="(\w+)"', form) == [field.name for field in made.http.form_data]


def test_the_answers() -> None:
    """The table knows every refusal of the endpoints by its status."""
    statuses = {kind.reason: status for kind, (status, _) in errors.STATUSES.items()}
    statuses |= {kind.reason: kind.status for kind in errors.HttpError.__subclasses__()}
    statuses["VALIDATION_FAILED"] = 400
    rows = re.findall(r"^\| (\d{3}) \| (.*?) \|", PAGE.read_text(), re.MULTILINE)
    told = {reason: int(status) for status, reasons in rows for reason in re.findall(r"`(\w+)`", reasons)}
    assert {reason: statuses[reason] for reason in told} == told
    assert len(told) > 15


def test_what_differs_with_a_bucket(start_server: Callable[..., RunningServer], gcs: RunningGcs) -> None:
    """It is as the page says: what a URL outlives, what is sent again, and which headers pages must be let send."""
    server = start_server(REMORA_BLOBS=f"gs://{gcs.bucket}/{uuid4()}", **gcs.environment)
    api, data = server.api(), os.urandom(100_000)
    (rules,) = json.loads(readme.blocks("json", PAGE)[0])
    sent_again = {}
    for name, transport in TRANSPORTS.items():
        spec = spec_of("a.png", len(data), checksums_of(data, "md5"))
        spec.content_type = "image/png"
        made = http_ticket(api, transport, spec)
        assert made.http.method in rules["method"]
        assert {header.name for header in made.http.headers} <= set(rules["responseHeader"])
        assert send(made.http, data).ok
        again = send(made.http, os.urandom(len(data)))
        sent_again[name] = again.status
        if name == "form":
            assert send(made.http, data).ok  # Or there would be other bytes now.
        file = make_file(api, made.id)
        assert read(api, file.id) == data
    assert (sent_again["put"], sent_again["form"]) == (412, 201)
    url = download_url(api, file.id)
    api.files.DeleteFile(files_pb.DeleteFileRequest(file_id=file.id, detach=True))
    found = curl(url)
    assert (found.status, found.body) == (200, data)
    refusal = curl(url.replace("Signature=", "Signature=00"))
    assert refusal.status == 403
    assert b"<Code>SignatureDoesNotMatch</Code>" in refusal.body
    small = api.files.UploadFile(files_pb.UploadFileRequest(workspace_id="demo", spec=spec_of("b"), data=b"b")).file.id
    url = download_url(api, small)
    assert url.startswith(server.ready["http"])
    api.files.DeleteFile(files_pb.DeleteFileRequest(file_id=small, detach=True))
    assert curl(url).status == 404


def test_a_program_that_is_missing(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that wants it fails in CI; elsewhere it is skipped, and the last lines of the run name the program."""
    pytester.makeconftest("from tests.conftest import pytest_terminal_summary\n")
    pytester.makepyfile("""
        from tests.e2e.programs import require

        def test_it():
            require("no-such-program")
    """)
    monkeypatch.setenv("PYTHONPATH", str(PAGE.parents[2]))
    monkeypatch.setenv("CI", "true")
    failed = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    failed.assert_outcomes(failed=1)
    failed.stdout.fnmatch_lines(["*`no-such-program` is missing*"])
    monkeypatch.delenv("CI")
    skipped = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-q")
    skipped.assert_outcomes(skipped=1)
    skipped.stdout.fnmatch_lines(["NOT TESTED here, for want of a program: no-such-program"])

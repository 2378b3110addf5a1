"""Stores that can't be reached at the start: what is said at once, and what in the end."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from remora_server import __main__, opening
from remora_server.stores import gcs_calls
from tests import postgres
from tests.gcs.running import RunningGcs


@pytest.fixture
def port() -> Iterator[int]:
    """Hold a port where nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture(autouse=True)
def _logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the program, which runs in this process here, neither wait long nor keep its own log."""
    monkeypatch.setattr(opening, "CONNECT_SECONDS", 0.6)
    monkeypatch.setattr(gcs_calls, "Patience", partial(gcs_calls.Patience, 0.3, 0.3, 0.3))
    handlers = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers[:] = handlers


@pytest.mark.parametrize("command", [["serve"], ["gc", "--grace", "0"], ["migrate"]], ids=" ".join)
def test_a_database_that_does_not_run(
    command: list[str],
    port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line says that it is tried again; the end names the setting, and what to check, without the password."""
    monkeypatch.setenv("REMORA_DATABASE_URL", f"postgresql://remora:hush@127.0.0.1:{port}/remora")
    assert __main__.main([*command, "--data", str(tmp_path)]) == __main__.REFUSED
    (line,) = [record.getMessage() for record in caplog.records if record.name == opening.__name__]
    name = f"the database of REMORA_DATABASE_URL (postgresql://remora:***@127.0.0.1:{port}/remora)"
    assert line.startswith(f"{name} does not answer; trying for 0.6 seconds: ")
    said = capsys.readouterr().err
    assert f"remora-server: {name} can't be used: " in said
    assert "Connection refused" in said
    assert "check that PostgreSQL runs there" in said
    assert "hush" not in said + caplog.text


def test_a_database_or_role_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told at once, and names the setting too."""
    there = postgres.shared_url()
    for url, missing in (
        (postgres.named(there, "nothing_here"), 'database "nothing_here" does not exist'),
        (f"{there}{'&' if '?' in there else '?'}user=nobody_here", '"nobody_here"'),
    ):
        monkeypatch.setenv("REMORA_DATABASE_URL", url)
        assert __main__.main(["gc", "--data", str(tmp_path)]) == __main__.REFUSED
        said = capsys.readouterr().err
        assert "remora-server: the database of REMORA_DATABASE_URL (" in said
        assert missing in said


@pytest.mark.parametrize("command", [["serve"], ["gc"], ["fsck"]], ids=" ".join)
def test_a_bucket_that_does_not_answer(
    command: list[str],
    port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What needs it ends with an error that names the setting, and promises nothing before; what does not, goes on."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("REMORA_BLOBS", "gs://some-bucket/prefix")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    assert __main__.main(["migrate", "--data", str(tmp_path)]) == __main__.DONE
    assert __main__.main([*command, "--data", str(tmp_path)]) == __main__.REFUSED
    said = capsys.readouterr().err
    assert "remora-server: the bucket of REMORA_BLOBS (gs://some-bucket/prefix) does not answer; check" in said
    assert "until it does" not in said + caplog.text


@pytest.mark.parametrize("emulated", [True, False])
@pytest.mark.parametrize(("content", "wrong"), [(None, "is not there"), ("{}", "is no file of credentials")])
def test_credentials_that_are_not_there(
    content: str | None,
    wrong: str,
    gcs: RunningGcs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    emulated: bool,
) -> None:
    """The variable that names them is named, with the file."""
    path = tmp_path / "account.json"
    if content is not None:
        path.write_text(content)
    if emulated:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.address)
    else:
        monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("REMORA_BLOBS", f"gs://{gcs.bucket}/{uuid4()}")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    assert __main__.main(["serve", "--data", str(tmp_path)]) == __main__.BAD_USAGE
    said = capsys.readouterr().err
    assert f"GOOGLE_APPLICATION_CREDENTIALS names {path}, which {wrong}" in said

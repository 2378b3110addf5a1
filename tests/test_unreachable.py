"""Stores that can't be reached at the start: what is said at once, and what in the end."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from remora_server import __main__, app
from tests import postgres


@pytest.fixture
def port() -> Iterator[int]:
    """Hold a port where nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture(autouse=True)
def _logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the program, which runs in this process here, neither wait long nor keep its own log."""
    monkeypatch.setattr(app, "CONNECT_SECONDS", 0.6)
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
    (line,) = [record.getMessage() for record in caplog.records if record.name == app.__name__]
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

"""A server of one's own: it is there when the client is, and gone when the client is closed."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from remora import Client, errors


def test_a_local_server_lives_as_long_as_its_client() -> None:
    """The five lines of the README, without a server to start by hand."""
    with Client.local() as client:
        done = client.put("DEMO-1", io.BytesIO(b"hello"), name="hello.txt")
        into = io.BytesIO()
        client.get("DEMO-1", "hello.txt", to=into)
        assert (done.outcome, into.getvalue()) == ("stored", b"hello")
        assert [one.name for one in client.ls("DEMO-1")] == ["hello.txt"]
        client.attach("DEMO-1", "https://ci.example/7")
        *_, oldest = client.activity("DEMO-1")
        watching = client.watch("DEMO-1", oldest.cursor)
        assert next(watching).type == "attachment.created.v1"
        address = client.address
    with Client(address, key="k", workspace="demo") as late, pytest.raises(errors.ConnectionFailedError):
        late.ls("DEMO-1")


def test_without_the_server_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The light install has no server."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(errors.RemoraError, match=r"pip install 'remora\[server\]'"):
        Client.local()


def test_a_server_that_does_not_start_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it said is the best there is to know."""
    program = tmp_path / "remora-server"
    program.write_text("#!/bin/sh\necho no luck >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(errors.RemoraError, match="no luck"):
        Client.local()

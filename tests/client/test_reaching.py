"""What the program says of a server that answers, but not as it was addressed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from remora import Client, NotServedError
from tests.certificates import Authority
from tests.client.test_cli import run
from tests.running import RunningServer

TLS = "the server at {0} speaks TLS; give its certificate with --ca."
NO_TLS = "the server at {0} does not speak TLS; leave out --ca."
HTTP = "{0} is an HTTP port; name that of gRPC, which is 7460 unless a server was told another."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make authorities, and the certificate that one of them signed for a server."""
    made = tmp_path_factory.mktemp("reaching")
    Authority(made, "stranger")
    chain, key = Authority(made, "ca").sign()
    (made / "cert.pem").write_bytes(chain)
    (made / "key.pem").write_bytes(key)
    (made / "empty.pem").write_text("none")
    return made


@pytest.fixture(scope="module")
def over_tls(folder: Path) -> Iterator[RunningServer]:
    """Start a server with TLS."""
    flags = ("--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem"))
    running = RunningServer(folder / "data", *flags).start()
    yield running
    running.stop()


def told(address: str, ca: Path | None = None) -> str:
    """Run a command against an address that does not serve it, and return what it says."""
    more = ["--ca", str(ca)] if ca else []
    code, output, messages = run(None, "ls", "A-1", "--address", address, "--workspace", "demo", "--key", "k", *more)
    assert (code, output) == (3, "")
    return messages.removeprefix("remora: ").rstrip("\n")


def test_no_certificates_for_a_server_with_tls(over_tls: RunningServer) -> None:
    """It is said that the server speaks TLS, not that none is there."""
    assert told(over_tls.address) == TLS.format(over_tls.address)


def test_certificates_that_do_not_fit(over_tls: RunningServer, folder: Path) -> None:
    """Both the file and what is wrong are named."""
    address, stranger = over_tls.address, folder / "stranger.pem"
    wrong = f"the certificate of {address} is not trusted by {stranger}, or is for another name (unable to get local"
    assert told(address, stranger).startswith(wrong)
    assert told(address, folder / "empty.pem") == f"{folder / 'empty.pem'} holds no certificate in PEM."


def test_certificates_for_a_server_without_tls(server: RunningServer, folder: Path) -> None:
    """It is said that they are to be left out."""
    assert told(server.address, folder / "ca.pem") == NO_TLS.format(server.address)


def test_the_http_port(server: RunningServer, over_tls: RunningServer, folder: Path) -> None:
    """It is called that, with TLS and without."""
    plain = server.ready["http"].removeprefix("http://")
    assert told(plain) == told(plain, folder / "ca.pem") == HTTP.format(plain)
    wrapped = over_tls.ready["http"].removeprefix("https://")
    assert told(wrapped) == TLS.format(wrapped)
    assert told(wrapped, folder / "ca.pem") == HTTP.format(wrapped)


def test_a_certificate_of_the_client_is_missing(folder: Path) -> None:
    """It is said how to give one."""
    files = {"cert": "cert.pem", "key": "key.pem", "client-ca": "ca.pem"}
    flags = [part for name, file in files.items() for part in (f"--tls-{name}", str(folder / file))]
    running = RunningServer(folder / "asking", *flags).start()
    try:
        assert "if it asks its clients for a certificate, give one with --cert." in told(
            running.address, folder / "ca.pem"
        )
    finally:
        running.stop()


def test_a_server_that_is_not_well(folder: Path) -> None:
    """It was reached, and that it can't serve is told, rather than that one should be started."""
    unwell = grpc.server(ThreadPoolExecutor(4))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, unwell)
    address = f"127.0.0.1:{unwell.add_insecure_port('127.0.0.1:0')}"
    unwell.start()
    try:
        message = told(address)
        assert f"the server at {address} was reached, but says that it can't serve now" in message
        assert "Start a server" not in message
        assert "was reached" in told_of_put(address, folder / "key.pem")
    finally:
        unwell.stop(None).wait()


def told_of_put(address: str, path: Path) -> str:
    """Return what the error of an upload says."""
    with (
        Client(address, key="k", workspace="demo", connect_timeout=0.1, state_folder=path.parent) as client,
        pytest.raises(NotServedError) as raised,
    ):
        client.put("A-1", path)
    return raised.value.message


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("localhost", "the address localhost lacks a port, as in localhost:7460."),
        ("[::1]", "the address [::1] lacks a port, as in [::1]:7460."),
        ("http://localhost:7460", "must be HOST:PORT without http://, as in localhost:7460."),
        ("https://files.example/x", "must be HOST:PORT without https://, as in files.example:7460; --ca turns TLS on."),
        ("::1", "the address ::1 is not HOST:PORT, as in localhost:7460 or [::1]:7460."),
    ],
)
def test_an_address_that_is_none(monkeypatch: pytest.MonkeyPatch, address: str, message: str) -> None:
    """It is bad usage, for the library too, and the message shows how it is written."""
    monkeypatch.setenv("REMORA_ADDRESS", address)
    code, _, messages = run(None, "ls", "DEMO-1", "--workspace", "demo", "--key", "k", "--json")
    assert code == 2
    assert message in json.loads(messages)["error"]["message"]
    with pytest.raises(ValueError, match="the address"):
        Client(workspace="demo")


def test_a_file_that_is_not_there() -> None:
    """What is wrong and what to do about it are two sentences."""
    options = ["--address", "127.0.0.1:1", "--workspace", "demo", "--key", "k", "--ca", "nope.pem"]
    code, _, messages = run(None, "ls", "DEMO-1", *options)
    assert code == 2
    assert messages == "remora: nope.pem: No such file or directory. Check the path and its permissions.\n"

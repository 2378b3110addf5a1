"""TLS on both ports, with a certificate that changes while the server runs."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2

from remora import Client
from remora.errors import ConnectionFailedError
from remora.v1 import capability_service_pb2 as pb
from tests.certificates import Authority, replace
from tests.running import Api, RunningServer, until
from tests.uploading import KIB, Stream, checksums_of

Start = Callable[..., RunningServer]


class Files:
    """The files of a server's certificate, and whom to trust for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder, "first")
        self.chain, self.key = folder / "cert.pem", folder / "key.pem"
        self.renew(self.authority)
        self.flags = ("--tls-cert", str(self.chain), "--tls-key", str(self.key))

    def renew(self, authority: Authority) -> None:
        """Write a new certificate."""
        for path, content in zip((self.chain, self.key), authority.sign(), strict=True):
            replace(path, content)

    def client_certificate(self, name: str, authority: Authority) -> Path:
        """Write a certificate with its key for a client."""
        path = self.folder / f"client-{name}.pem"
        path.write_bytes(b"".join(authority.sign()))
        return path


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Make files that are good for a server on this machine."""
    return Files(tmp_path / "tls")


def channel(server: RunningServer, ca: Path, cert: Path | None = None) -> grpc.Channel:
    """Open a connection of its own."""
    own = cert.read_bytes() if cert else None
    credentials = grpc.ssl_channel_credentials(ca.read_bytes(), own, own)
    return grpc.secure_channel(server.address, credentials, [("grpc.use_local_subchannel_pool", 1)])


def speaks_grpc(server: RunningServer, ca: Path, cert: Path | None = None) -> bool:
    """Tell whether somebody who trusts `ca` is served."""
    with channel(server, ca, cert) as opened:
        try:
            answer = opened.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )(health_pb2.HealthCheckRequest(), timeout=10)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                return False
            raise
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def speaks_http(server: RunningServer, ca: Path, cert: Path | None = None) -> bool:
    """Tell the same of the other port."""
    context = ssl.create_default_context(cafile=ca)
    if cert:
        context.load_cert_chain(cert)
    with httpx.Client(verify=context) as client:
        try:
            return client.get(server.ready["http"] + "/healthz").status_code == 200
        except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError):
            return False


def speaks(server: RunningServer, ca: Path, cert: Path | None = None) -> bool:
    """Tell the same of both ports, which must agree once a change has arrived."""
    return speaks_grpc(server, ca, cert) and speaks_http(server, ca, cert)


@pytest.mark.parametrize("more", [(), ("--workers", "2")])
def test_both_programs_over_tls(start_server: Start, files: Files, tmp_path: Path, more: tuple[str, ...]) -> None:
    """With a private authority the library and `remora` work, both ports say https, and nobody is served without."""
    server = start_server(*files.flags, *more)
    assert server.ready["http"].startswith("https://")
    assert speaks(server, files.authority.ca)
    stranger = Authority(tmp_path, "stranger").ca
    assert not speaks_grpc(server, stranger)
    assert not speaks_http(server, stranger)
    with pytest.raises(grpc.RpcError):
        server.api().capabilities.GetCapabilities(pb.GetCapabilitiesRequest(), timeout=10)
    with pytest.raises(httpx.HTTPError):
        httpx.get(server.ready["http"].replace("https", "http") + "/healthz")
    data = tmp_path / "data.bin"
    data.write_bytes(os.urandom(300 * KIB))
    with Client(server.address, key=server.ready["key"], workspace="demo", ca=files.authority.ca) as client:
        client.put("DEMO-1", data)
    environment = {
        **server.environment,
        "REMORA_CA": str(files.authority.ca),
        "REMORA_ADDRESS": server.address,
        "REMORA_KEY": server.ready["key"],
        "REMORA_WORKSPACE": "demo",
    }
    copy = tmp_path / "copy.bin"
    command = [str(Path(sys.executable).with_name("remora")), "get", "DEMO-1", "data.bin", "-o", str(copy)]
    subprocess.run(command, env=environment, check=True)
    assert copy.read_bytes() == data.read_bytes()


def test_protocols(start_server: Start, files: Files) -> None:
    """The ports agree on HTTP/2 for gRPC and HTTP/1.1 for the other one, over TLS 1.2 or newer."""
    server = start_server(*files.flags)
    context = ssl.create_default_context(cafile=files.authority.ca)
    context.set_alpn_protocols(["h2", "http/1.1"])
    for address, protocol in ((server.address, "h2"), (server.ready["http"].removeprefix("https://"), "http/1.1")):
        host, _, port = address.rpartition(":")
        with (
            socket.create_connection((host, int(port))) as plain,
            context.wrap_socket(plain, server_hostname=host) as wrapped,
        ):
            assert wrapped.selected_alpn_protocol() == protocol
            assert wrapped.version() in {"TLSv1.2", "TLSv1.3"}


def test_a_certificate_is_renewed(start_server: Start, files: Files) -> None:
    """New connections get the new one on both ports, and a call that runs goes on over the old one."""
    server = start_server(*files.flags)
    data = os.urandom(200 * KIB)
    second = Authority(files.folder, "second")
    with channel(server, files.authority.ca) as opened:
        api = Api(server.address, server.ready["key"], channel=opened)
        with Stream(api) as stream:
            stream.ready()
            stream.send(data[: 100 * KIB])
            stream.flush()
            files.renew(second)
            until(lambda: speaks(server, second.ca))
            assert not speaks_grpc(server, files.authority.ca)
            assert not speaks_http(server, files.authority.ca)
            stream.send_all(data)
            assert stream.finish(checksums=checksums_of(data)).file.size_bytes == len(data)
    assert "new connections get the certificate" in server.log()


def test_a_renewal_that_went_wrong(start_server: Start, files: Files) -> None:
    """The old certificate stays, the log says why, and repairing it is all that is needed."""
    server = start_server(*files.flags)
    good = files.key.read_bytes()
    replace(files.key, files.authority.sign()[1])
    until(lambda: "is not the key of the first certificate" in server.log())
    assert speaks(server, files.authority.ca)
    replace(files.key, good)
    until(lambda: "new connections get the certificate" in server.log())
    assert speaks(server, files.authority.ca)


def test_clients_with_certificates(start_server: Start, files: Files) -> None:
    """With a client authority nobody is served without a certificate of that one, also after it has changed."""
    ours, theirs = Authority(files.folder, "ours"), Authority(files.folder, "theirs")
    accepted = files.folder / "accepted.pem"
    accepted.write_bytes(ours.ca.read_bytes())
    server = start_server(*files.flags, "--tls-client-ca", str(accepted))
    ca = files.authority.ca
    good, bad = (files.client_certificate(*pair) for pair in (("good", ours), ("bad", theirs)))
    for speaking in (speaks_grpc, speaks_http):
        assert speaking(server, ca, good)
        assert not speaking(server, ca)
        assert not speaking(server, ca, bad)
    with Client(server.address, key=server.ready["key"], workspace="demo", ca=ca, cert=good) as client:
        assert client.ls("DEMO-1") == []
    with (
        Client(server.address, key=server.ready["key"], workspace="demo", ca=ca, connect_timeout=1) as client,
        pytest.raises(ConnectionFailedError),
    ):
        client.ls("DEMO-1")
    replace(accepted, theirs.ca.read_bytes())
    until(lambda: speaks(server, ca, bad))
    assert not speaks_grpc(server, ca, good)
    assert not speaks_http(server, ca, good)


@pytest.mark.parametrize("more", [(), ("--workers", "2")])
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--tls-cert", "cert.pem"), "TLS is set up by half: REMORA_TLS_KEY must name a file too."),
        (("--tls-key", "key.pem"), "TLS is set up by half: REMORA_TLS_CERT must name a file too."),
        (("--tls-client-ca", "x"), "TLS is set up by half: REMORA_TLS_CERT and REMORA_TLS_KEY must name a file too."),
        (("--tls-cert", "none", "--tls-key", "none"), "none (REMORA_TLS_CERT) can't be read: No such file"),
    ],
)
def test_half_a_set_up(tmp_path: Path, flags: tuple[str, ...], message: str, more: tuple[str, ...]) -> None:
    """It stops the start with code 2 and a sentence."""
    refused = RunningServer(tmp_path / "data").command("serve", *flags, *more, check=False)
    assert refused.returncode == 2
    assert message in refused.stderr

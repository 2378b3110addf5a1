"""What the server says of certificates that nobody could be served with."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from remora_server.tls import CertificateError, Certificates, Paths
from tests.certificates import DAY, Authority, encrypted_key, replace


class Files:
    """Sound files, for a test to break."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder, "authority")
        self.chain, self.key, self.client_ca = folder / "cert.pem", folder / "key.pem", folder / "clients.pem"
        self.write(*self.authority.sign())
        self.client_ca.write_bytes(self.authority.ca.read_bytes())

    def write(self, chain: bytes, key: bytes) -> None:
        """Write a certificate and its key."""
        replace(self.chain, chain)
        replace(self.key, key)

    @property
    def paths(self) -> Paths:
        """Where they are."""
        return Paths(self.chain, self.key, self.client_ca)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Make sound files."""
    return Files(tmp_path / "tls")


BROKEN: list[tuple[Callable[[Files], object], str]] = [
    (lambda files: files.chain.unlink(), r"cert.pem \(REMORA_TLS_CERT\) can't be read: No such file or directory"),
    (lambda files: files.key.unlink(), r"key.pem \(REMORA_TLS_KEY\) can't be read"),
    (lambda files: files.client_ca.unlink(), r"clients.pem \(REMORA_TLS_CLIENT_CA\) can't be read"),
    (lambda files: files.chain.write_text("x"), r"cert.pem \(REMORA_TLS_CERT\) holds no PEM certificate"),
    (lambda files: files.key.write_text("x"), r"key.pem \(REMORA_TLS_KEY\) holds no PEM key"),
    (lambda files: files.key.write_bytes(encrypted_key()), r"REMORA_TLS_KEY\) is encrypted; store it without"),
    (lambda files: files.client_ca.write_text("x"), r"REMORA_TLS_CLIENT_CA\) holds no PEM certificate"),
    (lambda files: files.key.write_bytes(files.authority.sign()[1]), r"is not the key of the first certificate"),
    (lambda files: files.write(*files.authority.sign(begins=-DAY * 2, ends=-DAY)), r"REMORA_TLS_CERT\) expired on 20"),
    (lambda files: files.write(*files.authority.sign(begins=DAY)), r"REMORA_TLS_CERT\) is valid only from 20"),
]


@pytest.mark.parametrize(("spoil", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_what_is_broken(files: Files, spoil: Callable[[Files], object], message: str) -> None:
    """It is refused in a sentence that names the file, the setting and what is wrong."""
    spoil(files)
    with pytest.raises(CertificateError, match=message):
        Certificates(files.paths)


@pytest.mark.parametrize(("spoil", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_what_breaks_later(
    files: Files, spoil: Callable[[Files], object], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, and what worked stays, until there is something sound again."""
    certificates = Certificates(files.paths)
    before = certificates.pems()
    spoil(files)
    certificates.refresh()
    certificates.refresh()
    assert certificates.pems() is before
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage().startswith("the certificate stays as it was: ")
    chain, key = files.authority.sign()
    files.write(chain, key)
    files.client_ca.write_bytes(files.authority.ca.read_bytes())
    certificates.refresh()
    assert certificates.pems()[:2] == (chain, key)
    assert message


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_goes_on_where_it_was(files: Files, tmp_path: Path, newest: ssl.TLSVersion) -> None:
    """Once its certificate is not accepted any more, a client is not served, whatever it remembers of earlier times."""
    certificates = Certificates(files.paths)
    own = tmp_path / "client.pem"
    own.write_bytes(b"".join(files.authority.sign()))
    context = ssl.create_default_context(cafile=files.authority.ca)
    context.load_cert_chain(own)
    context.maximum_version = newest
    sessions: list[ssl.SSLSession | None] = [None]

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await writer.drain()
        writer.close()

    def ask(port: int) -> bytes:
        try:
            with (
                socket.create_connection(("127.0.0.1", port)) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1", session=sessions[-1]) as wrapped,
            ):
                heard = wrapped.recv(10)
                sessions.append(wrapped.session)
                return heard
        except (ssl.SSLError, ConnectionError):
            return b""

    async def serve() -> tuple[bytes, bytes]:
        async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=certificates.context) as server:
            port = server.sockets[0].getsockname()[1]
            before = [await asyncio.to_thread(ask, port) for _ in range(2)]
            replace(files.client_ca, Authority(tmp_path / "other", "other").ca.read_bytes())
            certificates.refresh()
            return before[-1], await asyncio.to_thread(ask, port)

    before, after = uvloop.run(serve())
    assert before == (b"hello" if newest is ssl.TLSVersion.TLSv1_3 else b"")
    assert after == b""


def test_a_certificate_that_ends_soon(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    """It is good, and the log says until when."""
    files.write(*files.authority.sign(ends=DAY * 3))
    Certificates(files.paths)
    assert "cert.pem expires on 20" in caplog.text

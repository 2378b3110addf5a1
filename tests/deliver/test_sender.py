"""One message out: what receivers may do to us."""

from __future__ import annotations

import ssl
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.deliver.posting import answering, post
from tests.receiving import Receiver, receiving


def test_what_is_posted() -> None:
    """The body, its length, our headers, and the path with its query; connections are used again."""
    with receiving() as receiver:
        assert all(one.succeeded for one in post(receiver.url, receiver.url))
        first, _ = receiver.received
        assert first.body == b"{}"
        assert (first.headers["content-length"], first.headers["x-test"]) == ("2", "1")
        assert first.headers["host"] == f"127.0.0.1:{receiver.port}"
        assert first.path == "/hook?of=remora"


@pytest.mark.parametrize(("status", "good"), [(200, True), (204, True), (299, True), (400, False), (503, False)])
def test_which_answers_are_good(status: int, good: bool) -> None:  # noqa: FBT001 - a table.
    """Every 2xx, and nothing else."""
    with receiving(lambda _: status) as receiver:
        (sent,) = post(receiver.url)
        assert (sent.succeeded, sent.status) == (good, status)
        assert sent.duration > 0


def test_an_endless_answer() -> None:
    """Its status counts; the rest is left, and with it the connection."""
    taken: list[int] = []

    def endless(connection: object) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")  # type: ignore[attr-defined]
        while True:
            connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")  # type: ignore[attr-defined]
            taken.append(65536)

    with answering(endless) as port:
        (sent,) = post(f"http://127.0.0.1:{port}/")
        assert sent.succeeded
        assert sum(taken) < 64 * 1024 * 1024


def test_an_answer_that_trickles() -> None:
    """The time of all is bounded, not that of each byte."""

    def trickling(connection: object) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")  # type: ignore[attr-defined]
        while True:
            connection.sendall(b"x")  # type: ignore[attr-defined]
            time.sleep(0.05)

    with answering(trickling) as port:
        (sent,) = post(f"http://127.0.0.1:{port}/", timeout_seconds=0.3)
        assert sent.error == "no answer within 0.3 seconds"


@pytest.mark.parametrize("nonsense", [b"", b"no HTTP at all\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_nonsense(nonsense: bytes) -> None:
    """It is a failure that says so."""
    with answering(lambda connection: connection.sendall(nonsense)) as port:
        (sent,) = post(f"http://127.0.0.1:{port}/")
        assert sent.error.startswith("no answer: ")
        assert sent.status == 0


def test_nobody_listens() -> None:
    """The same."""
    with receiving() as receiver:
        pass
    (sent,) = post(receiver.url)
    assert sent.error.startswith("no answer: ")


def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver proves who it is, by the name in the URL; who can't is told nothing."""
    authority = Authority(tmp_path, "ours")
    pem, key = authority.sign()
    (tmp_path / "both.pem").write_bytes(pem + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    receiver = Receiver()
    server: ThreadingHTTPServer = receiver._server
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    try:
        url = f"https://localhost:{receiver.port}/"
        (unknown,) = post(url)
        assert "certificate" in unknown.error.lower()
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
        good, other = post(url, f"https://localhost.example:{receiver.port}/", look_up=lambda *_: ["127.0.0.1"])
        assert good.succeeded, good.error
        assert not other.succeeded
        assert len(receiver.received) == 1
    finally:
        closing = threading.Thread(target=receiver.close, daemon=True)
        closing.start()
        closing.join(5)


def test_a_failure_that_nobody_has_thought_of(caplog: pytest.LogCaptureFixture) -> None:
    """It is a failed attempt as any other, which says where to read about it."""

    def strange(_host: str, _port: int) -> list[str]:
        raise KeyError("nobody thought of it")

    (sent,) = post("http://example.test/", look_up=strange)
    assert not sent.succeeded
    assert "KeyError" in sent.error
    number = sent.error.partition("number ")[2].split()[0]
    assert number in caplog.text
    assert "nobody thought of it" in caplog.text

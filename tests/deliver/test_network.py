"""Connections to hosts that others name."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

import pytest

from remora_server.core.destinations import Destinations
from tests.deliver.posting import post
from tests.receiving import receiving

REFUSED = "not sent: its host has an address that this service may not reach"


def names(*addresses: str) -> Callable[[str, int], Sequence[str]]:
    """Return a resolver for which every name stands for these addresses."""
    return lambda _host, _port: addresses


@pytest.mark.parametrize(
    "addresses",
    [("10.0.0.1",), ("127.0.0.1", "10.0.0.1"), ("169.254.169.254", "127.0.0.1"), ("127.0.0.1", "::ffff:192.168.0.1")],
)
def test_one_bad_address_spoils_a_name(addresses: tuple[str, ...]) -> None:
    """A name with several addresses is reached only if each of them may be; not even the good one is tried (P39)."""
    with receiving() as receiver:
        (sent,) = post(f"http://example.test:{receiver.port}/", look_up=names(*addresses))
        assert (sent.error, sent.status) == (REFUSED, 0)
        assert receiver.received == []


def test_all_addresses_are_tried() -> None:
    """The next one, if nobody answers at the first."""
    with receiving() as receiver:
        (sent,) = post(f"http://example.test:{receiver.port}/", look_up=names("127.0.0.9", "127.0.0.1"))
        assert sent.succeeded
        assert receiver.received[0].headers["host"] == f"example.test:{receiver.port}"


def test_a_name_is_looked_up_once() -> None:
    """What was checked is what is connected to: a name that means another address a moment later finds nobody (P39)."""
    asked: list[str] = []

    def turning(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1" if len(asked) == 1 else "10.0.0.1"]

    with receiving() as receiver:
        url = f"http://example.test:{receiver.port}/"
        first, second = post(url, url, look_up=turning)
        assert first.succeeded
        # Over the connection that is open, to the address that was checked.
        assert second.succeeded
        assert asked == ["example.test"]
        (third,) = post(url, look_up=turning)
        assert third.error == REFUSED
        assert len(receiver.received) == 2


def test_a_name_without_an_address() -> None:
    """It is a failure like others."""

    def nothing(_host: str, _port: int) -> Sequence[str]:
        raise OSError("nobody knows it")

    for look_up in (nothing, names()):
        (sent,) = post("http://example.test/", look_up=look_up)
        assert "no address" in sent.error


def test_without_tls_only_what_is_listed() -> None:
    """A public address does not get what anybody on the way could read."""
    listed = Destinations([ipaddress.ip_network("10.0.0.0/8")])
    (sent,) = post("http://example.test/", look_up=names("1.1.1.1"), destinations=listed)
    assert sent.error == REFUSED


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would connect to what we must not."""
    with receiving() as proxy, receiving() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        (sent,) = post(receiver.url)
        assert sent.succeeded
        assert proxy.received == []

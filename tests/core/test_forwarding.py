"""Who is behind a proxy."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from remora_server.core.forwarding import Origin, Proxies

TRUSTED = Proxies([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])
FOR, PROTO, RFC = "X-Forwarded-For", "x-forwarded-proto", "Forwarded"


@pytest.mark.parametrize(
    ("peer", "headers", "address"),
    [
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1:443", [(FOR, "192.0.2.7")], "192.0.2.7"),
        ("[fd00::1]:443", [(FOR, "[2001:db8::7]:5000")], "2001:db8::7"),
        ("::ffff:10.0.0.1", [(FOR, "192.0.2.7:5000")], "192.0.2.7"),
        ("10.0.0.1", [(FOR, "198.51.100.9, 192.0.2.7, 10.2.2.2")], "192.0.2.7"),
        ("10.0.0.1", [(FOR, "198.51.100.9"), (FOR, "192.0.2.7")], "192.0.2.7"),
        ("10.0.0.1", [(FOR, "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
        ("10.0.0.1", [(FOR, "192.0.2.7, unknown")], "10.0.0.1"),
        ("10.0.0.1", [(FOR, "")], "10.0.0.1"),
        ("10.0.0.1", [(RFC, 'for=198.51.100.9;proto=http, For="[2001:db8::7]:99";by=10.0.0.9')], "2001:db8::7"),
        ("10.0.0.1", [(RFC, "x-for=198.51.100.9;for=192.0.2.7")], "192.0.2.7"),
        ("10.0.0.1", [(RFC, "for=_hidden")], "10.0.0.1"),
        ("10.0.0.1", [(RFC, "for=192.0.2.7"), (FOR, "192.0.2.7")], "192.0.2.7"),
        ("10.0.0.1", [(RFC, "for=198.51.100.9"), (FOR, "192.0.2.7")], "10.0.0.1"),
    ],
)
def test_behind_a_trusted_proxy(peer: str, headers: list[tuple[str, str]], address: str) -> None:
    """The last address counts that no trusted proxy has; what says nothing sound says nothing."""
    assert TRUSTED.origin(peer, headers).address == address


@pytest.mark.parametrize("proxies", [TRUSTED, Proxies()])
@pytest.mark.parametrize("peer", ["192.0.2.1", "[2001:db8::1]:443", "not an address", ""])
def test_anybody_else_is_not_believed(proxies: Proxies, peer: str) -> None:
    """Whatever a peer of another network writes, it stays itself."""
    lies = [(FOR, "127.0.0.1"), (FOR, "10.0.0.1"), (RFC, "for=10.0.0.1;proto=https"), (PROTO, "https")]
    assert proxies.origin(peer, lies) == proxies.origin(peer, [])
    assert proxies.origin(peer, lies).address in {"192.0.2.1", "2001:db8::1", ""}


@pytest.mark.parametrize(
    ("headers", "scheme"),
    [
        ([(PROTO, "HTTPS")], "https"),
        ([(PROTO, "http, https")], "https"),
        ([(RFC, "for=192.0.2.7;proto=https")], "https"),
        ([(PROTO, "javascript")], ""),
        ([], ""),
    ],
)
def test_the_scheme(headers: list[tuple[str, str]], scheme: str) -> None:
    """The scheme is the one that the nearest proxy was asked by, if it is one that we know."""
    assert TRUSTED.origin("10.0.0.1", headers).scheme == scheme


def test_nobody_is_trusted_by_default() -> None:
    """Without networks no header is read."""
    assert Proxies().origin("127.0.0.1", [(FOR, "192.0.2.7")]) == Origin("127.0.0.1")

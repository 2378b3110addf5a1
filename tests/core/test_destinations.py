"""Where this service may send to."""

from __future__ import annotations

import ipaddress

import pytest

from remora_server.core.destinations import Destinations
from remora_server.core.errors import UrlNotAllowedError

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
NOBODY = Destinations()
LOCAL = Destinations([LOOPBACK, ipaddress.ip_network("::1/128")])

REFUSED = [
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),  # noqa: S104 - told, not listened on.
    *("169.254.169.254", "169.254.0.1", "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1"),
    *("203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "100::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::1", "2001:0:7f00:1::1", "fe80::1%eth0", "name", ""),
    *("192.88.99.1", "::ffff:192.88.99.1", "168.63.129.16", "64:ff9b::a83f:8110", "3fff::1", "3fff:fff:1::1"),
    *("2606:4700::5efe:7f00:1", "2606:4700::200:5efe:7f00:1"),
]


@pytest.mark.parametrize("address", REFUSED)
def test_what_is_not_public_is_refused(address: str) -> None:
    """Loopback, private, link-local, metadata, shared and reserved addresses, however they are spelled (P39)."""
    assert not NOBODY.may_reach(address, is_secure=True)
    assert not NOBODY.may_reach(address, is_secure=False)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_what_is_public_is_reached_with_tls(address: str) -> None:
    """Without TLS it is not."""
    assert NOBODY.may_reach(address, is_secure=True)
    assert not NOBODY.may_reach(address, is_secure=False)
    assert not LOCAL.may_reach(address, is_secure=False)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_what_is_allowed_is_reached(address: str) -> None:
    """With TLS or without; its neighbours are not."""
    assert LOCAL.may_reach(address, is_secure=True)
    assert LOCAL.may_reach(address, is_secure=False)
    assert not LOCAL.may_reach("10.0.0.1", is_secure=True)
    assert not LOCAL.may_reach("::ffff:10.0.0.1", is_secure=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "https://127.0.0.1/",
        "https://[::1]:8443/a",
        "https://[::ffff:127.0.0.1]/",
        "https://169.254.169.254/latest/meta-data",
        "https://168.63.129.16/",
        "https://[::::]/",
        "https://[127.0.0.1]/",
        "https://[1:2]/",
        "https://localhost/",
        "https://api.LOCALHOST./",
        "https://user:secret@example.com/",
        "https://example.com/#part",
        "ftp://example.com/",
        "",
    ],
)
def test_a_url_that_is_refused_when_it_is_set(url: str) -> None:
    """What can't be a destination is told at once, by the name of the field."""
    with pytest.raises(UrlNotAllowedError) as refusal:
        NOBODY.check_url(url, "hook.url")
    assert refusal.value.violations[0].field == "hook.url"


def test_a_url_that_is_taken() -> None:
    """A name may lead anywhere, which is looked at when it is connected to; what is allowed may be named outright."""
    NOBODY.check_url("https://example.com/hook?a=b", "url")
    NOBODY.check_url("https://1.1.1.1/", "url")
    for url in ("http://127.0.0.1:9000/", "http://localhost:9000/", "https://[::1]/", "http://hooks.internal/"):
        LOCAL.check_url(url, "url")
    with pytest.raises(UrlNotAllowedError):
        LOCAL.check_url("http://10.0.0.1/", "url")

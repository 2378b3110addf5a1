"""Where this service may send to: public addresses, and of the others those that the operator allows.

A URL is checked when it is set, so that a mistake is told at once. What decides is the check of each address when a
connection is made to it, since a name may stand for another address by then.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from remora_server.core import urls
from remora_server.core.errors import UrlNotAllowedError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Only these of IPv6 were ever given to the public. What is not among them needs no list of its own.
PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
# Addresses that stand for one of IPv4, in their last 32 bits: behind a translator, and as sockets write it.
TRANSLATED = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::ffff:0:0/96"))
# What newer versions of Python, or clouds, don't take for public: the anycast of 6to4, the host of each machine at
# Azure, which hands out secrets, and addresses for documentation.
NOT_PUBLIC = (
    ipaddress.IPv4Network("192.88.99.0/24"),
    ipaddress.IPv4Network("168.63.129.16/32"),
    ipaddress.IPv6Network("3fff::/20"),
)
# Of ISATAP in the middle of an address; the bit that is left out tells whether the address of IPv4 behind it is unique.
ISATAP, ISATAP_MASK = 0x00005EFE, 0xFDFFFFFF


class Destinations:
    """Which addresses may be reached."""

    def __init__(self, allowed: Sequence[Network] = ()) -> None:
        self._allowed = allowed

    def check_url(self, url: str, field: str) -> None:
        """Raise UrlNotAllowedError for what can't be a destination, whatever its name will stand for."""
        parts = urlsplit(urls.normalize(url, field))
        if parts.fragment:
            raise UrlNotAllowedError(field, "has a fragment, which is never sent; leave it out")
        is_secure = parts.scheme == "https"
        if not is_secure and not self._allowed:
            raise UrlNotAllowedError(field, "must be an https URL")
        host = parts.hostname or ""
        if host.rstrip(".").rpartition(".")[2] == "localhost":
            meant: Sequence[str] = ("127.0.0.1", "::1")
        else:
            meant = (host,) if _address(host) else ()
        if meant and not any(self.may_reach(one, is_secure=is_secure) for one in meant):
            raise UrlNotAllowedError(field, "is at an address that this service may not reach; use a public one")

    def may_reach(self, text: str, *, is_secure: bool) -> bool:
        """Tell whether a connection to an address may be made: without TLS only inside the networks that are allowed.

        Loopback, private, link-local, shared, reserved and multicast addresses are not public, and neither is what
        only leads to them.
        """
        address = _address(text)
        if address is None:
            return False
        spelled = list(_spellings(address))
        if any(one in network for one in spelled for network in self._allowed if one.version == network.version):
            return True
        return is_secure and _is_public(spelled[-1])


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _spellings(address: Address) -> Iterator[Address]:
    """Return an address, and behind it the one of IPv4 that it stands for, if it does."""
    yield address
    if isinstance(address, ipaddress.IPv6Address) and any(address in network for network in TRANSLATED):
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


def _is_public(address: Address) -> bool:
    if any(address in network for network in NOT_PUBLIC if address.version == network.version):
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast and not address.is_reserved
    # Tunnels hold an address of IPv4 inside, which nobody could check at the other end.
    is_isatap = (int(address) >> 32) & ISATAP_MASK == ISATAP
    is_tunnel = is_isatap or address.sixtofour is not None or address.teredo is not None
    return address in PUBLIC_IPV6 and address.is_global and not is_tunnel

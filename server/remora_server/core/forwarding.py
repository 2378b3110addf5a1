"""Who is at the other end of a connection, when proxies may stand between: for the log, and for nothing else.

Anybody can write a forwarding header. One is believed only as far as trusted proxies have passed it on: from the last
hop backwards, up to the first address that is none of theirs. No URL is ever made of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from remora_server.core.values import dataclass

IPNetwork = IPv4Network | IPv6Network
IPAddress = IPv4Address | IPv6Address
FORWARDED_PAIR = re.compile(r'(?:^|[;,])\s*(for|proto)\s*=\s*(?:"([^"]*)"|([^;,\s"]*))\s*', re.IGNORECASE)
SCHEMES = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request comes from, and by which scheme it was sent there, empty where nobody said."""

    address: str
    scheme: str = ""


class Proxies:
    """The networks of the proxies whose headers are believed."""

    def __init__(self, networks: Sequence[IPNetwork] = ()) -> None:
        self._networks = networks

    def origin(self, peer: str, headers: Iterable[tuple[str, str]]) -> Origin:
        """Return who is behind `peer`, whose connection it is; `headers` are in the order of the request."""
        direct = Origin(_bare(peer))
        if not self._networks or not self._trusts(direct.address):
            return direct
        addresses: list[str] = []
        forwarded: list[str] = []
        schemes: list[str] = []
        for name, value in headers:
            match name.lower():
                case "x-forwarded-for":
                    addresses += value.split(",")
                case "x-forwarded-proto":
                    schemes += value.split(",")
                case "forwarded":
                    found = [(pair[1].lower(), pair[2] or pair[3] or "") for pair in FORWARDED_PAIR.finditer(value)]
                    forwarded += [text for key, text in found if key == "for"]
                    schemes += [text for key, text in found if key == "proto"]
        chains = [chain for chain in (addresses, forwarded) if chain]
        origins = {self._outermost(chain) for chain in chains}
        # A proxy writes one kind of header and may let the client's own of the other kind through.
        address = origins.pop() if len(origins) == 1 else direct.address
        scheme = schemes[-1].strip().lower() if schemes else ""
        return Origin(address or direct.address, scheme if scheme in SCHEMES else "")

    def _outermost(self, chain: Sequence[str]) -> str:
        """Return the last address that no trusted proxy has; empty if what stands there is no address."""
        for hop in reversed(chain):
            address = _bare(hop)
            if not self._trusts(address):
                return address
        return _bare(chain[0])

    def _trusts(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._networks)


def _bare(text: str) -> str:
    """Return an address without port and brackets, in its plainest form; empty if it is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found: IPAddress = ip_address(text)
    except ValueError:
        return ""
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return str(found)

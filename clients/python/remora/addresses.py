"""How the address of a server is written. Loads nothing, so that the program can check one at once."""

from __future__ import annotations

import ipaddress
import re

DEFAULT_PORT = 7460
DEFAULT_ADDRESS = f"localhost:{DEFAULT_PORT}"
_OTHER_WAYS = re.compile(r"(unix|unix-abstract|vsock|dns|ipv4|ipv6|xds|google-c2p):")  # Which gRPC knows.


def require_address(address: str) -> None:
    """Raise ValueError unless gRPC will take the address as it was meant."""
    if found := re.match(r"(?i)(https?)://([^/?#]*)", address):
        host = found[2] if re.search(r":\d+$", found[2]) else f"{found[2]}:{DEFAULT_PORT}"
        tls = "; --ca turns TLS on" if found[1].lower() == "https" else ""
        raise ValueError(f"the address {address} must be HOST:PORT without {found[1]}://, as in {host}{tls}.")
    if _OTHER_WAYS.match(address) or re.fullmatch(r"(\[[^\[\]\s]+\]|[^:/\s]+):\d+", address):
        return
    if re.fullmatch(r"(\[[^\[\]\s]+\]|[^:/\s]+):?", address):
        raise ValueError(f"the address {address} lacks a port, as in {address.rstrip(':')}:{DEFAULT_PORT}.")
    raise ValueError(f"the address {address} is not HOST:PORT, as in {DEFAULT_ADDRESS} or [::1]:{DEFAULT_PORT}.")


def host_and_port(address: str) -> tuple[str, int]:
    """Take an address apart; the port is 0 if it has none."""
    plain = re.sub(r"^(dns:///|dns:|ipv4:|ipv6:)", "", address)
    found = re.fullmatch(r"\[?([^/\[\]]+?)\]?:(\d{1,5})", plain)
    return (found[1], int(found[2])) if found else ("", 0)


def is_local(address: str) -> bool:
    """Tell whether an address means this machine."""
    host = address.removeprefix("dns:///").removeprefix("ipv4:").removeprefix("ipv6:").rsplit(":", 1)[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return address.startswith("unix:")

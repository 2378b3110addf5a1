"""When two URLs are one attachment: the URL rule.

Only steps that RFC 3986 calls safe are taken: a wrong merge would lose somebody's card, a missed one only shows two.
Query order, fragment, trailing slash, `www` and http against https all stay as they are. The general normalisers
on PyPI each do more than that (collapse `//`, drop an empty query, sort or decode the query), so the rule is ours.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Collection
from functools import lru_cache

import idna

from remora_server.core.errors import UrlNotAllowedError

VERSION = 1
MAX_CHARS = 2048
DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_PORT = 65535

# RFC 3986, appendix B, with a scheme and an authority required.
PARTS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?://(?P<authority>[^/?#]*))?(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<fragment>#.*)?"
)
PORT = re.compile(r"(?P<host>.*?)(?::(?P<port>[0-9]*))?")
IPV6 = re.compile(r"\[[0-9A-Fa-f:.]+\]")
PLAIN_HOST = re.compile(r"[a-z0-9._~-]+")
UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
TRIPLET = re.compile(r"%([0-9A-Fa-f]{2})")
# Characters that no URL may hold as they are: controls, space, and what only an escape may carry.
MUST_ESCAPE = re.compile(r"[^!#$%&'()*+,./0-9:;=?@A-Z\[\]_a-z~-]")
BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
CONTROL = re.compile(r"[\x00-\x20\x7f]")


@lru_cache(maxsize=8192)
def normalize(url: str, field: str = "url", stripped_parameters: Collection[str] = frozenset()) -> str:
    """Return the canonical form of an http or https URL; raise UrlNotAllowedError naming `field`."""
    if not url:
        raise UrlNotAllowedError(field, "is required")
    if len(url) > MAX_CHARS:
        raise UrlNotAllowedError(field, f"has {len(url)} characters, at most {MAX_CHARS} are allowed")
    if CONTROL.search(url):
        raise UrlNotAllowedError(field, "has spaces or control characters; escape them with %")
    parts = PARTS.fullmatch(url)
    if parts is None or parts["scheme"].lower() not in DEFAULT_PORTS:
        raise UrlNotAllowedError(field, "must begin with http:// or https://")
    if not parts["authority"]:
        raise UrlNotAllowedError(field, "has no host")
    scheme = parts["scheme"].lower()
    host = _authority(parts["authority"], scheme, field)
    path = _without_dots(_escapes(parts["path"])) or "/"
    query = _without_parameters(_escapes(parts["query"] or ""), stripped_parameters)
    return f"{scheme}://{host}{path}{query}{_escapes(parts['fragment'] or '')}"


@lru_cache(maxsize=8192)
def key(normalized_url: str) -> str:
    """Return the value that is unique among the live attachments, or the links, of one subject."""
    return hashlib.sha256(normalized_url.encode()).hexdigest()


def _authority(authority: str, scheme: str, field: str) -> str:
    if "@" in authority:
        raise UrlNotAllowedError(field, "must not hold a user name or password")
    matched = PORT.fullmatch(authority)
    host, port = (matched["host"], matched["port"]) if matched else (authority, "")
    if port and int(port) > MAX_PORT:
        raise UrlNotAllowedError(field, f"has a port above {MAX_PORT}")
    name = _host(host, field)
    return name if not port or int(port) == DEFAULT_PORTS[scheme] else f"{name}:{int(port)}"


def _host(host: str, field: str) -> str:
    lowered = TRIPLET.sub(_decode_unreserved, host).lower()
    if IPV6.fullmatch(lowered):
        try:
            ipaddress.IPv6Address(lowered[1:-1])
        except ValueError as problem:
            raise UrlNotAllowedError(field, "has no IPv6 address between its brackets") from problem
        return lowered
    if PLAIN_HOST.fullmatch(lowered):
        return lowered
    try:
        return idna.encode(lowered, uts46=True).decode()
    except idna.IDNAError as problem:
        raise UrlNotAllowedError(field, "has a host that is not a valid name") from problem


def _decode_unreserved(triplet: re.Match[str]) -> str:
    char = chr(int(triplet[1], 16))
    return char if char in UNRESERVED else triplet[0].upper()


def _escapes(text: str) -> str:
    """Escape what must be, decode what need not be, and write the other escapes in upper case."""
    escaped = MUST_ESCAPE.sub(lambda char: "".join(f"%{byte:02X}" for byte in char[0].encode()), text)
    return TRIPLET.sub(_decode_unreserved, BARE_PERCENT.sub("%25", escaped))


def _without_dots(path: str) -> str:
    if "." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments and segments[-1] in {".", ".."}:
        kept.append("")
    return "/" + "/".join(kept)


def _without_parameters(query: str, names: Collection[str]) -> str:
    if not names or not query:
        return query
    kept = [pair for pair in query[1:].split("&") if pair.partition("=")[0] not in names]
    return "?" + "&".join(kept) if kept else ""

"""The URL rule."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remora_server.core.errors import UrlNotAllowedError
from remora_server.core.urls import MAX_CHARS, key, normalize

SAME = [
    ("http://example.com", "http://example.com/"),
    ("HTTP://EXAMPLE.com/", "http://example.com/"),
    ("http://example.com:80/", "http://example.com/"),
    ("https://example.com:443/", "https://example.com/"),
    ("https://example.com:/", "https://example.com/"),
    ("https://example.com:0443/", "https://example.com/"),
    ("https://example.com:08080/", "https://example.com:8080/"),
    ("https://example.com/a/./b/../c", "https://example.com/a/c"),
    ("https://example.com/../../a", "https://example.com/a"),
    ("https://example.com/a/.", "https://example.com/a/"),
    ("https://example.com/a/..", "https://example.com/"),
    ("https://example.com/%7Euser", "https://example.com/~user"),
    ("https://example.com/%2d%41", "https://example.com/-A"),
    ("https://example.com/%c3%bc", "https://example.com/ü"),
    ("https://example.com/%c3%bc", "https://example.com/%C3%BC"),
    ("https://example.com/%2e%2e/a", "https://example.com/a"),
    ("https://example.com/100%", "https://example.com/100%25"),
    ("https://example.com/?a=ü", "https://example.com/?a=%C3%BC"),
    ('https://example.com/?a="', "https://example.com/?a=%22"),
    ("https://bücher.example/", "https://xn--bcher-kva.example/"),
    ("https://BÜCHER.example/", "https://xn--bcher-kva.example/"),
    ("https://example。com/", "https://example.com/"),
    ("https://ex%61mple.com/", "https://example.com/"),
    ("https://[2001:DB8::1]:443/", "https://[2001:db8::1]/"),
    ("https://example.com?a", "https://example.com/?a"),
    ("https://example.com#f", "https://example.com/#f"),
]
DIFFERENT = [
    ("http://example.com/", "https://example.com/"),
    ("https://example.com/", "https://www.example.com/"),
    ("https://example.com/a", "https://example.com/a/"),
    ("https://example.com/a", "https://example.com/A"),
    ("https://example.com/?a=1&b=2", "https://example.com/?b=2&a=1"),
    ("https://example.com/?", "https://example.com/"),
    ("https://example.com/#", "https://example.com/"),
    ("https://example.com/#a", "https://example.com/#b"),
    ("https://example.com//a", "https://example.com/a"),
    ("https://example.com/a%2Fb", "https://example.com/a/b"),
    ("https://example.com/a%3Fb", "https://example.com/a?b"),
    ("https://example.com/a+b", "https://example.com/a%20b"),
    ("https://example.com:8443/", "https://example.com/"),
    ("http://example.com:443/", "http://example.com/"),
    ("https://example.com/?utm_source=x", "https://example.com/"),
    ("https://example.com/a;b", "https://example.com/a"),
    ("https://example.com./", "https://example.com/"),
]
REFUSED = {
    "": "is required",
    "x": "must begin",
    "//example.com": "must begin",
    "/a": "must begin",
    "ftp://example.com/": "must begin",
    "javascript:alert(1)": "must begin",
    "data:text/html,x": "must begin",
    "file:///etc/passwd": "must begin",
    " https://example.com/": "spaces",
    "https://example.com/a b": "spaces",
    "https://example.com/\n": "spaces",
    "https://example.com/\0": "spaces",
    "https://example.com/\x7f": "spaces",
    "https:example.com": "has no host",
    "https://": "has no host",
    "https:///a": "has no host",
    "https://?a": "has no host",
    "https://a@example.com/": "user name",
    "https://a:b@example.com/": "user name",
    "https://example.com:65536/": "port",
    "https://example.com:99999999999999999999/": "port",
    "https://example.com:a/": "not a valid name",
    "https://:80/": "not a valid name",
    "https://exa mple.com/": "spaces",
    "https://ex<>ample.com/": "not a valid name",
    "https://[::1/": "not a valid name",
    "https://%zz/": "not a valid name",
    "https://[::::]/": "no IPv6 address",
    "https://[127.0.0.1]/": "no IPv6 address",
    "https://[1:2]:443/a": "no IPv6 address",
    "https://[1:2:3:4:5:6:7:8:9]/": "no IPv6 address",
    "https://ü" + "ü" * 80 + ".example/": "not a valid name",
    "https://example.com/" + "x" * MAX_CHARS: "characters",
}


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same(one: str, other: str) -> None:
    """Spellings that RFC 3986 calls equal are one."""
    assert normalize(one) == normalize(other)
    assert key(normalize(one)) == key(normalize(other))


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different(one: str, other: str) -> None:
    """Whatever might be another thing stays another: a wrong merge would lose somebody's card."""
    assert normalize(one) != normalize(other)
    assert key(normalize(one)) != key(normalize(other))


@pytest.mark.parametrize(("url", "why"), REFUSED.items())
def test_refused(url: str, why: str) -> None:
    """Only http and https with a host, without a user name; the field is named and told what is wrong."""
    with pytest.raises(UrlNotAllowedError, match=why) as refused:
        normalize(url, "attachment.url")
    assert [one.field for one in refused.value.violations] == ["attachment.url"]


def test_the_longest_one() -> None:
    """The limit counts the characters as given."""
    url = "https://example.com/".ljust(MAX_CHARS, "ü")
    assert normalize(url).endswith("%C3%BC")


def test_stripped_parameters() -> None:
    """A workspace may name parameters that don't count, and no others are touched."""
    names = frozenset({"utm_source", "fbclid"})
    for url, wanted in {
        "https://e.org/?utm_source=x&a=1&fbclid=y&utm_sourceless=2": "https://e.org/?a=1&utm_sourceless=2",
        "https://e.org/?utm_source=x": "https://e.org/",
        "https://e.org/?utm_source": "https://e.org/",
        "https://e.org/#?utm_source=x": "https://e.org/#?utm_source=x",
        "https://e.org/": "https://e.org/",
    }.items():
        assert normalize(url, "url", names) == wanted


parts = st.text(
    st.sampled_from(string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@%/üä€😀\"<>[]|^`{}"), max_size=20
)
hosts = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,5}[A-Za-z0-9])?(\.[A-Za-z]{2,5})?", fullmatch=True)


@settings(deadline=None)
@given(
    st.sampled_from(["http", "https", "HTTPS"]),
    hosts,
    st.sampled_from(["", ":80", ":443", ":8080", ":"]),
    parts,
    st.none() | parts,
    st.none() | parts,
)
def test_normalising_twice(
    scheme: str, host: str, port: str, path: str, query: str | None, fragment: str | None
) -> None:
    """A normalised URL is its own normal form, of plain ASCII, and never loses its host."""
    url = f"{scheme}://{host}{port}/{path}"
    url += "" if query is None else f"?{query}"
    url += "" if fragment is None else f"#{fragment}"
    once = normalize(url)
    assert normalize(once) == once
    assert once.isascii()
    assert once.startswith(f"{scheme.lower()}://{host.lower()}")


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    """Whatever is given is normalised or refused."""
    for url in (text, f"https://{text}", f"https://example.com/{text}"):
        try:
            once = normalize(url)
        except UrlNotAllowedError:
            continue
        assert normalize(once) == once

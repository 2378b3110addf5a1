"""Which web pages may call the HTTP port."""

from __future__ import annotations

from collections.abc import Callable

from tests.combinations import own_urls
from tests.running import Api, RunningServer
from tests.ticketing import PUT, ask, download_url, http_ticket
from tests.uploading import upload

pytestmark = own_urls
OURS, THEIRS = "https://tracker.example.com", "https://evil.example.com"
PREFLIGHT = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-md5, content-range"}


def granted(headers: object) -> bool:
    """Tell whether an answer says anything to other origins."""
    return "access-control" in str(headers).lower()


def test_nobody(api: Api) -> None:
    """Unless origins are configured no answer speaks of any."""
    url = http_ticket(api, PUT).http.url
    assert not granted(ask("OPTIONS", url, {"Origin": OURS, **PREFLIGHT}).headers)
    for headers in ({"Origin": OURS}, {}):
        assert not granted(ask("PUT", f"{url}x", headers, b"").headers)
        assert not granted(ask("PUT", url, headers, b"").headers)
        url = http_ticket(api, PUT).http.url


def test_those_that_are_configured(start_server: Callable[..., RunningServer]) -> None:
    """They may send and read, and see the headers that they need, of refusals too; others may not."""
    api = start_server("--cors-origins", f"{OURS},http://localhost:3000").api()
    for origin in (OURS, "http://localhost:3000"):
        url = http_ticket(api, PUT).http.url
        preflight = ask("OPTIONS", url, {"Origin": origin, **PREFLIGHT})
        assert preflight.status == 200
        assert preflight.headers["access-control-allow-origin"] == origin
        assert "PUT" in preflight.headers["access-control-allow-methods"]
        assert preflight.headers["access-control-allow-headers"] == "content-md5, content-range"
        for target in (f"{url}x", url):
            reply = ask("PUT", target, {"Origin": origin}, b"x")
            assert reply.headers["access-control-allow-origin"] == origin
            assert reply.headers["vary"] == "Origin"
        exposed = reply.headers["access-control-expose-headers"]
        assert {"Range", "ETag", "Content-Range", "Location", "Content-Disposition"} <= set(exposed.split(", "))
        read = ask("GET", download_url(api, upload(api, b"abc").file.id), {"Origin": origin, "Range": "bytes=0-0"})
        assert (read.status, read.headers["access-control-allow-origin"]) == (206, origin)
    for origin in (THEIRS, OURS.replace("https", "http"), f"{OURS}.evil.example", "null"):
        url = http_ticket(api, PUT).http.url
        assert "access-control-allow-origin" not in ask("OPTIONS", url, {"Origin": origin, **PREFLIGHT}).headers
        assert "access-control-allow-origin" not in ask("PUT", url, {"Origin": origin}, b"x").headers


def test_anybody(start_server: Callable[..., RunningServer]) -> None:
    """A star lets every page call; there are no cookies that it could use."""
    api = start_server("--cors-origins", "*").api()
    reply = ask("PUT", http_ticket(api, PUT).http.url, {"Origin": THEIRS}, b"x")
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in reply.headers

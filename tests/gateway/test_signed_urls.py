"""The signed URLs of this server: what they pin, and that no character of them can be another one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

import pytest

from remora.v1 import file_pb2, upload_ticket_pb2
from remora.v1 import file_service_pb2 as files_pb
from remora_server.core import ids
from remora_server.core.model import Actor, Caller, Checksums, FileSpec, Ticket, TicketState
from remora_server.gateway.errors import SignedUrlExpiredError, SignedUrlInvalidError
from remora_server.gateway.signed_urls import PART_MULTIPLE_BYTES, SignedUrls
from tests.combinations import own_urls
from tests.running import Api, RunningServer, until
from tests.ticketing import (
    FORM,
    PUT,
    RESUMABLE,
    TRANSPORTS,
    Reply,
    ask,
    curl,
    download_url,
    http_ticket,
    make_file,
    send,
)
from tests.uploading import KIB, checksums_of, read, spec_of, upload

pytestmark = own_urls
INVALID = (403, "SIGNED_URL_INVALID")
DATA = os.urandom(1000)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")


def spec() -> file_pb2.FileSpec:
    """Declare everything."""
    declared = spec_of("shot.png", len(DATA), checksums_of(DATA, "md5", "sha256"))
    declared.content_type = "image/png"
    return declared


def altered(url: str) -> Iterator[str]:
    """Change every character of a URL behind its host."""
    begin = url.index("/", len("http://"))
    for place in range(begin + 1, len(url)):
        for other in {"a", "0", "B"} - {url[place]}:
            yield f"{url[:place]}{other}{url[place + 1 :]}"
            break


@pytest.mark.parametrize("transport", TRANSPORTS.values(), ids=TRANSPORTS)
def test_every_character_of_an_upload(api: Api, transport: upload_ticket_pb2.Transport.ValueType) -> None:
    """Whichever is changed, nothing is stored; the URL as it was given still works (P32)."""
    made = http_ticket(api, transport, spec())
    headers = {header.name: header.value for header in made.http.headers}
    wrong = {url: ask(made.http.method, url, headers, b"").status for url in altered(made.http.url)}
    assert {url: status for url, status in wrong.items() if status != 403} == {}
    assert len(wrong) > 150
    assert send(made.http, DATA).ok
    assert read(api, make_file(api, made.id).id) == DATA


def test_every_character_of_a_download(api: Api, new_issue: str) -> None:
    """Whichever is changed, nothing is read (P32)."""
    file = upload(api, DATA, name="a.bin", attach_to=new_issue).file
    url = download_url(api, file.id)
    replies = {other: ask("GET", other) for other in altered(url)}
    assert {other: reply.status for other, reply in replies.items() if reply.refusal != INVALID} == {}
    assert ask("GET", url).body == DATA


def test_case_and_order(api: Api) -> None:
    """Another spelling of the same is another URL."""
    made = http_ticket(api, PUT)
    path, _, query = made.http.url.partition("?")
    workspace, expires, signature = query.split("&")
    for other in (
        f"{path}?{workspace}&{expires}&{signature.upper()}",
        f"{path}?{expires}&{workspace}&{signature}",
        f"{path}?{workspace}&{workspace}&{expires}&{signature}",
        f"{path}?{workspace}&{expires}&{signature}&{signature}",
        f"{path}?{workspace}&{expires}&{signature}&x=1",
        f"{path}?{workspace}&{expires}&{signature}&",
        f"{path}?{workspace}&{expires}&{signature}%20",
        f"{path}/?{query}",
        f"{path.replace('/uploads', '//uploads')}?{query}",
        f"{path.replace('/uploads', '/x/../uploads')}?{query}",
        f"{path.replace('_', '%5F')}?{query}",
        f"{path}?{workspace}&{expires}",
        f"{path}?{workspace}&{expires}&signature=",
        f"{path}?{workspace}&{expires}&signature=%C3%A9",
    ):
        assert ask("PUT", other, {}, DATA).status == 403, other
    assert ask("PUT", made.http.url, {}, DATA).ok


@pytest.mark.parametrize("transport", TRANSPORTS.values(), ids=TRANSPORTS)
def test_another_method(api: Api, transport: upload_ticket_pb2.Transport.ValueType) -> None:
    """A URL is for one method (P32)."""
    made = http_ticket(api, transport)
    mine = {made.http.method, *({"DELETE"} if transport == RESUMABLE else ())}
    statuses = {method: ask(method, made.http.url, {}, b"").status for method in METHODS if method not in mine}
    assert set(statuses.values()) == {403}, statuses
    assert send(made.http, DATA).ok


def test_another_method_on_a_download(api: Api) -> None:
    """A download is read, or asked for its headers, and nothing else (P32)."""
    url = download_url(api, upload(api, DATA).file.id)
    assert {method: ask(method, url).status for method in METHODS if method not in {"GET", "HEAD"}} == dict.fromkeys(
        set(METHODS) - {"GET", "HEAD"}, 403
    )


def test_urls_do_not_stand_for_each_other(api: Api) -> None:
    """The signature of one ticket or kind of upload is none for another (P32)."""
    one, other, form = http_ticket(api, PUT), http_ticket(api, PUT), http_ticket(api, FORM)
    query = one.http.url.partition("?")[2]
    for path in (other.http.url, form.http.url):
        assert ask("PUT", f"{path.partition('?')[0]}?{query}", {}, DATA).refusal == INVALID
    for kind in ("form", "session"):
        assert ask("PUT", one.http.url.replace("?", f"/{kind}?"), {}, DATA).refusal == INVALID


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/html"},
        {"Content-Type": "image/png; charset=utf-8"},
        {"Content-Type": "Image/png"},
        {"Content-MD5": "XrY7u+Ae7tCTyyK7j1rNww=="},
        {"Content-MD5": ""},
    ],
)
def test_altered_headers(api: Api, headers: Mapping[str, str]) -> None:
    """A header that was to be sent as given, and was not, is refused before a byte is taken (P32)."""
    made = http_ticket(api, PUT, spec())
    given = {header.name: header.value for header in made.http.headers}
    assert set(given) == {"Content-Type", "Content-MD5"}
    assert ask("PUT", made.http.url, {**given, **headers}, DATA).refusal == INVALID
    for missing in given:
        rest = {name: value for name, value in given.items() if name != missing}
        assert ask("PUT", made.http.url, rest, DATA).refusal == INVALID
    assert ask("PUT", made.http.url, given, DATA).ok


def test_altered_fields(api: Api) -> None:
    """A field of the form that is altered, missing, new or in another place is refused (P32)."""
    made = http_ticket(api, FORM, spec())
    *fields, (name, value) = [(field.name, field.value) for field in made.http.form_data]
    assert (name, value) == ("file", "@file")
    assert [one for one, _ in fields] == ["upload_ticket_id", "content_type", "size_bytes", "md5", "sha256"]

    def post(sent: list[tuple[str, str]]) -> Reply:
        options = [option for one, text in sent for option in ("--form-string", f"{one}={text}")]
        return curl(made.http.url, *options, "-F", "file=@-;filename=x", data=DATA)

    for place, (one, text) in enumerate(fields):
        for other in ([], [(one, f"{text}0")], [(one, text[:-1])], [(f"{one}s", text)], [(one, text)] * 2):
            reply = post([*fields[:place], *other, *fields[place + 1 :]])
            assert reply.refusal == INVALID, (one, other)
    assert post([*fields, ("x", "1")]).refusal == INVALID
    assert post(fields[::-1]).refusal == INVALID
    assert post(fields).status == 204


@pytest.mark.parametrize("name", ["PUT", "GET"])
def test_expired(start_server: Callable[..., RunningServer], name: str) -> None:
    """A URL whose time is up is refused, whatever it was for (P32)."""
    api = start_server("--ticket-ttl", "1").api()
    if name == "GET":
        wanted = files_pb.GetFileDownloadUrlRequest(file_id=upload(api, DATA).file.id)
        wanted.ttl.FromSeconds(1)
        url = api.files.GetFileDownloadUrl(wanted).url
    else:
        url = http_ticket(api, PUT).http.url

    def is_over() -> bool:
        reply = ask(name, url, {}, None if name == "GET" else b"")
        return reply.status == 403 and reply.reason == "SIGNED_URL_EXPIRED"

    until(is_over)


@pytest.mark.parametrize("asked", ["stranger.example", "127.0.0.1:1"])
def test_where_urls_lead(start_server: Callable[..., RunningServer], asked: str) -> None:
    """REMORA_PUBLIC_URL alone says it, with its path; no header of a request does."""
    server = start_server("--public-url", "https://files.example.com/remora/x")
    api = server.api()
    made = http_ticket(api, PUT)
    assert made.http.url.startswith(f"https://files.example.com/remora/x/uploads/{made.id}?")
    path = made.http.url.removeprefix("https://files.example.com/remora/x")
    headers = {"X-Forwarded-Host": asked, "X-Forwarded-Proto": "https", "Forwarded": f"host={asked}"}
    # Whether a proxy takes the path off or not.
    assert ask("PUT", f"{server.ready['http']}{path}", headers, DATA).ok
    assert ask("PUT", f"{server.ready['http']}/remora/x{path}", headers, DATA).status == 409
    assert ask("PUT", f"{server.ready['http']}/remora/y{path}", headers, DATA).status == 403
    assert ask("PUT", f"{server.ready['http']}/remora/x/remora/x{path}", headers, DATA).status == 403
    url = download_url(api, make_file(api, made.id).id)
    assert url.startswith("https://files.example.com/remora/x/downloads/")
    reply = ask("GET", url.replace("https://files.example.com", server.ready["http"]), headers)
    assert (reply.status, reply.body) == (200, DATA)
    assert asked not in f"{reply.headers}"


class Clock:
    """A clock that is set."""

    time = 1_000_000_000_000_000

    def now(self) -> int:
        """Return the time."""
        return self.time


def test_what_is_offered() -> None:
    """Each transport has its own URL; a session lives as long as its ticket may, the others as long as it does now."""
    clock = Clock()
    urls = SignedUrls("https://example.com", b"key", clock)
    fields = {
        "id": ids.new_id(ids.TICKET),
        "workspace_id": ids.new_id(ids.WORKSPACE),
        "state": TicketState.PENDING,
        "spec": FileSpec("a", 3, "image/png", Checksums(md5=bytes(16))),
        "create_time": clock.time,
        "expire_time": clock.time + 1,
        **dict.fromkeys(("attach_to", "creator")),
        **dict.fromkeys(("skip_existing_check",), False),
        **dict.fromkeys(("committed_size", "committed_crc32c", "writer_epoch", "append_offset", "append_crc32c"), 0),
        **dict.fromkeys(("file_id", "attachment_id", "outcome", "error_reason", "error_message"), ""),
    }
    offers = {one: urls.offer_upload(Ticket(**fields, transport=one)) for one in urls.transports}  # type: ignore[arg-type]
    assert {one: offer.method for one, offer in offers.items()} == {
        "HTTP_PUT": "PUT",
        "HTTP_POST_FORM": "POST",
        "HTTP_RESUMABLE": "PUT",
    }
    assert [offer.expire_time - clock.time for offer in offers.values()] == [1, 1, 7 * 86_400 * 1_000_000]
    assert [offer.chunk_multiple_bytes for offer in offers.values()] == [0, 0, PART_MULTIPLE_BYTES]
    assert offers["HTTP_PUT"].headers == [("Content-Type", "image/png"), ("Content-MD5", "A" * 22 + "==")]
    path, _, query = offers["HTTP_PUT"].url.removeprefix("https://example.com").partition("?")
    permission = urls.check("PUT", path.encode(), query.encode())
    assert (permission.workspace_id, permission.id) == (fields["workspace_id"], fields["id"])
    for method, key in (("POST", b"key"), ("PUT", b"other")):
        with pytest.raises(SignedUrlInvalidError):
            SignedUrls("https://example.com", key, clock).check(method, path.encode(), query.encode())
    clock.time += 2_000_000
    with pytest.raises(SignedUrlExpiredError):
        urls.check("PUT", path.encode(), query.encode())


def test_whose_right_a_download_carries() -> None:
    """That of the one who asked for it; an admin's is not bound to a person."""
    urls = SignedUrls("https://example.com", b"key", Clock())
    for scopes, reader in ((frozenset({"files:read"}), "usr_1"), (frozenset({"admin"}), "admin")):
        who = Caller("wks_1", "", Actor("usr_1", "USER", ""), scopes)
        file = type("F", (), {"id": "fil_1", "workspace_id": "wks_1"})()
        url = urls.offer_download(who, file, None, "inline", 1_000_000).url  # type: ignore[arg-type]
        path, _, query = url.removeprefix("https://example.com").partition("?")
        assert urls.check("GET", path.encode(), query.encode()).query["reader"] == reader


def test_sizes_below_what_is_kept_inline(api: Api) -> None:
    """Files that lie in the database are read from the same kind of URL (P12)."""
    for size in (0, 1, 16 * KIB, 64 * KIB):
        data = os.urandom(size)
        assert ask("GET", download_url(api, upload(api, data).file.id)).body == data

"""URLs that are permissions: made for one ticket or one file, signed with HMAC-SHA256, good for a time.

What is signed is the method, the path and the query as they are sent, byte for byte, so that no character of a URL can
be another one. The rest that a URL stands for (size, type and digests of a ticket, the right to a file) is looked up
under the signed id when it is used, and so can't be altered either.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from remora_server.core.downloads import ADMIN
from remora_server.core.model import Blob, Caller, File, Form, HttpDownload, HttpUpload, Micros, Ticket
from remora_server.core.ports import Clock
from remora_server.core.tickets import MAX_AGE
from remora_server.gateway.errors import SignedUrlExpiredError, SignedUrlInvalidError

SECOND: Micros = 1_000_000
PART_MULTIPLE_BYTES = 256 * 1024
UPLOADS, DOWNLOADS, ASSETS = "/uploads", "/downloads", "/assets"
FORM, SESSION = "form", "session"
FILE_FIELD = "file"
SIGNATURE = b"&signature="


@dataclass(frozen=True, slots=True)
class Permission:
    """What a URL that was found good stands for."""

    workspace_id: str
    id: str
    query: dict[str, str]


class SignedUrls:
    """Makes and checks the URLs of this server. An implementation of `DirectTransfers`."""

    transports: Sequence[str] = ("HTTP_PUT", "HTTP_POST_FORM", "HTTP_RESUMABLE")
    unseen: Sequence[str] = ()

    def __init__(self, base_url: str, signing_key: bytes, clock: Clock) -> None:
        self._base_url = base_url
        # A key of its own: what signs URLs signs nothing else.
        self._key = hmac.digest(signing_key, b"remora signed URLs, version 1", hashlib.sha256)
        self._clock = clock

    def offer_upload(self, ticket: Ticket) -> HttpUpload:
        """Say how to send the bytes of an open ticket."""
        path = f"{UPLOADS}/{ticket.id}"
        if ticket.transport == "HTTP_POST_FORM":
            url = self._signed("POST", f"{path}/{FORM}", ticket.workspace_id, ticket.expire_time)
            return HttpUpload("POST", url, (), form_fields(ticket), ticket.expire_time)
        if ticket.transport == "HTTP_RESUMABLE":
            # Each part gives the ticket more time, up to this; the session keeps its URL.
            ends = ticket.create_time + MAX_AGE
            url = self._signed("PUT", f"{path}/{SESSION}", ticket.workspace_id, ends)
            return HttpUpload("PUT", url, (), (), ends, PART_MULTIPLE_BYTES)
        url = self._signed("PUT", path, ticket.workspace_id, ticket.expire_time)
        return HttpUpload("PUT", url, put_headers(ticket), (), ticket.expire_time)

    def offer_download(
        self, reader: Caller, file: File, blob: Blob, disposition: str, lifetime: Micros, form: Form = Form.ORIGINAL
    ) -> HttpDownload:
        """Say how to read a form of a file; the right of `reader` is looked at again whenever it is read."""
        del blob  # Found again by its file.
        return self.download(reader, file, disposition, lifetime, form)

    def download(
        self, reader: Caller, file: File, disposition: str, lifetime: Micros, form: Form = Form.ORIGINAL
    ) -> HttpDownload:
        """Say how to read a form of a file from this server, wherever its bytes lie."""
        ends = self._clock.now() + lifetime
        who = ADMIN if reader.is_admin else reader.principal_id
        more = {"reader": who, "disposition": disposition}
        if form is not Form.ORIGINAL:
            more["form"] = form.value
        url = self._signed("GET", f"{DOWNLOADS}/{file.id}", file.workspace_id, ends, **more)
        return HttpDownload(url, (), ends)

    def asset(self, reader: Caller, asset_id: str, lifetime: Micros | None = None) -> str:
        """Return the URL of an asset; with a lifetime, one that needs no key for so long."""
        path = f"{ASSETS}/{asset_id}"
        if lifetime is None:
            return f"{self._base_url}{path}"
        who = ADMIN if reader.is_admin else reader.principal_id
        return self._signed("GET", path, reader.workspace_id, self._clock.now() + lifetime, reader=who)

    def check(self, method: str, path: bytes, query: bytes) -> Permission:
        """Return what a URL stands for; raise SignedUrlInvalidError or SignedUrlExpiredError."""
        signed, found, signature = query.rpartition(SIGNATURE)
        wanted = self._signature(f"{method}\n".encode() + path + b"?" + signed)
        if not found or not hmac.compare_digest(signature, wanted):
            raise SignedUrlInvalidError
        values = dict(parse_qsl(signed.decode(), keep_blank_values=True))
        if int(values["expires"]) * SECOND <= self._clock.now():
            raise SignedUrlExpiredError
        return Permission(values["workspace"], path.decode().split("/")[2], values)

    def _signed(self, method: str, path: str, workspace_id: str, ends: Micros, **more: str) -> str:
        query = urlencode({"workspace": workspace_id, **more, "expires": str(-(-ends // SECOND))})
        signature = self._signature(f"{method}\n{path}?{query}".encode())
        return f"{self._base_url}{path}?{query}{SIGNATURE.decode()}{signature.decode()}"

    def _signature(self, text: bytes) -> bytes:
        return hmac.digest(self._key, text, hashlib.sha256).hex().encode()


def put_headers(ticket: Ticket) -> list[tuple[str, str]]:
    """Return the headers that a PUT must bring as they are."""
    spec = ticket.spec
    headers = [("Content-Type", spec.content_type)] if spec.content_type else []
    if spec.checksums.md5:
        headers.append(("Content-MD5", base64.b64encode(spec.checksums.md5).decode()))
    return headers


def form_fields(ticket: Ticket) -> list[tuple[str, str]]:
    """Return the fields that a form must bring as they are, in this order; the last one takes the bytes."""
    spec = ticket.spec
    fields = [("upload_ticket_id", ticket.id)]
    if spec.content_type:
        fields.append(("content_type", spec.content_type))
    if spec.size_bytes is not None:
        fields.append(("size_bytes", str(spec.size_bytes)))
    if spec.checksums.md5:
        fields.append(("md5", spec.checksums.md5.hex()))
    if spec.checksums.sha256:
        fields.append(("sha256", spec.checksums.sha256.hex()))
    return [*fields, (FILE_FIELD, "@file")]

"""Bytes straight to and from a bucket: V4 signed URLs, policies of HTML forms, and sessions that we begin for others.

Everything that can be fixed beforehand is signed: size, type, MD5, and that nothing is ever replaced. A form can't be
told not to replace what it sent before; see `blobs_gcs.py`.
"""

from __future__ import annotations

import base64
import datetime as dt
import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

import google.auth
from google.auth import credentials as auth_credentials
from google.auth import exceptions as auth_exceptions
from google.auth import iam
from google.oauth2 import service_account

from remora_server.core import dispositions
from remora_server.core.errors import StorageUnavailableError, UploadTicketClosedError
from remora_server.core.model import Blob, Caller, File, Form, HttpDownload, HttpUpload, Micros, Ticket
from remora_server.core.ports import Clock
from remora_server.core.values import replace
from remora_server.stores.blobs_gcs import GcsBlobs
from remora_server.stores.gcs_bucket import OCTETS, Bucket, ObjectExistsError, SessionGoneError
from remora_server.stores.gcs_calls import credentials_unusable
from remora_server.stores.gcs_staged import BLOCK_BYTES

Result = TypeVar("Result")

SECOND: Micros = 1_000_000
LONGEST_SECONDS = 7 * 24 * 3600
CREATED = "201"

log = logging.getLogger(__name__)


class GcsTransfers:
    """Signs for a bucket. An implementation of `DirectTransfers`."""

    transports: Sequence[str] = ("HTTP_PUT", "HTTP_POST_FORM", "HTTP_RESUMABLE")
    unseen: Sequence[str] = ("HTTP_RESUMABLE",)

    def __init__(
        self,
        bucket: Bucket,
        blobs: GcsBlobs,
        signer: auth_credentials.Signing,
        clock: Clock,
        *,
        max_file_bytes: int,
        origin: str = "",
    ) -> None:
        self._bucket = bucket
        self._blobs = blobs
        self._signer = signer
        self._clock = clock
        self._max_file_bytes = max_file_bytes
        self._origin = origin

    def offer_upload(self, ticket: Ticket) -> HttpUpload:
        """Say how to send the bytes of an open ticket; repeating it is harmless, and each answer works."""
        if ticket.transport == "HTTP_POST_FORM":
            return self._form(ticket)
        if ticket.transport == "HTTP_RESUMABLE":
            return self._session(ticket)
        lowest, highest = self._range(ticket)
        headers = {"Content-Type": ticket.spec.content_type or OCTETS}
        if ticket.spec.checksums.md5:
            headers["Content-MD5"] = base64.b64encode(ticket.spec.checksums.md5).decode()
        headers |= {"x-goog-if-generation-match": "0", "x-goog-content-length-range": f"{lowest},{highest}"}
        ends = self._end_of(ticket.expire_time)
        url = self._signed("PUT", self._blobs.key(ticket.id), ends, headers=dict(headers))
        return HttpUpload("PUT", url, tuple(headers.items()), (), ends)

    def offer_download(
        self, reader: Caller, file: File, blob: Blob, disposition: str, lifetime: Micros, form: Form = Form.ORIGINAL
    ) -> HttpDownload:
        """Say how to read a form of a file: this generation of it, presented as what can do no harm."""
        del reader, form  # The URL itself is the permission, until it ends, and the blob is that of the form.
        name, generation = self._blobs.split(blob.location)
        ends = self._end_of(self._clock.now() + lifetime)
        shown = disposition == dispositions.INLINE or dispositions.is_showable_type(file.content_type)
        url = self._signed(
            "GET",
            self._blobs.key(name),
            ends,
            generation=str(generation),
            response_disposition=dispositions.header(disposition, file.name),
            response_type=file.content_type if shown else OCTETS,
        )
        return HttpDownload(url, (), ends)

    def _form(self, ticket: Ticket) -> HttpUpload:
        lowest, highest = self._range(ticket)
        ends = self._end_of(ticket.expire_time)
        fields = {"content-type": ticket.spec.content_type or OCTETS, "success_action_status": CREATED}

        def sign() -> dict[str, Any]:
            made: dict[str, Any] = self._bucket.client.generate_signed_post_policy_v4(
                self._bucket.name,
                self._blobs.form_key(ticket.id),
                _time(ends),
                conditions=[["content-length-range", lowest, highest]],
                fields=fields,
                credentials=self._signer,
            )
            return made

        policy = _signing(sign)
        url = f"{self._bucket.endpoint}/{quote(self._bucket.name)}"
        return HttpUpload("POST", url, (), (*policy["fields"].items(), ("file", "@file")), ends)

    def _session(self, ticket: Ticket) -> HttpUpload:
        """Begin a session, once: its address is kept, and shown to whoever may see the ticket.

        Another one is begun when that has ended without an object, since its client gave it up or was away for a week.
        """
        book = self._blobs.book
        session = book.find(ticket.id)
        if session is None or not self._goes_on(session.url):
            declared = ticket.spec.size_bytes
            try:
                url = self._bucket.start(
                    self._blobs.key(ticket.id),
                    content_type=ticket.spec.content_type or OCTETS,
                    size_bytes=declared,
                    max_bytes=self._max_file_bytes,
                    origin=self._origin,
                )
            except ObjectExistsError:
                raise UploadTicketClosedError(ticket.state.value, has_arrived=True) from None
            session = book.keep(replace(book.fresh(ticket.id, ticket.writer_epoch), url=url, is_direct=True))
        # Cloud Storage keeps a session for a week, and a ticket lives no longer.
        return HttpUpload("PUT", session.url, (), (), self._end_of(ticket.expire_time), BLOCK_BYTES)

    def _goes_on(self, url: str) -> bool:
        try:
            self._bucket.progress(url)
        except SessionGoneError:
            return False
        return True

    def _range(self, ticket: Ticket) -> tuple[int, int]:
        declared = ticket.spec.size_bytes
        return (0, self._max_file_bytes) if declared is None else (declared, declared)

    def _end_of(self, wanted: Micros) -> Micros:
        return min(wanted, self._clock.now() + LONGEST_SECONDS * SECOND)

    def _signed(self, method: str, key: str, ends: Micros, **more: Any) -> str:  # noqa: ANN401 - whatever is signed.
        blob = self._bucket.client.bucket(self._bucket.name).blob(key)

        def sign() -> str:
            url: str = blob.generate_signed_url(
                version="v4",
                method=method,
                expiration=_time(ends),
                credentials=self._signer,
                api_access_endpoint=self._bucket.endpoint,
                **more,
            )
            return url

        return _signing(sign)


def find_signer(bucket: Bucket) -> auth_credentials.Signing | None:
    """Find what signs: the key of the server's credentials, or IAM where Google keeps the key; None if nothing may."""
    if os.environ.get("STORAGE_EMULATOR_HOST"):
        path = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        try:
            return service_account.Credentials.from_service_account_file(path) if path else None
        except (OSError, ValueError) as error:
            raise credentials_unusable(path or "", error) from None
    credentials = bucket.transport.credentials
    if isinstance(credentials, auth_credentials.Signing):
        return credentials
    if not getattr(credentials, "service_account_email", None):
        return None  # A person's, who can't sign.
    request = google.auth.transport.requests.Request()
    return IamSigner(credentials, partial(request, timeout=bucket.answer_seconds))


class IamSigner(auth_credentials.Signing):
    """Signs through the IAM Credentials API, as the account that the machine runs as."""

    def __init__(self, credentials: Any, request: Any) -> None:  # noqa: ANN401 - as above.
        self._credentials = credentials
        self._request = request

    @property
    def signer_email(self) -> str:
        """The account; a machine learns its own name with its first token."""
        if not self._credentials.valid:
            self._credentials.refresh(self._request)
        return str(self._credentials.service_account_email)

    @property
    def signer(self) -> Any:  # noqa: ANN401 - as above.
        """What makes signatures."""
        return iam.Signer(self._request, self._credentials, self.signer_email)

    def sign_bytes(self, message: bytes) -> bytes:
        """Sign."""
        return bytes(self.signer.sign(message))


def _signing(sign: Callable[[], Result]) -> Result:
    try:
        return sign()
    except (auth_exceptions.GoogleAuthError, OSError) as error:
        needed = "the server's account needs roles/iam.serviceAccountTokenCreator for itself"
        log.error("URLs can't be signed; %s: %s", needed, error)  # noqa: TRY400 - how we came here tells nothing.
        raise StorageUnavailableError from None


def _time(time: Micros) -> dt.datetime:
    return dt.datetime.fromtimestamp(time // SECOND, dt.UTC)

"""The certificate of both ports: read, checked, and read again when its files change.

What is broken stops the start. Broken later, it is logged, and the certificate that worked stays. Connections keep what
they began with.
"""

from __future__ import annotations

import datetime as dt
import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

WARNED = dt.timedelta(days=14)

log = logging.getLogger(__name__)
Stamp = tuple[object, ...]


class CertificateError(Exception):
    """The files can't be served with; the message says which one and why."""


@dataclass(frozen=True, slots=True)
class Paths:
    """The files: a chain of certificates, its key, and, if clients need one too, what theirs must chain to."""

    chain: Path
    key: Path
    client_ca: Path | None = None


class Certificates:
    """What new connections are served with. `refresh` it about every second, on one thread."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._stamp = self._look()
        self._pems, self._context = _read(paths)
        # The listener has one context for good, and swaps it for the newest one at each handshake.
        self.context = _context(paths)
        self.context.sni_callback = self._choose

    def pems(self) -> tuple[bytes, bytes, bytes]:
        """Return chain, key and certificates for clients, the last empty where clients need none; any thread may."""
        return self._pems

    def refresh(self) -> None:
        """Take what is in the files now, if they have changed and are sound."""
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._pems, self._context = _read(self._paths)
        except CertificateError as problem:
            log.error("the certificate stays as it was: %s", problem)  # noqa: TRY400 - the sentence says all
        else:
            log.info("new connections get the certificate that is now in %s", self._paths.chain)

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._context

    def _look(self) -> Stamp:
        return tuple(map(_stamp, (self._paths.chain, self._paths.key, self._paths.client_ca)))


def _stamp(path: Path | None) -> object:
    try:
        found = path.stat() if path is not None else None
    except OSError as problem:
        return problem.errno
    return found and (found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev)


def _read(paths: Paths) -> tuple[tuple[bytes, bytes, bytes], ssl.SSLContext]:
    """Return the files as they are and as a context; raise CertificateError if nobody could be served with them."""
    pems = (
        _bytes(paths.chain, "REMORA_TLS_CERT"),
        _bytes(paths.key, "REMORA_TLS_KEY"),
        _bytes(paths.client_ca, "REMORA_TLS_CLIENT_CA") if paths.client_ca else b"",
    )
    leaf = _certificates(pems[0], f"{paths.chain} (REMORA_TLS_CERT)")[0]
    try:
        key = load_pem_private_key(pems[1], None)
    except (ValueError, TypeError) as problem:
        reason = "is encrypted; store it without a password" if isinstance(problem, TypeError) else "holds no PEM key"
        raise CertificateError(f"{paths.key} (REMORA_TLS_KEY) {reason}.") from problem
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise CertificateError(
            f"{paths.key} (REMORA_TLS_KEY) is not the key of the first certificate in {paths.chain} (REMORA_TLS_CERT)."
        )
    _require_valid(leaf, paths.chain)
    if paths.client_ca:
        _certificates(pems[2], f"{paths.client_ca} (REMORA_TLS_CLIENT_CA)")
    return pems, _context(paths)


def _bytes(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise CertificateError(f"{path} ({setting}) can't be read: {problem.strerror}.") from problem


def _certificates(pem: bytes, where: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as problem:
        raise CertificateError(f"{where} holds no PEM certificate.") from problem


def _require_valid(leaf: x509.Certificate, path: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    if now > leaf.not_valid_after_utc:
        raise CertificateError(f"{path} (REMORA_TLS_CERT) expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC.")
    if now < leaf.not_valid_before_utc:
        raise CertificateError(
            f"{path} (REMORA_TLS_CERT) is valid only from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC."
        )
    if leaf.not_valid_after_utc - now < WARNED:
        log.warning("%s expires on %s UTC", path, f"{leaf.not_valid_after_utc:%Y-%m-%d %H:%M}")


def _context(paths: Paths) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(paths.chain, paths.key)
        if paths.client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(paths.client_ca)
            # A resumed session would spare its client to show a certificate, which may not be accepted any more. Before
            # TLS 1.3 nothing here can forbid that.
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.num_tickets = 0
    except (OSError, ValueError) as problem:
        raise CertificateError(f"{paths.chain} (REMORA_TLS_CERT) can't be served with: {problem}.") from problem
    return context

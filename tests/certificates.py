"""Certificates made for a test: authorities, and what they sign."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = dt.timedelta(days=1)


class Authority:
    """Signs certificates; `ca` is the file that makes others trust them."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(exist_ok=True)
        self.ca = folder / f"{name}.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        certificate = self._build(self._name, self._key, -DAY, DAY * 30).add_extension(constraints, critical=True)
        self.ca.write_bytes(certificate.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def sign(self, *, begins: dt.timedelta = -DAY, ends: dt.timedelta = DAY * 30) -> tuple[bytes, bytes]:
        """Return a certificate for this machine, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        local = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        made = self._build(_named("localhost"), key, begins, ends).add_extension(local, critical=False)
        pem = made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        return pem, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def _build(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, begins: dt.timedelta, ends: dt.timedelta
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
        )


def encrypted_key() -> bytes:
    """Return a key that a password protects."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hush"))


def replace(path: Path, content: bytes) -> None:
    """Put a file in the place of another at once, as whoever renews certificates should."""
    draft = path.with_suffix(".new")
    draft.write_bytes(content)
    draft.replace(path)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

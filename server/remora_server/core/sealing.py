"""Secrets that must be read again: encrypted under the signing key, so that a copy of the database tells none of them.

That holds where the signing key is a setting; the one that a server makes itself lies in the same database.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12


class SealBrokenError(Exception):
    """What was sealed can't be opened: by another signing key, or for something else."""


class Seal:
    """Seals and opens texts, each for the thing it belongs to."""

    def __init__(self, signing_key: bytes) -> None:
        # A key of its own: what seals secrets seals nothing else.
        self._cipher = AESGCM(hmac.digest(signing_key, b"remora webhook secrets, version 1", hashlib.sha256))

    def seal(self, text: str, belongs_to: str) -> bytes:
        """Return a text so that only `open` can read it."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, text.encode(), belongs_to.encode())

    def open(self, sealed: bytes, belongs_to: str) -> str:
        """Return the text; raise SealBrokenError unless it was sealed here for the same thing."""
        try:
            opened = self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], belongs_to.encode())
        except (InvalidTag, ValueError) as problem:
            raise SealBrokenError from problem
        return opened.decode()

"""Etags: strong, quoted, made from the version that each change of a row counts up."""

from __future__ import annotations

from remora_server.core.errors import EtagMismatchError


def etag_of(version: int) -> str:
    """Return the etag of a row version."""
    return f'"{version}"'


def content_etag_of(sha256: bytes) -> str:
    """Return the etag of a file's bytes."""
    return f'"{sha256.hex()}"'


def require(etag: str, version: int) -> None:
    """Raise EtagMismatchError if the caller gave an etag and it is not that of the stored version."""
    if etag and etag != etag_of(version):
        raise EtagMismatchError(etag_of(version))

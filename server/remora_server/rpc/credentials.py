"""TLS of the gRPC port, with whatever certificate is the newest when a client connects."""

from __future__ import annotations

from collections.abc import Callable

import grpc

Pems = Callable[[], tuple[bytes, bytes, bytes]]


def server_credentials(pems: Pems) -> grpc.ServerCredentials:
    """Return credentials from `pems`: a chain, its key, and certificates that those of clients must chain to."""
    told = pems()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal told
        current = pems()
        if current is told:
            return None
        told = current
        return _configuration(current)

    # The stubs forget that the fetcher may return None, which changes nothing.
    return grpc.dynamic_ssl_server_credentials(_configuration(told), changed, bool(told[2]))  # type: ignore[arg-type]


def _configuration(pems: tuple[bytes, bytes, bytes]) -> grpc.ServerCertificateConfiguration:
    chain, key, client_ca = pems
    return grpc.ssl_server_certificate_configuration([(key, chain)], client_ca or None)

"""POST /oauth/token: a program's key for a token of an hour, by the client credentials of RFC 6749."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import parse_qsl, unquote_plus

from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from remora_server.core.errors import TokenExpiredError, TokenMissingError
from remora_server.core.tokens import Granted
from remora_server.gateway.bodies import Body
from remora_server.gateway.errors import MethodNotAllowedError

MAX_FORM_BYTES = 16 * 1024
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
READ = frozenset({"files:read", "attachments:read", "issues:read"})
# Clients of Glue have words of their own for scopes, some of which open nothing here.
SPELLED: Mapping[str, frozenset[str]] = {
    "threads:read": READ,
    "threads.messages:write": READ | {"files:write", "attachments:write", "issues:write"},
}


class Grants(Protocol):
    """Gives tokens for keys."""

    async def grant(self, principal_id: str, key: str, scopes: frozenset[str] | None) -> Granted | None:
        """Return a token for those of the scopes that the key has, None for no scope at all.

        Raise TokenMissingError or TokenExpiredError for a key that is not this principal's, or not any more.
        """
        ...


class _RefusedError(Exception):
    def __init__(self, code: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.code = code
        self.status = status


async def token(grants: Grants, scope: Scope, body: Body) -> Response:
    """Answer a request for a token; every refusal is one of RFC 6749."""
    if scope["method"] != "POST":
        raise MethodNotAllowedError("use POST.")
    try:
        return await _token(grants, body)
    except _RefusedError as refusal:
        told = JSONResponse({"error": refusal.code, "error_description": str(refusal)}, refusal.status, NO_STORE)
        if refusal.status == 401:  # noqa: PLR2004 - Unauthorized
            told.headers["WWW-Authenticate"] = 'Basic realm="remora"'
        return told


async def _token(grants: Grants, body: Body) -> Response:
    form = await _form(body)
    principal_id, key = _client(form, body.headers.get("authorization", ""))
    if form.get("grant_type") != "client_credentials":
        raise _RefusedError("unsupported_grant_type", "grant_type must be client_credentials.")
    wanted = _scopes(form["scope"]) if form.get("scope", "").strip() else None
    try:
        granted = await grants.grant(principal_id, key, wanted)
    except (TokenMissingError, TokenExpiredError) as problem:
        raise _RefusedError(
            "invalid_client",
            "client_id must be the id of a user (principal_id of `remora-server keys list`), client_secret their key.",
            401,
        ) from problem
    if granted is None:
        raise _RefusedError("invalid_scope", "the key has none of these scopes.")
    return JSONResponse(
        {
            "access_token": granted.token,
            "token_type": "Bearer",
            "expires_in": granted.seconds,
            "scope": " ".join(sorted(granted.scopes)),
        },
        headers=NO_STORE,
    )


def _scopes(text: str) -> frozenset[str]:
    words = frozenset(re.split(r"[\s,]+", text.strip())) - {""}
    return words.union(*(SPELLED.get(word, ()) for word in words))


async def _form(body: Body) -> Mapping[str, str]:
    data = bytearray()
    while piece := await body.next():
        data += piece
        if len(data) > MAX_FORM_BYTES:
            raise _RefusedError("invalid_request", f"the form has more than {MAX_FORM_BYTES} bytes.")
    if body.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise _RefusedError("invalid_request", "the Content-Type must be application/x-www-form-urlencoded.")
    try:
        pairs = parse_qsl(data.decode(), keep_blank_values=True, max_num_fields=20)
    except ValueError as problem:
        raise _RefusedError("invalid_request", "the body is no form.") from problem
    if len(dict(pairs)) != len(pairs):
        raise _RefusedError("invalid_request", "a field is there twice.")
    return dict(pairs)


def _client(form: Mapping[str, str], authorization: str) -> tuple[str, str]:
    """Return who asks and by which key: from Basic or from the form, not from both."""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "basic":
        return form.get("client_id", ""), form.get("client_secret", "")
    if "client_secret" in form:
        raise _RefusedError("invalid_request", "the client is authenticated twice: by Basic and by the form.")
    try:
        principal_id, _, key = base64.b64decode(given.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError) as problem:
        raise _RefusedError("invalid_client", "the Authorization header is not Basic.", 401) from problem
    return unquote_plus(principal_id), unquote_plus(key)

"""The server's own paths, which are no dialect's, as the OpenAPI document tells of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from remora_server.gateway.signed_urls import ASSETS, DOWNLOADS, FORM, SESSION, UPLOADS

TAG = "own"
TEXT: Mapping[str, Any] = {"type": "string"}
BYTES: Mapping[str, Any] = {"type": "string", "format": "binary"}
RAW: Mapping[str, Any] = {"application/octet-stream": {"schema": BYTES}}
FORM_DATA: Mapping[str, Any] = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {
                "upload_ticket_id": TEXT,
                "content_type": TEXT,
                "size_bytes": TEXT,
                "md5": TEXT,
                "sha256": TEXT,
                "file": BYTES,  # The last one: what comes behind it is refused.
            },
            "required": ["upload_ticket_id", "file"],
        }
    }
}
CREDENTIALS: Mapping[str, Any] = {
    "application/x-www-form-urlencoded": {
        "schema": {
            "type": "object",
            "properties": {
                "grant_type": {"type": "string", "enum": ["client_credentials"]},
                "client_id": TEXT,
                "client_secret": TEXT,
                "scope": TEXT,
            },
            "required": ["grant_type"],  # Who asks may come as Basic instead.
        }
    }
}
REFUSALS = {
    400: "Something in the request can't be accepted.",
    403: "The URL was altered, is used in another way than it was made for, or has expired.",
    404: "There is no such thing any more.",
    409: "The upload has ended, or the bytes are not those that come next.",
    413: "More bytes than may be.",
}


def own_paths() -> dict[str, Any]:
    """Return the paths that come with every server, whatever doors it has."""
    upload = f"{UPLOADS}/{{ticket}}"
    return {
        "/oauth/token": {
            "post": {
                **_operation("token", "Get a token of an hour for a key, by the client credentials of RFC 6749."),
                "requestBody": {"required": True, "content": CREDENTIALS},
                "responses": _told({200: "Done."}, {400: REFUSALS[400], 401: "There is no such key."}),
            }
        },
        upload: {"put": _signed("put", "Upload the bytes of a ticket.", "ticket", {200: "Done."}, RAW)},
        f"{upload}/{FORM}": {
            "post": _signed("post-form", "Upload the bytes of a ticket as a form.", "ticket", {204: "Done."}, FORM_DATA)
        },
        f"{upload}/{SESSION}": {
            "put": _signed(
                "put-part",
                "Upload a part of a ticket's bytes, as Content-Range says, or ask how far they are.",
                "ticket",
                {200: "All bytes are there.", 308: "The header Range says what is there."},
                RAW,
            ),
            "delete": _signed("delete-session", "Give an upload up.", "ticket", {499: "It was given up."}),
        },
        f"{DOWNLOADS}/{{file}}": {
            "get": _signed(
                "get-file",
                "Download a file, or one range of it.",
                "file",
                {200: "The bytes.", 206: "A range of them.", 304: "They are those that the client has."},
                more=("reader", "disposition"),
            )
        },
        f"{ASSETS}/{{asset}}": {
            "get": {
                **_operation("get-asset", "Read a file at a URL that stays, by a key or a signature in the query."),
                "security": [{"bearer": []}, {"plain": []}, {"oauth": []}, {"apiKey": []}, {"token": []}, {}],
                "parameters": [
                    {"name": "asset", "in": "path", "required": True, "schema": {**TEXT, "minLength": 1}},
                ],
                "responses": _told(
                    {200: "The bytes.", 206: "A range of them.", 304: "They are those that the client has."},
                    {401: "There is no good key.", 416: "The range lies outside the file.", **REFUSALS},
                ),
            }
        },
    }


def _operation(name: str, summary: str) -> dict[str, Any]:
    return {"operationId": f"{TAG}.{name}", "summary": summary, "tags": [TAG], "parameters": [], "security": []}


def _signed(
    name: str,
    summary: str,
    noun: str,
    good: Mapping[int, str],
    body: Mapping[str, Any] | None = None,
    more: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what can be done at a signed URL, which is used as it was given, and needs no key."""
    query = ("workspace", *more, "expires", "signature")
    return {
        **_operation(name, summary),
        "description": "At a URL that the server made, of which no character may be changed.",
        "parameters": [
            {"name": noun, "in": "path", "required": True, "schema": {**TEXT, "minLength": 1}},
            *({"name": name, "in": "query", "required": True, "schema": TEXT} for name in query),
        ],
        **({} if body is None else {"requestBody": {"required": True, "content": body}}),
        "responses": _told(good, REFUSALS),
    }


def _told(*statuses: Mapping[int, str]) -> dict[str, Any]:
    return {str(status): {"description": text} for each in statuses for status, text in each.items()}

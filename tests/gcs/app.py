"""The fake as an ASGI app: which API a request is for, tokens, and the controls under /_fake/."""

from __future__ import annotations

import base64
import dataclasses
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from tests.gcs.bucket import Bucket
from tests.gcs.faults import Fault, Faults, Striking
from tests.gcs.json_api import JsonApi
from tests.gcs.refusal import Refusal
from tests.gcs.signatures import Signer
from tests.gcs.xml_api import XmlApi

EXPOSED = "Content-Length,Content-Type,Content-Range,ETag,Location,Range,x-goog-generation,x-goog-hash"


class Gcs:
    """One bucket behind both APIs."""

    def __init__(self, bucket: str, folder: Path, email: str, key: rsa.RSAPrivateKey) -> None:
        self.bucket = Bucket(bucket, folder)
        self.faults = Faults()
        self.app = Striking(self._serve, self.faults, _refuse)
        self._key = key
        self._email = email
        self._tokens: set[str] = set()
        self._json = JsonApi(self.bucket)
        self._xml = XmlApi(self.bucket, Signer(email, key.public_key()), self._tokens)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Refusal as refusal:
            response = _refuse(request, refusal)
            if request.method in {"PUT", "POST"}:
                response.headers["Connection"] = "close"  # The body may not have been read.
        except ClientDisconnect:
            return
        origin = request.headers.get("origin")
        if origin and request.method != "OPTIONS":
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = EXPOSED
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode("ascii", "replace")
        if path.startswith("/_fake/"):
            return await self._control(request, path.removeprefix("/_fake/"))
        if path == "/token":
            token = secrets.token_urlsafe(16)
            self._tokens.add(token)
            return JSONResponse({"access_token": token, "expires_in": 3600, "token_type": "Bearer"})
        if path.startswith("/v1/projects/-/serviceAccounts/"):
            return await self._sign_blob(request, path)
        if not _is_json(path):
            return await self._xml.answer(request, path)
        # Without a header anybody may do anything, which is what an emulator is for; a header must be good.
        authorization = request.headers.get("authorization")
        if authorization is not None and authorization.removeprefix("Bearer ") not in self._tokens:
            raise Refusal(401, "Invalid Credentials")
        return await self._json.answer(request, path)

    async def _sign_blob(self, request: Request, path: str) -> Response:
        """Sign as the IAM Credentials API does, for who has no key."""
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self._tokens:
            raise Refusal(401, "Request had invalid authentication credentials.")
        email, _, verb = unquote(path.rpartition("/")[2]).partition(":")
        if (email, verb) != (self._email, "signBlob"):
            raise Refusal(403, "Permission 'iam.serviceAccounts.signBlob' denied on resource (or it may not exist).")
        payload = base64.b64decode((await request.json())["payload"])
        signed = self._key.sign(payload, padding.PKCS1v15(), hashes.SHA256())
        return JSONResponse({"keyId": "fake", "signedBlob": base64.b64encode(signed).decode()})

    async def _control(self, request: Request, path: str) -> Response:
        if path == "faults" and request.method == "POST":
            self.faults.plans.append(Fault(**await request.json()))
        elif path == "faults" and request.method == "DELETE":
            self.faults.plans.clear()
        elif path == "requests":
            made = list(self.faults.requests)
            if request.method == "DELETE":
                self.faults.requests.clear()
            return JSONResponse(made)
        elif path == "forget":
            asked = await request.json()
            for session_id, session in list(self.bucket.sessions.items()):
                if session.about.name.endswith(asked["name"]) and not session.ended and session.done is None:
                    self._lose(session_id, asked)
        elif path == "copy":
            asked = await request.json()
            self.bucket.copy(asked["prefix"], asked["target"])
        elif path == "flip":
            self.bucket.flip_byte((await request.json())["name"])
        return JSONResponse(self._state())

    def _lose(self, session_id: str, asked: dict[str, Any]) -> None:
        if "size" in asked:
            self.bucket.forget_bytes(session_id, asked["size"])
        elif asked.get("expire"):
            self.bucket.sessions[session_id].started = 0
        else:
            del self.bucket.sessions[session_id]

    def _state(self) -> dict[str, Any]:
        open_sessions = [one for one in self.bucket.sessions.values() if one.done is None and not one.ended]
        return {
            "faults": [dataclasses.asdict(plan) for plan in self.faults.plans],
            "sessions": [{"name": one.about.name, "size": one.incoming.size} for one in open_sessions],
            "objects": {one.name: one.size for one in self.bucket.objects.values()},
            "files": {
                **{one.about.name: str(one.incoming.path) for one in open_sessions if one.incoming.size},
                **{one.name: str(one.path) for one in self.bucket.objects.values()},
            },
        }


def _is_json(path: str) -> bool:
    return path.startswith(("/storage/v1/", "/upload/storage/v1/", "/download/storage/v1/", "/v1/", "/_fake/"))


def _refuse(request: Request, refusal: Refusal) -> Response:
    return refusal.in_json() if _is_json(request.scope["raw_path"].decode("ascii", "replace")) else refusal.in_xml()

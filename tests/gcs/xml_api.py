"""The XML API, as signed URLs, HTML forms and curl use it."""

from __future__ import annotations

from urllib.parse import unquote

from starlette.datastructures import Headers, UploadFile
from starlette.requests import Request
from starlette.responses import Response

from tests.gcs import sessions
from tests.gcs.bucket import About, Bucket, Digests, Preconditions, Stored, size_range, too_large
from tests.gcs.downloads import send_bytes
from tests.gcs.refusal import Refusal
from tests.gcs.signatures import Signer, is_signed, require_policy, require_signed_url

FIELD_MAX = 1024 * 1024
PIECE = 1024 * 1024


class XmlApi:
    """Answers /BUCKET and /BUCKET/OBJECT; nobody may do anything without a signature, a token or a session."""

    def __init__(self, bucket: Bucket, signer: Signer, tokens: set[str]) -> None:
        self._bucket = bucket
        self._signer = signer
        self._tokens = tokens

    async def answer(self, request: Request, raw_path: str) -> Response:
        """Answer one request."""
        bucket, _, rest = raw_path.lstrip("/").partition("/")
        name = unquote(rest)
        if unquote(bucket) != self._bucket.name:
            raise Refusal(404, "The specified bucket does not exist.", code="NoSuchBucket")
        if request.method == "OPTIONS":
            return _preflight(request)
        session_id = request.query_params.get("upload_id")
        if session_id:
            return await self._session(request, session_id)
        content_type = request.headers.get("content-type", "")
        if request.method == "POST" and content_type.lower().startswith("multipart/form-data"):
            return await self._form(request)
        self._admit(request)
        if not name:
            raise Refusal(405, "The specified method is not allowed.", code="MethodNotAllowed")
        return await self._object(request, name)

    def _admit(self, request: Request) -> None:
        if is_signed(request):
            require_signed_url(request, self._signer)
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer" and token in self._tokens:
            return
        raise Refusal(
            403,
            "Access denied.",
            code="AccessDenied",
            details="Anonymous caller does not have access to the Google Cloud Storage object.",
        )

    async def _object(self, request: Request, name: str) -> Response:
        preconditions = _preconditions(request.headers)
        text = request.query_params.get("generation")
        generation = int(text) if text else None
        if request.method in {"GET", "HEAD"}:
            found = self._bucket.find(name, generation)
            preconditions.require(found)
            return send_bytes(found, request, **_overrides(request))
        if request.method == "DELETE":
            self._bucket.delete(name, generation, preconditions)
            return Response(status_code=204)
        about = _about(request, name)
        if request.method == "POST" and request.headers.get("x-goog-resumable") == "start":
            if (await request.body()) != b"":
                raise Refusal(400, "Invalid argument.", details="The request that starts an upload has no body.")
            session = self._bucket.start(about, is_xml=True, origin=request.headers.get("origin", ""))
            return Response(status_code=201, headers={"Location": sessions.url_of(request, session)})
        if request.method != "PUT":
            raise Refusal(405, "The specified method is not allowed.", code="MethodNotAllowed")
        return _made(await self._put(request, about))

    async def _put(self, request: Request, about: About) -> Stored:
        declared = request.headers.get("content-length")
        chunked = request.headers.get("transfer-encoding", "").lower() == "chunked"
        if declared is None and not chunked:
            raise Refusal(411, "You must provide the Content-Length HTTP header.", code="MissingContentLength")
        highest = about.size_range[1] if about.size_range else None
        _require_at_most(int(declared or 0), highest)
        # Before the body: a precondition that fails already spares it.
        about.preconditions.require(self._bucket.objects.get(about.name))
        incoming = self._bucket.incoming()
        try:
            async for data in request.stream():
                incoming.write(data)
                _require_at_most(incoming.size, highest)
        except BaseException:
            incoming.drop()
            raise
        return self._bucket.finish(about, incoming)

    async def _session(self, request: Request, session_id: str) -> Response:
        if request.method == "DELETE":
            return sessions.cancel(self._bucket, session_id)
        if request.method != "PUT":
            raise Refusal(405, "The specified method is not allowed.", code="MethodNotAllowed")
        done = await sessions.put(self._bucket, session_id, request)
        return _made(done) if isinstance(done, Stored) else done

    async def _form(self, request: Request) -> Response:
        fields: dict[str, str] = {}
        file: UploadFile | None = None
        async with request.form(max_files=1, max_part_size=FIELD_MAX) as form:
            for key, value in form.multi_items():
                if isinstance(value, UploadFile):
                    if key != "file":
                        raise Refusal(400, "Invalid argument.", details=f"The file came as {key}, not as file.")
                    file = value
                    break  # What follows the file is ignored.
                if key in fields:
                    raise Refusal(400, "Invalid argument.", details=f"The field {key} came twice.")
                fields[key] = value
            if file is None:
                raise Refusal(400, "Invalid argument.", details="The form has no file.")
            size = file.size or 0
            require_policy(fields, size, self._bucket.name, self._signer)
            lowered = {name.lower(): value for name, value in fields.items()}
            about = About(
                lowered["key"].replace("${filename}", file.filename or ""),
                content_type=lowered.get("content-type", "application/octet-stream"),
                content_encoding=lowered.get("content-encoding", ""),
                content_disposition=lowered.get("content-disposition", ""),
                digests=(Digests.of(Headers({"content-md5": lowered.get("content-md5", "")})),),
            )
            incoming = self._bucket.incoming()
            while data := await file.read(PIECE):
                incoming.write(data)
        stored = self._bucket.finish(about, incoming)
        status = int(lowered.get("success_action_status", "204"))
        if status not in {200, 201, 204}:
            status = 204
        if status != 201:
            return Response(status_code=status, headers={"ETag": f'"{stored.md5.hex()}"'})
        where = f"<Bucket>{self._bucket.name}</Bucket><Key>{stored.name}</Key>"
        body = f"<?xml version='1.0' encoding='UTF-8'?><PostResponse>{where}</PostResponse>"
        return Response(body, status, media_type="application/xml")


def _require_at_most(size: int, highest: int | None) -> None:
    if highest is not None and size > highest:
        raise too_large(highest)


def _made(one: Stored) -> Response:
    headers = {
        "ETag": f'"{one.md5.hex()}"',
        "x-goog-generation": str(one.generation),
        "x-goog-metageneration": str(one.metageneration),
        "x-goog-hash": f"crc32c={one.crc32c_text},md5={one.md5_text}",
        "x-goog-stored-content-length": str(one.size),
    }
    return Response(headers=headers, media_type="text/html; charset=UTF-8")


def _about(request: Request, name: str) -> About:
    headers = request.headers
    return About(
        name,
        content_type=headers.get("content-type", "application/octet-stream"),
        content_encoding=headers.get("content-encoding", ""),
        content_disposition=headers.get("content-disposition", ""),
        cache_control=headers.get("cache-control", ""),
        digests=(Digests.of(headers),),
        preconditions=_preconditions(headers),
        size_range=size_range(headers),
    )


def _preconditions(headers: Headers) -> Preconditions:
    def number(name: str) -> int | None:
        text = headers.get(name)
        if text is not None and not text.isdecimal():
            raise Refusal(400, "Invalid argument.", details=f"{name} must be a number.")
        return None if text is None else int(text)

    return Preconditions(
        generation=number("x-goog-if-generation-match"), metageneration=number("x-goog-if-metageneration-match")
    )


def _overrides(request: Request) -> dict[str, str]:
    words = ("content_disposition", "content_type", "cache_control", "content_encoding")
    found = {word: request.query_params.get(f"response-{word.replace('_', '-')}") for word in words}
    return {word.title(): value for word, value in found.items() if value is not None}


def _preflight(request: Request) -> Response:
    """Answer as a bucket whose CORS configuration allows every origin what uploads and downloads need."""
    origin = request.headers.get("origin", "")
    if not origin or not request.headers.get("access-control-request-method"):
        raise Refusal(400, "A required CORS header was not specified.", code="InvalidArgument")
    headers = {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": "GET,HEAD,PUT,POST",
        "Access-Control-Allow-Headers": request.headers.get("access-control-request-headers", ""),
        "Access-Control-Max-Age": "3600",
        "Vary": "Origin",
    }
    return Response(headers=headers)

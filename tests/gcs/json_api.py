"""The JSON API, as google-cloud-storage uses it."""

from __future__ import annotations

import datetime as dt
import email.message
import email.parser
import email.policy
import json
import re
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from tests.gcs import sessions
from tests.gcs.bucket import About, Bucket, Digests, Preconditions, Stored, size_range
from tests.gcs.downloads import send_bytes
from tests.gcs.refusal import Refusal

PRECONDITIONS = {
    "ifGenerationMatch": "generation",
    "ifGenerationNotMatch": "not_generation",
    "ifMetagenerationMatch": "metageneration",
    "ifMetagenerationNotMatch": "not_metageneration",
}
FIELDS = {
    "contentType": "content_type",
    "contentEncoding": "content_encoding",
    "contentDisposition": "content_disposition",
    "cacheControl": "cache_control",
    "metadata": "metadata",
}


class JsonApi:
    """Answers what lies under /storage/v1, /upload/storage/v1 and /download/storage/v1."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def answer(self, request: Request, raw_path: str) -> Response:
        """Answer one request."""
        found = re.fullmatch(r"/(upload/|download/)?storage/v1/b/([^/]+)(/o)?(?:/(.+))?", raw_path)
        if not found or (found[4] and not found[3]):
            raise Refusal(404, "Not Found")
        if unquote(found[2]) != self._bucket.name:
            raise Refusal(404, "The specified bucket does not exist.", code="NoSuchBucket")
        if found[1] == "upload/":
            return await self._upload(request)
        if not found[3]:
            return _json(self._about_bucket())
        if not found[4]:
            if request.method != "GET":
                raise Refusal(405, "Method Not Allowed")
            return _json(self._list(request))
        name, _, target = found[4].partition(f"/rewriteTo/b/{found[2]}/o/")
        return await self._object(request, unquote(name), unquote(target))

    async def _object(self, request: Request, name: str, target: str) -> Response:
        generation = _number(request, "sourceGeneration" if target else "generation")
        preconditions = Preconditions() if target else _preconditions(request)
        if request.method == "DELETE":
            self._bucket.delete(name, generation, preconditions)
            return Response(status_code=204)
        found = self._bucket.find(name, generation)
        preconditions.require(found)
        if request.method == "POST" and target:
            return self._rewrite(request, found, target)
        if request.method == "PATCH":
            self._change(found, await request.json())
        elif request.method != "GET":
            raise Refusal(405, "Method Not Allowed")
        elif request.query_params.get("alt") == "media":
            return send_bytes(found, request)
        return _json(self._about(found))

    async def _upload(self, request: Request) -> Response:
        session_id = request.query_params.get("upload_id")
        if session_id:
            if request.method == "DELETE":
                return sessions.cancel(self._bucket, session_id)
            if request.method != "PUT":
                raise Refusal(405, "Method Not Allowed")
            done = await sessions.put(self._bucket, session_id, request)
            return _json(self._about(done)) if isinstance(done, Stored) else done
        if request.method != "POST":
            raise Refusal(405, "Method Not Allowed")
        kind = request.query_params.get("uploadType")
        if kind == "resumable":
            return await self._start(request)
        if kind == "multipart":
            return await self._multipart(request)
        if kind == "media":
            return await self._media(request)
        raise Refusal(400, "Bad Request")

    async def _start(self, request: Request) -> Response:
        body = await request.body()
        about = self._read_about(request, json.loads(body) if body else {})
        about.content_type = request.headers.get("x-upload-content-type", about.content_type)
        announced = request.headers.get("x-upload-content-length")
        about.size = None if announced is None else int(announced)
        about.size_range = size_range(request.headers)
        session = self._bucket.start(about, is_xml=False, origin=request.headers.get("origin", ""))
        return Response(headers={"Location": sessions.url_of(request, session), "X-GUploader-UploadID": session.id})

    async def _media(self, request: Request) -> Response:
        about = self._read_about(request, {})
        about.content_type = request.headers.get("content-type", about.content_type)
        about.digests += (Digests.of(request.headers),)
        incoming = self._bucket.incoming()
        try:
            async for data in request.stream():
                incoming.write(data)
        except BaseException:
            incoming.drop()
            raise
        return _json(self._about(self._bucket.finish(about, incoming)))

    async def _multipart(self, request: Request) -> Response:
        content_type = request.headers.get("content-type", "")
        if not content_type.lower().startswith("multipart/related"):
            raise Refusal(400, "Invalid multipart request with 0 mime parts.")
        head, data_type, data = _split(content_type, await request.body())
        about = self._read_about(request, json.loads(head))
        about.content_type = about.content_type or data_type
        about.digests += (Digests.of(request.headers),)
        incoming = self._bucket.incoming()
        incoming.write(data)
        return _json(self._about(self._bucket.finish(about, incoming)))

    def _read_about(self, request: Request, given: dict[str, Any]) -> About:
        name = given.get("name") or request.query_params.get("name")
        if not name:
            raise Refusal(400, "Required parameter: name")
        digests = {"x-goog-hash": ",".join(f"{key}={given[word]}" for key, word in HASHES if given.get(word))}
        known = {mine: given[theirs] for theirs, mine in FIELDS.items() if given.get(theirs)}
        known.setdefault("content_type", "")
        return About(name, preconditions=_preconditions(request), digests=(Digests.of(digests),), **known)

    def _rewrite(self, request: Request, source: Stored, target: str) -> Response:
        about = About(target, source.content_type, preconditions=_preconditions(request))
        about.preconditions.require(self._bucket.objects.get(target))
        incoming = self._bucket.incoming()
        incoming.write(source.path.read_bytes())
        made = self._bucket.finish(about, incoming)
        told = {"kind": "storage#rewriteResponse", "done": True, "resource": self._about(made)}
        return _json(told | {"totalBytesRewritten": str(made.size), "objectSize": str(made.size)})

    def _change(self, found: Stored, given: dict[str, Any]) -> None:
        for theirs, mine in FIELDS.items():
            if theirs in given:
                setattr(found, mine, given[theirs] or ({} if theirs == "metadata" else ""))
        found.metageneration += 1

    def _list(self, request: Request) -> dict[str, Any]:
        query = request.query_params
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("pageToken", "")
        limit = min(int(query.get("maxResults", 1000)), 1000)
        items: list[dict[str, Any]] = []
        prefixes: list[str] = []
        for name in sorted(self._bucket.objects):
            if not name.startswith(prefix) or name <= after:
                continue
            if len(items) + len(prefixes) == limit:
                last = items[-1]["name"] if items else prefixes[-1]
                return _listing(items, prefixes) | {"nextPageToken": max([last, *prefixes])}
            end = name.find(delimiter, len(prefix)) if delimiter else -1
            if end < 0:
                items.append(self._about(self._bucket.objects[name]))
            elif name[: end + len(delimiter)] not in prefixes:
                prefixes.append(name[: end + len(delimiter)])
        return _listing(items, prefixes)

    def _about_bucket(self) -> dict[str, Any]:
        return {"kind": "storage#bucket", "id": self._bucket.name, "name": self._bucket.name, "location": "NOWHERE"}

    def _about(self, one: Stored) -> dict[str, Any]:
        shown = {theirs: getattr(one, mine) for theirs, mine in FIELDS.items() if getattr(one, mine)}
        return shown | {
            "kind": "storage#object",
            "id": f"{self._bucket.name}/{one.name}/{one.generation}",
            "name": one.name,
            "bucket": self._bucket.name,
            "generation": str(one.generation),
            "metageneration": str(one.metageneration),
            "size": str(one.size),
            "crc32c": one.crc32c_text,
            "md5Hash": one.md5_text,
            "etag": f"{one.generation}/{one.metageneration}",
            "timeCreated": _time(one.created),
            "updated": _time(one.updated),
        }


HASHES = (("md5", "md5Hash"), ("crc32c", "crc32c"))


def _listing(items: list[dict[str, Any]], prefixes: list[str]) -> dict[str, Any]:
    return (
        {"kind": "storage#objects"} | ({"items": items} if items else {}) | ({"prefixes": prefixes} if prefixes else {})
    )


def _json(body: dict[str, Any]) -> Response:
    return Response(json.dumps(body), media_type="application/json; charset=UTF-8")


def _time(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat().replace("+00:00", "Z")


def _number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    if not text.lstrip("-").isdecimal():
        raise Refusal(400, f"Invalid value at '{name}'")
    return int(text)


def _preconditions(request: Request) -> Preconditions:
    return Preconditions(**{mine: _number(request, theirs) for theirs, mine in PRECONDITIONS.items()})


def _split(content_type: str, body: bytes) -> tuple[bytes, str, bytes]:
    """Return the two parts of a multipart/related body: JSON, then the type and the bytes of the content."""
    boundary = b"--" + str(_headers(b"Content-Type: " + content_type.encode()).get_boundary()).encode()
    parts = (b"\r\n" + body).split(b"\r\n" + boundary)
    if len(parts) != 4 or parts[0] or not parts[3].startswith(b"--"):
        raise Refusal(400, "Invalid multipart request: there must be two parts.")
    (_, _, about), (head, separator, content) = (part.partition(b"\r\n\r\n") for part in parts[1:3])
    if not separator:
        raise Refusal(400, "Invalid multipart request.")
    return about, _headers(head.strip()).get_content_type(), content


def _headers(lines: bytes) -> email.message.Message:
    return email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(lines + b"\r\n\r\n")

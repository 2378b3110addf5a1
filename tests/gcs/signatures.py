"""V4 signatures, really verified: signed URLs and the policies of HTML forms."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from starlette.requests import Request

from tests.gcs.bucket import too_large, too_small
from tests.gcs.refusal import Refusal

ALGORITHM = "GOOG4-RSA-SHA256"
LONGEST_SECONDS = 7 * 24 * 3600
SKEW_SECONDS = 15 * 60
TIME = "%Y%m%dT%H%M%SZ"
PARAMETERS = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")
FREE_FIELDS = frozenset({"file", "policy", "x-goog-signature", "bucket"})


@dataclass(frozen=True)
class Signer:
    """A service account whose signatures count."""

    email: str
    key: rsa.RSAPublicKey

    def require(self, signature: str, text: bytes, details: str) -> None:
        """Refuse a signature that this account did not make of `text`."""
        try:
            self.key.verify(binascii.unhexlify(signature), text, padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, binascii.Error, ValueError):
            raise Refusal(
                403,
                "The request signature we calculated does not match the signature you provided. Check your Google "
                "secret key and signing method.",
                code="SignatureDoesNotMatch",
                details=details,
            ) from None


def is_signed(request: Request) -> bool:
    """Tell whether a request carries a signature in its URL."""
    return any(name.lower() == "x-goog-signature" for name in request.query_params)


def require_signed_url(request: Request, signer: Signer) -> None:
    """Refuse a request whose URL was not signed for exactly this: method, path, parameters, headers and time."""
    query = parse_qsl(request.scope["query_string"].decode("ascii", "replace"), keep_blank_values=True)
    given = {}
    for name in PARAMETERS:
        values = [value for key, value in query if key == f"X-Goog-{name}"]
        if len(values) != 1:
            raise malformed(f"X-Goog-{name}", "is missing or there more than once")
        given[name] = values[0]
    begin = _require_fresh(given)
    scope = _require_credential(given["Credential"], given["Algorithm"], begin, signer)
    canonical = _canonical_request(request, query, given["SignedHeaders"])
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join([ALGORITHM, given["Date"], scope, digest])
    signer.require(given["Signature"], text.encode(), canonical)


def malformed(parameter: str, problem: str) -> Refusal:
    """Make the answer for a parameter or header that can't be what was signed."""
    return Refusal(
        400, "Your request has a malformed header.", code="MalformedSecurityHeader", details=f"{parameter}: {problem}"
    )


def _require_fresh(given: Mapping[str, str]) -> dt.datetime:
    try:
        begin = dt.datetime.strptime(given["Date"], TIME).replace(tzinfo=dt.UTC)
    except ValueError:
        raise malformed("X-Goog-Date", "is no date") from None
    if not re.fullmatch(r"\d{1,9}", given["Expires"]) or int(given["Expires"]) > LONGEST_SECONDS:
        raise malformed("X-Goog-Expires", f"must be at most {LONGEST_SECONDS}")
    now = dt.datetime.now(dt.UTC)
    end = begin + dt.timedelta(seconds=int(given["Expires"]))
    if now > end:
        raise expired(end)
    if begin > now + dt.timedelta(seconds=SKEW_SECONDS):
        raise Refusal(403, "The signature is not valid yet.", code="AccessDenied")
    return begin


def expired(end: dt.datetime) -> Refusal:
    """Make the answer for what came too late."""
    return Refusal(
        400,
        "The provided token has expired.",
        code="ExpiredToken",
        details=f"Request signature expired at: {end.isoformat()}",
    )


def _require_credential(credential: str, algorithm: str, begin: dt.datetime, signer: Signer) -> str:
    if algorithm != ALGORITHM:
        raise malformed("X-Goog-Algorithm", f"must be {ALGORITHM}")
    email, *scope = credential.split("/")
    if len(scope) != 4 or scope[0] != begin.strftime("%Y%m%d") or scope[2:] != ["storage", "goog4_request"]:
        raise malformed("X-Goog-Credential", "has another scope")
    if email != signer.email:
        raise Refusal(403, "Access denied.", code="AccessDenied", details=f"{email} does not have access.")
    return "/".join(scope)


def _canonical_request(request: Request, query: Sequence[tuple[str, str]], signed_headers: str) -> str:
    names = signed_headers.split(";")
    if names != sorted(set(names)) or "host" not in names:
        raise malformed("X-Goog-SignedHeaders", "must name the host, be sorted and without repeats")
    lines = []
    for name in names:
        values = request.headers.getlist(name)
        if not values:
            raise malformed(name, "Header was included in signedheaders, but not in the request.")
        lines.append(f"{name}:{','.join(' '.join(value.split()) for value in values)}\n")
    for name in request.headers:
        if name.startswith("x-goog-") and name not in names:
            raise malformed(name, "Header was included in the request, but not in signedheaders.")
    parameters = sorted((_quoted(key), _quoted(value)) for key, value in query if key != "X-Goog-Signature")
    return "\n".join(
        [
            request.method,
            request.scope["raw_path"].decode("ascii"),
            "&".join(f"{key}={value}" for key, value in parameters),
            "".join(lines),
            signed_headers,
            request.headers.get("x-goog-content-sha256", "UNSIGNED-PAYLOAD"),
        ]
    )


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")


def require_policy(fields: Mapping[str, str], size: int, bucket: str, signer: Signer) -> None:
    """Refuse a form that its signed policy does not allow."""
    lowered = {name.lower(): value for name, value in fields.items()}
    for name in ("policy", "x-goog-algorithm", "x-goog-credential", "x-goog-date", "x-goog-signature"):
        if name not in lowered:
            raise Refusal(400, "Invalid argument.", details=f"The form has no field {name}.")
    try:
        begin = dt.datetime.strptime(lowered["x-goog-date"], TIME).replace(tzinfo=dt.UTC)
    except ValueError:
        raise malformed("x-goog-date", "is no date") from None
    _require_credential(lowered["x-goog-credential"], lowered["x-goog-algorithm"], begin, signer)
    signer.require(lowered["x-goog-signature"], lowered["policy"].encode(), lowered["policy"])
    try:
        policy = json.loads(base64.b64decode(lowered["policy"], validate=True))
        end = dt.datetime.fromisoformat(policy["expiration"])
        conditions: list[Any] = policy["conditions"]
    except (ValueError, KeyError, TypeError):
        raise Refusal(400, "The policy document is not valid.", code="InvalidPolicyDocument") from None
    if dt.datetime.now(dt.UTC) > end.astimezone(dt.UTC):
        raise expired(end)
    _require_conditions(conditions, lowered | {"bucket": lowered.get("bucket", bucket)}, size)


def _require_conditions(conditions: Sequence[Any], fields: Mapping[str, str], size: int) -> None:
    named = set()
    for condition in conditions:
        if isinstance(condition, dict):
            tests = [("eq", name, value) for name, value in condition.items()]
        elif condition[0] == "content-length-range":
            if size > int(condition[2]):
                raise too_large(int(condition[2]))
            if size < int(condition[1]):
                raise too_small(int(condition[1]))
            continue
        else:
            tests = [(condition[0], condition[1].removeprefix("$"), condition[2])]
        for kind, name, wanted in tests:
            field = name.lower()
            named.add(field)
            value = fields.get(field, "")
            if kind not in {"eq", "starts-with"}:
                raise Refusal(400, "The policy document is not valid.", code="InvalidPolicyDocument")
            if field not in fields or not (value == wanted if kind == "eq" else value.startswith(wanted)):
                raise not_allowed(f'Policy condition failed: ["{kind}", "${name}", "{wanted}"]')
    loose = [name for name in fields if name not in named | FREE_FIELDS and not name.startswith("x-ignore-")]
    if loose:
        raise not_allowed(f"Policy did not reference these fields: {', '.join(loose)}")


def not_allowed(details: str) -> Refusal:
    """Make the answer for a form that differs from its policy."""
    return Refusal(
        400,
        "The content of the form does not meet the conditions specified in the policy document.",
        code="InvalidPolicyDocument",
        details=details,
    )

"""What Cloud Storage answers when it refuses: one refusal, told in JSON or in XML as the API of the request has it."""

from __future__ import annotations

import json
from xml.sax.saxutils import escape

from starlette.responses import Response

REASONS = {
    400: "invalid",
    401: "required",
    403: "forbidden",
    404: "notFound",
    408: "uploadBrokenConnection",
    410: "uploadTerminated",
    412: "conditionNotMet",
    416: "requestedRangeNotSatisfiable",
    429: "rateLimitExceeded",
    499: "userCanceled",
    500: "internalError",
    502: "backendError",
    503: "backendError",
    504: "gatewayTimeout",
}
CODES = {
    400: "InvalidArgument",
    401: "AuthenticationRequired",
    403: "AccessDenied",
    404: "NoSuchKey",
    408: "RequestTimeout",
    411: "MissingContentLength",
    412: "PreconditionFailed",
    416: "InvalidRange",
    429: "SlowDown",
    500: "InternalError",
    502: "BadGateway",
    503: "ServiceUnavailable",
    504: "GatewayTimeout",
}


class Refusal(Exception):  # noqa: N818 - it is an answer, not a defect.
    """A request that is answered with an error; `code` is its name in the XML API."""

    def __init__(self, status: int, message: str, *, code: str = "", details: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code or CODES.get(status, "InternalError")
        self.details = details

    def in_json(self) -> Response:
        """Tell it as the JSON API does."""
        reason = REASONS.get(self.status, "invalid")
        error = {"message": self.message, "domain": "global", "reason": reason}
        body = {"error": {"code": self.status, "message": self.message, "errors": [error]}}
        return Response(json.dumps(body), self.status, media_type="application/json; charset=UTF-8")

    def in_xml(self) -> Response:
        """Tell it as the XML API does."""
        details = f"<Details>{escape(self.details)}</Details>" if self.details else ""
        body = (
            "<?xml version='1.0' encoding='UTF-8'?>"
            f"<Error><Code>{self.code}</Code><Message>{escape(self.message)}</Message>{details}</Error>"
        )
        return Response(body, self.status, media_type="application/xml; charset=UTF-8")


def not_found(bucket: str, name: str) -> Refusal:
    """Make the answer for an object that is not there."""
    return Refusal(404, f"No such object: {bucket}/{name}", code="NoSuchKey")


def precondition_failed() -> Refusal:
    """Make the answer for a precondition that does not hold."""
    return Refusal(412, "At least one of the pre-conditions you specified did not hold.", code="PreconditionFailed")

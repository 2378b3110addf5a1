"""Calls to Cloud Storage: repeated until a deadline, and their errors made into those that core knows.

What passes by itself becomes StorageUnavailableError once the deadline is over. What Cloud Storage refuses for good,
such as our credentials, is nothing that a caller could mend: it becomes CloudRefusalError, and a line in the log. The
address of a session is a secret, so no error of a driver, which may quote it, goes any further.
"""

from __future__ import annotations

import http.client
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import urllib3.exceptions
from google.api_core import exceptions
from google.api_core.retry import Retry
from google.auth import exceptions as auth_exceptions
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from requests.adapters import HTTPAdapter

from remora_server.core.errors import StorageUnavailableError

Result = TypeVar("Result")

PASSING = frozenset({408, 429, 500, 502, 503, 504})
CONNECTIONS = 64

log = logging.getLogger(__name__)
logging.getLogger("urllib3").setLevel(logging.INFO)  # Its debug lines quote the addresses of sessions.


class CloudRefusalError(Exception):
    """Cloud Storage refuses what we ask for good, for a reason that lies in our settings or in this server."""


class BucketUnusableError(Exception):
    """There is no such bucket for us; the message says what to do."""


class Gone(exceptions.ClientError):
    """Status 410, which the library has no class for."""

    code = http.client.GONE


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait: for a connection, for a sign of life, and until a call is not tried again.

    The last attempt may begin just before that, and takes as long as an answer. Our callers wait no longer than that:
    twenty seconds are a usual deadline, and they try again by themselves.
    """

    connect_seconds: float = 4.0
    answer_seconds: float = 8.0
    total_seconds: float = 9.0


class Asking:
    """Makes calls, with patience."""

    def __init__(self, patience: Patience) -> None:
        self.timeout = (patience.connect_seconds, patience.answer_seconds)
        self._retry = Retry(
            predicate=_will_pass, initial=0.1, maximum=2.0, multiplier=2.0, timeout=patience.total_seconds
        )

    def ask(
        self,
        what: str,
        call: Callable[[], Result],
        *,
        told_as: Mapping[type[Exception], type[Exception]] | None = None,
    ) -> Result:
        """Run `call` until it succeeds, fails for good or takes too long; give some refusals a name of their own."""
        try:
            done: Result = self._retry(call)()
        except Exception as error:  # noqa: BLE001 - whatever it was, it leaves with a name that is known.
            raise _named(what, error, told_as or {}) from None
        return done


def transport_for(credentials: Any, patience: Patience) -> AuthorizedSession:  # noqa: ANN401 - google-auth has no type for all kinds.
    """Make what sends requests with these credentials."""
    made = AuthorizedSession(credentials, refresh_timeout=patience.answer_seconds)
    for scheme in ("https://", "http://"):
        made.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
    return made


def _will_pass(error: Exception) -> bool:
    """Tell whether what failed may succeed when it is repeated."""
    if isinstance(error, exceptions.GoogleAPICallError):
        return error.code in PASSING
    if isinstance(error, InvalidResponse):
        return error.response.status_code in PASSING
    if isinstance(error, auth_exceptions.GoogleAuthError):
        return bool(error.retryable) or isinstance(error, auth_exceptions.TransportError)
    # Those of requests are OSErrors, an answer that is no JSON among them.
    return isinstance(error, DataCorruption | OSError | http.client.HTTPException | urllib3.exceptions.HTTPError)


def _named(what: str, error: Exception, told_as: Mapping[type[Exception], type[Exception]]) -> Exception:
    """Return the error to raise in place of one that comes from below."""
    for kind, named in told_as.items():
        if isinstance(error, kind):
            return named()
    if isinstance(error, exceptions.RetryError):
        log.warning("%s: Cloud Storage does not answer (%s)", what, told(error.cause))
        return StorageUnavailableError()
    if isinstance(error, exceptions.GoogleAPICallError | auth_exceptions.GoogleAuthError | InvalidResponse):
        log.error("%s: Cloud Storage refuses this server: %s", what, told(error))
        return CloudRefusalError(told(error))
    return error


def credentials_unusable(path: str, error: Exception) -> BucketUnusableError:
    """Return the error for a file of credentials that is missing, or is none."""
    is_there = os.path.isfile(path)  # noqa: PTH113 - a path of the environment, which nothing else is done with.
    return BucketUnusableError(
        f"GOOGLE_APPLICATION_CREDENTIALS names {path}, which is "
        f"{f'no file of credentials that can be read ({type(error).__name__})' if is_there else 'not there'}; "
        "set it to the file of a service account, or unset it where Google gives the machine one."
    )


def told(error: BaseException | None) -> str:
    """Say what an error was without what it may quote: the address of a request can be a secret."""
    if isinstance(error, exceptions.GoogleAPICallError):
        messages = [str(one.get("message", "")) for one in error.errors if isinstance(one, Mapping)]
        return " ".join([str(int(error.code or 0)), *messages])
    return type(error).__name__

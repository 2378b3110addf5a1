"""Repeats: a call repeated with its request_id gets the answer it got before, byte for byte.

The answer is stored in the transaction of its effect, so there is never one without the other. Only successes are
stored; a refusal may be tried again with the same request_id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from remora_server.core import errors, fields
from remora_server.core.model import Caller, Micros
from remora_server.core.ports import Clock, MetadataStore, Repeat

LIFETIME: Micros = 24 * 3600 * 1_000_000


class Repeats:
    """Answers repeated calls from the store."""

    def __init__(self, store: MetadataStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def once(self, caller: Caller, method: str, request_id: str, parameters: bytes, call: Callable[[], bytes]) -> bytes:
        """Return `call`'s answer, or the stored one if this request_id was answered before; run it inside a change.

        `parameters` is the whole request without its request_id; others under the same request_id are refused.
        """
        fields.request_id(request_id)
        key = f"{caller.workspace_id}/{caller.principal_id}/{method}/{request_id.lower()}"
        fingerprint = hashlib.sha256(parameters).digest()
        found = self._store.repeat(key)
        if found is not None and found.create_time > self._clock.now() - LIFETIME:
            if found.fingerprint != fingerprint:
                raise errors.RequestIdReusedError
            return found.answer
        answer = call()
        self._store.add_repeat(key, Repeat(fingerprint, answer, self._clock.now()))
        return answer

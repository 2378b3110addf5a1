"""Google's own client, turned to the fake."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest
from google.auth.transport.requests import AuthorizedSession
from google.cloud import storage
from google.oauth2 import service_account

from tests.gcs.running import RunningGcs


class Account(service_account.Credentials):
    """The fake's service account: its key signs, and the fake gives it a token. It asks nobody else."""

    def refresh(self, request: Any) -> None:
        """Get a token."""
        answer = request(f"{self._token_uri}", "POST")
        self.token = json.loads(answer.data)["access_token"]


@pytest.fixture
def client(gcs: RunningGcs) -> storage.Client:
    """Make a client with the fake's service account; tokens come from the fake too."""
    credentials = Account.from_service_account_file(gcs.credentials)  # type: ignore[no-untyped-call]
    return storage.Client(
        "fake-project",
        credentials=credentials,
        _http=AuthorizedSession(credentials),
        client_options={"api_endpoint": gcs.address},
    )


@pytest.fixture
def bucket(client: storage.Client, gcs: RunningGcs) -> storage.Bucket:
    """Return the fake's bucket."""
    return client.bucket(gcs.bucket)


@pytest.fixture
def name() -> str:
    """Make the name of an object that no other test uses."""
    return f"tests/{secrets.token_hex(8)}"

"""A program's key for a token of an hour, as OAuth clients ask for it."""

from __future__ import annotations

import json
from uuid import uuid4

import grpc
import httpx
import pytest

from remora.v1 import file_service_pb2 as pb
from tests.running import RunningServer, refused
from tests.uploading import upload


@pytest.fixture
def client(server: RunningServer) -> tuple[str, str]:
    """Make a principal with a key; return its id and the key."""
    made = server.report("keys", "create", "--workspace", "demo", "--user", f"app-{uuid4()}")
    return made["principal_id"], made["key"]


def ask(server: RunningServer, auth: tuple[str, str] | None = None, **form: str) -> httpx.Response:
    """Ask for a token."""
    return httpx.post(f"{server.ready['http']}/oauth/token", data=form, auth=auth)


GRANT = {"grant_type": "client_credentials"}


@pytest.mark.parametrize("by_basic", [True, False])
def test_a_token(server: RunningServer, client: tuple[str, str], by_basic: bool) -> None:  # noqa: FBT001 - a parameter
    """By Basic or by the form, a key gets a token that does what the key does, over gRPC and HTTP."""
    secret = {} if by_basic else {"client_id": client[0], "client_secret": client[1]}
    reply = ask(server, client if by_basic else None, **GRANT, **secret)
    assert reply.status_code == 200
    assert reply.headers["cache-control"] == "no-store"
    told = reply.json()
    assert list(told) == ["access_token", "token_type", "expires_in", "scope"]
    assert (told["token_type"], told["expires_in"]) == ("Bearer", 3600)
    file = upload(server.api(told["access_token"]), b"by token", attach_to="OAUTH-1").file
    assert file.creator.id == client[0]
    headers = {"Authorization": f"Bearer {told['access_token']}"}
    assert httpx.get(f"{server.ready['http']}/v1/issues/OAUTH-1/attachments", headers=headers).status_code == 200


@pytest.mark.parametrize("scope", ["files:read links:read", "files:read,links:read", "links:read  other  files:read"])
def test_scopes(server: RunningServer, client: tuple[str, str], scope: str) -> None:
    """A token has those of the scopes asked for that its key has; with none of them there is no token."""
    told = ask(server, client, **GRANT, scope=scope).json()
    assert told["scope"] == "files:read links:read"
    api = server.api(told["access_token"])
    with refused(grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING"):
        upload(api, b"x")
    assert not api.files.ListFiles(pb.ListFilesRequest(workspace_id="demo", created_by="usr_none")).files
    none = ask(server, client, **GRANT, scope="admin")
    assert (none.status_code, none.json()["error"]) == (400, "invalid_scope")


def test_a_revoked_key(server: RunningServer, client: tuple[str, str]) -> None:
    """A key that is revoked takes its tokens with it."""
    token = ask(server, client, **GRANT).json()["access_token"]
    api = server.api(token)
    upload(api, b"x")
    listing = server.command("keys", "list", "--workspace", "demo", "--json").stdout.splitlines()
    (key_id,) = [one["key_id"] for one in map(json.loads, listing) if one["principal_id"] == client[0]]
    server.command("keys", "revoke", key_id)
    with refused(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED"):
        for _ in range(10_000):  # A key is remembered for a moment.
            upload(api, b"x")
    gone = ask(server, client, **GRANT)
    assert (gone.status_code, gone.json()["error"]) == (401, "invalid_client")


def test_what_is_refused(server: RunningServer, client: tuple[str, str]) -> None:
    """Each refusal is one of RFC 6749, and gives no token."""
    url = f"{server.ready['http']}/oauth/token"
    principal_id, key = client
    for reply, status, error in (
        (ask(server, client, scope="files:read"), 400, "unsupported_grant_type"),
        (ask(server, client, grant_type="password"), 400, "unsupported_grant_type"),
        (ask(server, None, **GRANT), 401, "invalid_client"),
        (ask(server, (principal_id, "rk_wrong"), **GRANT), 401, "invalid_client"),
        (ask(server, ("usr_other", key), **GRANT), 401, "invalid_client"),
        (ask(server, client, **GRANT, client_secret=key), 400, "invalid_request"),
        (ask(server, client, **GRANT, scope="x" * 20_000), 400, "invalid_request"),
        (httpx.post(url, json=GRANT, auth=client), 400, "invalid_request"),
        (httpx.post(url, content=b"grant_type=a&grant_type=b", headers=FORM, auth=client), 400, "invalid_request"),
        (httpx.post(url, content=b"\xff" * 10, headers=FORM, auth=client), 400, "invalid_request"),
        (httpx.post(url, data=GRANT, headers={"Authorization": "Basic !"}), 401, "invalid_client"),
    ):
        assert (reply.status_code, reply.json()["error"]) == (status, error)
        assert "access_token" not in reply.text
        assert key not in reply.text
    assert httpx.get(url).status_code == 405
    for token in ("rt_", "rt_" + "A" * 60, "rt_" + "A" * 5000):
        with refused(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"):
            upload(server.api(token), b"x")


FORM = {"Content-Type": "application/x-www-form-urlencoded"}

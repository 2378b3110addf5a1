"""The ownership matrix over a real server: every RPC, called by everybody (P43).

The table is `every_call.ROWS`; what an RPC must be able to do is read from its descriptor. Where something is not the
caller's, the answer must be the one for what does not exist, but for the names that the request itself brought along.
"""

from __future__ import annotations

from collections.abc import Mapping

import grpc
import pytest

from remora.v1 import options_pb2
from tests.rpc.every_call import METHODS, ROWS, Answer, Names, Row, ask, prepare
from tests.running import Api, RunningServer

CODE = grpc.StatusCode
HERE, ELSEWHERE = "access-here", "access-elsewhere"
# An owner may be told that something is not possible just now, but not that it is not there or not theirs.
NEVER_FOR_OWNERS = {
    CODE.NOT_FOUND, CODE.PERMISSION_DENIED, CODE.UNAUTHENTICATED, CODE.INVALID_ARGUMENT, CODE.INTERNAL, CODE.UNKNOWN,
}  # fmt: skip

everywhere = pytest.mark.parametrize("row", ROWS, ids=str)


@pytest.fixture(scope="session")
def callers(server: RunningServer) -> Mapping[str, Api]:
    """Make one of each sort of caller."""
    server.command("workspaces", "create", HERE)
    revoked = server.report("keys", "create", "--workspace", HERE, "--user", "owner")
    server.command("keys", "revoke", str(revoked["key_id"]))
    keys = {
        "owner": server.new_key("owner", workspace=HERE),
        "second": server.new_key("second", workspace=HERE),
        "admin": server.new_key("boss", workspace=HERE, scopes="admin"),
        "scopeless": server.new_key("owner", workspace=HERE, scopes="webhooks:manage"),
        "hookless": server.new_key("owner", workspace=HERE, scopes="links:read"),
        "stranger": server.new_key("owner", workspace=ELSEWHERE),
        "expired": server.new_key("owner", workspace=HERE, expires_in=0.001),
        "revoked": str(revoked["key"]),
        "anonymous": "",
    }
    return {name: server.api(key) for name, key in keys.items()}


@pytest.fixture
def names(callers: Mapping[str, Api]) -> Names:
    """Make one of each thing, all the owner's."""
    return prepare(callers["owner"], HERE)


def scope_of(row: Row) -> str:
    """Return the scope that an RPC's option names."""
    return row.method.GetOptions().Extensions[options_pb2.access].scope


def without_scope(callers: Mapping[str, Api], row: Row) -> Api:
    """Return one whose key lacks what an RPC asks for."""
    return callers["hookless" if scope_of(row) == "webhooks:manage" else "scopeless"]


def same_as_missing(api: Api, row: Row, mine: Names, missing: Names) -> Answer:
    """Ask for what is there and for what is not; the answers must not differ."""
    there, not_there = ask(api, row, row.make(mine)), ask(api, row, row.make(missing))
    assert mine.hidden_in(there.text) == missing.hidden_in(not_there.text)
    assert (there.code, there.reason) == (not_there.code, not_there.reason)
    return there


def test_every_rpc_has_a_row() -> None:
    """An RPC that nobody put into the table is not proved to keep tenants apart."""
    assert {row.rpc for row in ROWS} == set(METHODS)
    assert len({str(row) for row in ROWS}) == len(ROWS)


def test_every_rpc_that_a_scope_opens() -> None:
    """Only GetCapabilities is free of a scope."""
    assert {row.rpc for row in ROWS if not scope_of(row)} == {"CapabilityService.GetCapabilities"}


@everywhere
def test_the_owner_may(callers: Mapping[str, Api], names: Names, row: Row) -> None:
    """Who made something, with the scope, is never told that it is missing or forbidden (P43)."""
    answer = ask(callers["owner"], row, row.make(names))
    assert answer.code not in NEVER_FOR_OWNERS, answer
    assert "RESOURCE_NOT_FOUND" not in answer.text


@everywhere
def test_an_admin_may_what_the_owner_may(callers: Mapping[str, Api], names: Names, row: Row) -> None:
    """The admin scope lifts the rule of the creator (contract 4.1)."""
    answer = ask(callers["admin"], row, row.make(names))
    assert answer.code not in NEVER_FOR_OWNERS, answer
    assert "RESOURCE_NOT_FOUND" not in answer.text


@everywhere
def test_a_second_user_of_the_workspace(callers: Mapping[str, Api], names: Names, row: Row) -> None:
    """Shared things are shared; tickets and files that hang on nothing don't exist for a second user (P43)."""
    second = callers["second"]
    if row.second == "may":
        answer = ask(second, row, row.make(names))
        assert answer.code not in NEVER_FOR_OWNERS, answer
        assert "RESOURCE_NOT_FOUND" not in answer.text
        assert not [one for one in names.secrets if one in answer.text]
    elif row.second == "finds nothing":
        answer = same_as_missing(second, row, names, names.missing(keep=["workspace", "issue"]))
        assert answer.reason == "RESOURCE_NOT_FOUND" or "RESOURCE_NOT_FOUND" in answer.text
    else:
        answer = ask(second, row, row.make(names))
        assert (answer.code, answer.reason) == (CODE.PERMISSION_DENIED, "ACCESS_DENIED")


@everywhere
def test_a_key_without_the_scope(callers: Mapping[str, Api], names: Names, row: Row) -> None:
    """The scope that the proto names is asked for before anything is looked at (P43)."""
    answer = same_as_missing(without_scope(callers, row), row, names, names.missing())
    if scope_of(row):
        assert (answer.code, answer.reason) == (CODE.PERMISSION_DENIED, "SCOPE_MISSING")
        assert scope_of(row) in answer.text
    else:
        assert answer.code is CODE.OK


@everywhere
def test_another_workspace(callers: Mapping[str, Api], names: Names, row: Row) -> None:
    """A stranger who knows every name learns nothing: it is as if none of it existed (P43)."""
    if not scope_of(row):
        assert ask(callers["stranger"], row, row.make(names)).code is CODE.OK
        return
    answer = same_as_missing(callers["stranger"], row, names, names.missing())
    if row.about == "allow_missing":
        assert (answer.code, answer.text) == (CODE.OK, "")
    else:
        assert "RESOURCE_NOT_FOUND" in (answer.reason or answer.text)


@everywhere
def test_another_workspace_that_names_its_own(callers: Mapping[str, Api], names: Names, row: Row) -> None:
    """Nor do names of others work inside a request for the stranger's own workspace (P43)."""
    at_home = Names(**{**vars(names), "workspace": ELSEWHERE})
    uses_names = any(name in str(row.make(at_home)) for name in names.all)
    if uses_names:
        same_as_missing(callers["stranger"], row, at_home, at_home.missing(keep=["workspace"]))
    else:
        answer = ask(callers["stranger"], row, row.make(at_home))
        assert answer.code is CODE.OK
        assert not [name for name in names.all if name in answer.text]


@everywhere
@pytest.mark.parametrize(
    ("who", "reason"), [("anonymous", "TOKEN_MISSING"), ("expired", "TOKEN_EXPIRED"), ("revoked", "TOKEN_EXPIRED")]
)
def test_dead_credentials(callers: Mapping[str, Api], names: Names, row: Row, who: str, reason: str) -> None:
    """Without a live key every call ends alike, streams too (P43)."""
    answer = same_as_missing(callers[who], row, names, names.missing())
    assert (answer.code, answer.reason) == (CODE.UNAUTHENTICATED, reason)


def test_nothing_changed_by_all_that(callers: Mapping[str, Api], names: Names) -> None:
    """Calls that were refused left every thing as it was (P43)."""
    reads = [row for row in ROWS if row.method.name.startswith(("Get", "BatchGet", "Read"))]
    before = [ask(callers["owner"], row, row.make(names)) for row in reads]
    for row in ROWS:
        ask(without_scope(callers, row), row, row.make(names))
        for who in ("stranger", "expired", "revoked", "anonymous"):
            ask(callers[who], row, row.make(names))
        if row.second != "may":
            ask(callers["second"], row, row.make(names))
    after = [ask(callers["owner"], row, row.make(names)) for row in reads]
    # The place in the log moves with what other tests do, and a new URL lives longer than an older one.
    moving = [any(word in row.rpc for word in ("Cursors", "DownloadUrl")) for row in reads]
    assert [a for a, moves in zip(after, moving, strict=True) if not moves] == [
        b for b, moves in zip(before, moving, strict=True) if not moves
    ]


def test_a_key_that_is_revoked_while_it_is_used(server: RunningServer) -> None:
    """A revoked key ends soon: the next look at it finds it dead (P43)."""
    made = server.report("keys", "create", "--workspace", "demo", "--user", "short")
    api, row = server.api(str(made["key"])), ROWS[-1]
    assert ask(api, row, row.make(Names(*[""] * 15))).code is CODE.OK
    server.command("keys", "revoke", str(made["key_id"]))
    assert ask(api, row, row.make(Names(*[""] * 15))).reason == "TOKEN_EXPIRED"

"""The ownership matrix over a real server: every route of every REST door, asked for by everybody (P43).

The table is `every_route.ROWS`. Where something is not the caller's, the answer must be the one for what does not
exist, byte for byte but for the names that the request itself brought along. GraphQL's doors have tests of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import httpx
import pytest

from tests.gateway.every_route import NOTHING, ROUTES, ROWS, Answer, Row, ask
from tests.gateway.things import Things, prepare, spellings
from tests.running import Api, RunningServer, until

HERE, ELSEWHERE = "doors-here", "doors-elsewhere"
PROJECT, OTHER_PROJECT = "ACC", "FAR"
# How each door says that there is no key, and that a key is not good.
NO_KEY = {"quantify": 401, "plane": 401, "yandex": 401}
BAD_KEY = {"quantify": 401, "plane": 403, "yandex": 401}
BESIDES = {"quantify": "/v1/nothing", "plane": "/api/v1/nothing/", "yandex": "/v2/nothing"}

everywhere = pytest.mark.parametrize("row", ROWS, ids=str)
scoped = pytest.mark.parametrize("row", [one for one in ROWS if not one.route.rpc.startswith("Capab")], ids=str)


@dataclass(frozen=True)
class Everybody:
    """One of each sort of caller, and things of the owner, of another user's issue there, and of a stranger."""

    clients: Mapping[str, httpx.Client]
    api: Api
    project: str
    mine: Things
    besides: Things
    strange: Things

    def fresh(self, row: Row) -> Things:
        """Return things that a row may change."""
        if row.reads:
            return self.mine
        return prepare(self.api, self.clients["owner"], HERE, self.project, PROJECT)


@pytest.fixture(scope="module")
def all_(server: RunningServer) -> Iterator[Everybody]:
    """Make them."""
    keys = {
        "owner": server.new_key("owner", workspace=HERE),
        "second": server.new_key("second", workspace=HERE),
        "scopeless": server.new_key("owner", workspace=HERE, scopes="webhooks:manage"),
        "stranger": server.new_key("owner", workspace=ELSEWHERE),
        "expired": server.new_key("owner", workspace=HERE, expires_in=0.001),
        "unknown": "rk_" + "x" * 32,
        "anonymous": "",
    }
    clients = {
        name: httpx.Client(
            base_url=server.ready["http"], headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=30
        )
        for name, key in keys.items()
    }
    api, far = server.api(keys["owner"]), server.api(keys["stranger"])
    project = str(server.report("projects", "create", PROJECT, "--workspace", HERE)["project_id"])
    other = str(server.report("projects", "create", OTHER_PROJECT, "--workspace", ELSEWHERE)["project_id"])
    mine = prepare(api, clients["owner"], HERE, project, PROJECT)
    besides = prepare(api, clients["owner"], HERE, project, PROJECT)
    strange = prepare(far, clients["stranger"], ELSEWHERE, other, OTHER_PROJECT)
    preview = f"/v1/issues/{mine.key}/attachments/{mine.attachment}/preview"
    until(lambda: clients["owner"].get(preview).status_code == 302, seconds=60)
    yield Everybody(clients, api, project, mine, besides, strange)
    for client in clients.values():
        client.close()
    api.channel.close()
    far.channel.close()


def same_as_missing(
    client: httpx.Client, row: Row, there: tuple[str, Things], missing: tuple[str, Things], *named: Things
) -> Answer:
    """Ask for what is there and for what is not, by path and by what comes besides; the answers must not differ."""
    hidden = named or (there[1], missing[1])
    found = ask(client, row, there[0], row.given(there[1]))
    not_found = ask(client, row, missing[0], row.given(missing[1]))
    assert found.hidden(*hidden) == not_found.hidden(*hidden)
    return found


def is_served(answer: Answer, row: Row) -> None:
    """Whoever may is never told that it is missing or forbidden; what is not uploaded yet may be said to be so."""
    assert answer.status < 400 or (row.about == "begun" and "not uploaded" in answer.text), answer


def test_every_route_has_a_row() -> None:
    """A route that nobody put into the table is not proved to keep tenants apart."""
    assert {row.name for row in ROWS} == set(ROUTES)
    assert len({str(row) for row in ROWS}) == len(ROWS)


@everywhere
def test_the_owner_may(all_: Everybody, row: Row) -> None:
    """Who made something, with the scope, is served, by one of the answers that the route tells of (P43)."""
    things = all_.fresh(row)
    answer = ask(all_.clients["owner"], row, row.path(things), row.given(things))
    is_served(answer, row)
    assert answer.status in {*row.route.statuses, 400}, answer


@everywhere
def test_a_second_user_of_the_workspace(all_: Everybody, row: Row) -> None:
    """Shared things are shared; temporary files and uploads that have begun don't exist for a second user (P43)."""
    things, second = all_.fresh(row), all_.clients["second"]
    if row.second == NOTHING:
        missing = replace(
            things.missing(),
            **{name: value for name, value in vars(things).items() if name not in {"temporary", "pending", "user"}},
        )
        answer = same_as_missing(second, row, (row.path(things), things), (row.path(missing), missing))
        assert answer.status == 404
    else:
        answer = ask(second, row, row.path(things), row.given(things))
        is_served(answer, row)
        assert not [name for one in things.own for name in spellings(one) if name in answer.text]


@everywhere
def test_another_workspace(all_: Everybody, row: Row) -> None:
    """A stranger who knows every name learns nothing: it is as if none of it existed (P43)."""
    stranger, mine = all_.clients["stranger"], all_.mine
    missing = mine.missing()
    if row.stranger == "finds nothing":
        answer = same_as_missing(stranger, row, (row.path(mine), mine), (row.path(missing), missing))
        assert answer.status == 404
    else:
        # An issue with that key comes into being in the stranger's own workspace: none that the other tests ask for.
        mine = all_.besides
        answer = ask(stranger, row, row.path(mine), row.given(mine))
        is_served(answer, row)
        names = [getattr(mine, name) for name in vars(mine) if name not in {"workspace", "key"}]
        assert not [name for one in names for name in spellings(one) if name in answer.text]


@pytest.mark.parametrize("row", [row for row in ROWS if len(row.places) + row.names_things > 1], ids=str)
def test_names_of_others_among_ones_own(all_: Everybody, row: Row) -> None:
    """Nor do names of others work beside those of the stranger's own things, one of them or all behind some (P43)."""
    stranger, mine, own = all_.clients["stranger"], all_.mine, all_.strange
    missing, everything = mine.missing(), range(len(row.places) + row.names_things)
    ones = [[place] for place in everything]
    rests = [list(everything)[place:] for place in everything[1:]]
    for of_others in ones + rests:
        is_named = row.names_things and everything[-1] in of_others
        there, not_there = row.path(own, mine, of_others), row.path(own, missing, of_others)
        given = (mine, missing) if is_named else (own, own)
        answer = same_as_missing(stranger, row, (there, given[0]), (not_there, given[1]), mine, missing)
        assert answer.status == 404, (there, answer)


@pytest.mark.parametrize("row", [row for row in ROWS if len(row.places) > 1 and row.places[-1] != "issue"], ids=str)
def test_things_of_another_issue(all_: Everybody, row: Row) -> None:
    """For their owner, too, things are only where they are: below another issue they are not there."""
    owner, mine, besides = all_.clients["owner"], all_.mine, all_.besides
    if "issue" not in row.places:
        assert row.dialect == "plane"
        return
    path = row.path(mine, besides, range(row.places.index("issue") + 1))
    assert ask(owner, row, path, row.given(mine)).status == 404, path


@scoped
def test_a_key_without_the_scope(all_: Everybody, row: Row) -> None:
    """The scope of the RPC is asked for before anything is looked at (P43)."""
    mine, missing = all_.mine, all_.mine.missing()
    answer = same_as_missing(all_.clients["scopeless"], row, (row.path(mine), mine), (row.path(missing), missing))
    assert answer.status == 403


@everywhere
@pytest.mark.parametrize("who", ["anonymous", "expired", "unknown"])
def test_dead_credentials(all_: Everybody, row: Row, who: str) -> None:
    """Without a live key every request to a door ends alike, whether it leads anywhere or not (P43)."""
    client, mine = all_.clients[who], all_.mine
    answer = ask(client, row, row.path(mine), row.given(mine))
    assert answer.status == (NO_KEY if who == "anonymous" else BAD_KEY)[row.dialect]
    assert answer == ask(client, row, BESIDES[row.dialect], {})


def test_nothing_changed_by_all_that(all_: Everybody) -> None:
    """Requests that were refused, or made something elsewhere, left every thing as it was (P43)."""
    mine, owner = all_.mine, all_.clients["owner"]
    reads = [
        row for row in ROWS if row.reads and "Url" not in row.route.rpc
    ]  # A new URL lives longer than an older one.
    before = [ask(owner, row, row.path(mine), row.given(mine)) for row in reads]
    for row in ROWS:
        for who in ("scopeless", "stranger", "expired", "unknown", "anonymous"):
            things = all_.besides if row.stranger == "makes their own" else mine
            ask(all_.clients[who], row, row.path(things), row.given(things))
        if row.second == NOTHING:
            ask(all_.clients["second"], row, row.path(mine), row.given(mine))
    assert before == [ask(owner, row, row.path(mine), row.given(mine)) for row in reads]

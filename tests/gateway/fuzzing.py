"""Requests by the OpenAPI document of a running server, and what no answer to any of them may be (P42).

Schemathesis makes them, such as the document allows and such as it forbids. Names that lead somewhere and texts that
broke others are put into them here. What of an answer must be right beyond that is for the tests of each door.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode

from tests.gateway.things import PARTS, Things, part, prepare, spelled
from tests.running import RunningServer
from tests.ticketing import TRANSPORTS, http_ticket

# Texts that mean something to a database, a file system, a terminal, a parser or a reader.
ODD = (
    "", "\0", "a\0b", "..", "../../etc/passwd", "/etc/passwd", "C:\\con", "' OR 1=1 --", '"; DROP TABLE files; --',
    "%", "_%", "\\", "%00", "%2e%2e%2f", "%n%s", "${7*7}", "{{7*7}}", "<script>alert(1)</script>", "a\r\nX-Evil: 1",
    "\x1b[2J", "\u202egnp.exe", "\ufeff", "\ufffe", "\ud7ff", "\U0001f600" * 30, "é" * 300, "9" * 39, "-1", "0",
    "1e309", "NaN", "0x10", "\u0663", "\u00b2", "null", "true", "[]", "{}", "x" * 9000, "javascript:alert(1)",
    "https://example.com/" + "a" * 3000, "http://[::1", "http://a:99999/", "2026-13-45T99:99:99Z",
    "9999-12-31T23:59:59+23:59", "0001-01-01T00:00:00-23:59", "1:1:9", "999999999:999999999:0",
    "000000001" + "9" * 5000, "0000000019999999",
)  # fmt: skip
# Bodies that are no form and no object of JSON, or hardly one.
RAW = (
    b"", b"{", b"[]", b"null", b"7", b'"x"', b"\xff\xfe", b"\0", b'{"url": "\\ud800", "name": "\\ud800"}',
    b"[" * 100_000, b'{"url":' * 50_000, b'{"size": 1e400, "name": "a", "type": "b"}',
    b'{"size": NaN, "name": "a", "type": "b"}', b'{"size": ' + b"9" * 5000 + b', "name": "a", "type": "b"}',
    b'{"url": "http://a/", "url": {}}', b"--x\r\n\r\n--x--",
)  # fmt: skip
HEADERS = (
    {"Range": "bytes=0-0"}, {"Range": "bytes=5-1,,-"}, {"Range": "bytes=-99999999999999999999"}, {"Range": "lines=1-2"},
    {"If-None-Match": "*"}, {"If-None-Match": '"\xe9'}, {"If-Range": "x", "Range": "bytes=1-"}, {"If-Match": '"x"'},
    {"Content-Type": "multipart/form-data"}, {"Content-Type": "multipart/form-data; boundary="},
    {"Content-Type": "text/plain; charset=no-such"}, {"Content-Encoding": "gzip"}, {"Content-Range": "bytes 0-1/*"},
    {"Content-Range": "bytes */*"}, {"Accept": "image/none"}, {"X-Org-Id": "not provided", "X-Cloud-Org-Id": "\xff"},
    {"X-Forwarded-For": "' OR 1=1"}, {"X-Forwarded-Proto": "gopher"}, {"Host": "evil.example"}, {"Origin": "null"},
    {"Expect": "200-maybe"}, {"Cookie": "a=b; c"},
)  # fmt: skip
# What only the inside of a server knows.
TRACES = re.compile(
    r"Traceback|File \"|\.py\b|site-packages|remora_server|/home/|/usr/|/tmp/|/var/|/proc/"
    r"|\bSELECT\b|\bINSERT INTO\b|\bDELETE FROM\b|\bUPDATE \w+ SET\b|UNIQUE constraint|NOT NULL constraint"
    r"|duplicate key value|syntax error at|IntegrityError|OperationalError|KeyError|TypeError"
    r"|\bsqlite|psycopg|peewee|starlette|uvicorn|asyncio|" + re.escape(str(Path(__file__).parents[2]))
)
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
KEYS = {"authorization", "x-api-key"}  # Headers that are made up for keys, of which one is better than all of those.
OLD_SPELLING = "/projects/{project}/issues/"  # Plane's former one: the same handlers as the new one.
BARE = {401, 416, 499}  # Without a body, or with one of bytes.
SECONDS_EACH = 15.0  # An answer, with the thumbnail that one of them may wait for.


class LeakError(AssertionError):
    """An answer that must not be."""


@dataclass
class Tally:
    """What was asked and answered so far."""

    operations: int = 0
    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    empty: set[str] = field(default_factory=set)  # Nothing can be made for these, as where a document forbids nothing.


@dataclass(frozen=True)
class Fuzzer:
    """One server, some things in it, a key of their owner, and URLs that are signed for them."""

    server: RunningServer
    key: str
    things: Sequence[Things]
    signed: Mapping[str, Sequence[str]]  # by the name of an operation

    @classmethod
    def at(cls, server: RunningServer, user: str, prefix: str = "FUZZ", how_many: int = 4) -> Fuzzer:
        """Prepare things of a new user in a new project of the development workspace."""
        project = str(server.report("projects", "create", prefix, "--workspace", "demo")["project_id"])
        key = server.new_key(user)
        api = server.api(key)
        with httpx.Client(
            base_url=server.ready["http"], headers={"Authorization": f"Bearer {key}"}, timeout=30
        ) as http:
            things = [prepare(api, http, "demo", project, prefix) for _ in range(how_many)]
            contents = [f"/v1/issues/{one.key}/attachments/{one.attachment}/content" for one in things]
            downloads = [http.get(path).headers["Location"] for path in contents]
        uploads = {
            name: [http_ticket(api, kind).http.url for _ in range(how_many)] for name, kind in TRANSPORTS.items()
        }
        signed = {
            "own.get-file": downloads,
            "own.put": uploads["put"],
            "own.post-form": uploads["form"],
            "own.put-part": uploads["resumable"],
            "own.delete-session": uploads["resumable"],
        }
        # Those of a bucket are not ours.
        signed = {
            name: [one for one in urls if one.startswith(str(server.ready["http"]))] for name, urls in signed.items()
        }
        return cls(server, key, things, signed)

    def operations(self, *, once: bool = False) -> Iterator[Any]:
        """Walk over what the document tells of, that which removes things at the end; `once` in one spelling only."""
        told = httpx.get(f"{self.server.ready['http']}/openapi.json").json()
        schema = schemathesis.openapi.from_dict(told)
        found: list[Any] = [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]
        kept = [one for one in found if not (once and OLD_SPELLING in one.path)]
        yield from sorted(kept, key=lambda one: one.method.upper() == "DELETE")

    def run(
        self,
        examples: int,
        tally: Tally,
        *,
        seed: int = 0,
        goes_on: Callable[[], bool] = lambda: True,
        once: bool = False,
    ) -> None:
        """Send up to so many requests of each mode to each operation; what is wrong goes into the tally."""
        with requests.Session() as session:
            for operation in self.operations(once=once):
                for mode in MODES:
                    if not goes_on():
                        return
                    try:
                        self._try(session, operation, mode, examples, tally, seed)
                    except LeakError as problem:
                        tally.findings.append(f"{operation.method.upper()} {operation.path} ({mode}): {problem}")
                    except hypothesis.errors.Unsatisfiable:
                        tally.empty.add(f"{operation.method.upper()} {operation.path} ({mode})")
                tally.operations += 1

    def _try(
        self, session: requests.Session, operation: Any, mode: GenerationMode, examples: int, tally: Tally, seed: int
    ) -> None:
        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
            suppress_health_check=list(hypothesis.HealthCheck),
            print_blob=False,
            verbosity=hypothesis.Verbosity.quiet,
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode), data=st.data())
        def asked(case: Case[Any], data: st.DataObject) -> None:
            reply = self._send(session, case, _Dice(data))
            tally.requests += 1
            tally.statuses[reply.status_code] += 1
            judge(reply)
            if reply.status_code < 400 and str(reply.status_code) not in operation.definition.raw["responses"]:
                raise LeakError(
                    f"{reply.request.url} is answered {reply.status_code}, of which its document tells nothing"
                )

        asked()

    def _send(self, session: requests.Session, case: Case[Any], dice: _Dice) -> requests.Response:
        dialect = case.operation.tags[0]
        things = dice.one_of(self.things)
        if dialect in PARTS:
            for name in list(case.path_parameters):
                case.path_parameters[name] = dice.mostly(
                    part(dialect, name, things), case.path_parameters[name], dice.one_of(ODD) or "x"
                )
        names = [spelled(dialect, value) for value in vars(things).values()]
        for values in (case.query, case.body):
            if isinstance(values, dict):
                for name in list(values):
                    name_of_a_thing = dice.one_of(names)
                    values[name] = dice.seldom(
                        values[name], dice.one_of(ODD), name_of_a_thing, [name_of_a_thing], {"key": name_of_a_thing}
                    )
        given = case.as_transport_kwargs(base_url=str(self.server.ready["http"]))
        made = {name: value for name, value in (given.get("headers") or {}).items() if name.lower() not in KEYS}
        given["headers"] = {**made, "Authorization": f"Bearer {self.key}", **dice.seldom({}, dice.one_of(HEADERS))}
        signed = self.signed.get(str(case.operation.definition.raw.get("operationId")))
        if signed and (url := dice.mostly(dice.one_of(signed), "", "")):
            given |= {"url": url, "params": None}
        raw = dice.seldom(None, dice.one_of(RAW))
        if raw is not None:
            given = {name: value for name, value in given.items() if name not in {"json", "files"}} | {"data": raw}
        try:
            return session.request(**given, allow_redirects=False, timeout=SECONDS_EACH)
        except requests.RequestException as problem:
            raise LeakError(f"no whole answer to {given!s:.600}: {problem}") from problem


class _Dice:
    """Choices that are drawn with a request, and made simpler with it once it has found something."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def one_of(self, values: Sequence[Any]) -> Any:
        """Return any."""
        return self._data.draw(st.sampled_from(values))

    def mostly(self, usual: Any, *others: Any) -> Any:
        """Return the first two times of three."""
        return self.one_of([usual, usual, usual, usual, *others])

    def seldom(self, usual: Any, *others: Any) -> Any:
        """Return another than the first one time of five or so."""
        return self.one_of([usual] * 8 + list(others))


def judge(reply: requests.Response) -> None:
    """Raise LeakError if an answer says that the server failed, tells of its inside, or refuses in no words of ours."""
    what = f"{reply.request.method} {reply.request.url} {reply.request.body!r:.300}: {reply.status_code}"
    is_json = reply.headers.get("Content-Type", "").startswith("application/json")
    if reply.status_code >= 500:
        raise LeakError(f"{what}: {reply.text:.300}")
    if reply.status_code >= 400 and reply.status_code not in BARE and not is_json:
        raise LeakError(f"{what} is refused in no words of ours: {reply.text:.300}")
    if reply.status_code < 400 and not is_json:
        return  # The bytes of a file.
    told = "\n".join([reply.text, *(f"{name}: {value}" for name, value in reply.headers.items())])
    if found := TRACES.search(told):
        raise LeakError(f"{what} tells of {found[0]!r}: {reply.text:.300}")


def failures_in(log: str) -> list[str]:
    """Return the lines of a log that tell of a mistake of the server's own, whatever its answer said."""
    return [line for line in log.splitlines() if "internal error" in line or "Traceback" in line]

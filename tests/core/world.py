"""Core with everything it stands on: SQLite in a temporary directory, blobs in memory, a clock that tests set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from remora_server.core import ids
from remora_server.core.activity import ActivityLog
from remora_server.core.arrivals import Arrivals
from remora_server.core.attachments import Attachments
from remora_server.core.check import Check
from remora_server.core.dedup import DedupMode
from remora_server.core.deletion import Deletion
from remora_server.core.destinations import Destinations
from remora_server.core.files import Files
from remora_server.core.hashing import measure
from remora_server.core.inspection import Inspections
from remora_server.core.intake import Intake
from remora_server.core.issues import Issues
from remora_server.core.leases import Leases
from remora_server.core.links import Links
from remora_server.core.media_jobs import MediaJobs
from remora_server.core.model import Activity, Actor, Caller, File, FileSpec, Outgoing, Sent, Subject, Workspace
from remora_server.core.pages import Pages
from remora_server.core.ports import ActivityQuery
from remora_server.core.quota import Quota
from remora_server.core.receiving import Limits, Pools
from remora_server.core.reception import Reception
from remora_server.core.renditions import Renditions
from remora_server.core.repeats import Repeats
from remora_server.core.sealing import Seal
from remora_server.core.subjects import Subjects
from remora_server.core.sweep import Sweep
from remora_server.core.tenants import DEFAULT_SCOPES, Tenants
from remora_server.core.tickets import Request, Tickets
from remora_server.core.uploads import Uploads
from remora_server.core.webhook_deliveries import Patience, WebhookDeliveries
from remora_server.core.webhook_endpoints import WebhookEndpoints
from remora_server.stores.blobs_memory import MemoryBlobs
from remora_server.stores.database_sqlite import Sqlite
from remora_server.stores.metadata import SqlMetadata
from remora_server.stores.migrations import migrate
from remora_server.stores.writer import Writer
from tests.core.previewing import KINDS, Decoder, Judge

P = ParamSpec("P")
Result = TypeVar("Result")
SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
START = 1_760_000_000 * SECOND


class SetClock:
    """A clock that goes on by a microsecond whenever it is asked, and by more when it is told."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> int:
        """Return microseconds since the epoch, never the same twice."""
        self.time += 1
        return self.time

    def pass_by(self, micros: int) -> None:
        """Let time pass."""
        self.time += micros


class Sender:
    """Keeps what is to be posted, and says that it went as it is told."""

    def __init__(self) -> None:
        self.posted: list[Outgoing] = []
        self.result = Sent(204)

    def send(self, outgoing: Outgoing) -> Sent:
        """Take a message."""
        self.posted.append(outgoing)
        return self.result


class World:
    """Core over real stores, and four callers: Jo and Kim of one workspace, its boss, and a stranger of another."""

    def __init__(
        self,
        path: Path,
        *,
        strict: bool = False,
        mode: DedupMode = DedupMode.READABLE,
        quota_bytes: int = 0,
        limits: Limits | None = None,
        stripped: Iterable[str] = (),
        scanner: Judge | None = None,
    ) -> None:
        limits = limits or Limits(max_file_bytes=1_000_000)
        self.database = Sqlite(path / "remora.db")
        migrate(self.database)
        self.store = SqlMetadata(self.database)
        self.changes = Writer(self.database)
        self.blobs = MemoryBlobs()
        self.clock = clock = SetClock()
        self.pages = Pages(b"key", clock)
        self.pools = Pools(ThreadPoolExecutor(2), ThreadPoolExecutor(1), ThreadPoolExecutor(4))
        stripped = frozenset(stripped)
        self.subjects = Subjects(self.store, clock, strict=strict)
        self.log = ActivityLog(self.store, self.pages, clock, self.subjects)
        self.quota = Quota(self.store, clock, quota_bytes)
        self.decoder = Decoder()
        self.wakes: list[int] = []
        self.inspections = Inspections(
            self.store,
            clock,
            kinds=KINDS,
            is_scanning=scanner is not None,
            language_of=lambda name: "python" if name.endswith(".py") else "",
            wake=lambda: self.wakes.append(1),
            previewer=self.decoder,
        )
        self.files = Files(
            self.store,
            self.blobs,
            self.subjects,
            self.log,
            self.pages,
            clock,
            quota=self.quota,
            inspections=self.inspections,
        )
        self.renditions = Renditions(self.store, self.files)
        self.complaints: list[str] = []
        self.jobs = MediaJobs(
            self.store,
            self.blobs,
            self.changes,
            clock,
            self.files,
            previewer=self.decoder,
            scanner=scanner,
            max_inline_bytes=100,
            told=self.complaints.append,
        )
        self.attachments = Attachments(
            self.store,
            self.subjects,
            self.files,
            self.log,
            self.pages,
            clock,
            undelete_window=DAY,
            stripped_parameters=stripped,
        )
        self.deletion = Deletion(self.store, self.files, self.attachments, clock, self.quota)
        self.intake = Intake(self.store, self.files, self.attachments, clock, mode, self.inspections)
        self.tickets = Tickets(
            self.store,
            self.quota,
            self.intake,
            self.subjects,
            self.log,
            self.pages,
            clock,
            lifetimes={"GRPC": DAY, "HTTP_PUT": DAY},
            max_file_bytes=limits.max_file_bytes,
        )
        self.uploads = Uploads(
            self.tickets,
            self.intake,
            self.subjects,
            self.blobs,
            self.changes,
            self.pools,
            limits,
            self.inspections,
        )
        self.arrivals = Arrivals(self.tickets, self.uploads, self.blobs, self.changes)
        self.reception = Reception(self.tickets, self.uploads, self.blobs, self.changes)
        self.links = Links(self.store, self.subjects, self.log, self.pages, clock, stripped_parameters=stripped)
        self.issues = Issues(self.store, self.log, self.pages, clock)
        self.sender = Sender()
        self.seal = Seal(b"world")
        self.endpoints = WebhookEndpoints(
            self.store,
            self.subjects,
            self.log,
            self.pages,
            clock,
            seal=self.seal,
            destinations=Destinations(),
        )
        self.warned: list[str] = []
        self.deliveries = WebhookDeliveries(
            self.store,
            self.changes,
            self.endpoints,
            self.log,
            self.pages,
            clock,
            seal=self.seal,
            sender=self.sender,
            patience=Patience(timeout=15 * SECOND, give_up_after=DAY),
            told=self.warned.append,
        )
        self.tenants = Tenants(self.store, clock)
        self.repeats = Repeats(self.store, clock)
        self.leases = Leases(self.store, self.changes, clock, "this")
        self.sweep = Sweep(self.store, self.blobs, self.changes, clock, self.leases)
        self.check = Check(self.store, self.blobs)
        self.blobs.claim(self.store.store_id())
        self.jo, self.kim = self.caller("acme", "Jo"), self.caller("acme", "Kim")
        self.boss = self.caller("acme", "Boss", "admin")
        self.stranger = self.caller("elsewhere", "Jo")

    def caller(self, slug: str, name: str, *scopes: str) -> Caller:
        """Make a user of a workspace."""
        new = Workspace(ids.new_id(ids.WORKSPACE), slug, slug, self.clock.now())
        workspace, _ = self.do(self.store.find_or_add_workspace, new)
        actor = self.do(
            self.store.find_or_add_user, workspace.id, Actor(ids.new_id(ids.USER), "USER", name), self.clock.now()
        )
        return Caller(workspace.id, slug, actor, frozenset(scopes or DEFAULT_SCOPES))

    def do(self, call: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Run a change as a front does."""
        return self.changes.run(lambda: call(*args, **kwargs))

    def upload(self, caller: Caller, data: bytes, name: str = "a.txt", attach_to: Subject | None = None) -> File:
        """Take a small file in."""
        request = Request("acme" if caller is not self.stranger else "elsewhere", FileSpec(name), attach_to=attach_to)
        return self.do(self.uploads.record_whole, caller, request, measure(data), "", data).file

    def told(self, reader: Caller | None = None) -> list[Activity]:
        """Return the log as one reads it, oldest first."""
        who = reader or self.boss
        query = ActivityQuery(who.workspace_id, reader="" if who.is_admin else who.principal_id, newest_first=False)
        return list(self.store.list_activities(query, None, 1000))

    def types(self, reader: Caller | None = None) -> list[str]:
        """Return what the log tells one."""
        return [one.type.removesuffix(".v1") for one in self.told(reader)]

    def close(self) -> None:
        """Let go of threads and files."""
        for pool in (self.pools.work, self.pools.sync, self.pools.wait):
            pool.shutdown()
        self.changes.close()
        self.database.close()


def issue(key: str = "ENG-1") -> Subject:
    """Return an issue as a subject."""
    return Subject("issue", key=key)

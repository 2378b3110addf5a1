"""The composition root: the only file that knows every room. Settings in, a server or an operator's command out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

from remora_server import dev, workers
from remora_server.auth import Authenticator
from remora_server.config import Config, ConfigError
from remora_server.core.activity import ActivityLog
from remora_server.core.admission import Admission
from remora_server.core.arrivals import Arrivals
from remora_server.core.assets import Assets
from remora_server.core.attachments import Attachments
from remora_server.core.dedup import DedupMode
from remora_server.core.deletion import Deletion
from remora_server.core.destinations import Destinations
from remora_server.core.digests import Digests
from remora_server.core.downloads import Downloads
from remora_server.core.files import Files
from remora_server.core.forwarding import Proxies
from remora_server.core.inspection import Inspections
from remora_server.core.intake import Intake
from remora_server.core.issues import Issues
from remora_server.core.links import Links
from remora_server.core.media_jobs import MediaJobs
from remora_server.core.messages import Messages
from remora_server.core.model import STREAMED, Micros
from remora_server.core.ownership import require_own
from remora_server.core.pages import Pages
from remora_server.core.ports import Changes, DirectTransfers, Scanner
from remora_server.core.projects import Projects
from remora_server.core.quota import Quota
from remora_server.core.receiving import Limits, Pools
from remora_server.core.reception import Reception
from remora_server.core.renditions import Renditions
from remora_server.core.repeats import Repeats
from remora_server.core.sealing import Seal
from remora_server.core.subjects import Subjects
from remora_server.core.temporary import Temporary
from remora_server.core.threads import Threads
from remora_server.core.tickets import MAX_AGE, Tickets
from remora_server.core.tokens import Tokens
from remora_server.core.uploads import Uploads
from remora_server.core.webhook_deliveries import Patience, WebhookDeliveries
from remora_server.core.webhook_endpoints import WebhookEndpoints
from remora_server.deliver.deliverer import Deliverer
from remora_server.deliver.lookups import Lookups
from remora_server.deliver.process import Process as WebhookProcess
from remora_server.deliver.sender import BlockingSender, Sender
from remora_server.gateway.app import Bounds, Gateway, bind, cannot_listen
from remora_server.gateway.app import Rules as GatewayRules
from remora_server.gateway.bodies import Pace as UploadPace
from remora_server.gateway.dialects.glue import glue
from remora_server.gateway.dialects.linear import linear
from remora_server.gateway.dialects.plane import plane
from remora_server.gateway.dialects.quantify import QUANTIFY
from remora_server.gateway.dialects.yandex import yandex
from remora_server.gateway.doors import Door
from remora_server.gateway.downloads import Shelf
from remora_server.gateway.health import Health
from remora_server.gateway.rates import Rate
from remora_server.gateway.route import Core
from remora_server.gateway.signed_urls import SignedUrls
from remora_server.media.decoders import RENDERED
from remora_server.media.decoding import Decoding
from remora_server.media.languages import language_of
from remora_server.media.scanner import open_scanner
from remora_server.opening import (
    RowStores,
    Stores,
    leases_of,
    open_rows,
    open_stores,
    signing_key,
    sweep_of,
    tenants_of,
)
from remora_server.process import tune_collector
from remora_server.rpc.calls import Calls, Traffic
from remora_server.rpc.credentials import server_credentials
from remora_server.rpc.server import Port, RpcServer, Rules, scopes_by_rpc
from remora_server.rpc.upload_stream import Pace
from remora_server.stores.database_sqlite import Sqlite
from remora_server.stores.loop_writer import LoopWriter
from remora_server.tls import CertificateError, Certificates, Paths
from remora_server.upkeep import Upkeep

log = logging.getLogger(__name__)
Result = TypeVar("Result")

SECOND: Micros = 1_000_000
READ_THREADS = 8
SYNCS, SYNCS_ELSEWHERE = 2, 64  # How many uploads are made durable at once: a disk syncs one by one anyway.
FETCHES_ELSEWHERE = 64
OVERTAKEN_SECONDS = 1.0
JOBS = 1  # A server has other things to do with its cores.
HEALTH_SECONDS = 5.0  # A store elsewhere may take money for being asked.
REFRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Ready:
    """Where a server answers, and in development mode whom it knows."""

    grpc: str
    http: str
    seeded: dev.Seeded | None


def prepare(config: Config, *, dev_mode: bool) -> dev.Seeded | None:
    """Do what is done once before several workers serve; return what development mode seeded."""
    _certificates(config)
    with open_stores(config, migrating=True, needing_blobs=True) as stores:
        require_own(stores.metadata, stores.blobs)
        return _seed(config, stores) if dev_mode else None


async def supervise(
    config: Config, command: Sequence[str], seeded: dev.Seeded | None, on_ready: Callable[[Ready], None]
) -> int:
    """Have several workers serve until SIGTERM or SIGINT; return the exit code."""
    with contextlib.ExitStack() as holding:
        ports = []
        for name, port in (("gRPC", config.grpc_port), ("HTTP", config.http_port)):
            try:
                held = holding.enter_context(workers.reserve(config.listen, port))
            except OSError as problem:
                raise cannot_listen(config.listen, port, name, problem) from problem
            ports.append(int(held.getsockname()[1]))
        where = ["--grpc-port", str(ports[0]), "--http-port", str(ports[1]), "--as-worker"]
        group = workers.Workers([*command, *where], config.workers, config.drain_timeout_seconds)
        return await group.run(lambda: on_ready(_ready(config, ports[0], ports[1], seeded)))


async def deliver(config: Config, line: int | None) -> None:
    """Send webhooks until SIGTERM or SIGINT, or until the other end of `line`, which wakes us, is closed."""
    loop = asyncio.get_running_loop()
    lookups = Lookups()
    timeout_seconds = config.webhook_timeout_seconds
    destinations = Destinations(config.allowed_networks)
    with open_rows(config) as stores:
        _, deliveries = _webhooks(config, stores, destinations, lookups)
        async with Sender(destinations, lookups, timeout_seconds=timeout_seconds) as sender:
            deliverer = Deliverer(deliveries, sender, stores.clock)
            for signal_number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(signal_number, deliverer.stop)

            def hear() -> None:
                if line is not None and os.read(line, 65536):
                    deliverer.wake()
                else:
                    deliverer.stop()

            if line is not None:
                loop.add_reader(line, hear)
            stores.database.hear(partial(_tell, loop, deliverer.wake))
            await deliverer.run()
    lookups.close()


def _webhooks(
    config: Config, stores: Stores | RowStores, destinations: Destinations, lookups: Lookups
) -> tuple[WebhookEndpoints, WebhookDeliveries]:
    metadata, clock, key = stores.metadata, stores.clock, signing_key(config, stores)
    pages, subjects, seal = Pages(key, clock), Subjects(metadata, clock, strict=config.strict_issues), Seal(key)
    activity = ActivityLog(metadata, pages, clock, subjects)
    endpoints = WebhookEndpoints(metadata, subjects, activity, pages, clock, seal=seal, destinations=destinations)
    deliveries = WebhookDeliveries(
        metadata,
        stores.writer,
        endpoints,
        activity,
        pages,
        clock,
        seal=seal,
        sender=BlockingSender(destinations, lookups, timeout_seconds=config.webhook_timeout_seconds),
        patience=Patience(int(config.webhook_timeout_seconds * SECOND), int(config.webhook_give_up_seconds * SECOND)),
        told=log.warning,
    )
    return endpoints, deliveries


async def serve(
    config: Config,
    *,
    dev_mode: bool,
    on_ready: Callable[[Ready], None],
    delivering: Sequence[str],
    is_worker: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; `delivering` is the command of the process that sends webhooks."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stopping.set)
    with open_stores(config, migrating=not is_worker, needing_blobs=True) as stores:
        # Bytes in a blob store that another database sweeps would be removed as litter.
        require_own(stores.metadata, stores.blobs)
        seeded = _seed(config, stores) if dev_mode and not is_worker else None
        # Also what ends before it served leaves nobody behind who decodes.
        with contextlib.closing(Decoding(_scanner(config), JOBS)) as decoding:
            await _serve(config, stores, seeded, decoding, stopping, on_ready, delivering, share_ports=is_worker)


def _seed(config: Config, stores: Stores) -> dev.Seeded:
    key = dev.key_of(config.data)
    seeded = stores.writer.run(lambda: dev.seed(stores.metadata, stores.clock, key))
    # A call on the writer may run twice, so the file is written by what it returned, not inside it.
    dev.keep(config.data, seeded)
    return seeded


async def _serve(  # noqa: PLR0915 - one step after the other, as a server begins and ends.
    config: Config,
    stores: Stores,
    seeded: dev.Seeded | None,
    decoding: Decoding,
    stopping: asyncio.Event,
    on_ready: Callable[[Ready], None],
    delivering: Sequence[str],
    *,
    share_ports: bool,
) -> None:
    readers = ThreadPoolExecutor(READ_THREADS, "reader")
    # Lanes keep every core busy; what waits for lanes and commits needs a thread each, but no processor.
    is_elsewhere = config.bucket is not None
    pools = Pools(
        work=ThreadPoolExecutor((os.cpu_count() or 1) + 1, "hash"),
        sync=Threads(SYNCS_ELSEWHERE if is_elsewhere else SYNCS, "sync"),
        wait=Threads(1024, "wait"),
    )
    certificates = _certificates(config)
    # What waits for a store elsewhere must not keep those waiting who read rows.
    fetchers = Threads(FETCHES_ELSEWHERE, "fetch") if is_elsewhere else readers
    proxies = Proxies(config.trusted_proxies)
    traffic = Traffic()
    loop_writer = (
        LoopWriter(stores.database, stores.writer, traffic.is_single) if isinstance(stores.database, Sqlite) else None
    )
    calls = Calls(
        loop_writer or stores.writer,
        stores.writer,
        readers,
        fetchers,
        pools.wait,
        Repeats(stores.metadata, stores.clock),
    )
    bound = bind(config.listen, config.http_port, share_port=share_ports)
    http_port = int(bound.getsockname()[1])
    public_url = config.public_url or _own_url(config, http_port)
    urls = SignedUrls(public_url, signing_key(config, stores), stores.clock)
    lookups = Lookups()
    webhooks = _webhooks(config, stores, Destinations(config.allowed_networks), lookups)
    rules = _rules(config, stores, pools, urls, decoding, webhooks)
    tenants = tenants_of(stores)
    authenticator = Authenticator(
        tenants,
        Tokens(signing_key(config, stores), stores.clock),
        lambda key_hash: calls.read(stores.metadata.key_by_hash, key_hash),
        lambda key_id: calls.read(stores.metadata.key_by_id, key_id),
    )
    rpc = RpcServer(
        rules,
        calls,
        fetchers,
        authenticator,
        traffic,
        pace=Pace(idle_seconds=config.idle_timeout_seconds, min_bytes_per_second=config.min_rate),
        mode=DedupMode(config.dedup_mode),
        transports=(STREAMED, *rules.transfers.transports),
        proxies=proxies,
        port=Port(server_credentials(certificates.pems) if certificates else None, share_ports),
    )
    loop = asyncio.get_running_loop()

    def tell_watches() -> None:
        if rpc.growth.is_watched:
            _tell(loop, rpc.growth.wake)

    sending = WebhookProcess(delivering, stores.metadata.has_enabled_webhook_endpoint)
    stores.writer.on_commit(tell_watches)
    stores.writer.on_commit(sending.wake)
    stores.database.hear(tell_watches)

    checks = {
        "database": lambda: calls.read(stores.metadata.activity_bounds),
        "blobs": lambda: calls.fetch(stores.blobs.probe),
    }
    facts = {
        "previews": lambda: calls.read(_queue, stores),
        "webhooks": lambda: calls.read(rules.webhook_deliveries.waiting),
    }
    health = Health(checks, facts)
    assets = Assets(stores.metadata, rules.tickets, rules.arrivals, rules.files, rules.downloads)
    reception = Reception(rules.tickets, rules.uploads, stores.blobs, stores.writer)
    gateway = Gateway(
        GatewayRules(rules.renditions, rules.downloads, reception, assets, urls),
        calls,
        health,
        bound,
        urlsplit(public_url).path,
        Bounds(
            UploadPace(config.idle_timeout_seconds, config.min_rate),
            config.drain_timeout_seconds,
            config.cors_origins,
            proxies,
        ),
        grants=authenticator,
        keys=authenticator,
        doors=partial(
            _doors,
            config,
            rules,
            assets,
            Projects(stores.metadata),
            Digests(stores.metadata, rules.files, rules.changes),
            calls,
            authenticator,
            public_url,
        ),
        tls=certificates.context if certificates else None,
    )
    grpc_port = await rpc.start(f"{_host(config)}:{config.grpc_port}")
    await gateway.start()
    watching = [
        asyncio.create_task(_stop_overtaken(rules.uploads, calls)),
        asyncio.create_task(_tell_health(rpc, health)),
    ]
    if certificates:
        watching.append(asyncio.create_task(_refresh(certificates)))
    upkeep = _upkeep(config, stores, assets)
    upkeep.start()
    sending.start()
    decoding.start(_jobs(stores, rules, decoding))
    tune_collector()
    on_ready(_ready(config, grpc_port, http_port, seeded))
    await stopping.wait()
    log.info("draining")
    await asyncio.gather(rpc.stop(config.drain_timeout_seconds), gateway.stop())
    for task in watching:
        task.cancel()
    await asyncio.to_thread(decoding.close)
    await asyncio.to_thread(upkeep.stop)
    await asyncio.to_thread(sending.stop)
    lookups.close()
    for pool in dict.fromkeys((pools.wait, pools.work, pools.sync, fetchers, readers)):
        await asyncio.to_thread(pool.shutdown)
    if loop_writer is not None:
        loop_writer.close()


def _tell(loop: asyncio.AbstractEventLoop, listener: Callable[[], None]) -> None:
    """Have something called on the event loop, from any thread."""
    with contextlib.suppress(RuntimeError):  # The loop may have ended while the last changes were committed.
        loop.call_soon_threadsafe(listener)


def _queue(stores: Stores) -> dict[str, int]:
    """Return what the health of a server says of previews."""
    return {"waiting": stores.metadata.count_waiting_media_jobs()}


def _host(config: Config) -> str:
    return f"[{config.listen}]" if ":" in config.listen else config.listen


def _ready(config: Config, grpc_port: int, http_port: int, seeded: dev.Seeded | None) -> Ready:
    return Ready(f"{_host(config)}:{grpc_port}", _own_url(config, http_port), seeded)


def _own_url(config: Config, http_port: int) -> str:
    return f"{'https' if config.tls_cert else 'http'}://{_host(config)}:{http_port}"


def _certificates(config: Config) -> Certificates | None:
    chain, key, client_ca = config.tls_cert, config.tls_key, config.tls_client_ca
    if chain is None or key is None:
        if chain or key or client_ca:
            missing = "REMORA_TLS_KEY" if chain else "REMORA_TLS_CERT" if key else "REMORA_TLS_CERT and REMORA_TLS_KEY"
            raise ConfigError(f"TLS is set up by half: {missing} must name a file too.")
        return None
    try:
        return Certificates(Paths(chain, key, client_ca))
    except CertificateError as problem:
        raise ConfigError(str(problem)) from problem


async def _refresh(certificates: Certificates) -> None:
    """Look whether the files of the certificate have changed."""
    while True:
        await asyncio.sleep(REFRESH_SECONDS)
        await asyncio.to_thread(certificates.refresh)


async def _stop_overtaken(uploads: Uploads, calls: Calls) -> None:
    """Stop writers of uploads that went on at another server."""
    while True:
        await asyncio.sleep(OVERTAKEN_SECONDS)
        if uploads.is_receiving:
            try:
                await calls.read(uploads.stop_overtaken)
            except Exception as problem:  # noqa: BLE001 - they are stopped at the latest when they record progress.
                log.warning("no telling whether uploads went on elsewhere: %r", problem)


async def _tell_health(rpc: RpcServer, health: Health) -> None:
    """Have gRPC's health say what /healthz does."""
    while True:
        await rpc.health.tell(await health.failing())
        await asyncio.sleep(HEALTH_SECONDS)


def _doors(
    config: Config,
    rules: Rules,
    assets: Assets,
    projects: Projects,
    digests: Digests,
    calls: Calls,
    authenticator: Authenticator,
    public_url: str,
    shelf: Shelf,
    uploading: Admission,
) -> Sequence[Door]:
    """Return the doors of the systems whose clients are served."""
    core = Core(
        rules.attachments,
        rules.files,
        rules.downloads,
        rules.links,
        rules.issues,
        rules.log,
        rules.renditions,
        rules.tickets,
        rules.uploads,
        Temporary(rules.files, rules.attachments, rules.issues, rules.clock),
        shelf,
        uploading,
        public_url.rstrip("/"),
        projects,
        rules.arrivals,
        rules.transfers,
        rules.clock,
        Messages(rules.issues, rules.attachments),
        digests,
        assets,
    )
    pace = UploadPace(config.idle_timeout_seconds, config.min_rate)
    dialects = (
        QUANTIFY,
        yandex(config.yandex_max_bytes),
        plane(
            config.plane_max_bytes,
            frozenset(config.plane_types),
            Rate(config.plane_rate, rules.clock) if config.plane_rate else None,
        ),
        linear(),
        glue(config.glue_tickets),
    )
    return [Door(dialect, core, calls, authenticator, scopes_by_rpc(), pace) for dialect in dialects]


def _upkeep(config: Config, stores: Stores, assets: Assets) -> Upkeep:
    return Upkeep(
        sweep_of(stores, assets.redeem),
        leases_of(stores),
        grace=int(config.gc_grace_seconds * SECOND),
        interval_seconds=config.gc_interval_seconds,
    )


def _scanner(config: Config) -> Scanner | None:
    try:
        return open_scanner(config.scanner) if config.scanner else None
    except ValueError as problem:
        raise ConfigError(f"The value of REMORA_SCANNER can't be used: {problem}") from problem


def _jobs(stores: Stores, rules: Rules, decoding: Decoding) -> MediaJobs:
    """Return what the threads of media do."""
    return MediaJobs(
        stores.metadata,
        stores.blobs,
        stores.writer,
        stores.clock,
        rules.files,
        previewer=decoding.pool,
        scanner=decoding.scanner,
        max_inline_bytes=rules.uploads.limits.max_inline_bytes,
        told=log.warning,
    )


def _rules(
    config: Config,
    stores: Stores,
    pools: Pools,
    urls: SignedUrls,
    decoding: Decoding,
    webhooks: tuple[WebhookEndpoints, WebhookDeliveries],
) -> Rules:
    metadata, blobs, clock = stores.metadata, stores.blobs, stores.clock
    changes: Changes = stores.writer
    mode = DedupMode(config.dedup_mode)
    stripped = frozenset(config.strip_query)
    pages = Pages(signing_key(config, stores), clock)
    subjects = Subjects(metadata, clock, strict=config.strict_issues)
    activity = ActivityLog(metadata, pages, clock, subjects)
    quota = Quota(metadata, clock, config.quota_bytes)

    def damaged(file_id: str, location: str) -> None:
        log.warning(
            "the stored bytes of files/%s are missing or damaged (blob: %s); `remora-server fsck` tells which they are",
            file_id,
            location,
        )

    inspections = Inspections(
        metadata,
        clock,
        kinds=RENDERED,
        is_scanning=decoding.scanner is not None,
        language_of=language_of,
        wake=decoding.wake,
        previewer=decoding.pool,
    )
    files = Files(
        metadata, blobs, subjects, activity, pages, clock, quota=quota, inspections=inspections, damaged=damaged
    )
    renditions = Renditions(metadata, files)
    attachments = Attachments(
        metadata,
        subjects,
        files,
        activity,
        pages,
        clock,
        undelete_window=int(config.gc_grace_seconds * SECOND),
        stripped_parameters=stripped,
    )
    intake = Intake(metadata, files, attachments, clock, mode, inspections)
    transfers: DirectTransfers = stores.transfers or urls
    lifetime = int(config.ticket_ttl_seconds * SECOND)
    tickets = Tickets(
        metadata,
        quota,
        intake,
        subjects,
        activity,
        pages,
        clock,
        # Nobody hears of the parts that go by: what they can't prolong lasts as long as may be from the beginning.
        lifetimes=dict.fromkeys((STREAMED, *transfers.transports), lifetime) | dict.fromkeys(transfers.unseen, MAX_AGE),
        max_file_bytes=config.max_file_bytes,
    )
    uploads = Uploads(tickets, intake, subjects, blobs, changes, pools, Limits(config.max_file_bytes), inspections)
    return Rules(
        files=files,
        deletion=Deletion(metadata, files, attachments, clock, quota),
        tickets=tickets,
        uploads=uploads,
        arrivals=Arrivals(tickets, uploads, blobs, changes),
        downloads=Downloads(metadata, files, renditions, direct=transfers, inline=urls),
        renditions=renditions,
        transfers=transfers,
        attachments=attachments,
        links=Links(metadata, subjects, activity, pages, clock, stripped_parameters=stripped),
        issues=Issues(metadata, activity, pages, clock),
        webhook_endpoints=webhooks[0],
        webhook_deliveries=webhooks[1],
        log=activity,
        changes=changes,
        clock=clock,
    )

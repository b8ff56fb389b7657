"""Creates the parts of the server and connects them; the only module that imports every part.

`python -m pgshapes.wiring` is the entry point of a child process.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from pgshapes.config import Settings
from pgshapes.errors import ConfigError, PgShapesError
from pgshapes.gates.admission import AdmissionControl, PermitCounts, SharedCounts
from pgshapes.gates.clients import Clients
from pgshapes.gates.conditions import Condition, Conditions
from pgshapes.gates.readiness import StatusMonitor
from pgshapes.gates.time_limits import READY_TIMEOUT_S
from pgshapes.http_api.app import ShapeApp, make_app
from pgshapes.http_api.ports import Subsets
from pgshapes.http_api.settings import Authorize, HttpSettings
from pgshapes.logs import get_logger
from pgshapes.metrics.family import Family
from pgshapes.metrics.loop_turns import LoopTurns
from pgshapes.owner.metrics import owner_families
from pgshapes.owner.replicator import Replicator
from pgshapes.owner.start_report import run_reported
from pgshapes.postgres.connection import ConnectionPool, connect_shared
from pgshapes.postgres.database_url import connectable
from pgshapes.postgres.subset import SubsetSource
from pgshapes.redaction import redaction
from pgshapes.server.application import Application, Opened
from pgshapes.server.child import PERMITS, ChildTask, read_task, stop_with_supervisor
from pgshapes.server.connections import Connections
from pgshapes.server.environment import (
    configure_logs,
    default_max_connections,
    hide_secrets,
    nofile_limit,
    raise_nofile_limit,
    tune_gc,
)
from pgshapes.server.event_loop import run_in_loop
from pgshapes.server.http_server import HttpServer, listen
from pgshapes.server.metrics import (
    CallerParts,
    caller_families,
    listen_for_metrics,
    metrics_listener,
    metrics_socket,
    process_families,
)
from pgshapes.server.stored_tables import read_stored_tables
from pgshapes.server.supervisor import run_with_workers
from pgshapes.shape_cache.shape_cache import ShapeCache
from pgshapes.shape_cache.subsets import SubsetSnapshots
from pgshapes.shape_cache.use_tracking import UseTracking
from pgshapes.shape_log.file_store.files import Files
from pgshapes.shape_log.file_store.reader import FileLogReader
from pgshapes.shape_log.file_store.store import FileShapeStore
from pgshapes.shape_log.store import ShapeStore
from pgshapes.tables.calls import Call
from pgshapes.tables.link import InProcessLink, OwnerLink
from pgshapes.tables.required_version import map_required_version
from pgshapes.tables.tables import Tables
from pgshapes.tables.unix_link import UnixSocketLink, UnixSocketOwner
from pgshapes.waiting.background import begin

_log = get_logger(__name__)

_SUBSET_CONNECTIONS: Final = 4
"""Maximum per HTTP process: a subset query mostly waits for Postgres, and its result may take megabytes."""

MakeFiles = Callable[[Path], Files]
Families = list[Family]


@dataclass(frozen=True, slots=True)
class Seams:
    """What tests replace; the defaults are those of a real server."""

    make_files: MakeFiles | None = None
    has_notices: bool = True
    """Whether a change of a table wakes its waiters; without notices they have to poll."""
    tap: Callable[[Call], None] | None = None
    """Called with every call that the owner receives."""
    ready_timeout_s: float = READY_TIMEOUT_S


REAL: Final = Seams()


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status. Raises ConfigError before anything is served."""
    hide_secrets(settings)
    configure_logs(settings.log_level)
    settings = connectable(settings)
    return run_with_workers(settings) if settings.workers else serve_in_one_process(settings)


def serve_in_one_process(settings: Settings, seams: Seams = REAL) -> int:
    """Serve with owner and callers in this process; return the exit status. Raises ConfigError."""
    hide_secrets(settings)
    configure_logs(settings.log_level)
    raise_nofile_limit()
    tune_gc()
    run_in_loop(serve_in_one_loop(settings, seams))
    return 0


def http_server(
    settings: Settings, app: Application, listener: socket.socket, *, with_owner: bool
) -> HttpServer:
    """The HTTP server of a process; `with_owner` is whether the owner runs in it."""
    limit = settings.max_connections or default_max_connections(nofile_limit(), with_owner=with_owner)
    return HttpServer(app, listener, Connections(limit), Clients(settings.trusted_proxies).of_address)


async def serve_in_one_loop(settings: Settings, seams: Seams = REAL) -> None:
    """Serve in the running event loop until SIGTERM or SIGINT. Raises ConfigError."""
    listener = listen(settings.host, settings.port)
    app = single_process_application(settings, seams)
    server = http_server(settings, app, listener, with_owner=True)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    async with app.lifespan():
        app.on_end(server.stop)
        host, port = listener.getsockname()[:2]
        _log.info("listening", url=f"http://{host}:{port}", workers=0)
        await server.run()


def single_process_application(
    settings: Settings,
    seams: Seams = REAL,
    *,
    authorize: Authorize | None = None,
    on_failure: Callable[[BaseException], None] = lambda _: None,
) -> Application:
    """An application with owner and callers in the event loop that opens it.

    `on_failure` is called when the owner fails; the end of the lifespan raises the error, too.
    """
    return Application(partial(_open_single_process, settings, seams, authorize, on_failure))


@asynccontextmanager
async def _open_single_process(
    settings: Settings,
    seams: Seams,
    authorize: Authorize | None,
    on_failure: Callable[[BaseException], None],
) -> AsyncIterator[Opened]:
    hide_secrets(settings)
    settings = connectable(settings)
    async with AsyncExitStack() as stack:
        metrics = listen_for_metrics(settings)
        if metrics is not None:
            stack.callback(metrics.close)
        tables = Tables(has_notices=seams.has_notices)
        replicator = Replicator(settings, tables, store_maker(settings, seams.make_files))
        link = InProcessLink(tables, replicator.handle)
        link.mailbox.tap = seams.tap
        parts = caller_parts(settings, link, None)
        subsets = subset_snapshots(settings, link, parts.shapes)
        stopping = asyncio.Event()
        turns = LoopTurns()

        async def collect() -> Mapping[str, Sequence[Family]]:
            owned = owner_families(replicator, link.mailbox, tables)
            return {"single": [*owned, *caller_families(parts), *process_families(turns)]}

        mark = partial(_mark_not_ready, tables, on_failure)
        owning = begin(run_reported(replicator, settings), at_end=mark)
        stack.push_async_callback(_ended, owning)
        stack.push_async_callback(subsets.close)
        stack.push_async_callback(link.close)
        stack.callback(replicator.stop)
        if metrics is not None:
            turns.start()
            stack.callback(turns.stop)
            await stack.enter_async_context(metrics_listener(metrics, collect))
        yield Opened(app_for(settings, parts, subsets, stopping, seams, authorize), stopping, owning)


async def _ended(owning: asyncio.Future[None]) -> None:
    await owning


def _mark_not_ready(
    tables: Tables, on_failure: Callable[[BaseException], None], owning: asyncio.Future[None]
) -> None:
    """Mark the service as not ready, because the tables no longer follow the database."""
    error = asyncio.CancelledError() if owning.cancelled() else owning.exception()
    Conditions(tables.status).unmeet(Condition.SUPERVISOR_PROCESSES_READY, "the replicator has stopped")
    if error is not None:
        on_failure(error)


async def run_replicator(task: ChildTask, seams: Seams = REAL) -> None:
    """Run the owner in this process."""
    tables = Tables(has_notices=seams.has_notices, required=map_required_version(task.required_path))
    replicator = Replicator(
        task.settings, tables, store_maker(task.settings, seams.make_files), is_restart=task.is_restart
    )
    stop_with_supervisor(replicator.stop)
    owner = UnixSocketOwner(task.owner_socket, tables, replicator.handle)
    owner.mailbox.tap = seams.tap
    async with AsyncExitStack() as stack:
        stack.push_async_callback(owner.close)
        if task.is_restart:
            # Until then the HTTP processes keep serving from the tables of the previous owner.
            replicator.on_loaded = owner.start
        else:
            replicator.on_start = owner.start  # so that they know what the start waits for
        await report_metrics(stack, task, lambda: owner_families(replicator, owner.mailbox, tables))
        await run_reported(replicator, task.settings, is_restart=task.is_restart)


async def run_http_process(task: ChildTask, seams: Seams = REAL) -> None:
    """Run an HTTP process, which reads a replica of the tables and the shape logs."""
    app = Application(partial(_open_http_process, task, seams))
    server = http_server(task.settings, app, socket.socket(fileno=task.listener_fd), with_owner=False)
    async with app.lifespan():
        stop_with_supervisor(server.stop)
        await server.run()


@asynccontextmanager
async def _open_http_process(task: ChildTask, seams: Seams) -> AsyncIterator[Opened]:
    link = UnixSocketLink(
        task.owner_socket,
        has_notices=seams.has_notices,
        required=map_required_version(task.required_path),
        read_stored=partial(read_stored_tables, task.settings.storage_dir, storage_root(task.settings)),
    )
    async with AsyncExitStack() as stack:
        link.start()
        stack.push_async_callback(link.close)
        counts = SharedCounts(task.run_dir / PERMITS, task.number)
        stack.callback(counts.close)
        parts = caller_parts(task.settings, link, counts)
        subsets = subset_snapshots(task.settings, link, parts.shapes)
        stack.push_async_callback(subsets.close)
        await report_metrics(stack, task, lambda: caller_families(parts))
        stopping = asyncio.Event()
        yield Opened(app_for(task.settings, parts, subsets, stopping, seams), stopping)


async def report_metrics(stack: AsyncExitStack, task: ChildTask, families: Callable[[], Families]) -> None:
    """Report the metrics of a child to the supervisor until the stack is closed, if a metrics port is set."""
    if task.settings.prometheus_port is None:
        return
    turns = LoopTurns()
    turns.start()
    stack.callback(turns.stop)
    answering = metrics_socket(task.metrics_path, lambda: [*families(), *process_families(turns)])
    await stack.enter_async_context(answering)


def subset_snapshots(settings: Settings, link: OwnerLink, shapes: ShapeCache) -> SubsetSnapshots:
    """The subset queries of a process that is linked to the owner by `link`; opens no connection yet."""
    url = settings.pooled_database_url or settings.database_url
    size = min(max(settings.db_pool_size // (4 * max(settings.workers, 1)), 1), _SUBSET_CONNECTIONS)
    is_pooled, application = settings.pooled_database_url is not None, "pgshapes subsets"
    pool = ConnectionPool(
        lambda: connect_shared(url, application_name=application, is_pooled=is_pooled), size
    )
    return SubsetSnapshots(link, SubsetSource(pool), shapes.resolve)


def shape_cache(link: OwnerLink) -> ShapeCache:
    """The shape cache of a process, which reports to the owner which shapes are read."""
    tracking = UseTracking(link)
    tracking.start_reports()
    return tracking


def caller_parts(settings: Settings, link: OwnerLink, counts: PermitCounts | None) -> CallerParts:
    """The parts that answer requests in a process that is linked to the owner by `link`."""
    limits = settings.max_concurrent_requests
    return CallerParts(
        shape_cache(link),
        StatusMonitor(
            link.tables.status,
            is_following=lambda: link.is_following,
            is_current=link.tables.is_current,
        ),
        AdmissionControl(initial_limit=limits.initial, existing_limit=limits.existing, counts=counts),
    )


def app_for(
    settings: Settings,
    parts: CallerParts,
    subsets: Subsets,
    stopping: asyncio.Event,
    seams: Seams = REAL,
    authorize: Authorize | None = None,
) -> ShapeApp:
    """The ASGI application of a process."""
    return make_app(
        parts.shapes,
        FileLogReader(storage_root(settings)),
        parts.readiness,
        parts.admission,
        HttpSettings(
            secret=settings.secret,
            authorize=authorize,
            allow_delete=settings.allow_delete,
            long_poll_timeout_ms=settings.long_poll_timeout_ms,
            cache_max_age_s=settings.cache_max_age_s,
            cache_stale_age_s=settings.cache_stale_age_s,
            ready_timeout_s=seams.ready_timeout_s,
            trusted_proxies=settings.trusted_proxies,
        ),
        stopping=stopping,
        subsets=subsets,
    )


def storage_root(settings: Settings) -> Path:
    """The directory of the shape logs."""
    return settings.storage_dir / "logs"


def store_maker(settings: Settings, make_files: MakeFiles | None) -> Callable[[], ShapeStore]:
    """A function that opens the store."""
    root = storage_root(settings)

    def make() -> ShapeStore:
        files = None if make_files is None else make_files(root)
        return FileShapeStore(root, chunk_bytes=settings.chunk_bytes_threshold, files=files)

    return make


def run_child(entry: Callable[[ChildTask], Coroutine[Any, Any, None]] | None = None) -> int:
    """Run a child process; return its exit status: 2 after ConfigError, 1 after another PgShapesError."""
    task = read_task()
    hide_secrets(task.settings)
    configure_logs(task.settings.log_level)
    raise_nofile_limit()
    tune_gc()
    work = entry or (run_replicator if task.name == "replicator" else run_http_process)
    try:
        run_in_loop(work(task))
    except PgShapesError as error:
        with suppress(OSError):  # the status says the same
            print(redaction.redact(f"pgshapes: {error.message}"), file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(run_child())

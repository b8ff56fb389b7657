"""A whole server in the event loop of a test, with everything that it holds in reach of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlencode

import orjson
import psycopg
from tests.support.clients.pending import WAIT_S
from tests.support.storage.descriptors import open_files

from pgshapes.config import Settings
from pgshapes.gates.admission import Kind
from pgshapes.gates.conditions import Level
from pgshapes.http_api.app import AsgiApp
from pgshapes.owner import retries as retries_module
from pgshapes.owner.owner import Owner
from pgshapes.owner.replicator import Replicator
from pgshapes.postgres.connection import ConnectionPool
from pgshapes.server.metrics import CallerParts
from pgshapes.shape_cache.subsets import SubsetSnapshots
from pgshapes.tables.mailbox import Mailbox
from pgshapes.tables.rows import CreationState
from pgshapes.tables.tables import Tables
from pgshapes.tables.unix_link import UnixSocketLink, UnixSocketOwner
from pgshapes.waiting.keep_running import keep_running
from pgshapes.wiring import app_for, caller_parts, store_maker, subset_snapshots

_UNFINISHED = """SELECT application_name, state, query FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'pgshapes%'
   AND (backend_xmin IS NOT NULL OR xact_start IS NOT NULL) AND application_name <> 'pgshapes lock'
   AND backend_type = 'client backend'"""

_BACKENDS = """SELECT application_name, state, query FROM pg_stat_activity
 WHERE datname = current_database() AND application_name LIKE 'pgshapes%'
   AND backend_type = 'client backend'"""
_SESSION_CONNECTIONS = 4
"""For the slot and the lock, and to look for sessions that wait for snapshots and subsets."""


@dataclass
class Answer:
    """A complete response; status 0 if there was none."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def ids(self) -> list[int]:
        """The ids of the rows."""
        return [int(message["value"]["id"]) for message in orjson.loads(self.body) if "key" in message]


@dataclass
class Stage:
    """The parts of a server that runs, and a session of the test."""

    tables: Tables
    replicator: Replicator
    mailbox: Mailbox
    link: UnixSocketLink
    parts: CallerParts
    subsets: SubsetSnapshots
    app: AsgiApp
    sql: psycopg.Connection
    directory: Path
    tasks_before: set[asyncio.Task[Any]]

    @property
    def owner(self) -> Owner:
        """The owner, once the shapes are loaded."""
        assert self.replicator.owner is not None
        return self.replicator.owner

    async def post(self, subset: Mapping[str, Any], **params: str) -> Answer:
        """As `ask`, with a subset in a body that is large and comes in two pieces."""
        body = orjson.dumps({"subset": subset, "ignored": "x" * 200_000})
        return await self._ask("POST", params, [body[:100], body[100:]])

    async def ask(self, method: str = "GET", **params: str) -> Answer:
        """Send a request for a shape, in a task of its own as a server would, and wait for the answer."""
        return await self._ask(method, params, ())

    async def _ask(self, method: str, params: Mapping[str, str], body: Sequence[bytes]) -> Answer:
        answer = Answer()
        pieces: list[bytes] = []
        unsent = list(body)

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0)
            if unsent:
                piece = unsent.pop(0)
                return {"type": "http.request", "body": piece, "more_body": bool(unsent)}
            stays: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
            return await stays

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                pieces.append(message.get("body", b""))

        scope = {
            "type": "http",
            "method": method,
            "path": "/v1/shape",
            "query_string": urlencode(params).encode(),
            "headers": [],
        }
        task = asyncio.ensure_future(self.app(scope, receive, send))
        await asyncio.wait((task,))
        if not task.cancelled():
            task.result()
        answer.body = b"".join(pieces)
        return answer

    async def run(self, statement: str) -> None:
        """Run a statement in the session of the test."""
        await asyncio.to_thread(self.sql.execute, statement)

    def select(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query in the session of the test."""
        return self.sql.execute(query).fetchall()

    def running_tasks(self) -> dict[str, asyncio.Task[Any]]:
        """The tasks of the server by the function that they run, when no request is under way."""
        return {function_of(task): task for task in asyncio.all_tasks() - self.tasks_before}

    def excess_backends(self) -> list[tuple[Any, ...]]:
        """The connections of this server, if there are more than it may have."""
        found = self.select(_BACKENDS)
        limit = sum(pool.size for pool in self.pools().values()) + _SESSION_CONNECTIONS
        return found if len(found) > limit else []

    def held(self) -> dict[str, object]:
        """Everything that is held for a request or a creation; empty when nothing is under way."""
        replicator, owner, parts = self.replicator, self.owner, self.parts
        found: dict[str, object] = {
            f"connections of the {name} pool": state
            for name, pool in self.pools().items()
            if (state := lent(pool))
        }
        found |= {
            "creations": owner.creations.running,
            "slots of creations": owner.creations.slots.in_use + owner.creations.slots.waiting,
            "slots of snapshots": owner.creator.slots.in_use + owner.creator.slots.waiting,
            "slots of descriptions": owner._resolver._slots.in_use + owner._resolver._slots.waiting,
            "creation locks": [
                row for _, row in self.tables.creation_locks.items() if row.state is not CreationState.FAILED
            ],
            "snapshots being written": list(owner.creator.writings),
            "memberships of no shape": [h for h in owner.creator.memberships if h not in self.tables.shapes],
            "shapes that are not live": [h for h, row in self.tables.shapes.items() if not row.state.is_live],
            "unfinished snapshots": [
                h for h, tail in self.tables.tails.items() if not tail.is_snapshot_complete
            ],
            "routed shapes without a row": [h for h in self._logs() if h not in self.tables.shapes],
            "holds of the boundary": len(owner.boundary._holds),
            "waits for catalogue rows": list(owner.status._committed),
            "publication listeners": dict(replicator.sources.publication._listeners),
            "table alterations": replicator.sources.publication.waiting_tables,
            "watched snapshots": len(replicator.sources.snapshots.lock_waits._queries),
            "watched subsets": len(self.subsets._source.lock_waits._queries),
            "calls": self.mailbox.depth,
            "calls of this process": len(self.link._connection._pending) if self.link._connection else "lost",
            "flights": parts.shapes.flights.under_way + parts.shapes.definitions.flights.under_way,
            "initial permits": parts.admission.in_use(Kind.INITIAL),
            "existing permits": parts.admission.in_use(Kind.EXISTING),
            "parked requests": parts.readiness.parked,
            "held requests": self.app.serving.reads._held_requests._waits._held,  # type: ignore[attr-defined]
            "bodies being read": dict(self.app.serving.reads._bodies._reading),  # type: ignore[attr-defined]
            "keys in progress": set(self.app.serving.lookup._in_progress),  # type: ignore[attr-defined]
            "open files of snapshots": open_snapshot_files(self.directory),
            "open transactions": self.sql.execute(_UNFINISHED).fetchall(),
        }
        if self.parts.readiness.level() is not Level.ACTIVE:
            found["level"] = self.parts.readiness.level()
        return {name: value for name, value in found.items() if value}

    def pools(self) -> dict[str, ConnectionPool]:
        """The pools of the server."""
        replicator = self.replicator
        return {
            "admin": replicator._admin_pool,
            "publication": replicator._publication_pool,
            "snapshot": replicator._snapshot_pool,
            "subset": self.subsets._source._pool,
        }

    def _logs(self) -> list[str]:
        return list(self.replicator._storage.store._logs)  # type: ignore[attr-defined]


def function_of(task: asyncio.Task[Any]) -> str:
    """The name of the function that a task runs, or keeps running."""
    work: Any = task.get_coro()
    name = str(getattr(work, "__qualname__", ""))
    if name == keep_running.__qualname__ and work.cr_frame is not None:
        return f"{name}: {work.cr_frame.f_locals['name']}"
    return name


def lent(pool: ConnectionPool) -> object:
    """What a pool lacks: places, or idle connections that are not idle."""
    places = pool.size - pool._free._value
    statuses = [one.info.transaction_status.name for one in pool._idle if one.pgconn.transaction_status]
    return [f"{places} places", *statuses] if places or statuses or pool.waiting else None


def open_snapshot_files(root: Path) -> list[str]:
    """The files of snapshots that this process has open."""
    return [path for _, path in open_files() if path.startswith(str(root)) and "snapshot." in path]


@asynccontextmanager
async def open_stage(url: str, directory: Path) -> AsyncIterator[Stage]:
    """A server that is ready, its requests linked to the owner as between processes."""
    settings = Settings(
        database_url=url,
        storage_dir=directory / "shapes",
        insecure=True,
        allow_delete=True,
        long_poll_timeout_ms=2000,
        chunk_bytes_threshold=1000,
    )
    async with AsyncExitStack() as stack:
        for constant in ("_RECONNECT_FIRST_S", "_RECONNECT_CAP_S"):
            stack.enter_context(patch.object(retries_module, constant, 0.05))
        sql = stack.enter_context(psycopg.connect(url, autocommit=True))
        before = asyncio.all_tasks()
        tables = Tables()
        replicator = Replicator(settings, tables, store_maker(settings, None))
        server = UnixSocketOwner(directory / "owner", tables, replicator.handle)
        replicator.on_loaded = server.start
        link = UnixSocketLink(directory / "owner")
        running = asyncio.create_task(replicator.run())
        await replicator.started.wait()
        link.start()
        await link.connected()
        parts = caller_parts(settings, link, None)
        subsets = subset_snapshots(settings, link, parts.shapes)
        app = app_for(settings, parts, subsets, asyncio.Event())
        await parts.readiness.wait_until(Level.ACTIVE, WAIT_S)
        try:
            yield Stage(tables, replicator, server.mailbox, link, parts, subsets, app, sql, directory, before)
        finally:
            await link.close()
            await subsets.close()
            replicator.stop()
            with suppress(asyncio.CancelledError):
                await running
            await server.close()

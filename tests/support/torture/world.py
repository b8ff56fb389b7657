"""A Postgres, a proxy in front of it, a server, writers and clients, for faults to strike.

State: this object owns all of them and ends them. It also does what a service manager does: a server that has
ended is started again; whether it was allowed to end is judged here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
from tests.oracle.ddl.follower import Births
from tests.oracle.ddl.shapes import VALUE_SETTINGS, Rows
from tests.oracle.ddl.statements import Statement
from tests.support.postgres.proxy import Proxy
from tests.support.servers.faulty_server import faults_root
from tests.support.servers.processes import session_members
from tests.support.servers.servers import Server
from tests.support.torture.client_follower import ClientFollower
from tests.support.torture.definitions import WATCHED, Watched
from tests.support.torture.follower import Follower
from tests.support.torture.http_followers import RawFollower, SseFollower
from tests.support.torture.judge import Judge
from tests.support.torture.typescript_followers import TypescriptFollower, TypescriptProcess

from pgshapes.embedded.server import EmbeddedPostgres

WATCH_S = 0.1
STATEMENT_TRIES = 60
MOST_ENDS = 3
OWNER_LOCK = "owner.lock"


class HopelessError(Exception):
    """The run cannot go on."""


class World:
    """See the module; made by `running_world`."""

    def __init__(self, postgres: EmbeddedPostgres, url: str, server: Server, proxy: Proxy) -> None:
        self.postgres = postgres
        self.url = url
        """Straight to Postgres."""
        self.server = server
        self.proxy = proxy
        self.judge = Judge()
        self.followers: list[Follower] = []
        self.over_at = time.monotonic()
        """When the last fault was over."""
        self.server_lock = asyncio.Lock()
        """Who starts and stops the whole server."""
        self.postgres_lock = asyncio.Lock()
        """Who starts and stops Postgres."""
        self.may_end_until = 0.0
        """Until then the server may end by itself: it has been killed, or a rule says so."""
        self._births = Births()
        self._tasks: list[asyncio.Task[None]] = []
        self._failure: BaseException | None = None
        self._ends = 0
        """How often the server has ended by itself."""

    # --- processes

    def processes(self) -> list[int]:
        """The ids of the server's processes: the supervisor or the only one first, then the replicator."""
        process = self.server.process
        if process is None or process.poll() is not None:
            return []
        children = [pid for pid in session_members(process.pid) if pid != process.pid]
        return [process.pid, *sorted(children, key=lambda pid: (not self._owns(pid), pid))]

    def _owns(self, pid: int) -> bool:
        lock = str(self.server.storage_dir / OWNER_LOCK)
        with contextlib.suppress(OSError):
            return any(str(link.readlink()) == lock for link in Path(f"/proc/{pid}/fd").iterdir())
        return False

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal, if the process still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    async def kill_server(self) -> None:
        """SIGKILL to all processes of the server. Hold `server_lock`."""
        if self.server.process is not None:
            self.server.kill()

    def launch_server(self) -> None:
        """Start the server. Hold `server_lock`."""
        self.server.launch()

    async def until_gone(self, session: int) -> None:
        """Wait until no process of an earlier start runs, as a service manager does; kill those that stay."""
        deadline = time.monotonic() + 25
        while members := session_members(session):
            if time.monotonic() > deadline:
                for pid in members:
                    self.signal(pid, signal.SIGKILL)
            await asyncio.sleep(WATCH_S)

    async def _keep_running(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            process = self.server.process
            if process is None or process.poll() is None or self.server_lock.locked():
                continue
            async with self.server_lock:
                if time.monotonic() > self.may_end_until:
                    text = f"status {process.returncode}: {self.server.log_end()[-1200:]}"
                    self.judge.violate("the server has ended", "server", text)
                    self._ends += 1
                await self.until_gone(process.pid)
                self.launch_server()

    def let_end(self, within_s: float = 30.0) -> None:
        """From now on the server may end by itself, for a while."""
        self.may_end_until = max(self.may_end_until, time.monotonic() + within_s)

    # --- Postgres

    async def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement straight on Postgres, again while it cannot be reached."""
        for _ in range(STATEMENT_TRIES):
            try:
                async with await psycopg.AsyncConnection.connect(
                    self.url, autocommit=True, options="-c lock_timeout=3000"
                ) as connection:
                    cursor = await connection.execute(sql.encode())
                    return await cursor.fetchall() if cursor.description else []
            except (psycopg.OperationalError, psycopg.errors.DeadlockDetected):
                await asyncio.sleep(0.5)
        raise RuntimeError(f"not possible for {STATEMENT_TRIES / 2} s: {sql}")

    async def run(self, statement: Statement) -> bool:
        """Run a statement of the database's owner; False if Postgres refuses it."""
        try:
            await self.execute(statement.sql)
        except psycopg.Error as error:
            self.judge.totals.errors[f"{statement.kind.value}: {str(error).partition(chr(10))[0][:80]}"] += 1
            self.judge.demand_statement(statement)
            return False
        self.judge.demand_statement(statement)
        return True

    async def try_once(self, sql: str) -> bool:
        """Run a statement once; False if that fails."""
        try:
            async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
                await connection.execute(sql.encode())
        except psycopg.Error:
            return False
        return True

    async def expected(self, watched: Sequence[Watched]) -> dict[Watched, Rows]:
        """The rows of a SELECT of each."""
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            await connection.execute(VALUE_SETTINGS.encode())
            return {one: await _rows(connection, one) for one in watched}

    # --- faults

    @property
    def typescript_log(self) -> Path:
        """What the published client prints beside its messages."""
        return self.server.storage_dir.with_name("typescript.log")

    @property
    def faults_dir(self) -> Path:
        """Where the server's files look for failures."""
        return faults_root(self.server.storage_dir)

    # --- clients

    def follow(self) -> None:
        """Start the clients: two or more of each shape."""
        kinds: list[Callable[[Watched], Follower]] = [self._client, self._sse]
        scripted: list[TypescriptFollower] = []
        for number, watched in enumerate(WATCHED):
            self.followers.append(RawFollower(self.server.url, watched, self.judge, self._births))
            self.followers.append(kinds[number % 2](watched))
            if number % 3 == 0 and not watched.has_arrays:
                scripted.append(self._typescript(watched, is_sse=number % 2 == 1))
        for one in self.followers:
            self._start(one.run(), one.name)
        self.followers += scripted
        errors = self.typescript_log
        self._start(TypescriptProcess(self.server.url, scripted, self.judge, errors).run(), "typescript")
        self._start(self._keep_running(), "service manager")

    def _client(self, watched: Watched) -> Follower:
        return ClientFollower(self.server.url, watched, self.judge, self._births)

    def _sse(self, watched: Watched) -> Follower:
        return SseFollower(self.server.url, watched, self.judge, self._births)

    def _typescript(self, watched: Watched, *, is_sse: bool) -> TypescriptFollower:
        return TypescriptFollower(self.server.url, watched, self.judge, self._births, is_sse=is_sse)

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._note_end)
        self._tasks.append(task)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._failure = task.exception()

    def check(self) -> None:
        """Raise the error of a task of the harness; HopelessError if the server does not stay up."""
        if self._ends > MOST_ENDS:
            raise HopelessError(f"the server has ended by itself {self._ends} times")
        if self._failure is not None:
            raise RuntimeError("the harness itself has failed") from self._failure

    async def close(self) -> None:
        """End clients and server."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in self.followers:
            await one.close()
        await self.kill_server()


async def _rows(connection: psycopg.AsyncConnection, watched: Watched) -> Rows:
    cursor = psycopg.AsyncRawCursor(connection)
    await cursor.execute(watched.select.encode())
    result, names = cursor.pgresult, [column.name for column in cursor.description or ()]
    assert result is not None
    return frozenset(
        tuple(sorted((name, _text(result.get_value(row, place))) for place, name in enumerate(names)))
        for row in range(result.ntuples)
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


@asynccontextmanager
async def living(world: World) -> AsyncIterator[World]:
    """The world with its clients; all are ended at exit."""
    try:
        world.follow()
        yield world
    finally:
        await world.close()

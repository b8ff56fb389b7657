"""Runs batches of faults in a world, and waits after each until every client is right.

During a batch writers commit and faults strike. Then writers stop, and every client must have the rows of a
SELECT of its shape, at most `stuck_s` after the last fault was over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
from tests.oracle.ddl.follower import Standing
from tests.oracle.ddl.shapes import Rows
from tests.support.postgres.databases import SERVER_SETTINGS, fresh_database
from tests.support.postgres.installations import postgres_of
from tests.support.postgres.proxy import proxy_to
from tests.support.servers.ports import free_port
from tests.support.servers.servers import Server
from tests.support.torture import (
    postgres_faults,
    process_faults,
    request_faults,
    schema_faults,
    storage_faults,
)
from tests.support.torture.definitions import CREATE, Watched
from tests.support.torture.faults import FORMS
from tests.support.torture.follower import Follower
from tests.support.torture.http_followers import http_client
from tests.support.torture.plan import Batch, Fault, writer_chance
from tests.support.torture.postgres_faults import SILENCE_S
from tests.support.torture.typescript_followers import times_it_left_sse
from tests.support.torture.world import HopelessError, World, living
from tests.support.torture.writer import Writer

from pgshapes.embedded.server import EmbeddedPostgres

MODULES = (postgres_faults, process_faults, request_faults, schema_faults, storage_faults)
"""Those that have faults: importing them fills FORMS."""
STUCK_S = 30.0
_POLL_S = 0.1
_CHECK_S = 1.0
_FIRST_ROWS_S = 120.0


@dataclass(frozen=True)
class Options:
    """What a run does beside its faults."""

    seed: int = 1
    workers: int = 0
    version: int = 16
    writers: int = 4
    pause_s: float = 0.08
    """Between two transactions of a writer, on average."""
    stuck_s: float = STUCK_S
    """By then, after the last fault is over, every client must be right."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Further settings of the server."""


class Run:
    """Batches in one world."""

    def __init__(self, world: World, options: Options) -> None:
        self.world = world
        self._options = options
        self._active = 0
        """Faults that strike now."""
        self._stuck: set[str] = set()
        """Clients that were silent for too long in this batch."""

    async def batch(self, batch: Batch) -> None:
        """Run a batch and wait until all clients are right; judge what they were told."""
        world, judge = self.world, self.world.judge
        judge.begin_batch(batch.number)
        self._stuck = set()
        await self._watched(self._write_and_settle(batch))
        judge.judge_refetches()
        judge.totals.batches += 1
        judge.totals.left_sse = times_it_left_sse(world.typescript_log)
        world.check()

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work; end it if the run cannot go on."""
        tasks = [asyncio.create_task(work), asyncio.create_task(self._watch())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write_and_settle(self, batch: Batch) -> None:
        await self._write_and_strike(batch)
        await self._settle(self._options.stuck_s)

    async def begin(self) -> None:
        """Wait until all clients have their first rows."""
        await self._settle(_FIRST_ROWS_S)
        self.world.judge.judge_refetches()

    async def _write_and_strike(self, batch: Batch) -> None:
        stop, options = asyncio.Event(), self._options
        writers = [Writer(self.world.url, self.world.judge, options.pause_s) for _ in range(options.writers)]
        writing = [
            asyncio.create_task(writer.run(writer_chance(options.seed, batch.number, number), stop))
            for number, writer in enumerate(writers)
        ]
        began = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(batch.writes_s))
                for fault in batch.faults:
                    group.create_task(self._strike(fault, began))
            stop.set()
            await asyncio.gather(*writing)
        finally:
            for task in writing:
                task.cancel()
            for writer in writers:
                await writer.close()

    async def _strike(self, fault: Fault, began: float) -> None:
        world = self.world
        await asyncio.sleep(max(0.0, began + fault.at_s - time.monotonic()))
        world.judge.disturb()
        world.judge.struck.append(str(fault))
        self._active += 1
        try:
            await FORMS[fault.kind].strike(world, Random(fault.seed))
        finally:
            self._active -= 1
        world.judge.disturb()
        world.judge.totals.faults[fault.kind] += 1
        world.over_at = time.monotonic()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_S)
            self.world.check()
            now = time.monotonic()
            for one in self.world.followers:
                silent_s = now - max(one.heard_at, self.world.over_at)
                is_stuck = not self._active and silent_s > self._options.stuck_s
                if is_stuck and one.name not in self._stuck:
                    self._stuck.add(one.name)
                    detail = f"{silent_s:.0f} s: {one.standing.value} {one.answer[:300]}"
                    self.world.judge.violate("a client is stuck", one.name, detail)

    async def _settle(self, limit_s: float) -> None:
        began = time.monotonic()
        wrong = await self._until_right(max(began, self.world.over_at) + limit_s)
        totals = self.world.judge.totals
        totals.longest_settle_s = max(totals.longest_settle_s, time.monotonic() - began)
        for follower, detail in wrong:
            self.world.judge.violate("the rows differ", follower.name, detail)
            await self._begin_again(follower)
        if wrong and await self._until_right(time.monotonic() + 2 * limit_s):
            raise HopelessError("clients are wrong even after their shapes were removed")

    async def _until_right(self, deadline: float) -> list[tuple[Follower, str]]:
        """Those that are wrong at the deadline, with what is wrong."""
        world, next_read, expected = self.world, 0.0, dict[Watched, Rows]()
        while True:
            world.check()
            now = time.monotonic()
            if now >= next_read:
                expected = await world.expected([one.watched for one in world.followers])
                next_read = now + 10 * _POLL_S
            wrong = [(one, text) for one in world.followers if (text := problem(one, expected))]
            if not wrong and await self._is_active():
                return []
            if now > deadline:
                if not wrong:
                    world.judge.violate("health is not active", "server", world.server.log_end()[-800:])
                return wrong
            await asyncio.sleep(_POLL_S)

    async def _is_active(self) -> bool:
        try:
            async with http_client() as http:
                response = await http.get(f"{self.world.server.url}/v1/health", timeout=5)
        except httpx.HTTPError:
            return False
        return response.status_code == 200

    async def _begin_again(self, follower: Follower) -> None:
        """Remove the shape of a client that is wrong, so that the run can go on."""
        handle, params = follower.copy.handle, follower.watched.query.parameters()
        if handle is not None:
            self.world.judge.removed_by_us.add(handle)
        self.world.judge.demand("removed by the harness", lambda shape: shape == follower.watched.shape)
        async with http_client() as http:
            try:
                # Without a handle: a client whose messages do not fit may have just given its own up.
                await http.delete(self.world.server.shape_url, params=params, timeout=30)
            except httpx.HTTPError:
                """The next look tells."""


def problem(follower: Follower, expected: Mapping[Watched, Rows]) -> str | None:
    """What is wrong with a client now; None if nothing is."""
    copy, rows = follower.copy, expected[follower.watched]
    if follower.standing is not Standing.FOLLOWING or not copy.is_up_to_date:
        return f"{follower.standing.value} {follower.answer[:300]}"
    found = copy.observed()
    if follower.watched.is_changes_only:
        return _partly_wrong(follower, rows)
    if found == rows:
        return None
    missing, extra = sorted(rows - found, key=str)[:3], sorted(found - rows, key=str)[:3]
    text = f"handle {copy.handle} at {copy.resume}: missing {missing}, too many {extra}"
    return f"{text} of {len(rows)} and {len(found)} rows"


def _partly_wrong(follower: Follower, rows: Rows) -> str | None:
    """Rows that changed must be as they are; rows that were deleted must not be there."""
    there = {f'"public"."{follower.watched.table}"/"{dict(row)["id"]}"': dict(row) for row in rows}
    wrong = [
        (key, row)
        for key, row in follower.copy.rows.items()
        if key not in there or not row.items() <= there[key].items()
    ]
    back = follower.copy.gone & there.keys()
    return f"wrong {wrong[:3]}, not deleted {sorted(back)[:3]}" if wrong or back else None


@contextmanager
def torture_postgres(version: int) -> Iterator[EmbeddedPostgres]:
    """A Postgres that keeps its port when it is started again."""
    settings = SERVER_SETTINGS | {"wal_sender_timeout": f"{SILENCE_S}s"}
    with postgres_of(version, settings, port=free_port()) as postgres:
        yield postgres


@asynccontextmanager
async def running(postgres: EmbeddedPostgres, folder: Path, options: Options) -> AsyncIterator[Run]:
    """A run in a database of its own."""
    with fresh_database(postgres) as url, proxy_to(postgres.port) as proxy:
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in CREATE:
                connection.execute(statement.encode())
        server = Server(
            _through(url, proxy.port),
            folder / "storage",
            module="tests.support.servers.faulty_server",
            workers=options.workers,
            allow_delete=True,
            long_poll_timeout_ms=5000,
            chunk_bytes_threshold=20_000,
            **options.settings,
        )
        try:
            server.start()
            async with living(World(postgres, url, server, proxy)) as world:
                run = Run(world, options)
                await run.begin()
                yield run
        finally:
            if server.process is not None:
                server.kill()


def _through(url: str, port: int) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{port}"))

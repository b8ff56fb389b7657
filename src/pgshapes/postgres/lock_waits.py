"""Cancels long queries of ours for which another session waits.

A query locks its table in ACCESS SHARE mode until its transaction ends. DDL waits for that lock, and
everything else on the table queues behind the DDL. So while a query of a pool runs longer than an interval,
one search at each interval finds the queries that somebody waits for, and cancels them.

Not here: what happens to the work that was cancelled. Invariant: no query is cancelled after its release, so
a cancellation cannot hit what runs later on a backend that others may use. State: the queries, and one
connection while there are old ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

import psycopg
from psycopg.pq.abc import PGresult

from pgshapes.errors import PgShapesError
from pgshapes.logs import get_logger
from pgshapes.postgres import simple_query
from pgshapes.postgres.bounded_connection import Connect
from pgshapes.postgres.connection import Connection
from pgshapes.waiting.background import begin, holds_nothing
from pgshapes.waiting.keep_running import keep_running

_log = get_logger(__name__)

INTERVAL_S: Final = 0.08
"""A query is old at the second search after its start, so a statement waits for it for less than 200 ms."""
_CANCEL_TIMEOUT_S: Final = 5.0

BACKEND_PID: Final = "BEGIN READ ONLY; SELECT pg_catalog.pg_backend_pid(); COMMIT"
"""To precede the BEGIN of a transaction in one message, for `backend_pid`. A transaction pooler changes the
backend between messages. In the transaction itself the query would take the snapshot, before the table is
locked.
"""


def backend_pid(results: Sequence[PGresult]) -> int:
    """The process id in the results of a message that begins with `BACKEND_PID`."""
    return int(results[1].get_value(0, 0) or 0)


def blocking(pids: Iterable[int]) -> str:
    """The transaction whose second result has those of the backends for which somebody waits."""
    listed = ", ".join(str(pid) for pid in pids)
    return f"""BEGIN READ ONLY;
SELECT DISTINCT b.pid
  FROM pg_catalog.pg_locks w, LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids(w.pid)) b(pid)
 WHERE NOT w.granted AND b.pid IN ({listed})
   AND (w.locktype = 'virtualxid' OR w.locktype = 'relation' AND (w.database, w.relation) IN (
          SELECT h.database, h.relation FROM pg_catalog.pg_locks h
           WHERE h.granted AND h.locktype = 'relation' AND h.pid IN ({listed})));
COMMIT"""


class LockingQuery:
    """A transaction that locks a table, from its start until `release`."""

    def __init__(self, queries: set[LockingQuery], connection: Connection, pid: int) -> None:
        self._queries = queries
        self._connection = connection
        self._cancellation: asyncio.Task[None] | None = None
        self.pid = pid
        queries.add(self)

    @property
    def has_yielded(self) -> bool:
        """Whether the query was cancelled because somebody waits; then the connection must be closed."""
        return self._cancellation is not None

    def yield_locks(self) -> None:
        """Cancel what runs on the connection. A transaction that runs nothing must read `has_yielded`."""
        if self._cancellation is None:
            self._cancellation = begin(self._cancel(), at_end=holds_nothing)

    async def release(self) -> None:
        """Stop watching, before the transaction ends: afterwards the backend may be somebody else's."""
        cancellation = self.end()
        if cancellation is not None:
            await asyncio.wait((cancellation,))

    def end(self) -> asyncio.Task[None] | None:
        """Stop watching; the cancellation that may be under way, which must end before the transaction."""
        self._queries.discard(self)
        return self._cancellation

    async def _cancel(self) -> None:
        with suppress(psycopg.Error):
            await self._connection.cancel_safe(timeout=_CANCEL_TIMEOUT_S)


class LockWaits:
    """The queries of one pool of connections. `searches` counts the queries for waiting sessions."""

    def __init__(self, connect: Connect, *, interval_s: float = INTERVAL_S) -> None:
        self.connect = connect
        self._interval_s = interval_s
        self._queries: set[LockingQuery] = set()
        self._searching: asyncio.Task[None] | None = None
        self._is_failing = False
        self.searches = 0

    def watch(self, connection: Connection, pid: int) -> LockingQuery:
        """Watch a transaction that is about to lock a table, in the backend `pid`."""
        made = LockingQuery(self._queries, connection, pid)
        if self._searching is None or self._searching.done():
            searching = keep_running("searching for waiting sessions", self._search_while_needed)
            self._searching = begin(searching, at_end=holds_nothing)
        return made

    async def close(self) -> None:
        """Stop searching."""
        if self._searching is not None:
            self._searching.cancel()
            await asyncio.gather(self._searching, return_exceptions=True)

    async def _search_while_needed(self) -> None:
        while self._queries:
            old = await self._old_queries()
            if not old:
                continue
            try:
                connection = await self.connect()
                try:
                    while old:
                        await self._search(connection, old)
                        old = await self._old_queries()
                finally:
                    await connection.close()
            except (PgShapesError, psycopg.Error) as error:
                if not self._is_failing:
                    _log.warning("waiting sessions could not be searched for; retrying", error=str(error))
                self._is_failing = True

    async def _old_queries(self) -> dict[int, LockingQuery]:
        """Those that were there an interval ago, by backend."""
        known = set(self._queries)
        await asyncio.sleep(self._interval_s)
        return {query.pid: query for query in known & self._queries if not query.has_yielded}

    async def _search(self, connection: Connection, old: dict[int, LockingQuery]) -> None:
        """Cancel the queries that somebody waits for."""
        self.searches += 1
        _, found, _ = await simple_query.run(connection, blocking(old))
        self._is_failing = False
        for row in range(found.ntuples):
            query = old[int(found.get_value(row, 0) or 0)]
            if query in self._queries:
                query.yield_locks()

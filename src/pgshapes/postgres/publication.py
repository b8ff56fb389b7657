"""Manages the tables of the publication.

Each table is added in a transaction of its own. A request that waits for a locked table waits outside any
transaction and without a connection. Not here: the SQL and why its order is correct (`publication_sql`),
which shapes need a table (`owner`). Invariant: when `ensure_table` returns, the stream contains all changes
of every transaction that writes to the table later, or that wrote to it and is still open. Whoever published
the table: how it is published is *settled* once all transactions have ended that had written to it when this
was first seen. State: this object owns running alterations, and knows what is settled; everything else is in
Postgres.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import psycopg
from psycopg import pq

from pgshapes.errors import SchemaChanged, SourceError
from pgshapes.model.relation import Relation
from pgshapes.postgres import publication_rules, publication_sql, simple_query
from pgshapes.postgres.connection import Connection, ConnectionPool
from pgshapes.postgres.publication_sql import LOCK_BUDGET_MS, TableState
from pgshapes.postgres.refusals import NamedTable, TableName, known_refusal, refuse_snapshot, refuse_table
from pgshapes.postgres.sqlstate import OPERATOR, from_sqlstate
from pgshapes.waiting.batch import BatchQueue
from pgshapes.waiting.single_flight import SharedLookUps

WRITERS_TIMEOUT_S: Final = 600.0
"""How long a creation waits for transactions that wrote to the table before."""

VACUUM_LOCK_TIMEOUT_MS: Final = 500
"""In addition to `deadlock_timeout`, after which Postgres cancels an autovacuum that blocks us."""

_TRANSACTION_TIMEOUT_S: Final = 1.0
"""In addition to the time for its locks: then the server does not answer."""

_SETTLED: Final = 4096
"""Bounds the memory; what is forgotten is settled again."""
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 1.0
_COLLISIONS: Final = frozenset({"55P03", "40P01", "57014", "42710", "42704", "23505"})
"""lock_not_available, deadlock_detected, query_canceled; duplicate_object, undefined_object, unique_violation
after a concurrent change of the publication."""


class PublicationMembership(NamedTuple):
    """How a table is published; a different `version` means that changes may have been missed."""

    relation_oid: int
    version: str
    """As `relation_sql.membership` returns it."""


class Blocker(NamedTuple):
    """A holder of a lock that conflicts with ours."""

    pid: int | None
    """None for a prepared transaction."""
    age_s: float | None
    """Age of its transaction."""
    is_autovacuum: bool
    table: str
    """Qualified name of the table that it has locked."""


OnWaiting = Callable[[list[Blocker]], None]


class Publication:
    """One publication; with `is_manual` it is never altered."""

    def __init__(self, name: str, pool: ConnectionPool, *, is_manual: bool = False) -> None:
        self.name = name
        self._pool = pool
        self._is_manual = is_manual
        self._states = BatchQueue(self._read_states)
        self._alterations = SharedLookUps(self._make_ready, keep=False, failure_ttl_s=0.0)
        self._writers = SharedLookUps(self._wait_for_writers, keep=False, failure_ttl_s=0.0)
        self._settled: dict[int, str] = {}
        """Versions of memberships, by table."""
        self._locks: dict[int, asyncio.Lock] = {}
        self._listeners: dict[int, set[OnWaiting]] = {}
        self.attempts = 0
        """Number of transactions attempted to make a table ready."""

    @property
    def state_reads(self) -> int:
        """Number of queries for table states; concurrent requests share one."""
        return self._states.begun

    @property
    def waiting_tables(self) -> int:
        """Number of tables that are being made ready."""
        return self._alterations.in_flight

    async def exists(self) -> bool:
        """Whether there is the publication. Raises NotNow, SourceError."""
        return await self._find() is not None

    async def prepare(self) -> bool:
        """Create the publication if it does not exist; True if it was created.

        One of ours that exists gets the stored generated columns of its tables: without them, UPDATE and
        DELETE fail on each table that gets one. Raises SourceError if it cannot be created.
        """
        try:
            lacks_generated = await self._find()
            if lacks_generated is not None:
                if lacks_generated and not self._is_manual:
                    await self._attempt(publication_sql.publish_generated(self.name), None)
                return False
            if self._is_manual:
                text = f'Publication "{self.name}" not found in the database'
                raise SourceError(text, action=OPERATOR)
            async with self._pool.connection() as db:
                sql = publication_sql.create_publication(self.name, db.info.server_version)
                await simple_query.run(db, sql)
        except psycopg.errors.DuplicateObject:
            return False
        except psycopg.Error as error:
            raise from_sqlstate(error) from error
        return True

    async def ensure_table(
        self,
        relation: Relation,
        *,
        timeout_s: float = WRITERS_TIMEOUT_S,
        on_waiting: OnWaiting | None = None,
    ) -> PublicationMembership:
        """Publish the table and set REPLICA IDENTITY FULL; waits for transactions that wrote to it before.

        `on_waiting` is called with the transactions that block it. Raises RequestError (the table cannot be
        followed with this publication, or our role may not alter it), NotNow (no publication, or timeout),
        SchemaChanged (the table is not the same), SourceError.
        """
        callback = on_waiting or (lambda _blockers: None)
        listeners = self._listeners.setdefault(relation.oid, set())
        listeners.add(callback)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._ensure_table(relation)
        except TimeoutError:
            raise known_refusal("Snapshot timed out while waiting for a table lock") from None
        finally:
            listeners.discard(callback)
            if not listeners:
                self._listeners.pop(relation.oid, None)

    async def drop_table(
        self, relation: Relation, *, is_wanted: Callable[[], bool] = lambda: False, is_forced: bool = False
    ) -> bool:
        """Remove the table from the publication, unless `is_wanted()` is true once it is locked.

        A table that is not ours stays unless `is_forced`: somebody else has added it, and we could not.

        True if nothing is left to do; False if another transaction holds a lock on the table: the caller must
        try again later. Raises SourceError.
        """
        async with self._lock(relation.oid):
            state = await self._state(relation.oid)
            may_alter = state.is_publication_ours and not self._is_manual
            if is_wanted() or not may_alter:
                return True
            if not state.is_listed or state.schema is None or not (state.is_ours or is_forced):
                return True
            transaction = publication_sql.drop_from_publication(state, self.name)
            return await self._attempt(transaction, relation)

    def note_settled(self, membership: PublicationMembership) -> None:
        """Note that no transaction has written to a table both before and since it is published so."""
        self._settled.pop(membership.relation_oid, None)
        self._settled[membership.relation_oid] = membership.version
        if len(self._settled) > _SETTLED:
            del self._settled[next(iter(self._settled))]

    def unsettle(self, oid: int) -> None:
        """Let the next `ensure_table` wait for the transactions that have written to the table until then."""
        self._settled.pop(oid, None)

    async def close(self) -> None:
        """Cancel running alterations and waits for writers."""
        await self._alterations.close()
        await self._writers.close()

    async def _ensure_table(self, relation: Relation) -> PublicationMembership:
        while True:
            await self._wait_for_drop(relation.oid)
            state = await self._state(relation.oid)
            publication_rules.check_table(state, relation)
            publication_rules.check_exists(state, self.name)
            obstacle = publication_rules.find_publication_obstacle(
                state, self.name, is_manual=self._is_manual
            )
            if obstacle is not None:
                raise refuse_table(relation, obstacle)
            if state.membership is not None and state.is_ready:
                membership = PublicationMembership(relation.oid, state.membership)
                if self._settled.get(relation.oid) != membership.version:
                    await self._writers.get(membership)
                return membership
            await self._alterations.get(relation.oid)

    async def _wait_for_drop(self, oid: int) -> None:
        """Wait for a running drop, which began before this caller's shape was known."""
        async with self._lock(oid):
            pass

    async def _wait_for_writers(self, membership: PublicationMembership) -> None:
        """Wait until the transactions have ended that had written to the table before it was published so,
        as far as they are open now. Nobody is blocked.
        """
        oid, pause_s = membership.relation_oid, _FIRST_PAUSE_S
        writers = await self._find_writers(oid)
        while writers:
            for callback in tuple(self._listeners.get(oid, ())):
                callback(list(writers.values()))
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            still_open = await self._find_writers(oid)
            writers = {each: still_open[each] for each in writers if each in still_open}
        self.note_settled(membership)

    async def _find_writers(self, oid: int) -> dict[str, Blocker]:
        """The open transactions that may have written to a table, by virtual transaction id."""
        async with self._connection() as db:
            rows = await (await db.execute(publication_sql.WRITERS.encode(), (oid,))).fetchall()
        return {row[0]: Blocker(*row[1:]) for row in rows}

    async def _make_ready(self, oid: int) -> None:
        """Retry until what was missing is altered, or the table does not exist."""
        pause_s = _FIRST_PAUSE_S
        while not await self._try_to_make_ready(oid):
            blockers, deadlock_timeout_ms = await self._find_blockers(oid)
            for callback in tuple(self._listeners.get(oid, ())):
                callback(blockers)
            for table in vacuumed_tables(blockers):
                timeout_ms = deadlock_timeout_ms + VACUUM_LOCK_TIMEOUT_MS
                await self._attempt(publication_sql.interrupt_vacuum(table, timeout_ms), None, timeout_ms)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _try_to_make_ready(self, oid: int) -> bool:
        """False if a transaction was blocked. What was altered until then stays altered."""
        async with self._lock(oid):
            self.attempts += 1
            state = await self._state(oid)
            if state.schema is None or not state.has_publication:
                return True
            table = TableName(state.schema, state.name or "", state.role)
            for transaction in publication_sql.alterations(state, self.name):
                if not await self._attempt(transaction, table):
                    return False
            return True

    async def _attempt(
        self,
        transaction: str,
        table: NamedTable | None,
        lock_timeout_ms: int = LOCK_BUDGET_MS,
    ) -> bool:
        """Run a transaction about `table`; False if it was blocked, in which case it changed nothing."""
        async with self._connection() as db:
            try:
                async with asyncio.timeout(_TRANSACTION_TIMEOUT_S + lock_timeout_ms / 1000):
                    await simple_query.run(db, transaction)
            except TimeoutError:
                return False
            except psycopg.Error as error:
                if _is_collision(error):
                    return False
                raise refuse_snapshot(error, table) from error
            finally:
                if db.pgconn.transaction_status == pq.TransactionStatus.INERROR:
                    await simple_query.run(db, "ROLLBACK")
        return True

    async def _find_blockers(self, oid: int) -> tuple[list[Blocker], int]:
        state = await self._state(oid)
        async with self._connection() as db:
            arguments = (bool(state.not_full), oid)
            rows = await (await db.execute(publication_sql.BLOCKERS.encode(), arguments)).fetchall()
            timeout = await (await db.execute(publication_sql.DEADLOCK_TIMEOUT_MS.encode())).fetchone()
        return [Blocker(*row) for row in rows], timeout[0] if timeout else 0

    async def _state(self, oid: int) -> TableState:
        state = await self._states.request(oid)
        if state is None:
            raise SchemaChanged(f"there is no table with the oid {oid}")
        return state

    async def _read_states(self, oids: tuple[int, ...]) -> dict[int, TableState]:
        async with self._connection() as db:
            sql = publication_sql.table_states(db.info.server_version).encode()
            rows = await (await db.execute(sql, (list(oids), self.name))).fetchall()
        return {row[0]: publication_sql.state_from_row(row) for row in rows}

    async def _find(self) -> bool | None:
        """Whether the publication is ours and lacks generated columns; None if it does not exist."""
        async with self._connection() as db:
            cursor = await db.execute(publication_sql.PUBLICATION.encode(), (self.name,))
            found = await cursor.fetchone()
        return None if found is None else bool(found[0])

    def _lock(self, oid: int) -> asyncio.Lock:
        return self._locks.setdefault(oid, asyncio.Lock())

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with self._pool.connection() as db:
                yield db
        except (SourceError, psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise refuse_snapshot(error) from error


def vacuumed_tables(blockers: list[Blocker]) -> set[str]:
    """The tables that only an autovacuum has locked."""
    tables = {blocker.table for blocker in blockers if blocker.is_autovacuum}
    return tables - {blocker.table for blocker in blockers if not blocker.is_autovacuum}


def _is_collision(error: psycopg.Error) -> bool:
    return error.sqlstate in _COLLISIONS or "tuple concurrently" in str(error)

"""Manages the tables of the publication.

Each table is added in a transaction of its own. A request that waits for a locked table waits outside any
transaction and without a connection. Not here: the SQL and why its order is correct (`publication_sql`),
which shapes need a table (`owner`). Invariant: when `ensure_table` returns, the stream contains all changes
of every transaction that writes to the table later, or that wrote to it and is still open. State: this object
owns running alterations; everything else is in Postgres.
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
from pgshapes.postgres import publication_sql, simple_query
from pgshapes.postgres.connection import Connection, ConnectionPool
from pgshapes.postgres.publication_sql import TableState
from pgshapes.postgres.refusals import known_refusal, refuse_snapshot
from pgshapes.postgres.sqlstate import OPERATOR, from_sqlstate
from pgshapes.waiting.batch import BatchQueue
from pgshapes.waiting.single_flight import SharedLookUps

WRITERS_TIMEOUT_S: Final = 600.0
"""How long a creation waits for transactions that wrote to the table before."""

LOCK_TIMEOUT_MS: Final = 200
"""Short, because requests for the table's lock that arrive later queue behind ours."""

VACUUM_LOCK_TIMEOUT_MS: Final = 500
"""In addition to `deadlock_timeout`, after which Postgres cancels an autovacuum that blocks us."""

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


OnWaiting = Callable[[list[Blocker]], None]


class Publication:
    """One publication; with `is_manual` it is never altered."""

    def __init__(self, name: str, pool: ConnectionPool, *, is_manual: bool = False) -> None:
        self.name = name
        self._pool = pool
        self._is_manual = is_manual
        self._states = BatchQueue(self._read_states)
        self._alterations = SharedLookUps(self._make_ready, keep=False, failure_ttl_s=0.0)
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

    async def prepare(self) -> bool:
        """Create the publication if it does not exist; True if it was created.

        Raises SourceError if it cannot be created.
        """
        if await self._exists():
            return False
        if self._is_manual:
            raise SourceError(f'Publication "{self.name}" not found in the database', action=OPERATOR)
        try:
            async with self._pool.connection() as db:
                sql = publication_sql.create_publication(self.name, db.info.server_version)
                await db.execute(publication_sql.in_transaction(sql).encode())
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
        needs_generated: bool = False,
    ) -> PublicationMembership:
        """Publish the table and set REPLICA IDENTITY FULL; waits for transactions that wrote to it before.

        `on_waiting` is called with the transactions that block it. Raises NotNow (the publication is not
        usable, or timeout), SchemaChanged (the table is not the same), SourceError.
        """
        callback = on_waiting or (lambda _blockers: None)
        listeners = self._listeners.setdefault(relation.oid, set())
        listeners.add(callback)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._ensure_table(relation, needs_generated)
        except TimeoutError:
            raise known_refusal("Snapshot timed out while waiting for a table lock") from None
        finally:
            listeners.discard(callback)
            if not listeners:
                self._listeners.pop(relation.oid, None)

    async def drop_table(self, relation: Relation, *, is_wanted: Callable[[], bool] = lambda: False) -> bool:
        """Remove the table from the publication, unless `is_wanted()` is true once it is locked.

        True if the table is removed; False also if another transaction holds a lock on it: the caller must
        try again later. Raises SourceError.
        """
        async with self._lock(relation.oid):
            state = await self._state(relation.oid)
            may_alter = state.is_publication_ours and not self._is_manual
            if is_wanted() or not may_alter:
                return False
            if state.membership is None or state.schema is None:
                return True
            transaction = publication_sql.drop_from_publication(state, self.name, LOCK_TIMEOUT_MS)
            return await self._attempt(transaction, _transaction_timeout_s(LOCK_TIMEOUT_MS, 1))

    async def close(self) -> None:
        """Cancel running alterations."""
        await self._alterations.close()

    async def _ensure_table(self, relation: Relation, needs_generated: bool) -> PublicationMembership:
        while True:
            await self._wait_for_drop(relation.oid)
            state = await self._state(relation.oid)
            publication_sql.check_table(state, relation)
            publication_sql.check_publication(state, self.name, needs_generated=needs_generated)
            if state.membership is not None and state.is_ready:
                return PublicationMembership(relation.oid, state.membership)
            refused = publication_sql.alteration_refusal(state, self.name, is_manual=self._is_manual)
            if refused is not None:
                raise refused
            await self._alterations.get(relation.oid)

    async def _wait_for_drop(self, oid: int) -> None:
        """Wait for a running drop, which began before this caller's shape was known."""
        async with self._lock(oid):
            pass

    async def _make_ready(self, oid: int) -> None:
        """Retry until the table is ready or does not exist."""
        pause_s, lock_timeout_ms = _FIRST_PAUSE_S, LOCK_TIMEOUT_MS
        while not await self._try_to_make_ready(oid, lock_timeout_ms):
            blockers, deadlock_timeout_ms = await self._find_blockers(oid)
            lock_timeout_ms = next_lock_timeout_ms(blockers, deadlock_timeout_ms)
            for callback in tuple(self._listeners.get(oid, ())):
                callback(blockers)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _try_to_make_ready(self, oid: int, lock_timeout_ms: int) -> bool:
        async with self._lock(oid):
            state = await self._state(oid)
            if state.is_ready or state.schema is None:
                return True
            self.attempts += 1
            transaction = publication_sql.make_ready(state, self.name, lock_timeout_ms)
            return await self._attempt(
                transaction, _transaction_timeout_s(lock_timeout_ms, len(state.not_full))
            )

    async def _attempt(self, transaction: str, timeout_s: float) -> bool:
        """Run a transaction; False if it was blocked, in which case it changed nothing."""
        async with self._connection() as db:
            try:
                async with asyncio.timeout(timeout_s):
                    await simple_query.run(db, transaction)
            except TimeoutError:
                return False
            except psycopg.Error as error:
                if _is_collision(error):
                    return False
                raise refuse_snapshot(error) from error
            finally:
                if db.pgconn.transaction_status == pq.TransactionStatus.INERROR:
                    await simple_query.run(db, "ROLLBACK")
        return True

    async def _find_blockers(self, oid: int) -> tuple[list[Blocker], int]:
        async with self._connection() as db:
            rows = await (await db.execute(publication_sql.BLOCKERS.encode(), (oid,))).fetchall()
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

    async def _exists(self) -> bool:
        async with self._connection() as db:
            found = await db.execute("SELECT FROM pg_catalog.pg_publication WHERE pubname = %s", (self.name,))
            return await found.fetchone() is not None

    def _lock(self, oid: int) -> asyncio.Lock:
        return self._locks.setdefault(oid, asyncio.Lock())

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with self._pool.connection() as db:
                yield db
        except (SourceError, psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise refuse_snapshot(error) from error


def next_lock_timeout_ms(blockers: list[Blocker], deadlock_timeout_ms: int) -> int:
    """The `lock_timeout` of the next attempt: longer if only an autovacuum blocks us.

    Postgres cancels an autovacuum only for a request that has waited for `deadlock_timeout`.
    """
    if blockers and all(blocker.is_autovacuum for blocker in blockers):
        return deadlock_timeout_ms + VACUUM_LOCK_TIMEOUT_MS
    return LOCK_TIMEOUT_MS


def _transaction_timeout_s(lock_timeout_ms: int, alterations: int) -> float:
    """Timeout for the transaction, which waits for each of its locks while it holds the others."""
    return 1.0 + lock_timeout_ms / 1000 + 0.005 * alterations


def _is_collision(error: psycopg.Error) -> bool:
    return error.sqlstate in _COLLISIONS or "tuple concurrently" in str(error)

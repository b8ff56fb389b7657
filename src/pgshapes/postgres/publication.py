"""The publication that our slot reads: which tables are in it, and the way a table gets in without losing a
row.

One transaction per table and never one for all; who waits for a busy table waits outside any transaction and
without a connection. Not here: the SQL and the proof of its order (`publication_sql`), which shapes want a
table (`owner`). Invariant: when `ensure_table` returns, every transaction that writes to the table
from now on, and every one that did and is still open, is told by the log in full. State: alterations under
way belong to this object; Postgres owns the rest.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable
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
"""For how long a creation waits for old writers."""

LOCK_TIMEOUT_MS: Final = 200
"""No request of ours stands in a table's queue for longer: whoever comes after it waits for it."""

VACUUM_LOCK_TIMEOUT_MS: Final = 500
"""On top of `deadlock_timeout`, after which Postgres takes the table from an autovacuum that we wait for."""

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 1.0
_COLLISIONS: Final = frozenset({"55P03", "40P01", "57014", "42710", "42704", "23505"})
"""Lock or statement took too long, deadlock; a member already, a member no more, catalogue row taken."""


class PublicationMembership(NamedTuple):
    """That a table is published, and by which row: a new row means that changes were missed in between."""

    relation_oid: int
    row_oid: int


class Blocker(NamedTuple):
    """Who holds a lock that keeps ours away."""

    pid: int | None
    """None for a prepared transaction."""
    age_s: float | None
    """Of its transaction."""
    is_autovacuum: bool


OnWaiting = Callable[[list[Blocker]], None]


class Publication:
    """One publication; with `is_manual` it is only looked at, never altered."""

    def __init__(self, name: str, pool: ConnectionPool, *, is_manual: bool = False) -> None:
        self.name = name
        self._pool = pool
        self._is_manual = is_manual
        self._states = BatchQueue(self._read_states)
        self._alterations = SharedLookUps(self._make_ready, keep=False, failure_ttl_s=0.0)
        self._locks: dict[int, asyncio.Lock] = {}
        self._listeners: dict[int, set[OnWaiting]] = {}
        self.attempts = 0
        """Transactions tried so far to make a table ready."""

    @property
    def state_reads(self) -> int:
        """How often the catalogue was read for all who asked."""
        return self._states.begun

    @property
    def waiting_tables(self) -> int:
        """How many tables are being made ready."""
        return self._alterations.in_flight

    async def prepare(self) -> bool:
        """Create the publication unless it is there; True when it had to be created.

        Raises SourceError when it is not there and cannot be created.
        """
        if await self._exists():
            return False
        if self._is_manual:
            raise SourceError(f'Publication "{self.name}" not found in the database', action=OPERATOR)
        try:
            async with self._pool.connection() as db:
                sql = publication_sql.create_publication(self.name, db.info.server_version)
                await db.execute(sql.encode())
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
        """Have the table published and its old rows logged; waits for its old writers and tells `on_waiting`
        of them.

        Raises NotNow (the publication is not what we need, or time is up), SchemaChanged (the table is
        another), SourceError.
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
        """Take the table out, unless `is_wanted` says otherwise when its turn has come. True when it is out.

        False also when somebody holds the table: it stays in until the next time. Raises SourceError.
        """
        async with self._lock(relation.oid):
            state = await self._state(relation.oid)
            may_alter = state.is_publication_ours and not self._is_manual
            if is_wanted() or not may_alter:
                return False
            if state.row_oid is None or state.schema is None:
                return True
            transaction = publication_sql.drop_from_publication(state, self.name, LOCK_TIMEOUT_MS)
            return await self._attempt(transaction, _transaction_timeout_s(LOCK_TIMEOUT_MS, 1))

    async def close(self) -> None:
        """Give up what is under way."""
        await self._alterations.close()

    async def membership_row_oids(self, relation_oids: Iterable[int]) -> dict[int, int]:
        """For each table that is published now, the oid of its membership row. Raises NotNow, SourceError."""
        states = await self._read_states(tuple(relation_oids))
        return {oid: state.row_oid for oid, state in states.items() if state.row_oid is not None}

    async def _ensure_table(self, relation: Relation, needs_generated: bool) -> PublicationMembership:
        while True:
            await self._wait_for_drop(relation.oid)
            state = await self._state(relation.oid)
            publication_sql.check_table(state, relation)
            publication_sql.check_publication(state, self.name, needs_generated=needs_generated)
            if state.row_oid is not None and state.is_ready:
                return PublicationMembership(relation.oid, state.row_oid)
            refused = publication_sql.alteration_refusal(state, self.name, is_manual=self._is_manual)
            if refused is not None:
                raise refused
            await self._alterations.get(relation.oid)

    async def _wait_for_drop(self, oid: int) -> None:
        """Let a drop end that was decided before this caller's shape was known; later ones know that it is
        wanted.
        """
        async with self._lock(oid):
            pass

    async def _make_ready(self, oid: int) -> None:
        """Try until the table has been made ready, or nothing is left to do for it."""
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
        """Run a transaction; False when somebody was in the way, in which case nothing is changed."""
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
            sql = publication_sql.TABLE_STATES.encode()
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
    """For how long the next attempt may wait for a lock: an autovacuum gives way to nobody who leaves before
    `deadlock_timeout`; writers leave by themselves.
    """
    if blockers and all(blocker.is_autovacuum for blocker in blockers):
        return deadlock_timeout_ms + VACUUM_LOCK_TIMEOUT_MS
    return LOCK_TIMEOUT_MS


def _transaction_timeout_s(lock_timeout_ms: int, alterations: int) -> float:
    """For the whole transaction: it waits for each of its locks, and holds those that it has."""
    return 1.0 + lock_timeout_ms / 1000 + 0.005 * alterations


def _is_collision(error: psycopg.Error) -> bool:
    return error.sqlstate in _COLLISIONS or "tuple concurrently" in str(error)

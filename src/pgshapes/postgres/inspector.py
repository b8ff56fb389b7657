"""Looks up tables and result types in the system catalogs, once for concurrent requests.

Not here: how requests share a look-up (`waiting`), the SQL (`relation_sql`), whether a clause is allowed
(`where`). Invariant: a cached result was read after the last `clean` that concerned it. State: the inspector,
in the owner, owns the cached results; it borrows connections from the given pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final, TypeVar

import psycopg

from pgshapes.errors import UNVERIFIED_TEXT, NotNow, PgShapesError, RequestError, SourceError
from pgshapes.model.quoting import qualified_name
from pgshapes.model.relation import Relation
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.postgres import simple_query
from pgshapes.postgres.connection import Connection, ConnectionPool, PoolTimeout
from pgshapes.postgres.relation_sql import (
    ANCESTORS,
    EXISTING,
    LEAVES,
    RELATION_BY_NAME,
    RELATION_BY_OID,
    TABLE_SIZE,
    RelationStamp,
    relation_from_row,
    stamps,
)
from pgshapes.postgres.snapshot import CURRENT_SNAPSHOT, parse_visibility
from pgshapes.postgres.sqlstate import from_sqlstate
from pgshapes.redaction import redaction
from pgshapes.waiting.batch import BatchQueue
from pgshapes.waiting.single_flight import SharedLookUps

R = TypeVar("R")

DATABASE_TIMEOUT_S: Final = 5.0
"""As in Electric; shorter than the timeout of its clients."""

_CLIENT_FAULTS: Final = ("0A", "22", "2F", "38", "42", "54")
"""SQLSTATE classes of errors that a clause can cause: not supported, data, routines, syntax and access,
limits.
"""


_SIZE_LOCK_TIMEOUT_MS: Final = 200


class Inspector:
    """Looks up tables; one object per owner."""

    def __init__(
        self,
        pool: ConnectionPool,
        *,
        timeout_s: float = DATABASE_TIMEOUT_S,
        failure_ttl_s: float = 1.0,
    ) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._by_name = SharedLookUps(self._look_up_name, failure_ttl_s=failure_ttl_s)
        self._by_oid = SharedLookUps(self._look_up_oid, failure_ttl_s=failure_ttl_s)
        self._leaves = SharedLookUps(self._look_up_leaves, failure_ttl_s=failure_ttl_s)
        self._current = BatchQueue(self._read_stamps)
        self._described = SharedLookUps(self._describe, keep=False, failure_ttl_s=failure_ttl_s)

    @property
    def connections(self) -> int:
        """Maximum number of concurrent look-ups."""
        return self._pool.size

    @property
    def look_ups(self) -> int:
        """Number of look-ups since the start."""
        return sum(kind.made for kind in self._kinds)

    @property
    def shared_look_ups(self) -> int:
        """Number of requests that shared a look-up of an earlier request."""
        return sum(kind.shared for kind in self._kinds)

    async def relation(self, schema: str, name: str) -> Relation:
        """The table of this name. Raises RequestError if there is none, NotNow without a database."""
        return await self._by_name.get((schema, name))

    async def relation_by_oid(self, oid: int) -> Relation | None:
        """The table with this oid or None. Raises NotNow if the database is unavailable."""
        return await self._by_oid.get(oid)

    async def stamps(
        self, oids: Collection[int], publication: str, *, and_published: bool = False
    ) -> dict[int, RelationStamp]:
        """The current stamps of the relations that exist; never cached. Raises NotNow, SourceError.

        `and_published` adds the tables that are listed in the publication.
        """
        return await self._ask(lambda db: _stamps(db, oids, publication, and_published))

    async def is_current(self, relation: Relation) -> bool:
        """Whether a relation is still as it was read; concurrent requests share a query. Raises NotNow,
        SourceError.
        """
        return await self._current.request(relation.oid) == relation.stamp

    async def visibility(self) -> SnapshotVisibility:
        """What a new snapshot sees. Raises NotNow, SourceError."""
        return await self._ask(_visibility)

    async def has_rows(self, oid: int) -> bool:
        """Whether a table has, or had, any rows; True if that is not certain. Raises NotNow, SourceError."""
        return await self._ask(lambda db: _has_rows(db, oid))

    async def leaves(self, root_oid: int) -> tuple[int, ...]:
        """Oids of the leaves of a partitioned table, at any depth; empty for other tables."""
        return await self._leaves.get(root_oid)

    async def ancestors(self, oids: Collection[int]) -> dict[int, tuple[int, ...]]:
        """The partitioned ancestors of each of these relations, as they are now; empty for tables that are no
        partitions. Raises NotNow, SourceError.
        """
        return await self._ask(lambda db: _ancestors(db, oids))

    async def existing(self, oids: Collection[int]) -> set[int]:
        """Those of these relations that exist. Raises NotNow, SourceError."""
        return await self._ask(lambda db: _existing(db, oids))

    async def describe(self, sql: str) -> tuple[int, ...]:
        """Type oids of the result columns of `sql`, which is parsed and never executed.

        Raises RequestError about `where` with the server's message; its `details` are `sqlstate` and
        `position`, the 1-based character in `sql` or None.
        """
        return await self._described.get(sql)

    def clean(self, oid: int | None) -> None:
        """Remove a table (None: everything) from the cache. Results of running look-ups are not cached."""
        self._by_name.forget(None if oid is None else lambda _, relation: relation.oid == oid)
        self._by_oid.forget(None if oid is None else lambda kept, _: kept == oid)
        self.forget_partitions()

    def forget_partitions(self) -> None:
        """Remove partition trees from the cache: attaching and detaching send no notification."""
        self._leaves.forget()

    async def close(self) -> None:
        """Cancel running look-ups. Does not close the pool."""
        for kind in self._kinds:
            await kind.close()

    @property
    def _kinds(self) -> tuple[SharedLookUps, ...]:  # type: ignore[type-arg]
        return (self._by_name, self._by_oid, self._leaves, self._described)

    async def _look_up_name(self, name: tuple[str, str]) -> Relation:
        found = await self._ask(lambda db: _one_relation(db, RELATION_BY_NAME, name))
        if found is None:
            raise RequestError.field("table", _no_such_table(*name))
        return found

    async def _look_up_oid(self, oid: int) -> Relation | None:
        return await self._ask(lambda db: _one_relation(db, RELATION_BY_OID, (oid,)))

    async def _look_up_leaves(self, root_oid: int) -> tuple[int, ...]:
        return await self._ask(lambda db: _oids(db, LEAVES, root_oid))

    async def _describe(self, sql: str) -> tuple[int, ...]:
        return await self._ask(lambda db: _result_types(db, sql))

    async def _read_stamps(self, oids: tuple[int, ...]) -> dict[int, str]:
        stamps = await self.stamps(oids, "")
        return {oid: one.stamp for oid, one in stamps.items()}

    async def _ask(self, question: Callable[[Connection], Awaitable[R]]) -> R:
        try:
            async with asyncio.timeout(self._timeout_s), self._pool.connection() as db:
                return await question(db)
        except (TimeoutError, PoolTimeout, psycopg.InterfaceError) as error:
            raise NotNow(UNVERIFIED_TEXT) from error
        except SourceError as error:
            raise NotNow(UNVERIFIED_TEXT) from error
        except psycopg.Error as error:
            raise _refusal(error) from error


async def _one_relation(db: Connection, sql: str, arguments: tuple[object, ...]) -> Relation | None:
    row = await (await db.execute(sql.encode(), arguments)).fetchone()
    return None if row is None else relation_from_row(row)


async def _visibility(db: Connection) -> SnapshotVisibility:
    row = await (await db.execute(CURRENT_SNAPSHOT.encode())).fetchone()
    assert row is not None
    return parse_visibility(*row)


async def _ancestors(db: Connection, oids: Collection[int]) -> dict[int, tuple[int, ...]]:
    rows = await (await db.execute(ANCESTORS.encode(), (list(oids),))).fetchall()
    return {oid: tuple(above or ()) for oid, above in rows}


async def _stamps(
    db: Connection, oids: Collection[int], publication: str, and_published: bool
) -> dict[int, RelationStamp]:
    sql = stamps(db.info.server_version).encode()
    arguments = (list(oids), and_published, publication, publication)
    # Planning takes longer than execution for a few tables.
    rows = await (await db.execute(sql, arguments, prepare=True)).fetchall()
    return {oid: RelationStamp(*stamp) for oid, *stamp in rows}


async def _has_rows(db: Connection, oid: int) -> bool:
    """A table without a file page has never had a row since it was created or truncated."""
    try:
        async with db.transaction():
            await db.execute(f"SET LOCAL lock_timeout = {_SIZE_LOCK_TIMEOUT_MS}".encode())
            row = await (await db.execute(TABLE_SIZE.encode(), (oid,))).fetchone()
    except psycopg.errors.LockNotAvailable:
        return True
    return row is None or row[0] != 0


async def _oids(db: Connection, sql: str, oid: int) -> tuple[int, ...]:
    rows = await (await db.execute(sql.encode(), (oid,))).fetchall()
    return tuple(row[0] for row in rows)


async def _existing(db: Connection, oids: Collection[int]) -> set[int]:
    rows = await (await db.execute(EXISTING.encode(), (list(oids),))).fetchall()
    return {oid for (oid,) in rows}


async def _result_types(db: Connection, sql: str) -> tuple[int, ...]:
    try:
        described = await simple_query.describe(db, sql)
    except psycopg.Error as error:
        if (error.sqlstate or "")[:2] in _CLIENT_FAULTS:
            raise _clause_error(error) from error
        raise
    return tuple(described.ftype(index) for index in range(described.nfields))


def _clause_error(error: psycopg.Error) -> RequestError:
    # The clause was parsed and not executed, so this is about the client's own text.
    refused = RequestError.field("where", redaction.redact(error.diag.message_primary or str(error)))
    position = error.diag.statement_position
    refused.details |= {"sqlstate": error.sqlstate, "position": int(position) if position else None}
    return refused


def _refusal(error: psycopg.Error) -> PgShapesError:
    """NotNow for a lost connection and a busy or stopping server; otherwise the error of `from_sqlstate`."""
    if isinstance(error, psycopg.OperationalError):
        return NotNow(UNVERIFIED_TEXT)
    return from_sqlstate(error)


def _no_such_table(schema: str, name: str) -> str:
    return (
        f"Table {qualified_name(schema, name)} does not exist. If the table name contains capitals or special"
        " characters you must quote it."
    )

"""Examines a database: opens its own connections, reads facts, and returns what the checks find.

Changes nothing, in the database or on a connection that a pooler may give to others. A part that cannot be
read becomes a finding; the other parts are checked all the same.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeVar

import psycopg

from pgshapes.doctor.checks import check_database
from pgshapes.doctor.connections import DIRECT, POOLED, check_connections
from pgshapes.doctor.facts import ConnectionFacts, Needs, Pooling
from pgshapes.doctor.finding import Finding, fails, warns
from pgshapes.doctor.tables import check_tables
from pgshapes.errors import SourceError
from pgshapes.postgres.connection import Connection, connection_string
from pgshapes.postgres.database_url import failure_to_connect
from pgshapes.postgres.doctor_facts import read_facts
from pgshapes.postgres.doctor_tables import read_tables
from pgshapes.postgres.sqlstate import from_sqlstate
from pgshapes.waiting.background import begin, holds_nothing

READ_TIMEOUT_S: Final = 30.0
TABLES_TIMEOUT_S: Final = 300.0
"""A table takes about 1 ms, a slow network more."""
_POOLER_TIMEOUT_S: Final = 3.0
"""After this a query that the server itself answers at once is waiting for a connection of a pooler."""
_APPLICATION: Final = "pgshapes doctor"
_CHECKED_MODES: Final = ("verify-ca", "verify-full")

_SETTINGS: Final = (
    "SET LOCAL search_path = pg_catalog; SET LOCAL statement_timeout = '30s'; SET LOCAL jit = off"
)
_DATABASE: Final = """
SELECT pg_catalog.pg_postmaster_start_time()::text,
       (SELECT d.oid::int8 FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()),
       pg_catalog.pg_is_in_recovery()"""
_PID: Final = "SELECT pg_catalog.pg_backend_pid()"

_CHECKED_ELSEWHERE: Final = re.compile(r"start WAL sender|replication role|exceeds max_wal_senders")

R = TypeVar("R")


async def examine(url: str, pooled_url: str | None, needs: Needs) -> list[Finding]:
    """Everything that can be found out about the database and the connections to it.

    Raises ConfigError if a URL cannot be read.
    """
    for each in filter(None, (url, pooled_url)):
        connection_string(each)
    async with AsyncExitStack() as stack:
        try:
            db = await stack.enter_async_context(await _connect(url))
        except SourceError as error:
            return [fails(DIRECT, f"cannot be used: {error.message}")]
        found = await _connections(url, pooled_url)
        return found + await _contents(db, needs)


async def examine_database(url: str, needs: Needs) -> list[Finding]:
    """As `examine`, without probing what kinds of connections are possible. Raises SourceError."""
    async with await _connect(url) as db:
        return await _contents(db, needs)


async def _contents(db: Connection, needs: Needs) -> list[Finding]:
    try:
        facts = await _in_transaction(db, lambda: read_facts(db, needs))
    except (psycopg.Error, TimeoutError) as error:
        return [fails("database", f"its system catalogs cannot be read: {_said(error)}")]
    found = check_database(facts, needs)
    try:
        tables = await _in_transaction(db, lambda: read_tables(db, needs), TABLES_TIMEOUT_S)
    except (psycopg.Error, TimeoutError) as error:
        return [*found, fails("tables", f"the system catalogs cannot be read: {_said(error)}")]
    return [*found, *check_tables(tables, needs)]


async def _connections(url: str, pooled_url: str | None) -> list[Finding]:
    try:
        direct = await _examine_url(url, replicates=True)
    except (psycopg.Error, SourceError, TimeoutError) as error:
        return [warns(DIRECT, f"could not be examined: {_said(error)}")]
    if pooled_url is None:
        return list(check_connections(direct, None))
    try:
        pooled = await _examine_url(pooled_url, replicates=False)
    except (psycopg.Error, SourceError, TimeoutError) as error:
        found = list(check_connections(direct, None))
        return [*found, fails(POOLED, f"cannot be used: {_said(error)}")]
    return list(check_connections(direct, pooled))


async def _examine_url(url: str, *, replicates: bool) -> ConnectionFacts:
    async with (
        asyncio.timeout(READ_TIMEOUT_S),
        await _connect(url) as first,
        await _connect(url) as second,
    ):
        facts = _link_facts(first)
        started_at, database_oid, is_standby = await _database(first)
        refusal = await _replication_refusal(url) if replicates else None
        return facts._replace(
            database=(started_at, database_oid),
            is_standby=is_standby,
            replication_refusal=refusal,
            pooling=await _pooling(first, second),
        )


def _link_facts(db: Connection) -> ConnectionFacts:
    """Whether the connection can be read by others."""
    host = db.info.host
    mode, has_root = _ssl_options(db)
    is_encrypted = bool(db.pgconn.ssl_in_use)
    return ConnectionFacts(
        host=f"{host}:{db.info.port}",
        is_local=_is_local(host),
        is_encrypted=is_encrypted,
        is_verified=is_encrypted and (mode in _CHECKED_MODES or has_root),
    )


async def _database(db: Connection) -> tuple[str, int, bool]:
    row = await (await db.execute(_DATABASE.encode())).fetchone()
    return ("", 0, False) if row is None else (row[0], row[1], row[2])


async def _pooling(first: Connection, second: Connection) -> Pooling:
    """What is in between, by whose server processes the two connections use; may close the first.

    A proxy announces a process id of its own at the start of a connection. A pooler in transaction mode gives
    the process of the first connection to the second, or another one to the first. One with a single server
    connection lets one of them wait. No query is cancelled: that would end the connection.
    """
    before = await _pid(first)
    async with _running(_begin(second)) as beginning:
        if not await _ends_in_time(beginning):
            await first.close()
            await beginning
            return Pooling.SESSION
        other = beginning.result()
    async with _running(_pid(first)) as asking:
        has_session = await _ends_in_time(asking)
        await second.execute(b"ROLLBACK")
        after = await asking
    if not has_session or before != after or other in (before, after):
        return Pooling.TRANSACTION
    return Pooling.NONE if first.info.backend_pid == before else Pooling.SESSION


@asynccontextmanager
async def _running(query: Coroutine[Any, Any, int]) -> AsyncIterator[asyncio.Task[int]]:
    """A query under way, which is cancelled if the block ends before it."""
    task = begin(query, at_end=holds_nothing)
    try:
        yield task
    finally:
        task.cancel()


async def _begin(db: Connection) -> int:
    await db.execute(b"BEGIN")
    return await _pid(db)


async def _ends_in_time(task: asyncio.Future[int]) -> bool:
    return bool((await asyncio.wait((task,), timeout=_POOLER_TIMEOUT_S))[0])


async def _pid(db: Connection) -> int:
    row = await (await db.execute(_PID.encode())).fetchone()
    return 0 if row is None else int(row[0])


async def _replication_refusal(url: str) -> str | None:
    """Why a connection for replication is refused; None if it is not.

    None also for a role without the right and for a server without a free walsender: both are checked
    elsewhere. A connection failure has no SQLSTATE.
    """
    try:
        async with await _connect(url, replication="database") as walsender:
            await walsender.execute(b"IDENTIFY_SYSTEM")
    except (psycopg.Error, SourceError) as error:
        said = _said(error)
        # Without libpq's words before it and our advice after it: the finding has its own.
        return None if _CHECKED_ELSEWHERE.search(said) else said.rpartition("FATAL:  ")[2].partition(";")[0]
    return None


async def _connect(url: str, **parameters: str) -> Connection:
    """A connection without any setting of ours, which would stay on a pooler's server connections.

    Raises SourceError.
    """
    text = connection_string(url, application_name=_APPLICATION, **parameters)
    try:
        db = await Connection.connect(text, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        # Not chained: the text of libpq may quote parameters, and a traceback shows the whole chain.
        raise failure_to_connect(error, text) from None
    # With BEGIN READ ONLY; SET TRANSACTION would mark the session.
    await db.set_read_only(True)
    return db


async def _in_transaction(
    db: Connection, read: Callable[[], Awaitable[R]], timeout_s: float = READ_TIMEOUT_S
) -> R:
    async with asyncio.timeout(timeout_s), db.transaction():
        await db.execute(_SETTINGS.encode())
        return await read()


def _ssl_options(db: Connection) -> tuple[str, bool]:
    """The sslmode in use, and whether a file of root certificates was named."""
    options = {option.keyword: option.val for option in db.pgconn.info}
    return (options.get(b"sslmode") or b"").decode(), bool(options.get(b"sslrootcert"))


def _is_local(host: str) -> bool:
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _said(error: psycopg.Error | SourceError | TimeoutError) -> str:
    if isinstance(error, psycopg.Error):
        return from_sqlstate(error).message
    return error.message if isinstance(error, SourceError) else "no answer in time"

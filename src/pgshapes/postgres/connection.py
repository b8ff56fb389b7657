"""Opens and pools connections to the database, with settings that fix the text format of values.

Not here: retries, and the requirements on the server (`system_identity`). The code that opens a connection
owns it. A pool is a bounded set of connections to one database, opened on demand. Invariant: a borrowed
connection is idle, outside any transaction, and used by its borrower only; a connection returned in another
state is closed. Borrowers are served in the order of arrival. State: the pool owns its idle connections.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final

import psycopg
from psycopg import conninfo, pq
from psycopg.abc import ConnParam
from psycopg.rows import TupleRow

from pgshapes.errors import ConfigError
from pgshapes.postgres.sqlstate import from_sqlstate

Connection = psycopg.AsyncConnection[TupleRow]

OLDEST_SERVER: Final = 140000

VALUE_SETTINGS: Final = (
    ("bytea_output", "hex"),
    ("DateStyle", "ISO, DMY"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "1"),
    ("IntervalStyle", "iso_8601"),
)
"""Settings for the text of values (docs/semantics.md). Snapshot and log must use the same ones."""

LONG_LIFE_SETTINGS: Final = (
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("synchronous_commit", "local"),
)
"""Overrides timeouts of the role or the database, which would end connections that wait on purpose.

With `synchronous_commit = local`, commits that alter the publication or a replica identity do not wait for a
standby while they hold locks. If a standby without such a commit is promoted, the timeline changes and all
shapes are recreated.
"""

_CONNECT_TIMEOUT_S: Final = 10
_DEFAULTS: Final[dict[str, ConnParam]] = {
    "connect_timeout": _CONNECT_TIMEOUT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
"""A dead peer is detected within 30 s. Parameters in the URL take precedence."""


def connection_string(url: str, **parameters: str) -> str:
    """The URL with these parameters, as a libpq connection string. Raises ConfigError, without the URL."""
    try:
        given = conninfo.conninfo_to_dict(url)
        wanted = {**_DEFAULTS, **given, "client_encoding": "UTF8", **parameters}
        return conninfo.make_conninfo("", **wanted)
    except psycopg.Error:
        # The message of libpq quotes the invalid part, which may be the password.
        raise ConfigError(
            "DATABASE_URL cannot be read: percent-encode special characters in user and password, as in"
            " postgresql://user:p%40ssword@host:5432/database"
        ) from None


def settings_sql(settings: Iterable[tuple[str, str]], *, local: bool = False) -> str:
    """SET statements; with `local` for the current transaction only, which a transaction pooler allows."""
    verb = "SET LOCAL" if local else "SET"
    return "; ".join(f"{verb} {name} = '{value}'" for name, value in settings)


async def connect(url: str, *, application_name: str = "pgshapes", read_values: bool = True) -> Connection:
    """A new connection in autocommit mode.

    Raises SourceError, and ConfigError for an invalid URL or a server that is too old.
    """
    return await _open(connection_string(url, application_name=application_name), read_values)


async def connect_for_replication(url: str, *, application_name: str = "pgshapes") -> Connection:
    """A walsender connection: for replication commands, and SQL without parameters."""
    parameters = {"application_name": application_name, "replication": "database"}
    return await _open(connection_string(url, **parameters), read_values=True)


async def _open(text: str, read_values: bool) -> Connection:
    settings = LONG_LIFE_SETTINGS + (VALUE_SETTINGS if read_values else ())
    connection: Connection | None = None
    try:
        connection = await psycopg.AsyncConnection.connect(text, autocommit=True)
        _check_version(connection.info.server_version)
        await connection.execute(settings_sql(settings).encode())
    except BaseException as error:
        if connection is not None:
            await connection.close()
        if isinstance(error, psycopg.Error):
            raise from_sqlstate(error) from error
        raise
    return connection


def _check_version(version: int) -> None:
    if version < OLDEST_SERVER:
        raise ConfigError(
            f"Postgres {version // 10000} is too old: use Postgres {OLDEST_SERVER // 10000} or newer"
        )


Connect = Callable[[], Awaitable[Connection]]


class PoolTimeout(Exception):
    """No connection became free before the timeout."""


class ConnectionPool:
    """A pool of at most `size` connections, opened with `connect`."""

    def __init__(self, connect: Connect, size: int) -> None:
        self.size = size
        self._connect = connect
        self._free = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._waiting = 0
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Number of borrowers that wait for a connection."""
        return self._waiting

    @asynccontextmanager
    async def connection(self, timeout_s: float | None = None) -> AsyncIterator[Connection]:
        """Borrow a connection. Raises PoolTimeout if none becomes free, and the errors of `connect`."""
        await self._wait_for_turn(timeout_s)
        try:
            borrowed = self._take_idle() or await self._connect()
            try:
                yield borrowed
            finally:
                await self._take_back(borrowed)
        finally:
            self._free.release()

    async def close(self) -> None:
        """Close idle connections now, and borrowed ones when they are returned."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop().close()

    async def _wait_for_turn(self, timeout_s: float | None) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                await self._free.acquire()
        except TimeoutError:
            raise PoolTimeout from None
        finally:
            self._waiting -= 1

    def _take_idle(self) -> Connection | None:
        while self._idle:
            candidate = self._idle.pop()
            if _is_usable(candidate):
                return candidate
            candidate.pgconn.finish()
        return None

    async def _take_back(self, returned: Connection) -> None:
        if _is_usable(returned) and not self._is_closed:
            self._idle.append(returned)
        else:
            await returned.close()


def _is_usable(connection: Connection) -> bool:
    """Whether the connection is idle and the server has not closed it; checked without a query."""
    if connection.pgconn.transaction_status != pq.TransactionStatus.IDLE:
        return False
    unread = select.poll()
    unread.register(connection.pgconn.socket, select.POLLIN)
    try:
        while unread.poll(0):
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return False
    return True

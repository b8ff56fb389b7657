"""Opens and pools connections to the database: sessions of our own, and shared ones.

A *session of our own* reaches the server itself, which `pooler.require_direct` has checked; it gets its
settings with SET when it is opened. A *shared session* may go through a transaction pooler, whose server
connections are the application's, too: nothing but whole transactions is sent there, and their settings are
made with SET LOCAL (`snapshot.BEGIN`). No statement is prepared under a name there.

Not here: retries, and the requirements on the server (`system_identity`). The code that opens a connection
owns it. A pool is a bounded set of connections to one database, opened on demand. Invariants: a borrowed
connection is idle, outside any transaction, and used by its borrower only; one that is returned in another
state is cleaned by the pool before it is lent again. Returning does not wait, so a borrower that is cancelled
while it returns a connection loses neither the connection nor its place. Borrowers are served in the order of
arrival. When the server of a borrowed connection does not answer, the idle ones that have not heard of it
since are closed, too: the same outage costs one look-up, not one for each connection. State: the pool owns
its connections, borrowed ones until their loan ends excepted.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar

import psycopg
from psycopg import conninfo, pq
from psycopg.abc import ConnParam

from pgshapes.errors import ConfigError
from pgshapes.postgres.backend_activity import activity_check, terminate
from pgshapes.postgres.bounded_connection import BoundedConnection, Connect
from pgshapes.postgres.database_url import failure_to_connect, libpq_parameters
from pgshapes.postgres.session_settings import VALUE_SETTINGS, Setting, long_life_settings, settings_sql
from pgshapes.postgres.sqlstate import from_sqlstate
from pgshapes.waiting.background import begin
from pgshapes.waiting.notice import Notice

Connection = BoundedConnection

APPLICATION: Final = "pgshapes"
OLDEST_SERVER: Final = 140000

_CONNECT_TIMEOUT_S: Final = 10
_DEFAULTS: Final[dict[str, ConnParam]] = {
    "connect_timeout": _CONNECT_TIMEOUT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""The kernel detects a dead peer within 30 s, which is the second line: behind a proxy the peer lives
(`bounded_connection`). Parameters in the URL take precedence."""


def connection_string(url: str, **parameters: str) -> str:
    """The URL with these parameters, as a libpq connection string. Raises ConfigError, without the URL."""
    wanted = {**_DEFAULTS, **libpq_parameters(url), "client_encoding": "UTF8", **parameters}
    return conninfo.make_conninfo("", **wanted)


class SharedSession(Connection):
    """A connection that may go through a transaction pooler: outside a transaction it takes only the message
    that begins one (`simple_query.run`). psycopg never prepares a statement under a name on it.
    """

    is_pooled = True

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """A cursor of psycopg, inside a transaction only."""
        self.require_allowed("")
        return super().cursor(*args, **kwargs)

    def require_allowed(self, sql: str) -> None:
        """Raise TypeError for what would leave something with a pooler's server connection."""
        is_outside = self.pgconn.transaction_status == pq.TransactionStatus.IDLE
        if is_outside and not sql.startswith("BEGIN"):
            raise TypeError("a shared session takes nothing outside a transaction")

    def reset(self) -> None:
        """Check no more: the next transaction may run in another backend."""
        if self.is_pooled:
            self.check_with(None)


async def connect(url: str, *, application_name: str = APPLICATION, read_values: bool = True) -> Connection:
    """A new session of our own, in autocommit mode; with `read_values` it has VALUE_SETTINGS.

    Without, its search path is the role's, which event triggers may need. Raises SourceError, and ConfigError
    for an invalid URL or a server that is too old.
    """
    session = await _open(Connection, connection_string(url, application_name=application_name))
    _check_activity(session, url, application_name)
    return await _set_up(session, VALUE_SETTINGS if read_values else ())


async def connect_for_replication(url: str, *, application_name: str = APPLICATION) -> Connection:
    """A walsender connection: for replication commands, and SQL without parameters. Raises as `connect`."""
    walsender = await connect_bare_walsender(url, application_name=application_name)
    _check_activity(walsender, url, application_name)
    return await _set_up(walsender, VALUE_SETTINGS)


async def connect_shared(
    url: str, *, application_name: str = APPLICATION, is_pooled: bool = True
) -> SharedSession:
    """A new shared session, on which nothing has been sent; `is_pooled` says whether a pooler may be in
    between. Raises as `connect`.
    """
    session = await _open(SharedSession, connection_string(url, application_name=application_name))
    session.prepare_threshold = None
    session.is_pooled = is_pooled
    if not is_pooled:
        _check_activity(session, url, application_name)
    return session


async def connect_bare_walsender(url: str, *, application_name: str = APPLICATION) -> Connection:
    """A walsender connection, if the server makes it one, on which nothing has been sent. Raises as
    `connect`.
    """
    parameters = {"application_name": application_name, "replication": "database"}
    return await _open(Connection, connection_string(url, **parameters))


def _check_activity(session: Connection, url: str, application_name: str) -> None:
    text = connection_string(url, application_name=f"{APPLICATION} check")
    connect, pid = partial(_open, Connection, text), session.info.backend_pid
    session.check_with(activity_check(connect, pid))
    session.end_session = partial(terminate, connect, pid, application_name)


C = TypeVar("C", bound=Connection)


async def _open(kind: type[C], text: str) -> C:
    try:
        connection = await kind.connect(text, autocommit=True)
    except psycopg.Error as error:
        # Not chained: the text of libpq may quote parameters, and a traceback shows the whole chain.
        raise failure_to_connect(error, text) from None
    try:
        _check_version(connection.info.server_version)
    except ConfigError:
        await connection.close()
        raise
    return connection


async def _set_up(connection: Connection, values: tuple[Setting, ...]) -> Connection:
    """Make the settings of a session of our own; close it if that fails or is cancelled."""
    settings = values + long_life_settings(connection.info.server_version)
    try:
        await connection.execute(settings_sql(settings).encode())
    except BaseException as error:
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


class PoolTimeout(Exception):
    """No connection became free before the timeout."""


class Loan:
    """A borrowed connection and its place in the pool, until `end`."""

    __slots__ = ("_ended", "_take_back", "connection")

    def __init__(self, connection: Connection, take_back: TakeBack) -> None:
        self.connection = connection
        self._take_back = take_back
        self._ended: Notice | None = None

    def end(self, after: asyncio.Task[None] | None = None) -> Notice:
        """Return the connection now; a second call does nothing. Given when the next borrower can have it.

        `after` may still cancel what runs on the connection, which is therefore closed once that has ended.
        """
        if self._ended is None:
            self._ended = self._take_back(self.connection, after) or _AT_ONCE
        return self._ended


TakeBack = Callable[[Connection, asyncio.Task[None] | None], Notice | None]
_AT_ONCE: Final = Notice()
_AT_ONCE.give()


class ConnectionPool:
    """A pool of at most `size` connections, opened with `connect`, which opens others like them, too."""

    def __init__(self, connect: Connect, size: int) -> None:
        self.size = size
        self.connect = connect
        self._free = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._cleaning: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Number of borrowers that wait for a connection."""
        return self._waiting

    @asynccontextmanager
    async def connection(self, timeout_s: float | None = None) -> AsyncIterator[Connection]:
        """Borrow a connection. Raises PoolTimeout if none becomes free, and the errors of `connect`.

        At the end it waits until the connection is clean; whoever does not wait that long still returns it.
        """
        connection = await self._take(timeout_s)
        try:
            yield connection
        finally:
            ended = self._take_back(connection, None)
            if ended is not None:
                await ended

    async def borrow(self, timeout_s: float | None = None) -> Loan:
        """A connection until its loan is ended. Raises as `connection`."""
        return Loan(await self._take(timeout_s), self._take_back)

    async def _take(self, timeout_s: float | None) -> Connection:
        await self._wait_for_turn(timeout_s)
        try:
            return self._take_idle() or await self.connect()
        except BaseException:
            self._free.release()
            raise

    def close_idle(self) -> None:
        """Close idle connections: the server, or the way to it, may be another one now."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.pgconn.finish()

    async def close(self) -> None:
        """Close idle connections now, and borrowed ones when they are returned."""
        self._is_closed = True
        self.close_idle()
        if self._cleaning:
            await asyncio.wait(self._cleaning)

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

    def _take_back(self, returned: Connection, after: asyncio.Task[None] | None) -> Notice | None:
        """Return a connection. The notice is given when the next borrower can have it; None: it can now."""
        if returned.silent_since is not None:
            self._drop_silent(returned.silent_since)
        if after is None:
            is_usable = _is_usable(returned)
            if is_usable or returned.closed:
                self._put_away(returned, is_usable=is_usable)
                return None
        ended = Notice()
        cleaning = begin(_clean(returned, after), at_end=lambda task: self._cleaned(task, returned, ended))
        self._cleaning.add(cleaning)
        return ended

    def _cleaned(self, task: asyncio.Task[None], returned: Connection, ended: Notice) -> None:
        self._cleaning.discard(task)
        self._put_away(returned, is_usable=_is_usable(returned))
        ended.give()

    def _drop_silent(self, since: float) -> None:
        """Close the idle connections that have not heard of the server since then."""
        idle, self._idle = self._idle, []
        for connection in idle:
            if connection.heard_at > since:
                self._idle.append(connection)
            else:
                connection.pgconn.finish()

    def _put_away(self, returned: Connection, *, is_usable: bool) -> None:
        returned.reset()
        if self._is_closed or not is_usable:
            returned.pgconn.finish()
        else:
            self._idle.append(returned)
        self._free.release()


_CLEAN_UP_TIMEOUT_S: Final = 5.0


async def _clean(connection: Connection, after: asyncio.Task[None] | None) -> None:
    """Roll back; cancel a running query and close the connection."""
    connection.reset()
    if after is not None:
        await asyncio.wait((after,))
        await connection.close()
        return
    status = connection.pgconn.transaction_status
    try:
        async with asyncio.timeout(_CLEAN_UP_TIMEOUT_S):
            if status == pq.TransactionStatus.ACTIVE:
                await connection.cancel_safe(timeout=_CLEAN_UP_TIMEOUT_S)
                await connection.close()
            elif status in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR):
                await connection.rollback()
    except (TimeoutError, psycopg.Error):
        await connection.close()


def _is_usable(connection: Connection) -> bool:
    """Whether the connection is idle and the server has not closed it; checked without a query."""
    if connection.closed or connection.pgconn.transaction_status != pq.TransactionStatus.IDLE:
        return False
    unread = select.poll()
    unread.register(connection.pgconn.socket, select.POLLIN)
    try:
        while unread.poll(0):
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return False
    return True

"""Asks the server, on a new connection, whether one of its sessions works for us, or ends it.

A session of ours may be silent for long because its statement takes long: it waits for a lock, or reads a
large table. One that waits for its client instead has nothing to do, or cannot send: then the connection in
between is dead, and so is one whose session does not exist any more. Without any answer the server counts as
dead; one that is full answers. Keeps no state.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

import psycopg

from pgshapes.errors import PgShapesError
from pgshapes.model.quoting import quote_literal
from pgshapes.postgres import simple_query
from pgshapes.postgres.bounded_connection import ActivityCheck, Connect

_REFUSAL: Final = "FATAL:"
"""In libpq's text, if a server has answered: it is full, is starting, or does not accept the password."""
_TIMEOUT_S: Final = 15.0
"""For the connection, which may take 10 s, and the answer."""


def _question(pid: int) -> str:
    """The second result has what the session does, and no row if there is none.

    The wait event of class Client is a wait for input or room to send, Activity is the main loop of a
    walsender (manual: Wait Event Types); one that creates a slot waits for WAL in class Client. `state` is
    null without the right to see it, and `disabled` without `track_activities`.
    """
    return (
        "BEGIN READ ONLY; SELECT CASE WHEN state IS NULL OR state = 'disabled' THEN 'unknown'"
        " WHEN state <> 'active' THEN 'idle'"
        " WHEN wait_event_type IS NULL OR wait_event_type NOT IN ('Client', 'Activity') THEN 'works'"
        " WHEN wait_event ILIKE 'WalSenderWaitForWAL' AND query ILIKE 'CREATE_REPLICATION_SLOT%'"
        " THEN 'works' ELSE 'idle' END"
        f" FROM pg_catalog.pg_stat_activity WHERE pid = {pid}; COMMIT"
    )


_ANSWERS: Final = {b"works": True, b"idle": False, b"unknown": None}


async def is_working(connect: Connect, pid: int) -> bool | None:
    """Whether the session with this process id works on a statement; None if that cannot be known, also if
    the server answers that it accepts no connection.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            async with await connect() as connection:
                _, found, _ = await simple_query.run(connection, _question(pid))
    except PgShapesError as error:
        return None if _REFUSAL in error.message else False
    except (psycopg.Error, TimeoutError):
        return False
    return _ANSWERS[found.get_value(0, 0) or b"unknown"] if found.ntuples else False


async def terminate(connect: Connect, pid: int, application: str) -> None:
    """End a session of ours whose connection is dead: it would keep its lock or its slot until the server
    notices, which may take hours. A failure is left to those who wait for them.
    """
    sql = (
        "BEGIN READ ONLY; SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
        f" WHERE pid = {pid} AND usename = CURRENT_USER AND application_name = {quote_literal(application)};"
        " COMMIT"
    )
    with suppress(PgShapesError, psycopg.Error, TimeoutError):
        async with asyncio.timeout(_TIMEOUT_S), await connect() as connection:
            await simple_query.run(connection, sql)


def activity_check(connect: Connect, pid: int) -> ActivityCheck:
    """A check of the session with this process id, for `BoundedConnection.check_with`."""
    return lambda: is_working(connect, pid)

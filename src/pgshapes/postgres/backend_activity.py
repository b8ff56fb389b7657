"""Asks the server, on a new connection, whether one of its sessions works for us, or ends it.

A session of ours may be silent for long because its statement takes long: it waits for a lock, or reads a
large table. One that waits for its client instead has nothing to do, or cannot send: then the connection in
between is dead, and so is one whose session does not exist any more. Without an answer the server counts as
dead. Keeps no state.
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

_TIMEOUT_S: Final = 15.0
"""For the connection, which may take 10 s, and the answer."""


def _question(pid: int) -> str:
    """The second result has a row if the session works.

    The wait event of class Client is a wait for input or room to send, Activity is the main loop of a
    walsender (manual: Wait Event Types). Without the right to see either, `state` is null.
    """
    return (
        "BEGIN READ ONLY; SELECT 1 FROM pg_catalog.pg_stat_activity"
        f" WHERE pid = {pid} AND state = 'active'"
        " AND (wait_event_type IS NULL OR wait_event_type NOT IN ('Client', 'Activity')); COMMIT"
    )


async def is_working(connect: Connect, pid: int) -> bool:
    """Whether the session with this process id works on a statement."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            async with await connect() as connection:
                _, found, _ = await simple_query.run(connection, _question(pid))
    except (PgShapesError, psycopg.Error, TimeoutError):
        return False
    return found.ntuples > 0


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

"""Finds out that a connection string leads to a connection pooler instead of to the server.

The advisory lock, the settings of a session and the replication stream need the server itself. Checked before
any of them: a lock that was taken through a transaction pooler stays with the pooler's connection, and so do
settings, for the application. Nothing is left on a connection of these checks.
"""

from __future__ import annotations

import asyncio
from typing import Final

import psycopg

from pgshapes.errors import ConfigError, SourceError
from pgshapes.postgres import simple_query
from pgshapes.postgres.connection import SharedSession, connect_bare_walsender, connect_shared
from pgshapes.postgres.sqlstate import from_sqlstate
from pgshapes.postgres.system_identity import identify_system

_PID: Final = "BEGIN READ ONLY; SELECT pg_catalog.pg_backend_pid()"
_TIMEOUT_S: Final = 10.0

_SYNTAX_ERROR: Final = "42601"
"""IDENTIFY_SYSTEM where the parameter `replication` was ignored."""
_REFUSED_PARAMETER: Final = "unsupported startup parameter"
"""Of PgBouncer before 1.23."""

_ADVICE: Final = (
    "DATABASE_URL goes through a connection pooler ({found}): let it point to the Postgres server itself; the"
    " pooler's URL goes into PGSHAPES_POOLED_DATABASE_URL"
)


class ThroughPooler(ConfigError):
    """The URL leads to a pooler."""

    code = "through_pooler"


async def require_direct(url: str) -> None:
    """Raise ThroughPooler if the URL leads to a pooler; SourceError if nothing can be reached there."""
    found = await _sharing(url) or await _walsender_refusal(url)
    if found is not None:
        raise ThroughPooler(_ADVICE.format(found=found))


async def _sharing(url: str) -> str | None:
    """How two connections turn out not to be two sessions of the server; None if they are.

    One asks for its process id, the other keeps a transaction open meanwhile. A pooler in transaction mode
    gives the server connection of the first to the second, or another one to the first when it asks again.
    """
    async with await connect_shared(url) as one, await connect_shared(url) as other:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                first = await _pid(one, ends=True)
                if await _pid(other, ends=False) == first:
                    return f"two connections share the server process {first}"
                second = await _pid(one, ends=True)
                await simple_query.run(other, "ROLLBACK")
        except TimeoutError:
            return None  # a pool in session mode that is too small: what follows fails, too
        except psycopg.Error as error:
            raise from_sqlstate(error) from error
    return None if first == second else f"a connection changed its server process from {first} to {second}"


async def _pid(session: SharedSession, *, ends: bool) -> int:
    results = await simple_query.run(session, f"{_PID}; COMMIT" if ends else _PID)
    return int(results[1].get_value(0, 0) or b"0")


async def _walsender_refusal(url: str) -> str | None:
    """How the other end turns out not to be Postgres: it makes no walsender. Other errors are left to the
    steps that follow.
    """
    try:
        async with await connect_bare_walsender(url) as walsender:
            await identify_system(walsender)
    except SourceError as error:
        if error.sqlstate == _SYNTAX_ERROR or _REFUSED_PARAMETER in error.message:
            return error.message
    return None

"""Why a snapshot could not be made, as clients are told (http-api §6.4). Pure."""

from __future__ import annotations

from typing import Final

import psycopg

from pgshapes.errors import NotNow, PgShapesError, SchemaMoved, SourceError
from pgshapes.postgres.sqlstate import INVALIDATE, RETRY, from_sqlstate

RETRY_AFTER_S: Final = 10

_BY_STATE: Final = {
    "42501": "Unable to create initial snapshot: {said}",
    "55P03": "Snapshot timed out while waiting for a table lock",
}
_CONNECTION_CLASSES: Final = ("08", "53", "57", "58")
"""Connection lost, out of resources, operator intervention, system error: the database is not available now.
"""


def refuse(error: psycopg.Error | SourceError) -> PgShapesError:
    """The refusal for an error of Postgres, or of opening a connection to it."""
    said = error.message if isinstance(error, SourceError) else error.diag.message_primary
    known = _BY_STATE.get(error.sqlstate or "")
    if known is not None:
        return known_refusal(known.format(said=said))
    ours = error if isinstance(error, SourceError) else from_sqlstate(error)
    if ours.action == INVALIDATE:
        return SchemaMoved(ours.message)
    if _is_connection_failure(error):
        return known_refusal("Database connection not available")
    return SourceError(
        f"Unexpected error while creating snapshot: {ours.message}", sqlstate=ours.sqlstate, action=RETRY
    )


def known_refusal(message: str) -> NotNow:
    """503 with the header that says that we know what this is."""
    return NotNow(message, retry_after_s=RETRY_AFTER_S, known=True)


def too_slow(limit_s: float) -> NotNow:
    """The query gave no row in time."""
    return known_refusal(
        f"Snapshot query took too long to return data (cancelled after {round(limit_s * 1000)}ms)."
        " Please ensure snapshot queries are using an index to avoid taking up all database connections."
    )


def queue_too_long() -> NotNow:
    """No connection became free in time."""
    return known_refusal("Snapshot creation failed because of a connection pool queue timeout")


def _is_connection_failure(error: psycopg.Error | SourceError) -> bool:
    if error.sqlstate is None:
        return isinstance(error, SourceError | psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate[:2] in _CONNECTION_CLASSES

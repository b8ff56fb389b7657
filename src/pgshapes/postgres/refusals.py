"""Why a snapshot or a subset snapshot could not be made, as clients are told. Pure.

Invariant: only what the client wrote is the client's fault (400); a fault of the shape, the table or the
server is answered as for a shape's own snapshot.
"""

from __future__ import annotations

from typing import Final

import psycopg

from pgshapes.errors import NotNow, PgShapesError, RequestError, SchemaChanged, SourceError
from pgshapes.postgres.sqlstate import INVALIDATE, RETRY, from_sqlstate

RETRY_AFTER_S: Final = 10

_BY_STATE: Final = {
    "42501": "Unable to create initial snapshot: {said}",
    "55P03": "Snapshot timed out while waiting for a table lock",
}
_CONNECTION_CLASSES: Final = ("08", "53", "57", "58")
"""Connection lost, out of resources, operator intervention, system error: the database is not available now.
"""


def refuse_snapshot(error: psycopg.Error | SourceError) -> PgShapesError:
    """The refusal for an error of Postgres, or of opening a connection to it."""
    said = error.message if isinstance(error, SourceError) else error.diag.message_primary
    known = _BY_STATE.get(error.sqlstate or "")
    if known is not None:
        return known_refusal(known.format(said=said))
    ours = error if isinstance(error, SourceError) else from_sqlstate(error)
    if ours.action == INVALIDATE:
        return SchemaChanged(ours.message)
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


_CLIENT_FAULTS: Final = ("0A", "2F", "38", "42", "54")
"""SQLSTATE classes that a clause can be at fault for: not supported, routines, syntax and access, limits."""
_DATA: Final = "22"
"""Data exceptions: a literal that is not one of the enum's, a division by zero."""
_NO_LONGER_THERE: Final = frozenset({"42703", "42P01", "42704", "3F000"})
"""Undefined column, table, type, schema."""
_NO_ORDERING: Final = "42883"
"""Undefined function: the type of a column to sort by has no order."""
_DENIED: Final = "42501"
_CANCELED: Final = "57014"


def refuse_clause(error: psycopg.Error) -> PgShapesError:
    """For an error of the server when it is asked about the clause."""
    state = error.sqlstate or ""
    if state.startswith(_DATA):
        return _bad_value(error)
    if state.startswith(_CLIENT_FAULTS) and state not in _NO_LONGER_THERE and state != _DENIED:
        return RequestError(errors={"where": [_said(error)]})
    return refuse_subset(error)


def refuse_rows(error: psycopg.Error, *, has_where: bool, has_order: bool) -> PgShapesError:
    """For an error of the query itself, whose clause the server has accepted."""
    state = error.sqlstate or ""
    if state == _NO_ORDERING and has_order:
        return RequestError(errors={"order_by": [_said(error)]})
    if has_where and state.startswith(_DATA):
        return _bad_value(error)
    return refuse_subset(error)


def refuse_subset(error: psycopg.Error | SourceError) -> PgShapesError:
    """For every error of a subset snapshot that is no client's fault."""
    if error.sqlstate == _CANCELED:
        return known_refusal("The subset snapshot took too long; ask for less")
    if error.sqlstate == _DENIED and isinstance(error, psycopg.Error):
        return known_refusal(f"Unable to create subset snapshot: {_said(error)}")
    return refuse_snapshot(error)


def too_many() -> NotNow:
    """More subsets are asked for than can be answered soon."""
    return known_refusal("Too many subset snapshots are waiting for a database connection")


def not_yet_visible() -> NotNow:
    """What the client has seen of the log cannot be seen in the database."""
    return known_refusal("A committed transaction does not become visible (synchronous standby?)")


def too_large(limit_bytes: int) -> RequestError:
    """The rows do not fit."""
    text = f"the rows are more than {limit_bytes} bytes: ask for fewer"
    return RequestError(errors={"limit": [text]})


def _bad_value(error: psycopg.Error) -> RequestError:
    """A plain text, not a list of them, as the original has it."""
    return RequestError(errors={"where": _said(error)})


def _said(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error)

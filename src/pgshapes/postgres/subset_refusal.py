"""Why a subset snapshot could not be made, as clients are told (http-api §7.2). Pure.

Invariant: only what the client wrote is the client's fault (400); whatever the shape, the table or the server
is to blame for is as with a shape's snapshot.
"""

from __future__ import annotations

from typing import Final

import psycopg

from pgshapes.errors import NotNow, PgShapesError, RequestError, SourceError
from pgshapes.postgres import snapshot_refusal

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
    return refuse(error)


def refuse_rows(error: psycopg.Error, *, has_where: bool, has_order: bool) -> PgShapesError:
    """For an error of the query itself, whose clause the server has accepted."""
    state = error.sqlstate or ""
    if state == _NO_ORDERING and has_order:
        return RequestError(errors={"order_by": [_said(error)]})
    if has_where and state.startswith(_DATA):
        return _bad_value(error)
    return refuse(error)


def refuse(error: psycopg.Error | SourceError) -> PgShapesError:
    """For everything that no client is to blame for."""
    if error.sqlstate == _CANCELED:
        return snapshot_refusal.known_refusal("The subset snapshot took too long; ask for less")
    if error.sqlstate == _DENIED and isinstance(error, psycopg.Error):
        return snapshot_refusal.known_refusal(f"Unable to create subset snapshot: {_said(error)}")
    return snapshot_refusal.refuse(error)


def too_many() -> NotNow:
    """More subsets are asked for than can be answered soon."""
    return snapshot_refusal.known_refusal("Too many subset snapshots are waiting for a database connection")


def not_yet_visible() -> NotNow:
    """What the client has seen of the log cannot be seen in the database."""
    return snapshot_refusal.known_refusal(
        "A committed transaction does not become visible (synchronous standby?)"
    )


def too_large(limit_bytes: int) -> RequestError:
    """The rows do not fit."""
    text = f"the rows are more than {limit_bytes} bytes: ask for fewer"
    return RequestError(errors={"limit": [text]})


def _bad_value(error: psycopg.Error) -> RequestError:
    """A plain text, not a list of them, as the original has it."""
    return RequestError(errors={"where": _said(error)})


def _said(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error)

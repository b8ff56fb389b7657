"""The errors that clients receive when a table cannot be followed or read. Pure.

Invariants: a cause that waiting does not cure is a RequestError, 400, about the table or the clause; only
what may pass by itself is a 503. A text of Postgres is sent to a client only if it is about the client's own
clause, which was parsed and not executed: whatever is raised while rows are read may quote any of them, and
what the operating system says names files. Such an error is named by its class. What Postgres said is in the
details (`said`), which are logged and not sent to the client, as are the statements for a table's owner.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Protocol

import psycopg

from pgshapes.errors import GaveWay, NotNow, PgShapesError, RequestError, SchemaChanged, SourceError
from pgshapes.model.followable import Obstacle
from pgshapes.model.quoting import qualified_name
from pgshapes.postgres.sqlstate import INVALIDATE, RETRY, from_sqlstate
from pgshapes.redaction import redaction

RETRY_AFTER_S: Final = 10

_LOCKED: Final = "55P03"
_DENIED: Final = "42501"
_CONNECTION_CLASSES: Final = ("08", "53", "57", "58")
"""Connection exception, insufficient resources, operator intervention, system error."""
_LASTING_CLASSES: Final = ("0A", "22", "2F", "38", "39", "42", "54", "P0")
"""Not supported, data, routines, syntax and access, limits, errors that functions raise: the same statement
fails in the same way until somebody changes the table or the request.
"""


class NamedTable(Protocol):
    """A table, as far as messages name it: a `Relation`, or a `TableName`."""

    @property
    def schema(self) -> str:
        """Its schema."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def role(self) -> str:
        """Our role, quoted as an identifier; empty if not known."""


class TableName(NamedTuple):
    """A table of which only this is known."""

    schema: str
    name: str
    role: str = ""


def refuse_table(table: NamedTable, obstacle: Obstacle) -> RequestError:
    """A 400 about a table that cannot be followed."""
    refused = RequestError.field("table", obstacle.describe(table.schema, table.name))
    refused.details |= {
        "schema": table.schema,
        "table": table.name,
        "reason": obstacle.reason,
        "statements": list(obstacle.statements),
    }
    return refused


_UNDEFINED_FUNCTION: Final = "42883"
"""No change of the table that is read causes it, so checking the definition again does not help."""


def refuse_snapshot(
    error: psycopg.Error | SourceError, table: NamedTable | None = None, *, has_where: bool = False
) -> PgShapesError:
    """The error for the client after an error of Postgres or of connecting to it.

    `table` is what a statement was about, `has_where` whether a client's clause was part of it.
    """
    if error.sqlstate == _LOCKED:
        return known_refusal("Snapshot timed out while waiting for a table lock")
    ours = error if isinstance(error, SourceError) else from_sqlstate(error)
    if ours.action == INVALIDATE and error.sqlstate != _UNDEFINED_FUNCTION:
        return SchemaChanged(f"the table changed while it was read: {class_of(error)}")
    if _is_connection_failure(error):
        return known_refusal("Database connection not available")
    if table is not None and (error.sqlstate or "").startswith(_LASTING_CLASSES):
        return _lasting(error, table, has_where=has_where)
    return SourceError(
        f"Unexpected error while creating snapshot: {ours.message}", sqlstate=ours.sqlstate, action=RETRY
    )


def _lasting(error: psycopg.Error | SourceError, table: NamedTable, *, has_where: bool) -> RequestError:
    if error.sqlstate == _DENIED:
        grant = f"GRANT SELECT ON {qualified_name(table.schema, table.name)} TO {table.role or '…'}"
        advice = "grant what is missing and request again"
        refused = refuse_table(table, Obstacle(class_of(error), advice, (grant,)))
    elif has_where:
        refused = RequestError.field("where", of_row(error))
    else:
        refused = refuse_table(table, Obstacle(class_of(error), "remove the cause and request again"))
    return _with_text(refused, error, table)


def class_of(error: psycopg.Error | SourceError) -> str:
    """The name of an error's class, for example `division by zero (SQLSTATE 22012)` (manual: Error Codes)."""
    state = error.sqlstate
    if state is None:
        return "the database is unreachable"
    try:
        name = psycopg.errors.lookup(state).__name__
    except KeyError:
        return f"SQLSTATE {state}"
    return f"{_CAPITAL.sub(' ', name).lower()} (SQLSTATE {state})"


def of_row(error: psycopg.Error | SourceError) -> str:
    """The text for a clause that is valid and fails for a row."""
    return f"fails for a row of the table: {class_of(error)}"


_CAPITAL: Final = re.compile(r"(?<!^)(?=[A-Z])")


def _with_text(refused: RequestError, error: psycopg.Error | SourceError, table: NamedTable) -> RequestError:
    """The refusal with what Postgres said, for the log."""
    said = error.message if isinstance(error, SourceError) else _said(error)
    refused.details |= {
        "schema": table.schema,
        "table": table.name,
        "said": said,
        "sqlstate": error.sqlstate,
    }
    return refused


def known_refusal(message: str) -> NotNow:
    """A 503 with the header for known errors."""
    return NotNow(message, retry_after_s=RETRY_AFTER_S, known=True)


def gave_way() -> GaveWay:
    """Another session waited for a lock of ours."""
    return GaveWay("The query gave way to a statement that waited for its table", known=True)


def too_slow(limit_s: float) -> NotNow:
    """The query returned no row before its timeout."""
    return known_refusal(
        f"Snapshot query took too long to return data (cancelled after {round(limit_s * 1000)}ms)."
        " Please ensure snapshot queries are using an index to avoid taking up all database connections."
    )


def queue_too_long() -> NotNow:
    """No connection became free before the timeout."""
    return known_refusal("Snapshot creation failed because of a connection pool queue timeout")


def _is_connection_failure(error: psycopg.Error | SourceError) -> bool:
    if error.sqlstate is None:
        return isinstance(error, SourceError | psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate[:2] in _CONNECTION_CLASSES


_CLIENT_FAULTS: Final = ("0A", "2F", "38", "42", "54")
"""SQLSTATE classes of errors that a clause can cause: not supported, routines, syntax and access, limits."""
_DATA: Final = "22"
"""Data exception: for example an invalid enum literal, a division by zero."""
_NO_LONGER_THERE: Final = frozenset({"42703", "42P01", "42704", "3F000"})
"""Undefined column, table, type, schema."""
_NO_ORDERING: Final = "42883"
"""Undefined function: the type of a sort column has no ordering operator."""
_CANCELED: Final = "57014"


def refuse_clause(error: psycopg.Error, table: NamedTable) -> PgShapesError:
    """The error for the client when the server rejects the clause."""
    state = error.sqlstate or ""
    if state.startswith(_DATA):
        # As in Electric, the message is a text here, not a list.
        return RequestError(errors={"where": _said(error)})
    if state.startswith(_CLIENT_FAULTS) and state not in _NO_LONGER_THERE and state != _DENIED:
        return RequestError(errors={"where": [_said(error)]})
    return refuse_subset(error, table)


def refuse_rows(
    error: psycopg.Error, table: NamedTable, *, has_where: bool, has_order: bool, has_shape_where: bool
) -> PgShapesError:
    """The error for the client when the query fails after its clause was accepted."""
    state = error.sqlstate or ""
    if state == _NO_ORDERING and has_order:
        return _with_text(
            RequestError(errors={"order_by": [f"cannot be sorted by this: {class_of(error)}"]}), error, table
        )
    if has_where and state.startswith(_DATA):
        # As in Electric, the message is a text here, not a list.
        return _with_text(RequestError(errors={"where": of_row(error)}), error, table)
    return refuse_subset(error, table, has_where=has_where or has_shape_where)


def refuse_subset(
    error: psycopg.Error | SourceError, table: NamedTable | None = None, *, has_where: bool = False
) -> PgShapesError:
    """The error for the client when a subset snapshot fails for another reason than its clauses."""
    if error.sqlstate == _CANCELED:
        return known_refusal("The subset snapshot took too long; ask for less")
    return refuse_snapshot(error, table, has_where=has_where)


def too_many() -> NotNow:
    """Too many subset snapshots are queued."""
    return known_refusal("Too many subset snapshots are waiting for a database connection")


def not_yet_visible() -> NotNow:
    """A transaction in the part of the log that the client has read is not visible to snapshots."""
    return known_refusal("A committed transaction does not become visible (synchronous standby?)")


def too_large(limit_bytes: int) -> RequestError:
    """The rows exceed the limit of a response."""
    text = f"the rows are more than {limit_bytes} bytes: ask for fewer"
    return RequestError(errors={"limit": [text]})


def _said(error: psycopg.Error) -> str:
    return redaction.redact(error.diag.message_primary or str(error))

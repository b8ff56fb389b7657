"""Logs why tables cannot be followed: one line for each cause, not for each request.

State: the causes that were logged, by table, in the replicator's loop. A table that is created successfully
is forgotten, so a cause that comes back is logged again.
"""

from __future__ import annotations

import structlog

from pgshapes.errors import PgShapesError, RequestError
from pgshapes.model.quoting import display_name

_log = structlog.get_logger(__name__)


class RefusalLog:
    """The log of refused tables."""

    def __init__(self) -> None:
        self._causes: dict[tuple[str, str], set[str]] = {}

    def note(self, error: PgShapesError) -> None:
        """Log the cause of an error about a table (`postgres.refusals.refuse_table`) unless it was logged."""
        cause = error.details
        if not isinstance(error, RequestError) or "reason" not in cause:
            return
        causes = self._causes.setdefault((cause["schema"], cause["table"]), set())
        if cause["reason"] in causes:
            return
        causes.add(cause["reason"])
        _log.warning(
            "table cannot be followed",
            table=display_name(cause["schema"], cause["table"]),
            reason=cause["reason"],
            run=cause["statements"],
        )

    def forget(self, schema: str, table: str) -> None:
        """Log the causes of this table again when they come back."""
        self._causes.pop((schema, table), None)

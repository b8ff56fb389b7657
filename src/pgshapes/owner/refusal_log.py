"""Logs why tables cannot be followed, or not by all clients, and why shapes cannot be created: one line for
each cause, not for each request.

State: the causes that were logged, by table, in the replicator's loop. A table that is created successfully
is forgotten, so a cause that comes back is logged again.
"""

from __future__ import annotations

from typing import Final

from pgshapes.errors import PgShapesError, RequestError
from pgshapes.limited_log import LimitedLog
from pgshapes.logs import get_logger
from pgshapes.model.quoting import display_name
from pgshapes.model.relation import Relation

LARGE_HEADER: Final = 12_000
"""Node refuses responses with more than 16 KB of headers."""
_LARGE: Final = "its header is large"

_log = get_logger(__name__)


class RefusalLog:
    """The log of refused tables."""

    def __init__(self) -> None:
        self._causes: dict[tuple[str, str], set[str]] = {}
        self._failures = LimitedLog(_log)

    def note(self, error: PgShapesError) -> None:
        """Log the cause of an error about a table, and what Postgres or the operating system said
        (`postgres.refusals`), unless it was logged.
        """
        cause = error.details
        if "said" in cause:
            self._failures.note(
                "shape cannot be created",
                (cause["schema"], cause["table"], cause["sqlstate"]),
                table=display_name(cause["schema"], cause["table"]),
                error=cause["said"],
                sqlstate=cause["sqlstate"],
            )
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

    def note_header(self, relation: Relation, size: int) -> None:
        """Log that the header `electric-schema`, of `size` bytes, is larger than common clients accept."""
        causes = self._causes.setdefault((relation.schema, relation.name), set())
        if size <= LARGE_HEADER or _LARGE in causes:
            return
        causes.add(_LARGE)
        _log.warning(
            "response header is larger than some clients and proxies accept",
            table=display_name(relation.schema, relation.name),
            header="electric-schema",
            bytes=size,
            advice="select fewer columns, or raise the limits of clients and proxies",
        )

    def forget(self, schema: str, table: str) -> None:
        """Log the causes of this table again when they come back."""
        self._causes.pop((schema, table), None)

"""The errors of the replication stream that waiting does not cure, with the way out. They are logged here.

A message that cannot be read may have been damaged on the way: it is requested again before it counts as one
of them.
"""

from __future__ import annotations

from pgshapes import __version__
from pgshapes.errors import ConfigError, SourceError, WireError
from pgshapes.logs import get_logger
from pgshapes.model.lsn import Lsn, format_lsn
from pgshapes.model.quoting import quote_literal

_log = get_logger(__name__)


class UnreadableMessage(WireError):
    """Postgres sent a message that cannot be read, so the session has ended. What was before it is kept,
    nothing after it is acknowledged.
    """

    def __init__(self, error: WireError, received_lsn: Lsn, server_version: str) -> None:
        """`received_lsn` is the position that was received last."""
        super().__init__(error.message)
        self.lsn: Lsn | None = error.details.get("lsn")
        """The position of the message, None if it has none."""
        self.received_lsn = received_lsn
        self.server_version = server_version


class UnreadableStream(ConfigError):
    """Postgres sent a message that cannot be read, each time that it was requested. It would send it again
    after every restart, so the program ends until an operator has acted.
    """

    code = "unreadable_stream"


def lasting(error: SourceError | ConfigError, lsn: Lsn, slot: str) -> SourceError:
    """The error of a change that Postgres cannot send; `lsn` is where the stream begins each time."""
    drop, shown = _drop(slot), format_lsn(lsn)
    _log.error(
        "replication cannot pass a transaction",
        error=error.message,
        lsn=shown,
        action=f"{drop}; before, take the table of the change out of the publication",
    )
    return SourceError(
        f"{error.message}; the same error came at {shown} each time, so it does not pass: take the table of"
        f" the change out of the publication, and run {drop}, after which all shapes are recreated"
    )


def unreadable(error: UnreadableMessage, slot: str) -> UnreadableStream:
    """The error of a message that this version cannot read."""
    drop, shown = _drop(slot), format_lsn(error.received_lsn)
    _log.error("replication stream cannot be read", error=error.message, lsn=shown, action=drop)
    return UnreadableStream(
        f"pgoutput of Postgres {error.server_version} sent at {shown} what pgshapes {__version__} cannot read"
        f" ({error.message}): install a newer pgshapes, or run {drop}, after which all shapes are recreated"
    )


def _drop(slot: str) -> str:
    return f"SELECT pg_drop_replication_slot({quote_literal(slot)})"

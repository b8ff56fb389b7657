"""The conditions of readiness, and the service level that follows from them (docs/protocol.md). Pure.

Waiting for a level is in `readiness`. Invariant: readiness is a function of the rows of the table `status`,
and a condition without a row is not met. Only the owner writes that table, with `Conditions`.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from pgshapes.tables.rows import ConditionRow
from pgshapes.tables.table import Table, TableReader


class Condition(Enum):
    """A condition of readiness; the value is its key in `status`.

    All but `CHANGES_FLOWING` must be met before the service is active; the error message to clients names the
    first of these that is unmet, in this order.
    """

    LOCK_ACQUIRED = "lock_acquired"
    REPLICATION_CLIENT_READY = "replication_client_ready"
    ADMIN_POOL_READY = "admin_pool_ready"
    SNAPSHOT_POOL_READY = "snapshot_pool_ready"
    SHAPE_METADATA_READY = "shape_metadata_ready"
    LOG_COLLECTOR_READY = "log_collector_ready"
    SUPERVISOR_PROCESSES_READY = "supervisor_processes_ready"
    INTEGRITY_CHECKS_PASSED = "integrity_checks_passed"
    CHANGES_FLOWING = "changes_flowing"
    """For health alone. What stops changes may concern one shape, and last until somebody acts: a new shape
    is created all the same, or its creation says what it lacks.
    """


class Level(Enum):
    """What the service can do: nothing, serve known shapes, or everything."""

    STARTING = "starting"
    READ_ONLY = "read_only"
    ACTIVE = "active"


class ServiceStatus(Enum):
    """The status that `/v1/health` returns."""

    STARTING = "starting"
    WAITING = "waiting"
    ACTIVE = "active"


TIMEOUT_TEXTS: Final = {
    Condition.LOCK_ACQUIRED: "Timeout waiting for Postgres lock acquisition",
    Condition.REPLICATION_CLIENT_READY: "Timeout waiting for replication client to be ready",
    Condition.ADMIN_POOL_READY: "Timeout waiting for database connection pool (metadata) to be ready",
    Condition.SNAPSHOT_POOL_READY: "Timeout waiting for database connection pool (snapshot) to be ready",
    Condition.SHAPE_METADATA_READY: "Timeout waiting for shape metadata to be loaded",
    Condition.LOG_COLLECTOR_READY: "Timeout waiting for shape data to be loaded",
    Condition.SUPERVISOR_PROCESSES_READY: "Timeout waiting for stack restart",
    Condition.INTEGRITY_CHECKS_PASSED: "Timeout waiting for integrety checks",
}
"""The conditions for an active service, with the messages that Electric's clients know and the original
misspelling.
"""

_REPLICATION_ADVICE: Final = (
    ". Check that you don't have pending transactions in the database. Electric has to wait for all pending "
    "transactions to commit or rollback before it can create the replication slot."
)

StatusTable = TableReader[str, ConditionRow]


class Conditions:
    """Writes the conditions; for the owner only."""

    def __init__(self, status: Table[str, ConditionRow]) -> None:
        self._status = status

    def meet(self, condition: Condition) -> None:
        """Set the condition to met."""
        self._status.put(condition.value, ConditionRow(True))

    def unmeet(self, condition: Condition, error: str | None = None) -> None:
        """Set the condition to not met; `error` becomes part of the message when a wait for it times out."""
        self._status.put(condition.value, ConditionRow(False, error))

    def note_stream(self, text: str) -> None:
        """Set what `/v1/health` says about the replication stream."""
        row = ConditionRow(True, text)
        if self._status.get(_STREAM) != row:
            self._status.put(_STREAM, row)


_STREAM: Final = "stream"
"""A row beside those of the conditions."""


def stream_text(status: StatusTable) -> str:
    """What the owner noted about the replication stream last; empty before the first stream."""
    row = status.get(_STREAM)
    return "" if row is None else row.error or ""


def obstacle_text(status: StatusTable) -> str:
    """Why changes do not arrive; empty if they do."""
    row = status.get(Condition.CHANGES_FLOWING.value)
    return "" if row is None or row.is_met else row.error or ""


def is_met(status: StatusTable, condition: Condition) -> bool:
    """Whether the condition is met."""
    row = status.get(condition.value)
    return row is not None and row.is_met


def level_of(status: StatusTable, *, is_following: bool = True) -> Level:
    """The service level. A process without a connection to the owner can only serve known shapes."""
    if is_following and all(is_met(status, condition) for condition in TIMEOUT_TEXTS):
        return Level.ACTIVE
    return Level.READ_ONLY if is_met(status, Condition.SHAPE_METADATA_READY) else Level.STARTING


def service_status_of(status: StatusTable, *, is_following: bool = True) -> ServiceStatus:
    """The status for `/v1/health`: `waiting` when something stops changes from arriving, when another
    instance holds the lock, and when shapes are loaded, but the lock is not held.
    """
    level = level_of(status, is_following=is_following)
    if level is Level.STARTING and (obstacle_text(status) or _is_lock_refused(status)):
        return ServiceStatus.WAITING
    if level is not Level.STARTING and not all(is_met(status, condition) for condition in _WAITED_FOR):
        return ServiceStatus.WAITING
    return _STATUSES[level]


def _is_lock_refused(status: StatusTable) -> bool:
    """Whether the lock was asked for and is not held; before that the condition has no row."""
    row = status.get(Condition.LOCK_ACQUIRED.value)
    return row is not None and not row.is_met


_WAITED_FOR: Final = (Condition.LOCK_ACQUIRED, Condition.CHANGES_FLOWING)
_STATUSES: Final = {
    Level.STARTING: ServiceStatus.STARTING,
    Level.READ_ONLY: ServiceStatus.STARTING,
    Level.ACTIVE: ServiceStatus.ACTIVE,
}


def timeout_text(status: StatusTable) -> str:
    """The message to a client after a timeout: the first unmet condition, and its error if any."""
    unmet = (condition for condition in TIMEOUT_TEXTS if not is_met(status, condition))
    condition = next(unmet, Condition.SUPERVISOR_PROCESSES_READY)
    row = status.get(condition.value)
    if row is not None and row.error:
        return f"{TIMEOUT_TEXTS[condition]}: {row.error}"
    advice = _REPLICATION_ADVICE if condition is Condition.REPLICATION_CLIENT_READY else ""
    return TIMEOUT_TEXTS[condition] + advice

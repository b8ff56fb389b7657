"""The rows of the tables that the owner writes and every process reads."""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

from pgshapes.errors import (
    CatalogueError,
    CreationFailed,
    NotNow,
    PgShapesError,
    RequestError,
    SchemaChanged,
)
from pgshapes.model.shape_state import ShapeState


class ShapeRow(NamedTuple):
    """A row of `shapes`, by handle."""

    comparable: bytes
    relation_oids: tuple[int, ...]
    """The relations of its definition; the first is the table itself."""
    state: ShapeState


class CreationState(Enum):
    """The state of the creation that holds the lock."""

    IN_PROGRESS = "in_progress"
    WAITING_FOR_TABLE_LOCK = "waiting_for_table_lock"
    FAILED = "failed"


class CreationLock(NamedTuple):
    """A row of `creation_locks`, by comparable."""

    state: CreationState
    token: int
    """Number of the creation, so that its timer cannot remove the row of a newer one."""
    reason: str = ""
    """Why it failed, as in the answer to the client."""
    code: str = ""
    """Stable code of the error (`errors.py`)."""
    errors: Any = None
    """The messages of a RequestError, by field."""
    retry_after_s: int = 1
    """When a client may try again."""

    def failed(self, error: PgShapesError) -> CreationLock:
        """The row after the creation has failed."""
        return self._replace(
            state=CreationState.FAILED,
            reason=error.message,
            code=error.code,
            errors=error.errors if isinstance(error, RequestError) else None,
            retry_after_s=error.retry_after_s if isinstance(error, NotNow) else 1,
        )

    def error(self) -> PgShapesError:
        """The error of a failed creation, of the kind that it was raised as: 400, 409, 500 or 503."""
        if self.code == SchemaChanged.code:
            return SchemaChanged(self.reason)
        if self.code == RequestError.code:
            return RequestError(self.reason, errors=self.errors)
        if self.code == CatalogueError.code:
            return CatalogueError(self.reason)
        return CreationFailed(self.reason, retry_after_s=self.retry_after_s, known=True)


class ConditionRow(NamedTuple):
    """A row of `status`, by the condition's name: met or not, and the recorded error if any."""

    is_met: bool
    error: str | None = None

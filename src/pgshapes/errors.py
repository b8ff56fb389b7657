"""Every error of pgshapes, by three questions: whose fault, does waiting help, who must act.

`PgShapesError.code` is stable and goes over links and wires. 409 is a decision of the protocol, not an error.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final


class PgShapesError(Exception):
    """Root of all errors that pgshapes raises on purpose."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class ConfigError(PgShapesError):
    """The settings, or what they point at, cannot work. At start-up only: one line, exit code 2."""

    code = "config"


class RequestError(PgShapesError):
    """The client's fault: 4xx.

    `errors` maps a field to its texts and becomes `{"message": …, "errors": {…}}`.
    """

    code = "request"

    def __init__(self, message: str = "Invalid request", *, status: int = 400, errors: Any = None) -> None:
        super().__init__(message, status=status, errors=errors)
        self.status = status
        self.errors = errors

    @classmethod
    def field(cls, name: str, text: str) -> RequestError:
        """A 400 about one field."""
        return cls(errors={name: [text]})


UNVERIFIED_TEXT: Final = "Cannot connect to the database to verify the shape. Please try again later."
"""What a `NotNow` says when a definition could not be checked."""


class NotNow(PgShapesError):
    """The right request at the wrong moment: 503 with `retry-after`."""

    code = "not_now"

    def __init__(self, message: str, *, retry_after_s: int = 1, known: bool = False) -> None:
        super().__init__(message, retry_after_s=retry_after_s, known=known)
        self.retry_after_s = retry_after_s
        self.known = known
        """Whether the answer carries `electric-internal-known-error: true`."""


class NotReady(NotNow):
    """The service is starting or waits for its lock."""

    code = "not_ready"


class Overloaded(NotNow):
    """Admission was refused."""

    code = "concurrent_request_limit_exceeded"


class CreationFailed(NotNow):
    """A shape could not be created; every waiter hears the reason."""

    code = "creation_failed"


class SchemaChanged(PgShapesError):
    """The table changed while a shape on it was being made: the client refetches (409 without a handle)."""

    code = "schema_changed"


class SourceError(PgShapesError):
    """Postgres refused or failed. `action` says what helps: retry, wait, invalidate or operator."""

    code = "source"

    def __init__(self, message: str, *, sqlstate: str | None = None, action: str = "retry") -> None:
        super().__init__(message, sqlstate=sqlstate, action=action)
        self.sqlstate = sqlstate
        self.action = action


class OwnerUnavailable(SourceError):
    """The process that owns the tables cannot be reached now."""

    code = "owner_unavailable"


class ReplicaIdentityNotFull(SourceError):
    """A row of this table changed without its old values: nobody can tell any more which shapes it was in."""

    code = "replica_identity_not_full"

    def __init__(self, schema: str, table: str, *, relation_oid: int) -> None:
        text = (
            f'"{schema}.{table}" is published without its old rows: run'
            f' ALTER TABLE "{schema}"."{table}" REPLICA IDENTITY FULL'
        )
        super().__init__(text, action="invalidate")
        self.relation_oid = relation_oid


class WireError(PgShapesError):
    """Bytes from Postgres that cannot be read: stop, confirm nothing."""

    code = "wire"


class StorageError(PgShapesError):
    """A shape's files are missing or damaged: that shape is dropped, nobody else is affected."""

    code = "storage"


class DiskFull(StorageError):
    """The storage directory is full: stop accepting, lose nothing."""

    code = "disk_full"

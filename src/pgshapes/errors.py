"""The exceptions that pgshapes raises.

The class says whose fault an error is, whether waiting helps, and who has to act. `PgShapesError.code` is
stable: it is sent over links between processes and to clients. A 409 is a regular response of the protocol,
not an error.

Invariant: clients read `client_text` only. The message of a class that is not `is_for_clients` may have texts
of Postgres and of the operating system, which quote rows and name files: it is for the log.
"""

from __future__ import annotations

import errno
from typing import Any, ClassVar, Final


class PgShapesError(Exception):
    """The base class of all errors that pgshapes raises deliberately."""

    code: ClassVar[str] = "internal"
    is_for_clients: ClassVar[bool] = False
    """Whether messages of this class are written for clients."""
    shown: ClassVar[str] = "Internal server error"
    """What clients read in place of a message that is not for them."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    @property
    def client_text(self) -> str:
        """What clients may read about the error."""
        return self.message if self.is_for_clients else self.shown


class ConfigError(PgShapesError):
    """The settings, or the things they refer to, cannot be used: one line, exit code 2. At start-up, except
    `UnreadableStream`.
    """

    code = "config"


class RequestError(PgShapesError):
    """The request is wrong, so the client has to change it: 4xx.

    `errors` maps a field to its messages; the body is then `{"message": …, "errors": {…}}`.
    """

    code = "request"
    is_for_clients = True

    def __init__(self, message: str = "Invalid request", *, status: int = 400, errors: Any = None) -> None:
        super().__init__(message, status=status, errors=errors)
        self.status = status
        self.errors = errors

    @classmethod
    def field(cls, name: str, text: str) -> RequestError:
        """A 400 about one field."""
        return cls(errors={name: [text]})


UNVERIFIED_TEXT: Final = "Cannot connect to the database to verify the shape. Please try again later."
"""The message of a `NotNow` for a definition that could not be checked."""


class NotNow(PgShapesError):
    """The request is valid, but cannot be answered now: 503 with `retry-after`."""

    code = "not_now"
    is_for_clients = True

    def __init__(self, message: str, *, retry_after_s: int = 1, known: bool = False) -> None:
        super().__init__(message, retry_after_s=retry_after_s, known=known)
        self.retry_after_s = retry_after_s
        self.known = known
        """Whether the response has the header `electric-internal-known-error: true`."""


class NotReady(NotNow):
    """The service is starting or waiting for its lock."""

    code = "not_ready"


class Overloaded(NotNow):
    """The maximum number of requests in flight is reached."""

    code = "concurrent_request_limit_exceeded"


class GaveWay(NotNow):
    """A query was cancelled because another session waited for its lock on the table: it is tried again."""

    code = "gave_way"


class CreationFailed(NotNow):
    """A shape could not be created. Every request that waits for it gets this error."""

    code = "creation_failed"


class SchemaChanged(PgShapesError):
    """The table changed while a shape on it was created: the client refetches (409 without a handle)."""

    code = "schema_changed"
    is_for_clients = True


class SourceError(PgShapesError):
    """Postgres rejected a command or failed. `action` is one of retry, wait, invalidate and operator."""

    code = "source"
    shown = "The database is unreachable or reported an error"

    def __init__(self, message: str, *, sqlstate: str | None = None, action: str = "retry") -> None:
        super().__init__(message, sqlstate=sqlstate, action=action)
        self.sqlstate = sqlstate
        self.action = action


class OwnerUnavailable(SourceError):
    """The process that owns the tables cannot be reached now."""

    code = "owner_unavailable"
    is_for_clients = True


class StaleTables(OwnerUnavailable):
    """The tables of this process lack what must not be seen late. It gets them, or a new state, by itself."""

    code = "stale_tables"


class OwnerTimeout(OwnerUnavailable):
    """The owner has received a call, or may have, and has not answered it in time."""

    code = "owner_timeout"


class ReplicaIdentityNotFull(SourceError):
    """A row of this table changed and Postgres did not send its old values, so it is not known which shapes
    contained it.
    """

    code = "replica_identity_not_full"
    is_for_clients = True

    def __init__(self, schema: str, table: str, *, relation_oid: int) -> None:
        quoted = ".".join('"' + name.replace('"', '""') + '"' for name in (schema, table))
        text = f"{quoted} is published without its old rows: run ALTER TABLE {quoted} REPLICA IDENTITY FULL"
        super().__init__(text, action="invalidate")
        self.relation_oid = relation_oid


class WireError(PgShapesError):
    """Bytes from Postgres that cannot be decoded: the session stops and acknowledges nothing."""

    code = "wire"


class StorageError(PgShapesError):
    """The files of a shape are missing or damaged: that shape is dropped, other shapes are not affected."""

    code = "storage"
    shown = "The files of the shape cannot be used"


class CatalogueError(StorageError):
    """The catalogue is damaged or refuses a write, and waiting does not cure it: no shape is recorded."""

    code = "catalogue"
    shown = "The server cannot record shapes: its catalogue cannot be written"


class StorageShortage(StorageError):
    """A file cannot be used now, for want of descriptors, memory or space: nothing is lost or damaged."""

    code = "storage_shortage"


class StorageFailing(StorageShortage):
    """The disk fails, perhaps for now: damage if it does not pass (`shape_log.disk_errors`)."""

    code = "storage_failing"


class DiskFull(StorageShortage):
    """The storage directory is full: new data is not accepted, existing data is kept."""

    code = "disk_full"
    shown = "The storage directory is full"


_PASSING: Final = frozenset(
    (
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ENOSPC, errno.EDQUOT),
        *(errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.EIO, errno.ESTALE, errno.ETIMEDOUT),
        *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    )
)
"""What the process, the machine or its network lacks, and disks that fail for a moment. Everything else
stays: rights, names, read-only disks, and what a file system cannot do (ENOSYS, EOPNOTSUPP, ENOLCK).
"""


def may_pass(error_number: int | None) -> bool:
    """Whether waiting may cure an error of the system. One without a number is not known to pass."""
    return error_number in _PASSING


def is_shortage(error: Exception) -> bool:
    """Whether the error, which is not one of ours, is of the system and may pass: no descriptors, memory,
    threads, …
    """
    if isinstance(error, OSError):
        return isinstance(error, TimeoutError) or may_pass(error.errno)
    has_no_thread = isinstance(error, RuntimeError) and "start new thread" in str(error)
    return isinstance(error, MemoryError) or has_no_thread

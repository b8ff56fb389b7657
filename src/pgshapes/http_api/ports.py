"""The interfaces through which the HTTP API uses the rest of the program; `wiring.py` passes the objects."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from pgshapes.gates.admission import Kind
from pgshapes.gates.conditions import Level, ServiceStatus
from pgshapes.model.offset import Offset
from pgshapes.model.shape import RawShape, ResolvedShape, Subset
from pgshapes.model.tail import Tail


class Shapes(Protocol):
    """Shapes for a caller: plain methods read tables, coroutines may call the owner."""

    async def resolve(self, raw: RawShape) -> ResolvedShape:
        """Check a definition. Raises RequestError, NotNow, SourceError, SchemaChanged."""

    def find_handle(self, shape: ResolvedShape) -> str | None:
        """The handle of the definition's live shape in this process's tables; None if there is none.

        Raises StaleTables if the tables must not be served from now.
        """

    async def get_or_create_shape_handle(self, shape: ResolvedShape, timeout_s: float) -> tuple[str, Tail]:
        """The handle of a definition and its tail; creates the shape if needed.

        Raises CreationFailed, NotNow, SchemaChanged.
        """

    def is_known(self, handle: str) -> bool:
        """Whether this process's tables have the handle and it is not retiring."""

    async def is_in_use(self, handle: str) -> bool:
        """Whether there is a shape with this handle, once its table was compared with the database."""

    async def is_current(self, handle: str, shape: ResolvedShape) -> bool:
        """Whether `handle` is live and belongs to this definition; asks the owner before returning False."""

    def tail(self, handle: str) -> Tail | None:
        """How far snapshot and log can be read; None when the shape is removed or retiring.

        Raises StaleTables if the tables must not be served from now.
        """

    def tail_changed(self, handle: str) -> Awaitable[None]:
        """Done at the next change of the tail, or when the shape is removed."""

    async def removed(self, handle: str) -> None:
        """Wait until a retiring shape is out of use in every process, so that a 409 may be sent."""

    async def delete(self, handle: str) -> bool:
        """Remove a shape; False when there is none."""

    def last_seen_lsn(self) -> int:
        """Commit LSN of the last transaction that the owner has made readable."""


class Subsets(Protocol):
    """Subset snapshots: queries on a part of a shape."""

    async def subset(self, raw: RawShape, shape: ResolvedShape, subset: Subset, resume: Offset) -> bytes:
        """The response body `{"metadata": …, "data": […]}`.

        `raw` has the queryable columns. The snapshot contains all changes of the log up to `resume`. Raises
        RequestError with its errors under `subset`, SchemaChanged, NotNow, SourceError.
        """


class Readiness(Protocol):
    """The service level, and waiting for it."""

    def level(self) -> Level:
        """The current service level."""

    def stream(self) -> tuple[str, str]:
        """What is known of the replication stream, and why changes do not arrive."""

    def service_status(self) -> ServiceStatus:
        """The status for `/v1/health`."""

    async def wait_until(self, level: Level, timeout_s: float) -> None:
        """Return once `level` is reached. Raises NotReady, whose message names the first unmet condition."""


class Permit(Protocol):
    """A slot for one request in flight; return it with `release()`."""

    def swap_to_existing(self) -> bool:
        """Exchange an *initial* permit for an *existing* one; return whether it is an *existing* one now."""

    def release(self) -> None:
        """Return the permit; a second call does nothing."""


class Admission(Protocol):
    """Limits the number of requests in flight."""

    def acquire(self, kind: Kind, client: str | None) -> Permit:
        """Grant a permit to a client. Raises Overloaded when a limit is reached; never waits."""
